//! What every token store promises, over each of them: the same tests for memory, the registry's storage, `SQLite`, Redis and `PostgreSQL`. The test
//! runner starts the servers (feature `s3-tests`); one that is missing is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod races;
mod servers;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use self::world::{Kind, World, backend};
use super::Age;
use crate::auth::records::sha256;
use crate::auth::tests::{NPM, OCI, basic, capture, creds, npm_token, request, user_of};
use crate::auth::{Auth, Enrolment, FactorMode, Identity, TokenOptions, shown_code};
use crate::core::id;
use crate::core::secret::Secret;
use crate::core::time::Timestamp;

/// Makes a test over every store of each function.
macro_rules! over_every_store {
    ($($name:ident)*) => {
        over_every_store!(@ memory Memory $($name)*);
        over_every_store!(@ storage Storage $($name)*);
        over_every_store!(@ sqlite Sqlite $($name)*);
        #[cfg(feature = "s3-tests")]
        over_every_store!(@ redis Redis $($name)*);
        #[cfg(feature = "s3-tests")]
        over_every_store!(@ postgres Postgres $($name)*);
    };
    (@ $module:ident $kind:ident $($name:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(super::World::new(crate::auth::stores::suite::Kind::$kind).await).await;
                }
            )*
        }
    };
}
use over_every_store;

over_every_store! {
    a_token_lives_from_creation_to_revocation
    a_removed_user_is_gone_with_all_tokens
    an_expired_token_is_no_token
    what_one_process_does_the_others_see
    a_token_dies_everywhere_within_a_second
    a_revoked_signed_token_dies_everywhere_within_seconds
    a_signed_token_of_what_was_made_a_moment_ago_is_good_at_once
    a_refresh_token_buys_access_and_ends_with_what_it_came_from
    the_oldest_refresh_tokens_give_way_to_new_logins
    the_day_of_a_tokens_last_use_is_written_down
    a_second_factor_is_kept
    no_secret_is_stored_or_logged
    odd_names_are_nobody
}

async fn a_token_lives_from_creation_to_revocation(world: World) {
    let auth = world.process();
    auth.prepare().await.unwrap();
    let metadata = json!({ "team": "core", "nul": "a\u{0}b", "quote": "'\"$1" });
    let options = TokenOptions {
        name: Some("ci".to_owned()),
        cidr: vec!["10.0.0.0/8".to_owned()],
        scopes: vec!["npm:package:@acme/*:read".to_owned()],
        readonly: true,
        expires_at: Some(world.clock.now().plus(Duration::from_hours(1))),
        metadata: Some(metadata.clone()),
    };
    let issued = auth.issue_token("bob", NPM, &options).await.unwrap();
    let listed = auth.list_tokens("bob").await.unwrap().remove(0);
    assert_eq!(listed.key, issued.info.key);
    assert_eq!((listed.name.as_deref(), listed.readonly), (Some("ci"), true));
    assert_eq!((&listed.cidr, &listed.scopes), (&options.cidr, &options.scopes));
    assert_eq!((listed.expires_at, listed.created), (options.expires_at, world.clock.now()));
    assert_eq!(listed.metadata.unwrap(), metadata);
    assert!(!auth.revoke_key("eve", &issued.info.key).await.unwrap());
    assert!(!auth.revoke_key("bob", "0000000000000000").await.unwrap());
    assert!(auth.revoke_key("bob", &issued.info.key).await.unwrap());
    assert!(!auth.revoke_key("bob", &issued.info.key).await.unwrap());
    assert!(auth.list_tokens("bob").await.unwrap().is_empty());
    auth.revoke_token(&issued.text).await.unwrap();
    // Bob has no password, and is a user all the same.
    assert_eq!(auth.list_users().await.unwrap(), ["bob"]);
    assert_eq!(auth.has_user("bob").await.unwrap(), Some(false));
}

async fn a_removed_user_is_gone_with_all_tokens(world: World) {
    let auth = world.process();
    auth.add_user("bob", &Secret::new("x")).await.unwrap();
    auth.add_user("eve", &Secret::new("x")).await.unwrap();
    let token = npm_token(&auth, &TokenOptions::default()).await;
    assert_eq!(auth.list_users().await.unwrap(), ["bob", "eve"]);
    assert!(auth.remove_user("bob").await.unwrap());
    assert!(!auth.remove_user("bob").await.unwrap());
    assert_eq!(auth.list_users().await.unwrap(), ["eve"]);
    assert_eq!(auth.validate_token(&token, None).await.unwrap(), None);
    assert_eq!(auth.login(&creds("bob", "x"), None).await.unwrap(), None);
    assert!(auth.list_tokens("bob").await.unwrap().is_empty());
    assert!(auth.remove_user("eve").await.unwrap());
    let left = world.dump().await;
    assert!(!left.contains("bob") && !left.contains("argon2"), "{left}");
    assert!(!left.contains(&sha256(token.expose())), "{left}");
}

