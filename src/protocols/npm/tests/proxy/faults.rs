//! Every way in which an upstream can go wrong, for packuments and for tarballs: no wrong byte is served as complete, nothing bad is kept, and the next
//! good answer is taken.

use std::time::Duration;

use super::*;

const TARBALL: &str = "/widget/-/widget-1.0.0.tgz";

/// Faults of an answer with this body.
fn faults(fake: &FakeUpstream, body: &[u8]) -> Vec<(&'static str, Reply)> {
    let body = body.to_vec();
    vec![
        ("it says that it is longer", Reply::ok(body.clone()).length(body.len() + 10)),
        ("it is cut", Reply::ok(body.clone()).length(body.len()).cut(body.len() / 2)),
        ("it never begins", Reply::ok(body.clone()).delay(Duration::from_secs(30))),
        ("it stops", Reply::ok(body).gate(&Arc::new(tokio::sync::Semaphore::new(0)))),
        ("401", Reply::new(401, "{}")),
        ("500", Reply::new(500, "{}")),
        ("503", Reply::new(503, "{}")),
        ("429", Reply::new(429, "{}").header("retry-after", "1")),
        ("a page", Reply::ok("<html>please log in</html>")),
        ("nothing", Reply::ok("")),
        ("a loop", Reply::redirect(&format!("{}/loop", fake.url))),
        ("a redirect to nowhere", Reply::redirect("ftp://example.com/")),
    ]
}

fn quick() -> Value {
    json!({ "resilience": { "timeoutMs": 300, "maxRetries": 1, "retryDelayMs": 1, "circuitBreakerThreshold": 1000 } })
}

#[tokio::test]
async fn a_packument_that_goes_wrong_is_not_believed() {
    let fake = FakeUpstream::start().await;
    fake.on("/loop", Reply::redirect("/loop"));
    let good = packument(&fake, "widget", &["1.0.0"]);
    for (fault, reply) in faults(&fake, good.to_string().as_bytes()) {
        let registry = with(&fake, quick()).await;
        fake.on("/widget", reply);
        let began = tokio::time::Instant::now();
        let answer = registry.send(get("/widget")).await;
        assert!(matches!(answer.status, 502 | 503), "{fault}: {} {}", answer.status, answer.text());
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{fault}: as long as the configuration allows, no longer"
        );
        assert!(!answer.text().contains("127.0.0.1"), "{fault}: {}", answer.text());
        assert!(!registry.keys(true).await.iter().any(|key| key.contains("upstream/npm/fake")), "{fault}");
        fake.on("/widget", Reply::json(&good));
        registry.clock.advance(Duration::from_secs(2));
        assert_eq!(registry.send(get("/widget")).await.status, 200, "{fault}");
    }
}

#[tokio::test]
async fn a_packument_that_was_good_is_served_on() {
    let fake = FakeUpstream::start().await;
    fake.on("/loop", Reply::redirect("/loop"));
    let good = packument(&fake, "widget", &["1.0.0"]);
    for (fault, reply) in faults(&fake, good.to_string().as_bytes()) {
        let registry = with(&fake, quick()).await;
        fake.on("/widget", Reply::json(&good));
        registry.send(get("/widget")).await;
        fake.on("/widget", reply);
        registry.clock.advance(Duration::from_hours(5));
        let answer = registry.send(get("/widget")).await;
        assert_eq!((answer.status, &answer.json()["dist-tags"]["latest"]), (200, &json!("1.0.0")), "{fault}");
    }
}

