//! Packuments, versions and tarballs, as clients ask for them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::storage::{Key, PutOptions};

const INSTALL: &str = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*";

#[tokio::test]
async fn the_form_follows_accept_as_clients_mean_it() {
    let registry = TestRegistry::new().await;
    publish(&registry, "widget", "1.0.0").await;
    let mut tags = Vec::new();
    for (accept, wanted) in [
        (Some("application/json"), "application/json"),
        (Some("*/*"), "application/json"),
        (Some("application/json; q=1.0, */*"), "application/json"),
        (Some("text/html"), "application/json"),
        (None, "application/json"),
        (Some(INSTALL), "application/vnd.npm.install-v1+json"),
        (Some("application/vnd.npm.install-v1+json"), "application/vnd.npm.install-v1+json"),
    ] {
        let mut request = TestRequest::get("/npm/widget");
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let answer = registry.send(request).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(wanted)), "{accept:?}");
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        assert_eq!(answer.header("vary"), Some("Accept, Accept-Encoding"));
        assert_eq!(answer.header("last-modified"), Some("Mon, 21 Sep 2026 14:13:20 GMT"));
        tags.push((wanted, answer.header("etag").unwrap().to_owned()));
    }
    tags.sort();
    tags.dedup();
    assert!(
        tags.len() == 2 && tags[0].1 != tags[1].1 && tags.iter().all(|(_, tag)| tag.starts_with("W/\"")),
        "{tags:?}"
    );
}

#[tokio::test]
async fn plain_and_gzip_say_the_same() {
    let registry = TestRegistry::new().await;
    publish(&registry, "widget", "1.0.0").await;
    for accept in ["*/*", INSTALL] {
        let plain = registry.send(TestRequest::get("/npm/widget").header("accept", accept)).await;
        assert_eq!(plain.header("content-encoding"), None);
        for codings in ["gzip,deflate", "gzip, deflate, br", "zstd,gzip,deflate"] {
            let request =
                TestRequest::get("/npm/widget").header("accept", accept).header("accept-encoding", codings);
            let packed = registry.send(request).await;
            assert_eq!(packed.header("content-encoding"), Some("gzip"));
            assert_eq!(&gunzip(packed.bytes()), plain.bytes());
        }
    }
}

#[tokio::test]
async fn conditional_requests() {
    let registry = TestRegistry::new().await;
    publish(&registry, "widget", "1.0.0").await;
    let full = registry.send(TestRequest::get("/npm/widget")).await;
    let tag = full.header("etag").unwrap();
    let modified = full.header("last-modified").unwrap();
    let ask = |tag: &str, accept: &str| {
        TestRequest::get("/npm/widget")
            .header("if-none-match", tag)
            .header("if-modified-since", modified)
            .header("accept", accept)
    };
    for known in
        [tag.to_owned(), tag.trim_start_matches("W/").to_owned(), format!("\"x\", {tag}"), "*".to_owned()]
    {
        let answer = registry.send(ask(&known, "application/json")).await;
        assert_eq!(answer.status, 304, "{known}");
        assert!(answer.bytes().is_empty());
        for header in ["etag", "cache-control", "vary", "last-modified"] {
            assert_eq!(answer.header(header), full.header(header), "{header}");
        }
    }
    // The tag of the full form is none of the abbreviated one; when both conditions come, the tag alone counts.
    assert_eq!(registry.send(ask(tag, INSTALL)).await.status, 200);
    assert_eq!(registry.send(ask("\"other\"", "*/*")).await.status, 200);
    // A tag may be set within the second in which the version came: the date alone tells nothing.
    registry.send(TestRequest::put("/npm/-/package/widget/dist-tags/next").body("\"1.0.0\"")).await;
    let since = TestRequest::get("/npm/widget").header("if-modified-since", modified);
    let answer = registry.send(since).await;
    assert_eq!((answer.status, answer.header("last-modified")), (200, Some(modified)));
    assert_eq!(answer.json()["dist-tags"]["next"], "1.0.0");
    registry.clock.advance(Duration::from_secs(5));
    publish(&registry, "widget", "1.0.1").await;
    assert_eq!(registry.send(ask(tag, "*/*")).await.status, 200);
}

