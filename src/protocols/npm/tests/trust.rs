//! Trusted publishing: `npm trust`, and the exchange of identity tokens.

use super::users::log_in;
use super::*;
use crate::auth::TestIssuer;
use crate::testing::TestResponse;
use http::Method;

const URL: &str = "https://token.ci.example.com";
const NOW: i64 = 1_790_000_000;

pub(super) struct Site {
    pub(super) registry: TestRegistry,
    issuer: TestIssuer,
    owner: String,
}

impl Site {
    async fn new() -> Self {
        let issuer = TestIssuer::new();
        let believed = json!({ "issuer": URL, "type": "github", "jwks": issuer.jwks() });
        Self::believing(&believed, issuer).await
    }

    /// With this entry of `auth.trustedIssuers`.
    pub(super) async fn believing(believed: &Value, issuer: TestIssuer) -> Self {
        let config = json!({
            "auth": {
                "jwtSecret": "test", "selfRegistration": true,
                "trustedIssuers": [believed],
            },
            "npm": { "enabled": true, "basePath": "/npm", "registryUrl": "http://registry.example.com/npm" },
        });
        let registry = TestRegistry::with_users(config, &[]).await;
        let owner = log_in(&registry, "bob", "right horse").await;
        let site = Self { registry, issuer, owner };
        for name in ["widget", "@acme/widget"] {
            let put = Package::new(name, "1.0.0").put().token(&site.owner);
            assert_eq!(site.registry.send(put).await.status, 201);
        }
        site
    }

    pub(super) async fn trust(&self, package: &str, body: &Value) -> TestResponse {
        let path = format!("/npm/-/package/{}/trust", package.replace('/', "%2f"));
        self.registry.send(TestRequest::new(Method::POST, &path).token(&self.owner).json(body)).await
    }

