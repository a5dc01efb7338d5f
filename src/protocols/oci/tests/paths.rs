//! Paths: aliases, the form in which links go out, and what is no path at all.

use super::*;

fn at(oci: &Value) -> Value {
    let mut entry = json!({ "enabled": true, "basePath": "/oci" });
    for (name, value) in oci.as_object().unwrap() {
        entry[name] = value.clone();
    }
    json!({ "oci": entry })
}

/// The link to a new upload when this path is asked.
async fn link(config: Value, path: &str) -> String {
    let registry = TestRegistry::with(config, None, None).await;
    let answer = registry.send(post(path)).await;
    assert_eq!(answer.status, 202, "{path}");
    let place = answer.header("location").unwrap().to_owned();
    let (place, id) = place.rsplit_once('/').unwrap();
    assert_eq!(id, answer.header("docker-upload-uuid").unwrap());
    place.to_owned()
}

#[tokio::test]
async fn links_go_out_as_requests_come_in() {
    let none = json!({});
    for (config, path, place) in [
        (&none, "/v2/a/b/blobs/uploads/", "/v2/a/b/blobs/uploads"),
        (&none, "/v2/a/b/blobs/uploads", "/v2/a/b/blobs/uploads"),
        (&none, "/oci/v2/a/blobs/uploads/", "/oci/v2/a/blobs/uploads"),
        (&none, "/oci/a/blobs/uploads/", "/oci/a/blobs/uploads"),
        (&none, "/oci/v2/v2/a/blobs/uploads/", "/oci/v2/v2/a/blobs/uploads"),
        (&none, "/v2/a/blobs/uploads/blobs/uploads/", "/v2/a/blobs/uploads/blobs/uploads"),
        (
            &json!({ "registryUrl": "https://r.example.com" }),
            "/oci/v2/a/blobs/uploads/",
            "/v2/a/blobs/uploads",
        ),
        (
            &json!({ "registryUrl": "https://x.example.com/oci" }),
            "/oci/v2/a/blobs/uploads/",
            "/oci/v2/a/blobs/uploads",
        ),
        (
            &json!({ "registryUrl": "https://x.example.com/oci" }),
            "/v2/a/blobs/uploads/",
            "/v2/a/blobs/uploads",
        ),
        (&json!({ "basePath": "/x/v2" }), "/x/v2/a/blobs/uploads/", "/x/v2/a/blobs/uploads"),
        (&json!({ "basePath": "/x/v2" }), "/x/v2/v2/a/blobs/uploads/", "/x/v2/v2/a/blobs/uploads"),
        (&json!({ "basePath": "/v2" }), "/v2/a/blobs/uploads/", "/v2/a/blobs/uploads"),
        (&json!({ "basePath": "/" }), "/v2/a/blobs/uploads/", "/v2/a/blobs/uploads"),
        (&json!({ "basePath": "/" }), "/a/blobs/uploads/", "/a/blobs/uploads"),
    ] {
        assert_eq!(link(at(config), path).await, place, "{config} {path}");
    }
    let absolute = json!({ "registryUrl": "https://r.example.com", "features": { "absoluteUrls": true } });
    assert_eq!(link(at(&absolute), "/v2/a/blobs/uploads/").await, "https://r.example.com/v2/a/blobs/uploads");
}

#[tokio::test]
async fn the_realm_is_where_the_client_is() {
    let realm = async |config: Value, path: &str| {
        let registry = TestRegistry::with(config, None, None).await;
        let answer = registry.send(get(path).anonymous()).await;
        assert_eq!(answer.status, 401, "{path}");
        let line = answer.header("www-authenticate").unwrap().to_owned();
        line.split('"').nth(1).unwrap().to_owned()
    };
    for path in ["/v2/", "/oci/v2/", "/oci/v2", "/oci", "/oci/"] {
        let root = path.trim_end_matches('/');
        assert_eq!(realm(at(&json!({})), path).await, format!("http://registry.example.com{root}/token"));
    }
    let public = at(&json!({ "registryUrl": "https://r.example.com" }));
    assert_eq!(realm(public, "/oci/v2/").await, "https://r.example.com/v2/token");
    let mut configured = at(&json!({}));
    configured["auth"] =
        json!({ "jwtSecret": "test", "ociTokens": { "realm": "https://auth.example.com/token" } });
    assert_eq!(realm(configured, "/v2/").await, "https://auth.example.com/token");
}

#[tokio::test]
async fn the_realm_answers_wherever_it_was_told() {
    for base in ["/oci", "/v2", "/", "/x/v2"] {
        let mut config = at(&json!({ "basePath": base }));
        config["auth"] = json!({
            "jwtSecret": "test", "visibility": [{ "pattern": "oci:repository:secret/*", "visibility": "private" }],
        });
        let registry = TestRegistry::with_users(config, &["ann"]).await;
        for path in ["/v1/search?q=a", "/v2/", "/v2/secret/a/tags/list"] {
            let answer = registry.send(get(path).anonymous()).await;
            assert_eq!(answer.status, 401, "{base} {path}");
            let realm = answer.header("www-authenticate").unwrap().split('"').nth(1).unwrap();
            let at = realm.strip_prefix("http://registry.example.com").unwrap();
            let token = registry.send(get(at).basic("ann", "right")).await;
            assert_eq!(token.status, 200, "{base} {path}: {realm}");
            assert!(token.json()["token"].is_string());
        }
    }
}

