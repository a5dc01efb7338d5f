//! Who may: challenges, the token endpoint, and what a token then does.

use super::*;
use crate::core::body::FormField;

const REALM: &str = "Bearer realm=\"http://registry.example.com/v2/token\",service=\"smartregistry\"";

/// Built-in users, none of whom may read what is in `secret/`.
async fn private() -> TestRegistry {
    let auth = json!({
        "jwtSecret": "0123456789abcdef0123456789abcdef",
        "visibility": [{ "pattern": "oci:repository:secret/*", "visibility": "private" }],
    });
    TestRegistry::with_users(json!({ "auth": auth }), &["ann", "bob"]).await
}

/// A bearer token for these scopes.
async fn token(registry: &TestRegistry, request: TestRequest) -> String {
    let answer = registry.send(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    assert_eq!(json["token"], json["access_token"]);
    assert!(json["expires_in"].as_u64().unwrap() >= 60);
    json["token"].as_str().unwrap().to_owned()
}

fn ask(scopes: &[&str]) -> TestRequest {
    let query: Vec<String> =
        scopes.iter().map(|scope| format!("scope={}", scope.replace(' ', "+"))).collect();
    get(&format!("/v2/token?service=smartregistry&{}", query.join("&"))).anonymous()
}

#[tokio::test]
async fn the_base_tells_clients_to_log_in_though_reading_is_public() {
    let registry = private().await;
    for path in ["/v2/", "/v2"] {
        let answer = registry.send(get(path).anonymous()).await;
        assert_eq!((answer.status, code(&answer).as_str()), (401, "UNAUTHORIZED"));
        assert_eq!(answer.header("www-authenticate"), Some(REALM));
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
    }
    let good = registry.send(get("/v2/").basic("ann", "right")).await;
    assert_eq!(
        (good.status, good.text().as_str(), good.header("content-type")),
        (200, "{}", Some("application/json"))
    );
    let bad = registry.send(get("/v2/").basic("ann", "wrong")).await;
    assert_eq!((bad.status, bad.header("www-authenticate")), (401, Some(REALM)));
    let bad = registry.send(get("/v2/").token("garbage")).await;
    assert_eq!(bad.header("www-authenticate"), Some(format!("{REALM},error=\"invalid_token\"").as_str()));
    // The empty pair that old clients send is nobody, not a failed login.
    let nobody = registry.send(get("/v2/").basic("", "")).await;
    assert_eq!((nobody.status, nobody.header("www-authenticate")), (401, Some(REALM)));
    let anonymous = token(&registry, ask(&[])).await;
    assert_eq!(registry.send(get("/v2/").token(&anonymous)).await.status, 200);
}

#[tokio::test]
async fn too_little_is_401_for_a_token_and_403_for_a_password() {
    let registry = private().await;
    let layer = sha256(b"layer");
    let path = format!("/v2/secret/app/blobs/{layer}");
    let wants = |scope: &str| format!("{REALM},scope=\"{scope}\"");
    let challenge = async |request: TestRequest| {
        let answer = registry.send(request).await;
        (answer.status, answer.header("www-authenticate").unwrap_or_default().to_owned())
    };
    let pull = "repository:secret/app:pull";
    let push = "repository:secret/app:pull,push";
    let session = "/v2/secret/app/blobs/uploads/00000000-0000-4000-8000-000000000000";
    assert_eq!(challenge(get(&path).anonymous()).await, (401, wants(pull)));
    assert_eq!(challenge(head(&path).anonymous()).await, (401, wants(pull)));
    assert_eq!(challenge(get("/v2/secret/app/tags/list").anonymous()).await, (401, wants(pull)));
    assert_eq!(challenge(get("/v2/secret/app/manifests/v").anonymous()).await, (401, wants(pull)));
    assert_eq!(challenge(post("/v2/secret/app/blobs/uploads/").anonymous()).await, (401, wants(push)));
    assert_eq!(challenge(get(session).anonymous()).await, (401, wants(push)));
    assert_eq!(challenge(put("/v2/secret/app/manifests/v").anonymous()).await, (401, wants(push)));
    assert_eq!(challenge(delete(&path).anonymous()).await, (401, wants("repository:secret/app:delete")));
    assert_eq!(challenge(get("/v2/_catalog").anonymous()).await, (401, wants("registry:catalog:*")));
    let mount = format!("/v2/secret/app/blobs/uploads/?mount={layer}&from=b");
    assert_eq!(challenge(post(&mount).anonymous()).await, (401, wants(&format!("{push} repository:b:pull"))));
    // A token that only pulls, used for a session's status as the conformance suite does.
    let pulls = token(&registry, ask(&[pull]).basic("ann", "right")).await;
    assert_eq!(registry.send(head(&path).token(&pulls)).await.status, 404);
    for request in [get(session), post("/v2/secret/app/blobs/uploads/")] {
        let (status, header) = challenge(request.token(&pulls)).await;
        assert_eq!((status, header), (401, format!("{},error=\"insufficient_scope\"", wants(push))));
    }
    let other = token(&registry, ask(&["repository:secret/other:pull"]).basic("ann", "right")).await;
    assert_eq!(challenge(get(&path).token(&other)).await.0, 401);
    // A read-only token in the place of the password: there is no better one to get.
    let options = crate::auth::TokenOptions { readonly: true, ..Default::default() };
    let readonly = registry.registry.auth().create_token("ann", NAME, &options).await.unwrap();
    let refused = registry.send(post("/v2/a/blobs/uploads/").basic("ann", readonly.expose())).await;
    assert_eq!((refused.status, code(&refused).as_str()), (403, "DENIED"));
}

#[tokio::test]
async fn a_token_grants_what_was_asked_for_and_is_allowed_and_no_more() {
    let registry = private().await;
    let asked =
        ask(&["repository:k/one:pull repository:k/one:pull,push", "repository:k/two:*", "repository:*:push"]);
    let answer = registry.send(asked.basic("ann", "right")).await.json();
    assert_eq!(answer["scope"], "repository:k/one:pull,push repository:k/two:pull,push,delete");
    assert!(answer.get("refresh_token").is_none());
    let bearer = answer["token"].as_str().unwrap().to_owned();
    let start = async |name: &str| {
        registry.send(post(&format!("/v2/{name}/blobs/uploads/")).token(&bearer)).await.status
    };
    assert_eq!((start("k/one").await, start("k/two").await, start("k/three").await), (202, 202, 401));
    // Nobody gets what is public to read, and that is no error.
    let answer = registry.send(ask(&["repository:k/one:pull,push repository:secret/app:pull"])).await.json();
    assert_eq!(answer["scope"], "repository:k/one:pull");
    let nobody = answer["token"].as_str().unwrap();
    assert_eq!(registry.send(get("/v2/k/one/tags/list").token(nobody)).await.status, 404);
    assert_eq!(registry.send(get("/v2/secret/app/tags/list").token(nobody)).await.status, 401);
    let wrong = registry.send(ask(&[]).basic("ann", "wrong")).await;
    assert_eq!(
        (wrong.status, wrong.header("www-authenticate")),
        (401, Some("Basic realm=\"smartregistry\""))
    );
    assert_eq!(registry.send(ask(&["repository:a:pull"]).basic("", "")).await.status, 200);
    registry.clock.advance(std::time::Duration::from_hours(3));
    let late = registry.send(post("/v2/k/one/blobs/uploads/").token(&bearer)).await;
    assert!(late.header("www-authenticate").unwrap().ends_with(",error=\"invalid_token\""));
}

#[tokio::test]
async fn a_token_for_the_catalog_shows_what_its_user_may_pull_and_opens_nothing() {
    let registry = private().await;
    for name in ["open/app", "secret/app", "secret/other"] {
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", sha256(b"{}"));
        assert_eq!(registry.send(post(&path).basic("ann", "right").body("{}")).await.status, 201);
    }
    let options = |scopes: &[&str]| crate::auth::TokenOptions {
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..Default::default()
    };
    let some = options(&["oci:registry:catalog:*", "oci:repository:secret/other:push"]);
    let some = registry.registry.auth().create_token("bob", NAME, &some).await.unwrap();
    // A listing scope in a token that we did not sign means nothing.
    let none = options(&["oci:registry:catalog:*", "oci:listing:*:pull"]);
    let none = registry.registry.auth().create_token("bob", NAME, &none).await.unwrap();
    for (user, password, expected) in [
        ("ann", "right", vec!["open/app", "secret/app", "secret/other"]),
        ("bob", some.expose(), vec!["open/app", "secret/other"]),
        ("bob", none.expose(), vec!["open/app"]),
    ] {
        let direct = registry.send(get("/v2/_catalog").basic(user, password)).await.json();
        assert_eq!(direct, json!({ "repositories": expected }));
        let bearer = token(&registry, ask(&["registry:catalog:*"]).basic(user, password)).await;
        let listed = registry.send(get("/v2/_catalog").token(&bearer)).await.json();
        assert_eq!(listed, direct);
        let blob = format!("/v2/secret/other/blobs/{}", sha256(b"{}"));
        assert_eq!(registry.send(get(&blob).token(&bearer)).await.status, 401);
    }
    let anonymous = token(&registry, ask(&["registry:catalog:*"])).await;
    assert_eq!(registry.send(get("/v2/_catalog").token(&anonymous)).await.status, 401);
}

#[tokio::test]
async fn the_token_endpoint_takes_forms_in_every_place_and_shape() {
    let registry = private().await;
    let form = |text: &str, path: &str| {
        let request = post(path).anonymous().header("content-type", "application/x-www-form-urlencoded");
        request.body(text.to_owned().into_bytes())
    };
    let password = "grant_type=password&username=ann&password=right&service=s&client_id=c&scope=repository:a:pull,push+repository:b:pull&access_type=offline";
    for path in ["/v2/token", "/oci/token", "/oci/v2/token"] {
        let answer = registry.send(form(password, path)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["scope"], "repository:a:pull,push repository:b:pull");
        let refresh = answer.json()["refresh_token"].as_str().unwrap().to_owned();
        let again =
            format!("grant_type=refresh_token&refresh_token={refresh}&service=s&scope=repository:a:push");
        let bearer = token(&registry, form(&again, path)).await;
        assert_eq!(registry.send(post("/v2/a/blobs/uploads/").token(&bearer)).await.status, 202);
        // It is good for nothing but this.
        assert_eq!(registry.send(get("/v2/").token(&refresh)).await.status, 401);
    }
    let fields = [("grant_type", "password"), ("username", "ann"), ("password", "right")];
    let given =
        fields.map(|(name, value)| FormField { name: name.into(), filename: None, value: value.into() });
    token(&registry, post("/v2/token").anonymous().body(Body::Form(given.to_vec()))).await;
    token(&registry, post("/v2/token").anonymous().body("scope=repository:a:pull")).await;
    for (text, status) in [
        ("grant_type=password&username=ann&password=wrong", 401),
        ("grant_type=refresh_token&refresh_token=garbage", 401),
        ("grant_type=authorization_code", 400),
    ] {
        assert_eq!(registry.send(form(text, "/v2/token")).await.status, status, "{text}");
    }
    let large = post("/v2/token").anonymous().body(vec![b'a'; (1 << 20) + 1]);
    assert_eq!(registry.send(large).await.status, 413);
    let login =
        get("/v2/token?account=ann&client_id=docker&offline_token=true&service=s").basic("ann", "right");
    assert!(registry.send(login).await.json()["refresh_token"].is_string());
}

#[tokio::test]
async fn without_bearer_tokens_the_challenge_is_basic() {
    let auth = json!({ "jwtSecret": "0123456789abcdef0123456789abcdef", "ociTokens": { "enabled": false, "service": "here" } });
    let registry = TestRegistry::with_users(json!({ "auth": auth }), &["ann"]).await;
    let answer = registry.send(get("/v2/").anonymous()).await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Basic realm=\"here\"")));
    assert_eq!(registry.send(get("/v2/").basic("ann", "right")).await.status, 200);
    assert_eq!(registry.send(ask(&[])).await.status, 404);
}

