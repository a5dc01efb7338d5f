//! What a request gets: keep-alive, pipelining, HEAD, conditions, ranges, origin, a panic.

use crate::lab::{Lab, until};
use smartregistry_native::http::HttpLimits;
use std::sync::atomic::Ordering::SeqCst;

#[tokio::test]
async fn a_connection_carries_many_requests_and_remembers_no_failure() {
    let lab = Lab::new().await;
    let mut wire = lab.connect().await;
    for size in [1, 100_000, 0, 3] {
        let answer = wire.get(&format!("{}/bytes/{size}", lab.base)).await;
        assert_eq!((answer.status, answer.body.len()), (200, size));
        assert!(answer.header("x-request-id").is_some() && answer.header("date").is_some());
    }
    let failed = wire.get(&format!("{}/panic", lab.base)).await;
    assert_eq!(failed.status, 500);
    assert!(!String::from_utf8_lossy(&failed.body).contains("as asked"));
    assert_eq!(wire.get(&format!("{}/nothing", lab.base)).await.status, 404);
    assert_eq!(wire.get(&format!("{}/stream/200000", lab.base)).await.body.len(), 200_000);
    assert_eq!(wire.get("/elsewhere").await.status, 404);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let lab = Lab::new().await;
    let mut wire = lab.connect().await;
    let request = |what: &str| format!("GET {}/{what} HTTP/1.1\r\nhost: a\r\n\r\n", lab.base);
    let sizes = [5, 70_000, 1, 300_000, 0, 12];
    let all: String = sizes.iter().map(|size| request(&format!("stream/{size}"))).collect();
    wire.send(&all).await;
    for size in sizes {
        let answer = wire.answer(false).await;
        assert_eq!((answer.body.len(), answer.whole), (size, true));
    }
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let lab = Lab::new().await;
    let mut wire = lab.connect().await;
    for (what, length) in [("bytes/1234", "1234"), ("stream/200000", "200000"), ("file", "100000")] {
        wire.send(&format!("HEAD {}/{what} HTTP/1.1\r\nhost: a\r\n\r\n", lab.base)).await;
        let answer = wire.answer(true).await;
        assert_eq!((answer.status, answer.header("content-length")), (200, Some(length)), "{what}");
    }
    // Had one of them sent a body, this would read it.
    assert_eq!(wire.get(&format!("{}/bytes/2", lab.base)).await.body, b"bb");
    until("bodies that nobody wants are dropped", || lab.seen.open.load(SeqCst) == 0).await;
}

#[tokio::test]
async fn conditions_and_ranges() {
    let lab = Lab::new().await;
    let mut wire = lab.connect().await;
    let ask =
        |what: &str, header: &str| format!("GET {}/{what} HTTP/1.1\r\nhost: a\r\n{header}\r\n\r\n", lab.base);
    wire.send(&ask("tag", "if-none-match: \"one\"")).await;
    let answer = wire.answer(false).await;
    assert_eq!(
        (answer.status, answer.header("etag"), answer.header("content-length")),
        (304, Some("\"one\""), None)
    );
    wire.send(&ask("tag", "if-none-match: \"two\"")).await;
    assert_eq!(wire.answer(false).await.body, b"tagged");
    for (range, first, length) in
        [("0-9", 0, 10), ("99990-", 99_990, 10), ("-5", 99_995, 5), ("50-70000", 50, 69_951)]
    {
        wire.send(&ask("file", &format!("range: bytes={range}"))).await;
        let answer = wire.answer(false).await;
        assert_eq!((answer.status, answer.body.len()), (206, length), "{range}");
        assert_eq!(u32::from(answer.body[0]), first % 251, "{range}");
        let last = first as usize + length - 1;
        assert_eq!(answer.header("content-range"), Some(format!("bytes {first}-{last}/100000").as_str()));
    }
    wire.send(&ask("file", "range: bytes=100000-")).await;
    let answer = wire.answer(false).await;
    assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */100000")));
}

