//! Tags, deprecation, owners, stars and unpublishing, as the clients do them: with the whole packument sent back.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Method;

use super::*;
use crate::core::body::{Body, GivenJson};

fn delete(path: &str) -> TestRequest {
    TestRequest::new(Method::DELETE, path)
}

async fn editable(registry: &TestRegistry, name: &str) -> Value {
    registry.send(TestRequest::get(&format!("/npm/{name}?write=true"))).await.json()
}

#[tokio::test]
async fn tags_take_a_version_in_every_form() {
    let registry = TestRegistry::new().await;
    publish(&registry, "@acme/widget", "1.0.0").await;
    let path = "/npm/-/package/@acme%2fwidget/dist-tags";
    let pieces = vec![Ok(Bytes::from("\"1.0")), Ok(Bytes::from(".0\""))];
    let bodies: Vec<Body> = vec![
        "\"1.0.0\"".into(),
        "1.0.0".into(),
        " \"v1.0.0\"\n".into(),
        Body::stream(stream::iter(pieces), None),
        Body::Json(GivenJson { text: "\"1.0.0\"".into(), attachments: Vec::new() }),
    ];
    for (at, body) in bodies.into_iter().enumerate() {
        let method = if at % 2 == 0 { Method::PUT } else { Method::POST };
        let answer = registry.send(TestRequest::new(method, &format!("{path}/t{at}")).body(body)).await;
        assert_eq!((answer.status, &answer.json()["ok"]), (201, &json!(true)), "{at}: {}", answer.text());
        let tag = registry.send(TestRequest::get(&format!("{path}/t{at}"))).await;
        assert_eq!(tag.json(), "1.0.0");
    }
    let tags = registry.send(TestRequest::get(path)).await.json();
    assert_eq!(
        tags,
        json!({ "latest": "1.0.0", "t0": "1.0.0", "t1": "1.0.0", "t2": "1.0.0", "t3": "1.0.0", "t4": "1.0.0" })
    );

    let put = |tag: &str, body: &'static str| TestRequest::put(&format!("{path}/{tag}")).body(body);
    for (tag, body, status) in [
        ("beta", "\"9.9.9\"", 404),
        ("beta", "", 400),
        ("beta", "{}", 400),
        ("1.0.0", "\"1.0.0\"", 400),
        ("v1", "\"1.0.0\"", 400),
        ("*", "\"1.0.0\"", 400),
        ("__proto__", "\"1.0.0\"", 400),
    ] {
        assert_eq!(registry.send(put(tag, body)).await.status, status, "{tag} {body}");
    }
    assert_eq!(registry.send(put("beta", "\"1.0.0\"").token("reader")).await.status, 403);
    assert_eq!(registry.send(put("beta", "\"1.0.0\"").anonymous()).await.status, 401);
    assert_eq!(
        registry.send(TestRequest::put("/npm/-/package/none/dist-tags/beta").body("\"1.0.0\"")).await.status,
        404
    );

    assert_eq!(registry.send(delete(&format!("{path}/t0"))).await.status, 200);
    assert_eq!(registry.send(delete(&format!("{path}/t0"))).await.status, 404);
    assert_eq!(registry.send(delete(&format!("{path}/latest"))).await.status, 403);
    let merge = TestRequest::new(Method::POST, path).json(&json!({ "a": "1.0.0" }));
    assert_eq!(registry.send(merge).await.status, 201);
    let replace = TestRequest::put(path).json(&json!({ "b": "1.0.0" }));
    assert_eq!(registry.send(replace).await.status, 201);
    let tags = registry.send(TestRequest::get(path)).await.json();
    assert_eq!(tags, json!({ "latest": "1.0.0", "b": "1.0.0" }));
}

