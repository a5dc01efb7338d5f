//! Promises about uploads in parts.

use super::{Area, chunks, pattern};
use crate::core::digest::Digest;
use crate::core::id;
use crate::storage::StoreError;
use crate::storage::store::{Chunks, Condition, GetOptions, PutOptions, UploadId};

fn part(start: u64, len: u64) -> Chunks {
    // In pieces, as a network brings them.
    let mut chunks = Chunks::default();
    let whole = pattern(start, len);
    for at in (0..whole.len()).step_by(65_536) {
        chunks.push(whole.slice(at..whole.len().min(at + 65_536)));
    }
    chunks
}

pub(super) async fn parts_in_any_order_make_the_object(area: Area) {
    let (store, key) = (&area.store, area.key("blobs/a"));
    let size = store.capabilities().part_size;
    let options = PutOptions { content_type: Some("application/x-tar".to_owned()), ..PutOptions::default() };
    let upload = store.begin(&key, options).await.unwrap();
    let three = store.part(&key, &upload, 3, part(2 * size, 10)).await.unwrap();
    let (two, one) = tokio::join!(
        store.part(&key, &upload, 2, part(size, size)),
        store.part(&key, &upload, 1, part(0, size))
    );
    assert!(area.is_missing("blobs/a").await, "nothing is visible before it is complete");
    let page = store.list(&area.prefix(""), None, 10, false).await.unwrap();
    assert!(page.objects.is_empty());
    let version = store.complete(&key, &upload, &[one.unwrap(), two.unwrap(), three]).await.unwrap();
    let meta = store.head(&key).await.unwrap();
    assert_eq!((meta.size, &meta.version), (2 * size + 10, &version));
    assert_eq!(meta.content_type.as_deref(), Some("application/x-tar"));
    assert!(area.read("blobs/a").await == pattern(0, 2 * size + 10));
}

pub(super) async fn a_part_stored_again_replaces_the_first(area: Area) {
    let (store, key) = (&area.store, area.key("a"));
    let upload = store.begin(&key, PutOptions::default()).await.unwrap();
    let old = store.part(&key, &upload, 1, chunks("a longer first part")).await.unwrap();
    let new = store.part(&key, &upload, 1, chunks("second")).await.unwrap();
    assert!(store.complete(&key, &upload, &[old]).await.is_err(), "what was replaced can't be completed");
    store.complete(&key, &upload, &[new]).await.unwrap();
    assert_eq!(area.read("a").await, "second");
}

pub(super) async fn an_aborted_upload_leaves_nothing(area: Area) {
    let (store, key) = (&area.store, area.key("a"));
    let upload = store.begin(&key, PutOptions::default()).await.unwrap();
    store.part(&key, &upload, 1, chunks("x")).await.unwrap();
    store.abort(&key, &upload).await.unwrap();
    store.abort(&key, &upload).await.unwrap();
    assert!(area.is_missing("a").await);
}

pub(super) async fn an_aborted_upload_takes_no_part(area: Area) {
    let (store, key) = (&area.store, area.key("a"));
    let upload = store.begin(&key, PutOptions::default()).await.unwrap();
    store.abort(&key, &upload).await.unwrap();
    let part = store.part(&key, &upload, 2, chunks("x")).await;
    assert!(matches!(part, Err(StoreError::NoSuchUpload)), "{part:?}");
}

pub(super) async fn an_aborted_upload_is_not_completed(area: Area) {
    let (store, key) = (&area.store, area.key("a"));
    let upload = store.begin(&key, PutOptions::default()).await.unwrap();
    let one = store.part(&key, &upload, 1, chunks("x")).await.unwrap();
    store.abort(&key, &upload).await.unwrap();
    let complete = store.complete(&key, &upload, &[one]).await;
    assert!(matches!(complete, Err(StoreError::NoSuchUpload)), "{complete:?}");
    assert!(area.is_missing("a").await);
}

pub(super) async fn an_unknown_upload_is_refused(area: Area) {
    let (store, key) = (&area.store, area.key("a"));
    let mine = store.begin(&key, PutOptions::default()).await.unwrap();
    let one = store.part(&key, &mine, 1, chunks("x")).await.unwrap();
    let unknown = UploadId(id::uuid());
    let part = store.part(&key, &unknown, 1, chunks("x")).await;
    assert!(matches!(part, Err(StoreError::NoSuchUpload)), "{part:?}");
    assert!(store.complete(&key, &unknown, std::slice::from_ref(&one)).await.is_err());
    store.complete(&key, &mine, std::slice::from_ref(&one)).await.unwrap();
    let again = store.complete(&key, &mine, &[one]).await;
    assert!(matches!(again, Err(StoreError::NoSuchUpload) | Ok(_)), "{again:?}");
    assert_eq!(area.read("a").await, "x");
}

pub(super) async fn parts_can_be_flushed_and_gone_on_with(area: Area) {
    let (store, key) = (&area.store, area.key("a"));
    let size = store.capabilities().part_size;
    let upload = store.begin(&key, PutOptions::default()).await.unwrap();
    let one = store.part(&key, &upload, 1, part(0, size)).await.unwrap();
    store.flush(&key, &upload).await.unwrap();
    // The id and the parts as another process reads them from a state that was stored.
    let text = serde_json::to_string(&(&upload, &one)).unwrap();
    let (upload, one) = serde_json::from_str(&text).unwrap();
    let two = store.part(&key, &upload, 2, part(size, 5)).await.unwrap();
    store.complete(&key, &upload, &[one, two]).await.unwrap();
    assert!(area.read("a").await == pattern(0, size + 5));
}

pub(super) async fn a_large_object_is_streamed(area: Area) {
    let (store, key) = (&area.store, area.key("a"));
    let size = store.capabilities().part_size;
    let upload = store.begin(&key, PutOptions::default()).await.unwrap();
    let mut parts = Vec::new();
    for number in 0..3 {
        let data = part(u64::from(number) * size, size);
        parts.push(store.part(&key, &upload, number + 1, data).await.unwrap());
    }
    store.complete(&key, &upload, &parts).await.unwrap();
    let all = pattern(0, 3 * size);
    let read = area.read("a").await;
    assert_eq!(Digest::sha256(&read), Digest::sha256(&all));
    for (start, end) in
        [(size - 1, size + 1), (1, 3 * size - 1), (2 * size, 3 * size), (3 * size - 1, 3 * size)]
    {
        let options = GetOptions { range: Some((start, Some(end))), ..GetOptions::default() };
        let read = area.get("a", options).await.unwrap();
        assert!(read == all.slice(start as usize..end as usize), "{start}..{end}");
    }
    store.rename(&key, &area.key("b/c")).await.unwrap();
    store.copy(&area.key("b/c"), &key).await.unwrap();
    assert!(area.read("a").await == all);
}

pub(super) async fn completing_checks_the_condition(area: Area) {
    let (store, key) = (&area.store, area.key("a"));
    let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
    let upload = store.begin(&key, options).await.unwrap();
    let one = store.part(&key, &upload, 1, chunks("second")).await.unwrap();
    area.put("a", "first").await;
    let late = store.complete(&key, &upload, std::slice::from_ref(&one)).await;
    assert!(matches!(late, Err(StoreError::Precondition)), "{late:?}");
    assert_eq!(area.read("a").await, "first");
    store.abort(&key, &upload).await.unwrap();
    assert_eq!(area.read("a").await, "first");
}
