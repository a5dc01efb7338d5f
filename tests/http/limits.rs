//! Clients that are slow, greedy or silent.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use smartregistry_native::core::error::Kind;
use smartregistry_native::http::HttpLimits;
use tokio::io::AsyncWriteExt;

use crate::lab::{Lab, until};

#[tokio::test]
async fn headers_must_come_in_time() {
    let lab = Lab::limited(HttpLimits { header_timeout_ms: 200, ..HttpLimits::default() }).await;
    for beginning in ["", "G", "GET / HTTP/1.1\r\nhost: a\r\nx-slow: "] {
        let mut wire = lab.connect().await;
        wire.send(beginning).await;
        assert!(wire.is_closed().await, "{beginning}");
    }
    // A trickle of bytes is no progress.
    let mut wire = lab.connect().await;
    let started = Instant::now();
    while wire.socket.write_all(b"G").await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(10), "a head of one byte a time is awaited forever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_second_head_must_come_in_time_too_but_idling_is_fine() {
    let lab = Lab::limited(HttpLimits { header_timeout_ms: 1000, ..HttpLimits::default() }).await;
    let mut wire = lab.connect().await;
    assert_eq!(wire.get(&format!("{}/bytes/1", lab.base)).await.status, 200);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(
        wire.get(&format!("{}/bytes/1", lab.base)).await.status,
        200,
        "idle for longer than a head may take"
    );
    wire.send("GET /").await;
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let lab = Lab::limited(HttpLimits { idle_timeout_ms: 200, ..HttpLimits::default() }).await;
    let mut wire = lab.connect().await;
    assert_eq!(wire.get(&format!("{}/bytes/1", lab.base)).await.status, 200);
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn a_request_that_takes_its_time_is_not_idle() {
    let limits = HttpLimits {
        idle_timeout_ms: 400,
        stall_timeout_ms: 400,
        header_timeout_ms: 5000,
        ..HttpLimits::default()
    };
    let lab = Lab::limited(limits).await;
    let mut wire = lab.connect().await;
    wire.send(&format!("GET {}/wait HTTP/1.1\r\nhost: a\r\n\r\n", lab.base)).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    lab.open_gate();
    assert_eq!(wire.answer(false).await.body, b"waited");
    // A stream whose source has nothing yet is our debt, not the client's.
    let mut wire = lab.connect().await;
    wire.send(&format!("GET {}/gated HTTP/1.1\r\nhost: a\r\n\r\n", lab.base)).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    lab.open_gate();
    assert!(wire.answer(false).await.whole);
}

#[tokio::test]
async fn a_body_that_stalls_is_refused_and_one_that_is_slow_is_not() {
    let lab = Lab::limited(HttpLimits { stall_timeout_ms: 1500, ..HttpLimits::default() }).await;
    let mut wire = lab.connect().await;
    wire.send(&format!("PUT {}/swallow HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\n", lab.base)).await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        wire.send("x").await;
    }
    assert_eq!(wire.answer(false).await.status, 201, "2.4 s in all, never 1.5 s without a byte");
    let mut wire = lab.connect().await;
    wire.send(&format!("PUT {}/swallow HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nxxxx", lab.base))
        .await;
    assert_eq!(wire.answer(false).await.status, 408);
    assert_eq!(*lab.seen.broken.lock().unwrap(), Some(Kind::Timeout));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    let lab = Lab::limited(HttpLimits { stall_timeout_ms: 300, ..HttpLimits::default() }).await;
    for what in ["endless", "stream/100000000", "bytes/100000000"] {
        let mut wire = lab.connect().await;
        wire.send(&format!("GET {}/{what} HTTP/1.1\r\nhost: a\r\n\r\n", lab.base)).await;
        assert_eq!(wire.head().await.unwrap().0, 200);
        until("the answer is given up", || lab.registry.metrics().render().contains("requests_in_flight 0"))
            .await;
        until("its stream is dropped", || lab.seen.open.load(SeqCst) == 0).await;
        drop(wire);
    }
}

#[tokio::test]
async fn oversized_headers_get_431() {
    let lab = Lab::limited(HttpLimits { max_header_bytes: 4096, ..HttpLimits::default() }).await;
    let mut wire = lab.connect().await;
    let long = "x".repeat(5000);
    wire.send(&format!("GET {}/bytes/1 HTTP/1.1\r\nhost: a\r\nx-long: {long}\r\n\r\n", lab.base)).await;
    let answer = wire.answer(false).await;
    assert_eq!(answer.status, 431);
    assert!(String::from_utf8_lossy(&answer.body).contains("4096"));
    assert!(wire.is_closed().await);

    let mut wire = lab.connect().await;
    let many = (0..200).map(|at| format!("x-{at}: 1\r\n")).collect::<Vec<_>>().concat();
    wire.send(&format!("GET {}/bytes/1 HTTP/1.1\r\nhost: a\r\n{many}\r\n", lab.base)).await;
    assert_eq!(wire.answer(false).await.status, 431);

    // Without an end: hyper's buffer is the bound.
    let mut wire = lab.connect().await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\nx-endless: ").await;
    let piece = [b'x'; 16 << 10];
    let mut sent = 0;
    while wire.socket.write_all(&piece).await.is_ok() {
        sent += 1;
        assert!(sent < 1000, "a head without an end is kept in memory");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let lab = Lab::limited(HttpLimits { max_connections: 2, ..HttpLimits::default() }).await;
    let (mut one, mut two, mut three) = (lab.connect().await, lab.connect().await, lab.connect().await);
    let path = format!("{}/bytes/1", lab.base);
    assert_eq!((one.get(&path).await.status, two.get(&path).await.status), (200, 200));
    three.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    let early = tokio::time::timeout(Duration::from_millis(300), three.head()).await;
    assert!(early.is_err(), "the third was served beside two others");
    drop(one);
    assert_eq!(three.answer(false).await.status, 200);
}