#[tokio::test]
async fn a_name_may_look_like_a_route() {
    let registry = TestRegistry::new().await;
    for name in ["tags/list", "a/blobs/uploads", "a/manifests", "manifests", "referrers/x", "blobs"] {
        push_image(&registry, name, "v", b"layer").await;
        assert_eq!(registry.send(get(&format!("/v2/{name}/manifests/v"))).await.status, 200, "{name}");
        assert_eq!(
            registry.send(get(&format!("/v2/{name}/tags/list"))).await.json()["tags"],
            json!(["v"]),
            "{name}"
        );
        let layer = format!("/v2/{name}/blobs/{}", sha256(b"layer"));
        assert_eq!(registry.send(get(&layer)).await.status, 200, "{name}");
    }
    let encoded = format!("/v2/tags/list/blobs/{}", sha256(b"layer").replace(':', "%3A"));
    assert_eq!(registry.send(get(&encoded)).await.status, 200);
}

#[tokio::test]
async fn bad_paths_are_refused() {
    let registry = TestRegistry::new().await;
    for (path, status) in [
        ("/v2/a%2fb/manifests/v", 400),
        ("/v2/a%2Fb/tags/list", 400),
        ("/v2/../manifests/v", 400),
        ("/v2/a/%2e%2e/manifests/v", 400),
        ("/v2/a%5cb/manifests/v", 400),
        ("/v2/a%00/manifests/v", 400),
        ("/v2/A/manifests/v", 400),
        ("/v2/a_/tags/list", 400),
        ("/v2/_sr/tags/list", 400),
        ("/v2/manifests/v", 400),
        ("/v2/nothing", 404),
        ("/v2/a/unknown/b", 404),
        ("/v2/a/manifests/..", 400),
        ("/v2/a/manifests/.v", 404),
        ("/v2/a/manifests/sha256:baddigeststring", 400),
        ("/v2/a/blobs/sha256:baddigeststring", 400),
        ("/v2/a/blobs/nonsense", 400),
    ] {
        let answer = registry.send(get(path)).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.header("content-type").unwrap().starts_with("application/json"));
        assert!(!code(&answer).is_empty(), "{path}: {}", answer.text());
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"), "{path}");
    }
    // What no protocol could have read is refused in the words of the one that was meant.
    let endless = format!("/v2/{}/tags/list", "a/".repeat(2100));
    for path in [
        "/v2/a%5Cb/tags/list",
        "/v2/a%00b/tags/list",
        "/v2/a/../b/tags/list",
        "/oci/v2/%ff/tags/list",
        "/v2/a//b/tags/list",
        "/oci//a/tags/list",
        endless.as_str(),
    ] {
        let answer = registry.send(get(path)).await;
        assert_eq!((answer.status, code(&answer).as_str()), (400, "NAME_INVALID"), "{path:.40}");
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"), "{path:.40}");
    }
    let npm = registry.send(get("/npm/a%5Cb")).await;
    assert_eq!(
        (npm.status, npm.json()["errors"].is_null(), npm.json()["error"].is_string()),
        (400, true, true)
    );
    let nobody = registry.send(get("/a%5Cb")).await;
    assert_eq!((nobody.status, nobody.json()["error"].as_str()), (400, Some("BAD_REQUEST")));
    // A slash too many at either end is nobody's name.
    for path in ["//v2/", "/v2//", "/v2/a/tags/list//"] {
        assert_ne!(registry.send(get(path)).await.status, 400, "{path}");
    }
    let long = format!("/v2/{}/tags/list", "a".repeat(256));
    assert_eq!(code(&registry.send(get(&long)).await), "NAME_INVALID");
    for (request, allow) in [
        (get("/v2/a/blobs/uploads/"), None),
        (put("/v2/a/tags/list"), Some("GET, HEAD")),
        (post("/v2/a/manifests/v"), Some("GET, HEAD, PUT, DELETE")),
        (delete("/v2/"), Some("GET, HEAD")),
        (put("/v2/token"), Some("GET, HEAD, POST")),
    ] {
        let answer = registry.send(request).await;
        match allow {
            Some(allow) => assert_eq!((answer.status, answer.header("allow")), (405, Some(allow))),
            None => assert_eq!(answer.status, 400),
        }
    }
}

#[tokio::test]
async fn the_alias_can_be_switched_off() {
    let registry = TestRegistry::with(at(&json!({ "features": { "v2Alias": false } })), None, None).await;
    assert_eq!(registry.send(get("/v2/")).await.status, 404);
    assert_eq!(registry.send(get("/oci/v2/")).await.status, 200);
}
