//! What must hold for any credentials: headers, scopes, our own signed tokens, and those of build services. Listed in `crate::fuzzing`.
#![allow(clippy::indexing_slicing, clippy::similar_names)] // a panic here is a finding

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::credentials::Presented;
use super::jwt::{self, Grant, Jwt, Verdict};
use super::keys::testing::Nowhere;
use super::oidc::Issuers;
use super::scope::{self, Action, Resource, Scope};
use crate::config::IssuerConfig;
use crate::core::pattern::name_matches;
use crate::core::request::Request;
use crate::core::secret::Secret;
use crate::core::time::{Clock, Timestamp};
use crate::fuzzing::input::Input;

const NOW: u32 = 1_790_000_000;
const SECRET: &str = "the registry's secret";
const SERVICE: &str = "my-registry";

pub(crate) fn tokens(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 6 {
        0 => headers(&mut input),
        1 => foreign(&input.rest_text()),
        2 => signed(&mut input),
        3 => granted(&mut input),
        4 => issuers(&mut input),
        _ => scopes(&mut input),
    }
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_millis(i64::from(NOW) * 1000))
}

fn jwt() -> Jwt {
    Jwt::new(&Secret::new(SECRET), SERVICE.to_owned(), clock())
}

fn headers(input: &mut Input<'_>) {
    let mut request = Request::new(Method::GET, "/");
    for name in ["authorization", "authorization", "private-token"] {
        let line = input.line();
        if let Ok(value) = HeaderValue::from_bytes(line)
            && !line.is_empty()
        {
            request.headers.append(HeaderName::from_static(name), value);
        }
    }
    match Presented::of(&request) {
        Err(error) => assert_eq!(error.status(), 400),
        Ok(Presented::Token(token)) => assert!(!token.is_empty() && token.expose().trim() == token.expose()),
        Ok(Presented::Basic { username, .. }) => assert!(!username.contains(':')),
        Ok(Presented::Nothing | Presented::Unusable) => {}
    }
}

/// Nobody guesses a signature.
fn foreign(text: &str) {
    assert!(matches!(jwt().verify(&Secret::new(text)), Verdict::Foreign), "{text:?}");
}

/// A header and claims of any kind, signed with the registry's secret, as a token server that shares it may.
fn signed(input: &mut Input<'_>) {
    let (at, header, claims) = (input.byte(), input.text(), input.rest_text());
    jwt::install();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(&header), part(&claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let Ok(signature) = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256) else {
        return;
    };
    let text = format!("{message}.{signature}");
    let jwt = jwt();
    let verdict = jwt.verify(&Secret::new(text.as_str()));
    if !matches!(verdict, Verdict::Foreign) {
        changed(&jwt, &text, at);
    }
    let Verdict::Good(verified) = verdict else { return };
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (header, claims) = (read(&header), read(&claims));
    assert!(header["alg"] == "HS256" && header.get("crit").is_none_or(Value::is_null), "{header}");
    let audience = &claims["aud"];
    let ours = |one: &Value| *one == SERVICE;
    assert!(ours(audience) || audience.as_array().is_some_and(|list| list.iter().any(ours)), "{claims}");
    let number = |name: &str| claims[name].as_f64();
    assert!(number("exp").is_some_and(|end| end > f64::from(NOW) - 60.0), "{claims}");
    assert!(number("nbf").is_none_or(|start| start <= f64::from(NOW) + 60.001), "{claims}");
    assert!(!verified.id.is_empty() || claims["jti"] == "", "it can be revoked");
    assert!(verified.ends > clock().now() && !verified.token.readonly);
}

/// Another spelling of a token is none: revocation and caches go by its text.
fn changed(jwt: &Jwt, text: &str, at: u8) {
    let at = usize::from(at) * text.len() / 256;
    let mut bytes = text.as_bytes().to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte = if *byte == b'A' { b'B' } else { b'A' };
    }
    let other = String::from_utf8_lossy(&bytes).into_owned();
    if other != text {
        assert!(matches!(jwt.verify(&Secret::new(other.as_str())), Verdict::Foreign), "{other}");
    }
}