#[tokio::test]
async fn a_deprecation_changes_nothing_else() {
    let registry = TestRegistry::new().await;
    for version in ["1.0.0", "1.1.0"] {
        publish(&registry, "widget", version).await;
    }
    let before = packument(&registry, "widget").await;
    let mut sent = editable(&registry, "widget").await;
    // Meanwhile somebody else publishes and tags.
    publish(&registry, "widget", "1.2.0").await;
    registry.send(TestRequest::put("/npm/-/package/widget/dist-tags/beta").body("\"1.0.0\"")).await;
    registry.clock.advance(Duration::from_mins(1));
    sent["versions"]["1.0.0"]["deprecated"] = json!("too old");
    sent["versions"]["1.0.0"]["dist"] =
        json!({ "tarball": "http://evil.example.com", "integrity": "sha512-x" });
    sent["versions"]["9.9.9"] = json!({ "deprecated": "x" });
    sent["versions"].as_object_mut().unwrap().remove("1.1.0");
    sent["dist-tags"] = json!({});
    sent["maintainers"] = json!([{ "name": "eve" }]);
    sent["_attachments"] = json!({});
    let answer = registry.send(TestRequest::put("/npm/widget").json(&sent)).await;
    assert_eq!((answer.status, &answer.json()["ok"]), (201, &json!(true)));
    let after = packument(&registry, "widget").await;
    assert_eq!(after["versions"]["1.0.0"]["deprecated"], "too old");
    assert_eq!(
        after["versions"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["1.0.0", "1.1.0", "1.2.0"]
    );
    assert_eq!(after["versions"]["1.0.0"]["dist"], before["versions"]["1.0.0"]["dist"]);
    assert_eq!(after["dist-tags"], json!({ "latest": "1.2.0", "beta": "1.0.0" }));
    assert_eq!(after["maintainers"], before["maintainers"]);
    assert_eq!(after["time"]["modified"], "2026-09-21T14:14:20.000Z");
    check_whole(&registry, "widget").await;

    // An empty text takes it back; a version without the field stays as it is.
    sent["versions"]["1.0.0"]["deprecated"] = json!("");
    assert_eq!(registry.send(TestRequest::put("/npm/widget").json(&sent)).await.status, 201);
    let after = packument(&registry, "widget").await;
    assert!(after["versions"]["1.0.0"].get("deprecated").is_none());
    let rev = after["_rev"].clone();
    assert_eq!(registry.send(TestRequest::put("/npm/widget").json(&sent)).await.status, 201);
    assert_eq!(packument(&registry, "widget").await["_rev"], rev, "nothing changed, nothing is written");

    let unknown = json!({ "name": "widget", "versions": { "7.0.0": { "deprecated": "x" } } });
    assert_eq!(registry.send(TestRequest::put("/npm/widget").json(&unknown)).await.status, 404);
    assert_eq!(registry.send(TestRequest::put("/npm/widget").token("reader").json(&sent)).await.status, 403);
    assert_eq!(registry.send(TestRequest::put("/npm/nothing").json(&sent)).await.status, 404);
    assert_eq!(
        registry.send(TestRequest::put("/npm/widget").json(&json!({ "name": "widget" }))).await.status,
        400
    );
}

#[tokio::test]
async fn owners_are_changed_and_nothing_else() {
    let registry = TestRegistry::new().await;
    publish(&registry, "widget", "1.0.0").await;
    let rev = editable(&registry, "widget").await["_rev"].as_str().unwrap().to_owned();
    let put = |maintainers: Value| {
        let body = json!({ "_id": "widget", "_rev": rev, "maintainers": maintainers });
        TestRequest::put(&format!("/npm/widget/-rev/{rev}")).json(&body)
    };
    let two = json!([{ "name": "admin", "email": "" }, { "name": "eve", "email": "eve@example.com" }]);
    assert_eq!(registry.send(put(two.clone())).await.status, 201);
    let document = packument(&registry, "widget").await;
    assert_eq!(
        (&document["maintainers"], &document["versions"]["1.0.0"]["version"]),
        (&two, &json!("1.0.0"))
    );
    assert_eq!(registry.send(put(json!([]))).await.status, 400);
    assert_eq!(registry.send(put(two.clone()).token("reader")).await.status, 403);
    // Made from an older list: whoever was added since would be lost. The same list again is fine.
    assert_eq!(registry.send(put(json!([{ "name": "admin" }]))).await.status, 409);
    assert_eq!(registry.send(put(two)).await.status, 201);
    // Yarn 1 sees neither revision nor owners, and sends whom it adds.
    let yarn = json!({ "maintainers": [{ "name": "bob", "email": "" }] });
    assert_eq!(registry.send(TestRequest::put("/npm/widget/-rev/undefined").json(&yarn)).await.status, 201);
    let people = packument(&registry, "widget").await["maintainers"].clone();
    let names: Vec<_> = people.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["admin", "eve", "bob"]);
}

