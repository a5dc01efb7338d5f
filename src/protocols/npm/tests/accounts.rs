//! Profiles, passwords and second factors, as `npm profile` and the commands that ask for a code send them.

use std::time::Duration;

use super::users::log_in;
use super::*;
use crate::auth::shown_code;
use crate::testing::TestResponse;
use http::Method;

const PASSWORD: &str = "right horse";

async fn registry() -> TestRegistry {
    TestRegistry::with_users(json!({ "auth": { "jwtSecret": "test", "selfRegistration": true } }), &[]).await
}

fn post(path: &str, token: &str, body: &Value) -> TestRequest {
    TestRequest::new(Method::POST, &format!("/npm/-/{path}")).token(token).json(body)
}

fn profile(token: &str, body: &Value) -> TestRequest {
    post("npm/v1/user", token, body)
}

fn login(user: &str) -> TestRequest {
    let body = json!({ "name": user, "password": PASSWORD });
    TestRequest::put(&format!("/npm/-/user/org.couchdb.user:{user}")).anonymous().json(&body)
}

/// Asked for a code, in every way that a client looks for.
fn asks_for_code(answer: &TestResponse) -> bool {
    answer.status == 401
        && answer.header("www-authenticate") == Some("OTP")
        && answer.text().contains("one-time pass")
}

struct Authenticator {
    seed: String,
    recovery: Vec<String>,
}

impl Authenticator {
    /// Enrols the user as `npm profile enable-2fa` does. A moment later, so that the next code is another one.
    async fn enrol(registry: &TestRegistry, token: &str, mode: &str) -> Self {
        let begun =
            registry.send(profile(token, &json!({ "tfa": { "password": PASSWORD, "mode": mode } }))).await;
        assert_eq!(begun.status, 200, "{}", begun.text());
        assert_eq!(begun.header("cache-control"), Some("no-store"));
        let url = url::Url::parse(begun.json()["tfa"].as_str().unwrap()).unwrap();
        let seed = url.query_pairs().find(|(key, _)| key == "secret").unwrap().1.into_owned();
        let mut new = Self { seed, recovery: Vec::new() };
        assert_eq!(
            registry.send(TestRequest::get("/npm/-/npm/v1/user").token(token)).await.json()["tfa"]["pending"],
            true
        );
        let wrong = registry.send(profile(token, &json!({ "tfa": [new.wrong(registry)] }))).await;
        assert_eq!(wrong.status, 400, "{}", wrong.text());
        let done = registry.send(profile(token, &json!({ "tfa": [new.code(registry)] }))).await;
        assert_eq!(done.status, 200, "{}", done.text());
        new.recovery = serde_json::from_value(done.json()["tfa"].clone()).unwrap();
        registry.clock.advance(Duration::from_mins(1));
        new
    }

    fn code(&self, registry: &TestRegistry) -> String {
        shown_code(&self.seed, registry.clock.now().as_secs())
    }

    /// A code that is certainly none.
    fn wrong(&self, registry: &TestRegistry) -> String {
        let now = registry.clock.now().as_secs();
        let right = [-30, 0, 30].map(|skew| shown_code(&self.seed, now + skew));
        (0..10).map(|n| format!("{n:06}")).find(|code| !right.contains(code)).unwrap()
    }
}

