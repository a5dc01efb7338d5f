//! Whose a name is, and what is let through.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_name_that_is_ours_is_never_asked_for() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["99.0.0"]);
    let registry = with(&fake, json!({ "allowShadowing": true })).await;
    publish(&registry, "widget", "1.0.0").await;
    let asked = fake.count();
    let document = registry.send(get("/widget")).await.json();
    assert_eq!(document["dist-tags"]["latest"], "1.0.0");
    assert!(document["versions"].get("99.0.0").is_none());
    for path in
        ["/widget/99.0.0", "/widget/-/widget-99.0.0.tgz", "/widget/-/widget-1.0.1.tgz", "/widget/next"]
    {
        assert_eq!(registry.send(get(path)).await.status, 404, "{path}");
    }
    assert_eq!(fake.count(), asked, "{:?}", fake.asked());
}

#[tokio::test]
async fn a_name_that_was_ours_stays_ours() {
    let fake = FakeUpstream::start().await;
    let registry = over(&fake).await;
    publish(&registry, "widget", "1.0.0").await;
    let document = registry.send(get("/widget?write=true").query("write=true")).await.json();
    let gone = TestRequest::new(
        http::Method::DELETE,
        &format!("/npm/widget/-rev/{}", document["_rev"].as_str().unwrap()),
    );
    assert!(registry.send(gone).await.status < 300);
    serve(&fake, "widget", &["99.0.0"]);
    let asked = fake.count();
    registry.clock.advance(Duration::from_hours(1));
    assert_ne!(registry.send(get("/widget")).await.json()["dist-tags"]["latest"], "99.0.0");
    assert_eq!(registry.send(get("/widget/-/widget-99.0.0.tgz")).await.status, 404);
    assert_eq!(fake.count(), asked);
}

#[tokio::test]
async fn names_that_are_to_stay_inside_do() {
    let fake = FakeUpstream::start().await;
    for name in ["@acme/widget", "@ACME/widget", "@acmee/widget", "internal-tool"] {
        serve(&fake, name, &["1.0.0"]);
    }
    let registry = with(&fake, json!({ "private": ["@acme/*", "internal-*"] })).await;
    for name in ["@acme%2fwidget", "@ACME%2fwidget", "@Acme%2Fwidget", "internal-tool", "@acme%252fwidget"] {
        assert_eq!(registry.send(get(&format!("/{name}"))).await.status, 404, "{name}");
    }
    assert_eq!(fake.count(), 0, "{:?}", fake.asked());
    let other = FakeUpstream::start().await;
    serve(&other, "@acme/widget", &["1.0.0"]);
    serve(&other, "@acme-evil/widget", &["1.0.0"]);
    let rules = json!({ "upstreams": [{
        "id": "private", "url": other.url, "priority": 1, "scopeRules": [{ "pattern": "@acme/*", "action": "include" }],
    }] });
    let registry = with(&other, rules).await;
    assert_eq!(registry.send(get("/@acme%2fwidget")).await.status, 200);
    assert_eq!(registry.send(get("/@acme-evil%2fwidget")).await.status, 404);
}

#[tokio::test]
async fn a_tarball_of_another_package_is_not_served() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    serve(&fake, "gadget", &["1.0.0"]);
    let registry = over(&fake).await;
    for path in [
        "/widget/-/gadget-1.0.0.tgz",
        "/widget/-/widget-1.0.0/../gadget.tgz",
        "/widget/-/@evil/widget-1.0.0.tgz",
    ] {
        assert!(registry.send(get(path)).await.status >= 400, "{path}");
    }
    // An upstream that answers for one package with another.
    fake.on("/widget", Reply::json(&packument(&fake, "gadget", &["1.0.0"])));
    let other = over(&fake).await;
    assert_eq!(other.send(get("/widget")).await.status, 502);
    // One that points a version at another package's file.
    let mut document = packument(&fake, "widget", &["1.0.0"]);
    document["versions"]["1.0.0"]["dist"]["tarball"] =
        json!(format!("{}{}", fake.url, file_of("gadget", "2.0.0")));
    fake.on("/widget", Reply::json(&document));
    fake.on(&file_of("gadget", "2.0.0"), Reply::ok(tarball("2.0.0")));
    let other = over(&fake).await;
    let answer = other.send(get("/widget/-/widget-1.0.0.tgz")).await;
    assert!(answer.status >= 500 || answer.body.is_err());
    assert!(cached(&other).await.is_empty());
}

#[tokio::test]
async fn nobody_hides_an_upstreams_package_by_mistake() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let registry = over(&fake).await;
    let refused = registry.send(Package::new("widget", "1.0.1").put()).await;
    assert_eq!(refused.status, 403);
    assert!(refused.json()["error"].as_str().unwrap().contains("upstream fake"), "{}", refused.text());
    assert!(registry.keys(false).await.is_empty(), "nothing is left of it");
    assert_eq!(registry.send(Package::new("gadget", "1.0.0").put()).await.status, 201);
    assert_eq!(registry.send(Package::new("gadget", "1.0.1").put()).await.status, 201);
    drop(fake);
    assert_eq!(
        registry.send(Package::new("third", "1.0.0").put()).await.status,
        201,
        "work goes on without it"
    );
}