#[tokio::test]
async fn a_star_is_ones_own_and_needs_no_right_to_write() {
    let registry = TestRegistry::new().await;
    publish(&registry, "widget", "1.0.0").await;
    let put = |user: &str, users: Value| {
        TestRequest::put("/npm/widget")
            .token(&format!("user:{user}"))
            .json(&json!({ "_id": "widget", "_rev": "1-x", "users": users }))
    };
    assert_eq!(registry.send(put("bob", json!({ "bob": true, "eve": true }))).await.status, 201);
    assert_eq!(packument(&registry, "widget").await["users"], json!({ "bob": true }));
    assert_eq!(registry.send(put("eve", json!({ "eve": true }))).await.status, 201);
    assert_eq!(registry.send(put("bob", json!({ "eve": true }))).await.status, 201);
    assert_eq!(packument(&registry, "widget").await["users"], json!({ "eve": true }));
    assert_eq!(registry.send(put("x", json!({})).anonymous()).await.status, 401);
    // Neither a publish nor a deprecation passes as a star.
    assert_eq!(registry.send(Package::new("widget", "2.0.0").put().token("user:bob")).await.status, 403);
    let mixed = json!({ "users": { "bob": true }, "versions": { "1.0.0": { "deprecated": "x" } } });
    assert_eq!(
        registry.send(TestRequest::put("/npm/widget").token("user:bob").json(&mixed)).await.status,
        403
    );
    assert_eq!(packument(&registry, "widget").await["users"], json!({ "eve": true }));
}

