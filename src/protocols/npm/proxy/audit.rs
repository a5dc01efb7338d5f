//! Vulnerabilities that upstreams know of, in the packages that are theirs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::super::access;
use super::super::name::PackageName;
use super::{Ask, EXTRA, all};
use crate::protocols::prelude::*;
use crate::upstream::Upstream;

/// Longest answer.
const LIMIT: u64 = 16 << 20;

/// Vulnerabilities by package.
type Found = BTreeMap<String, Vec<Map<String, Value>>>;

/// What upstreams know about the versions asked for. They hear of packages that they are asked for anyway, and of no other: what is ours, is to
/// stay inside, or may not be read by the caller, is nobody's business. One that does not answer in time knows nothing: installs must not wait for it.
pub(crate) async fn known(cx: &Cx, asked: &BTreeMap<String, BTreeSet<String>>) -> Result<Found> {
    let mut found = Found::new();
    if !access::may_read_some(cx) {
        return Ok(found);
    }
    let upstreams = all(cx, "audit").await?;
    if upstreams.is_empty() {
        return Ok(found);
    }
    let mut strangers = BTreeMap::new();
    for (text, versions) in asked {
        let Ok(name) = PackageName::parse(text) else { continue };
        if super::is_theirs(cx, &name).await? && super::ask(cx, &name, "audit").await?.is_some() {
            strangers.insert(text.as_str(), versions);
        }
    }
    for upstream in upstreams {
        let theirs: BTreeMap<&str, _> = strangers
            .iter()
            .filter(|(name, _)| upstream.asks_for(name))
            .map(|(name, list)| (*name, *list))
            .collect();
        if theirs.is_empty() {
            continue;
        }
        let body = serde_json::to_vec(&theirs).unwrap_or_default();
        match tokio::time::timeout(EXTRA, ask(cx, &upstream, body.into())).await {
            Ok(Ok(answer)) => {
                let lists = answer.into_iter().filter(|(name, _)| theirs.contains_key(name.as_str()));
                lists.for_each(|(name, list)| found.entry(name).or_default().extend(list));
            }
            Ok(Err(error)) => {
                tracing::info!(upstream = %upstream.id, "audits are answered without it: {}", error.message());
            }
            Err(_) => {
                tracing::info!(upstream = %upstream.id, "audits are answered without it: it takes too long");
            }
        }
    }
    Ok(found)
}

async fn ask(cx: &Cx, upstream: &Upstream, body: Bytes) -> Result<BTreeMap<String, Vec<Map<String, Value>>>> {
    let request =
        Ask::post("-/npm/v1/security/advisories/bulk", body).accept("application/json").compressed();
    let answer = cx.upstream.ask(upstream, &request, "the list of vulnerabilities", LIMIT).await?;
    let Some((_, bytes)) = answer else { return Ok(BTreeMap::new()) };
    let lists: BTreeMap<String, Vec<Value>> = serde_json::from_slice(&bytes)
        .map_err(|_| cx.upstream.distrust(upstream, "its list of vulnerabilities can't be read"))?;
    let objects = |list: Vec<Value>| {
        list.into_iter()
            .filter_map(|one| if let Value::Object(one) = one { Some(one) } else { None })
            .collect()
    };
    Ok(lists.into_iter().map(|(name, list)| (name, objects(list))).collect())
}
