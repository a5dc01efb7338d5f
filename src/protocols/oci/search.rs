//! `podman search host/words`: names of repositories, as Docker's first registry answered.

use serde_json::{Value, json};

use super::super::prelude::*;
use super::{Call, NAME};

/// Results when the client names no number, and the most of them.
const RESULTS: (usize, usize) = (25, 100);

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
    let lower = query.to_lowercase();
    // Docker's own images lie below `library/` and are asked for without it.
    let words: Vec<&str> = lower.split_whitespace().map(|word| word.trim_start_matches("library/")).collect();
    let viewer = call.viewer();
    let mut results: Vec<Value> = Vec::new();
    for name in call.repositories().await? {
        if results.len() == count {
            break;
        }
        if words.iter().all(|word| name.as_str().contains(word)) && call.shows(&viewer, &name).await? {
            results.push(json!({
                "name": name.as_str(), "description": "", "star_count": 0, "is_official": false, "is_automated": false,
            }));
        }
    }
    let answer = json!({ "query": query, "num_results": results.len(), "results": results });
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "no-store"))
}
