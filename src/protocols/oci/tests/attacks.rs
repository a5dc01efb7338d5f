//! Attacks on registries that are known by number, and those of the same kinds: each as the requests that an attacker sends.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use futures_util::stream;

use super::uploads::{big, open, stands};
use super::*;
use crate::core::digest::Digest;

/// Users of whom none may read what is in `secret/` without being asked who they are.
async fn private() -> TestRegistry {
    let auth = json!({
        "jwtSecret": "0123456789abcdef0123456789abcdef",
        "visibility": [{ "pattern": "oci:repository:secret/*", "visibility": "private" }],
    });
    TestRegistry::with_users(json!({ "auth": auth }), &["ann", "bob"]).await
}

/// Pushes a blob as ann, where nobody else may read.
async fn secret_blob(registry: &TestRegistry, bytes: &[u8]) -> String {
    let digest = sha256(bytes);
    let path = format!("/v2/secret/app/blobs/uploads/?digest={digest}");
    assert_eq!(registry.send(post(&path).basic("ann", "right").body(bytes.to_vec())).await.status, 201);
    digest
}

#[tokio::test]
async fn cve_2021_41190_a_manifest_that_is_an_index_too() {
    let registry = TestRegistry::new().await;
    push_blob(&registry, "a", b"{}").await;
    push_blob(&registry, "a", b"layer").await;
    for (kind, extra) in [
        (IMAGE, json!({ "manifests": [] })),
        (INDEX, json!({ "manifests": [] })),
        (INDEX, json!({ "manifests": [descriptor(IMAGE, b"other")] })),
    ] {
        let mut both = image(b"{}", b"layer");
        both["mediaType"] = json!(kind);
        both["manifests"] = extra["manifests"].clone();
        let answer = registry.send(put_manifest("a", "v", &both)).await;
        assert_eq!((answer.status, code(&answer).as_str()), (400, "MANIFEST_INVALID"), "{both}");
    }
    // The type in the bytes and the type in the header are one.
    let text = image(b"{}", b"layer").to_string();
    let answer =
        registry.send(put("/v2/a/manifests/v").header("content-type", INDEX).body(text.into_bytes())).await;
    assert_eq!((answer.status, code(&answer).as_str()), (400, "MANIFEST_INVALID"));
    // A member twice: two readers, two manifests.
    let twice = format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{},"layers":[],"layers":[{}]}}"#,
        descriptor("a/b", b"{}"),
        descriptor("a/b", b"layer"),
    );
    let answer =
        registry.send(put("/v2/a/manifests/v").header("content-type", IMAGE).body(twice.into_bytes())).await;
    assert_eq!((answer.status, code(&answer).as_str()), (400, "MANIFEST_INVALID"));
    assert_eq!(registry.send(get("/v2/a/manifests/v")).await.status, 404);
}

#[tokio::test]
async fn cve_2020_15157_a_layer_from_elsewhere_is_never_fetched_and_can_be_refused() {
    let mut manifest = image(b"{}", b"layer");
    manifest["layers"][0]["urls"] = json!(["http://169.254.169.254/latest/meta-data/"]);
    let registry = TestRegistry::new().await;
    push_blob(&registry, "a", b"{}").await;
    assert_eq!(registry.send(put_manifest("a", "v", &manifest)).await.status, 201);
    let layer = registry.send(get(&format!("/v2/a/blobs/{}", sha256(b"layer")))).await;
    assert_eq!((layer.status, code(&layer).as_str()), (404, "BLOB_UNKNOWN"));
    let oci = json!({ "enabled": true, "basePath": "/oci", "features": { "foreignLayers": false } });
    let strict = TestRegistry::with(json!({ "oci": oci }), None, None).await;
    push_blob(&strict, "a", b"{}").await;
    let refused = strict.send(put_manifest("a", "v", &manifest)).await;
    assert_eq!((refused.status, code(&refused).as_str()), (403, "DENIED"), "{}", refused.text());
}