#[tokio::test]
async fn links_follow_the_host_and_only_a_trusted_proxy_may_say_otherwise() {
    let forwarded = "x-forwarded-proto: https\r\nx-forwarded-host: pub.example.com\r\nx-forwarded-prefix: /p\r\nx-forwarded-for: 192.0.2.7";
    let cases = [
        (serde_json::json!(false), "http://in.example.com:81", "127.0.0.1"),
        (serde_json::json!(["127.0.0.0/8"]), "https://pub.example.com/p", "192.0.2.7"),
        (serde_json::json!(["10.0.0.0/8"]), "http://in.example.com:81", "127.0.0.1"),
    ];
    for (trust, url, client) in cases {
        let lab = Lab::with(HttpLimits::default(), None, serde_json::json!({ "trustProxy": trust })).await;
        let mut wire = lab.connect().await;
        wire.send(&format!(
            "GET {}/origin?a=1&a=%2F HTTP/1.1\r\nhost: in.example.com:81\r\n{forwarded}\r\n\r\n",
            lab.base
        ))
        .await;
        let answer: serde_json::Value = serde_json::from_slice(&wire.answer(false).await.body).unwrap();
        assert_eq!((answer["url"].as_str(), answer["client"].as_str()), (Some(url), Some(client)));
        assert_eq!(answer["query"], serde_json::json!([["a", "1"], ["a", "/"]]));
    }
}

#[tokio::test]
async fn a_request_without_exactly_one_host_is_refused() {
    let lab = Lab::new().await;
    for hosts in ["", "host: a\r\nhost: b\r\n"] {
        let mut wire = lab.connect().await;
        wire.send(&format!("GET {}/bytes/1 HTTP/1.1\r\n{hosts}\r\n", lab.base)).await;
        assert_eq!(wire.answer(false).await.status, 400, "{hosts}");
    }
    let mut wire = lab.connect().await;
    wire.send(&format!("GET {}/bytes/1 HTTP/1.0\r\n\r\n", lab.base)).await;
    assert_eq!(wire.answer(false).await.status, 200);
}

#[tokio::test]
async fn the_reason_of_our_own_reaches_the_status_line() {
    let lab = Lab::new().await;
    let answer = lab.get("reason").await;
    assert!(answer.head.starts_with("HTTP/1.1 403 Not on a Sunday\r\n"), "{}", answer.head);
}

/// What a proxy in front takes for the body of one request must not become another (CWE-444).
#[tokio::test]
async fn nothing_is_smuggled_behind_a_body_of_two_lengths() {
    let lab = Lab::new().await;
    let hidden = format!("GET {}/bytes/7 HTTP/1.1\r\nhost: a\r\n\r\n", lab.base);
    for lengths in [
        "content-length: 0\r\ncontent-length: 60",
        "content-length: 0, 60",
        "content-length: +0",
        "content-length: 0x0",
        "content-length: -1",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "transfer-encoding : chunked",
        "content-length: 0\r\ntransfer-encoding: gzip",
        "x: y\rtransfer-encoding: chunked",
    ] {
        let mut wire = lab.connect().await;
        wire.send(&format!("POST {}/echo HTTP/1.1\r\nhost: a\r\n{lengths}\r\n\r\n{hidden}", lab.base)).await;
        let answer = wire.answer(false).await;
        assert_eq!(answer.status, 400, "{lengths}: {}", answer.head);
        assert!(wire.is_closed().await, "{lengths}");
    }
    for chunk in ["FFFFFFFFFFFFFFFFF", "0x0", "-1", "+0", "1;\n", " "] {
        let mut wire = lab.connect().await;
        let head =
            format!("POST {}/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", lab.base);
        wire.send(&format!("{head}{chunk}\r\n\r\n{hidden}")).await;
        let answer = wire.answer(false).await;
        assert_eq!(answer.status, 400, "{chunk:?}: {}", answer.head);
        assert!(wire.is_closed().await, "{chunk:?}");
    }
}
