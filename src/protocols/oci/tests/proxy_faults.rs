//! Pulling through from an upstream that is slow, broken or lying: nothing wrong is ever served whole or kept, and the next request is as good as any.

use std::time::Duration;

use super::proxy::{lines, manifest_reply, mirror, mirror_with, offer, pull};
use super::*;
use crate::testing::upstream::{FakeUpstream, Reply};

/// What goes wrong, and the statuses that the client may see; 200 for an answer that breaks off.
fn faults(whole: &[u8], elsewhere: &str) -> Vec<(&'static str, Reply, &'static [u16])> {
    let mut wrong = whole.to_vec();
    wrong.reverse();
    wrong[0] ^= 1;
    let long = [whole, b"more"].concat();
    vec![
        ("wrong bytes", Reply::ok(wrong), &[200, 502]),
        ("too short", Reply::ok(whole[..whole.len() - 1].to_vec()), &[200, 502]),
        ("too long", Reply::ok(long), &[200, 502]),
        ("nothing", Reply::ok(""), &[200, 502]),
        ("less than announced", Reply::ok(whole.to_vec()).length(whole.len() + 9), &[200, 503, 502]),
        ("cut", Reply::ok(whole.to_vec()).cut(whole.len() / 3), &[200, 503, 502]),
        ("compressed, unasked", Reply::ok(whole.to_vec()).header("content-encoding", "gzip"), &[502]),
        ("401", Reply::new(401, "").header("www-authenticate", "Basic realm=\"x\""), &[502]),
        ("403", Reply::new(403, r#"{"errors":[{"code":"DENIED","message":"pay first"}]}"#), &[403]),
        ("404", Reply::new(404, ""), &[404]),
        ("429", Reply::new(429, ""), &[503]),
        ("500", Reply::new(500, ""), &[503]),
        (
            "a page of a portal",
            Reply::ok("<html>log in</html>").header("content-type", "text/html"),
            &[200, 502],
        ),
        ("round and round", Reply::redirect("/round"), &[502]),
        ("to nowhere", Reply::redirect("ftp://nowhere"), &[502]),
        ("to a private place elsewhere", Reply::redirect(elsewhere), &[200, 502, 404]),
    ]
}

/// The upstream's word on a blob or a manifest fails in every way, and then does not.
async fn survives(blob: bool) {
    let elsewhere = FakeUpstream::start().await;
    for (name, fault, statuses) in
        faults(&super::uploads::big(200_000, 3), &format!("{}/other", elsewhere.url))
    {
        let fake = FakeUpstream::start().await;
        fake.on("/round", Reply::redirect("/round"));
        let layer = super::uploads::big(200_000, 3);
        let image = offer(&fake, "team/app", "v1", &layer);
        let path = if blob { image.blob("team/app") } else { image.by_digest("team/app") };
        let good = if blob { Reply::ok(layer.clone()) } else { manifest_reply(&image.manifest, IMAGE) };
        // The faults are made for a blob's bytes; those of a manifest are other bytes all the same.
        fake.on(&path, fault);
        let registry = mirror(&fake).await;
        for request in [get(&path), get(&path).header("range", "bytes=5-9")] {
            let answer = registry.send(request).await;
            assert!(statuses.contains(&answer.status), "{name}: {answer:?}");
            if answer.status == 200 {
                assert!(answer.body.is_err(), "{name}: {:?}", answer.body);
            } else {
                assert_ne!(code(&answer), "", "{name}");
                assert_ne!(answer.status, 401, "{name}");
            }
        }
        let kept = registry.keys(false).await;
        assert!(kept.is_empty(), "{name}: {kept:?}");
        fake.on(&path, good);
        registry.clock.advance(Duration::from_hours(2));
        let answer = registry.send(get(&path)).await;
        assert_eq!(answer.status, 200, "after {name}: {answer:?}");
        let whole = if blob { layer.clone() } else { image.manifest.clone().into_bytes() };
        assert_eq!(answer.bytes().as_ref(), whole, "after {name}");
    }
}

#[tokio::test]
async fn a_blob_is_what_its_digest_says_or_breaks_off() {
    survives(true).await;
}

#[tokio::test]
async fn a_manifest_is_what_its_digest_says_or_an_error() {
    survives(false).await;
}

#[tokio::test]
async fn a_refusal_is_told_in_its_own_words() {
    let fake = FakeUpstream::start().await;
    let refusal = Reply::new(403, r#"{"errors":[{"code":"DENIED","message":"pay first"}]}"#);
    fake.on("/v2/team/app/manifests/v1", refusal.clone());
    let digest = sha256(b"x");
    fake.on(&format!("/v2/team/app/manifests/{digest}"), refusal);
    let registry = mirror(&fake).await;
    let answer = registry.send(get(&format!("/v2/team/app/manifests/{digest}"))).await;
    assert_eq!((answer.status, code(&answer).as_str()), (403, "DENIED"));
    assert!(answer.text().contains("pay first"), "{}", answer.text());
    assert_eq!(registry.send(get("/v2/team/app/manifests/v1")).await.status, 403);
}

#[tokio::test]
async fn an_upstream_that_asks_for_it_is_left_alone() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"layer");
    fake.on("/v2/team/app/manifests/v1", Reply::new(429, "").header("retry-after", "90"));
    let registry = mirror(&fake).await;
    let answer = registry.send(get("/v2/team/app/manifests/v1")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("90")));
    let from = fake.count();
    assert_eq!(registry.send(get(&image.blob("team/app"))).await.status, 503);
    assert_eq!(registry.send(head(&image.by_digest("team/app"))).await.status, 503);
    assert_eq!(fake.count(), from);
    offer(&fake, "team/app", "v1", b"layer");
    registry.clock.advance(Duration::from_secs(91));
    pull(&registry, "team/app", "v1", &image).await;
}