#[tokio::test]
async fn cve_2023_2253_a_catalog_page_as_long_as_the_client_likes() {
    let registry = TestRegistry::new().await;
    push_blob(&registry, "a", b"{}").await;
    for n in ["1000", "1000000", "18446744073709551615", "99999999999999999999999999"] {
        let answer = registry.send(get(&format!("/v2/_catalog?n={n}"))).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "repositories": ["a"] })), "{n}");
    }
    for n in ["-1", "1e9", "0x10", " 1"] {
        assert_eq!(
            registry.send(get(&format!("/v2/_catalog?n={}", n.replace(' ', "%20")))).await.status,
            400,
            "{n}"
        );
    }
}

#[tokio::test]
async fn cve_2017_11468_a_manifest_without_an_end() {
    let registry = TestRegistry::new().await;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = sent.clone();
    let endless = stream::repeat_with(move || {
        count.fetch_add(1 << 16, std::sync::atomic::Ordering::Relaxed);
        Ok(Bytes::from(vec![b' '; 1 << 16]))
    });
    let request = put("/v2/a/manifests/v").header("content-type", IMAGE).body(Body::stream(endless, None));
    assert_eq!(registry.send(request).await.status, 413);
    assert!(sent.load(std::sync::atomic::Ordering::Relaxed) <= 5 << 20, "it stops reading at the limit");
    // One that says how long it is gets its answer before a byte is read.
    let body = Body::stream(stream::pending(), Some(5 << 20));
    assert_eq!(
        registry.send(put("/v2/a/manifests/v").header("content-type", IMAGE).body(body)).await.status,
        413
    );
    assert!(registry.keys(true).await.is_empty());
}

#[tokio::test]
async fn json_bombs() {
    let registry = TestRegistry::new().await;
    push_blob(&registry, "a", b"{}").await;
    let deep = |open: &str, close: &str, levels: usize| {
        let mut text = format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","x":"#);
        text.push_str(&open.repeat(levels));
        text.push('1');
        text.push_str(&close.repeat(levels));
        text.push('}');
        text
    };
    let many = vec![descriptor("a/b", b"x"); 10_001];
    let many = json!({ "schemaVersion": 2, "config": descriptor("a/b", b"{}"), "layers": many }).to_string();
    // Small on the wire, and an object each in memory.
    let wide = deep("[", &format!("{}]", ",{\"a\":0}".repeat(400_000)), 1);
    for bomb in [deep("[", "]", 1_000_000), deep("{\"a\":", "}", 100_000), many, wide] {
        let request = put("/v2/a/manifests/v").header("content-type", IMAGE).body(bomb.into_bytes());
        let answer = registry.send(request).await;
        assert_eq!((answer.status, code(&answer).as_str()), (400, "MANIFEST_INVALID"));
    }
}

#[tokio::test]
async fn cve_2025_24976_a_token_that_brings_its_own_key() {
    let registry = private().await;
    let digest = secret_blob(&registry, b"secret").await;
    let path = format!("/v2/secret/app/blobs/{digest}");
    let asked = get("/v2/token?scope=repository:secret/app:pull").basic("ann", "right");
    let good = registry.send(asked).await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(registry.send(get(&path).token(&good)).await.status, 200);
    let parts: Vec<&str> = good.split('.').collect();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let key = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode("attacker"), "alg": "HS256" });
    let forge =
        |header: &Value, signature: &str| format!("{}.{}.{signature}", encode(&header.to_string()), parts[1]);
    let signed = |header: &Value, secret: &[u8]| {
        let text = format!("{}.{}", encode(&header.to_string()), parts[1]);
        let key = jsonwebtoken::EncodingKey::from_secret(secret);
        let signature =
            jsonwebtoken::crypto::sign(text.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
        format!("{text}.{signature}")
    };
    let forged = [
        forge(&json!({ "alg": "none", "typ": "JWT" }), ""),
        forge(&json!({ "alg": "None" }), parts[2]),
        forge(&json!({ "alg": "RS256", "typ": "JWT" }), parts[2]),
        forge(&json!({ "alg": "HS512", "typ": "JWT" }), parts[2]),
        signed(&json!({ "alg": "HS256", "typ": "JWT", "jwk": key }), b"attacker"),
        signed(&json!({ "alg": "HS256", "typ": "JWT", "kid": "../../dev/null" }), b""),
        signed(
            &json!({ "alg": "HS256", "typ": "JWT", "x5u": "http://attacker.example.com/key" }),
            b"attacker",
        ),
        signed(
            &json!({ "alg": "HS256", "typ": "JWT", "jku": "http://attacker.example.com/keys" }),
            b"attacker",
        ),
        format!("{}.{}.", parts[0], parts[1]),
    ];
    for token in forged {
        let answer = registry.send(get(&path).token(&token)).await;
        assert_eq!(answer.status, 401, "{token}");
        assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    }
}