fn granted(input: &mut Input<'_>) {
    let lifetime = Duration::from_secs(u64::from(input.byte()) + 1);
    let user = input.text();
    let scopes: Vec<String> = input.rest_text().split('\n').map(str::to_owned).take(20).collect();
    let jwt = jwt();
    let grant = Grant {
        user: &user,
        scopes: &scopes,
        lifetime,
        id: Some("an id".to_owned()),
        origin: None,
        cidr: Vec::new(),
    };
    let Ok(token) = jwt.sign(grant) else { return };
    match jwt.verify(&token) {
        Verdict::Good(verified) => {
            assert_eq!((&verified.token.user_id, &verified.token.scopes), (&user, &scopes));
            assert_eq!(verified.id, "an id");
            let end = Timestamp::from_millis(i64::from(NOW) * 1000).plus(lifetime);
            assert_eq!(verified.token.expires_at, Some(end));
        }
        other => {
            assert!(matches!(other, Verdict::Foreign), "it has only begun");
            assert!(!Jwt::looks_like(token.expose()), "only a very long one is not looked at");
        }
    }
}

/// A line with a token, then a JWKS document.
fn issuers(input: &mut Input<'_>) {
    let token = Secret::new(input.text());
    let audience = ["npm:registry.example.com".to_owned()];
    let configured = |jwks: Value| {
        let issuer = "https://ci.example.com".to_owned();
        let config =
            IssuerConfig { issuer, kind: "github".to_owned(), jwks: Some(jwks), ..IssuerConfig::default() };
        Issuers::new(&[config], &Nowhere::source(), &clock())
    };
    // The curve's own point: a public key as good as any.
    let x = "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY";
    let y = "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU";
    let own =
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "one", "alg": "ES256", "x": x, "y": y }] });
    let verify = |issuers: &Issuers| {
        let verdict = issuers.verify(&token, &audience, &clock()).now_or_never();
        verdict.is_some_and(|verdict| verdict.is_ok_and(|found| found.is_none()))
    };
    let own = configured(own);
    assert!(own.as_ref().is_ok_and(verify), "a signature was guessed");
    let Ok(given) = serde_json::from_slice::<Value>(input.rest()) else { return };
    match configured(given) {
        Ok(issuers) => drop(verify(&issuers)),
        Err(error) => assert!(error.message().contains("auth.trustedIssuers")),
    }
}

/// Lines: a scope, a resource, and the name of another.
fn scopes(input: &mut Input<'_>) {
    let (text, resource, name) = (input.text(), input.text(), input.rest_text());
    let parsed = Resource::parse(&resource);
    if let Some(resource_parsed) = &parsed {
        assert_eq!(resource_parsed.to_string(), resource);
    }
    let Some(scope) = Scope::parse(&text) else {
        let granted = parsed.is_some_and(|resource| {
            scope::grants(std::slice::from_ref(&text), false, &resource, Action::Read)
        });
        assert!(!granted, "{text:?} is no scope");
        return;
    };
    assert_eq!(scope.to_string(), text);
    assert_eq!(Scope::parse(&scope.to_string()), Some(scope));
    let Some(resource) = parsed else { return };
    let scopes = [text.clone()];
    let may = |action| scope::grants(&scopes, false, &resource, action);
    assert!(!may(Action::Write) || may(Action::Read), "{text:?}");
    assert!(!may(Action::Any) || may(Action::Delete), "{text:?}");
    assert!(!scope::grants(&scopes, true, &resource, Action::Write), "{text:?}");
    // A pattern for names without a scope opens none with one.
    if scope.name != "*" && !scope.name.starts_with('@') && resource.name.starts_with('@') {
        assert!(!may(Action::Read), "{text:?} {resource}");
    }
    if !scope.name.contains('*') {
        assert_eq!(name_matches(scope.name, &name), scope.name == name, "{text:?} {name:?}");
    }
}
