//! Organisations and teams, as `npm org`, `npm team` and `npm access` send them.

use super::users::log_in;
use super::*;
use crate::testing::TestResponse;
use http::Method;

struct Site {
    registry: TestRegistry,
    tokens: std::collections::BTreeMap<&'static str, String>,
}

impl Site {
    async fn new() -> Self {
        let auth = json!({ "auth": { "jwtSecret": "test", "selfRegistration": true } });
        let registry = TestRegistry::with_users(auth, &[]).await;
        let mut tokens = std::collections::BTreeMap::new();
        for user in ["olga", "dora", "dan", "eve"] {
            tokens.insert(user, log_in(&registry, user, "right horse").await);
        }
        Self { registry, tokens }
    }

    async fn call(&self, who: &str, method: &str, path: &str, body: Option<Value>) -> TestResponse {
        let request = TestRequest::new(method.parse::<Method>().unwrap(), &format!("/npm/-/{path}"))
            .token(&self.tokens[who]);
        self.registry
            .send(match body {
                Some(body) => request.json(&body),
                None => request,
            })
            .await
    }

    async fn get(&self, who: &str, path: &str) -> Value {
        let answer = self.call(who, "GET", path, None).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    async fn done(&self, who: &str, method: &str, path: &str, body: Value) {
        let answer = self.call(who, method, path, Some(body)).await;
        assert!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.text());
    }

    async fn publish(&self, who: &str, name: &str, version: &str) -> u16 {
        self.registry.send(Package::new(name, version).put().token(&self.tokens[who])).await.status
    }

    /// olga owns acme; dora and dan are developers, dora in the team `core`.
    async fn acme() -> Self {
        let site = Self::new().await;
        site.done("olga", "PUT", "org/acme/user", json!({ "user": "olga", "role": "owner" })).await;
        site.done("olga", "PUT", "org/acme/user", json!({ "user": "@dora", "role": "developer" })).await;
        site.done("olga", "PUT", "org/acme/user", json!({ "user": "dan", "role": null })).await;
        site.done("olga", "PUT", "org/acme/team", json!({ "name": "core", "description": "the core" })).await;
        site.done("olga", "PUT", "team/acme/core/user", json!({ "user": "dora" })).await;
        site
    }
}

#[tokio::test]
async fn an_organisation_is_made_listed_and_changed() {
    let site = Site::acme().await;
    assert_eq!(
        site.get("dan", "org/acme/user").await,
        json!({ "olga": "owner", "dora": "developer", "dan": "developer" })
    );
    assert_eq!(site.get("dan", "org/@acme/team").await, json!(["acme:developers", "acme:core"]));
    assert_eq!(site.get("dan", "team/acme/core/user").await, json!(["dora"]));
    assert_eq!(site.get("dan", "team/acme/developers/user").await, json!(["dan", "dora", "olga"]));
    let set =
        site.call("olga", "PUT", "org/acme/user", Some(json!({ "user": "dan", "role": "admin" }))).await;
    assert_eq!(set.json(), json!({ "org": { "name": "acme", "size": 3 }, "user": "dan", "role": "admin" }));
    // An admin adds developers, and makes no admins.
    site.done("dan", "PUT", "org/acme/user", json!({ "user": "eve" })).await;
    for body in [json!({ "user": "eve", "role": "admin" }), json!({ "user": "olga", "role": "developer" })] {
        assert_eq!(site.call("dan", "PUT", "org/acme/user", Some(body)).await.status, 403);
    }
    site.done("dan", "DELETE", "org/acme/user", json!({ "user": "eve" })).await;
    assert_eq!(
        site.call("dan", "DELETE", "org/acme/user", Some(json!({ "user": "olga" }))).await.status,
        403
    );
    let last = site.call("olga", "DELETE", "org/acme/user", Some(json!({ "user": "olga" }))).await;
    assert_eq!(last.status, 403);
    assert!(error_of(&last).contains("last owner"));
    site.done("olga", "DELETE", "team/acme/core/user", json!({ "user": "dora" })).await;
    assert_eq!(site.get("dan", "team/acme/core/user").await, json!([]));
    assert_eq!(site.call("olga", "DELETE", "team/acme/core", None).await.status, 200);
    assert_eq!(site.get("dan", "org/acme/team").await, json!(["acme:developers"]));
    let missing = site.call("olga", "PUT", "org/acme/user", Some(json!({ "user": "nobody" }))).await;
    assert_eq!((missing.status, error_of(&missing).as_str()), (404, "there is no user nobody"));
    for bad in [json!({}), json!({ "user": "" }), json!({ "user": "eve", "role": "king" })] {
        assert_eq!(site.call("olga", "PUT", "org/acme/user", Some(bad)).await.status, 400);
    }
}

#[tokio::test]
async fn to_others_an_organisation_is_not_there() {
    let site = Site::acme().await;
    for path in [
        "org/acme/user",
        "org/acme/team",
        "org/acme/package",
        "team/acme/core/user",
        "team/acme/core/package",
    ] {
        let (hidden, missing) = (
            site.call("eve", "GET", path, None).await,
            site.call("eve", "GET", &path.replace("acme", "nothing"), None).await,
        );
        assert_eq!((hidden.status, hidden.text()), (404, missing.text()), "{path}");
        let nobody = site.registry.send(TestRequest::get(&format!("/npm/-/{path}")).anonymous()).await;
        assert_eq!(nobody.status, 401, "{path}");
    }
    for (method, path, body) in [
        ("PUT", "org/acme/user", json!({ "user": "eve", "role": "owner" })),
        ("DELETE", "org/acme/user", json!({ "user": "dora" })),
        ("PUT", "org/acme/team", json!({ "name": "mine" })),
        ("PUT", "team/acme/core/user", json!({ "user": "eve" })),
        ("PUT", "team/acme/core/package", json!({ "package": "@acme/widget", "permissions": "read-write" })),
    ] {
        assert_eq!(site.call("eve", method, path, Some(body.clone())).await.status, 404, "{method} {path}");
        assert!(matches!(site.call("dan", method, path, Some(body)).await.status, 403), "{method} {path}");
    }
    for name in ["..%2fx", "a:b", "Acme!", "node%5Fmodules%2f.."] {
        assert!(
            matches!(site.call("olga", "GET", &format!("org/{name}/user"), None).await.status, 400 | 404),
            "{name}"
        );
    }
}

