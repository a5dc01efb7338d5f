//! `podman search host/words`: names of repositories, as Docker's first registry answered.

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::super::prelude::*;
use super::{Call, NAME, read};
use crate::index::Wanted;

/// Results when the client names no number, and the most of them.
const RESULTS: (usize, usize) = (25, 100);
/// Matches that are looked at for one answer, and so many of them at a time.
const LOOKED_AT: usize = 1000;
const BATCH: usize = 100;

/// `GET /v1/search?q=…&n=…`: the repositories that the caller may pull from and whose names hold every word.
///
/// podman comes without its credentials, takes whatever is answered for all there is, and only if it is refused asks for the catalog, with
/// them. So nobody is answered only where nobody could miss anything.
pub(super) async fn search(call: &Call<'_>, request: &Request) -> Result<Response> {
    if call.identity.user().is_none() && call.cx.auth.has_private(NAME) {
        return Err(call.refuse("registry:catalog:*"));
    }
    let query = request.query.get("q").unwrap_or_default();
    let count = request.query.get("n").and_then(|text| text.parse().ok()).unwrap_or(RESULTS.0).min(RESULTS.1);
    // Docker's own images lie below `library/` and are asked for without it.
    let words = query.split_whitespace().map(|word| word.trim_start_matches("library/").to_lowercase());
    let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
    let names = if words.is_empty() {
        read::visible(call, read::Spot::default(), count).await?.0
    } else {
        find(call, words, count).await?
    };
    let result = |name: &Arc<str>| json!({ "name": &**name, "description": "", "star_count": 0, "is_official": false, "is_automated": false });
    let results: Vec<Value> = names.iter().map(result).collect();
    let answer = json!({ "query": query, "num_results": results.len(), "results": results });
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "no-store"))
}

/// The repositories that fit best, of those that the caller may pull from.
async fn find(call: &Call<'_>, words: Vec<String>, count: usize) -> Result<Vec<Arc<str>>> {
    let wanted = Wanted { words, ..Wanted::default() };
    let viewer = call.viewer();
    let mut names = Vec::new();
    for looked in (0..LOOKED_AT).step_by(BATCH) {
        let found = call.cx.index.search(&wanted, looked, BATCH).await?;
        let hits = found.hits.iter().map(|hit| hit.name.as_str().into()).collect();
        let mut list = read::shown(call, &viewer, hits);
        while names.len() < count
            && let Some(looked) = list.next().await
        {
            let (name, shows) = looked?;
            names.extend(shows.then_some(name));
        }
        if names.len() == count || looked + BATCH >= found.total {
            break;
        }
    }
    Ok(names)
}
