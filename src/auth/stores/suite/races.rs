//! Many at once, from several processes: no change is lost, none is made twice, and nobody is let in too often.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::world::{World, backend};
use super::{code_of, over_every_store, processes};
use crate::auth::records::{UserRecord, sha256};
use crate::auth::stores::Age;
use crate::auth::tests::{NPM, creds};
use crate::auth::{Enrolment, FactorMode, TokenOptions};
use crate::core::error::{Error, Kind};
use crate::core::secret::Secret;
use crate::storage::Edit;

over_every_store! {
    of_64_changes_of_one_user_none_is_lost
    a_refusal_changes_nothing
    of_two_that_register_one_name_at_once_one_wins
    tokens_made_at_once_are_all_listed_and_all_work
    a_user_who_is_removed_while_tokens_are_made_leaves_none_behind
    of_many_who_send_one_recovery_code_one_gets_in
}

async fn of_64_changes_of_one_user_none_is_lost(world: World) {
    let processes = processes(&world, 4);
    processes[0].add_user("bob", &Secret::new("x")).await.unwrap();
    let mut tasks = JoinSet::new();
    for at in 0..64 {
        let auth = Arc::clone(&processes[at % 4]);
        tasks.spawn(async move {
            // Not idempotent on purpose: a change that is made twice shows.
            let change = |user: &mut UserRecord| {
                let count: u64 = user.profile.get("count").map_or(0, |count| count.parse().unwrap());
                user.profile.insert("count".to_owned(), (count + 1).to_string());
                Ok(Edit::Changed(true))
            };
            assert!(backend(&auth).change_user("bob", Box::new(change)).await.unwrap());
        });
    }
    tasks.join_all().await;
    let user = backend(&processes[3]).find_user("bob", Age::Now).await.unwrap().unwrap();
    assert_eq!(user.profile["count"], "64");
    assert!(user.password.is_some() && user.name == "bob");
}

async fn a_refusal_changes_nothing(world: World) {
    let auth = world.process();
    let refuse = |user: &mut UserRecord| {
        user.password = Some("half done".to_owned());
        Err(Error::new(Kind::Conflict, "no"))
    };
    let unchanged = |user: &mut UserRecord| {
        user.password = Some("not really".to_owned());
        Ok(Edit::Unchanged(false))
    };
    for _ in 0..2 {
        let error = backend(&auth).change_user("bob", Box::new(refuse)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(!backend(&auth).change_user("bob", Box::new(unchanged)).await.unwrap());
        let user = backend(&auth).find_user("bob", Age::Now).await.unwrap();
        assert!(user.unwrap_or_default().password.is_none());
        auth.create_token("bob", NPM, &TokenOptions::default()).await.unwrap();
    }
    assert_eq!(auth.list_users().await.unwrap(), ["bob"]);
}

async fn of_two_that_register_one_name_at_once_one_wins(world: World) {
    let processes = processes(&world, 2);
    for name in ["bob", "eve", "joe"] {
        let (first, second) = (creds(name, "first"), creds(name, "second"));
        let (a, b) = tokio::join!(
            processes[0].authenticate_in_process(&first),
            processes[1].authenticate_in_process(&second)
        );
        assert!(a.unwrap().is_some() != b.unwrap().is_some());
    }
}

async fn tokens_made_at_once_are_all_listed_and_all_work(world: World) {
    let processes = processes(&world, 4);
    let mut tasks = JoinSet::new();
    for at in 0..200 {
        let auth = Arc::clone(&processes[at % 4]);
        tasks.spawn(async move {
            let options = TokenOptions { name: Some(format!("t{at}")), ..TokenOptions::default() };
            auth.issue_token("bob", NPM, &options).await.unwrap()
        });
    }
    let issued = tasks.join_all().await;
    let listed = processes[1].list_tokens("bob").await.unwrap();
    let mut listed: Vec<_> = listed.into_iter().map(|one| one.key).collect();
    let mut made: Vec<_> = issued.iter().map(|one| one.info.key.clone()).collect();
    listed.sort();
    made.sort();
    assert_eq!(listed, made);
    for one in issued {
        assert!(processes[2].validate_token(&one.text, Some("npm")).await.unwrap().is_some());
    }
}

async fn a_user_who_is_removed_while_tokens_are_made_leaves_none_behind(world: World) {
    let processes = processes(&world, 2);
    let mut texts = Vec::new();
    for _ in 0..20 {
        processes[0].add_user("bob", &Secret::new("x")).await.unwrap();
        let options = TokenOptions::default();
        let (removed, token) =
            tokio::join!(processes[0].remove_user("bob"), processes[1].create_token("bob", NPM, &options));
        removed.unwrap();
        match token {
            Ok(text) => texts.push(text),
            Err(error) => assert_eq!(error.kind(), Kind::Conflict, "{error}"),
        }
    }
    processes[0].remove_user("bob").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let listed = processes[0].list_tokens("bob").await.unwrap();
    for text in texts {
        // One that was made after the user had been removed works, and is listed.
        if processes[1].validate_token(&text, None).await.unwrap().is_some() {
            assert!(listed.iter().any(|one| sha256(text.expose()).starts_with(&one.key)));
        }
    }
}

async fn of_many_who_send_one_recovery_code_one_gets_in(world: World) {
    let processes = processes(&world, 4);
    let auth = &processes[0];
    auth.add_user("bob", &Secret::new("x")).await.unwrap();
    let begun = auth.enrol("bob", Secret::new("x"), FactorMode::Logins, "x", None).await.unwrap();
    let Enrolment::Begun(url) = begun else { panic!("there was one") };
    let recovery = auth.confirm_factor("bob", &code_of(&url, &world)).await.unwrap();
    let tries = (0..4).map(|at| processes[at].require_code("bob", None, Some(&recovery[0])));
    let outcomes = futures_util::future::join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}
