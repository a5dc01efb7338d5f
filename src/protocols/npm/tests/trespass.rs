//! Attacks on what is somebody else's: rights, packages, answers, the next reader's program. [`super::attacks`] has those by broken bodies.

use flate2::Compression;
use flate2::write::GzEncoder;
use http::Method;

use super::users::log_in;
use super::*;
use crate::auth::TokenOptions;

/// The built-in users; packages of `@acme` are private.
async fn registry() -> TestRegistry {
    let auth = json!({
        "jwtSecret": "test",
        "selfRegistration": true,
        "visibility": [{ "pattern": "npm:package:@acme/*", "visibility": "private" }],
    });
    TestRegistry::with_users(json!({ "auth": auth }), &[]).await
}

/// A user, and a token of theirs for this scope and no other.
async fn scoped(registry: &TestRegistry, user: &str, scope: &str) -> String {
    log_in(registry, user, "right horse").await;
    let options = TokenOptions { scopes: vec![scope.to_owned()], ..TokenOptions::default() };
    registry
        .registry
        .auth()
        .create_token(user, super::super::NAME, &options)
        .await
        .unwrap()
        .expose()
        .to_owned()
}

#[tokio::test]
async fn keys_that_reach_a_prototype() {
    let registry = TestRegistry::new().await;
    let package = Package::new("widget", "1.0.0");
    for key in ["__proto__", "constructor", "prototype"] {
        for place in ["versions", "dist-tags", "users", "_attachments", "time"] {
            let mut body = package.body();
            body[place][key] = json!({ "polluted": "yes" });
            let answer = registry.send(TestRequest::put("/npm/widget").json(&body)).await;
            assert_eq!(answer.status, 400, "{place}.{key}: {}", answer.text());
        }
        let tag = format!("/npm/-/package/widget/dist-tags/{key}");
        assert_eq!(registry.send(TestRequest::put(&tag).body("\"1.0.0\"")).await.status, 400, "{key}");
    }
    assert!(all_keys(&registry).await.is_empty());
    // Another program has stored one: it is not handed on.
    let stored = r#"{"name":"widget","dist-tags":{"latest":"1.0.0","__proto__":"1.0.0"},
        "versions":{"__proto__":{"polluted":"yes"},"1.0.0":{"name":"widget","version":"1.0.0"}},"time":{"__proto__":"x"}}"#;
    let key = crate::storage::Key::new("npm/packages/widget/index.json").unwrap();
    let options = crate::storage::PutOptions::default();
    registry.store.put(&key, bytes::Bytes::from_static(stored.as_bytes()).into(), options).await.unwrap();
    for accept in ["*/*", "application/vnd.npm.install-v1+json"] {
        let answer = registry.send(TestRequest::get("/npm/widget").header("accept", accept)).await;
        assert!(answer.status == 200 && !answer.text().contains("__proto__"), "{}", answer.text());
    }
}

#[tokio::test]
async fn credentials_in_a_tarballs_url_are_kept_nowhere_and_nobody_goes_there() {
    let registry = TestRegistry::new().await;
    let mut body = Package::new("widget", "1.0.0").body();
    // The cloud's own address for keys, with a password in front.
    let url = "http://bob:hunter2@169.254.169.254/latest/meta-data/x.tgz";
    body["versions"]["1.0.0"]["dist"]["tarball"] = json!(url);
    assert_eq!(registry.send(TestRequest::put("/npm/widget").json(&body)).await.status, 201);
    let mut seen = String::new();
    for key in all_keys(&registry).await {
        let key = crate::storage::Key::new(key).unwrap();
        let found = registry.store.get(&key, crate::storage::GetOptions::default()).await.unwrap();
        let body =
            crate::core::body::Body::stream(found.body, None).into_bytes("object", u64::MAX).await.unwrap();
        seen.push_str(&String::from_utf8_lossy(&body));
    }
    seen.push_str(&registry.send(TestRequest::get("/npm/widget")).await.text());
    assert!(!seen.contains("hunter2") && !seen.contains("169.254"), "{seen}");
    check_whole(&registry, "widget").await;
}