#[tokio::test]
async fn a_profile_is_read_and_set() {
    let registry = registry().await;
    let token = log_in(&registry, "bob", PASSWORD).await;
    let get = || TestRequest::get("/npm/-/npm/v1/user").token(&token);
    let fresh = registry.send(get()).await.json();
    assert_eq!((&fresh["name"], &fresh["email"], &fresh["tfa"]), (&json!("bob"), &json!(""), &Value::Null));
    assert!(fresh["created"].as_str().is_some_and(|time| time.ends_with('Z')), "{fresh}");
    // npm sends every field, unset ones as null.
    let all = json!({ "email": "bob@example.com", "fullname": "Bob", "homepage": null, "github": null, "name": "root", "tfa": null });
    let set = registry.send(profile(&token, &all)).await;
    assert_eq!((set.status, &set.json()["email"]), (200, &json!("bob@example.com")));
    assert_eq!(registry.send(get()).await.json()["fullname"], "Bob");
    assert_eq!(registry.send(get()).await.json()["name"], "bob", "nobody becomes somebody else");
    let couch = TestRequest::get("/npm/-/user/org.couchdb.user:bob");
    assert_eq!(registry.send(couch.token(&token)).await.json()["email"], "bob@example.com");
    let other = log_in(&registry, "eve", PASSWORD).await;
    let couch = TestRequest::get("/npm/-/user/org.couchdb.user:bob");
    assert_eq!(
        registry.send(couch.token(&other)).await.json()["email"],
        "",
        "an address is nobody else's business"
    );
    for bad in [json!({ "email": 1 }), json!({ "email": "a\nb" }), json!({ "fullname": "x".repeat(300) })] {
        assert_eq!(registry.send(profile(&token, &bad)).await.status, 400, "{bad}");
    }
    assert_eq!(registry.send(TestRequest::get("/npm/-/npm/v1/user").anonymous()).await.status, 401);
    assert_eq!(registry.send(profile("nonsense", &all)).await.status, 401);
}

#[tokio::test]
async fn the_address_of_a_login_is_kept_once() {
    let registry = registry().await;
    let log_in = |email: &str| {
        let body = json!({ "name": "bob", "password": PASSWORD, "email": email });
        TestRequest::put("/npm/-/user/org.couchdb.user:bob").anonymous().json(&body)
    };
    let token = registry.send(log_in("bob@example.com")).await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(registry.send(log_in("other@example.com")).await.status, 201);
    let known = registry.send(TestRequest::get("/npm/-/npm/v1/user").token(&token)).await.json();
    assert_eq!(known["email"], "bob@example.com");
}

#[tokio::test]
async fn a_password_changes_for_who_knows_the_old_one() {
    let registry = registry().await;
    let token = log_in(&registry, "bob", PASSWORD).await;
    let change = |old: &str, new: &str| profile(&token, &json!({ "password": { "old": old, "new": new } }));
    let wrong = registry.send(change("wrong", "new horse")).await;
    assert_eq!((wrong.status, error_of(&wrong).as_str()), (401, "the password is wrong"));
    assert_eq!(wrong.header("www-authenticate"), None);
    assert_eq!(registry.send(change(PASSWORD, "")).await.status, 400);
    assert_eq!(registry.send(change(PASSWORD, "new horse")).await.status, 200);
    assert_eq!(registry.send(login("bob")).await.status, 401);
    log_in(&registry, "bob", "new horse").await;
}

