//! Publishing, in the body of every client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;

use super::*;
use crate::core::body::{Body, GivenJson};
use crate::core::secret::Secret;
use crate::storage::Store;
use crate::storage::memory::MemoryStore;

#[tokio::test]
async fn what_was_published_can_be_installed() {
    let registry = TestRegistry::new().await;
    for name in ["widget", "@acme/widget"] {
        let package = publish(&registry, name, "1.0.0").await;
        let document = packument(&registry, &name.replace('/', "%2f")).await;
        assert_eq!(document["dist-tags"]["latest"], "1.0.0");
        let url = document["versions"]["1.0.0"]["dist"]["tarball"].as_str().unwrap();
        assert_eq!(url, format!("http://registry.example.com{}", package.tarball_path()));
        let tarball = registry.send(TestRequest::get(&package.tarball_path())).await;
        assert_eq!(tarball.bytes(), &package.tgz());
    }
    assert_eq!(
        registry.keys(false).await,
        [
            "npm/packages/@acme/widget/acme-widget-1.0.0.tgz",
            "npm/packages/@acme/widget/index.json",
            "npm/packages/widget/index.json",
            "npm/packages/widget/widget-1.0.0.tgz",
        ]
    );
}

/// The members of a publish body in the order in which each client writes them, as text.
fn client_bodies(package: &Package) -> Vec<(&'static str, String)> {
    let id = json!(package.name).to_string();
    let tags = json!({ "latest": package.version }).to_string();
    let versions = json!({ package.version.as_str(): package.manifest() }).to_string();
    let attachments = package.attachments().to_string();
    let object = |members: &[(&str, &str)]| {
        let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let (readme, restricted) = ("\"# read me\"", "\"restricted\"");
    vec![
        (
            "npm",
            object(&[
                ("_id", &id),
                ("name", &id),
                ("description", "\"d\""),
                ("dist-tags", &tags),
                ("versions", &versions),
                ("access", "null"),
                ("_attachments", &attachments),
            ]),
        ),
        (
            "yarn classic",
            object(&[
                ("_id", &id),
                ("name", &id),
                ("dist-tags", &tags),
                ("versions", &versions),
                ("readme", readme),
                ("_attachments", &attachments),
            ]),
        ),
        (
            "yarn berry",
            object(&[
                ("_id", &id),
                ("_attachments", &attachments),
                ("name", &id),
                ("access", restricted),
                ("dist-tags", &tags),
                ("versions", &versions),
                ("readme", readme),
            ]),
        ),
        (
            "bun",
            object(&[
                ("_id", &id),
                ("name", &id),
                ("dist-tags", &tags),
                ("versions", &versions),
                ("access", "null"),
                ("_attachments", &attachments),
            ]),
        ),
        (
            "attachments first",
            object(&[
                ("_attachments", &attachments),
                ("name", &id),
                ("dist-tags", &tags),
                ("versions", &versions),
            ]),
        ),
        (
            "escaped slashes",
            object(&[
                ("name", &id),
                ("dist-tags", &tags),
                ("versions", &versions),
                ("_attachments", &attachments.replace('/', "\\/")),
            ]),
        ),
    ]
}

fn in_pieces(text: &[u8], size: usize) -> Body {
    let pieces: Vec<_> = text.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Body::stream(stream::iter(pieces), Some(text.len() as u64))
}

#[tokio::test]
async fn every_clients_body_is_taken_in_every_form() {
    let package =
        Package::new("@acme/widget", "1.0.0").fields(json!({ "description": "d", "keywords": ["k"] }));
    let mut stored = Vec::new();
    for (client, text) in client_bodies(&package) {
        let forms: Vec<(&str, Option<&str>, Body)> = vec![
            ("whole", None, text.clone().into_bytes().into()),
            ("small pieces", None, in_pieces(text.as_bytes(), 3)),
            ("large pieces", None, in_pieces(text.as_bytes(), 5000)),
            ("gzip", Some("gzip"), gzip(text.as_bytes()).into()),
            ("gzip that the host has undone", Some("gzip"), Body::from(Bytes::from(text.clone()))),
            ("another coding that the host has undone", Some("br"), Body::from(Bytes::from(text.clone()))),
            ("gzip pieces", Some("gzip"), in_pieces(&gzip(text.as_bytes()), 7)),
            ("parsed", None, Body::Json(GivenJson { text: text.clone().into(), attachments: Vec::new() })),
        ];
        for (form, coding, body) in forms {
            let registry = TestRegistry::new().await;
            let mut request =
                TestRequest::put("/npm/@acme%2fwidget").header("content-type", "application/json").body(body);
            if let Some(coding) = coding {
                request = request.header("content-encoding", coding);
            }
            let answer = registry.send(request).await;
            assert_eq!(answer.status, 201, "{client} {form}: {}", answer.text());
            let value = answer.json();
            assert!(value["ok"] == true && value["success"] == true && value["id"] == "@acme/widget");
            assert!(value["rev"].as_str().unwrap().starts_with("1-"));
            check_whole(&registry, "@acme%2fwidget").await;
            let document = packument(&registry, "@acme%2fwidget").await;
            let mut versions = document["versions"].clone();
            // No two signatures are the same, and each of these registries has a key of its own.
            assert!(versions["1.0.0"]["dist"]["signatures"][0]["sig"].is_string());
            versions["1.0.0"]["dist"]["signatures"] = json!([]);
            stored.push(versions.to_string());
        }
    }
    stored.dedup();
    assert_eq!(stored.len(), 1, "one package, one manifest, whoever publishes it");
}

#[tokio::test]
async fn a_body_that_a_host_took_apart_is_taken() {
    let package = Package::new("widget", "1.0.0");
    let mut body = package.body();
    let attachment = "widget-1.0.0.tgz";
    let data = body["_attachments"][attachment]["data"].as_str().unwrap().to_owned();
    for left in [json!(""), Value::Null] {
        body["_attachments"][attachment]["data"] = left;
        let registry = TestRegistry::new().await;
        let given = GivenJson {
            text: body.to_string().into(),
            attachments: vec![(attachment.to_owned(), data.clone().into())],
        };
        let answer = registry.send(TestRequest::put("/npm/widget").body(Body::Json(given))).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        check_whole(&registry, "widget").await;
    }
}

#[tokio::test]
async fn the_server_owns_its_fields() {
    let registry = TestRegistry::new().await;
    let package = Package::new("@acme/tool", "1.0.0")
        .fields(json!({
            "bin": "cli.js", "scripts": { "postinstall": "node x" }, "author": "somebody", "engines": ["node"], "libc": ["glibc"],
        }))
        .file("cli.js", "1")
        .file("npm-shrinkwrap.json", "{}");
    let mut body = package.body();
    body["users"] = json!({ "eve": true });
    body["time"] = json!({ "1.0.0": "1999-01-01T00:00:00.000Z" });
    body["maintainers"] = json!([{ "name": "eve" }]);
    let manifest = &mut body["versions"]["1.0.0"];
    for (key, value) in [
        ("_npmUser", json!({ "name": "eve" })),
        ("maintainers", json!([{ "name": "eve" }])),
        ("_resolved", json!("/home/eve/x.tgz")),
        ("_from", json!("file:x")),
        ("_integrity", json!("x")),
        ("integrity", json!("x")),
        ("shasum", json!("x")),
        ("_where", json!("/home/eve")),
        ("_hasShrinkwrap", json!(false)),
        ("hasInstallScript", json!(false)),
        ("_nodeVersion", json!("24.0.0")),
        ("x-unknown", json!({ "kept": [1.50] })),
    ] {
        manifest[key] = value;
    }
    manifest["dist"]["signatures"] = json!([{ "keyid": "x", "sig": "y" }]);
    manifest["dist"]["tarball"] = json!("http://user:pass@evil.example.com/x.tgz");
    let answer = registry.send(TestRequest::put("/npm/@acme%2ftool").json(&body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let mut document = packument(&registry, "@acme/tool").await;
    mask(&mut document);
    insta::assert_snapshot!("packument", serde_json::to_string_pretty(&document).unwrap());
    let accept = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*";
    let mut short = registry.send(TestRequest::get("/npm/@acme/tool").header("accept", accept)).await.json();
    mask(&mut short);
    insta::assert_snapshot!("abbreviated", serde_json::to_string_pretty(&short).unwrap());
}

/// Takes out what changes with the compression library.
fn mask(document: &mut Value) {
    if let Some(rev) = document.get_mut("_rev") {
        *rev = json!("(rev)");
    }
    let dist = &mut document["versions"]["1.0.0"]["dist"];
    assert!(dist["integrity"].as_str().unwrap().len() == 95 && dist["shasum"].as_str().unwrap().len() == 40);
    assert_ne!(dist["signatures"], json!([{ "keyid": "x", "sig": "y" }]));
    dist["signatures"] = json!("(signatures)");
    dist["integrity"] = json!("(sha512)");
    dist["shasum"] = json!("(sha1)");
}

#[tokio::test]
async fn a_version_is_published_once() {
    let registry = TestRegistry::new().await;
    let package = publish(&registry, "widget", "1.0.0").await;
    let before = packument(&registry, "widget").await;
    let sentence = "You cannot publish over the previously published versions: 1.0.0.";

    // The same again by the same user is a retry of a publish whose answer got lost.
    registry.clock.advance(Duration::from_mins(10));
    let again = registry.send(package.put()).await;
    assert_eq!((again.status, &again.json()["ok"]), (201, &json!(true)));
    // Whichever client it is; berry calls itself by its HTTP library. A program of somebody's own is told that it is there.
    for (agent, status) in [
        ("npm/11.0.0 node/v24.0.0 linux x64", 201),
        ("got (https://github.com/sindresorhus/got)", 201),
        ("gotcha/1.0", 403),
        ("curl/8.0.0", 403),
    ] {
        let put = TestRequest::put("/npm/widget").header("user-agent", agent).json(&package.body());
        assert_eq!(registry.send(put).await.status, status, "{agent}");
    }
    assert_eq!(packument(&registry, "widget").await, before);

    let other = Package::new("widget", "1.0.0").file("other.js", "2");
    for version in ["1.0.0", "v1.0.0", "1.0.0+build"] {
        let mut body = other.body();
        let manifest = body["versions"]["1.0.0"].take();
        body["versions"] = json!({ version: manifest });
        let answer = registry.send(TestRequest::put("/npm/widget").json(&body)).await;
        assert_eq!((answer.status, error_of(&answer).as_str()), (403, sentence), "{version}");
    }
    registry.clock.advance(Duration::from_mins(10));
    let late = registry.send(package.put()).await;
    assert_eq!((late.status, error_of(&late).as_str()), (403, sentence));
    assert_eq!(packument(&registry, "widget").await, before);
    assert_eq!(
        all_keys(&registry).await,
        ["npm/packages/widget/index.json", "npm/packages/widget/widget-1.0.0.tgz"]
    );
}

#[tokio::test]
async fn build_metadata_is_dropped() {
    let registry = TestRegistry::new().await;
    let package = Package::new("widget", "1.1.0-beta.1+build5");
    let answer = registry.send(package.put()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let document = packument(&registry, "widget").await;
    assert_eq!(document["versions"]["1.1.0-beta.1"]["version"], "1.1.0-beta.1");
    assert_eq!(document["dist-tags"], json!({ "latest": "1.1.0-beta.1" }));
    check_whole(&registry, "widget").await;
}

#[tokio::test]
async fn tags_of_a_publish() {
    let registry = TestRegistry::new().await;
    let tagged = |version: &str, tags: Value| {
        let mut body = Package::new("widget", version).body();
        body["dist-tags"] = tags;
        TestRequest::put("/npm/widget").json(&body)
    };
    assert_eq!(registry.send(tagged("1.0.0-a", json!({ "beta": "1.0.0-a" }))).await.status, 201);
    assert_eq!(
        packument(&registry, "widget").await["dist-tags"],
        json!({ "beta": "1.0.0-a", "latest": "1.0.0-a" })
    );
    assert_eq!(registry.send(tagged("1.0.0-b", json!({ "beta": "1.0.0-b" }))).await.status, 201);
    assert_eq!(
        packument(&registry, "widget").await["dist-tags"],
        json!({ "beta": "1.0.0-b", "latest": "1.0.0-a" })
    );
    for bad in [
        json!({ "latest": "0.0.1" }),
        json!({ "1.0.0": "2.0.0" }),
        json!({ "__proto__": "2.0.0" }),
        json!({ "beta": 1 }),
    ] {
        assert_eq!(registry.send(tagged("2.0.0", bad.clone())).await.status, 400, "{bad}");
    }
    assert_eq!(packument(&registry, "widget").await["versions"].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn the_readme_is_that_of_latest() {
    let registry = TestRegistry::new().await;
    let with_readme = |version: &str, tag: &str, readme: &str| {
        let mut body = Package::new("widget", version).body();
        body["dist-tags"] = json!({ tag: version });
        body["versions"][version]["readme"] = json!(readme);
        TestRequest::put("/npm/widget").json(&body)
    };
    registry.send(with_readme("1.0.0", "latest", "one")).await;
    registry.send(with_readme("2.0.0-beta.1", "beta", "two")).await;
    let document = packument(&registry, "widget").await;
    assert_eq!(document["readme"], "one");
    assert!(document["versions"]["1.0.0"].get("readme").is_none());
    // The tag moves to a version whose readme is in its tarball only, to one that has none, and back.
    let with_file =
        Package::new("widget", "2.0.0").file("docs/README.md", "other").file("Readme.md", "three");
    let mut body = with_file.body();
    body["dist-tags"] = json!({ "next": "2.0.0" });
    registry.send(TestRequest::put("/npm/widget").json(&body)).await;
    let latest = |version: &str| {
        TestRequest::put("/npm/-/package/widget/dist-tags/latest").body(format!("\"{version}\"").into_bytes())
    };
    for (version, readme) in [("2.0.0", "three"), ("2.0.0-beta.1", ""), ("2.0.0", "three")] {
        assert_eq!(registry.send(latest(version)).await.status, 201);
        assert_eq!(packument(&registry, "widget").await["readme"], readme, "{version}");
    }
    // And by itself, when the version that it names goes.
    registry.send(latest("1.0.0")).await;
    let gone = TestRequest::new(http::Method::DELETE, "/npm/widget/-/1.0.0");
    assert_eq!(registry.send(gone).await.status, 200);
    let document = packument(&registry, "widget").await;
    assert_eq!((&document["dist-tags"]["latest"], &document["readme"]), (&json!("2.0.0"), &json!("three")));
}

#[tokio::test]
async fn a_large_tarball_goes_in_parts_and_leaves_no_crumbs() {
    for announced in [true, false] {
        let clock =
            crate::core::time::Clock::manual(crate::core::time::Timestamp::from_millis(1_790_000_000_000));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock).with_part_size(10_000));
        let registry = TestRegistry::with(json!({}), Some(Arc::clone(&store)), None).await;
        let mut seed = 7_u32;
        let noise: Vec<u8> = (0..100_000)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        let package = Package::new("widget", "1.0.0").file("noise", noise);
        let text = package.body().to_string().into_bytes();
        let request = |text: &[u8]| {
            let pieces: Vec<_> = text.chunks(4096).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            TestRequest::put("/npm/widget")
                .body(Body::stream(stream::iter(pieces), announced.then_some(text.len() as u64)))
        };
        let answer = registry.send(request(&text)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        check_whole(&registry, "widget").await;
        // Another one over it is refused and leaves nothing; a leftover in its place does not stop a new version.
        let other = package.clone().file("more", "x").body().to_string().into_bytes();
        assert_eq!(registry.send(request(&other)).await.status, 403);
        let keys = ["npm/packages/widget/index.json", "npm/packages/widget/widget-1.0.0.tgz"];
        assert_eq!(all_keys(&registry).await, keys);
        store
            .put(
                &crate::storage::Key::new("npm/packages/widget/widget-1.0.1.tgz").unwrap(),
                Bytes::from("leftover").into(),
                crate::storage::PutOptions::default(),
            )
            .await
            .unwrap();
        let next = Package { version: "1.0.1".to_owned(), ..package }.body().to_string().into_bytes();
        assert_eq!(registry.send(request(&next)).await.status, 201);
        check_whole(&registry, "widget").await;
    }
}

#[tokio::test]
async fn what_a_publish_costs_the_store() {
    let registry = TestRegistry::new().await;
    // Once in the life of a process it looks for the key that it signs with.
    registry.send(TestRequest::get("/npm/-/npm/v1/keys")).await;
    let count = || registry.store.requests();
    let start = count();
    publish(&registry, "widget", "1.0.0").await;
    // Tarball, a look for the packument, packument, entry in the index.
    assert_eq!(count() - start, 4);
    let start = count();
    publish(&registry, "widget", "1.0.1").await;
    // Tarball, packument and entry: this process knows the old ones.
    assert_eq!(count() - start, 3);
}

#[tokio::test]
async fn access_is_set_by_the_first_publish() {
    let registry =
        TestRegistry::with_users(json!({ "auth": { "jwtSecret": "test", "selfRegistration": true } }), &[])
            .await;
    let token = super::users::log_in(&registry, "bob", "right horse").await;
    let send = |version: &str, access: Value| {
        let mut body = Package::new("@acme/widget", version).body();
        body["access"] = access;
        TestRequest::put("/npm/@acme%2fwidget").token(&token).json(&body)
    };
    assert_eq!(registry.send(send("1.0.0", json!("restricted"))).await.status, 201);
    assert_eq!(registry.send(send("1.0.1", json!("public"))).await.status, 201);
    assert_eq!(registry.send(TestRequest::get("/npm/@acme/widget").anonymous()).await.status, 404);
    assert_eq!(
        registry.send(TestRequest::get("/npm/@acme/widget/-/widget-1.0.0.tgz").anonymous()).await.status,
        404
    );
    // `AuthManager.authorize` says the same; and does so of what is not there.
    let auth = registry.registry.auth();
    let bob = auth.validate_token(&Secret::new(token.clone()), Some("npm")).await.unwrap();
    for (token, name, action, may) in [
        (None, "@acme/widget", "read", false),
        (None, "nothing", "read", true),
        (None, "No Name", "read", true),
        (None, "nothing", "write", false),
        (bob.as_ref(), "@acme/widget", "read", true),
        (bob.as_ref(), "@acme/widget", "write", true),
    ] {
        let answer = auth.authorize(token, &format!("npm:package:{name}"), action).await.unwrap();
        assert_eq!(answer, may, "{name} {action}");
    }
    let own = registry.send(TestRequest::get("/npm/@acme/widget").token(&token)).await;
    assert_eq!((own.status, own.header("vary")), (200, Some("Accept, Accept-Encoding, Authorization")));
    let tarball = registry.send(TestRequest::get("/npm/@acme/widget/-/widget-1.0.0.tgz").token(&token)).await;
    assert!(tarball.header("cache-control").unwrap().starts_with("private"));
}