#[tokio::test]
async fn a_silent_upstream_is_not_waited_for() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", &super::uploads::big(100_000, 1));
    let resilience =
        json!({ "resilience": { "timeoutMs": 150, "maxRetries": 0, "circuitBreakerThreshold": 1000 } });
    let registry = mirror_with(&fake, resilience, json!({})).await;
    let late = Duration::from_millis(600);
    fake.on(&image.by_digest("team/app"), manifest_reply(&image.manifest, IMAGE).delay(late));
    assert_eq!(registry.send(get(&image.by_digest("team/app"))).await.status, 503);
    // In the middle of a blob.
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    fake.on(&image.blob("team/app"), Reply::ok(image.layer.clone()).gate(&gate));
    let answer = registry.send(get(&image.blob("team/app"))).await;
    assert!(answer.status == 200 && answer.body.is_err(), "{answer:?}");
    assert!(registry.keys(false).await.is_empty());
    offer(&fake, "team/app", "v1", &image.layer);
    pull(&registry, "team/app", "v1", &image).await;
}

#[tokio::test]
async fn a_manifest_that_can_be_read_in_two_ways_is_not_taken() {
    let fake = FakeUpstream::start().await;
    let registry = mirror(&fake).await;
    let plain = image(b"{}", b"layer");
    let mut both = plain.clone();
    both["manifests"] = json!([]);
    let schema1 = json!({ "schemaVersion": 1, "name": "x", "tag": "v1", "fsLayers": [], "history": [] });
    let pretty = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    for (name, text, kind) in [
        ("both", both.to_string(), IMAGE),
        ("another type than it says", plain.to_string(), INDEX),
        ("schema 1", schema1.to_string(), pretty),
        ("no manifest", "[]".to_owned(), IMAGE),
        ("a page", "<html>".to_owned(), "text/html"),
        ("too much", format!("{{\"x\":\"{}\"}}", "y".repeat(5 << 20)), IMAGE),
    ] {
        let digest = sha256(text.as_bytes());
        fake.on(&format!("/v2/team/app/manifests/{digest}"), manifest_reply(&text, kind));
        let answer = registry.send(get(&format!("/v2/team/app/manifests/{digest}"))).await;
        assert_eq!(answer.status, 502, "{name}: {answer:?}");
    }
    assert!(registry.keys(false).await.is_empty());
    // What says nothing of its type says it itself.
    let text = plain.to_string();
    let digest = sha256(text.as_bytes());
    fake.on(&format!("/v2/team/app/manifests/{digest}"), manifest_reply(&text, "application/octet-stream"));
    let answer = registry.send(get(&format!("/v2/team/app/manifests/{digest}"))).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(IMAGE)));
}

