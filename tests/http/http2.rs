//! HTTP/2 with prior knowledge.

use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use smartregistry_native::core::error::Kind;
use smartregistry_native::http::HttpLimits;
use tokio::net::TcpStream;

use crate::lab::{Lab, until};

type Sent = BoxBody<Bytes, std::io::Error>;

async fn connect(lab: &Lab) -> SendRequest<Sent> {
    let socket = TokioIo::new(TcpStream::connect(lab.addr).await.unwrap());
    let (sender, connection) = handshake(TokioExecutor::new(), socket).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(lab: &Lab, what: &str) -> Request<Sent> {
    let uri = format!("http://lab.example.com{}/{what}", lab.base);
    Request::get(uri).body(Empty::new().map_err(|never| match never {}).boxed()).unwrap()
}

fn put(lab: &Lab, what: &str, chunks: Vec<std::io::Result<&'static str>>) -> Request<Sent> {
    let frames =
        chunks.into_iter().map(|chunk| chunk.map(|text| Frame::data(Bytes::from_static(text.as_bytes()))));
    let body = BodyExt::boxed(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())));
    Request::put(format!("http://lab.example.com{}/{what}", lab.base)).body(body).unwrap()
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let lab = Lab::new().await;
    let sender = connect(&lab).await;
    let mut running = tokio::task::JoinSet::new();
    for size in [0, 1, 100_000, 3_000_000] {
        for kind in ["bytes", "stream", "unknown-length"] {
            let (mut sender, request) = (sender.clone(), get(&lab, &format!("{kind}/{size}")));
            running.spawn(async move {
                let answer = sender.send_request(request).await.unwrap();
                assert_eq!((answer.version(), answer.status()), (http::Version::HTTP_2, StatusCode::OK));
                assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), size);
            });
        }
    }
    while let Some(result) = running.join_next().await {
        result.unwrap();
    }
    let mut sender = sender;
    let answer =
        sender.send_request(get(&lab, "origin?x=1")).await.unwrap().into_body().collect().await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.to_bytes()).unwrap();
    assert_eq!(answer["url"], "http://lab.example.com");
}

#[tokio::test]
async fn a_broken_answer_resets_its_stream_alone() {
    let lab = Lab::new().await;
    let mut sender = connect(&lab).await;
    for what in ["broken/300000", "broken-unknown-length/300000", "short/10"] {
        let result = match sender.send_request(get(&lab, what)).await {
            Ok(answer) => answer.into_body().collect().await.map(|body| body.to_bytes().len()),
            Err(error) => Err(error),
        };
        assert!(result.is_err(), "{what}: {result:?}");
    }
    let answer = sender.send_request(get(&lab, "bytes/3")).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "bbb");
}

#[tokio::test]
async fn a_body_comes_through_and_a_cut_one_never_looks_complete() {
    let lab = Lab::new().await;
    let mut sender = connect(&lab).await;
    let answer = sender.send_request(put(&lab, "echo", vec![Ok("hel"), Ok("lo")])).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    let cut = vec![Ok("hel"), Err(std::io::Error::other("the client broke"))];
    let _ = sender.send_request(put(&lab, "swallow", cut)).await;
    until("the handler sees the cut", || *lab.seen.broken.lock().unwrap() == Some(Kind::Aborted)).await;
    assert_eq!(lab.seen.complete.load(SeqCst), 0);
}

#[tokio::test]
async fn an_early_refusal_is_seen_while_sending() {
    let lab = Lab::new().await;
    let mut sender = connect(&lab).await;
    let endless = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 16 << 10]))));
    let request =
        Request::put(format!("http://a{}/refuse", lab.base)).body(BodyExt::boxed(StreamBody::new(endless)));
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(sender.send_request(get(&lab, "bytes/1")).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn aborted_downloads_leave_nothing_open() {
    let lab = Lab::new().await;
    let mut sender = connect(&lab).await;
    for _ in 0..500 {
        let answer = sender.send_request(get(&lab, "endless")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    until("no stream is open", || lab.seen.open.load(SeqCst) == 0).await;
    until("no request is in flight", || lab.registry.metrics().render().contains("requests_in_flight 0"))
        .await;
}

#[tokio::test]
async fn a_stream_whose_client_takes_nothing_is_cut() {
    let lab = Lab::limited(HttpLimits { stall_timeout_ms: 300, ..HttpLimits::default() }).await;
    let mut sender = connect(&lab).await;
    let answer = sender.send_request(get(&lab, "endless")).await.unwrap();
    until("the answer is given up", || lab.seen.open.load(SeqCst) == 0).await;
    drop(answer);
}

#[tokio::test]
async fn oversized_headers_are_refused() {
    let lab = Lab::limited(HttpLimits { max_header_bytes: 4096, ..HttpLimits::default() }).await;
    let mut sender = connect(&lab).await;
    let mut request = get(&lab, "bytes/1");
    request.headers_mut().insert("x-long", "x".repeat(8000).parse().unwrap());
    let refused = sender.send_request(request).await;
    assert!(
        refused.as_ref().is_err() || refused.unwrap().status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
}