#[tokio::test]
async fn a_session_belongs_to_who_opened_it() {
    let registry = private().await;
    let opened = registry.send(post("/v2/a/blobs/uploads/").basic("ann", "right")).await;
    let place = opened.header("location").unwrap();
    for request in [get(place), patch(place).body("x"), delete(place)] {
        assert_eq!(registry.send(request.basic("bob", "right")).await.status, 404);
    }
    // Whatever form the credentials have.
    let bearer = token(&registry, ask(&["repository:a:push"]).basic("ann", "right")).await;
    assert_eq!(registry.send(patch(place).token(&bearer).body("x")).await.status, 202);
    // A token that ended meanwhile does not end the session.
    registry.clock.advance(std::time::Duration::from_hours(3));
    let last = format!("{place}?digest={}", sha256(b"x"));
    assert_eq!(registry.send(put(&last).token(&bearer)).await.status, 401);
    assert_eq!(registry.send(put(&last).basic("ann", "right")).await.status, 201);
}

#[tokio::test]
async fn a_mount_takes_only_what_the_caller_may_pull() {
    let auth = json!({
        "jwtSecret": "0123456789abcdef0123456789abcdef",
        "visibility": [{ "pattern": "oci:repository:secret/*", "visibility": "private" }],
    });
    let registry = TestRegistry::with_users(json!({ "auth": auth }), &["ann"]).await;
    let digest = sha256(b"blob");
    let pushed =
        post(&format!("/v2/secret/app/blobs/uploads/?digest={digest}")).basic("ann", "right").body("blob");
    assert_eq!(registry.send(pushed).await.status, 201);
    let bearer = token(&registry, ask(&["repository:mine:pull,push"]).basic("ann", "right")).await;
    let catalog = token(&registry, ask(&["registry:catalog:*"]).basic("ann", "right")).await;
    let list = registry.send(get("/v2/_catalog").token(&catalog)).await.json();
    assert_eq!(list, json!({ "repositories": ["secret/app"] }), "what its user may pull");
    for query in [format!("mount={digest}&from=secret/app"), format!("mount={digest}")] {
        let answer = registry.send(post(&format!("/v2/mine/blobs/uploads/?{query}")).token(&bearer)).await;
        assert_eq!(answer.status, 202, "{query}");
    }
    let both =
        token(&registry, ask(&["repository:mine:push repository:secret/app:pull"]).basic("ann", "right"))
            .await;
    let answer = registry.send(post(&format!("/v2/mine/blobs/uploads/?mount={digest}")).token(&both)).await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn a_push_whose_tag_is_refused_leaves_no_manifest() {
    use crate::storage::{HookContext, Hooks, Operation, Verdict};
    #[derive(Default)]
    struct Fixed(parking_lot::Mutex<Vec<String>>);
    #[async_trait::async_trait]
    impl Hooks for Fixed {
        async fn before_put(&self, context: &HookContext) -> Verdict {
            self.0.lock().push(format!("before {} {:?}", context.key, context.info.size.is_some()));
            match context.key.as_str() {
                "oci/tags/a/tags.json" if context.info.version.as_deref() == Some("fixed") => {
                    Verdict::Denied(Some("releases are final".to_owned()))
                }
                _ => Verdict::Allowed,
            }
        }

        async fn after_put(&self, context: &HookContext) {
            assert_eq!(context.operation, Operation::Put);
            self.0.lock().push(format!("after {}", context.key));
        }
    }
    let hooks = Arc::new(Fixed::default());
    let registry = TestRegistry::with(json!({}), None, Some(Arc::clone(&hooks) as _)).await;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] });
    let key = format!("oci/manifests/a/{}", sha256(index.to_string().as_bytes()));
    let asked = [format!("before {key} true"), "before oci/tags/a/tags.json false".to_owned()];
    let answer = registry.send(put_manifest("a", "fixed", &index)).await;
    assert_eq!((answer.status, code(&answer).as_str()), (403, "DENIED"));
    assert_eq!(std::mem::take(&mut *hooks.0.lock()), asked);
    assert_eq!(registry.keys(true).await, Vec::<String>::new());
    // Each is asked for once, and told of once.
    assert_eq!(registry.send(put_manifest("a", "v1", &index)).await.status, 201);
    let told = [format!("after {key}"), "after oci/tags/a/tags.json".to_owned()];
    assert_eq!(std::mem::take(&mut *hooks.0.lock()), [asked, told].concat());
}

