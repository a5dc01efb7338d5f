//! Several requests and several processes at one session or one repository.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream;
use tokio::sync::mpsc;

use super::uploads::{big, open, stands};
use super::*;
use crate::core::error::Result as CoreResult;
use crate::core::time::Clock;
use crate::storage::Store;
use crate::storage::memory::MemoryStore;

/// Several processes on one store, which ask it about everything.
pub(super) async fn processes(count: usize) -> Vec<Arc<TestRegistry>> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Clock::real()));
    let mut list = Vec::new();
    for _ in 0..count {
        let config = json!({ "limits": { "metadataTtlMs": 0 } });
        list.push(Arc::new(TestRegistry::with(config, Some(Arc::clone(&store)), None).await));
    }
    list
}

/// A request with a body that comes when the test says so.
fn send_slowly(
    registry: &Arc<TestRegistry>,
    request: TestRequest,
) -> (mpsc::Sender<CoreResult<Bytes>>, tokio::task::JoinHandle<TestResponse>) {
    let (sender, receiver) = mpsc::channel(1);
    let registry = Arc::clone(registry);
    let chunks = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let request = request.body(Body::stream(chunks, None));
    (sender, tokio::spawn(async move { registry.send(request).await }))
}

#[tokio::test]
async fn three_processes_carry_one_upload() {
    let registries = processes(2).await;
    for size in [10, 30 << 20] {
        let whole = big(size, 1);
        let place = open(&registries[0], "a").await;
        let (one, two) = whole.split_at(size / 2);
        assert_eq!(registries[1].send(patch(&place).body(one.to_vec())).await.status, 202);
        assert_eq!(registries[0].send(patch(&place).body(two.to_vec())).await.status, 202);
        let digest = sha256(&whole);
        assert_eq!(registries[1].send(put(&format!("{place}?digest={digest}"))).await.status, 201);
        let back = registries[0].send(get(&format!("/v2/a/blobs/{digest}"))).await;
        assert!(back.bytes().as_ref() == whole);
    }
}

#[tokio::test]
async fn of_two_patches_at_once_one_gets_416_and_the_bytes_are_the_others() {
    let registries = processes(2).await;
    for begun in ["", "one "] {
        let place = open(&registries[0], "a").await;
        if !begun.is_empty() {
            registries[0].send(patch(&place).body(begun)).await;
        }
        // Both are in the middle of their bodies before either ends.
        let (first, first_answer) = send_slowly(&registries[0], patch(&place));
        first.send(Ok(Bytes::from_static(b"fi"))).await.unwrap();
        first.send(Ok(Bytes::from_static(b"rst"))).await.unwrap();
        let (second, second_answer) = send_slowly(&registries[1], patch(&place));
        second.send(Ok(Bytes::from_static(b"se"))).await.unwrap();
        second.send(Ok(Bytes::from_static(b"cond"))).await.unwrap();
        drop(second);
        let second_answer = second_answer.await.unwrap();
        assert_eq!(second_answer.status, 202);
        drop(first);
        let first_answer = first_answer.await.unwrap();
        assert_eq!(first_answer.status, 416, "{first_answer:?}");
        assert_eq!(first_answer.header("range"), second_answer.header("range"));
        let digest = sha256(format!("{begun}second").as_bytes());
        assert_eq!(registries[0].send(put(&format!("{place}?digest={digest}"))).await.status, 201);
        let back = registries[0].send(get(&format!("/v2/a/blobs/{digest}"))).await;
        assert_eq!(back.text(), format!("{begun}second"));
    }
}

