//! Signatures, keys and attestations, checked as npm checks them.

use std::time::Duration;

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use super::*;
use crate::core::body::{Body, GivenJson};

async fn keys(registry: &TestRegistry) -> Vec<Value> {
    let answer = registry.send(TestRequest::get("/npm/-/npm/v1/keys").anonymous()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["keys"].as_array().unwrap().clone()
}

/// What `npm audit signatures` does with a version: the key by its id, its end, the signature over name, version and integrity.
fn verify(document: &Value, version: &str, keys: &[Value]) {
    let manifest = &document["versions"][version];
    let signature = &manifest["dist"]["signatures"][0];
    let key = keys.iter().find(|key| key["keyid"] == signature["keyid"]).expect("the key is in the list");
    if let Some(expires) = key["expires"].as_str() {
        assert!(document["time"][version].as_str().unwrap() < expires, "{document}");
    }
    assert_eq!(
        (&key["keytype"], &key["scheme"]),
        (&json!("ecdsa-sha2-nistp256"), &json!("ecdsa-sha2-nistp256"))
    );
    let spki = STANDARD.decode(key["key"].as_str().unwrap()).unwrap();
    assert_eq!(key["keyid"], format!("SHA256:{}", STANDARD.encode(Digest::sha256(&spki).as_bytes())));
    let text = format!(
        "{}@{version}:{}",
        document["name"].as_str().unwrap(),
        manifest["dist"]["integrity"].as_str().unwrap()
    );
    let signature = STANDARD.decode(signature["sig"].as_str().unwrap()).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &spki[26..]).verify(text.as_bytes(), &signature).unwrap();
}

#[tokio::test]
async fn what_is_published_is_signed() {
    let registry = TestRegistry::new().await;
    publish(&registry, "@acme/widget", "1.0.0").await;
    let keys = keys(&registry).await;
    assert_eq!(keys.len(), 1);
    let document = packument(&registry, "@acme/widget").await;
    verify(&document, "1.0.0", &keys);
    let version = registry.send(TestRequest::get("/npm/@acme/widget/1.0.0")).await.json();
    assert_eq!(version["dist"]["signatures"], document["versions"]["1.0.0"]["dist"]["signatures"]);
    assert!(registry.keys(true).await.iter().any(|key| key == "_sr/npm/signing-keys.json"));
    // A client's own signatures are nobody's.
    let mut body = Package::new("@acme/widget", "1.1.0").body();
    body["versions"]["1.1.0"]["dist"]["signatures"] = json!([{ "keyid": "SHA256:x", "sig": "x" }]);
    body["versions"]["1.1.0"]["dist"]["attestations"] = json!({ "url": "http://evil.example.com" });
    assert_eq!(registry.send(TestRequest::put("/npm/@acme%2fwidget").json(&body)).await.status, 201);
    let document = packument(&registry, "@acme/widget").await;
    verify(&document, "1.1.0", &keys);
    assert!(document["versions"]["1.1.0"]["dist"].get("attestations").is_none());
}

#[tokio::test]
async fn processes_that_start_at_once_agree_on_one_key() {
    let first = TestRegistry::new().await;
    let mut registries = vec![];
    for _ in 0..4 {
        registries.push(TestRegistry::with(json!({}), Some(std::sync::Arc::clone(&first.store)), None).await);
    }
    let publishes = registries.iter().enumerate().map(|(at, registry)| async move {
        publish(registry, "widget", &format!("1.0.{at}")).await;
    });
    futures_util::future::join_all(publishes).await;
    let keys = keys(&first).await;
    assert_eq!(keys.len(), 1);
    let document = packument(&first, "widget").await;
    for at in 0..4 {
        verify(&document, &format!("1.0.{at}"), &keys);
    }
}

#[tokio::test]
async fn keys_are_replaced_and_old_signatures_still_count() {
    let first = TestRegistry::with(
        json!({ "npm": { "enabled": true, "basePath": "/npm", "signing": { "rotateDays": 30 } } }),
        None,
        None,
    )
    .await;
    publish(&first, "widget", "1.0.0").await;
    first.clock.advance(Duration::from_hours(24 * 31));
    publish(&first, "widget", "1.1.0").await;
    let keys = keys(&first).await;
    assert_eq!(keys.len(), 2);
    assert_eq!(keys.iter().filter(|key| key["expires"].is_null()).count(), 1);
    let document = packument(&first, "widget").await;
    verify(&document, "1.0.0", &keys);
    verify(&document, "1.1.0", &keys);
}

const PEM: &str = include_str!("signing_key.pem");

