//! Packages of a scripted upstream, through a registry in memory.

mod dates;
mod documents;
mod extras;
mod faults;
mod people;
mod safety;
mod tarballs;
mod uncached;

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::testing::upstream::{FakeUpstream, Reply};

/// A registry with the fake as npm's only upstream.
async fn over(fake: &FakeUpstream) -> TestRegistry {
    with(fake, json!({})).await
}

/// The same with more in the upstreams' configuration.
async fn with(fake: &FakeUpstream, more: Value) -> TestRegistry {
    TestRegistry::with(json!({ "upstreams": { "npm": fake.config_with(more) } }), None, None).await
}

/// Bytes that stand for a tarball: nobody looks into another registry's.
fn tarball(version: &str) -> Vec<u8> {
    format!("the tarball of {version} ").repeat(5000).into_bytes()
}

fn file_of(name: &str, version: &str) -> String {
    format!("/{name}/-/{}-{version}.tgz", name.rsplit('/').next().unwrap())
}

/// A version as another registry's packument has it.
fn foreign(fake: &FakeUpstream, name: &str, version: &str) -> Value {
    let bytes = tarball(version);
    json!({
        "name": name, "version": version, "readme": "not for installers",
        "dist": {
            "tarball": format!("{}{}", fake.url, file_of(name, version)),
            "integrity": Digest::of(Algorithm::Sha512, &bytes).integrity(),
            "shasum": Digest::of(Algorithm::Sha1, &bytes).hex(),
            "signatures": [{ "keyid": "SHA256:theirs", "sig": "c2ln" }],
        },
    })
}

fn packument(fake: &FakeUpstream, name: &str, versions: &[&str]) -> Value {
    let all: serde_json::Map<String, Value> =
        versions.iter().map(|version| ((*version).to_owned(), foreign(fake, name, version))).collect();
    let mut time: serde_json::Map<String, Value> =
        versions.iter().map(|version| ((*version).to_owned(), json!("2020-01-02T00:00:00.000Z"))).collect();
    time.insert("created".to_owned(), json!("2020-01-01T00:00:00.000Z"));
    time.insert("modified".to_owned(), json!("2020-01-03T00:00:00.000Z"));
    json!({
        "_id": name, "_rev": "1-x", "name": name, "dist-tags": { "latest": versions.last() }, "versions": all, "time": time,
        "maintainers": [{ "name": "them", "email": "them@example.com" }], "readme": "hello",
    })
}

/// Puts a package on the upstream: packument and tarballs.
fn serve(fake: &FakeUpstream, name: &str, versions: &[&str]) {
    let escaped = name.replace('/', "%2f");
    fake.on(&format!("/{escaped}"), Reply::json(&packument(fake, name, versions)).etag("\"one\""));
    for version in versions {
        fake.on(&file_of(name, version), Reply::ok(tarball(version)));
    }
}

fn get(path: &str) -> TestRequest {
    TestRequest::get(&format!("/npm{path}"))
}

/// What of the store is not the registry's own: the files that are kept.
async fn cached(registry: &TestRegistry) -> Vec<String> {
    registry.keys(false).await
}