async fn an_expired_token_is_no_token(world: World) {
    let auth = world.process();
    let expires_at = Some(world.clock.now().plus(Duration::from_mins(1)));
    let token = npm_token(&auth, &TokenOptions { expires_at, ..TokenOptions::default() }).await;
    let known = auth.validate_token(&token, None).await.unwrap().unwrap();
    assert!(auth.authorize(Some(&known), "npm:package:x", "write").await.unwrap());
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(auth.validate_token(&token, None).await.unwrap(), None);
    assert!(!auth.authorize(Some(&known), "npm:package:x", "write").await.unwrap());
    assert!(auth.list_tokens("bob").await.unwrap().is_empty());
    // The next token sweeps it out of the store.
    npm_token(&auth, &TokenOptions::default()).await;
    assert_eq!(backend(&auth).tokens("bob").await.unwrap().len(), 1);
    assert!(!world.dump().await.contains(&sha256(token.expose())));
}

async fn what_one_process_does_the_others_see(world: World) {
    let (one, two) = (world.process(), world.process());
    one.add_user("bob", &Secret::new("x")).await.unwrap();
    assert_eq!(two.login(&creds("bob", "x"), None).await.unwrap().as_deref(), Some("bob"));
    let token = npm_token(&one, &TokenOptions::default()).await;
    assert!(two.validate_token(&token, Some("npm")).await.unwrap().is_some());
    assert_eq!(two.list_tokens("bob").await.unwrap().len(), 1);
    one.revoke_token(&token).await.unwrap();
    assert_eq!(two.validate_token(&token, Some("npm")).await.unwrap(), None);
    assert!(two.list_tokens("bob").await.unwrap().is_empty());
}