#[tokio::test]
async fn bodies_that_unfold() {
    let limits = json!({ "packument": 1 << 20, "metadata": 1 << 20, "smallBody": 4096, "unpacked": 1 << 20 });
    let registry = TestRegistry::with(json!({ "limits": limits }), None, None).await;
    let spaces = gzip(&vec![b' '; 32 << 20]);
    let sent = |request: TestRequest| request.header("content-encoding", "gzip").body(spaces.clone());
    let post = |path: &str| TestRequest::new(Method::POST, path);
    for request in [
        TestRequest::put("/npm/widget"),
        TestRequest::put("/npm/-/user/org.couchdb.user:bob"),
        post("/npm/-/npm/v1/security/advisories/bulk"),
        TestRequest::put("/npm/-/pnpm/v1/publish"),
    ] {
        let answer = registry.send(sent(request)).await;
        assert_eq!(answer.status, 413, "{}", answer.text());
    }
    // In two layers each of which is harmless.
    let twice = gzip(&spaces);
    for coding in ["gzip, gzip", "gzip,deflate", "br", "deflate"] {
        let request = TestRequest::put("/npm/widget").header("content-encoding", coding).body(twice.clone());
        assert_eq!(registry.send(request).await.status, 415, "{coding}");
    }
    // A tarball, a thousand times as large inside; and one whose members are.
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    let json = br#"{"name":"widget","version":"1.0.0"}"#;
    for (path, content) in [("package/package.json", &json[..]), ("package/zeros", &vec![0; 16 << 20])] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content).unwrap();
    }
    let bomb = builder.into_inner().unwrap().finish().unwrap();
    let mut members = Package::new("widget", "1.0.0").tgz();
    members.extend(std::iter::repeat_n(gzip(&vec![0; 1 << 20]), 16).flatten());
    for tarball in [bomb, members] {
        let answer = registry.send(Package::new("widget", "1.0.0").tarball(tarball).put()).await;
        assert_eq!(answer.status, 413, "{}", answer.text());
    }
    assert!(all_keys(&registry).await.is_empty());
}

