//! Tarballs: streamed, checked, stored once.

use tokio::sync::Semaphore;

use super::*;

/// Refused, or cut if the answer had begun.
fn is_broken(answer: &TestResponse) -> bool {
    answer.status >= 500 || answer.body.is_err()
}

const PATH: &str = "/widget/-/widget-1.0.0.tgz";

#[tokio::test]
async fn a_tarball_is_fetched_once_and_served_from_the_store() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let registry = over(&fake).await;
    let cold = registry.send(get(PATH)).await;
    assert_eq!((cold.status, cold.bytes()), (200, &Bytes::from(tarball("1.0.0"))));
    assert_eq!(cold.header("content-length"), Some(tarball("1.0.0").len().to_string().as_str()));
    assert_eq!(fake.asked()[1].header("accept-encoding"), Some("identity"));
    for _ in 0..3 {
        let warm = registry.send(get(PATH)).await;
        assert_eq!(warm.bytes(), cold.bytes());
        assert_eq!(warm.header("etag"), cold.header("etag"));
    }
    assert_eq!(fake.count(), 2);
    assert_eq!(cached(&registry).await.len(), 1);
    let part = registry.send(get(PATH).header("range", "bytes=4-9")).await;
    assert_eq!((part.status, part.bytes().as_ref()), (206, &tarball("1.0.0")[4..10]));
}

#[tokio::test]
async fn a_part_of_what_is_not_here_yet_is_cut_out_of_the_whole() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let registry = over(&fake).await;
    let part = registry.send(get(PATH).header("range", "bytes=-3")).await;
    let all = tarball("1.0.0");
    assert_eq!((part.status, part.bytes().as_ref()), (206, &all[all.len() - 3..]));
    assert!(fake.asked().iter().all(|asked| asked.header("range").is_none()));
}

#[tokio::test]
async fn a_head_fetches_nothing() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let registry = over(&fake).await;
    let head = registry.send(TestRequest::new(http::Method::HEAD, &format!("/npm{PATH}"))).await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some(tarball("1.0.0").len().to_string().as_str()))
    );
    assert_eq!(fake.asked()[1].method, "HEAD");
    assert!(cached(&registry).await.is_empty());
}

#[tokio::test]
async fn what_is_not_here_yet_looks_like_what_is() {
    const SAME: [&str; 8] = [
        "etag",
        "accept-ranges",
        "content-type",
        "content-length",
        "cache-control",
        "content-disposition",
        "repr-digest",
        "x-content-type-options",
    ];
    let fake = FakeUpstream::start().await;
    for gone in [None, Some("integrity")] {
        serve(&fake, "widget", &["1.0.0"]);
        let mut document = packument(&fake, "widget", &["1.0.0"]);
        let dist = document["versions"]["1.0.0"]["dist"].as_object_mut().unwrap();
        gone.map(|key| dist.remove(key));
        fake.on("/widget", Reply::json(&document));
        let registry = over(&fake).await;
        let head = || TestRequest::new(http::Method::HEAD, &format!("/npm{PATH}"));
        let answers =
            [registry.send(head()).await, registry.send(get(PATH)).await, registry.send(head()).await];
        let warm = registry.send(get(PATH)).await;
        assert!(warm.header("last-modified").is_some(), "it comes from the store");
        for name in SAME.iter().filter(|name| gone.is_none() || **name != "repr-digest") {
            assert!(warm.header(name).is_some(), "{name}");
            for answer in &answers {
                assert_eq!(answer.header(name), warm.header(name), "{name}, without {gone:?}");
            }
        }
        let known = get(PATH).header("if-none-match", warm.header("etag").unwrap());
        assert_eq!(over(&fake).await.send(known).await.status, 304, "what is known need not be fetched");
    }
    // What is not kept can't be had in parts.
    let registry = with(&fake, json!({ "cache": { "enabled": false } })).await;
    let passing = registry.send(get(PATH)).await;
    assert!(passing.header("accept-ranges").is_none() && passing.header("etag").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_early_readers_share_one_fetch() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let gate = Arc::new(Semaphore::new(0));
    fake.on(PATH, Reply::ok(tarball("1.0.0")).gate(&gate));
    let registry = Arc::new(over(&fake).await);
    let ask = || {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move { registry.send(get(PATH)).await })
    };
    let early: Vec<_> = (0..20).map(|_| ask()).collect();
    while fake.count() < 2 {
        tokio::task::yield_now().await;
    }
    let late: Vec<_> = (0..20).map(|_| ask()).collect();
    // One of them gives up.
    early[0].abort();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    gate.add_permits(1);
    for reader in early.into_iter().skip(1).chain(late) {
        assert_eq!(reader.await.unwrap().bytes(), &Bytes::from(tarball("1.0.0")));
    }
    assert_eq!(fake.count(), 2, "packument and tarball");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_goes_on_when_nobody_waits_for_it() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let gate = Arc::new(Semaphore::new(0));
    fake.on(PATH, Reply::ok(tarball("1.0.0")).gate(&gate));
    let registry = Arc::new(over(&fake).await);
    let lonely = {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move { registry.send(get(PATH)).await })
    };
    while fake.count() < 2 {
        tokio::task::yield_now().await;
    }
    lonely.abort();
    gate.add_permits(1);
    for _ in 0..200 {
        if !cached(&registry).await.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(registry.send(get(PATH)).await.bytes(), &Bytes::from(tarball("1.0.0")));
    assert_eq!(fake.count(), 2);
}