#[tokio::test]
async fn a_configured_key_signs_and_is_kept_nowhere() {
    let first = TestRegistry::new().await;
    publish(&first, "widget", "1.0.0").await;
    let config = json!({ "npm": { "enabled": true, "basePath": "/npm", "signing": { "privateKey": PEM } } });
    let second = TestRegistry::with(config, Some(std::sync::Arc::clone(&first.store)), None).await;
    publish(&second, "widget", "1.1.0").await;
    let keys = keys(&second).await;
    assert_eq!(keys.len(), 2);
    let document = packument(&second, "widget").await;
    verify(&document, "1.0.0", &keys);
    verify(&document, "1.1.0", &keys);
    let stored = registry_text(&second, "_sr/npm/signing-keys.json").await;
    let inside: String = PEM.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(!stored.contains(&inside));
    let bad = json!({ "npm": { "enabled": true, "signing": { "privateKey": "x" } } }).to_string();
    let config = crate::config::Config::from_json(&bad).unwrap().protocol("npm").unwrap().unwrap();
    let error = crate::protocols::npm::options::Options::read(&config).unwrap_err();
    assert!(error.message().starts_with("option `npm.signing.privateKey`: "), "{error}");
}

async fn registry_text(registry: &TestRegistry, key: &str) -> String {
    let found = registry
        .store
        .get(&crate::storage::Key::new(key).unwrap(), crate::storage::GetOptions::default())
        .await
        .unwrap();
    let bytes = Body::stream(found.body, None).into_bytes("object", 1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn what_came_before_the_key_is_signed_as_it_is_served() {
    let off = json!({ "npm": { "enabled": true, "basePath": "/npm", "features": { "signing": false } } });
    let old = TestRegistry::with(off, None, None).await;
    publish(&old, "widget", "1.0.0").await;
    assert!(packument(&old, "widget").await["versions"]["1.0.0"]["dist"].get("signatures").is_none());
    assert_eq!(old.send(TestRequest::get("/npm/-/npm/v1/keys")).await.status, 404);
    assert!(!old.keys(true).await.iter().any(|key| key.contains("signing-keys")));
    let new = TestRegistry::with(json!({}), Some(std::sync::Arc::clone(&old.store)), None).await;
    let document = packument(&new, "widget").await;
    verify(&document, "1.0.0", &keys(&new).await);
    let accept = "application/vnd.npm.install-v1+json";
    let mut short = new.send(TestRequest::get("/npm/widget").header("accept", accept)).await.json();
    short["time"] = document["time"].clone();
    verify(&short, "1.0.0", &keys(&new).await);
}

/// A bundle as `npm publish --provenance` makes it, about a package.
fn bundle(package: &Package, change: &dyn Fn(&mut Value, &mut Value)) -> String {
    let mut statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{
            "name": format!("pkg:npm/{}@{}", package.name.replace('@', "%40"), package.version),
            "digest": { "sha512": Digest::of(Algorithm::Sha512, &package.tgz()).hex() },
        }],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": { "buildDefinition": {} },
    });
    let mut bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "tlogEntries": [{ "integratedTime": "1790000000" }] },
        "dsseEnvelope": { "payload": "", "payloadType": "application/vnd.in-toto+json", "signatures": [{ "sig": "x" }] },
    });
    change(&mut bundle, &mut statement);
    if bundle["dsseEnvelope"]["payload"] == "" {
        bundle["dsseEnvelope"]["payload"] = json!(STANDARD.encode(statement.to_string()));
    }
    bundle.to_string()
}

fn with_bundle(package: &Package, text: &str) -> Value {
    let mut body = package.body();
    let key = format!("{}-{}.sigstore", package.name, package.version);
    body["_attachments"][key] = json!({
        "content_type": "application/vnd.dev.sigstore.bundle.v0.3+json", "data": text, "length": text.len(),
    });
    body
}

