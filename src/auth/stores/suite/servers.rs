//! What holds for stores elsewhere: how they begin, and what happens when they are not there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::Executor;
use tokio::task::JoinSet;

use super::world::{Kind, World};
use crate::auth::tests::{NPM, npm_token};
use crate::auth::{Auth, TokenOptions};
use crate::core::error::Kind as ErrorKind;
use crate::core::id;
use crate::core::secret::Secret;

/// A server that is not there.
async fn refuses(options: serde_json::Value, option: &str, shown: &str) {
    let world = World::new(Kind::Storage).await;
    let auth = world.with(&options);
    let error = auth.prepare().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let message = error.message();
    assert!(message.contains(option) && message.contains(shown), "{message}");
    let began = Instant::now();
    let text = Secret::new(id::uuid());
    for error in [
        auth.validate_token(&text, None).await.unwrap_err(),
        auth.create_token("bob", NPM, &TokenOptions::default()).await.unwrap_err(),
        auth.add_user("bob", &Secret::new("x")).await.unwrap_err(),
        auth.list_users().await.unwrap_err(),
    ] {
        assert_eq!((error.status().as_u16(), error.headers()[0].1.to_str().unwrap()), (503, "1"));
        assert!(!format!("{error:?} {message} {}", error.causes()).contains("hunter2"), "{error:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_named_without_its_password() {
    let options = json!({ "tokenStore": "redis", "redisUrl": "redis://bob:hunter2@127.0.0.1:1/3" });
    refuses(options, "auth.redisUrl", "redis://bob:***@127.0.0.1:1/3 is not ready: ").await;
}

#[tokio::test]
async fn a_postgres_that_is_not_there_is_named_without_its_password() {
    let options = json!({ "tokenStore": "database", "databaseUrl": "postgres://bob:hunter2@127.0.0.1:1/x?sslmode=disable" });
    refuses(options, "auth.databaseUrl", "postgres://bob:***@127.0.0.1:1/x is not ready: ").await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let options = json!({ "tokenStore": "database", "databaseUrl": "sqlite:/nowhere/at/all.db" });
    refuses(options, "auth.databaseUrl", "sqlite:/nowhere/at/all.db is not ready: ").await;
}

/// Somebody who takes connections and never says a word.
#[tokio::test]
async fn a_server_that_says_nothing_holds_nobody_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let world = World::new(Kind::Storage).await;
    for options in [
        json!({ "tokenStore": "redis", "redisUrl": format!("redis://127.0.0.1:{port}") }),
        json!({ "tokenStore": "redis", "redisUrl": format!("rediss://127.0.0.1:{port}") }),
        json!({ "tokenStore": "database", "databaseUrl": format!("postgres://bob@127.0.0.1:{port}/x") }),
    ] {
        let auth = world.with(&options);
        let began = Instant::now();
        let error = auth.validate_token(&Secret::new(id::uuid()), None).await.unwrap_err();
        assert_eq!(error.status(), 503);
        assert!(began.elapsed() < Duration::from_secs(6), "{options}: {:?}", began.elapsed());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_file_is_for_nobody_else_on_the_machine() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new(Kind::Sqlite).await;
    let auth = world.process();
    npm_token(&auth, &TokenOptions::default()).await;
    let files: Vec<_> = std::fs::read_dir(world.folder.path()).unwrap().flatten().collect();
    // The log beside it holds the same.
    assert!(files.len() > 1, "{files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

/// Another program that holds on to the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_locked_is_waited_for_and_then_given_up() {
    let world = World::new(Kind::Sqlite).await;
    let auth = world.process();
    let token = npm_token(&auth, &TokenOptions::default()).await;
    let mut other = world.database().await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    // Readers are in nobody's way.
    assert!(auth.validate_token(&token, None).await.unwrap().is_some());
    let began = Instant::now();
    let error = auth.revoke_token(&token).await.unwrap_err();
    assert_eq!(error.status(), 503, "{error}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let (soon, revoked) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            other.execute("COMMIT").await
        },
        auth.revoke_token(&token)
    );
    soon.unwrap();
    revoked.unwrap();
    assert_eq!(auth.validate_token(&token, None).await.unwrap(), None);
}

/// As many processes as start at once after a deployment.
async fn all_start(world: World) {
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let auth: Arc<Auth> = world.process();
        tasks.spawn(async move {
            auth.prepare().await.unwrap();
            npm_token(&auth, &TokenOptions::default()).await
        });
    }
    let tokens = tasks.join_all().await;
    let auth = world.process();
    for token in tokens {
        assert!(auth.validate_token(&token, None).await.unwrap().is_some());
    }
    // A release that knows less than the tables are keeps its hands off.
    world.database().await.execute("INSERT INTO smartregistry_schema (version) VALUES (99)").await.unwrap();
    let error = world.process().prepare().await.unwrap_err();
    assert!(error.message().contains("version 99"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_make_the_tables_of_a_file_at_once() {
    all_start(World::new(Kind::Sqlite).await).await;
}

#[cfg(feature = "s3-tests")]
#[tokio::test(flavor = "multi_thread")]
async fn many_processes_make_the_tables_of_postgres_at_once() {
    all_start(World::new(Kind::Postgres).await).await;
}

#[cfg(feature = "s3-tests")]
#[tokio::test(flavor = "multi_thread")]
async fn redis_lets_go_of_what_has_ended() {
    let world = World::new(Kind::Redis).await;
    let auth = world.process();
    let hour = Duration::from_hours(1);
    let expires_at = Some(world.clock.now().plus(hour));
    let token = npm_token(&auth, &TokenOptions { expires_at, ..TokenOptions::default() }).await;
    let lasting = npm_token(&auth, &TokenOptions::default()).await;
    let mut to = world.redis().await;
    let mut left = async |token: &Secret| {
        let key = format!("smartregistry:token:{}", crate::auth::records::sha256(token.expose()));
        redis::cmd("PTTL").arg(key).query_async::<i64>(&mut to).await.unwrap()
    };
    assert!((hour.as_millis() as i64..=2 * hour.as_millis() as i64).contains(&left(&token).await));
    assert_eq!(left(&lasting).await, -1);
}