#[tokio::test]
async fn bytes_written_over_by_a_lost_turn_never_become_a_blob() {
    let registries = processes(1).await;
    let registry = &registries[0];
    let (part, half) = (8 << 20, 4 << 20);
    let place = open(registry, "a").await;
    assert_eq!(registry.send(patch(&place).body(big(part + half, 0))).await.status, 202);
    // The first has the turn, and stores its next part only after the second has taken the turn over and stored the same part.
    let (first, first_answer) = send_slowly(registry, patch(&place));
    first.send(Ok(Bytes::from_static(b"x"))).await.unwrap();
    first.send(Ok(Bytes::from_static(b"x"))).await.unwrap();
    let good = big(part, 1);
    assert_eq!(registry.send(patch(&place).body(good.clone())).await.status, 202);
    for chunk in big(2 * part, 2).chunks(1 << 20) {
        first.send(Ok(Bytes::copy_from_slice(chunk))).await.unwrap();
    }
    drop(first);
    assert_eq!(first_answer.await.unwrap().status, 416);
    let whole = [big(part + half, 0), good].concat();
    let digest = sha256(&whole);
    let done = registry.send(put(&format!("{place}?digest={digest}"))).await;
    // Refused, or right: never a blob whose bytes are not its digest.
    let back = registry.send(get(&format!("/v2/a/blobs/{digest}"))).await;
    match done.status {
        201 => assert_eq!(sha256(back.bytes()), digest),
        _ => assert_eq!(back.status, 404),
    }
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_what_it_sent() {
    let registries = processes(1).await;
    let place = open(&registries[0], "a").await;
    let (sender, answer) = send_slowly(&registries[0], patch(&place));
    sender.send(Ok(Bytes::from_static(b"one "))).await.unwrap();
    sender.send(Ok(Bytes::from_static(b"two"))).await.unwrap();
    answer.abort();
    assert!(answer.await.unwrap_err().is_cancelled());
    sender.send(Err(Error::new(Kind::Aborted, "the connection broke"))).await.unwrap();
    drop(sender);
    // The rest happens without anybody waiting for it.
    while stands(&registries[0], &place).await == "0-0" {
        tokio::task::yield_now().await;
    }
    let digest = sha256(b"one two three");
    assert_eq!(registries[0].send(put(&format!("{place}?digest={digest}")).body(" three")).await.status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_tags_from_four_processes_are_all_there() {
    let registries = processes(4).await;
    push_image(&registries[0], "a", "first", b"layer").await;
    let pushes = (0..64).map(|number| {
        let registry = Arc::clone(&registries[number % 4]);
        tokio::spawn(async move {
            let manifest = image(b"{}", b"layer");
            registry.send(put_manifest("a", &format!("t{number:02}"), &manifest)).await.status
        })
    });
    for status in join_all(pushes).await {
        assert_eq!(status.unwrap(), 201);
    }
    for registry in &registries {
        let list = registry.send(get("/v2/a/tags/list")).await.json();
        assert_eq!(list["tags"].as_array().unwrap().len(), 65);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tag_outlives_its_manifest_whoever_wins() {
    let registries = processes(2).await;
    let digest = push_image(&registries[0], "a", "v", b"layer").await;
    for round in 0..30 {
        let (one, two) = (Arc::clone(&registries[0]), Arc::clone(&registries[1]));
        let gone = format!("/v2/a/manifests/{digest}");
        let deleted = tokio::spawn(async move { one.send(delete(&gone)).await.status });
        let tag = format!("t{round}");
        let pushed =
            tokio::spawn(
                async move { two.send(put_manifest("a", &tag, &image(b"{}", b"layer"))).await.status },
            );
        assert!(matches!(deleted.await.unwrap(), 202 | 404));
        assert_eq!(pushed.await.unwrap(), 201);
        let tags = registries[0].send(get("/v2/a/tags/list")).await.json();
        for tag in tags["tags"].as_array().unwrap() {
            let answer = registries[0].send(get(&format!("/v2/a/manifests/{}", tag.as_str().unwrap()))).await;
            assert_eq!(answer.status, 200, "{tag} in round {round}");
        }
    }
}

#[tokio::test]
async fn old_sessions_are_swept_with_their_bytes() {
    let registry = TestRegistry::new().await;
    let (old, kept) = (open(&registry, "a").await, open(&registry, "a").await);
    registry.send(patch(&old).body(big(20 << 20, 0))).await;
    registry.clock.advance(Duration::from_hours(40));
    registry.send(patch(&kept).body("blob")).await;
    registry.clock.advance(Duration::from_hours(10));
    let objects = registry.registry.storage().objects(NAME, None);
    let swept =
        super::super::session::sweep(&objects, &registry.clock, Duration::from_hours(48)).await.unwrap();
    assert_eq!(swept, 1);
    assert_eq!(
        (stands(&registry, &old).await, stands(&registry, &kept).await),
        ("404".to_owned(), "0-3".to_owned())
    );
    let left = registry.keys(true).await;
    assert_eq!(left.iter().filter(|key| key.starts_with("_sr/oci/uploads/")).count(), 1);
}

#[tokio::test]
async fn a_process_that_dies_loses_little_of_a_long_stream() {
    let registries = processes(2).await;
    let place = open(&registries[0], "a").await;
    let whole = big(80 << 20, 9);
    let (sender, answer) = send_slowly(&registries[0], patch(&place));
    for chunk in whole[..70 << 20].chunks(1 << 20) {
        sender.send(Ok(Bytes::copy_from_slice(chunk))).await.unwrap();
    }
    // The first process is never heard of again: its request hangs for good.
    let stands = stands(&registries[1], &place).await;
    let stored: usize = stands.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
    assert!(stored >= 56 << 20, "{stored}");
    let rest = registries[1].send(patch(&place).body(whole[stored..].to_vec())).await;
    assert_eq!(rest.status, 202, "{rest:?}");
    let digest = sha256(&whole);
    assert_eq!(registries[1].send(put(&format!("{place}?digest={digest}"))).await.status, 201);
    let back = registries[1].send(get(&format!("/v2/a/blobs/{digest}"))).await;
    assert!(back.bytes().as_ref() == whole);
    drop(sender);
    assert_eq!(answer.await.unwrap().status, 404, "the session is over");
}
