//! Full requests on the memory store: what clients send, what they get, and what is left behind.

mod access;
mod attacks;
mod costs;
mod downloads;
mod gc;
mod gc_races;
mod lists;
mod manifests;
mod paths;
mod policies;
mod proxy;
mod proxy_faults;
mod proxy_lists;
mod proxy_names;
mod proxy_people;
mod retention;
mod sharing;
mod uploads;

use serde_json::{Value, json};

use super::super::prelude::*;
use super::NAME;
use crate::testing::{TestRegistry, TestRequest, TestResponse};

pub(super) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(super) fn post(path: &str) -> TestRequest {
    TestRequest::new(Method::POST, path)
}

pub(super) fn patch(path: &str) -> TestRequest {
    TestRequest::new(Method::PATCH, path)
}

pub(super) fn delete(path: &str) -> TestRequest {
    TestRequest::new(Method::DELETE, path)
}

pub(super) fn head(path: &str) -> TestRequest {
    TestRequest::new(Method::HEAD, path)
}

pub(super) fn get(path: &str) -> TestRequest {
    TestRequest::get(path)
}

pub(super) fn put(path: &str) -> TestRequest {
    TestRequest::put(path)
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Digest::sha256(bytes).to_string()
}

/// The first error's code.
pub(super) fn code(response: &TestResponse) -> String {
    response.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
}

/// Pushes a blob in one request and answers its digest.
pub(super) async fn push_blob(registry: &TestRegistry, name: &str, bytes: &[u8]) -> String {
    let digest = sha256(bytes);
    let answer =
        registry.send(post(&format!("/v2/{name}/blobs/uploads/?digest={digest}")).body(bytes.to_vec())).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    digest
}

pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len() })
}

/// An image manifest over a config and one layer.
pub(super) fn image(config: &[u8], layer: &[u8]) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": IMAGE,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    })
}

pub(super) fn put_manifest(name: &str, reference: &str, manifest: &Value) -> TestRequest {
    let kind = manifest["mediaType"].as_str().unwrap_or(IMAGE).to_owned();
    put(&format!("/v2/{name}/manifests/{reference}"))
        .header("content-type", &kind)
        .body(manifest.to_string().into_bytes())
}

/// Pushes an image with its blobs under a tag and answers its digest.
pub(super) async fn push_image(registry: &TestRegistry, name: &str, tag: &str, layer: &[u8]) -> String {
    push_blob(registry, name, b"{}").await;
    push_blob(registry, name, layer).await;
    let answer = registry.send(put_manifest(name, tag, &image(b"{}", layer))).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.header("docker-content-digest").unwrap().to_owned()
}