/// Demands a token, as registries do, and gives one to who shows `basic`, or to anybody.
fn guarded(fake: &FakeUpstream, basic: Option<&'static str>) {
    let url = fake.url.clone();
    fake.script(move |asked| {
        if asked.path.starts_with("/token?") {
            let known = basic.is_none_or(|basic| asked.header("authorization") == Some(basic));
            let token = json!({ "token": "t0ken", "expires_in": 300 });
            return Some(if known { Reply::json(&token) } else { Reply::new(401, "") });
        }
        if asked.path.starts_with("/elsewhere/") || asked.header("authorization") == Some("Bearer t0ken") {
            return None;
        }
        let challenge =
            format!("Bearer realm=\"{url}/token\",service=\"fake\",scope=\"repository:team/app:pull\"");
        Some(Reply::new(401, "").header("www-authenticate", &challenge))
    });
}

#[tokio::test]
async fn a_token_is_fetched_once_and_shown_to_the_upstream_alone() {
    let fake = FakeUpstream::start().await;
    let cdn = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"layer");
    fake.on(&image.blob("team/app"), Reply::redirect(&format!("{}/signed", cdn.url)));
    cdn.on("/signed", Reply::ok("layer"));
    guarded(&fake, None);
    let registry = mirror(&fake).await;
    pull(&registry, "team/app", "v1", &image).await;
    let tokens = lines(&fake, 0).iter().filter(|line| line.contains("/token?")).count();
    assert_eq!(tokens, 1, "{:?}", lines(&fake, 0));
    assert!(lines(&fake, 0)[1].contains("scope=repository%3Ateam%2Fapp%3Apull"), "{:?}", lines(&fake, 0));
    assert_eq!(lines(&cdn, 0), ["GET /signed"]);
    assert_eq!(cdn.asked()[0].header("authorization"), None);
}

#[tokio::test]
async fn credentials_are_shown_to_the_token_endpoint_and_a_refusal_is_not_the_clients() {
    let fake = FakeUpstream::start().await;
    let image = offer(&fake, "team/app", "v1", b"layer");
    guarded(&fake, Some("Basic dXNlcjpzZWNyZXQ="));
    let with = |password: &str| {
        let auth = json!({ "type": "basic", "username": "user", "password": password });
        json!({ "upstreams": [{ "id": "fake", "url": fake.url, "auth": auth }] })
    };
    let registry = mirror_with(&fake, with("secret"), json!({})).await;
    pull(&registry, "team/app", "v1", &image).await;
    let wrong = mirror_with(&fake, with("guessed"), json!({})).await;
    for path in ["/v2/team/app/manifests/v1", &image.by_digest("team/app"), &image.blob("team/app")] {
        let answer = wrong.send(get(path)).await;
        assert_eq!((answer.status, code(&answer).as_str()), (502, "UNKNOWN"), "{path}");
        assert!(answer.header("www-authenticate").is_none());
        assert!(answer.text().contains("does not take the credentials"), "{}", answer.text());
        assert!(!answer.text().contains("guessed"));
    }
    // What the client shows us is ours.
    assert!(fake.asked().iter().all(|asked| asked.header("authorization") != Some("Bearer admin")));
}
