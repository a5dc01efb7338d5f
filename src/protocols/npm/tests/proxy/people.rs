//! A provider that gives each user other upstreams: what is one's is not another's.

use super::*;
use crate::testing::upstream::PerUser;

/// The fake as somebody sees it who has this token there.
fn as_user(fake: &FakeUpstream, token: &str, more: Value) -> Value {
    let mut config = fake.config_with(more);
    config["upstreams"][0]["auth"] = json!({ "type": "bearer", "token": token });
    config
}

fn ask(registry: &TestRegistry, user: &str, path: &str) -> impl Future<Output = TestResponse> {
    registry.send(get(path).token(&format!("user:{user}")))
}

#[tokio::test]
async fn other_credentials_show_other_packages_whether_they_are_kept_or_not() {
    for kept in [false, true] {
        let fake = FakeUpstream::start().await;
        let (hers, his) = (packument(&fake, "secret", &["1.0.0"]), packument(&fake, "secret", &["2.0.0"]));
        fake.script(move |asked| match (asked.path.as_str(), asked.header("authorization")) {
            ("/secret", Some("Bearer alice")) => Some(Reply::json(&hers)),
            ("/secret", Some("Bearer bob")) => Some(Reply::json(&his)),
            _ => None,
        });
        let more = json!({ "cache": { "enabled": kept } });
        let people = PerUser::new(&[
            ("alice", as_user(&fake, "alice", more.clone())),
            ("bob", as_user(&fake, "bob", more.clone())),
            ("carol", as_user(&fake, "carol", more)),
        ]);
        let registry = TestRegistry::with_upstreams(json!({}), people).await;
        for (user, version) in [("alice", "1.0.0"), ("bob", "2.0.0"), ("alice", "1.0.0")] {
            let shown = ask(&registry, user, "/secret").await.json();
            assert_eq!(shown["dist-tags"]["latest"], version, "{user}, kept: {kept}");
            assert_eq!(shown["versions"].as_object().unwrap().len(), 1, "{user}, kept: {kept}");
            let latest = ask(&registry, user, "/secret/latest").await.json();
            assert_eq!(latest["version"], version, "{user}, kept: {kept}");
        }
        for user in ["carol", "nobody"] {
            assert_eq!(ask(&registry, user, "/secret").await.status, 404, "{user}, kept: {kept}");
        }
    }
}

#[tokio::test]
async fn another_address_under_the_same_id_is_another_upstream() {
    let (hers, his) = (FakeUpstream::start().await, FakeUpstream::start().await);
    serve(&hers, "secret", &["1.0.0"]);
    serve(&hers, "shared", &["1.0.0"]);
    serve(&his, "shared", &["2.0.0"]);
    let people = PerUser::new(&[("alice", hers.config()), ("bob", his.config())]);
    let registry = TestRegistry::with_upstreams(json!({}), people).await;
    for path in ["/secret", "/secret/-/secret-1.0.0.tgz"] {
        assert_eq!(ask(&registry, "alice", path).await.status, 200, "{path}");
        assert_eq!(ask(&registry, "bob", path).await.status, 404, "{path}");
    }
    for (user, version) in [("alice", "1.0.0"), ("bob", "2.0.0")] {
        let shown = ask(&registry, user, "/shared").await.json();
        assert_eq!(shown["dist-tags"]["latest"], version, "{user}");
    }
}