#[tokio::test]
async fn nobody_takes_anothers_scope() {
    let site = Site::new().await;
    assert_eq!(site.publish("eve", "@theirs/widget", "1.0.0").await, 201);
    let found = |org: &str| format!("org/{org}/user");
    let own = || Some(json!({ "user": "olga" }));
    assert_eq!(site.call("olga", "PUT", &found("theirs"), own()).await.status, 403, "packages of others");
    assert_eq!(site.call("olga", "PUT", &found("eve"), own()).await.status, 403, "the name of a user");
    assert_eq!(site.call("eve", "PUT", &found("theirs"), Some(json!({ "user": "olga" }))).await.status, 200);
    assert_eq!(site.get("eve", "org/theirs/user").await, json!({ "eve": "owner", "olga": "developer" }));
}

#[tokio::test]
async fn teams_decide_who_writes_and_who_reads_what_is_private() {
    let site = Site::acme().await;
    assert_eq!(site.publish("eve", "@acme/widget", "1.0.0").await, 403, "no member");
    assert_eq!(site.publish("dora", "@acme/widget", "1.0.0").await, 201);
    assert_eq!(site.publish("dan", "@acme/widget", "1.1.0").await, 201, "granted to nobody, so everybody's");
    let grant = |permissions: &str| json!({ "package": "@acme/widget", "permissions": permissions });
    site.done("olga", "PUT", "team/acme/core/package", grant("read-write")).await;
    assert_eq!(site.publish("dora", "@acme/widget", "1.2.0").await, 201);
    assert_eq!(site.publish("dan", "@acme/widget", "1.3.0").await, 403);
    assert_eq!(site.publish("olga", "@acme/widget", "1.3.0").await, 201);
    site.done("olga", "POST", "package/@acme%2fwidget/access", json!({ "access": "restricted" })).await;
    let read = |who: &str| TestRequest::get("/npm/@acme%2fwidget").token(&site.tokens[who]);
    let missing =
        site.registry.send(TestRequest::get("/npm/@acme%2fnothing").token(&site.tokens["dan"])).await;
    for (who, status) in [("olga", 200), ("dora", 200), ("dan", 404), ("eve", 404)] {
        let answer = site.registry.send(read(who)).await;
        assert_eq!(answer.status, status, "{who}");
        assert!(status == 200 || answer.text() == missing.text());
    }
    let tarball = TestRequest::get("/npm/@acme/widget/-/widget-1.0.0.tgz").token(&site.tokens["eve"]);
    assert_eq!(site.registry.send(tarball).await.status, 404);
    site.done("olga", "PUT", "team/acme/developers/package", grant("read-only")).await;
    assert_eq!(site.registry.send(read("dan")).await.status, 200);
    assert_eq!(site.publish("dan", "@acme/widget", "1.4.0").await, 403);

    assert_eq!(
        site.get("dan", "package/@acme%2fwidget/collaborators").await,
        json!({ "olga": "write", "dora": "write", "dan": "read" })
    );
    let one = TestRequest::get("/npm/-/package/@acme%2fwidget/collaborators")
        .query("format=cli&user=dan")
        .token(&site.tokens["dan"]);
    assert_eq!(site.registry.send(one).await.json(), json!({ "dan": "read" }));
    assert_eq!(site.get("dan", "team/acme/core/package").await, json!({ "@acme/widget": "write" }));
    assert_eq!(site.get("dan", "org/acme/package").await, json!({ "@acme/widget": "read" }));
    assert_eq!(site.call("dora", "GET", "org/dora/package", None).await.status, 404);
    assert_eq!(site.get("dora", "user/dora/package").await, json!({ "@acme/widget": "write" }));
    assert_eq!(site.call("dora", "GET", "user/nobody/package", None).await.status, 404);

    site.done("olga", "DELETE", "team/acme/core/package", json!({ "package": "@acme/widget" })).await;
    site.done("olga", "DELETE", "team/acme/developers/package", json!({ "package": "@acme/widget" })).await;
    assert_eq!(site.publish("dan", "@acme/widget", "1.4.0").await, 201);
    site.done("olga", "DELETE", "org/acme/user", json!({ "user": "dan" })).await;
    assert_eq!(site.publish("dan", "@acme/widget", "1.5.0").await, 403);
    for bad in [
        json!({ "package": "@acme/widget" }),
        json!({ "package": "@other/widget", "permissions": "read-only" }),
        grant("everything"),
        json!({}),
    ] {
        assert_eq!(site.call("olga", "PUT", "team/acme/core/package", Some(bad)).await.status, 400);
    }
    assert_eq!(
        site.call("olga", "PUT", "team/acme/none/package", Some(grant("read-only"))).await.status,
        404
    );
}

#[tokio::test]
async fn collaborators_of_a_package_without_an_organisation_are_its_owners() {
    let site = Site::new().await;
    assert_eq!(site.publish("eve", "widget", "1.0.0").await, 201);
    assert_eq!(site.get("dan", "package/widget/collaborators").await, json!({ "eve": "write" }));
    assert_eq!(site.call("dan", "GET", "package/nothing/collaborators", None).await.status, 404);
}