#[tokio::test]
async fn cve_2026_31801_who_may_create_a_tag_may_not_move_it() {
    let oci = json!({ "enabled": true, "basePath": "/oci", "immutableTags": ["a:v*"] });
    let config = json!({ "oci": oci, "limits": { "metadataTtlMs": 600_000 } });
    let store =
        std::sync::Arc::new(crate::storage::memory::MemoryStore::new(crate::core::time::Clock::real()));
    let mut registries = Vec::new();
    for _ in 0..4 {
        registries.push(TestRegistry::with(config.clone(), Some(store.clone()), None).await);
    }
    push_blob(&registries[0], "a", b"{}").await;
    for number in 0..8_u8 {
        push_blob(&registries[0], "a", &[number]).await;
    }
    // All believe that the tag is not there yet.
    for registry in &registries {
        registry.send(get("/v2/a/tags/list")).await;
    }
    let pushes = (0..8_u8).map(|number| {
        let registry = &registries[usize::from(number) % 4];
        async move { registry.send(put_manifest("a", "v1", &image(b"{}", &[number]))).await }
    });
    let answers = join_all(pushes).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for answer in lost {
        assert_eq!((answer.status, code(answer).as_str()), (403, "DENIED"));
        assert!(answer.text().contains("the tag v1 is immutable"), "{}", answer.text());
    }
    let winner = won[0].header("docker-content-digest").unwrap();
    for registry in &registries {
        let now = registry.send(head("/v2/a/manifests/v1")).await;
        assert_eq!(now.header("docker-content-digest"), Some(winner));
    }
}

#[tokio::test]
async fn cve_2024_39897_that_a_blob_exists_somewhere_opens_nothing() {
    let registry = private().await;
    let digest = secret_blob(&registry, b"secret").await;
    let nobody = registry.send(get(&format!("/v2/open/app/blobs/{digest}")).anonymous()).await;
    assert_eq!(nobody.status, 404);
    let as_bob = |request: TestRequest| request.basic("bob", "right");
    // Neither by announcing it, nor by naming its source or none, nor by a manifest that references it.
    let answer =
        registry.send(as_bob(post(&format!("/v2/open/app/blobs/uploads/?digest={digest}"))).body("x")).await;
    assert_eq!((answer.status, code(&answer).as_str()), (400, "DIGEST_INVALID"));
    let place = registry
        .send(as_bob(post("/v2/open/app/blobs/uploads/")))
        .await
        .header("location")
        .unwrap()
        .to_owned();
    let answer = registry.send(as_bob(put(&format!("{place}?digest={digest}")))).await;
    assert_eq!((answer.status, code(&answer).as_str()), (400, "DIGEST_INVALID"));
    let options = crate::auth::TokenOptions {
        scopes: vec!["oci:repository:open/*:push".to_owned()],
        ..Default::default()
    };
    let token = registry.registry.auth().create_token("bob", NAME, &options).await.unwrap();
    for mount in ["&from=secret/app", ""] {
        let path = format!("/v2/open/app/blobs/uploads/?mount={digest}{mount}");
        let answer = registry.send(post(&path).basic("bob", token.expose())).await;
        assert!(matches!(answer.status, 202 | 403), "{mount}: {}", answer.status);
        assert!(answer.header("docker-content-digest").is_none());
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": IMAGE, "layers": [],
        "config": { "mediaType": "a/b", "digest": digest, "size": 6 },
    });
    let answer = registry.send(as_bob(put_manifest("open/app", "v", &manifest))).await;
    assert_eq!((answer.status, code(&answer).as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
    assert_eq!(registry.send(get(&format!("/v2/open/app/blobs/{digest}")).anonymous()).await.status, 404);
}

#[tokio::test]
async fn cve_2025_23208_rights_that_were_taken_away_are_gone() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;

    use crate::auth::{Asker, AuthProvider, AuthToken, Credentials, TokenOptions};
    use crate::core::secret::Secret;

    /// Puts its user into the group that may push, or takes them out.
    struct Groups(AtomicBool);

    #[async_trait]
    impl AuthProvider for Groups {
        async fn authenticate(&self, _: &Credentials, _: Asker) -> Result<Option<String>> {
            Ok(None)
        }

        async fn validate_token(&self, _: &Secret, _: Option<&str>) -> Result<Option<AuthToken>> {
            let action = if self.0.load(Ordering::SeqCst) { "push" } else { "pull" };
            let scopes = vec![format!("oci:repository:team/*:{action}")];
            Ok(Some(AuthToken {
                kind: None,
                user_id: "ann".to_owned(),
                scopes,
                readonly: false,
                expires_at: None,
                metadata: None,
            }))
        }

        async fn create_token(&self, _: &str, _: &str, _: &TokenOptions) -> Result<Secret> {
            Ok(Secret::new("t"))
        }

        async fn revoke_token(&self, _: &Secret) -> Result<()> {
            Ok(())
        }

        async fn authorize(&self, token: Option<&AuthToken>, resource: &str, action: &str) -> Result<bool> {
            let wanted = format!("{resource}:{action}");
            Ok(token.is_some_and(|token| token.scopes.contains(&wanted.replace("team/app", "team/*"))))
        }
    }

    let groups = std::sync::Arc::new(Groups(AtomicBool::new(true)));
    let registry = TestRegistry::with_provider(json!({}), groups.clone()).await;
    let push = || post("/v2/team/app/blobs/uploads/").token("t");
    assert_eq!(registry.send(push()).await.status, 202);
    groups.0.store(false, Ordering::SeqCst);
    assert_eq!(registry.send(push()).await.status, 401);
}