#[tokio::test]
async fn an_attestation_is_kept_and_served() {
    let registry = TestRegistry::new().await;
    let package = Package::new("@acme/widget", "1.0.0");
    let text = bundle(&package, &|_, _| {});
    let answer = registry.send(TestRequest::put(&package.path()).json(&with_bundle(&package, &text))).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let document = packument(&registry, "@acme/widget").await;
    assert_eq!(
        document["versions"]["1.0.0"]["dist"]["attestations"],
        json!({
            "url": "http://registry.example.com/npm/-/npm/v1/attestations/@acme%2fwidget@1.0.0",
            "provenance": { "predicateType": "https://slsa.dev/provenance/v1" },
        })
    );
    for path in ["@acme%2fwidget@1.0.0", "@acme/widget@1.0.0", "%40acme%2fwidget@1.0.0"] {
        let path = format!("/npm/-/npm/v1/attestations/{path}");
        let answer = registry.send(TestRequest::get(&path).anonymous()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let value = answer.json();
        assert_eq!(value["attestations"][0]["predicateType"], "https://slsa.dev/provenance/v1");
        assert_eq!(value["attestations"][0]["bundle"], serde_json::from_str::<Value>(&text).unwrap());
    }
    publish(&registry, "@acme/widget", "1.1.0").await;
    for missing in ["@acme/widget@1.1.0", "@acme/widget@9.9.9", "nothing@1.0.0", "widget", "@acme/widget"] {
        let path = format!("/npm/-/npm/v1/attestations/{missing}");
        assert_eq!(registry.send(TestRequest::get(&path)).await.status, 404, "{missing}");
    }
    // It goes with its version.
    assert!(registry.keys(false).await.iter().any(|key| key.contains("/attestations/1.0.0.")));
    let rev = document_rev(&registry, "@acme/widget").await;
    let gone = TestRequest::new(http::Method::DELETE, &format!("/npm/@acme%2fwidget/-rev/{rev}"));
    assert_eq!(registry.send(gone).await.status, 200);
    assert_eq!(registry.keys(false).await, ["npm/packages/@acme/widget/index.json"]);
}

async fn document_rev(registry: &TestRegistry, name: &str) -> String {
    let document = registry.send(TestRequest::get(&format!("/npm/{name}?write=true"))).await.json();
    document["_rev"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_attestation_that_a_host_has_parsed() {
    let registry = TestRegistry::new().await;
    let package = Package::new("widget", "1.0.0");
    let text = bundle(&package, &|_, _| {});
    let mut body = with_bundle(&package, &text);
    let mut attachments = Vec::new();
    for (name, entry) in body["_attachments"].as_object_mut().unwrap() {
        let data = entry.as_object_mut().unwrap().remove("data").unwrap();
        attachments.push((name.clone(), data.as_str().unwrap().to_owned().into()));
    }
    let given = Body::Json(GivenJson { text: body.to_string().into(), attachments });
    let answer = registry.send(TestRequest::put("/npm/widget").body(given)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    // npm 10 says the base path twice.
    let twice = registry.send(TestRequest::get("/npm/npm/-/npm/v1/attestations/widget@1.0.0")).await;
    let answer = registry.send(TestRequest::get("/npm/-/npm/v1/attestations/widget@1.0.0")).await;
    assert_eq!((twice.status, twice.text()), (200, answer.text()));
    assert_eq!(answer.json()["attestations"][0]["bundle"], serde_json::from_str::<Value>(&text).unwrap());
}

/// What is done to a bundle and its statement.
type Change = Box<dyn Fn(&mut Value, &mut Value)>;

#[tokio::test]
async fn an_attestation_of_something_else_is_refused() {
    let registry = TestRegistry::new().await;
    let package = Package::new("widget", "1.0.0");
    let cases: Vec<(&str, Change)> = vec![
        ("no Sigstore bundle", Box::new(|bundle, _| bundle["mediaType"] = json!("text/plain"))),
        ("no DSSE envelope", Box::new(|bundle, _| bundle["dsseEnvelope"] = json!(1))),
        ("no signed in-toto", Box::new(|bundle, _| bundle["dsseEnvelope"]["payloadType"] = json!("x"))),
        ("no signed in-toto", Box::new(|bundle, _| bundle["dsseEnvelope"]["signatures"] = json!([]))),
        ("no base64", Box::new(|bundle, _| bundle["dsseEnvelope"]["payload"] = json!("!"))),
        (
            "no JSON object",
            Box::new(|bundle, _| bundle["dsseEnvelope"]["payload"] = json!(STANDARD.encode("1"))),
        ),
        (
            "another package",
            Box::new(|_, statement| statement["subject"][0]["name"] = json!("pkg:npm/other@1.0.0")),
        ),
        (
            "another package",
            Box::new(|_, statement| statement["subject"][0]["name"] = json!("pkg:npm/widget@1.0.1")),
        ),
        (
            "another tarball",
            Box::new(|_, statement| statement["subject"][0]["digest"]["sha512"] = json!("00")),
        ),
        ("exactly one thing", Box::new(|_, statement| statement["subject"] = json!([]))),
        (
            "exactly one thing",
            Box::new(|_, statement| statement["subject"] = json!([statement["subject"][0], { "name": "x" }])),
        ),
        ("no predicateType", Box::new(|_, statement| statement["predicateType"] = json!(1))),
    ];
    let mut bodies: Vec<(&str, Value)> = cases
        .iter()
        .map(|(why, change)| (*why, with_bundle(&package, &bundle(&package, change.as_ref()))))
        .collect();
    bodies.push(("no JSON object", with_bundle(&package, "nonsense")));
    bodies.push(("no JSON object", with_bundle(&package, "{\"a\":1,\"a\":2}")));
    let good = bundle(&package, &|_, _| {});
    let mut other = package.body();
    other["_attachments"]["other-1.0.0.sigstore"] = json!({ "data": good });
    bodies.push(("may have one attestation", other));
    let mut two = with_bundle(&package, &good);
    two["_attachments"]["widget-1.0.0+x.sigstore"] = json!({ "data": good });
    bodies.push(("may have one attestation", two));
    let mut none = package.body();
    none["_attachments"]["widget-1.0.0.sigstore"] = json!({ "length": 1 });
    bodies.push(("has no data", none));
    for (why, body) in bodies {
        let answer = registry.send(TestRequest::put("/npm/widget").json(&body)).await;
        assert_eq!(answer.status, 400, "{why}: {}", answer.text());
        assert!(error_of(&answer).contains(why), "{why}: {}", answer.text());
    }
    let huge = with_bundle(&package, &"x".repeat((1 << 20) + 1));
    assert_eq!(registry.send(TestRequest::put("/npm/widget").json(&huge)).await.status, 413);
    assert!(registry.keys(false).await.is_empty());
}
