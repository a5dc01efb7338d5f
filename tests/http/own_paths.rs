//! `/-/health`, `/-/ready`, `/-/metrics`.

use crate::lab::Lab;
use smartregistry_native::http::HttpLimits;

#[tokio::test]
async fn health_readiness_and_metrics_answer_for_themselves() {
    let lab = Lab::new().await;
    let mut wire = lab.connect().await;
    let health = wire.get("/-/health").await;
    assert_eq!((health.status, health.body.as_slice()), (200, br#"{"status":"ok"}"#.as_slice()));
    let ready = wire.get("/-/ready").await;
    let told: serde_json::Value = serde_json::from_slice(&ready.body).unwrap();
    assert_eq!(ready.status, 200);
    assert_eq!(told["status"], "ready");
    assert_eq!(told["conditionalWrites"], "L0");
    assert!(told["warnings"].is_array());
    assert_eq!(wire.get(&format!("{}/bytes/1000", lab.base)).await.status, 200);
    assert_eq!(wire.get(&format!("{}/nothing", lab.base)).await.status, 404);
    assert_eq!(wire.get(&format!("{}/stream/100000", lab.base)).await.status, 200);
    wire.send(&format!("PUT {}/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", lab.base)).await;
    assert_eq!(wire.answer(false).await.status, 200);
    let metrics = wire.get("/-/metrics").await;
    let text = String::from_utf8(metrics.body.clone()).unwrap();
    for line in [
        r#"smartregistry_requests_total{protocol="lab",method="GET",status="2xx"} 2"#,
        r#"smartregistry_requests_total{protocol="lab",method="GET",status="4xx"} 1"#,
        r#"smartregistry_requests_total{protocol="lab",method="PUT",status="2xx"} 1"#,
        r#"smartregistry_received_bytes_total{protocol="lab"} 5"#,
        r#"smartregistry_sent_bytes_total{protocol="lab"} 101013"#,
        r#"smartregistry_request_duration_seconds_count{protocol="lab"} 4"#,
        "smartregistry_requests_in_flight 0",
        r#"smartregistry_storage_requests_total{store="memory"}"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    wire.send("HEAD /-/health HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(wire.answer(true).await.header("content-length"), Some("15"));
    wire.send("POST /-/health HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(wire.answer(false).await.status, 405);
}

#[tokio::test]
async fn the_exact_paths_win_over_a_protocol_at_the_root_and_nothing_else_does() {
    let npm = serde_json::json!({ "npm": { "enabled": true, "basePath": "/" } });
    let lab = Lab::with(HttpLimits::default(), None, npm).await;
    let mut wire = lab.connect().await;
    assert_eq!(wire.get("/-/health").await.body, br#"{"status":"ok"}"#);
    let ping = wire.get("/-/healthy").await;
    assert!(ping.header("x-request-id").is_some(), "npm answers: {ping:?}");
}
