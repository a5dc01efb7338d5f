//! Search, audit, keys and attestations, together with an upstream's.

use super::*;

#[tokio::test]
async fn a_search_finds_what_is_ours_first_and_theirs_after() {
    let fake = FakeUpstream::start().await;
    fake.script(|asked| {
        let object = |name: &str| json!({ "package": { "name": name, "version": "1.0.0" }, "score": {}, "searchScore": 1 });
        let list = json!({ "objects": [object("widget-theirs"), object("widget-ours"), object("@acme/hidden")], "total": 3 });
        asked.path.starts_with("/-/v1/search?").then(|| Reply::json(&list))
    });
    let registry = with(&fake, json!({ "private": ["@acme/*"] })).await;
    publish(&registry, "widget-ours", "2.0.0").await;
    let found = registry.send(get("/-/v1/search").query("text=widget&size=5")).await.json();
    let names: Vec<&str> = found["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["package"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["widget-ours", "widget-theirs"]);
    let asked = fake.asked();
    assert_eq!(asked.last().unwrap().path, "/-/v1/search?text=widget&from=0&size=4");
    // One that does not answer changes nothing else.
    fake.script(|_| Some(Reply::new(500, "")));
    let found = registry.send(get("/-/v1/search").query("text=widget")).await.json();
    assert_eq!(found["objects"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_they_found_has_everything_that_clients_read() {
    let fake = FakeUpstream::start().await;
    let bare = json!({ "package": { "name": "bare", "version": "0.1.0" } });
    let odd = json!({
        "package": {
            "name": "odd", "version": "1.0.0", "description": 7, "keywords": "a,b", "date": "yesterday", "maintainers": [{ "email": "x" }],
            "publisher": "them", "links": { "npm": "https://elsewhere.example.com/odd", "homepage": "https://odd.example.com" }, "evil": {},
        },
        "score": null, "flags": { "insecure": 2 },
    });
    let full = json!({
        "package": {
            "name": "full", "version": "2.0.0", "description": "all of it", "keywords": ["a"], "date": "2020-01-01T00:00:00.000Z",
            "maintainers": [{ "username": "them", "email": "them@example.com" }], "publisher": { "username": "them", "email": "" },
        },
        "score": { "final": 0.5 }, "searchScore": 9.5, "updated": "2020-01-02T00:00:00.000Z",
    });
    let list = [
        json!(7),
        json!({ "package": { "name": "nameless" } }),
        json!({ "package": { "version": "1.0.0" } }),
        bare,
        odd,
        full,
    ];
    let list = json!({ "objects": list, "total": 6 });
    fake.script(move |asked| asked.path.starts_with("/-/v1/search?").then(|| Reply::json(&list)));
    let registry = over(&fake).await;
    let found = registry.send(get("/-/v1/search").query("text=x")).await.json();
    let objects = found["objects"].as_array().unwrap();
    let names: Vec<_> = objects.iter().map(|one| one["package"]["name"].as_str().unwrap()).collect();
    assert_eq!((names.as_slice(), &found["total"]), (["bare", "odd", "full"].as_slice(), &json!(3)));
    publish(&registry, "ours", "1.0.0").await;
    fake.script(|_| None);
    let ours = &registry.send(get("/-/v1/search").query("text=ours")).await.json()["objects"][0];
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for object in objects {
        let package = &object["package"];
        assert_eq!(keys(object), keys(ours));
        for key in ["scope", "keywords", "date", "publisher", "maintainers", "links"] {
            assert_eq!(
                std::mem::discriminant(&package[key]),
                std::mem::discriminant(&ours["package"][key]),
                "{key}: {package}"
            );
        }
        assert!(package["publisher"]["username"].is_string() && package.get("evil").is_none(), "{package}");
        let here = format!("http://registry.example.com/npm/{}", package["name"].as_str().unwrap());
        assert_eq!(package["links"]["npm"], here);
    }
    assert_eq!(
        (&objects[0]["flags"]["unstable"], &objects[1]["flags"]["insecure"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(
        (&objects[1]["package"]["date"], &objects[1]["package"]["maintainers"]),
        (&json!(""), &json!([]))
    );
    assert_eq!(objects[1]["package"]["links"]["homepage"], "https://odd.example.com");
    assert_eq!(objects[2]["package"]["maintainers"][0]["username"], "them");
    assert_eq!(
        (&objects[2]["searchScore"], &objects[2]["package"]["description"]),
        (&json!(9.5), &json!("all of it"))
    );
}

/// A registry that nobody reads without logging in, over an upstream that lets only us in.
async fn closed(fake: &FakeUpstream, visibility: Value) -> TestRegistry {
    let upstream = json!([{ "id": "fake", "url": fake.url, "priority": 1, "auth": { "type": "bearer", "token": "ours" } }]);
    let config = json!({
        "upstreams": { "npm": fake.config_with(json!({ "upstreams": upstream })) },
        "npm": { "enabled": true, "basePath": "/npm", "features": { "anonymousRead": false } },
        "auth": { "jwtSecret": "test", "visibility": visibility },
    });
    let registry = TestRegistry::with_users(config, &["bob"]).await;
    fake.script(|asked| {
        let object = |name: &str| json!({ "package": { "name": name, "version": "1.0.0" } });
        let found = json!({ "objects": [object("top-secret"), object("@open/top")], "total": 40 });
        let advisory =
            json!([{ "id": 7, "title": "bad", "severity": "high", "url": "u", "vulnerable_versions": "*" }]);
        match asked.path.as_str() {
            "/-/npm/v1/security/advisories/bulk" => {
                Some(Reply::json(&json!({ "top-secret": advisory, "@open/top": advisory })))
            }
            path if path.starts_with("/-/v1/search?") => Some(Reply::json(&found)),
            _ => None,
        }
    });
    registry
}

fn audit() -> TestRequest {
    let asked = json!({ "top-secret": ["1.0.0"], "@open/top": ["1.0.0"] });
    TestRequest::new(http::Method::POST, "/npm/-/npm/v1/security/advisories/bulk").json(&asked)
}

#[tokio::test]
async fn who_may_not_read_here_learns_nothing_of_what_we_may_read_there() {
    let fake = FakeUpstream::start().await;
    let registry = closed(&fake, json!([])).await;
    assert_eq!(registry.send(get("/top-secret").anonymous()).await.status, 401);
    for stranger in
        [TestRequest::anonymous as fn(TestRequest) -> TestRequest, |request| request.token("wrong")]
    {
        let found = registry.send(stranger(get("/-/v1/search").query("text=top"))).await;
        if found.status == 200 {
            assert_eq!((&found.json()["objects"], &found.json()["total"]), (&json!([]), &json!(0)));
        }
        let audited = registry.send(stranger(audit())).await;
        assert!(audited.status != 200 || audited.json() == json!({}), "{}", audited.text());
    }
    assert_eq!(fake.count(), 0, "nobody is asked with our credentials: {:?}", fake.asked());
    let found = registry.send(get("/-/v1/search").query("text=top").basic("bob", "right")).await.json();
    assert_eq!((found["objects"].as_array().unwrap().len(), &found["total"]), (2, &json!(2)), "{found}");
    assert_eq!(found["incomplete"], true, "more may be there");
    let audited = registry.send(audit().basic("bob", "right")).await.json();
    assert!(audited["top-secret"].is_array() && audited["@open/top"].is_array(), "{audited}");
}

#[tokio::test]
async fn what_is_open_in_a_closed_registry_is_found_and_nothing_else() {
    let fake = FakeUpstream::start().await;
    let open = json!([{ "pattern": "npm:package:@open/*", "visibility": "public" }]);
    let registry = closed(&fake, open).await;
    let found = registry.send(get("/-/v1/search").query("text=top").anonymous()).await.json();
    assert_eq!(found["objects"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!((&found["objects"][0]["package"]["name"], &found["total"]), (&json!("@open/top"), &json!(1)));
    let audited = registry.send(audit().anonymous()).await.json();
    assert!(audited["@open/top"].is_array() && audited.get("top-secret").is_none(), "{audited}");
    let told: Value = serde_json::from_slice(&fake.asked().last().unwrap().body).unwrap();
    assert_eq!(told, json!({ "@open/top": ["1.0.0"] }));
}

#[tokio::test]
async fn an_audit_asks_about_their_packages_only() {
    let fake = FakeUpstream::start().await;
    fake.script(|asked| {
        let advisory =
            json!({ "id": 7, "title": "bad", "severity": "high", "url": "u", "vulnerable_versions": "<2" });
        let answer = json!({ "theirs": [advisory], "never-asked-for": [advisory] });
        (asked.path == "/-/npm/v1/security/advisories/bulk").then(|| Reply::json(&answer))
    });
    let registry = with(&fake, json!({ "private": ["@acme/*"] })).await;
    publish(&registry, "ours", "1.0.0").await;
    let asked = json!({ "theirs": ["1.0.0"], "ours": ["1.0.0"], "@acme/secret": ["1.0.0"] });
    let request = TestRequest::new(http::Method::POST, "/npm/-/npm/v1/security/advisories/bulk").json(&asked);
    let found = registry.send(request).await.json();
    assert_eq!(found["theirs"][0]["id"], 7);
    assert!(found.get("never-asked-for").is_none());
    let told: Value = serde_json::from_slice(&fake.asked().last().unwrap().body).unwrap();
    assert_eq!(told, json!({ "theirs": ["1.0.0"] }), "what is ours is nobody's business");
    fake.script(|_| Some(Reply::new(500, "")));
    let request = TestRequest::new(http::Method::POST, "/npm/-/npm/v1/security/advisories/bulk").json(&asked);
    assert_eq!(registry.send(request).await.json(), json!({}));
}

#[tokio::test]
async fn keys_that_signed_before_signing_was_switched_off_stay_beside_theirs() {
    let fake = FakeUpstream::start().await;
    let key = json!({ "keyid": "SHA256:theirs", "key": "k", "keytype": "ecdsa-sha2-nistp256", "scheme": "ecdsa-sha2-nistp256", "expires": null });
    fake.on("/-/npm/v1/keys", Reply::json(&json!({ "keys": [key] })));
    let signing = over(&fake).await;
    publish(&signing, "ours", "1.0.0").await;
    let off = json!({
        "upstreams": { "npm": fake.config() },
        "npm": { "enabled": true, "basePath": "/npm", "features": { "signing": false } },
    });
    let registry = signing.another(off, None).await;
    let signed = registry.send(get("/ours/1.0.0")).await.json();
    let by = &signed["dist"]["signatures"][0]["keyid"];
    let keys = registry.send(get("/-/npm/v1/keys")).await.json();
    let ids: Vec<&Value> = keys["keys"].as_array().unwrap().iter().map(|key| &key["keyid"]).collect();
    assert_eq!(ids, [by, &json!("SHA256:theirs")]);
    assert!(keys["keys"].as_array().unwrap().iter().all(|key| key.get("private").is_none()));
}

#[tokio::test]
async fn keys_and_attestations_of_an_upstream_are_served_with_ours() {
    let fake = FakeUpstream::start().await;
    let mut document = packument(&fake, "widget", &["1.0.0"]);
    let theirs = format!("{}/-/npm/v1/attestations/widget@1.0.0", fake.url);
    document["versions"]["1.0.0"]["dist"]["attestations"] =
        json!({ "url": theirs, "provenance": { "predicateType": "https://slsa.dev/provenance/v1" } });
    fake.on("/widget", Reply::json(&document));
    let bundle = json!({ "attestations": [{ "predicateType": "x", "bundle": {} }] });
    fake.on("/-/npm/v1/attestations/widget@1.0.0", Reply::json(&bundle));
    let key = json!({ "keyid": "SHA256:theirs", "key": "k", "keytype": "ecdsa-sha2-nistp256", "scheme": "ecdsa-sha2-nistp256", "expires": null });
    fake.on("/-/npm/v1/keys", Reply::json(&json!({ "keys": [key] })));
    let registry = over(&fake).await;
    let shown = registry.send(get("/widget/1.0.0")).await.json();
    let url = shown["dist"]["attestations"]["url"].as_str().unwrap();
    assert!(url.ends_with("/npm/-/npm/v1/attestations/widget@1.0.0") && !url.contains("127.0.0.1"), "{url}");
    for _ in 0..2 {
        assert_eq!(registry.send(get("/-/npm/v1/attestations/widget@1.0.0")).await.json(), bundle);
        let keys = registry.send(get("/-/npm/v1/keys")).await.json();
        assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
        assert_eq!(keys["keys"][1]["keyid"], "SHA256:theirs");
    }
    let count = |path: &str| fake.asked().iter().filter(|asked| asked.path == path).count();
    assert_eq!((count("/-/npm/v1/attestations/widget@1.0.0"), count("/-/npm/v1/keys")), (1, 1));
}