#[tokio::test]
async fn texts_that_would_keep_a_matcher_busy() {
    let registry = TestRegistry::new().await;
    publish(&registry, "widget", "1.0.0").await;
    let began = std::time::Instant::now();
    let long = format!("1.0.0-{}", "a".repeat(300));
    let mut body = Package::new("widget", "1.0.1").body();
    let manifest = body["versions"]["1.0.1"].take();
    body["versions"] = json!({ long.as_str(): manifest });
    assert_eq!(registry.send(TestRequest::put("/npm/widget").json(&body)).await.status, 400);
    for range in [
        long.clone(),
        "||".repeat(120),
        format!("{}1", ">".repeat(250)),
        "1 ".repeat(120),
        format!("1{}", ".x".repeat(120)),
        " ".repeat(4000),
        "9".repeat(4000),
        format!("^{}", "1.".repeat(1900)),
    ] {
        let path = format!("/npm/widget/{}", range.replace(' ', "%20").replace('|', "%7C"));
        let answer = registry.send(TestRequest::get(&path)).await;
        assert!(matches!(answer.status, 200 | 400 | 404), "{range}: {}", answer.status);
        let audit = json!({ "widget": [range] });
        let bulk = TestRequest::new(Method::POST, "/npm/-/npm/v1/security/advisories/bulk").json(&audit);
        assert_eq!(registry.send(bulk).await.status, 200);
    }
    let search =
        |text: &str| TestRequest::get("/npm/-/v1/search").query(&format!("text={}", text.replace(' ', "+")));
    assert_eq!(registry.send(search(&"a".repeat(513))).await.status, 400);
    assert_eq!(registry.send(search(&"a ".repeat(256))).await.status, 200);
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_only_some_may_see_is_kept_by_no_shared_cache_and_looks_like_nothing_to_others() {
    let registry = registry().await;
    let owner = log_in(&registry, "ann", "right horse").await;
    let other = scoped(&registry, "eve", "npm:package:@eve/*:write").await;
    let package = Package::new("@acme/widget", "1.0.0");
    assert_eq!(registry.send(package.put().token(&owner)).await.status, 201);
    let paths = |name: &str| {
        [
            format!("/npm/{name}"),
            format!("/npm/{name}?write=true"),
            format!("/npm/{name}/1.0.0"),
            format!("/npm/{name}/latest"),
            format!("/npm/{name}/-/widget-1.0.0.tgz"),
            format!("/npm/-/package/{name}/dist-tags"),
            format!("/npm/-/package/{name}/dist-tags/latest"),
            format!("/npm/-/package/{name}/collaborators"),
            format!("/npm/-/package/{name}/visibility"),
            format!("/npm/-/npm/v1/attestations/{name}@1.0.0"),
        ]
    };
    for (there, missing) in paths("@acme%2fwidget").iter().zip(paths("@acme%2fnothing")) {
        // Whoever has it, has it for themselves.
        let seen = registry.send(TestRequest::get(there).token(&owner)).await;
        let kept = seen.header("cache-control").unwrap_or_default();
        assert!(kept.starts_with("private") || kept == "no-store", "{there}: {kept:?}");
        for token in [None, Some(other.as_str()), Some("stale")] {
            let ask = |path: &str| match token {
                None => TestRequest::get(path).anonymous(),
                Some(token) => TestRequest::get(path).token(token),
            };
            let (hidden, none) = (registry.send(ask(there)).await, registry.send(ask(&missing)).await);
            let headers = |answer: &TestResponse| {
                ["www-authenticate", "cache-control", "etag", "vary"]
                    .map(|name| answer.header(name).map(str::to_owned))
            };
            assert!(hidden.status == 404 || hidden.status == 401, "{there} {token:?}: {}", hidden.status);
            assert_eq!((hidden.status, hidden.text()), (none.status, none.text()), "{there} {token:?}");
            assert_eq!(headers(&hidden), headers(&none), "{there} {token:?}");
        }
    }
    let found = registry.send(TestRequest::get("/npm/-/v1/search?text=widget").token(&other)).await.json();
    assert_eq!((&found["total"], &found["objects"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn nothing_that_was_published_runs_on_the_registrys_origin() {
    let registry = TestRegistry::new().await;
    let script = "<script>alert(document.cookie)</script>";
    let package = Package::new("widget", "1.0.0")
        .fields(json!({ "readme": script, "description": script, "deprecated": script }))
        .file("index.html", script);
    assert_eq!(registry.send(package.put()).await.status, 201);
    for path in [
        "/npm/widget",
        "/npm/widget/1.0.0",
        "/npm/widget/-/widget-1.0.0.tgz",
        "/npm/-/package/widget/dist-tags",
        "/npm/-/v1/search?text=widget",
        "/npm/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/npm/widget/%3Cscript%3E",
        "/npm/-/user/%3Cscript%3E",
    ] {
        // As a page would ask for it.
        let request = TestRequest::get(path).header("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        let answer = registry.send(request).await;
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(["application/json", "application/octet-stream"].contains(&kind), "{path}: {kind}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

#[tokio::test]
async fn nothing_that_a_client_wrote_begins_a_new_line() {
    let registry = TestRegistry::new().await;
    let evil = "x\r\nset-cookie: a=b\r\n\r\n\u{1b}[31m<b>";
    let package = Package::new("widget", "1.0.0").fields(json!({ "deprecated": evil, "description": evil }));
    assert_eq!(registry.send(package.put()).await.status, 201);
    let tag = TestRequest::put("/npm/-/package/widget/dist-tags/next").json(&json!(evil));
    let login =
        TestRequest::put("/npm/-/user/org.couchdb.user:bob").json(&json!({ "name": evil, "password": evil }));
    let answers = [
        registry.send(TestRequest::get("/npm/widget")).await,
        registry.send(TestRequest::get("/npm/widget/x%0d%0aset-cookie:%20a=b")).await,
        registry.send(TestRequest::get("/npm/x%0d%0aset-cookie:%20a=b")).await,
        registry.send(TestRequest::get("/npm/widget/1.0.0").query("x=%0d%0aset-cookie:a")).await,
        registry.send(tag).await,
        registry.send(login).await,
    ];
    for answer in answers {
        assert!(answer.header("set-cookie").is_none());
        let text = answer.text();
        assert!(!text.bytes().any(|byte| byte < 0x20), "{text:?}");
    }
}

#[tokio::test]
async fn names_that_look_like_others_are_nobodys() {
    let registry = TestRegistry::new().await;
    for name in [
        "wid%67et%E2%80%8B",
        "%D0%B0dmin",
        "wi%C4%91get",
        "%EF%BC%B7idget",
        "widget%C2%A0",
        "%E2%80%AEtegdiw",
        "wi%ED%A0%80",
    ] {
        let answer = registry
            .send(TestRequest::put(&format!("/npm/{name}")).json(&Package::new("widget", "1.0.0").body()))
            .await;
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
    }
    assert!(all_keys(&registry).await.is_empty());
}

/// `CouchDB` gave admin rights to who sent `roles` twice (CVE-2017-12635), Harbor to who sent its field for them (CVE-2019-16097).
#[tokio::test]
async fn cve_2017_12635_nobody_gives_themselves_rights() {
    let registry = registry().await;
    let body = r#"{"_id":"org.couchdb.user:eve","name":"eve","password":"right horse","type":"user","roles":["_admin"],"roles":[],
        "admin":true,"has_admin_role":true,"scopes":["*:*:*:*"],"readonly":false,"user_id":"ann","userId":"ann"}"#;
    let sent =
        TestRequest::put("/npm/-/user/org.couchdb.user:eve").anonymous().body(body.as_bytes().to_vec());
    let answer = registry.send(sent).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let eve = answer.json()["token"].as_str().unwrap().to_owned();
    log_in(&registry, "ann", "right horse").await;
    let seen = registry.send(TestRequest::get("/npm/-/whoami").token(&eve)).await;
    assert_eq!(seen.json()["username"], "eve");
    // A user has npm, and nothing beyond it, as if nothing had been said.
    for (protocol, may) in [("npm", true), ("oci", false)] {
        let auth = registry.registry.auth();
        let mut request = crate::core::request::Request::new(Method::GET, "/");
        request.token = Some(crate::core::secret::Secret::new(eve.as_str()));
        let name = crate::core::protocol_name::ProtocolName::new(protocol);
        let identity = auth.authenticate(&request, name).await.unwrap();
        assert_eq!(identity.user() == Some("eve"), may, "{protocol}");
    }
    // Nor does a token that only reads make one that writes.
    let reader = scoped(&registry, "rob", "npm:package:*:read").await;
    let made = TestRequest::new(Method::POST, "/npm/-/npm/v1/tokens").token(&reader).json(
        &json!({ "password": "wrong", "readonly": false, "scopes": ["*:*:*:*"], "cidr_whitelist": [] }),
    );
    assert!(registry.send(made).await.status >= 400);
    let other = || TestRequest::put("/npm/-/user/org.couchdb.user:ann").anonymous();
    for name in [json!("eve"), json!("ANN"), json!(["ann"]), json!(null)] {
        let body = json!({ "name": name, "password": "guess" });
        let answer = registry.send(other().json(&body)).await;
        assert!(matches!(answer.status, 400 | 401), "{name}: {}", answer.text());
    }
}

/// The registry of npm once let a publish through that was authorised for the name in the path and done for the one in the body
/// (told on 15 November 2021).
#[tokio::test]
async fn a_right_to_one_package_changes_no_other() {
    let registry = registry().await;
    let ann = log_in(&registry, "ann", "right horse").await;
    let eve = scoped(&registry, "eve", "npm:package:@eve/*:write").await;
    assert_eq!(registry.send(Package::new("@ann/widget", "1.0.0").put().token(&ann)).await.status, 201);
    assert_eq!(registry.send(Package::new("@eve/widget", "1.0.0").put().token(&eve)).await.status, 201);
    let before = registry.send(TestRequest::get("/npm/@ann%2fwidget").token(&ann)).await.text();
    let victim = Package::new("@ann/widget", "6.6.6");
    let attempts = [
        ("her name in the body", TestRequest::put("/npm/@eve%2fwidget").json(&victim.body())),
        ("her name as the id", {
            let mut body = Package::new("@eve/widget", "6.6.6").body();
            body["_id"] = json!("@ann/widget");
            body.as_object_mut().unwrap().remove("name");
            TestRequest::put("/npm/@eve%2fwidget").json(&body)
        }),
        ("her attachment", {
            let mut body = Package::new("@eve/widget", "6.6.6").body();
            let data = body["_attachments"]["@eve/widget-6.6.6.tgz"].take();
            body["_attachments"] = json!({ "@ann/widget-6.6.6.tgz": data });
            TestRequest::put("/npm/@eve%2fwidget").json(&body)
        }),
        (
            "a batch",
            TestRequest::put("/npm/-/pnpm/v1/publish")
                .json(&json!({ "packages": [Package::new("@eve/widget", "6.6.6").body(), victim.body()] })),
        ),
        ("beside the batch", {
            let mine = Package::new("@eve/widget", "6.6.6").body();
            TestRequest::put("/npm/-/pnpm/v1/publish")
                .json(&json!({ "other": [victim.body()], "packages": [0, mine] }))
        }),
        (
            "a tarball by another's path",
            TestRequest::new(Method::DELETE, "/npm/@eve/widget/-/@ann/widget-1.0.0.tgz/-rev/1-x"),
        ),
    ];
    for (what, request) in attempts {
        let answer = registry.send(request.token(&eve)).await;
        assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
    }
    let after = registry.send(TestRequest::get("/npm/@ann%2fwidget").token(&ann)).await.text();
    assert_eq!(after, before);
    let own = registry.send(TestRequest::get("/npm/@eve%2fwidget").token(&eve)).await.json();
    assert_eq!(own["versions"].as_object().unwrap().len(), 1, "{own}");
}
