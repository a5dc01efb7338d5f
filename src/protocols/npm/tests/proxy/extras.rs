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