#[tokio::test]
async fn a_tarball_that_goes_wrong_never_looks_complete() {
    let fake = FakeUpstream::start().await;
    fake.on("/loop", Reply::redirect("/loop"));
    serve(&fake, "widget", &["1.0.0"]);
    let good = tarball("1.0.0");
    let mut wrong = good.clone();
    let last = wrong.len() - 1;
    wrong[last] ^= 1;
    let mut all = faults(&fake, &good);
    all.push(("another byte", Reply::ok(wrong)));
    all.push(("longer than it should be", Reply::ok([good.as_slice(), b"more"].concat())));
    all.push(("packed", Reply::ok(good.clone()).header("content-encoding", "gzip")));
    all.push(("404", Reply::new(404, "{}")));
    all.push(("403", Reply::new(403, r#"{"error":"quarantined"}"#)));
    for (fault, reply) in all {
        let registry = with(&fake, quick()).await;
        fake.on(TARBALL, reply);
        let answer = registry.send(get(TARBALL)).await;
        assert!(answer.status >= 400 || answer.body.is_err(), "{fault}: {} {:?}", answer.status, answer.body);
        if fault == "403" {
            assert!(answer.status == 403 && answer.text().contains("quarantined"), "{}", answer.text());
        }
        assert!(cached(&registry).await.is_empty(), "{fault}");
        fake.on(TARBALL, Reply::ok(good.clone()));
        registry.clock.advance(Duration::from_secs(2));
        assert_eq!(registry.send(get(TARBALL)).await.bytes(), &Bytes::from(good.clone()), "{fault}");
    }
}

#[tokio::test]
async fn the_breaker_opens_and_recovers_as_configured() {
    let fake = FakeUpstream::start().await;
    let resilience = json!({ "timeoutMs": 500, "maxRetries": 0, "circuitBreakerThreshold": 3, "circuitBreakerResetMs": 30_000 });
    let registry = with(&fake, json!({ "resilience": resilience })).await;
    fake.script(|_| Some(Reply::new(500, "")));
    for _ in 0..3 {
        assert_eq!(registry.send(get("/widget")).await.status, 503);
    }
    assert_eq!(fake.count(), 3);
    let resting = registry.send(get("/gadget")).await;
    assert_eq!((resting.status, resting.header("retry-after")), (503, Some("30")));
    assert_eq!(fake.count(), 3, "it is left alone");
    assert!(
        registry
            .registry
            .metrics()
            .render()
            .contains(r#"upstream_breaker{protocol="npm",upstream="fake"} 2"#)
    );
    registry.clock.advance(Duration::from_secs(30));
    assert_eq!(registry.send(get("/widget")).await.status, 503);
    assert_eq!(registry.send(get("/widget")).await.status, 503);
    assert_eq!(fake.count(), 4, "one request decides");
    registry.clock.advance(Duration::from_secs(30));
    fake.script(|_| None);
    serve(&fake, "widget", &["1.0.0"]);
    serve(&fake, "gadget", &["1.0.0"]);
    assert_eq!(registry.send(get("/widget")).await.status, 200);
    assert_eq!(registry.send(get("/gadget")).await.status, 200);
}

#[tokio::test]
async fn an_upstream_that_asks_for_patience_gets_it() {
    let fake = FakeUpstream::start().await;
    let registry = over(&fake).await;
    fake.on("/widget", Reply::new(429, "").header("retry-after", "120"));
    let answer = registry.send(get("/widget")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("120")));
    registry.clock.advance(Duration::from_secs(119));
    registry.send(get("/gadget")).await;
    assert_eq!(fake.count(), 1);
    registry.clock.advance(Duration::from_secs(1));
    assert_eq!(registry.send(get("/gadget")).await.status, 404);
}

#[tokio::test]
async fn a_passing_fault_is_tried_again() {
    let fake = FakeUpstream::start().await;
    serve(&fake, "widget", &["1.0.0"]);
    let tries = std::sync::atomic::AtomicUsize::new(0);
    fake.script(move |_| {
        let before = tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        (before < 2).then(|| Reply::new(502, ""))
    });
    let registry = with(&fake, json!({ "resilience": { "maxRetries": 3, "retryDelayMs": 1 } })).await;
    assert_eq!(registry.send(get("/widget")).await.status, 200);
    assert_eq!(fake.count(), 3);
}

#[tokio::test]
async fn credentials_stay_where_they_belong() {
    let (fake, elsewhere) = (FakeUpstream::start().await, FakeUpstream::start().await);
    serve(&fake, "widget", &["1.0.0"]);
    elsewhere.on("/file", Reply::ok(tarball("1.0.0")));
    fake.on(TARBALL, Reply::redirect(&format!("{}/file", elsewhere.url)));
    let upstream = json!([{
        "id": "fake", "url": fake.url, "priority": 1, "auth": { "type": "bearer", "token": "their-secret" },
    }]);
    let registry = with(&fake, json!({ "upstreams": upstream })).await;
    let answer = registry.send(get(TARBALL).header("cookie", "mine").header("npm-otp", "123456")).await;
    assert_eq!(answer.bytes(), &Bytes::from(tarball("1.0.0")));
    for asked in fake.asked() {
        assert_eq!(asked.header("authorization"), Some("Bearer their-secret"));
        assert!(asked.header("cookie").is_none() && asked.header("npm-otp").is_none());
    }
    let asked = elsewhere.asked();
    assert_eq!((asked.len(), asked[0].header("authorization")), (1, None));
}

#[tokio::test]
async fn a_public_host_can_not_have_us_ask_inside() {
    let (fake, inside) = (FakeUpstream::start().await, FakeUpstream::start().await);
    serve(&fake, "widget", &["1.0.0"]);
    inside.on("/secret", Reply::ok(tarball("1.0.0")));
    fake.on(TARBALL, Reply::redirect(&format!("{}/secret", inside.url)));
    let upstream = json!([{ "id": "fake", "url": fake.url, "priority": 1, "allowPrivateAddresses": false }]);
    let registry = with(&fake, json!({ "upstreams": upstream })).await;
    assert_eq!(registry.send(get(TARBALL)).await.status, 502);
    let by_name = inside.url.replace("127.0.0.1", "localhost");
    fake.on(TARBALL, Reply::redirect(&format!("{by_name}/secret")));
    assert!(registry.send(get(TARBALL)).await.status >= 500);
    assert_eq!(inside.count(), 0);
}

#[tokio::test]
async fn a_packed_bomb_is_not_unpacked() {
    use std::io::Write as _;
    let fake = FakeUpstream::start().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![b' '; 1 << 20];
    (0..80).for_each(|_| encoder.write_all(&zeros).unwrap());
    fake.on("/widget", Reply::ok(encoder.finish().unwrap()).header("content-encoding", "gzip"));
    let registry = over(&fake).await;
    let answer = registry.send(get("/widget")).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("limit"), "{}", answer.text());
}
