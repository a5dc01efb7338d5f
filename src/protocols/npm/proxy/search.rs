//! Searching upstreams beside ourselves.

use form_urlencoded::Serializer;
use serde_json::Value;

use super::super::name::PackageName;
use super::super::read;
use super::{Ask, EXTRA, all};
use crate::protocols::prelude::*;
use crate::upstream::Upstream;

/// Longest answer.
const LIMIT: u64 = 8 << 20;
/// Most packages that are asked for at once.
const MOST: usize = 250;

/// Packages of upstreams that match, best first, and how many they say there are. None of a name that is ours or is not let through. An upstream
/// that takes its time is left out.
pub(crate) async fn search(cx: &Cx, text: &str, wanted: usize) -> Result<(Vec<Value>, usize)> {
    let (mut found, mut total) = (Vec::new(), 0);
    for upstream in all(cx, "search").await? {
        match tokio::time::timeout(EXTRA, ask(cx, &upstream, text, wanted.min(MOST))).await {
            Ok(Ok((objects, there))) => {
                total += there;
                for object in objects {
                    if is_shown(cx, &upstream, &object, &found).await? {
                        found.push(object);
                    }
                }
            }
            Ok(Err(error)) => {
                tracing::info!(upstream = %upstream.id, "it is not searched: {}", error.message());
            }
            Err(_) => {
                tracing::info!(upstream = %upstream.id, "it is not searched: it takes too long");
            }
        }
    }
    Ok((found, total))
}

fn name_of(object: &Value) -> Option<&str> {
    object.pointer("/package/name")?.as_str()
}

async fn is_shown(cx: &Cx, upstream: &Upstream, object: &Value, found: &[Value]) -> Result<bool> {
    let Some(text) = name_of(object) else { return Ok(false) };
    let Ok(name) = PackageName::parse(text) else { return Ok(false) };
    let known = found.iter().any(|one| name_of(one) == Some(text));
    let held_back = upstream.policy.blocks_name(text).is_some() || !upstream.asks_for(text);
    if known || held_back || super::ask(cx, &name, "search").await?.is_none() {
        return Ok(false);
    }
    let own = read::cached(cx, &name).await?;
    Ok(!own.is_some_and(|own| own.document.is_owned()))
}

fn query(text: &str, wanted: usize) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("text", text).append_pair("from", "0").append_pair("size", &wanted.to_string());
    query.finish()
}

async fn ask(cx: &Cx, upstream: &Upstream, text: &str, wanted: usize) -> Result<(Vec<Value>, usize)> {
    let request =
        Ask::get(format!("-/v1/search?{}", query(text, wanted))).accept("application/json").compressed();
    let Some((_, bytes)) = cx.upstream.ask(upstream, &request, "its search", LIMIT).await? else {
        return Ok((Vec::new(), 0));
    };
    let mut answer: Value = serde_json::from_slice(&bytes)
        .map_err(|_| cx.upstream.distrust(upstream, "what its search found can't be read"))?;
    let total = answer.get("total").and_then(Value::as_u64).and_then(|total| usize::try_from(total).ok());
    let objects = match answer.get_mut("objects").map(Value::take) {
        Some(Value::Array(objects)) => objects,
        _ => Vec::new(),
    };
    let total = total.unwrap_or(objects.len());
    Ok((objects, total))
}
