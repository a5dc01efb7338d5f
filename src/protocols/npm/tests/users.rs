//! Login, identity and tokens, on the registry's own users.

use super::*;

async fn registry() -> TestRegistry {
    TestRegistry::with_users(json!({ "auth": { "jwtSecret": "test", "selfRegistration": true } }), &[]).await
}

fn login(user: &str, password: &str) -> TestRequest {
    let id = format!("org.couchdb.user:{user}");
    let body = json!({ "_id": id, "name": user, "password": password, "type": "user", "roles": [], "date": "2026-01-01" });
    TestRequest::put(&format!("/npm/-/user/{id}")).anonymous().json(&body)
}

/// Logs in as npm does; the user comes to be with it.
pub(super) async fn log_in(registry: &TestRegistry, user: &str, password: &str) -> String {
    let answer = registry.send(login(user, password)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let value = answer.json();
    assert_eq!(
        (value["ok"].clone(), value["id"].clone()),
        (json!(true), json!(format!("org.couchdb.user:{user}")))
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    value["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn login_whoami_logout() {
    let registry = registry().await;
    let token = log_in(&registry, "bob", "right horse").await;
    let who = registry.send(TestRequest::get("/npm/-/whoami").token(&token)).await;
    assert_eq!((who.status, who.json()), (200, json!({ "username": "bob" })));

    // Old credentials that come along with a login are not looked at.
    for header in [
        "Bearer 00000000-0000-4000-8000-000000000000",
        "Basic Ym9iOnJpZ2h0IGhvcnNl",
        "Basic Ym9iOndyb25n",
        "Bearer nonsense",
        "Bearer a, Bearer b",
    ] {
        let again = registry.send(login("bob", "right horse").header("authorization", header)).await;
        assert_eq!(again.status, 201, "{header}: {}", again.text());
    }
    let path = "/npm/-/user/org.couchdb.user:bob/-rev/1-x";
    let couch = TestRequest::put(path).anonymous().json(&json!({ "name": "bob", "password": "right horse" }));
    assert_eq!(registry.send(couch).await.status, 201);

    let wrong = registry.send(login("bob", "wrong")).await;
    assert_eq!((wrong.status, error_of(&wrong).as_str()), (401, "the user name or the password is wrong"));
    assert_eq!(wrong.header("www-authenticate"), None, "npm would replace our sentence by its own");

    let other = log_in(&registry, "eve", "another one").await;
    let path = format!("/npm/-/user/token/{token}");
    let stranger = registry.send(TestRequest::new(http::Method::DELETE, &path).token(&other)).await;
    assert_eq!(stranger.status, 404);
    let out = registry.send(TestRequest::new(http::Method::DELETE, &path).token(&token)).await;
    assert_eq!((out.status, out.json()), (200, json!({ "ok": true })));
    let who = registry.send(TestRequest::get("/npm/-/whoami").token(&token)).await;
    assert_eq!(who.status, 401);
    assert_eq!(who.header("www-authenticate"), Some("Bearer realm=\"http://registry.example.com/npm\""));
}

#[tokio::test]
async fn registration_only_where_it_is_on() {
    let registry = TestRegistry::with_users(json!({}), &[]).await;
    assert_eq!(registry.send(login("bob", "right horse")).await.status, 401);
}

#[tokio::test]
async fn what_else_clients_ask_about_users() {
    let registry = registry().await;
    let token = log_in(&registry, "bob", "right horse").await;
    let get = |path: &str| TestRequest::get(&format!("/npm/-/{path}"));
    assert_eq!(registry.send(get("ping").anonymous()).await.json(), json!({}));
    assert_eq!(registry.send(get("whoami").anonymous()).await.status, 401);
    let user = registry.send(get("user/org.couchdb.user:bob").token(&token)).await;
    assert_eq!((user.status, &user.json()["name"]), (200, &json!("bob")));
    assert_eq!(registry.send(get("user/org.couchdb.user:nobody").token(&token)).await.status, 404);
    assert_eq!(registry.send(get("user/org.couchdb.user:bob").anonymous()).await.status, 401);
    assert_eq!(registry.send(get("npm/v1/user").token(&token)).await.json()["name"], "bob");
    // Only a 404 makes npm and pnpm ask for the password instead; berry sends no body at all.
    for body in ["", "{}"] {
        let web = registry
            .send(TestRequest::new(http::Method::POST, "/npm/-/v1/login").anonymous().body(body))
            .await;
        assert_eq!(web.status, 404);
    }
}

#[tokio::test]
async fn tokens_are_listed_made_and_revoked() {
    let registry = registry().await;
    let session = log_in(&registry, "bob", "right horse").await;
    let create = |body: Value| {
        TestRequest::new(http::Method::POST, "/npm/-/npm/v1/tokens").token(&session).json(&body)
    };
    assert_eq!(registry.send(create(json!({ "password": "wrong", "readonly": true }))).await.status, 401);
    assert_eq!(registry.send(create(json!({ "readonly": true }))).await.status, 401);
    let made = registry
        .send(create(json!({ "password": "right horse", "readonly": true, "cidr_whitelist": [] })))
        .await;
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = made.json();
    let readonly = made["token"].as_str().unwrap();
    assert_eq!(made["readonly"], true);

    let list = registry.send(TestRequest::get("/npm/-/npm/v1/tokens").token(&session)).await;
    assert_eq!(list.status, 200);
    let list = list.json();
    assert!(list["total"] == 2 && list["urls"].is_object() && !list.to_string().contains(readonly), "{list}");
    let page = registry.send(TestRequest::get("/npm/-/npm/v1/tokens?perPage=1").token(&session)).await.json();
    assert!(
        page["objects"].as_array().unwrap().len() == 1
            && page["urls"]["next"].as_str().unwrap().ends_with("perPage=1&page=1")
    );

    let refused = registry.send(Package::new("widget", "1.0.0").put().token(readonly)).await;
    assert_eq!(refused.status, 403);
    assert!(error_of(&refused).contains("read-only"), "{}", refused.text());
    let path = "/npm/-/npm/v1/tokens";
    let own = TestRequest::new(http::Method::POST, path)
        .token(readonly)
        .json(&json!({ "password": "right horse" }));
    assert_eq!(registry.send(own).await.status, 403, "a read-only token makes no tokens");

    let key = made["key"].as_str().unwrap();
    let revoke = |what: &str| {
        TestRequest::new(http::Method::DELETE, &format!("/npm/-/npm/v1/tokens/token/{what}")).token(&session)
    };
    assert_eq!(registry.send(revoke(key)).await.status, 200);
    assert_eq!(registry.send(revoke(key)).await.status, 404);
    assert_eq!(registry.send(TestRequest::get("/npm/-/whoami").token(readonly)).await.status, 401);
}

#[tokio::test]
async fn granular_tokens_hold_what_they_say() {
    let registry = registry().await;
    let session = log_in(&registry, "bob", "right horse").await;
    let create = |mut body: Value| {
        body["password"] = json!("right horse");
        TestRequest::new(http::Method::POST, "/npm/-/npm/v1/tokens").token(&session).json(&body)
    };
    let made = registry.send(create(json!({ "name": "ci", "scopes": ["@acme"], "packages_and_scopes_permission": "read-write", "expires": 1 }))).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let publish = |name: &str| Package::new(name, "1.0.0").put().token(&token);
    assert_eq!(registry.send(publish("@acme/widget")).await.status, 201);
    assert_eq!(registry.send(publish("widget")).await.status, 403);
    let gone = TestRequest::new(http::Method::DELETE, "/npm/@acme%2fwidget/-rev/1-x").token(&token);
    assert_eq!(registry.send(gone).await.status, 403, "write does not imply delete");
    registry.clock.advance(std::time::Duration::from_hours(25));
    assert_eq!(registry.send(Package::new("@acme/widget", "1.0.1").put().token(&token)).await.status, 401);
    for bad in [
        json!({ "packages_and_scopes_permission": "everything" }),
        json!({ "packages_and_scopes_permission": "read-only" }),
        json!({ "orgs": ["acme"] }),
    ] {
        let answer = registry.send(create(bad.clone())).await;
        assert_eq!(answer.status, 422, "{bad}: {}", answer.text());
    }
}

#[tokio::test]
async fn who_may_see_what() {
    let private = json!({ "npm": { "enabled": true, "features": { "anonymousRead": false } }, "auth": { "jwtSecret": "test", "selfRegistration": true } });
    let closed = TestRegistry::with_users(private, &[]).await;
    let token = log_in(&closed, "bob", "right horse").await;
    let here = closed.send(Package::new("widget", "1.0.0").put().token(&token)).await;
    assert_eq!(here.status, 201, "{}", here.text());
    for path in ["/npm/widget", "/npm/nothing", "/npm/widget/1.0.0", "/npm/widget/-/widget-1.0.0.tgz"] {
        let answer = closed.send(TestRequest::get(path).anonymous()).await;
        assert_eq!((answer.status, answer.header("www-authenticate").is_some()), (401, true), "{path}");
    }
    assert_eq!(closed.send(TestRequest::get("/npm/widget").token(&token)).await.status, 200);

    let open = registry().await;
    let token = log_in(&open, "bob", "right horse").await;
    assert_eq!(open.send(Package::new("widget", "1.0.0").put().token(&token)).await.status, 201);
    // A stale token does not get in the way of what anybody may read, and is named as the reason for all else.
    assert_eq!(open.send(TestRequest::get("/npm/widget").token("stale")).await.status, 200);
    let stale = open.send(Package::new("widget", "1.0.1").put().token("stale")).await;
    assert_eq!((stale.status, stale.header("www-authenticate").is_some()), (401, true));
    let nobody = open.send(Package::new("widget", "1.0.1").put().anonymous()).await;
    assert_eq!(nobody.status, 401);
    let set = TestRequest::new(http::Method::POST, "/npm/-/package/widget/access")
        .token(&token)
        .json(&json!({ "access": "restricted" }));
    assert_eq!(open.send(set).await.status, 200);
    let (hidden, missing) = (
        open.send(TestRequest::get("/npm/widget").anonymous()).await,
        open.send(TestRequest::get("/npm/nothing").anonymous()).await,
    );
    assert_eq!((hidden.status, hidden.text()), (404, missing.text()), "a private package looks like none");
    let visibility = open.send(TestRequest::get("/npm/-/package/widget/visibility").token(&token)).await;
    assert_eq!(visibility.json(), json!({ "public": false }));
    let search = open.send(TestRequest::get("/npm/-/v1/search?text=widget").anonymous()).await.json();
    assert_eq!((&search["total"], &search["objects"]), (&json!(0), &json!([])));
}