#[tokio::test]
async fn a_lockfile_asks_for_tarballs_alone() {
    let fake = FakeUpstream::start().await;
    let mut document = packument(&fake, "widget", &["1.0.0"]);
    // Other registries keep their files elsewhere.
    document["versions"]["1.0.0"]["dist"]["tarball"] = json!(format!("{}/download/xyz", fake.url));
    fake.on("/widget", Reply::json(&document));
    fake.on("/download/xyz", Reply::ok(tarball("1.0.0")));
    let registry = over(&fake).await;
    assert_eq!(registry.send(get(PATH)).await.bytes(), &Bytes::from(tarball("1.0.0")));
}

#[tokio::test]
async fn what_only_has_an_old_hash_is_checked_by_it() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let mut document = packument(&fake, "widget", &["1.0.0"]);
    document["versions"]["1.0.0"]["dist"].as_object_mut().unwrap().remove("integrity");
    fake.on("/widget", Reply::json(&document));
    let registry = over(&fake).await;
    assert_eq!(registry.send(get(PATH)).await.status, 200);
    fake.on(PATH, Reply::ok("something else"));
    let other = over(&fake).await;
    assert!(is_broken(&other.send(get(PATH)).await));
}

#[tokio::test]
async fn without_a_cache_files_pass_through() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let registry = with(&fake, json!({ "cache": { "enabled": false } })).await;
    for _ in 0..2 {
        assert_eq!(registry.send(get(PATH)).await.bytes(), &Bytes::from(tarball("1.0.0")));
    }
    assert!(cached(&registry).await.is_empty());
    fake.on(PATH, Reply::ok("something else"));
    assert!(is_broken(&registry.send(get(PATH)).await));
}

#[tokio::test]
async fn a_large_file_reaches_a_reader_that_falls_behind() {
    use crate::core::body::Body;
    let fake = FakeUpstream::start().await;
    let bytes: Vec<u8> = (0..24_u32 << 20).map(|at| (at / 7) as u8).collect();
    let mut document = packument(&fake, "widget", &["1.0.0"]);
    document["versions"]["1.0.0"]["dist"]["integrity"] =
        json!(Digest::of(Algorithm::Sha512, &bytes).integrity());
    fake.on("/widget", Reply::json(&document));
    fake.on(PATH, Reply::ok(bytes.clone()));
    let registry = over(&fake).await;
    let mut request = crate::core::request::Request::new(http::Method::GET, format!("/npm{PATH}"));
    request.headers.insert("authorization", "Bearer admin".parse().unwrap());
    // A stalled reader is not waited for longer than some seconds, and finds its place in the store.
    let stalled = registry.registry.handle(request).await;
    let whole = registry.send(get(PATH)).await;
    assert_eq!(whole.bytes().len(), bytes.len());
    let Body::Stream { .. } = &stalled.body else { panic!("a stream") };
    assert_eq!(stalled.body.into_bytes("body", u64::MAX).await.unwrap(), bytes);
}