#[tokio::test]
async fn cve_2020_29662_the_catalog_by_every_path_asks_who_is_there() {
    let registry = private().await;
    secret_blob(&registry, b"secret").await;
    for path in [
        "/v2/_catalog",
        "/v2/_catalog/",
        "/v2/%5Fcatalog",
        "/v2/_catalog?n=1",
        "/oci/_catalog",
        "/oci/v2/_catalog",
        "//v2//_catalog",
        "/v2/./_catalog",
        "/V2/_catalog",
    ] {
        for request in [get(path), head(path)] {
            let answer = registry.send(request.anonymous()).await;
            assert!(answer.status >= 400, "{path}: {}", answer.status);
            assert!(!answer.text().contains("secret"), "{path}");
        }
    }
    assert_eq!(registry.send(get("/v2/_catalog").anonymous()).await.status, 401);
    // Whoever may see the catalog sees in it what they may pull.
    let scopes = vec!["oci:registry:catalog:*".to_owned(), "oci:repository:open/*:pull".to_owned()];
    let options = crate::auth::TokenOptions { scopes, ..Default::default() };
    let token = registry.registry.auth().create_token("bob", NAME, &options).await.unwrap();
    let seen = registry.send(get("/v2/_catalog").basic("bob", token.expose())).await;
    assert_eq!((seen.status, seen.json()), (200, json!({ "repositories": [] })));
    for words in ["", "?q=secret", "?q=app"] {
        let path = format!("/v1/search{words}");
        assert_eq!(registry.send(get(&path).anonymous()).await.status, 401);
        let found = registry.send(get(&path).basic("bob", token.expose())).await;
        assert_eq!((found.status, &found.json()["num_results"]), (200, &json!(0)), "{words}");
    }
}

