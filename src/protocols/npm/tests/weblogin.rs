//! Logging in with the browser.

use std::time::Duration;

use super::*;
use crate::testing::TestResponse;
use http::Method;

async fn registry() -> TestRegistry {
    let npm = json!({ "enabled": true, "basePath": "/npm", "features": { "webLogin": true } });
    TestRegistry::with_users(json!({ "npm": npm }), &["bob"]).await
}

/// Path of a URL of ours.
fn path(url: &Value) -> String {
    url.as_str().unwrap().strip_prefix("http://registry.example.com").unwrap().to_owned()
}

struct Site {
    registry: TestRegistry,
    login: String,
    done: String,
}

impl Site {
    async fn begin(body: &str) -> Self {
        let registry = registry().await;
        let (login, done) = Self::urls(&registry, body).await;
        Self { registry, login, done }
    }

    async fn urls(registry: &TestRegistry, body: &str) -> (String, String) {
        // npm sends the old token along.
        let request = TestRequest::new(Method::POST, "/npm/-/v1/login")
            .token("stale")
            .body(body.to_owned().into_bytes());
        let begun = registry.send(request).await;
        assert_eq!(begun.status, 200, "{}", begun.text());
        let begun = begun.json();
        (path(&begun["loginUrl"]), path(&begun["doneUrl"]))
    }

    async fn poll(&self) -> TestResponse {
        self.registry.send(TestRequest::get(&self.done).token("stale")).await
    }

    async fn open(&self) -> TestResponse {
        self.registry.send(TestRequest::get(&self.login).anonymous()).await
    }

    async fn submit(&self, form: &str) -> TestResponse {
        let form = TestRequest::new(Method::POST, &self.login)
            .anonymous()
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned().into_bytes());
        self.registry.send(form).await
    }
}

#[tokio::test]
async fn the_token_comes_once_to_who_began() {
    for body in ["", "{}", r#"{"hostname":"laptop"}"#, r#"{"create":true}"#] {
        let site = Site::begin(body).await;
        let waiting = site.poll().await;
        assert_eq!((waiting.status, waiting.json()), (202, json!({})));
        assert_eq!(waiting.header("retry-after"), Some("2"), "without it npm asks without a pause");
        let page = site.open().await;
        assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
        assert!(body.is_empty() || !body.contains("laptop") || page.text().contains("laptop"));
        let wrong = site.submit("username=bob&password=wrong&otp=").await;
        assert_eq!(wrong.status, 401);
        assert!(wrong.text().contains("wrong"));
        assert_eq!(site.poll().await.status, 202);
        let right = site.submit("username=bob&password=right&otp=").await;
        assert_eq!(right.status, 200, "{}", right.text());
        let done = site.poll().await;
        assert_eq!((done.status, done.header("cache-control")), (200, Some("no-store")));
        let token = done.json()["token"].as_str().unwrap().to_owned();
        let who = site.registry.send(TestRequest::get("/npm/-/whoami").token(&token)).await;
        assert_eq!(who.json(), json!({ "username": "bob" }));
        assert_eq!(site.poll().await.status, 404, "once");
        assert_eq!(site.open().await.status, 404);
        assert!(!site.registry.keys(true).await.iter().any(|key| key.starts_with("_sr/npm/logins/")));
    }
}

#[tokio::test]
async fn who_sees_the_page_cannot_fetch_the_token_and_the_other_way_round() {
    let site = Site::begin("{}").await;
    let (session, browser) = site.login.rsplit_once('/').unwrap();
    let (polled, secret) = site.done.rsplit_once('/').unwrap();
    assert_ne!(browser, secret);
    assert_eq!(site.submit("username=bob&password=right").await.status, 200);
    for path in [
        format!("{polled}/{browser}"),
        format!("{polled}/00000000-0000-4000-8000-000000000000"),
        format!("{}/{secret}", polled.replace(|c: char| c.is_ascii_digit(), "0")),
        "/npm/-/v1/done/..%2f..%2fusers/x".to_owned(),
        "/npm/-/v1/done/x/y".to_owned(),
    ] {
        assert!(
            matches!(site.registry.send(TestRequest::get(&path).anonymous()).await.status, 400 | 404),
            "{path}"
        );
    }
    assert_eq!(
        site.registry.send(TestRequest::get(&format!("{session}/{secret}")).anonymous()).await.status,
        404
    );
    assert_eq!(site.poll().await.status, 200);
}

#[tokio::test]
async fn a_login_ends_after_minutes_and_is_cleared_away() {
    let site = Site::begin("{}").await;
    site.registry.clock.advance(Duration::from_secs(301));
    assert_eq!((site.poll().await.status, site.open().await.status), (404, 404));
    assert_eq!(site.submit("username=bob&password=right").await.status, 404);
    site.registry.clock.advance(Duration::from_hours(2));
    Site::urls(&site.registry, "{}").await;
    let left = site.registry.keys(true).await;
    assert_eq!(left.iter().filter(|key| key.starts_with("_sr/npm/logins/")).count(), 1, "{left:?}");
}

#[tokio::test]
async fn the_page_runs_nothing_and_sits_in_no_frame() {
    let site = Site::begin(r#"{"hostname":"<script>alert(1)</script>\u0007\"'"}"#).await;
    let page = site.open().await;
    assert!(!page.text().contains("<script") && page.text().contains("&lt;script"), "{}", page.text());
    assert!(!page.text().contains('\u{7}'));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    let reflected = site.submit("username=%3Cscript%3E&password=x").await;
    assert!(!reflected.text().contains("<script"), "{}", reflected.text());
}

#[tokio::test]
async fn beginning_logins_without_end_is_slowed_down() {
    let registry = registry().await;
    let mut statuses = Vec::new();
    for _ in 0..30 {
        let begin = TestRequest::new(Method::POST, "/npm/-/v1/login").anonymous().peer("192.0.2.7");
        statuses.push(registry.send(begin).await.status);
    }
    assert_eq!((statuses[0], statuses[29]), (200, 429), "{statuses:?}");
}

#[tokio::test]
async fn two_logins_are_two() {
    let site = Site::begin("{}").await;
    let (_, other) = Site::urls(&site.registry, "{}").await;
    assert_eq!(site.submit("username=bob&password=right").await.status, 200);
    assert_eq!(site.registry.send(TestRequest::get(&other).anonymous()).await.status, 202);
    // What a body parser of the host has left of a form.
    let site = Site::begin("{}").await;
    assert_eq!(site.submit(r#"{"username":"bob","password":"right"}"#).await.status, 200);
}