#[tokio::test]
async fn one_version_is_unpublished() {
    let registry = TestRegistry::new().await;
    for version in ["1.0.0", "1.1.0", "1.2.0-rc.1"] {
        publish(&registry, "@acme/widget", version).await;
    }
    registry.send(TestRequest::put("/npm/-/package/@acme%2fwidget/dist-tags/latest").body("\"1.1.0\"")).await;
    let mut sent = editable(&registry, "@acme/widget").await;
    let rev = sent["_rev"].as_str().unwrap().to_owned();
    sent["versions"].as_object_mut().unwrap().remove("1.1.0");
    sent["dist-tags"]["latest"] = json!("1.0.0");
    let put = |rev: &str| TestRequest::put(&format!("/npm/@acme%2fwidget/-rev/{rev}")).json(&sent);
    assert_eq!(registry.send(put(&rev).token("reader")).await.status, 403);
    let stale = registry.send(put("1-0123")).await;
    assert_eq!((stale.status, &stale.json()["error"]), (409, &json!("conflict")));
    assert_eq!(registry.send(put(&rev)).await.status, 201);
    let document = packument(&registry, "@acme/widget").await;
    // Its answer may have been lost; whoever else has the old list is told.
    registry.clock.advance(Duration::from_secs(30));
    assert_eq!(registry.send(put(&rev)).await.status, 201);
    assert_eq!(packument(&registry, "@acme/widget").await, document);
    assert_eq!(document["versions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["1.0.0", "1.2.0-rc.1"]);
    assert_eq!(document["dist-tags"], json!({ "latest": "1.0.0" }));
    assert!(document["time"].get("1.1.0").is_none());
    // npm's second step finds the tarball gone already.
    let path = "/npm/@acme/widget/-/widget-1.1.0.tgz";
    assert_eq!(registry.send(delete(&format!("{path}/-rev/{rev}"))).await.status, 200);
    assert_eq!(registry.send(TestRequest::get(path)).await.status, 404);
    assert_eq!(registry.send(delete("/npm/@acme/widget/-/widget-1.0.0.tgz/-rev/x")).await.status, 409);
    let keys = registry.keys(false).await;
    assert!(!keys.iter().any(|key| key.contains("1.1.0")), "{keys:?}");
    // The version never comes back: lockfiles name its hash.
    for package in
        [Package::new("@acme/widget", "1.1.0"), Package::new("@acme/widget", "1.1.0").file("x", "y")]
    {
        let again = registry.send(package.put()).await;
        assert_eq!(error_of(&again), "You cannot publish over the previously published versions: 1.1.0.");
        assert_eq!(again.status, 403);
    }
    assert_eq!(registry.keys(false).await, keys);
    check_whole(&registry, "@acme/widget").await;
}

#[tokio::test]
async fn a_whole_package_is_unpublished() {
    let registry = TestRegistry::new().await;
    for version in ["1.0.0", "1.1.0"] {
        publish(&registry, "widget", version).await;
    }
    let rev = editable(&registry, "widget").await["_rev"].as_str().unwrap().to_owned();
    let path = format!("/npm/widget/-rev/{rev}");
    assert_eq!(registry.send(delete(&path).token("reader")).await.status, 403);
    assert_eq!(registry.send(delete("/npm/widget/-rev/1-x")).await.status, 409);
    let empty = TestRequest::put(&path).json(&json!({ "versions": {} }));
    assert_eq!(registry.send(empty).await.status, 400);
    assert_eq!(registry.send(delete(&path)).await.status, 200);
    assert_eq!(registry.keys(false).await, ["npm/packages/widget/index.json"]);
    let document = packument(&registry, "widget").await;
    assert_eq!(document["time"]["unpublished"]["name"], "admin");
    assert_eq!(document["time"]["unpublished"]["versions"], json!(["1.0.0", "1.1.0"]));
    assert!(document.get("versions").is_none());
    registry.clock.advance(Duration::from_secs(30));
    for again in [path.as_str(), "/npm/widget/-rev/7"] {
        assert_eq!(registry.send(delete(again)).await.status, 200, "{again}");
    }
    assert_eq!(packument(&registry, "widget").await, document);
    assert_eq!(registry.send(TestRequest::get("/npm/widget/latest")).await.status, 404);
    assert_eq!(registry.send(Package::new("widget", "1.0.0").put()).await.status, 403);
    publish(&registry, "widget", "2.0.0").await;
    let document = packument(&registry, "widget").await;
    assert_eq!(
        (&document["dist-tags"], document["time"].get("unpublished")),
        (&json!({ "latest": "2.0.0" }), None)
    );
    assert_eq!(registry.send(delete("/npm/nothing/-rev/1-x")).await.status, 404);
}

#[tokio::test]
async fn programs_unpublish_without_having_seen_a_revision() {
    let registry = TestRegistry::new().await;
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        publish(&registry, "@acme/widget", version).await;
    }
    assert_eq!(registry.send(delete("/npm/@acme/widget/-/1.1.0").token("reader")).await.status, 403);
    assert_eq!(registry.send(delete("/npm/@acme/widget/-/3.0.0")).await.status, 404);
    assert_eq!(registry.send(delete("/npm/@acme%2fwidget/-/2.0.0")).await.status, 200);
    let document = packument(&registry, "@acme/widget").await;
    assert_eq!(document["versions"].as_object().unwrap().len(), 2);
    assert_eq!(document["dist-tags"], json!({ "latest": "1.1.0" }));
    check_whole(&registry, "@acme/widget").await;
    assert_eq!(registry.send(delete("/npm/@acme/widget/-rev/1")).await.status, 200);
    assert_eq!(registry.keys(false).await, ["npm/packages/@acme/widget/index.json"]);
    assert_eq!(registry.send(delete("/npm/nothing/-rev/1")).await.status, 404);
}

#[tokio::test]
async fn search_says_what_is_there() {
    let registry = TestRegistry::new().await;
    let left = Package::new("left-pad", "1.0.0").fields(json!({
        "description": "pads", "keywords": ["pad"], "license": "MIT", "author": { "name": "bob" }, "homepage": "https://example.com",
    }));
    registry.send(left.put()).await;
    for name in ["@acme/pad", "@acme/other", "zebra"] {
        publish(&registry, name, "1.0.0").await;
    }
    let search = async |query: &str| {
        registry.send(TestRequest::get(&format!("/npm/-/v1/search?{query}"))).await.json()
    };
    let names = |answer: &Value| -> Vec<String> {
        let objects = answer["objects"].as_array().unwrap();
        objects.iter().map(|one| one["package"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let pads = search("text=pad&size=20&from=0&quality=0.65&popularity=0.98&maintenance=0.5").await;
    assert_eq!(names(&pads), ["@acme/pad", "left-pad"]);
    assert!(pads["total"] == 2 && pads["time"].is_string() && pads.get("incomplete").is_none());
    let package = &pads["objects"][1]["package"];
    assert_eq!(package["maintainers"], json!([{ "username": "admin", "email": "" }]));
    assert_eq!(package["publisher"]["username"], "admin");
    for (field, value) in
        [("scope", "unscoped"), ("version", "1.0.0"), ("description", "pads"), ("license", "MIT")]
    {
        assert_eq!(package[field], value);
    }
    assert!(
        package["date"].is_string() && package["keywords"].is_array() && package["links"]["npm"].is_string()
    );
    let page = search("text=&size=1&from=1").await;
    assert_eq!((names(&page).len(), &page["total"]), (1, &json!(4)));
    assert_eq!(names(&search("text=scope:acme").await), ["@acme/other", "@acme/pad"]);
    assert_eq!(names(&search("text=pad+author:bob").await), ["left-pad"]);
    assert_eq!(names(&search("text=keywords:pad").await), ["left-pad"]);
    assert_eq!(search("text=maintainer:admin+not:deprecated").await["total"], 4);
    assert_eq!(search("text=is:unstable").await["total"], 0);
    assert_eq!(search("text=nothing").await["total"], 0);
    let beyond = search("text=pad&from=10000").await;
    assert_eq!((names(&beyond).len(), &beyond["total"]), (0, &json!(2)));
    let long = format!("text={}", "x".repeat(600));
    for refused in [long.as_str(), "text=pad&from=1000000000000000", "from=18446744073709551615"] {
        let answer = registry.send(TestRequest::get(&format!("/npm/-/v1/search?{refused}"))).await;
        assert_eq!(answer.status, 400, "{refused}");
    }
}

#[tokio::test]
async fn audits_are_answered_with_nothing_known() {
    let registry = TestRegistry::new().await;
    let post = |path: &str, body: Vec<u8>| {
        TestRequest::new(Method::POST, &format!("/npm/-/npm/v1/security/{path}")).anonymous().body(body)
    };
    let list = json!({ "widget": ["1.0.0"] }).to_string().into_bytes();
    assert_eq!(registry.send(post("advisories/bulk", list.clone())).await.json(), json!({}));
    let packed = post("advisories/bulk", gzip(&list)).header("content-encoding", "gzip");
    assert_eq!(registry.send(packed).await.json(), json!({}));
    for path in ["audits", "audits/quick"] {
        let answer = registry.send(post(path, list.clone())).await;
        assert_eq!((answer.status, &answer.json()["metadata"]["totalDependencies"]), (200, &json!(0)));
    }
    assert_eq!(registry.send(post("audits", b"nonsense".to_vec())).await.status, 400);
    let bomb = post("advisories/bulk", gzip(&vec![b' '; 11 << 20])).header("content-encoding", "gzip");
    assert_eq!(registry.send(bomb).await.status, 413);
}

#[tokio::test]
async fn other_methods_and_paths() {
    let registry = TestRegistry::new().await;
    let patch = registry.send(TestRequest::new(Method::PATCH, "/npm/widget")).await;
    assert_eq!((patch.status, patch.header("allow")), (405, Some("GET, HEAD, PUT")));
    for path in ["/npm/-/nothing", "/npm/-", "/npm/widget/-/", "/npm/pnpm", "/npm/npm", "/npm/favicon.ico"] {
        let answer = registry.send(TestRequest::get(path)).await;
        assert_eq!(answer.status, 404, "{path}");
        error_of(&answer);
    }
    // A host-wide path that npm and pnpm hard-code reaches us, and says no in our format.
    let exchange = TestRequest::new(Method::POST, "/-/npm/v1/oidc/token/exchange/package/widget").anonymous();
    let answer = registry.send(exchange).await;
    assert_eq!(answer.status, 404);
    assert!(answer.json()["message"].is_string());
}

#[tokio::test]
async fn stars_are_listed_by_user() {
    let registry = TestRegistry::new().await;
    for name in ["@acme/widget", "gadget"] {
        publish(&registry, name, "1.0.0").await;
    }
    let star = |name: &str, user: &str, on: bool| {
        TestRequest::put(&format!("/npm/{}", name.replace('/', "%2f")))
            .token(&format!("user:{user}"))
            .json(&json!({ "_id": name, "_rev": "1-x", "users": if on { json!({ user: true }) } else { json!({}) } }))
    };
    let of = async |user: &str| {
        let path = format!("/npm/-/_view/starredByUser?key=%22{user}%22");
        let answer = registry.send(TestRequest::get(&path)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let rows = answer.json()["rows"].as_array().unwrap().clone();
        rows.iter().map(|row| row["value"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for name in ["@acme/widget", "gadget"] {
        assert_eq!(registry.send(star(name, "bob", true)).await.status, 201);
    }
    assert_eq!(registry.send(star("gadget", "eve", true)).await.status, 201);
    assert_eq!(
        (of("bob").await, of("eve").await),
        (vec!["@acme/widget".to_owned(), "gadget".to_owned()], vec!["gadget".to_owned()])
    );
    assert_eq!(registry.send(star("gadget", "bob", false)).await.status, 201);
    assert_eq!(of("bob").await, ["@acme/widget"]);
    assert!(of("nobody").await.is_empty());
    assert_eq!(registry.send(TestRequest::get("/npm/-/_view/starredByUser")).await.status, 400);
    // A package that is gone is starred by nobody.
    let rev = editable(&registry, "@acme/widget").await["_rev"].as_str().unwrap().to_owned();
    registry.send(delete(&format!("/npm/@acme%2fwidget/-rev/{rev}"))).await;
    registry.send(TestRequest::get("/npm/-/_view/starredByUser?key=%22bob%22")).await;
}

fn advisory(range: &str) -> Value {
    json!({
        "id": 1_234, "url": "https://advisories.example.com/GHSA-aaaa-bbbb-cccc", "title": "bad thing", "severity": "critical",
        "vulnerable_versions": range, "cwe": ["CWE-79"], "cvss": { "score": 9.8, "vectorString": null },
    })
}

#[tokio::test]
async fn a_known_vulnerability_is_reported() {
    let config = json!({ "npm": { "enabled": true, "basePath": "/npm", "advisories": { "widget": [advisory("<1.2.0")] } } });
    let registry = TestRegistry::with(config, None, None).await;
    // The operator's list in the storage, sparsely filled in.
    let list =
        json!({ "gadget": [{ "vulnerable_versions": "1.x", "title": "t" }], "widget": [advisory("<1.2.0")] });
    let key = crate::storage::Key::new("npm/advisories.json").unwrap();
    registry
        .store
        .put(&key, Bytes::from(list.to_string()).into(), crate::storage::PutOptions::default())
        .await
        .unwrap();
    let post = |path: &str, body: &Value| {
        TestRequest::new(Method::POST, &format!("/npm/-/npm/v1/security/{path}")).anonymous().json(body)
    };
    let asked =
        json!({ "widget": ["1.1.0", "1.2.0"], "gadget": ["1.0.1-rc.1", "2.0.0"], "other": ["1.0.0"] });
    let answer = registry.send(post("advisories/bulk", &asked)).await.json();
    assert_eq!(answer["widget"], json!([advisory("<1.2.0")]), "once, though it is in both lists");
    let gadget = &answer["gadget"][0];
    assert!(gadget["id"].is_number() && gadget["url"].is_string() && gadget["cvss"].is_object());
    assert_eq!(gadget["severity"], "high");
    assert_eq!(answer.as_object().unwrap().len(), 2);
    let fine = json!({ "widget": ["1.2.0"], "gadget": ["2.0.0"], "constructor": ["1.0.0"], "x": "y" });
    assert_eq!(registry.send(post("advisories/bulk", &fine)).await.json(), json!({}));

    let tree = json!({
        "name": "project", "version": "1.0.0", "requires": { "outer": "1" },
        "dependencies": {
            "outer": { "version": "1.0.0", "dependencies": { "widget": { "version": "1.1.0" } } },
            "widget": { "version": "1.2.0", "dev": true },
        },
    });
    for path in ["audits", "audits/quick"] {
        let answer = registry.send(post(path, &tree)).await.json();
        let found = &answer["advisories"]["1234"];
        assert_eq!(
            found["findings"],
            json!([{ "version": "1.1.0", "paths": ["outer>widget"], "dev": false, "optional": false, "bundled": false }])
        );
        assert_eq!(
            (&found["module_name"], &found["cwe"], &found["github_advisory_id"]),
            (&json!("widget"), &json!("CWE-79"), &json!("GHSA-aaaa-bbbb-cccc"))
        );
        assert_eq!(answer["metadata"]["vulnerabilities"]["critical"], 1);
        assert_eq!(
            (&answer["metadata"]["totalDependencies"], &answer["metadata"]["devDependencies"]),
            (&json!(3), &json!(1))
        );
        assert_eq!(answer["actions"][0]["resolves"][0]["path"], "outer>widget");
    }
    // A list that can't be read breaks no install.
    registry
        .store
        .put(&key, Bytes::from("nonsense").into(), crate::storage::PutOptions::default())
        .await
        .unwrap();
    let other = TestRegistry::with(json!({}), Some(std::sync::Arc::clone(&registry.store)), None).await;
    assert_eq!(other.send(post("advisories/bulk", &asked)).await.json(), json!({}));
}

#[tokio::test]
async fn browsers_may_ask() {
    let registry = TestRegistry::new().await;
    let preflight = TestRequest::new(Method::OPTIONS, "/npm/@acme%2fwidget").anonymous();
    let answer = registry.send(preflight).await;
    assert_eq!((answer.status, answer.header("allow")), (204, Some("GET, HEAD, PUT, OPTIONS")));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("GET, HEAD, PUT"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert!(answer.header("access-control-allow-credentials").is_none());
    assert_eq!(registry.send(TestRequest::new(Method::OPTIONS, "/npm/-/nothing")).await.status, 404);
    let config = json!({ "npm": { "enabled": true, "basePath": "/npm", "features": { "cors": false } } });
    let closed = TestRegistry::with(config, None, None).await;
    let answer = closed.send(TestRequest::new(Method::OPTIONS, "/npm/widget")).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, None));
    for (method, path, allow) in [
        (Method::PATCH, "/npm/widget/-/widget-1.0.0.tgz", "GET, HEAD, DELETE"),
        (Method::POST, "/npm/-/npm/v1/keys", "GET, HEAD"),
        (Method::GET, "/npm/-/pnpm/v1/publish", "PUT"),
        (Method::PUT, "/npm/-/stage", "GET, HEAD"),
    ] {
        let answer = registry.send(TestRequest::new(method, path)).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{path}");
    }
    // What npm 1 and 2 sent is no longer there.
    for path in ["/npm/widget/-/widget-1.0.0.tgz/x", "/npm/widget/1.0.0/-tag/latest"] {
        assert!(matches!(registry.send(TestRequest::put(path).body("{}")).await.status, 404 | 405), "{path}");
    }
}

#[tokio::test]
async fn several_versions_are_unpublished_at_once() {
    let registry = TestRegistry::new().await;
    for version in ["1.0.0", "1.1.0", "1.2.0", "2.0.0"] {
        publish(&registry, "widget", version).await;
    }
    let document = editable(&registry, "widget").await;
    let rev = document["_rev"].as_str().unwrap().to_owned();
    // As pnpm 12 sends it: no `_id`, and the versions' bodies are no wish.
    let mut versions = document["versions"].clone();
    for gone in ["1.1.0", "2.0.0"] {
        versions.as_object_mut().unwrap().remove(gone);
    }
    versions["1.0.0"]["dist"] = json!({ "tarball": "http://evil.example.com" });
    versions["1.0.0"]["deprecated"] = json!("no wish of an unpublish");
    let body =
        json!({ "name": "widget", "_rev": rev, "dist-tags": { "latest": "1.2.0" }, "versions": versions });
    let put = TestRequest::put(&format!("/npm/widget/-rev/{rev}")).json(&body);
    assert_eq!(registry.send(put).await.status, 201);
    let after = packument(&registry, "widget").await;
    assert_eq!(after["versions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["1.0.0", "1.2.0"]);
    assert_eq!(after["dist-tags"], json!({ "latest": "1.2.0" }));
    assert_eq!(after["versions"]["1.0.0"], document["versions"]["1.0.0"]);
    for gone in ["1.1.0", "2.0.0"] {
        // npm 6 says the base path twice.
        for base in ["/npm", "/npm/npm"] {
            let path = format!("{base}/widget/-/widget-{gone}.tgz/-rev/{rev}");
            assert_eq!(registry.send(delete(&path)).await.status, 200, "{path}");
        }
    }
    assert_eq!(registry.keys(false).await.iter().filter(|key| key.contains(".tgz")).count(), 2);
    check_whole(&registry, "widget").await;
}

#[tokio::test]
async fn owners_and_stars_as_pnpm_12_sets_them() {
    let registry = TestRegistry::new().await;
    publish(&registry, "@acme/widget", "1.0.0").await;
    let owners = "/npm/-/package/@acme%2fwidget/owners";
    let add = |user: &str| TestRequest::put(owners).json(&json!({ "user": user }));
    for _ in 0..2 {
        assert_eq!(registry.send(add("bob")).await.status, 201);
    }
    let names = async || {
        let people = packument(&registry, "@acme/widget").await["maintainers"].as_array().unwrap().clone();
        people.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["admin", "bob"]);
    assert_eq!(registry.send(add("eve").token("user:eve")).await.status, 403);
    assert_eq!(registry.send(TestRequest::put(owners).json(&json!({}))).await.status, 400);
    assert_eq!(registry.send(delete(&format!("{owners}/bob"))).await.status, 200);
    assert_eq!(registry.send(delete(&format!("{owners}/admin"))).await.status, 400);
    assert_eq!(names().await, ["admin"]);

    let star = |method: Method, name: &str, token: &str| {
        TestRequest::new(method, "/npm/-/user/v1/star")
            .token(token)
            .json(&json!({ "name": name, "package": name }))
    };
    assert_eq!(registry.send(star(Method::PUT, "@acme/widget", "user:bob")).await.status, 201);
    assert_eq!(registry.send(star(Method::PUT, "@acme/widget", "reader")).await.status, 403);
    assert_eq!(registry.send(star(Method::PUT, "nothing", "user:bob")).await.status, 404);
    assert_eq!(registry.send(star(Method::PUT, "@acme/widget", "x").anonymous()).await.status, 401);
    for path in ["/npm/-/user/v1/star", "/npm/-/user/bob/stars"] {
        let answer = registry.send(TestRequest::get(path).token("user:bob")).await;
        assert_eq!(answer.json(), json!(["@acme/widget"]), "{path}");
    }
    assert_eq!(registry.send(star(Method::DELETE, "@acme/widget", "user:bob")).await.status, 201);
    assert_eq!(registry.send(TestRequest::get("/npm/-/user/bob/stars")).await.json(), json!([]));
}