#[tokio::test]
async fn guessing_a_password_through_the_profile_is_slowed_down() {
    let registry = registry().await;
    let token = log_in(&registry, "bob", PASSWORD).await;
    let mut last = 0;
    for guess in 0..20 {
        let body = json!({ "password": { "old": format!("guess {guess}"), "new": "mine now" } });
        last = registry.send(profile(&token, &body)).await.status;
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn with_auth_only_a_login_takes_a_code_and_a_publish_does_not() {
    let registry = registry().await;
    let token = log_in(&registry, "bob", PASSWORD).await;
    let app = Authenticator::enrol(&registry, &token, "auth-only").await;
    assert_eq!(app.recovery.len(), 10);

    let bare = registry.send(login("bob")).await;
    assert!(asks_for_code(&bare), "{}", bare.text());
    assert_eq!(error_of(&bare), "You must provide a one-time pass.");
    let wrong = registry.send(login("bob").header("npm-otp", &app.wrong(&registry))).await;
    assert!(asks_for_code(&wrong), "{}", wrong.text());
    let code = app.code(&registry);
    let right = registry.send(login("bob").header("npm-otp", &code)).await;
    assert_eq!(right.status, 201, "{}", right.text());
    let replayed = registry.send(login("bob").header("npm-otp", &code)).await;
    assert!(asks_for_code(&replayed), "a code is good for one login");

    publish_as(&registry, "widget", &token, None).await.unwrap();
    let create = json!({ "password": PASSWORD });
    assert!(asks_for_code(&registry.send(post("npm/v1/tokens", &token, &create)).await));
    registry.clock.advance(Duration::from_mins(1));
    let made = post("npm/v1/tokens", &token, &create).header("npm-otp", &app.code(&registry));
    assert_eq!(registry.send(made).await.status, 200);
    // A wrong password does not tell that there is a second factor.
    let body = json!({ "name": "bob", "password": "wrong" });
    let stranger = TestRequest::put("/npm/-/user/org.couchdb.user:bob").anonymous().json(&body);
    let stranger = registry.send(stranger).await;
    assert_eq!((stranger.status, stranger.header("www-authenticate")), (401, None));
}

async fn publish_as(
    registry: &TestRegistry,
    name: &str,
    token: &str,
    code: Option<&str>,
) -> Result<(), TestResponse> {
    let mut request = Package::new(name, "1.0.0").put().token(token);
    if let Some(code) = code {
        request = request.header("npm-otp", code);
    }
    let answer = registry.send(request).await;
    if answer.status == 201 { Ok(()) } else { Err(answer) }
}

#[tokio::test]
async fn with_auth_and_writes_every_change_takes_a_code() {
    let registry = registry().await;
    let token = log_in(&registry, "bob", PASSWORD).await;
    publish_as(&registry, "widget", &token, None).await.unwrap();
    let other = log_in(&registry, "bob", PASSWORD).await;
    let app = Authenticator::enrol(&registry, &token, "auth-and-writes").await;

    let document = json!({ "name": "widget", "versions": { "1.0.0": { "deprecated": "old" } } });
    for (what, request) in [
        ("publish", Package::new("widget", "2.0.0").put()),
        ("deprecate", TestRequest::put("/npm/widget").json(&document)),
        ("tag", TestRequest::put("/npm/-/package/widget/dist-tags/next").json(&json!("1.0.0"))),
        ("unpublish", TestRequest::new(Method::DELETE, "/npm/widget/-rev/1-x")),
        (
            "owner",
            TestRequest::put("/npm/widget/-rev/1-x").json(&json!({ "maintainers": [{ "name": "eve" }] })),
        ),
        ("access", post("package/widget/access", &token, &json!({ "access": "restricted" }))),
        ("org", TestRequest::put("/npm/-/org/acme/user").json(&json!({ "user": "bob" }))),
        ("token", TestRequest::new(Method::DELETE, "/npm/-/npm/v1/tokens/token/0000")),
        ("profile", profile(&token, &json!({ "email": "eve@example.com" }))),
    ] {
        let answer = registry.send(request.token(&token)).await;
        assert!(asks_for_code(&answer), "{what}: {} {}", answer.status, answer.text());
    }
    for path in ["widget", "-/whoami", "-/npm/v1/user", "-/npm/v1/tokens"] {
        assert_eq!(
            registry.send(TestRequest::get(&format!("/npm/{path}")).token(&token)).await.status,
            200,
            "{path}"
        );
    }

    let code = app.code(&registry);
    publish_as(&registry, "gadget", &token, Some(&code)).await.unwrap();
    // A workspace publishes several packages with one code, and a client repeats what got no answer.
    publish_as(&registry, "sprocket", &token, Some(&code)).await.unwrap();
    let seen = publish_as(&registry, "gizmo", &other, Some(&code)).await.unwrap_err();
    assert!(asks_for_code(&seen), "the code is no good with another token");
    let recovery = &app.recovery[0];
    publish_as(&registry, "gizmo", &other, Some(recovery)).await.unwrap();
    registry.clock.advance(Duration::from_mins(2));
    assert!(
        publish_as(&registry, "gimmick", &other, Some(recovery)).await.is_err(),
        "a recovery code works once"
    );
    // Logging out must always be possible.
    let out = TestRequest::new(Method::DELETE, &format!("/npm/-/user/token/{other}")).token(&other);
    assert_eq!(registry.send(out).await.status, 200);
}

#[tokio::test]
async fn the_mode_changes_and_the_factor_goes_with_password_and_code() {
    let registry = registry().await;
    let token = log_in(&registry, "bob", PASSWORD).await;
    let app = Authenticator::enrol(&registry, &token, "auth-only").await;
    let wish = |mode: &str, password: &str| {
        profile(&token, &json!({ "tfa": { "password": password, "mode": mode } }))
    };
    assert!(asks_for_code(&registry.send(wish("disable", PASSWORD)).await));
    let changed =
        registry.send(wish("auth-and-writes", PASSWORD).header("npm-otp", &app.code(&registry))).await;
    assert_eq!(changed.json()["tfa"]["mode"], "auth-and-writes", "{}", changed.text());
    assert!(publish_as(&registry, "widget", &token, None).await.is_err());
    registry.clock.advance(Duration::from_mins(1));
    let wrong = registry.send(wish("disable", "wrong").header("npm-otp", &app.code(&registry))).await;
    assert_eq!((wrong.status, error_of(&wrong).as_str()), (401, "the password is wrong"));
    let gone = registry.send(wish("disable", PASSWORD).header("npm-otp", &app.code(&registry))).await;
    assert_eq!((gone.status, gone.json()), (200, json!({ "tfa": false })));
    publish_as(&registry, "widget", &token, None).await.unwrap();
    assert_eq!(registry.send(login("bob")).await.status, 201);
    assert_eq!(registry.send(wish("nonsense", PASSWORD)).await.status, 400);
    assert_eq!(registry.send(profile(&token, &json!({ "tfa": ["123456"] }))).await.status, 409);
}

#[tokio::test]
async fn guessing_codes_is_slowed_down_for_good() {
    let registry = registry().await;
    let token = log_in(&registry, "bob", PASSWORD).await;
    let app = Authenticator::enrol(&registry, &token, "auth-only").await;
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(registry.send(login("bob").header("npm-otp", &app.wrong(&registry))).await.status);
    }
    assert_eq!((statuses[0], statuses[11]), (401, 429), "{statuses:?}");
    let locked = registry.send(login("bob").header("npm-otp", &app.code(&registry))).await;
    assert_eq!(locked.status, 429, "the right code does not help now");
    assert!(locked.header("retry-after").is_some());
    registry.clock.advance(Duration::from_mins(10));
    assert_eq!(registry.send(login("bob").header("npm-otp", &app.code(&registry))).await.status, 201);
}

#[tokio::test]
async fn a_password_alone_opens_nothing_once_there_is_a_second_factor() {
    let registry = registry().await;
    let token = log_in(&registry, "bob", PASSWORD).await;
    let who = || TestRequest::get("/npm/-/whoami").basic("bob", PASSWORD);
    assert_eq!(registry.send(who()).await.status, 200);
    Authenticator::enrol(&registry, &token, "auth-only").await;
    assert_eq!(registry.send(who()).await.status, 401);
    let put = Package::new("widget", "1.0.0").put().basic("bob", PASSWORD);
    assert_eq!(registry.send(put).await.status, 401);
    // Another protocol's door is none either.
    assert_eq!(registry.send(TestRequest::get("/v2/").basic("bob", PASSWORD)).await.status, 401);
    // A token as the password is one.
    assert_eq!(registry.send(TestRequest::get("/npm/-/whoami").basic("bob", &token)).await.status, 200);
}

#[tokio::test]
async fn a_package_demands_a_second_factor() {
    let registry = registry().await;
    let (bob, eve) = (log_in(&registry, "bob", PASSWORD).await, log_in(&registry, "eve", PASSWORD).await);
    publish_as(&registry, "widget", &bob, None).await.unwrap();
    let app = Authenticator::enrol(&registry, &bob, "auth-only").await;
    let robot =
        post("npm/v1/tokens", &bob, &json!({ "password": PASSWORD, "name": "robot", "bypass_2fa": true }))
            .header("npm-otp", &app.code(&registry));
    let robot = registry.send(robot).await.json()["token"].as_str().unwrap().to_owned();
    let set = |body: &Value| post("package/widget/access", &bob, body);
    let automation = json!({ "publish_requires_tfa": true, "automation_token_overrides_tfa": true });
    assert_eq!(registry.send(set(&automation)).await.status, 200);
    let put = |version: &str, token: &str| Package::new("widget", version).put().token(token);
    assert!(asks_for_code(&registry.send(put("1.1.0", &bob)).await));
    assert_eq!(registry.send(put("1.1.0", &robot)).await.status, 201);
    let without = registry.send(put("1.2.0", &eve)).await;
    assert_eq!(without.status, 403);
    assert!(error_of(&without).contains("enable-2fa"), "{}", without.text());
    registry.clock.advance(Duration::from_mins(1));
    let always = set(&json!({ "publish_requires_tfa": true, "automation_token_overrides_tfa": false }))
        .header("npm-otp", &app.code(&registry));
    assert_eq!(registry.send(always).await.status, 200);
    assert!(asks_for_code(&registry.send(put("1.2.0", &robot)).await), "robots too");
    registry.clock.advance(Duration::from_mins(1));
    let none = set(&json!({ "publish_requires_tfa": false })).header("npm-otp", &app.code(&registry));
    assert_eq!(registry.send(none).await.status, 200);
    assert_eq!(registry.send(put("1.2.0", &robot)).await.status, 201);
    assert_eq!(registry.send(set(&json!({ "publish_requires_tfa": "yes" }))).await.status, 400);
    // Nothing of it is served.
    assert!(!packument(&registry, "widget").await.to_string().contains("mfa"));
}

#[tokio::test]
async fn no_way_of_publishing_gets_around_what_a_package_demands() {
    let registry = registry().await;
    let token = log_in(&registry, "bob", PASSWORD).await;
    publish_as(&registry, "widget", &token, None).await.unwrap();
    let app = Authenticator::enrol(&registry, &token, "auth-only").await;
    let always = json!({ "publish_requires_tfa": true, "automation_token_overrides_tfa": false });
    assert_eq!(registry.send(post("package/widget/access", &token, &always)).await.status, 200);
    let batch = json!({ "packages": [Package::new("widget", "1.1.0").body()] });
    let batch = || TestRequest::put("/npm/-/pnpm/v1/publish").token(&token).json(&batch);
    assert!(asks_for_code(&registry.send(batch()).await));
    // Staging is for builds, which have no authenticator; whoever approves has.
    let staged =
        registry.send(post("stage/package/widget", &token, &Package::new("widget", "1.2.0").body())).await;
    assert_eq!(staged.status, 201, "{}", staged.text());
    let path = format!("stage/{}/approve", staged.json()["stageId"].as_str().unwrap());
    let approve = || post(&path, &token, &json!({}));
    assert!(asks_for_code(&registry.send(approve()).await));
    assert!(packument(&registry, "widget").await["versions"].as_object().unwrap().len() == 1);
    let code = app.code(&registry);
    assert_eq!(registry.send(approve().header("npm-otp", &code)).await.status, 201);
    assert_eq!(registry.send(batch().header("npm-otp", &code)).await.status, 201);
}

#[tokio::test]
async fn what_a_token_made_for_less_may_not() {
    let registry = registry().await;
    let session = log_in(&registry, "bob", PASSWORD).await;
    let create = |token: &str, mut body: Value| {
        body["password"] = json!(PASSWORD);
        post("npm/v1/tokens", token, &body)
    };
    let mut narrow = Vec::new();
    for body in [
        json!({ "bypass_2fa": true }),
        json!({ "packages": ["widget"], "packages_and_scopes_permission": "read-write" }),
        json!({ "packages_all": true, "packages_and_scopes_permission": "read-write-stage-only" }),
        json!({ "readonly": true }),
    ] {
        let made = registry.send(create(&session, body)).await;
        assert_eq!(made.status, 200, "{}", made.text());
        narrow.push(made.json()["token"].as_str().unwrap().to_owned());
    }
    let key = registry.send(TestRequest::get("/npm/-/npm/v1/tokens").token(&session)).await.json()["objects"]
        [0]["key"]
        .as_str()
        .unwrap()
        .to_owned();
    for token in &narrow {
        assert_eq!(registry.send(create(token, json!({}))).await.status, 403, "no successor");
        let end = TestRequest::new(Method::DELETE, &format!("/npm/-/npm/v1/tokens/token/{key}")).token(token);
        assert_eq!(registry.send(end).await.status, 403, "no other token's end");
        for change in [
            json!({ "email": "eve@example.com" }),
            json!({ "tfa": { "password": PASSWORD, "mode": "auth-only" } }),
            json!({ "password": { "old": PASSWORD, "new": "x" } }),
        ] {
            assert_eq!(registry.send(profile(token, &change)).await.status, 403, "{change}");
        }
        let own =
            TestRequest::new(Method::DELETE, &format!("/npm/-/npm/v1/tokens/token/{token}")).token(token);
        assert_eq!(registry.send(own).await.status, 200, "its own end");
    }
}

#[tokio::test]
async fn granular_tokens_by_permission() {
    let registry = registry().await;
    let session = log_in(&registry, "bob", PASSWORD).await;
    publish_as(&registry, "widget", &session, None).await.unwrap();
    let create = |body: &Value| {
        let mut body = body.clone();
        body["password"] = json!(PASSWORD);
        post("npm/v1/tokens", &session, &body)
    };
    let token = async |body: Value| {
        let made = registry.send(create(&body)).await;
        assert_eq!(made.status, 200, "{body}: {}", made.text());
        made.json()["token"].as_str().unwrap().to_owned()
    };
    let stage =
        token(json!({ "packages_all": true, "packages_and_scopes_permission": "read-write-stage-only" }))
            .await;
    let refused = publish_as(&registry, "gadget", &stage, None).await.unwrap_err();
    assert_eq!(refused.status, 403);
    assert!(error_of(&refused).contains("stage"), "{}", refused.text());
    let tag = TestRequest::put("/npm/-/package/widget/dist-tags/next").json(&json!("1.0.0")).token(&stage);
    assert_eq!(registry.send(tag).await.status, 201, "tags still move");

    let reads = token(json!({ "packages": ["widget"], "packages_and_scopes_permission": "read-only" })).await;
    assert_eq!(publish_as(&registry, "widget", &reads, None).await.unwrap_err().status, 403);
    let one =
        token(json!({ "packages": ["gadget", "@acme"], "packages_and_scopes_permission": "read-write" }))
            .await;
    publish_as(&registry, "gadget", &one, None).await.unwrap();
    publish_as(&registry, "@acme/any", &one, None).await.unwrap();
    assert_eq!(publish_as(&registry, "gizmo", &one, None).await.unwrap_err().status, 403);
    let org = token(json!({ "orgs": ["acme"], "orgs_permission": "read-write", "packages_and_scopes_permission": "no-access" })).await;
    assert_eq!(publish_as(&registry, "@acme/other", &org, None).await.unwrap_err().status, 403);
    let set = TestRequest::put("/npm/-/org/acme/user").json(&json!({ "user": "bob" })).token(&org);
    assert_eq!(registry.send(set).await.status, 200);
    let other = TestRequest::put("/npm/-/org/other/user").json(&json!({ "user": "bob" })).token(&org);
    assert_eq!(registry.send(other).await.status, 403);

    for bad in [
        json!({ "packages": ["*"], "packages_and_scopes_permission": "read-write" }),
        json!({ "packages": ["a:b"], "packages_and_scopes_permission": "read-write" }),
        json!({ "scopes": ["@*"], "packages_and_scopes_permission": "read-write" }),
        json!({ "scopes": ["@acme/*/x"], "packages_and_scopes_permission": "read-write" }),
        json!({ "orgs": ["a:b"], "orgs_permission": "read-write" }),
        json!({ "orgs": ["acme"], "orgs_permission": "everything" }),
        json!({ "orgs_permission": "read-write" }),
        json!({ "packages_and_scopes_permission": "no-access" }),
    ] {
        assert_eq!(registry.send(create(&bad)).await.status, 422, "{bad}");
    }
}

#[tokio::test]
async fn a_token_bound_to_networks_is_refused_elsewhere_and_says_why() {
    let registry = registry().await;
    let session = log_in(&registry, "bob", PASSWORD).await;
    let body = json!({ "password": PASSWORD, "cidr_whitelist": ["10.0.0.0/8"] });
    let made = registry.send(post("npm/v1/tokens", &session, &body)).await.json();
    assert_eq!(made["cidr_whitelist"], json!(["10.0.0.0/8"]));
    let token = made["token"].as_str().unwrap();
    publish_as(&registry, "widget", &session, None).await.unwrap();
    let from = |request: TestRequest, address: &str| request.peer(address);
    let put = || Package::new("gadget", "1.0.0").put().token(token);
    let refused = registry.send(from(put(), "192.0.2.1")).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(error_of(&refused).contains("networks"), "{}", refused.text());
    assert_eq!(registry.send(put()).await.status, 403, "nobody knows from where");
    let read = TestRequest::get("/npm/widget").token(token);
    assert_eq!(registry.send(from(read, "192.0.2.1")).await.status, 200, "what is public is public");
    assert_eq!(registry.send(from(put(), "10.1.2.3")).await.status, 201);
    let bad = json!({ "password": PASSWORD, "cidr_whitelist": ["10.0.0.0/8/8"] });
    assert_eq!(registry.send(post("npm/v1/tokens", &session, &bad)).await.status, 400);
}

#[tokio::test]
async fn a_custom_provider_keeps_its_users_itself() {
    let registry = TestRegistry::new().await;
    let get = registry.send(TestRequest::get("/npm/-/npm/v1/user")).await;
    assert_eq!((get.status, &get.json()["name"]), (200, &json!("admin")));
    let set = registry.send(profile("admin", &json!({ "email": "x@example.com" }))).await;
    assert_eq!(set.status, 501);
    assert!(error_of(&set).contains("auth provider"), "{}", set.text());
}

#[tokio::test]
async fn no_secret_of_a_second_factor_is_served_or_kept_readable_longer_than_needed() {
    let registry = registry().await;
    let token = log_in(&registry, "bob", PASSWORD).await;
    let app = Authenticator::enrol(&registry, &token, "auth-only").await;
    let shown = registry.send(TestRequest::get("/npm/-/npm/v1/user").token(&token)).await.text();
    assert!(!shown.contains(&app.seed), "{shown}");
    for key in registry.keys(true).await {
        let key = crate::storage::Key::new(key).unwrap();
        let found = registry.store.get(&key, crate::storage::GetOptions::default()).await.unwrap();
        let bytes =
            crate::core::body::Body::stream(found.body, None).into_bytes("object", u64::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(app.recovery.iter().all(|code| !text.contains(code)), "{key} keeps a recovery code as it is");
        assert!(!text.contains(&token), "{key} keeps a token as it is");
    }
}
