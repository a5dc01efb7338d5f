//! Stopping: what runs finishes, what is idle ends, what hangs is cut.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use smartregistry_native::core::error::Kind;
use smartregistry_native::http::HttpLimits;
use tokio::net::TcpStream;

use crate::lab::{Lab, until};

#[tokio::test]
async fn a_running_download_finishes_and_an_idle_connection_ends() {
    let lab = Lab::new().await;
    let mut idle = lab.connect().await;
    assert_eq!(idle.get(&format!("{}/bytes/1", lab.base)).await.status, 200);
    let mut running = lab.connect().await;
    running.send(&format!("GET {}/gated HTTP/1.1\r\nhost: a\r\n\r\n", lab.base)).await;
    until("the download has begun", || lab.seen.open.load(SeqCst) == 1).await;
    let server = Arc::clone(&lab.server);
    let closing = tokio::spawn(async move { server.close().await });
    assert!(idle.is_closed().await);
    until("nobody is accepted", || std::net::TcpStream::connect(lab.addr).is_err()).await;
    assert!(!closing.is_finished(), "a download is still running");
    lab.open_gate();
    let answer = running.answer(false).await;
    assert!(answer.whole && answer.body.len() == 128 << 10);
    assert!(running.is_closed().await);
    closing.await.unwrap();
    lab.server.wait().await;
    lab.server.close().await;
}

#[tokio::test]
async fn what_hangs_is_cut_at_the_deadline_and_looks_cut() {
    let lab = Lab::limited(HttpLimits { close_timeout_ms: 100, ..HttpLimits::default() }).await;
    let mut download = lab.connect().await;
    download.send(&format!("GET {}/gated HTTP/1.1\r\nhost: a\r\n\r\n", lab.base)).await;
    let mut upload = lab.connect().await;
    upload
        .send(&format!(
            "PUT {}/swallow HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            lab.base
        ))
        .await;
    until("both have begun", || lab.seen.open.load(SeqCst) == 1 && lab.seen.received.load(SeqCst) == 5).await;
    lab.server.close().await;
    assert!(!download.answer(false).await.whole);
    until("the upload is seen as cut", || *lab.seen.broken.lock().unwrap() == Some(Kind::Aborted)).await;
    assert_eq!(lab.seen.complete.load(SeqCst), 0);
    assert!(TcpStream::connect(lab.addr).await.is_err());
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let lab = Lab::new().await;
    let options = smartregistry_native::http::ListenOptions { port: lab.addr.port(), ..Default::default() };
    let error = smartregistry_native::http::listen(Arc::clone(&lab.registry), options).await.err().unwrap();
    assert!(error.message().contains(&lab.addr.to_string()), "{error}");
}