#[tokio::test]
async fn a_session_cannot_be_taken_over() {
    let registry = private().await;
    let opened = registry.send(post("/v2/a/blobs/uploads/").basic("ann", "right")).await;
    let place = opened.header("location").unwrap().to_owned();
    assert_eq!(registry.send(patch(&place).basic("ann", "right").body("ann's ")).await.status, 202);
    let id = opened.header("docker-upload-uuid").unwrap();
    let unknown = "00000000-0000-4000-8000-000000000000";
    let digest = sha256(b"ann's bytes");
    for id in [id, unknown] {
        // Somebody else's, and in another repository, are answered as one that never was.
        for (user, repository) in [("bob", "a"), ("ann", "b"), ("ann", "a/b")] {
            let place = format!("/v2/{repository}/blobs/uploads/{id}");
            for request in [
                get(&place),
                patch(&place).body("evil"),
                put(&format!("{place}?digest={digest}")).body("evil"),
                delete(&place),
            ] {
                let answer = registry.send(request.basic(user, "right")).await;
                assert_eq!((answer.status, code(&answer).as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
            }
        }
    }
    let done =
        registry.send(put(&format!("{place}?digest={digest}")).basic("ann", "right").body("bytes")).await;
    assert_eq!(done.status, 201);
}

#[tokio::test]
async fn no_name_leads_out_of_its_place() {
    let registry = TestRegistry::new().await;
    let hex = "0".repeat(64);
    for path in [
        "/v2/../_sr/auth/users/blobs/uploads/".to_owned(),
        "/v2/a/../../_sr/blobs/uploads/".to_owned(),
        "/v2/a%2F..%2Fb/blobs/uploads/".to_owned(),
        "/v2/a%5C..%5Cb/blobs/uploads/".to_owned(),
        "/v2/a%00/blobs/uploads/".to_owned(),
        "/v2/_sr/x/blobs/uploads/".to_owned(),
        "/v2/a./blobs/uploads/".to_owned(),
        "/v2/A/blobs/uploads/".to_owned(),
        "/v2/a/blobs/uploads/..%2F..%2Fx".to_owned(),
        "/v2/a/blobs/uploads/../../../_sr/auth".to_owned(),
        "/v2/a/blobs/uploads/%2e%2e".to_owned(),
        format!("/v2/a/blobs/sha256:..%2F..%2F{hex}"),
        format!("/v2/a/blobs/../{hex}"),
        format!("/v2/a/blobs/sha256:{}", hex.replace('0', "A")),
        format!("/v2/a/manifests/sha256:%2e%2e/{hex}"),
        "/v2/a/manifests/..".to_owned(),
        "/v2/a/manifests/.hidden".to_owned(),
        "/v2/a/referrers/sha256:..".to_owned(),
    ] {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let answer = registry.send(TestRequest::new(method.clone(), &path)).await;
            assert!((400..500).contains(&answer.status), "{method} {path}: {}", answer.status);
        }
    }
    let keys = registry.keys(true).await;
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test]
async fn weak_and_unknown_digests_are_refused() {
    let registry = TestRegistry::new().await;
    for digest in [
        format!("md5:{}", "0".repeat(32)),
        format!("sha1:{}", "0".repeat(40)),
        format!("blake3:{}", "0".repeat(64)),
        format!("sha384:{}", "0".repeat(96)),
        format!("sha256:{}", "0".repeat(63)),
        format!("sha512:{}", "0".repeat(64)),
        format!("SHA256:{}", "0".repeat(64)),
        format!("sha256+b64:{}", "0".repeat(64)),
    ] {
        assert!(Digest::parse(&digest).is_none());
        let query = digest.replace('+', "%2B");
        let answer = registry.send(post(&format!("/v2/a/blobs/uploads/?digest={query}")).body("x")).await;
        assert_eq!((answer.status, code(&answer).as_str()), (400, "DIGEST_INVALID"), "{digest}");
        let place = open(&registry, "a").await;
        assert_eq!(registry.send(put(&format!("{place}?digest={query}")).body("x")).await.status, 400);
        let answer = registry.send(put_manifest("a", &query, &image(b"{}", b"x"))).await;
        assert_eq!((answer.status, code(&answer).as_str()), (400, "DIGEST_INVALID"), "{digest}");
        assert_eq!(registry.send(get(&format!("/v2/a/referrers/{query}"))).await.status, 400);
        let algorithm = query.split(':').next().unwrap();
        if !matches!(algorithm, "sha256" | "sha512") {
            let answer =
                registry.send(post(&format!("/v2/a/blobs/uploads/?digest-algorithm={algorithm}"))).await;
            assert_eq!(answer.status, 400, "{algorithm}");
        }
    }
}

#[tokio::test]
async fn a_stored_page_does_not_run_on_the_registrys_origin() {
    let registry = TestRegistry::new().await;
    let page = b"<script>alert(document.cookie)</script>";
    let digest = push_blob(&registry, "a", page).await;
    for request in [
        get(&format!("/v2/a/blobs/{digest}")),
        get(&format!("/v2/a/blobs/{digest}")).header("range", "bytes=0-7"),
    ] {
        let answer = registry.send(request).await;
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert_eq!(answer.header("content-security-policy"), Some("sandbox"));
        assert_eq!(answer.header("content-disposition"), Some("attachment"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    // Text from the path comes back as JSON, and only as JSON.
    let answer = registry.send(get("/v2/a/manifests/%3Cscript%3E")).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn a_host_that_the_client_made_up_gets_into_no_link() {
    let registry = private().await;
    let evil = |request: TestRequest| {
        request
            .header("x-forwarded-host", "evil.example.com")
            .header("x-forwarded-proto", "gopher")
            .header("x-forwarded-prefix", "/evil")
            .header("forwarded", "host=evil.example.com;proto=gopher")
    };
    let opened = registry.send(evil(post("/v2/a/blobs/uploads/").basic("ann", "right"))).await;
    assert!(opened.header("location").unwrap().starts_with("/v2/a/blobs/uploads/"));
    let challenged = registry.send(evil(get("/v2/").anonymous())).await;
    assert!(!challenged.header("www-authenticate").unwrap().contains("evil"));
    // A configured realm is the realm, whatever `Host` says; and nothing of the path breaks out of its quotes.
    let answer = registry
        .send(get("/v2/secret/app/manifests/%22,realm=%22http:%2F%2Fevil.example.com").anonymous())
        .await;
    assert!(answer.header("www-authenticate").is_none_or(|line| !line.contains("evil")), "{answer:?}");
}

#[tokio::test]
async fn a_user_can_hold_so_many_uploads_open_and_no_more() {
    let registry = TestRegistry::with(json!({ "limits": { "openUploads": 3 } }), None, None).await;
    let mut places = Vec::new();
    for _ in 0..3 {
        places.push(open(&registry, "a").await);
    }
    let refused = registry.send(post("/v2/b/blobs/uploads/")).await;
    assert_eq!((refused.status, code(&refused).as_str()), (429, "TOOMANYREQUESTS"));
    assert_eq!(
        (refused.header("retry-after"), refused.header("ratelimit-remaining")),
        (Some("900"), Some("0"))
    );
    // What ends makes room: by cancelling, by finishing, by failing, and with time.
    assert_eq!(registry.send(delete(&places[0])).await.status, 204);
    places[0] = open(&registry, "a").await;
    let blob = big(10, 1);
    assert_eq!(
        registry.send(put(&format!("{}?digest={}", places[1], sha256(&blob))).body(blob)).await.status,
        201
    );
    places[1] = open(&registry, "a").await;
    assert_eq!(
        registry.send(put(&format!("{}?digest={}", places[2], sha256(b"x"))).body("y")).await.status,
        400
    );
    places[2] = open(&registry, "a").await;
    assert_eq!(registry.send(post("/v2/b/blobs/uploads/")).await.status, 429);
    registry.clock.advance(std::time::Duration::from_secs(901));
    open(&registry, "a").await;
    // The others are still what they were.
    assert_eq!(stands(&registry, &places[0]).await, "0-0");
}

#[tokio::test]
async fn guessing_passwords_is_slowed_down() {
    let registry = private().await;
    let mut statuses = Vec::new();
    for number in 0..30 {
        let answer = registry.send(get("/v2/token").basic("ann", &format!("guess {number}"))).await;
        if answer.status == 429 {
            assert_eq!(code(&answer), "TOOMANYREQUESTS");
            assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
        }
        statuses.push(answer.status);
    }
    assert_eq!((statuses[0], statuses[29]), (401, 429), "{statuses:?}");
}
