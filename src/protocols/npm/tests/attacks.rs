//! Bodies that no client of good will sends. Each gets a clear error in npm's format, and nothing of it is stored.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;

use super::*;
use crate::core::body::Body;
use crate::core::error::{Error, Kind};

/// Sends a body that must be refused, and sees that nothing is left of it.
async fn refused(registry: &TestRegistry, what: &str, request: TestRequest, status: u16, says: &str) {
    let before = all_keys(registry).await;
    let answer = registry.send(request).await;
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    let error = error_of(&answer);
    assert!(error.contains(says), "{what}: {error}");
    assert_eq!(all_keys(registry).await, before, "{what}");
}

fn put(body: &Value) -> TestRequest {
    TestRequest::put("/npm/widget").json(body)
}

#[tokio::test]
async fn documents_that_contradict_themselves() {
    let registry = TestRegistry::new().await;
    let package = Package::new("widget", "1.0.0");
    let change = |change: &dyn Fn(&mut Value)| {
        let mut body = package.body();
        change(&mut body);
        put(&body)
    };
    let attachment = "widget-1.0.0.tgz";
    let cases: Vec<(&str, TestRequest, &str)> = vec![
        ("another name", change(&|body| body["name"] = json!("other")), "sent to widget"),
        (
            "another name inside",
            change(&|body| body["versions"]["1.0.0"]["name"] = json!("other")),
            "another package",
        ),
        (
            "another version inside",
            change(&|body| body["versions"]["1.0.0"]["version"] = json!("2.0.0")),
            "another version",
        ),
        ("no version", change(&|body| body["versions"] = json!({})), "exactly one version"),
        ("two versions", change(&|body| body["versions"]["2.0.0"] = json!({})), "exactly one version"),
        ("manifest is a list", change(&|body| body["versions"]["1.0.0"] = json!([])), "no object"),
        (
            "wrong integrity",
            change(&|body| body["versions"]["1.0.0"]["dist"]["integrity"] = json!("sha512-AAAA")),
            "integrity",
        ),
        (
            "wrong shasum",
            change(&|body| body["versions"]["1.0.0"]["dist"]["shasum"] = json!("0000")),
            "shasum",
        ),
        (
            "wrong length",
            change(&|body| body["_attachments"][attachment]["length"] = json!(1)),
            "bytes and not 1",
        ),
        ("no base64", change(&|body| body["_attachments"][attachment]["data"] = json!("AAA A")), "base64"),
        ("empty data", change(&|body| body["_attachments"][attachment]["data"] = json!("")), "empty"),
        (
            "data is no text",
            change(&|body| body["_attachments"][attachment]["data"] = json!(["AAAA"])),
            "needs a tarball",
        ),
        (
            "a tag that is a range",
            change(&|body| body["dist-tags"] = json!({ "1.0.0": "1.0.0" })),
            "dist-tag",
        ),
        (
            "prototype tag",
            change(&|body| body["dist-tags"] = json!({ "constructor": "1.0.0" })),
            "constructor",
        ),
        (
            "prototype anywhere",
            change(&|body| body["versions"]["1.0.0"]["x"] = json!({ "__proto__": 1 })),
            "__proto__",
        ),
    ];
    for (what, request, says) in cases {
        let status = if what == "data is no text" { 404 } else { 400 };
        if what == "data is no text" {
            // Without a tarball it is a deprecation, of a package that isn't there.
            refused(&registry, what, request, status, "Not found").await;
        } else {
            refused(&registry, what, request, status, says).await;
        }
    }
    for version in ["latest", "", "../../1.0.0", "1", "1.0.0/../2.0.0"] {
        let mut body = package.body();
        let manifest = body["versions"]["1.0.0"].take();
        body["versions"] = json!({ version: manifest });
        refused(&registry, version, put(&body), 400, "no semantic version").await;
    }
    for name in [
        "other-1.0.0.tgz",
        "../widget-1.0.0.tgz",
        "widget-2.0.0.tgz",
        "widget-1.0.0.tar",
        "widget-latest.tgz",
    ] {
        let mut body = package.body();
        let attachment = body["_attachments"][attachment].take();
        body["_attachments"] = json!({ name: attachment });
        refused(&registry, name, put(&body), 400, "attachment").await;
    }
    let mut two = package.body();
    two["_attachments"]["widget-1.0.0+b.tgz"] = two["_attachments"][attachment].clone();
    refused(&registry, "two tarballs", put(&two), 400, "exactly one tarball").await;
    let text = package.body().to_string();
    let twice = format!("{},\"name\":\"widget\"}}", text.trim_end_matches('}').to_owned() + "}}");
    refused(&registry, "a key twice", TestRequest::put("/npm/widget").body(twice.into_bytes()), 400, "twice")
        .await;
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100), "]".repeat(100));
    refused(&registry, "deep", TestRequest::put("/npm/widget").body(deep.into_bytes()), 400, "").await;
    for nonsense in ["", "x", "[]", "{", "null"] {
        refused(
            &registry,
            nonsense,
            TestRequest::put("/npm/widget").body(nonsense.as_bytes().to_vec()),
            400,
            "",
        )
        .await;
    }
    assert!(all_keys(&registry).await.is_empty());
}

