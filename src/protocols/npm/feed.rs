//! `GET /` and `GET /_changes`: how far the registry is, and which packages have changed since a place in the feed, for mirrors.

use serde_json::{Value, json};

use super::access;
use super::name::PackageName;
use crate::config::Visibility;
use crate::protocols::prelude::*;

/// Answers what a `CouchDB` says of itself: where a mirror begins, and what monitoring asks for.
pub(crate) async fn root(cx: &Cx) -> Result<Response> {
    // Without `doc_count`: how much there is that not everybody may see is nobody's business.
    let answer = json!({ "db_name": "registry", "update_seq": cx.index.newest().await? });
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "private, no-cache"))
}

/// Changes of one answer, when the client names no number, and the most of them.
const LIMIT: (usize, usize) = (1000, 10_000);

/// Answers with the changes after `since`, oldest first and each package once, at its last. What the caller may not read is left out.
///
/// `since=now` asks for the end of the feed and gets no changes.
pub(crate) async fn changes(cx: &Cx, request: &Request) -> Result<Response> {
    let limit =
        request.query.get("limit").and_then(|text| text.parse().ok()).unwrap_or(LIMIT.0).clamp(1, LIMIT.1);
    let since = match request.query.get("since").unwrap_or("0") {
        "now" => u64::MAX,
        text => text.parse().map_err(|_| {
            Error::invalid("`since` is a number from `seq` or `last_seq` of an earlier answer, or `now`")
        })?,
    };
    let (changes, newest) = cx.index.changes(since, limit).await?;
    let last = changes.last().filter(|_| changes.len() == limit).map_or(newest, |last| last.serial);
    let mut results = Vec::new();
    for change in &changes {
        let Ok(name) = PackageName::parse(&change.name) else { continue };
        let own = change.private.then_some(Visibility::Private);
        if access::may_read(cx, &name, own).await? {
            let rev = change.rev.as_deref().unwrap_or_default();
            let mut result =
                json!({ "seq": change.serial, "id": &*change.name, "changes": [{ "rev": rev }] });
            if let Some(object) = result.as_object_mut().filter(|_| change.gone) {
                object.insert("deleted".to_owned(), Value::from(true));
            }
            results.push(result);
        }
    }
    let answer = json!({ "results": results, "last_seq": last });
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "private, no-cache"))
}
