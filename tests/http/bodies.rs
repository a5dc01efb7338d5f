//! Bodies in both directions: whole or recognisably not, and nothing left behind.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use smartregistry_native::core::error::Kind;
use smartregistry_native::http::HttpLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::{Lab, until};

#[tokio::test]
async fn an_answer_that_breaks_is_seen_as_broken() {
    let lab = Lab::new().await;
    for what in ["broken/1000", "broken/300000", "broken-unknown-length/300000", "short/10", "short/300000"] {
        let mut wire = lab.connect().await;
        wire.send(&format!("GET {}/{what} HTTP/1.1\r\nhost: a\r\n\r\n", lab.base)).await;
        let Some((status, head)) = wire.head().await else { continue };
        assert_eq!(status, 200);
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut rest = Vec::new();
        let _ = wire.socket.read_to_end(&mut rest).await;
        match length {
            Some(length) => assert!(rest.len() < length.parse().unwrap(), "{what}"),
            None => assert!(!rest.ends_with(b"0\r\n\r\n"), "{what}"),
        }
    }
    until("all streams are dropped", || lab.seen.open.load(SeqCst) == 0).await;
}

#[tokio::test]
async fn a_body_comes_through_with_and_without_a_length() {
    let lab = Lab::new().await;
    let mut wire = lab.connect().await;
    wire.send(&format!("PUT {}/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", lab.base)).await;
    assert_eq!(wire.answer(false).await.body, b"hello");
    wire.send(&format!("PUT {}/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", lab.base)).await;
    assert_eq!(wire.answer(false).await.body, b"hello");
    wire.send(&format!("PUT {}/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", lab.base)).await;
    assert_eq!(wire.answer(false).await.body, b"");
}

#[tokio::test]
async fn a_cut_upload_never_looks_complete() {
    for framing in ["content-length: 1000000\r\n\r\n", "transfer-encoding: chunked\r\n\r\nffffff\r\n"] {
        let lab = Lab::new().await;
        let mut wire = lab.connect().await;
        wire.send(&format!("PUT {}/swallow HTTP/1.1\r\nhost: a\r\n{framing}", lab.base)).await;
        wire.socket.write_all(&[7; 5000]).await.unwrap();
        until("the handler has read what came", || lab.seen.received.load(SeqCst) == 5000).await;
        drop(wire);
        until("the handler sees the cut", || *lab.seen.broken.lock().unwrap() == Some(Kind::Aborted)).await;
        assert_eq!(lab.seen.complete.load(SeqCst), 0);
    }
}

#[tokio::test]
async fn a_chunked_upload_that_is_cut_between_chunks_never_looks_complete() {
    let lab = Lab::new().await;
    let mut wire = lab.connect().await;
    wire.send(&format!(
        "PUT {}/swallow HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        lab.base
    ))
    .await;
    until("the chunk is there", || lab.seen.received.load(SeqCst) == 5).await;
    drop(wire);
    until("the handler sees the cut", || *lab.seen.broken.lock().unwrap() == Some(Kind::Aborted)).await;
    assert_eq!(lab.seen.complete.load(SeqCst), 0);
}

#[tokio::test]
async fn a_writing_handler_runs_to_its_end_without_its_client() {
    let lab = Lab::new().await;
    let mut wire = lab.connect().await;
    wire.send(&format!(
        "PUT {}/swallow-and-wait HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi",
        lab.base
    ))
    .await;
    until("the body is read", || lab.seen.complete.load(SeqCst) == 1).await;
    let before = lab.seen.done.load(SeqCst);
    drop(wire);
    // A second connection's whole life gives the first one's end time to be noticed.
    assert_eq!(lab.get("bytes/1").await.status, 200);
    lab.open_gate();
    until("the handler is done", || lab.seen.done.load(SeqCst) == before + 2).await;
}

#[tokio::test]
async fn an_early_refusal_does_not_ask_for_a_held_back_body() {
    let lab = Lab::new().await;
    let mut wire = lab.connect().await;
    let head = "host: a\r\ncontent-length: 1000000000\r\nexpect: 100-continue\r\n\r\n";
    wire.send(&format!("PUT {}/refuse HTTP/1.1\r\n{head}", lab.base)).await;
    let answer = wire.answer(false).await;
    assert_eq!(answer.status, 401, "no 100 Continue before it");
    assert!(wire.is_closed().await, "the client may not know whether to send the body now");

    let mut wire = lab.connect().await;
    wire.send(&format!(
        "PUT {}/swallow HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n",
        lab.base
    ))
    .await;
    assert_eq!(wire.head().await.unwrap().0, 100);
    wire.send("hi").await;
    assert_eq!(wire.answer(false).await.status, 201);
}

#[tokio::test]
async fn an_early_refusal_is_seen_by_a_client_that_sends_everything_first() {
    let lab = Lab::new().await;
    let mut wire = lab.connect().await;
    let size = 8 << 20;
    wire.send(&format!("PUT {}/refuse HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n", lab.base))
        .await;
    wire.socket.write_all(&vec![1; size]).await.unwrap();
    assert_eq!(wire.answer(false).await.status, 401);
    assert_eq!(lab.seen.received.load(SeqCst), 0);
    assert_eq!(wire.get(&format!("{}/bytes/1", lab.base)).await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn a_refused_body_is_not_read_without_bound() {
    let lab = Lab::limited(HttpLimits { drain_bytes: 1 << 20, ..HttpLimits::default() }).await;
    let mut wire = lab.connect().await;
    wire.send(&format!(
        "PUT {}/refuse HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000000\r\n\r\n",
        lab.base
    ))
    .await;
    let piece = vec![1; 1 << 20];
    let mut sent = 0_u64;
    while wire.socket.write_all(&piece).await.is_ok() {
        sent += 1;
        assert!(sent < 200, "the server reads a refused body forever");
    }
}

#[tokio::test]
async fn aborted_downloads_leave_nothing_open() {
    let lab = Lab::new().await;
    for round in 0..50 {
        let mut wires = Vec::new();
        for _ in 0..10 {
            let mut wire = lab.connect().await;
            let what = if round % 2 == 0 { "endless" } else { "stream/50000000" };
            wire.send(&format!("GET {}/{what} HTTP/1.1\r\nhost: a\r\n\r\n", lab.base)).await;
            wires.push(wire);
        }
        for wire in &mut wires {
            assert_eq!(wire.head().await.unwrap().0, 200);
        }
    }
    until("no stream is open", || lab.seen.open.load(SeqCst) == 0).await;
    until("no request is in flight", || lab.registry.metrics().render().contains("requests_in_flight 0"))
        .await;
}

#[tokio::test]
async fn a_download_waits_for_its_reader() {
    let lab = Lab::new().await;
    let mut wire = lab.connect().await;
    wire.send(&format!("GET {}/endless HTTP/1.1\r\nhost: a\r\n\r\n", lab.base)).await;
    assert_eq!(wire.head().await.unwrap().0, 200);
    // The reader pauses; what the server has produced can only be what sockets and buffers hold.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let sent = |lab: &Lab| {
        let text = lab.registry.metrics().render();
        assert!(text.contains("requests_in_flight 1"), "{text}");
    };
    sent(&lab);
    drop(wire);
    until("the stream is dropped", || lab.seen.open.load(SeqCst) == 0).await;
    let text = lab.registry.metrics().render();
    let line =
        text.lines().find(|line| line.starts_with("smartregistry_sent_bytes_total")).unwrap().to_owned();
    let bytes: u64 = line.split(' ').next_back().unwrap().parse().unwrap();
    assert!(bytes < 32 << 20, "{bytes} bytes were made for a client that took none");
}
