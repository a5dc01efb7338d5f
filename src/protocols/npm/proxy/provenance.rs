//! What clients check another registry's signatures and attestations with: that registry's keys beside our own, and its bundles as they came.

use serde_json::Value;

use super::super::error::not_found;
use super::super::json::Members;
use super::super::model::Release;
use super::super::name::PackageName;
use super::{Ask, EXTRA, Source, all};
use crate::protocols::prelude::*;
use crate::upstream::{Candidates, Upstream};

/// Longest list of keys, and longest attestations of one version.
const MAX_KEYS: u64 = 256 << 10;
const MAX_ATTESTATIONS: u64 = 8 << 20;

/// The keys of all upstreams. One that does not answer has none for now: an audit then says what it could not check.
pub(crate) async fn keys(cx: &Cx) -> Result<Vec<Value>> {
    let mut list: Vec<Value> = Vec::new();
    for upstream in all(cx, "keys").await? {
        let candidates = Candidates::of(&upstream);
        let source = |_: &Upstream| Source {
            request: Ask::get("-/npm/v1/keys").accept("application/json").compressed(),
            path: "_keys".to_owned(),
            what: "the list of signing keys".to_owned(),
            limit: MAX_KEYS,
            immutable: false,
            parse: Arc::new(|bytes, _| json_of(bytes)),
        };
        let found =
            tokio::time::timeout(EXTRA, cx.upstream.document(&cx.objects, &candidates, source, false)).await;
        match found {
            Ok(Ok(Some(copy))) => {
                let keys = copy.loaded.document.get("keys").and_then(Value::as_array).cloned();
                let new = |key: &Value| !list.iter().any(|one| one.get("keyid") == key.get("keyid"));
                let keys: Vec<Value> = keys.unwrap_or_default().into_iter().filter(new).collect();
                list.extend(keys);
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::info!(upstream = %upstream.id, "its signing keys are missing: {}", error.message());
            }
            Err(_) => {
                tracing::info!(upstream = %upstream.id, "its signing keys are late");
            }
        }
    }
    Ok(list)
}

/// The attestations of a version of an upstream's, as they came.
pub(crate) async fn attestations(
    cx: &Cx,
    name: &PackageName,
    release: &Release,
    upstream: &Arc<Upstream>,
) -> Result<Response> {
    let members = Members::parse(&release.manifest)
        .and_then(|manifest| manifest.object("dist")?.object("attestations"));
    let url = members.and_then(|members| members.text("url")).ok_or_else(not_found)?;
    let version = release.version.as_ref();
    let source = |_: &Upstream| Source {
        request: Ask::get(url.clone()).accept("application/json").compressed(),
        path: format!("_attestations/{name}/{version}"),
        what: format!("the attestations of {name} {version}"),
        limit: MAX_ATTESTATIONS,
        immutable: true,
        parse: Arc::new(|bytes: &Bytes, _| json_of(bytes).map(|_| bytes.clone())),
    };
    let candidates = Candidates::of(upstream);
    let copy = cx.upstream.document(&cx.objects, &candidates, source, false).await?.ok_or_else(not_found)?;
    Ok(Response::ok("application/json", copy.loaded.document.clone()))
}

fn json_of(bytes: &Bytes) -> Result<Value> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| Error::invalid("it is no JSON").with_source(error))?;
    if value.is_object() { Ok(value) } else { Err(Error::invalid("it is no JSON object")) }
}