#[tokio::test]
async fn tarballs_that_are_not_what_they_should_be() {
    let registry = TestRegistry::new().await;
    let package = Package::new("widget", "1.0.0");
    let json = package.package_json().to_string().into_bytes();
    let own = ("package/package.json".to_owned(), json.clone());
    let files = |more: &[(&str, &[u8])]| {
        let mut files = vec![own.clone()];
        files.extend(more.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())));
        tgz(&files)
    };
    let other = |name: &str, version: &str| {
        tgz(&[(
            "package/package.json".to_owned(),
            json!({ "name": name, "version": version }).to_string().into_bytes(),
        )])
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no gzip", b"plain".to_vec(), "gzip"),
        ("no tar", gzip(&[7; 2000]), "tar"),
        ("cut", package.tgz()[..50].to_vec(), "gzip"),
        ("no package.json", tgz(&[("package/index.js".to_owned(), Vec::new())]), "package.json"),
        ("broken package.json", tgz(&[("package/package.json".to_owned(), b"{".to_vec())]), "no JSON object"),
        ("another name", other("other", "1.0.0"), "names `other`"),
        ("another version", other("widget", "2.0.0"), "version `2.0.0`"),
        ("two package.json", files(&[("package/./package.json", b"{}")]), "twice"),
        ("another folder's", files(&[("x/package.json", b"{}")]), "twice"),
        ("another case", files(&[("package/PACKAGE.json", b"{}")]), "twice"),
        ("a backslash", files(&[("package/..\\x", b"")]), "leads out"),
    ];
    for (what, tarball, says) in cases {
        refused(&registry, what, package.clone().tarball(tarball).put(), 400, says).await;
    }
    // The tar library writes no such paths; a packer of ill will does.
    for (what, path) in [("up", "package/../../etc/passwd"), ("absolute", "/etc/passwd")] {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, content) in [("package/package.json", json.as_slice()), (path, b"")] {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
        let tarball = builder.into_inner().unwrap().finish().unwrap();
        refused(&registry, what, package.clone().tarball(tarball).put(), 400, "leads out").await;
    }
    for (what, kind, target) in [
        ("symbolic link", tar::EntryType::Symlink, "../../etc/passwd"),
        ("hard link", tar::EntryType::Link, "/etc/passwd"),
        ("device", tar::EntryType::Char, ""),
    ] {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_size(json.len() as u64);
        builder.append_data(&mut header, "package/package.json", json.as_slice()).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_link_name_literal(target).unwrap();
        builder.append_data(&mut header, "package/evil", std::io::empty()).unwrap();
        let tarball = builder.into_inner().unwrap().finish().unwrap();
        refused(&registry, what, package.clone().tarball(tarball).put(), 400, "refused").await;
    }
    // A `v` in front of the version inside is what some publishers have.
    let with_v = package.clone().tarball(other("widget", "v1.0.0"));
    assert_eq!(registry.send(with_v.put()).await.status, 201);
}