#[tokio::test]
async fn a_private_packages_name_is_not_shown_of_upstream_either() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "@acme/widget", &["1.0.0"]);
    let config = json!({
        "upstreams": { "npm": fake.config() },
        "auth": { "jwtSecret": "test", "visibility": [{ "pattern": "npm:package:@acme/*", "visibility": "private" }] },
    });
    let registry = TestRegistry::with(config, None, None).await;
    for path in ["/@acme%2fwidget", "/@acme/widget/-/widget-1.0.0.tgz"] {
        assert_eq!(registry.send(get(path).anonymous()).await.status, 404);
        assert_eq!(registry.send(get(path)).await.status, 200);
        assert_eq!(registry.send(get(path).anonymous()).await.status, 404, "cached is not public");
    }
}

#[tokio::test]
async fn two_sources_of_one_package_are_one_where_that_is_wanted() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0", "9.0.0"]);
    let registry = with(&fake, json!({ "merge": ["widget"] })).await;
    publish(&registry, "widget", "1.0.0").await;
    let document = registry.send(get("/widget")).await.json();
    assert_eq!(document["dist-tags"]["latest"], "1.0.0", "theirs does not outrank ours");
    assert!(document["versions"]["9.0.0"].is_object());
    assert!(document["versions"]["1.0.0"]["dist"]["signatures"][0]["keyid"] != "SHA256:theirs");
    assert_eq!(
        registry.send(get("/widget/-/widget-9.0.0.tgz")).await.bytes(),
        &Bytes::from(tarball("9.0.0"))
    );
    assert_ne!(
        registry.send(get("/widget/-/widget-1.0.0.tgz")).await.bytes(),
        &Bytes::from(tarball("1.0.0"))
    );
    publish(&registry, "widget", "1.0.1").await;
    assert_eq!(registry.send(get("/widget")).await.json()["dist-tags"]["latest"], "1.0.1");
}

#[tokio::test]
async fn what_is_kept_back_of_theirs_is_not_kept_back_of_ours() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0", "9.0.0", "9.1.0"]);
    let policy = json!({ "block": [{ "name": "widget", "versions": "1.0.0 || 9.1.0" }] });
    let registry = with(&fake, json!({ "merge": ["widget"], "policy": policy })).await;
    let ours = publish(&registry, "widget", "1.0.0").await;
    for path in ["/widget/1.0.0", "/widget/v1.0.0", "/widget/latest", "/widget/9.0.0"] {
        assert_eq!(registry.send(get(path)).await.status, 200, "{path}");
    }
    let tarball = registry.send(TestRequest::get(&ours.tarball_path())).await;
    assert_eq!((tarball.status, tarball.bytes()), (200, &Bytes::from(ours.tgz())));
    for path in ["/widget/9.1.0", "/widget/-/widget-9.1.0.tgz"] {
        assert_eq!(registry.send(get(path)).await.status, 403, "{path}");
    }
    let document = registry.send(get("/widget")).await.json();
    let kept_back = document["policyRestrictions"]["versions"].as_object().unwrap();
    assert_eq!(kept_back.keys().collect::<Vec<_>>(), ["9.1.0"]);
}

#[tokio::test]
async fn what_is_to_be_changed_is_ours_alone() {
    let fake = FakeUpstream::start().await;
    for name in ["theirs", "both"] {
        serve(&fake, name, &["1.0.0", "9.0.0"]);
    }
    let registry = with(&fake, json!({ "merge": ["both"] })).await;
    publish(&registry, "both", "1.0.1").await;
    assert!(registry.send(get("/both")).await.json()["versions"]["9.0.0"].is_object());
    let asked = fake.count();
    let editable = registry.send(get("/both").query("write=true")).await.json();
    assert_eq!(editable["versions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["1.0.1"]);
    assert!(editable["_rev"].as_str().unwrap().starts_with("1-"));
    assert_eq!(registry.send(get("/theirs")).await.status, 200);
    let known = fake.count();
    assert_eq!(registry.send(get("/theirs").query("write=true")).await.status, 404);
    assert_eq!((fake.count(), known), (known, asked + 1), "nobody is asked for what is to be changed");
}

#[tokio::test]
async fn who_would_change_an_upstreams_package_hears_whose_it_is() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "theirs", &["1.0.0"]);
    let registry = over(&fake).await;
    let changes = |name: &str| {
        let put = |path: String, body: &Value| TestRequest::put(&path).json(body);
        let delete = |path: String| TestRequest::new(http::Method::DELETE, &path);
        let deprecated =
            json!({ "name": name, "versions": { "1.0.0": { "name": name, "deprecated": "old" } } });
        [
            put(format!("/npm/{name}"), &deprecated),
            put(format!("/npm/-/package/{name}/dist-tags/next"), &json!("1.0.0")),
            delete(format!("/npm/-/package/{name}/dist-tags/latest")),
            put(format!("/npm/{name}/-rev/1-x"), &json!({ "maintainers": [{ "name": "me", "email": "" }] })),
            delete(format!("/npm/{name}/-rev/1-x")),
            delete(format!("/npm/{name}/-/1.0.0")),
            TestRequest::new(http::Method::POST, &format!("/npm/-/package/{name}/access"))
                .json(&json!({ "access": "restricted" })),
        ]
    };
    for (at, change) in changes("theirs").into_iter().enumerate() {
        let refused = registry.send(change).await;
        assert_eq!(refused.status, 403, "{at}: {}", refused.text());
        assert!(error_of(&refused).contains("theirs is a package of upstream fake"), "{at}");
    }
    for (at, change) in changes("nobodys").into_iter().enumerate() {
        assert_eq!(registry.send(change).await.status, 404, "{at}");
    }
    assert!(registry.keys(false).await.is_empty());
}