/// Waits until `check` fails, and says how long that took.
async fn until_gone(check: impl AsyncFn() -> bool) -> Duration {
    let began = Instant::now();
    while check().await {
        assert!(began.elapsed() < Duration::from_secs(10), "it is still good");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

async fn a_token_dies_everywhere_within_a_second(world: World) {
    let (one, two) = (world.remembering(), world.remembering());
    let token = npm_token(&one, &TokenOptions::default()).await;
    // At once, with nothing remembered; and then from memory.
    for _ in 0..50 {
        assert!(two.validate_token(&token, Some("npm")).await.unwrap().is_some());
    }
    one.revoke_token(&token).await.unwrap();
    assert_eq!(one.validate_token(&token, Some("npm")).await.unwrap(), None);
    let good = async || two.validate_token(&token, Some("npm")).await.unwrap().is_some();
    let late = until_gone(good).await;
    let limit = match world.kind {
        // The metadata TTL, and what a busy machine adds to it.
        Kind::Memory | Kind::Storage => Duration::from_millis(1500),
        _ => Duration::from_secs(1),
    };
    assert!(late < limit, "{late:?}");
}

async fn a_revoked_signed_token_dies_everywhere_within_seconds(world: World) {
    let (one, two) = (world.remembering(), world.remembering());
    let token = one.sign_oci("bob", &[], Duration::from_mins(10)).unwrap();
    let good = async || two.validate_token(&token, Some("oci")).await.unwrap().is_some();
    assert!(good().await);
    one.revoke_token(&token).await.unwrap();
    assert_eq!(one.validate_token(&token, Some("oci")).await.unwrap(), None);
    let late = until_gone(good).await;
    assert!(late < Duration::from_millis(1500), "{late:?}");
    let other = two.sign_oci("bob", &[], Duration::from_mins(10)).unwrap();
    assert!(two.validate_token(&other, Some("oci")).await.unwrap().is_some());
}

async fn a_signed_token_of_what_was_made_a_moment_ago_is_good_at_once(world: World) {
    let (one, two) = (world.remembering(), world.remembering());
    // The second process remembers that there is no such user.
    assert_eq!(two.login(&creds("bob", "new"), None).await.unwrap(), None);
    one.add_user("bob", &Secret::new("new")).await.unwrap();
    let by_password = one.authenticate(&basic("bob", "new"), OCI).await.unwrap();
    let pat = one.create_token("bob", OCI, &TokenOptions::default()).await.unwrap();
    let by_token = one.authenticate(&request(&format!("Bearer {}", pat.expose())), OCI).await.unwrap();
    for identity in [by_password, by_token] {
        let (signed, _) = one.sign_oci_for(&identity, &[], Duration::from_mins(5)).await.unwrap();
        assert!(two.validate_token(&signed, Some("oci")).await.unwrap().is_some());
        assert!(two.validate_token(&signed, Some("oci")).await.unwrap().is_some());
    }
    let (signed, _) = one
        .sign_oci_for(
            &one.authenticate(&basic("bob", pat.expose()), OCI).await.unwrap(),
            &[],
            Duration::from_mins(5),
        )
        .await
        .unwrap();
    assert!(two.validate_token(&signed, Some("oci")).await.unwrap().is_some());
    one.revoke_token(&pat).await.unwrap();
    let late = until_gone(async || two.validate_token(&signed, Some("oci")).await.unwrap().is_some()).await;
    assert!(late < Duration::from_millis(1500), "{late:?}");
}

async fn a_refresh_token_buys_access_and_ends_with_what_it_came_from(world: World) {
    let auth = world.process();
    auth.add_user("bob", &Secret::new("old")).await.unwrap();
    let by_password = auth.authenticate(&basic("bob", "old"), OCI).await.unwrap();
    let options = TokenOptions { readonly: true, ..TokenOptions::default() };
    let pat = auth.create_token("bob", OCI, &options).await.unwrap();
    let by_token = auth.authenticate(&basic("bob", pat.expose()), OCI).await.unwrap();
    let first = auth.create_refresh_token(&by_password).await.unwrap().unwrap();
    let second = auth.create_refresh_token(&by_token).await.unwrap().unwrap();
    // It opens nothing by itself.
    for token in [&first, &second] {
        assert_eq!(auth.validate_token(token, None).await.unwrap(), None);
        assert_eq!(user_of(&auth, basic("bob", token.expose()), OCI).await, None);
    }
    // Another process, started later, takes it.
    let later = world.process();
    assert_eq!(later.redeem_refresh_token(&first, None).await.unwrap().user(), Some("bob"));
    let redeemed = later.redeem_refresh_token(&second, None).await.unwrap();
    assert!(redeemed.token().unwrap().readonly);
    auth.add_user("bob", &Secret::new("new")).await.unwrap();
    assert!(matches!(auth.redeem_refresh_token(&first, None).await.unwrap(), Identity::Rejected));
    auth.revoke_token(&pat).await.unwrap();
    assert!(matches!(auth.redeem_refresh_token(&second, None).await.unwrap(), Identity::Rejected));
    // An access token is none, and neither anonymous nor signed identities get one.
    let access = npm_token(&auth, &TokenOptions::default()).await;
    assert!(matches!(auth.redeem_refresh_token(&access, None).await.unwrap(), Identity::Rejected));
    assert!(auth.create_refresh_token(&Identity::Anonymous).await.unwrap().is_none());
    let signed = auth.sign_oci("bob", &[], Duration::from_mins(1)).unwrap();
    let signed = auth.authenticate(&request(signed.expose()), OCI).await.unwrap();
    assert!(auth.create_refresh_token(&signed).await.unwrap().is_none());
}

async fn the_oldest_refresh_tokens_give_way_to_new_logins(world: World) {
    let auth = world.process();
    auth.add_user("bob", &Secret::new("x")).await.unwrap();
    let identity = auth.authenticate(&basic("bob", "x"), OCI).await.unwrap();
    let first = auth.create_refresh_token(&identity).await.unwrap().unwrap();
    let kept = npm_token(&auth, &TokenOptions::default()).await;
    let mut last = first.clone();
    for _ in 0..50 {
        world.clock.advance(Duration::from_secs(1));
        last = auth.create_refresh_token(&identity).await.unwrap().unwrap();
    }
    assert!(matches!(auth.redeem_refresh_token(&first, None).await.unwrap(), Identity::Rejected));
    assert_eq!(auth.redeem_refresh_token(&last, None).await.unwrap().user(), Some("bob"));
    assert!(auth.validate_token(&kept, None).await.unwrap().is_some());
    assert_eq!(auth.list_tokens("bob").await.unwrap().len(), 51);
    auth.revoke_token(&last).await.unwrap();
    assert!(matches!(auth.redeem_refresh_token(&last, None).await.unwrap(), Identity::Rejected));
}

async fn the_day_of_a_tokens_last_use_is_written_down(world: World) {
    let auth = world.process();
    let token = npm_token(&auth, &TokenOptions::default()).await;
    assert_eq!(auth.list_tokens("bob").await.unwrap()[0].last_used, None);
    world.clock.advance(Duration::from_hours(72));
    assert!(auth.validate_token(&token, None).await.unwrap().is_some());
    let today = world.clock.now().as_millis() / 86_400_000 * 86_400_000;
    // It is written behind the request's back.
    let written = async {
        loop {
            if let Some(day) = auth.list_tokens("bob").await.unwrap()[0].last_used {
                return day;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let day = tokio::time::timeout(Duration::from_secs(10), written).await.unwrap();
    assert_eq!(day.as_millis(), today);
    // An older day does not replace it, and a token that is gone does not come back.
    let hash = sha256(token.expose());
    backend(&auth).touch("bob", &hash, Timestamp::from_millis(0)).await.unwrap();
    assert_eq!(auth.list_tokens("bob").await.unwrap()[0].last_used, Some(day));
    auth.revoke_token(&token).await.unwrap();
    backend(&auth).touch("bob", &hash, world.clock.now()).await.unwrap();
    assert!(auth.list_tokens("bob").await.unwrap().is_empty());
}

async fn a_second_factor_is_kept(world: World) {
    let (one, two) = (world.process(), world.process());
    one.add_user("bob", &Secret::new("x")).await.unwrap();
    let mode = FactorMode::Writes;
    let begun = one.enrol("bob", Secret::new("x"), mode, "example", None).await.unwrap();
    let Enrolment::Begun(url) = begun else { panic!("there was one") };
    let recovery = two.confirm_factor("bob", &code_of(&url, &world)).await.unwrap();
    assert_eq!(one.second_factor("bob").await.unwrap(), Some(mode));
    assert!(one.require_code("bob", None, None).await.is_err());
    // A code is good once, in whatever process.
    one.require_code("bob", None, Some(&recovery[0])).await.unwrap();
    assert!(two.require_code("bob", None, Some(&recovery[0])).await.is_err());
    two.disable_factor("bob", Secret::new("x"), None).await.unwrap();
    assert_eq!(one.second_factor("bob").await.unwrap(), None);
}

async fn no_secret_is_stored_or_logged(world: World) {
    let (log, guard) = capture();
    let auth = world.process();
    auth.prepare().await.unwrap();
    auth.add_user("bob", &Secret::new("hunter2-password")).await.unwrap();
    let token = npm_token(&auth, &TokenOptions::default()).await;
    let signed = auth.sign_oci("bob", &[], Duration::from_mins(1)).unwrap();
    auth.revoke_token(&signed).await.unwrap();
    assert!(auth.validate_token(&token, None).await.unwrap().is_some());
    drop(guard);
    let log = String::from_utf8(log.lock().clone()).unwrap();
    let (kept, hash) = (world.dump().await, sha256(token.expose()));
    if world.kind != Kind::Memory {
        assert!(kept.contains("$argon2id$v=19$") && kept.contains(&hash), "{kept}");
    }
    assert!(!log.contains("$argon2id$") && !log.contains(&hash), "{log}");
    for secret in ["hunter2-password", token.expose(), signed.expose(), "test-p%40ss", "test-p@ss"] {
        assert!(!kept.contains(secret) && !log.contains(secret), "{secret}");
    }
}

async fn odd_names_are_nobody(world: World) {
    let auth = world.process();
    for name in ["a\0b", "", "%", "'; DROP TABLE smartregistry_users; --", "*", "\u{10FFFF}"] {
        assert!(backend(&auth).find_user(name, Age::Now).await.unwrap().is_none(), "{name:?}");
        assert!(backend(&auth).tokens(name).await.unwrap().is_empty(), "{name:?}");
        assert!(backend(&auth).find_key(name, "", Age::Now).await.unwrap().is_none(), "{name:?}");
    }
    // The application may name its users as it likes.
    for name in ["Bob", "bob", "'; DROP TABLE smartregistry_users; --", "\u{10FFFF} ü*[a]"] {
        let token = auth.create_token(name, NPM, &TokenOptions::default()).await.unwrap();
        assert_eq!(auth.validate_token(&token, None).await.unwrap().unwrap().user_id, name);
        assert_eq!(auth.list_tokens(name).await.unwrap().len(), 1);
    }
    assert!(!id::is_uuid(&auth.list_users().await.unwrap().join("")));
    assert_eq!(auth.list_users().await.unwrap().len(), 4);
}

/// What an authenticator shows now.
fn code_of(url: &Secret, world: &World) -> Secret {
    let seed = url.expose().split_once("secret=").unwrap().1.split('&').next().unwrap();
    Secret::new(shown_code(seed, world.clock.now().as_secs()))
}

/// Processes of a test that has several of them.
fn processes(world: &World, count: usize) -> Vec<Arc<Auth>> {
    (0..count).map(|_| world.remembering()).collect()
}