#[tokio::test]
async fn time_is_complete_in_both_forms() {
    let registry = TestRegistry::new().await;
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        publish(&registry, "widget", version).await;
        registry.clock.advance(Duration::from_mins(1));
    }
    let full = packument(&registry, "widget").await;
    let short = registry.send(TestRequest::get("/npm/widget").header("accept", INSTALL)).await;
    assert_eq!(keys_of(&short.text()), ["name", "modified", "dist-tags", "versions", "time"]);
    let short = short.json();
    assert_eq!(full["time"], short["time"]);
    assert_eq!(short["modified"], full["time"]["modified"]);
    assert_eq!(
        full["time"],
        json!({
            "created": "2026-09-21T14:13:20.000Z", "modified": "2026-09-21T14:15:20.000Z", "1.0.0": "2026-09-21T14:13:20.000Z",
            "1.1.0": "2026-09-21T14:14:20.000Z", "2.0.0": "2026-09-21T14:15:20.000Z",
        })
    );
    let registry = TestRegistry::with(
        json!({ "npm": { "enabled": true, "features": { "abbreviatedTime": false } } }),
        Some(registry.store),
        None,
    )
    .await;
    let short = registry.send(TestRequest::get("/npm/widget").header("accept", INSTALL)).await;
    assert_eq!(keys_of(&short.text()), ["name", "modified", "dist-tags", "versions"]);
}

#[tokio::test]
async fn a_hot_get_asks_the_store_nothing() {
    let registry = TestRegistry::with(json!({ "limits": { "metadataTtlMs": 60_000 } }), None, None).await;
    let package = publish(&registry, "widget", "1.0.0").await;
    let start = registry.store.requests();
    let first = registry.send(TestRequest::get("/npm/widget")).await;
    let second = registry.send(TestRequest::get("/npm/widget")).await;
    assert_eq!(first.bytes().as_ptr(), second.bytes().as_ptr(), "the very same bytes, not a copy");
    registry.send(TestRequest::get("/npm/widget").header("accept", INSTALL)).await;
    registry.send(TestRequest::get("/npm/widget/latest")).await;
    assert_eq!(registry.store.requests(), start);
    registry.send(TestRequest::get(&package.tarball_path())).await;
    assert_eq!(registry.store.requests() - start, 1, "a tarball is one read");
    registry.send(TestRequest::get(&package.tarball_path()).header("range", "bytes=0-9")).await;
    assert_eq!(registry.store.requests() - start, 2);
    let start = registry.store.requests();
    let editable = registry.send(TestRequest::get("/npm/widget?write=true").header("accept", INSTALL)).await;
    assert_eq!(registry.store.requests() - start, 1, "an editable document is never from a cache");
    assert_eq!(editable.header("cache-control"), Some("no-store"));
    assert!(editable.json()["_rev"].as_str().unwrap().starts_with("1-"));
    let start = registry.store.requests();
    registry.send(TestRequest::get("/npm/widget").header("cache-control", "no-cache")).await;
    assert_eq!(registry.store.requests() - start, 1);
}

#[tokio::test]
async fn versions_tags_and_ranges() {
    let registry = TestRegistry::new().await;
    for version in ["1.0.0", "1.2.0", "2.0.0"] {
        publish(&registry, "@acme/widget", version).await;
    }
    registry.send(TestRequest::put("/npm/-/package/@acme%2fwidget/dist-tags/old").body("\"1.0.0\"")).await;
    for (path, version) in [
        ("/npm/@acme/widget/1.0.0", "1.0.0"),
        ("/npm//@acme%2fwidget/1.0.0", "1.0.0"),
        ("/npm/@acme%2Fwidget/latest", "2.0.0"),
        ("/npm/@acme%2Fwidget/old", "1.0.0"),
        ("/npm/@acme%2Fwidget/v1.2.0", "1.2.0"),
        ("/npm/@acme%2Fwidget/%5E1", "1.2.0"),
        ("/npm/@acme%2Fwidget/*", "2.0.0"),
    ] {
        let answer = registry.send(TestRequest::get(path)).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.json()["version"], version, "{path}");
        assert_eq!(
            answer.json()["dist"]["tarball"],
            format!("http://registry.example.com/npm/@acme/widget/-/widget-{version}.tgz")
        );
    }
    let missing = registry.send(TestRequest::get("/npm/@acme/widget/9.9.9")).await;
    assert_eq!((missing.status, error_of(&missing).as_str()), (404, "version not found: 9.9.9"));
    let missing = registry.send(TestRequest::get("/npm/nothing/1.0.0")).await;
    assert_eq!((missing.status, error_of(&missing).as_str()), (404, "Not found"));
}