#[tokio::test]
async fn an_outage_opens_no_door_to_the_next_upstream() {
    let (private, public) = (FakeUpstream::start().await, FakeUpstream::start().await);
    serve(&private, "widget", &["1.0.0"]);
    serve(&public, "widget", &["99.0.0"]);
    serve(&public, "gadget", &["1.0.0"]);
    let chain = json!({
        "upstreams": [
            { "id": "public", "url": public.url, "priority": 10 },
            { "id": "private", "url": private.url, "priority": 1 },
        ],
        "cache": { "defaultTtlSeconds": 60, "staleIfErrorSeconds": 120, "staleMaxAgeSeconds": 0 },
    });
    let registry = with(&private, chain).await;
    assert_eq!(registry.send(get("/widget")).await.json()["dist-tags"]["latest"], "1.0.0");
    assert_eq!(registry.send(get("/gadget")).await.status, 200, "the first says 404, the second has it");
    private.script(|_| Some(Reply::new(500, "")));
    registry.clock.advance(Duration::from_hours(1));
    let answer = registry.send(get("/widget")).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    // One that the private upstream never had comes from the next.
    serve(&public, "third", &["1.0.0"]);
    assert_eq!(registry.send(get("/third")).await.status, 200);
}

#[tokio::test]
async fn what_is_kept_back_is_kept_back_everywhere() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0", "1.1.0"]);
    serve(&fake, "evil", &["1.0.0"]);
    let policy = json!({ "block": [
        { "name": "widget", "versions": ">=1.1.0", "reason": "it steals tokens" }, { "name": "evil" },
    ] });
    let registry = with(&fake, json!({ "policy": policy })).await;
    let document = registry.send(get("/widget")).await.json();
    assert_eq!(document["dist-tags"]["latest"], "1.0.0");
    assert!(document["versions"].get("1.1.0").is_none());
    assert!(document["policyRestrictions"]["message"].as_str().unwrap().contains("steals tokens"));
    assert!(document["policyRestrictions"]["versions"]["1.1.0"].is_object());
    for path in ["/widget/1.1.0", "/widget/-/widget-1.1.0.tgz", "/evil", "/evil/-/evil-1.0.0.tgz"] {
        let refused = registry.send(get(path)).await;
        assert_eq!(refused.status, 403, "{path}");
        assert!(refused.text().contains("blocked by this registry"), "{path}: {}", refused.text());
    }
    assert_eq!(registry.send(get("/widget/-/widget-1.0.0.tgz")).await.status, 200);
}

#[tokio::test]
async fn a_version_waits_until_it_is_old_enough() {
    let fake = FakeUpstream::start().await;
    let registry = with(&fake, json!({ "policy": { "minimumReleaseAgeSeconds": 86_400 } })).await;
    let mut document = packument(&fake, "widget", &["1.0.0", "1.1.0"]);
    document["time"]["1.1.0"] = json!(registry.clock.now().rfc3339());
    fake.on("/widget", Reply::json(&document).etag("\"one\""));
    fake.on(&file_of("widget", "1.1.0"), Reply::ok(tarball("1.1.0")));
    assert_eq!(registry.send(get("/widget")).await.json()["dist-tags"]["latest"], "1.0.0");
    assert_eq!(registry.send(get("/widget/-/widget-1.1.0.tgz")).await.status, 403);
    registry.clock.advance(Duration::from_hours(25));
    let later = registry.send(get("/widget")).await.json();
    assert_eq!(later["dist-tags"]["latest"], "1.1.0", "{later}");
    assert_eq!(registry.send(get("/widget/-/widget-1.1.0.tgz")).await.status, 200);
}