#[tokio::test]
async fn hooks_can_refuse_and_nothing_stays() {
    use crate::storage::{HookContext, Hooks, Verdict};
    struct No;
    #[async_trait::async_trait]
    impl Hooks for No {
        async fn before_put(&self, context: &HookContext) -> Verdict {
            assert!(!context.key.starts_with("_sr/"));
            Verdict::Denied(Some("the quota is used up".to_owned()))
        }
    }
    let registry = TestRegistry::with(json!({}), None, Some(Arc::new(No))).await;
    let digest = sha256(b"blob");
    let place = super::uploads::open(&registry, "a").await;
    registry.send(patch(&place).body("blob")).await;
    for request in [
        post(&format!("/v2/a/blobs/uploads/?digest={digest}")).body("blob"),
        put(&format!("{place}?digest={digest}")),
        put_manifest("a", "v", &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] })),
    ] {
        let answer = registry.send(request).await;
        assert_eq!((answer.status, code(&answer).as_str()), (403, "DENIED"));
        assert!(answer.text().contains("the quota is used up"));
    }
    assert_eq!(registry.keys(false).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_token_is_never_longer_than_what_is_taken() {
    let registry = private().await;
    let names = |count: usize, length: usize| -> Vec<String> {
        (0..count).rev().map(|number| format!("k/{number:03}{}", "x".repeat(length))).collect()
    };
    let scope_of = |name: &String| format!("repository:{name}:pull,push");
    // As many as a build with many cross-repository mounts asks for.
    let many = names(60, 50);
    let scopes: Vec<String> = many.iter().map(scope_of).collect();
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let answer = registry.send(ask(&scopes).basic("ann", "right")).await.json();
    assert_eq!(answer["scope"], scopes.join(" "));
    let bearer = answer["token"].as_str().unwrap().to_owned();
    for name in [&many[0], &many[59]] {
        let begun = registry.send(post(&format!("/v2/{name}/blobs/uploads/")).token(&bearer)).await;
        assert_eq!(begun.status, 202, "{}", bearer.len());
    }
    // More than fit: the first of them, and the token is good for those.
    let long = names(100, 200);
    let scopes: Vec<String> = long.iter().map(scope_of).collect();
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let answer = registry.send(ask(&scopes).basic("ann", "right")).await.json();
    let granted: Vec<&str> = answer["scope"].as_str().unwrap().split(' ').collect();
    assert!(granted.len() > 20 && scopes.starts_with(&granted), "{}", granted.len());
    let bearer = answer["token"].as_str().unwrap();
    assert!(bearer.len() <= 12 << 10);
    let start = async |name: &String| {
        registry.send(post(&format!("/v2/{name}/blobs/uploads/")).token(bearer)).await.status
    };
    assert_eq!((start(&long[0]).await, start(&long[granted.len() - 1]).await), (202, 202));
    assert_eq!(start(&long[granted.len()]).await, 401);
    // Nor by hand.
    let scopes: Vec<String> = long.iter().map(|name| format!("oci:repository:{name}:push")).collect();
    let refused = registry.registry.auth().sign_oci("ann", &scopes, std::time::Duration::from_mins(1));
    assert!(refused.unwrap_err().message().starts_with("100 scopes make a token of "));
}