#[tokio::test]
async fn tarballs_in_every_form_of_their_path() {
    let registry = TestRegistry::new().await;
    let package = publish(&registry, "@acme/widget", "1.0.0").await;
    let bytes = package.tgz();
    for path in [
        "/npm/@acme/widget/-/widget-1.0.0.tgz",
        "/npm/@acme%2fwidget/-/widget-1.0.0.tgz",
        "/npm/@acme/widget/-/@acme/widget-1.0.0.tgz",
    ] {
        // What pnpm 10 and yarn classic send even for tarballs.
        let request =
            TestRequest::get(path).header("accept", INSTALL).header("accept-encoding", "gzip, deflate, br");
        let answer = registry.send(request).await;
        assert_eq!((answer.status, answer.bytes()), (200, &Bytes::from(bytes.clone())), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert_eq!(answer.header("content-length"), Some(bytes.len().to_string().as_str()));
        assert!(answer.header("etag").unwrap().starts_with('"'));
        assert!(answer.header("repr-digest").unwrap().starts_with("sha-512=:"));
    }
    let path = package.tarball_path();
    let tag = registry.send(TestRequest::get(&path)).await.header("etag").unwrap().to_owned();
    let range = registry.send(TestRequest::get(&path).header("range", "bytes=0-0")).await;
    assert_eq!((range.status, range.bytes().as_ref()), (206, &bytes[..1]));
    assert_eq!(range.header("content-range"), Some(format!("bytes 0-0/{}", bytes.len()).as_str()));
    let beyond = registry.send(TestRequest::get(&path).header("range", "bytes=99999999-")).await;
    assert_eq!(beyond.status, 416);
    let known =
        registry.send(TestRequest::get(&path).header("if-none-match", &format!("\"x\", {tag}"))).await;
    assert_eq!(known.status, 304);
    let head = registry.send(TestRequest::new(http::Method::HEAD, &path)).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some(bytes.len().to_string().as_str())));
    assert!(head.bytes().is_empty());
    for missing in [
        "/npm/@acme/widget/-/widget-1.0.1.tgz",
        "/npm/@acme/widget/-/widget.tgz",
        "/npm/@acme/widget/-/index.json",
    ] {
        assert_eq!(registry.send(TestRequest::get(missing)).await.status, 404, "{missing}");
    }
}

#[tokio::test]
async fn head_of_a_packument_has_the_headers_of_get() {
    let registry = TestRegistry::new().await;
    publish(&registry, "widget", "1.0.0").await;
    let get = registry.send(TestRequest::get("/npm/widget")).await;
    let head = registry.send(TestRequest::new(http::Method::HEAD, "/npm/widget/")).await;
    for header in ["etag", "content-type", "content-length", "vary", "cache-control"] {
        assert_eq!(head.header(header), get.header(header), "{header}");
    }
    assert!(head.bytes().is_empty());
}