/// `TARmageddon`: an entry behind another entry's size, or behind a folder's, which the registry passes over and the client installs.
#[tokio::test]
async fn cve_2025_62518_a_tarball_that_two_readers_read_differently() {
    use tar::EntryType::{Directory, GNULongName, Regular, Symlink, XGlobalHeader, XHeader};

    let registry = TestRegistry::new().await;
    let package = Package::new("widget", "1.0.0");
    let block = |kind: tar::EntryType, path: &str, size: usize, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_cksum();
        let mut block = [header.as_bytes().as_slice(), content].concat();
        block.resize(block.len().next_multiple_of(512), 0);
        block
    };
    let own = package.package_json().to_string();
    let own = || block(Regular, "package/package.json", own.len(), own.as_bytes());
    let evil = r#"{"name":"widget","version":"1.0.0","scripts":{"postinstall":"node evil.js"}}"#;
    let evil = || block(Regular, "package/package.json", evil.len(), evil.as_bytes());
    let size = |size: usize| format!("{} size={size}\n", 9 + size.to_string().len());
    let (hidden, seen) = (size(1024), size(0));
    let cases = [
        ("behind a folder", vec![own(), block(Directory, "package/x/", 1024, &evil())]),
        ("behind a link", vec![own(), block(Symlink, "package/x", 1024, &evil())]),
        (
            "behind a PAX size",
            vec![
                own(),
                block(XHeader, "p", hidden.len(), hidden.as_bytes()),
                block(Regular, "package/x", 0, &evil()),
            ],
        ),
        (
            "before a PAX size",
            vec![
                own(),
                block(XHeader, "p", seen.len(), seen.as_bytes()),
                block(Regular, "package/x", 1024, &evil()),
            ],
        ),
        (
            "behind a long name's PAX size",
            vec![
                own(),
                block(XHeader, "p", hidden.len(), hidden.as_bytes()),
                block(GNULongName, "l", 9, b"package/x"),
                evil(),
                block(Regular, "x", 0, b""),
            ],
        ),
        ("by a size for all", vec![block(XGlobalHeader, "g", seen.len(), seen.as_bytes()), own(), evil()]),
        ("by a name for all", vec![block(XGlobalHeader, "g", 30, b"30 path=package/package.json2\n"), own()]),
        ("behind an empty block", vec![own(), vec![0; 512], evil()]),
        ("behind the end", vec![own(), vec![0; 1024], evil()]),
    ];
    for (what, blocks) in cases {
        let tarball = gzip(&[blocks.concat(), vec![0; 1024]].concat());
        refused(&registry, what, package.clone().tarball(tarball).put(), 400, "the tarball has").await;
    }
    let tarball = gzip(&[own(), vec![0; 1024]].concat());
    assert_eq!(registry.send(package.tarball(tarball).put()).await.status, 201);
}

#[tokio::test]
async fn a_registry_may_choose_not_to_look_inside() {
    let off = json!({ "npm": { "enabled": true, "features": { "validateTarball": false } } });
    let registry = TestRegistry::with(off, None, None).await;
    let answer = registry.send(Package::new("widget", "1.0.0").tarball("no tarball at all").put()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    check_whole(&registry, "widget").await;
}

#[tokio::test]
async fn a_body_that_breaks_off_never_looks_complete() {
    let registry = TestRegistry::new().await;
    let text = Package::new("widget", "1.0.0").body().to_string().into_bytes();
    for cut in [1, 100, text.len() / 2, text.len() - 1] {
        let piece = Bytes::copy_from_slice(&text[..cut]);
        let broken = vec![Ok(piece.clone()), Err(Error::new(Kind::Aborted, "the client went away"))];
        let request =
            TestRequest::put("/npm/widget").body(Body::stream(stream::iter(broken), Some(text.len() as u64)));
        refused(&registry, "broken", request, 400, "went away").await;
        let short = TestRequest::put("/npm/widget")
            .body(Body::stream(stream::iter(vec![Ok(piece.clone())]), Some(text.len() as u64)));
        refused(&registry, "short", short, 400, "shorter").await;
        let unannounced =
            TestRequest::put("/npm/widget").body(Body::stream(stream::iter(vec![Ok(piece)]), None));
        refused(&registry, "unannounced", unannounced, 400, "").await;
    }
}

#[tokio::test]
async fn names_and_paths() {
    let registry = TestRegistry::new().await;
    for path in [
        "/npm/..%2f..%2fetc",
        "/npm/%2e%2e/x",
        "/npm/a%5cb",
        "/npm/a%00",
        "/npm/.hidden",
        "/npm/_private",
        "/npm/__proto__",
        "/npm/UPPER",
        "/npm/@%2fa",
        "/npm/http",
        "/npm/a%252fb",
        "/npm/node_modules",
    ] {
        let mut body = Package::new("widget", "1.0.0").body();
        body["name"] = json!(path.trim_start_matches("/npm/"));
        let answer = registry.send(TestRequest::put(path).json(&body)).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(answer.json()["error"].is_string());
    }
    let three = registry.send(TestRequest::put("/npm/@a/b/c").json(&json!({}))).await;
    assert_eq!(three.status, 405);
    assert!(all_keys(&registry).await.is_empty());
    // Two packages, one name but for its case.
    for name in ["JSONStream", "jsonstream"] {
        let index = format!(
            r#"{{"name":"{name}","dist-tags":{{"latest":"1.0.0"}},"versions":{{"1.0.0":{{"name":"{name}","version":"1.0.0"}}}}}}"#
        );
        let key = crate::storage::Key::new(format!("npm/packages/{name}/index.json")).unwrap();
        registry
            .store
            .put(&key, Bytes::from(index).into(), crate::storage::PutOptions::default())
            .await
            .unwrap();
        publish(&registry, name, "1.0.1").await;
    }
    assert_eq!(packument(&registry, "JSONStream").await["name"], "JSONStream");
    publish(&registry, "constructor", "1.0.0").await;
    check_whole(&registry, "constructor").await;
}