    fn build(&self, changes: &Value) -> String {
        let mut claims = json!({
            "iss": URL, "aud": "npm:registry.example.com", "sub": "repo:o/r", "exp": NOW + 300, "iat": NOW, "repository": "o/r",
            "workflow_ref": "o/r/.github/workflows/release.yml@refs/heads/main", "environment": "prod",
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.issuer.token(&claims)
    }

    pub(super) async fn exchange(&self, prefix: &str, package: &str, token: &str) -> TestResponse {
        let path = format!("{prefix}/-/npm/v1/oidc/token/exchange/package/{}", package.replace('/', "%2f"));
        self.registry.send(TestRequest::new(Method::POST, &path).token(token)).await
    }
}

pub(super) fn record() -> Value {
    json!([{
        "type": "github", "permissions": ["createPackage"],
        "claims": { "repository": "o/r", "workflow_ref": { "file": "release.yml" }, "environment": "prod" },
    }])
}

#[tokio::test]
async fn a_build_publishes_its_package_and_no_other() {
    let site = Site::new().await;
    let made = site.trust("@acme/widget", &record()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()[0]["id"].as_str().unwrap().to_owned();
    // npm and pnpm ask the origin, yarn berry below the registry's path.
    for (at, prefix) in ["", "/npm"].into_iter().enumerate() {
        let answer = site.exchange(prefix, "@acme/widget", &site.build(&json!({}))).await;
        assert_eq!(answer.status, 201, "{prefix}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let answer = answer.json();
        assert_eq!(answer["token_type"], "oidc");
        let token = answer["token"].as_str().unwrap();
        let version = format!("1.{}.0", at + 1);
        assert_eq!(
            site.registry.send(Package::new("@acme/widget", &version).put().token(token)).await.status,
            201
        );
        assert_eq!(site.registry.send(Package::new("widget", &version).put().token(token)).await.status, 403);
        for (method, path) in [
            (Method::DELETE, "/npm/@acme%2fwidget/-rev/1-x"),
            (Method::GET, "/npm/-/package/@acme%2fwidget/trust"),
        ] {
            assert_eq!(
                site.registry.send(TestRequest::new(method, path).token(token)).await.status,
                403,
                "{path}"
            );
        }
        let more = TestRequest::new(Method::POST, "/npm/-/npm/v1/tokens")
            .token(token)
            .json(&json!({ "password": "x" }));
        assert_eq!(site.registry.send(more).await.status, 403, "no tokens from a build's token");
        site.registry.clock.advance(std::time::Duration::from_secs(30));
    }
    let manifest = packument(&site.registry, "@acme/widget").await["versions"]["1.1.0"].clone();
    let trusted = json!({ "id": "github", "oidcConfigId": format!("oidc:{id}") });
    assert_eq!(
        manifest["_npmUser"],
        json!({ "name": "github:o/r", "email": "", "trustedPublisher": trusted })
    );
    assert_eq!(manifest["maintainers"], json!([{ "name": "bob", "email": "" }]));
}

#[tokio::test]
async fn the_token_ends_within_the_hour() {
    let site = Site::new().await;
    site.trust("widget", &record()).await;
    let token = site.exchange("", "widget", &site.build(&json!({}))).await.json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    site.registry.clock.advance(std::time::Duration::from_secs(3601));
    assert_eq!(site.registry.send(Package::new("widget", "1.1.0").put().token(&token)).await.status, 401);
}

#[tokio::test]
async fn whatever_does_not_fit_gets_one_answer() {
    let site = Site::new().await;
    assert_eq!(site.trust("widget", &record()).await.status, 201);
    let stranger = TestIssuer::new();
    let forged = stranger.token(&json!({
        "iss": URL, "aud": "npm:registry.example.com", "exp": NOW + 300, "repository": "o/r",
        "workflow_ref": "o/r/.github/workflows/release.yml@x", "environment": "prod",
    }));
    let mut tokens =
        vec![("nonsense", "nonsense".to_owned()), ("forged", forged), ("own token", site.owner.clone())];
    for (what, changes) in [
        (
            "repository",
            json!({ "repository": "evil/r", "workflow_ref": "evil/r/.github/workflows/release.yml@x" }),
        ),
        ("workflow", json!({ "workflow_ref": "o/r/.github/workflows/other.yml@x" })),
        ("environment", json!({ "environment": "dev" })),
        ("audience", json!({ "aud": "npm:evil.example.com" })),
        ("issuer", json!({ "iss": "https://evil.example.com" })),
        ("time", json!({ "exp": NOW - 100 })),
    ] {
        tokens.push((what, site.build(&changes)));
    }
    for (what, token) in tokens {
        let answer = site.exchange("", "widget", &token).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        assert!(error_of(&answer).contains("not good for widget"), "{}", answer.text());
        assert_eq!(answer.header("www-authenticate"), None);
    }
    for package in ["@acme/widget", "nothing"] {
        assert_eq!(
            site.exchange("", package, &site.build(&json!({}))).await.status,
            401,
            "{package} trusts nobody"
        );
    }
    let path = "/-/npm/v1/oidc/token/exchange/package/widget";
    assert_eq!(site.registry.send(TestRequest::new(Method::POST, path).anonymous()).await.status, 401);
}

#[tokio::test]
async fn a_host_header_makes_no_audience() {
    let issuer = TestIssuer::new();
    let auth = json!({ "jwtSecret": "test", "trustedIssuers": [{ "issuer": URL, "type": "github", "jwks": issuer.jwks() }] });
    // No registryUrl: nobody knows what this registry is called, but for what the caller says.
    let registry = TestRegistry::with(json!({ "auth": auth }), None, None).await;
    publish(&registry, "widget", "1.0.0").await;
    let trust = TestRequest::new(Method::POST, "/npm/-/package/widget/trust").json(&record());
    assert_eq!(registry.send(trust).await.status, 201);
    let claims = json!({
        "iss": URL, "aud": "npm:registry.example.com", "exp": NOW + 300, "repository": "o/r",
        "workflow_ref": "o/r/.github/workflows/release.yml@x", "environment": "prod",
    });
    let path = "/-/npm/v1/oidc/token/exchange/package/widget";
    let request = TestRequest::new(Method::POST, path).token(&issuer.token(&claims));
    assert_eq!(registry.send(request).await.status, 401);
}

#[tokio::test]
async fn records_are_made_listed_and_revoked_by_who_runs_the_package() {
    let site = Site::new().await;
    let list = || TestRequest::get("/npm/-/package/widget/trust");
    assert_eq!(site.registry.send(list().token(&site.owner)).await.json(), json!([]));
    let made = site.trust("widget", &record()).await.json();
    assert_eq!(site.trust("widget", &record()).await.json(), made, "the same again is the same");
    assert_eq!(site.registry.send(list().token(&site.owner)).await.json(), made);
    let token = site.exchange("", "widget", &site.build(&json!({}))).await;
    assert_eq!(token.status, 201);
    let path = |id: &str| format!("/npm/-/package/widget/trust/{id}");
    let revoke = |id: &str| TestRequest::new(Method::DELETE, &path(id)).token(&site.owner);
    assert_eq!(site.registry.send(revoke("mistyped")).await.status, 404);
    assert_eq!(site.registry.send(revoke(made[0]["id"].as_str().unwrap())).await.status, 200);
    assert_eq!(site.exchange("", "widget", &site.build(&json!({}))).await.status, 401);
    assert_eq!(site.registry.send(list().anonymous()).await.status, 401);
    assert_eq!(site.trust("nothing", &record()).await.status, 404);
    for bad in [json!([]), json!({}), json!([record()[0], record()[0]])] {
        assert_eq!(site.trust("widget", &bad).await.status, 400, "{bad}");
    }
    for change in [
        ("type", json!("gitlab")),
        ("claims", json!({})),
        ("permissions", json!(["everything"])),
        ("permissions", json!([])),
    ] {
        let mut bad = record();
        bad[0][change.0] = change.1;
        assert_eq!(site.trust("widget", &bad).await.status, 422, "{bad}");
    }
}

#[tokio::test]
async fn whoever_takes_the_name_next_trusts_nobody() {
    let site = Site::new().await;
    assert_eq!(site.trust("widget", &record()).await.status, 201);
    let document = TestRequest::get("/npm/widget").query("write=true").token(&site.owner);
    let rev = site.registry.send(document).await.json()["_rev"].as_str().unwrap().to_owned();
    let gone = TestRequest::new(Method::DELETE, &format!("/npm/widget/-rev/{rev}")).token(&site.owner);
    assert_eq!(site.registry.send(gone).await.status, 200);
    let next = log_in(&site.registry, "eve", "another horse").await;
    assert_eq!(site.registry.send(Package::new("widget", "2.0.0").put().token(&next)).await.status, 201);
    assert_eq!(site.exchange("", "widget", &site.build(&json!({}))).await.status, 401);
}

#[tokio::test]
async fn a_build_that_may_only_stage_does_not_publish() {
    let site = Site::new().await;
    let mut staged = record();
    staged[0]["permissions"] = json!(["createStagedPackage"]);
    assert_eq!(site.trust("widget", &staged).await.status, 201);
    let token = site.exchange("", "widget", &site.build(&json!({}))).await.json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let refused = site.registry.send(Package::new("widget", "1.1.0").put().token(&token)).await;
    assert_eq!(refused.status, 403);
    assert!(error_of(&refused).contains("stage"), "{}", refused.text());
}

#[tokio::test]
async fn without_issuers_there_is_no_exchange() {
    let registry = TestRegistry::new().await;
    for prefix in ["", "/npm"] {
        let path = format!("{prefix}/-/npm/v1/oidc/token/exchange/package/widget");
        assert_eq!(registry.send(TestRequest::new(Method::POST, &path)).await.status, 404);
    }
}