#[tokio::test]
async fn links_follow_the_public_url() {
    let registry = TestRegistry::new().await;
    publish(&registry, "widget", "1.0.0").await;
    let first = registry.send(TestRequest::get("/npm/widget")).await;
    let elsewhere = TestRegistry::with(
        json!({ "npm": { "enabled": true, "basePath": "/npm/", "registryUrl": "https://packages.example.com/npm/" } }),
        Some(registry.store),
        None,
    )
    .await;
    let second = elsewhere.send(TestRequest::get("/npm/widget")).await;
    let url = second.json()["versions"]["1.0.0"]["dist"]["tarball"].clone();
    assert_eq!(url, "https://packages.example.com/npm/widget/-/widget-1.0.0.tgz");
    assert_ne!(first.header("etag"), second.header("etag"));
}

async fn put(registry: &TestRegistry, key: &str, bytes: impl Into<Bytes>) {
    registry.store.put(&Key::new(key).unwrap(), bytes.into().into(), PutOptions::default()).await.unwrap();
}

#[tokio::test]
async fn what_another_program_wrote_is_served() {
    for file in ["acme-widget-1.0.0.tgz", "@acme/widget-1.0.0.tgz", "widget-1.0.0.tgz"] {
        let registry = TestRegistry::new().await;
        put(&registry, &format!("npm/packages/@acme/widget/{file}"), "tarball").await;
        let index = r#"{"name":"@acme/widget","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"@acme/widget","version":"1.0.0","deprecated":false,"dist":{"tarball":"http://old.example.com/x.tgz","shasum":"0123"}}}}"#;
        put(&registry, "npm/packages/@acme/widget/index.json", format!("\u{feff}{index}")).await;
        let document = packument(&registry, "@acme/widget").await;
        assert_eq!(
            document["versions"]["1.0.0"]["dist"]["tarball"],
            "http://registry.example.com/npm/@acme/widget/-/widget-1.0.0.tgz"
        );
        assert!(document["versions"]["1.0.0"].get("deprecated").is_none());
        assert!(document["time"]["1.0.0"].is_string() && document["_rev"].is_string());
        let tarball = registry.send(TestRequest::get("/npm/@acme/widget/-/widget-1.0.0.tgz")).await;
        assert_eq!(tarball.text(), "tarball", "{file}");
        publish(&registry, "@acme/widget", "1.0.1").await;
        let again = registry.send(TestRequest::get("/npm/@acme/widget/-/widget-1.0.0.tgz")).await;
        assert_eq!(again.text(), "tarball");
        let over = registry.send(Package::new("@acme/widget", "1.0.0").put()).await;
        assert_eq!(over.status, 403);
    }
}

#[tokio::test]
async fn five_thousand_versions() {
    let registry = TestRegistry::with(json!({ "limits": { "metadataTtlMs": 60_000 } }), None, None).await;
    publish(&registry, "widget", "0.0.1").await;
    let one = packument(&registry, "widget").await["versions"]["0.0.1"].clone();
    let mut versions = serde_json::Map::new();
    for at in 0..5000 {
        let version = format!("1.0.{at}");
        let mut manifest = one.clone();
        manifest["version"] = json!(version);
        manifest["description"] = json!("x".repeat(1000));
        versions.insert(version, manifest);
    }
    let index =
        json!({ "name": "widget", "dist-tags": { "latest": "1.0.4999" }, "versions": versions }).to_string();
    assert!(index.len() > 5 << 20);
    put(&registry, "npm/packages/widget/index.json", index).await;
    let answer = registry.send(TestRequest::get("/npm/widget").header("cache-control", "no-cache")).await;
    assert_eq!(answer.json()["versions"].as_object().unwrap().len(), 5000);
    // Many at once: one document, one representation, shared by all.
    let registry = Arc::new(registry);
    let asks = (0..32).map(|_| {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            registry.send(TestRequest::get("/npm/widget").header("accept-encoding", "gzip")).await
        })
    });
    let start = registry.store.requests();
    let answers = futures_util::future::join_all(asks).await;
    let first = answers[0].as_ref().unwrap().bytes().clone();
    assert!(first.len() < 1 << 20);
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().bytes().as_ptr() == first.as_ptr()));
    assert_eq!(registry.store.requests(), start);
    publish(&registry, "widget", "2.0.0").await;
    assert_eq!(packument(&registry, "widget").await["versions"].as_object().unwrap().len(), 5001);
}
