//! What [`super::Auth`] promises, seen from outside: users, tokens, rights, and that no secret ever shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use futures_util::future::join_all;
use http::{HeaderValue, Method, header};
use serde_json::{Value, json};

use super::{Action, Auth, AuthToken, Credentials, Identity, Resource, Setup, TokenOptions};
use crate::config::{AuthConfig, Visibility};
use crate::core::error::Result;
use crate::core::id;
use crate::core::protocol_name::ProtocolName;
use crate::core::request::Request;
use crate::core::secret::Secret;
use crate::core::time::{Clock, Timestamp};
use crate::storage::memory::MemoryStore;
use crate::storage::{GetOptions, Prefix, Storage, StorageLimits, Store};

pub(super) const NPM: ProtocolName = ProtocolName::new("npm");
pub(super) const OCI: ProtocolName = ProtocolName::new("oci");
const PYPI: ProtocolName = ProtocolName::new("pypi");

/// A store, and as many processes on it as a test wants.
struct World {
    store: Arc<dyn Store>,
    clock: Clock,
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_790_000_000_000));
        Self { store: Arc::new(MemoryStore::new(clock.clone())), clock }
    }

    /// A process that asks the store about everything.
    fn process(&self, config: &Value) -> Auth {
        self.process_with(config, Duration::ZERO).unwrap()
    }

    fn process_with(&self, config: &Value, ttl: Duration) -> Result<Auth> {
        let limits = StorageLimits { metadata_ttl: ttl, ..StorageLimits::default() };
        let storage = Storage::new(Arc::clone(&self.store), None, &limits, self.clock.clone());
        Auth::new(Setup {
            config: &config_of(config),
            provider: None,
            storage: &storage,
            clock: &self.clock,
            metadata_ttl: ttl,
            anonymous_read: BTreeMap::from([("pypi".to_owned(), false)]),
            keys: crate::auth::keys::testing::Nowhere::source(),
            oci: true,
            shared: true,
        })
    }

    /// Every key and every byte in the store, as text.
    async fn dump(&self) -> String {
        let page = self.store.list(&Prefix::new("").unwrap(), None, 100_000, false).await.unwrap();
        let mut text = String::new();
        for object in page.objects {
            text += object.key.as_str();
            text += "\n";
            let mut body = self.store.get(&object.key, GetOptions::default()).await.unwrap().body;
            while let Some(chunk) = body.next().await {
                text += &String::from_utf8_lossy(&chunk.unwrap());
            }
        }
        text
    }
}

pub(super) fn config_of(changes: &Value) -> AuthConfig {
    let mut config = json!({ "jwtSecret": "0123456789abcdef0123456789abcdef", "tokenStore": "storage" });
    for (name, value) in changes.as_object().unwrap() {
        config[name] = value.clone();
    }
    serde_json::from_value(config).unwrap()
}

fn plain() -> (World, Auth) {
    let world = World::new();
    let auth = world.process(&json!({}));
    (world, auth)
}

pub(super) fn creds(username: &str, password: &str) -> Credentials {
    Credentials { username: username.to_owned(), password: Secret::new(password), otp: None }
}

fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn resource(text: &str) -> Resource {
    Resource::parse(text).unwrap()
}

pub(super) fn request(authorization: &str) -> Request {
    let mut request = Request::new(Method::GET, "/");
    request.headers.insert(header::AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
    request
}

pub(super) fn basic(username: &str, password: &str) -> Request {
    request(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

pub(super) async fn user_of(auth: &Auth, request: Request, protocol: ProtocolName) -> Option<String> {
    auth.authenticate(&request, protocol).await.unwrap().user().map(str::to_owned)
}

pub(super) async fn npm_token(auth: &Auth, options: &TokenOptions) -> Secret {
    auth.create_token("bob", NPM, options).await.unwrap()
}

// Users

#[tokio::test]
async fn an_unknown_name_registers_in_process_and_never_over_http() {
    let (_world, auth) = plain();
    assert_eq!(auth.login(&creds("bob", "right"), None).await.unwrap(), None);
    assert_eq!(auth.authenticate_in_process(&creds("bob", "right")).await.unwrap().as_deref(), Some("bob"));
    assert_eq!(auth.authenticate_in_process(&creds("bob", "wrong")).await.unwrap(), None);
    assert_eq!(auth.authenticate_in_process(&creds("bob", "right")).await.unwrap().as_deref(), Some("bob"));
    assert_eq!(auth.login(&creds("bob", "right"), None).await.unwrap().as_deref(), Some("bob"));
    assert_eq!(auth.login(&creds("bob", "wrong"), None).await.unwrap(), None);
    assert_eq!(auth.has_user("bob").await.unwrap(), Some(true));
    assert_eq!(auth.has_user("eve").await.unwrap(), Some(false));
    assert_eq!(auth.list_users().await.unwrap(), ["bob"]);
}

#[tokio::test]
async fn self_registration_opens_the_door_for_plain_names() {
    let world = World::new();
    let auth = world.process(&json!({ "selfRegistration": true }));
    assert_eq!(auth.login(&creds("bob", "right"), None).await.unwrap().as_deref(), Some("bob"));
    assert_eq!(auth.login(&creds("bob", "wrong"), None).await.unwrap(), None);
    assert_eq!(auth.login(&creds("bоb", "cyrillic"), None).await.unwrap(), None);
    assert_eq!(user_of(&auth, basic("eve", "right"), NPM).await.as_deref(), Some("eve"));
}

#[tokio::test]
async fn names_and_passwords_are_checked() {
    let (_world, auth) = plain();
    for name in ["", "_", "__token__", "a:b", "a b", "a/b", "../x", "-x", "a\nb", "<a>", &"x".repeat(129)] {
        assert_eq!(auth.add_user(name, &Secret::new("x")).await.unwrap_err().status(), 400, "{name}");
        assert_eq!(auth.authenticate_in_process(&creds(name, "x")).await.unwrap(), None, "{name}");
    }
    assert!(auth.add_user("bob", &Secret::new("")).await.is_err());
    assert!(auth.add_user("bob", &Secret::new("x".repeat(1025))).await.is_err());
    assert_eq!(auth.authenticate_in_process(&creds("bob", "")).await.unwrap(), None);
    for name in ["bob", "Bob", "bob@example.com", "müller", "a.b-c_d+e~f", "0"] {
        auth.add_user(name, &Secret::new("x")).await.unwrap();
    }
    assert_eq!(auth.list_users().await.unwrap().len(), 6);
}

#[tokio::test]
async fn a_new_password_replaces_the_old_one_in_every_process() {
    let world = World::new();
    let (one, two) = (world.process(&json!({})), world.process(&json!({})));
    one.add_user("bob", &Secret::new("old")).await.unwrap();
    for _ in 0..2 {
        assert_eq!(user_of(&two, basic("bob", "old"), NPM).await.as_deref(), Some("bob"));
        assert_eq!(user_of(&two, basic("bob", "new"), NPM).await, None);
    }
    one.add_user("bob", &Secret::new("new")).await.unwrap();
    assert_eq!(user_of(&two, basic("bob", "old"), NPM).await, None);
    assert_eq!(user_of(&two, basic("bob", "new"), NPM).await.as_deref(), Some("bob"));
}

// Tokens

#[tokio::test]
async fn a_token_lives_from_creation_to_revocation() {
    let (_world, auth) = plain();
    let options = TokenOptions {
        name: Some("ci".to_owned()),
        metadata: Some(json!({ "team": "core" })),
        ..TokenOptions::default()
    };
    let issued = auth.issue_token("bob", NPM, &options).await.unwrap();
    assert!(id::is_uuid(issued.text.expose()));
    assert!(issued.text.expose().starts_with(&issued.info.hint));
    assert_eq!(issued.info.key.len(), 16);
    let token = auth.validate_token(&issued.text, Some("npm")).await.unwrap().unwrap();
    assert_eq!((token.kind.as_deref(), token.user_id.as_str()), (Some("npm"), "bob"));
    assert_eq!(token.scopes, ["npm:*:*:*"]);
    let metadata = token.metadata.unwrap();
    assert_eq!(metadata["key"], issued.info.key.as_str());
    assert_eq!(metadata["team"], "core");
    assert_eq!(metadata["created"], "2026-09-21T14:13:20.000Z");
    assert_eq!(auth.list_tokens("bob").await.unwrap()[0].name.as_deref(), Some("ci"));
    assert_eq!(auth.list_user_tokens("bob").await.unwrap()[0].metadata.as_ref().unwrap()["name"], "ci");
    assert!(!auth.revoke_key("eve", &issued.info.key).await.unwrap());
    assert!(auth.validate_token(&issued.text, None).await.unwrap().is_some());
    assert!(auth.revoke_key("bob", &issued.info.key).await.unwrap());
    assert!(!auth.revoke_key("bob", &issued.info.key).await.unwrap());
    assert_eq!(auth.validate_token(&issued.text, None).await.unwrap(), None);
    assert!(auth.list_tokens("bob").await.unwrap().is_empty());
    for not_there in [&issued.text, &Secret::new("nonsense"), &Secret::new("")] {
        auth.revoke_token(not_there).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_of_another_protocol_opens_nothing() {
    let (_world, auth) = plain();
    let token = npm_token(&auth, &TokenOptions::default()).await;
    assert_eq!(auth.validate_token(&token, Some("pypi")).await.unwrap(), None);
    let identity = auth.authenticate(&request(&format!("Bearer {}", token.expose())), PYPI).await.unwrap();
    assert!(matches!(identity, Identity::Rejected));
    let (package, private) = (resource("npm:package:x"), Some(Visibility::Private));
    assert!(!auth.allows(&identity, &package, Action::Read, private).await.unwrap());
    assert!(auth.allows(&identity, &package, Action::Read, None).await.unwrap());
    assert!(!auth.allows(&identity, &package, Action::Write, None).await.unwrap());
    let wide = TokenOptions { scopes: vec!["*:*:*:read".to_owned()], ..TokenOptions::default() };
    let token = npm_token(&auth, &wide).await;
    assert!(auth.validate_token(&token, Some("pypi")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_read_only_token_only_reads_whatever_its_scopes() {
    let (_world, auth) = plain();
    let options =
        TokenOptions { readonly: true, scopes: vec!["npm:*:*:*".to_owned()], ..TokenOptions::default() };
    let text = npm_token(&auth, &options).await;
    let token = auth.validate_token(&text, Some("npm")).await.unwrap().unwrap();
    assert!(token.readonly);
    for (action, may) in [("read", true), ("write", false), ("delete", false), ("admin", false), ("*", false)]
    {
        assert_eq!(auth.authorize(Some(&token), "npm:package:x", action).await.unwrap(), may, "{action}");
    }
}

#[tokio::test]
async fn a_token_bound_to_networks_works_from_there_alone() {
    let (_world, auth) = plain();
    let cidr = vec!["10.0.0.0/8".to_owned(), "2001:db8::/32".to_owned(), "192.0.2.7".to_owned()];
    let token = npm_token(&auth, &TokenOptions { cidr, ..TokenOptions::default() }).await;
    for (peer, may) in [
        (ip("10.1.2.3"), true),
        (ip("::ffff:10.1.2.3"), true),
        (ip("2001:db8::1"), true),
        (ip("192.0.2.7"), true),
        (ip("192.0.2.8"), false),
        (ip("::1"), false),
        (None, false),
    ] {
        let mut request = request(&format!("Bearer {}", token.expose()));
        request.peer = peer;
        assert_eq!(user_of(&auth, request, NPM).await.is_some(), may, "{peer:?}");
    }
    assert_eq!(auth.validate_token(&token, None).await.unwrap(), None);
}

#[tokio::test]
async fn a_token_that_makes_no_sense_is_refused() {
    let (world, auth) = plain();
    let past = Some(world.clock.now());
    let cases = [
        TokenOptions { scopes: vec!["npm:package:x".to_owned()], ..TokenOptions::default() },
        TokenOptions { cidr: vec!["10.0.0.0/99".to_owned()], ..TokenOptions::default() },
        TokenOptions { expires_at: past, ..TokenOptions::default() },
        TokenOptions { name: Some("x".repeat(257)), ..TokenOptions::default() },
    ];
    for options in cases {
        assert_eq!(auth.create_token("bob", NPM, &options).await.unwrap_err().status(), 400, "{options:?}");
    }
    for user in ["", "a\nb", &"x".repeat(257)] {
        assert!(auth.create_token(user, NPM, &TokenOptions::default()).await.is_err());
    }
    assert_eq!(world.dump().await, "");
}

#[tokio::test]
async fn tokens_of_a_protocol_can_be_switched_off() {
    let world = World::new();
    let token = npm_token(&world.process(&json!({})), &TokenOptions::default()).await;
    let auth =
        world.process(&json!({ "npmTokens": { "enabled": false }, "ociTokens": { "enabled": false } }));
    assert_eq!(auth.validate_token(&token, None).await.unwrap(), None);
    let error = auth.create_token("bob", NPM, &TokenOptions::default()).await.unwrap_err();
    assert!(error.message().contains("auth.npmTokens.enabled"), "{error}");
    assert!(auth.sign_oci("bob", &[], Duration::from_mins(1)).is_err());
    auth.create_token("bob", PYPI, &TokenOptions::default()).await.unwrap();
}

#[tokio::test]
async fn the_process_that_revokes_a_token_forgets_it_at_once() {
    let world = World::new();
    let auth = world.process_with(&json!({}), Duration::from_hours(1)).unwrap();
    let token = npm_token(&auth, &TokenOptions::default()).await;
    assert!(auth.validate_token(&token, None).await.unwrap().is_some());
    auth.revoke_token(&token).await.unwrap();
    assert_eq!(auth.validate_token(&token, None).await.unwrap(), None);
}

#[tokio::test]
async fn the_memory_store_keeps_nothing_in_the_bucket_and_shares_nothing() {
    let world = World::new();
    let (one, two) = (
        world.process(&json!({ "tokenStore": "memory" })),
        world.process(&json!({ "tokenStore": "memory" })),
    );
    let token = npm_token(&one, &TokenOptions::default()).await;
    one.add_user("bob", &Secret::new("x")).await.unwrap();
    assert!(one.validate_token(&token, None).await.unwrap().is_some());
    assert_eq!(two.validate_token(&token, None).await.unwrap(), None);
    assert_eq!(two.has_user("bob").await.unwrap(), Some(false));
    assert_eq!(world.dump().await, "");
}

// Requests

#[tokio::test]
async fn every_form_of_credentials_leads_to_the_user() {
    let (_world, auth) = plain();
    auth.add_user("bob", &Secret::new("pass:word")).await.unwrap();
    let token = npm_token(&auth, &TokenOptions::default()).await;
    let text = token.expose();
    let signed = auth.sign_oci("bob", &["npm:package:x:read".to_owned()], Duration::from_mins(1)).unwrap();
    let mut given = Request::new(Method::GET, "/");
    given.token = Some(token.clone());
    for (what, request) in [
        ("bearer", request(&format!("Bearer {text}"))),
        ("another case", request(&format!("bEARER {text}"))),
        ("bare", request(text)),
        ("given", given),
        ("token as password", basic("bob", text)),
        ("token as anybody's password", basic("whoever", text)),
        ("token of __token__", basic("__token__", text)),
        ("token of _", basic("_", text)),
        ("token as user name", basic(text, "")),
        ("token as user name, as GitHub's", basic(text, "x-oauth-basic")),
        ("password", basic("bob", "pass:word")),
        ("signed token", request(&format!("Bearer {}", signed.expose()))),
        ("signed token as password", basic("me", signed.expose())),
    ] {
        assert_eq!(user_of(&auth, request, NPM).await.as_deref(), Some("bob"), "{what}");
    }
    for (what, request) in [
        ("unknown token", request(&format!("Bearer {}", id::uuid()))),
        ("changed token", request(&format!("Bearer {}", text.to_uppercase()))),
        ("nonsense", request("Bearer x")),
        ("wrong password", basic("bob", "x")),
        ("unknown user", basic("eve", "pass:word")),
        ("no password", basic("bob", "")),
        ("password of __token__", basic("__token__", "pass:word")),
        ("not base64", request("Basic %%%")),
    ] {
        let identity = auth.authenticate(&request, NPM).await.unwrap();
        assert!(matches!(identity, Identity::Rejected), "{what}: {identity:?}");
    }
    let empty = auth.authenticate(&request("Basic Og=="), NPM).await.unwrap();
    assert!(matches!(empty, Identity::Anonymous));
    let mut twice = request("Bearer a");
    twice.headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer b"));
    assert_eq!(auth.authenticate(&twice, NPM).await.unwrap_err().status(), 400);
}

#[tokio::test]
async fn a_password_opens_the_protocol_it_was_sent_to() {
    let (_world, auth) = plain();
    auth.add_user("bob", &Secret::new("right")).await.unwrap();
    let identity = auth.authenticate(&basic("bob", "right"), NPM).await.unwrap();
    assert!(identity.token().unwrap().is_password());
    for (name, may) in [("npm:package:@acme/x", true), ("pypi:package:x", false)] {
        assert_eq!(
            auth.allows(&identity, &resource(name), Action::Delete, None).await.unwrap(),
            may,
            "{name}"
        );
    }
}

// Rights

#[tokio::test]
async fn nobody_reads_public_packages_and_does_nothing_else() {
    let world = World::new();
    let auth = world.process(&json!({ "visibility": [
        { "pattern": "npm:package:@acme/*", "visibility": "private" },
        { "pattern": "pypi:package:open", "visibility": "public" },
    ]}));
    for identity in [Identity::Anonymous, Identity::Rejected] {
        for (name, own, may) in [
            ("npm:package:x", None, true),
            ("npm:package:x", Some(Visibility::Private), false),
            ("npm:package:@acme/x", None, false),
            ("npm:package:@acme/x", Some(Visibility::Public), true),
            ("oci:repository:x", None, true),
            ("pypi:package:x", None, false),
            ("pypi:package:open", None, true),
        ] {
            let resource = resource(name);
            assert_eq!(auth.allows(&identity, &resource, Action::Read, own).await.unwrap(), may, "{name}");
            assert_eq!(auth.allows(&identity, &resource, Action::Pull, own).await.unwrap(), may, "{name}");
            assert_eq!(auth.is_public(&resource, own), may, "{name}");
            for action in [Action::Write, Action::Push, Action::Delete, Action::Admin, Action::Any] {
                assert!(!auth.allows(&identity, &resource, action, own).await.unwrap(), "{name} {action:?}");
            }
        }
    }
    assert!(auth.has_private(NPM) && auth.has_private(PYPI) && !auth.has_private(OCI));
    assert!(auth.authorize(None, "npm:package:x", "read").await.unwrap());
    assert!(!auth.authorize(None, "npm:package:x", "write").await.unwrap());
    for nonsense in ["", "npm", "npm:package", "npm:package:"] {
        assert!(!auth.authorize(None, nonsense, "read").await.unwrap());
    }
    assert!(!auth.authorize(None, "npm:package:x", "look").await.unwrap());
}

#[tokio::test]
async fn a_token_reads_what_everybody_may_read_and_what_its_scopes_say() {
    let (_world, auth) = plain();
    let options =
        TokenOptions { scopes: vec!["npm:package:@acme/*:write".to_owned()], ..TokenOptions::default() };
    let token = npm_token(&auth, &options).await;
    let identity = auth.authenticate(&request(&format!("Bearer {}", token.expose())), NPM).await.unwrap();
    let private = Some(Visibility::Private);
    for (name, action, own, may) in [
        ("npm:package:@acme/x", Action::Read, private, true),
        ("npm:package:@acme/x", Action::Write, private, true),
        ("npm:package:@acme/x", Action::Delete, private, false),
        ("npm:package:other", Action::Read, None, true),
        ("npm:package:other", Action::Read, private, false),
        ("npm:package:other", Action::Write, None, false),
    ] {
        let answer = auth.allows(&identity, &resource(name), action, own).await.unwrap();
        assert_eq!(answer, may, "{name} {action:?} {own:?}");
    }
}

// OCI tokens

#[tokio::test]
async fn a_signed_token_is_good_for_its_scopes_its_time_and_its_registry() {
    let (world, auth) = plain();
    let minute = Duration::from_mins(1);
    let scopes = ["oci:repository:a/b:push".to_owned()];
    let token = auth.create_oci_token("bob", &scopes, minute).await.unwrap();
    let known = auth.validate_token(&token, Some("oci")).await.unwrap().unwrap();
    assert_eq!((known.kind.as_deref(), known.user_id.as_str()), (Some("oci"), "bob"));
    assert!(auth.authorize(Some(&known), "oci:repository:a/b", "pull").await.unwrap());
    assert!(!auth.authorize(Some(&known), "oci:repository:a/c", "push").await.unwrap());
    assert_eq!(auth.validate_token(&token, Some("npm")).await.unwrap(), None);
    // An empty one is a login all the same: `docker login` asks `/v2/` with it.
    let empty = auth.sign_oci("bob", &[], minute).unwrap();
    assert!(auth.validate_token(&empty, Some("oci")).await.unwrap().is_some());
    let other = world.process(&json!({ "ociTokens": { "service": "other" } }));
    assert_eq!(other.validate_token(&token, Some("oci")).await.unwrap(), None);
    assert_eq!((auth.oci_service(), other.oci_service()), ("smartregistry", "other"));
    world.clock.advance(minute + minute);
    assert_eq!(auth.validate_token(&token, Some("oci")).await.unwrap(), None);
}

#[tokio::test]
async fn an_anonymous_token_is_worth_as_much_as_none() {
    let (_world, auth) = plain();
    let scopes = ["oci:repository:x:pull".to_owned()];
    let token = auth.sign_oci("", &scopes, Duration::from_mins(1)).unwrap();
    let identity = auth.authenticate(&request(&format!("Bearer {}", token.expose())), OCI).await.unwrap();
    assert!(identity.token().is_some() && identity.user().is_none());
    let name = resource("oci:repository:x");
    assert!(auth.allows(&identity, &name, Action::Pull, None).await.unwrap());
    assert!(!auth.allows(&identity, &name, Action::Pull, Some(Visibility::Private)).await.unwrap());
}

#[tokio::test]
async fn an_exchanged_token_is_worth_no_more_than_what_it_was_exchanged_for() {
    let (world, auth) = plain();
    let hour = Duration::from_hours(1);
    let scopes = ["oci:repository:x:push".to_owned()];
    let oci = |text: &Secret, peer: Option<IpAddr>| {
        let mut request = request(&format!("Bearer {}", text.expose()));
        request.peer = peer;
        request
    };
    // It doesn't outlive the token, however often it is exchanged.
    let short = auth.create_oci_token("bob", &scopes, Duration::from_mins(5)).await.unwrap();
    world.clock.advance(Duration::from_mins(2));
    let by_short = auth.authenticate(&oci(&short, None), OCI).await.unwrap();
    let (longer, lifetime) = auth.sign_oci_for(&by_short, &scopes, hour).await.unwrap();
    assert_eq!(lifetime, Duration::from_mins(3));
    world.clock.advance(Duration::from_secs(200));
    let late = auth.authenticate(&oci(&short, None), OCI).await.unwrap();
    assert_eq!(late.user(), None, "its end is past");
    assert_eq!(auth.sign_oci_for(&by_short, &scopes, hour).await.unwrap_err().status(), 401);
    assert_eq!(user_of(&auth, oci(&longer, None), OCI).await, None);
    // It ends with the token that it came from.
    let short = auth.create_oci_token("bob", &scopes, Duration::from_mins(5)).await.unwrap();
    let by_short = auth.authenticate(&oci(&short, None), OCI).await.unwrap();
    let (longer, _) = auth.sign_oci_for(&by_short, &scopes, hour).await.unwrap();
    assert_eq!(user_of(&auth, oci(&longer, None), OCI).await.as_deref(), Some("bob"));
    auth.revoke_token(&short).await.unwrap();
    assert_eq!(user_of(&auth, oci(&longer, None), OCI).await, None);
    // The same, through any number of hands, for a token that is kept, and bound to a network besides.
    let options = TokenOptions { cidr: vec!["192.0.2.0/24".to_owned()], ..TokenOptions::default() };
    let pat = auth.create_token("bob", OCI, &options).await.unwrap();
    let by_pat = auth.authenticate(&oci(&pat, ip("192.0.2.1")), OCI).await.unwrap();
    let (first, _) = auth.sign_oci_for(&by_pat, &scopes, hour).await.unwrap();
    let by_first = auth.authenticate(&oci(&first, ip("192.0.2.1")), OCI).await.unwrap();
    let (second, _) = auth.sign_oci_for(&by_first, &scopes, hour).await.unwrap();
    let refresh = auth.create_refresh_token(&by_pat).await.unwrap().unwrap();
    let by_refresh = auth.redeem_refresh_token(&refresh, ip("192.0.2.1")).await.unwrap();
    let (third, _) = auth.sign_oci_for(&by_refresh, &scopes, hour).await.unwrap();
    let all = [&first, &second, &third];
    for text in all {
        assert_eq!(user_of(&auth, oci(text, ip("192.0.2.1")), OCI).await.as_deref(), Some("bob"));
        assert_eq!(user_of(&auth, oci(text, ip("203.0.113.1")), OCI).await, None);
    }
    auth.revoke_token(&pat).await.unwrap();
    for text in all {
        assert_eq!(user_of(&auth, oci(text, ip("192.0.2.1")), OCI).await, None);
    }
    // And for a password.
    auth.add_user("bob", &Secret::new("old")).await.unwrap();
    let by_password = auth.authenticate(&basic("bob", "old"), OCI).await.unwrap();
    let (signed, _) = auth.sign_oci_for(&by_password, &scopes, hour).await.unwrap();
    assert_eq!(user_of(&auth, oci(&signed, None), OCI).await.as_deref(), Some("bob"));
    auth.add_user("bob", &Secret::new("new")).await.unwrap();
    assert_eq!(user_of(&auth, oci(&signed, None), OCI).await, None);
}

// Floods

#[tokio::test]
async fn guessing_is_stopped_and_does_not_stop_who_is_logged_in() {
    let (world, auth) = plain();
    auth.add_user("bob", &Secret::new("right")).await.unwrap();
    assert_eq!(user_of(&auth, basic("bob", "right"), NPM).await.as_deref(), Some("bob"));
    let token = npm_token(&auth, &TokenOptions::default()).await;
    let guesses = (0..40).map(|at| {
        let auth = &auth;
        async move { auth.login(&creds("bob", &format!("guess{at}")), ip("192.0.2.1")).await }
    });
    let (refused, stopped): (Vec<_>, Vec<_>) = join_all(guesses).await.into_iter().partition(Result::is_ok);
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!((10..=10 + cores).contains(&refused.len()), "{} guesses were tried", refused.len());
    let error = stopped.into_iter().next().unwrap().unwrap_err();
    assert_eq!(error.status(), 429);
    assert_eq!(error.headers()[0].0, header::RETRY_AFTER);
    // The client that has the password, and the one that has a token, notice nothing.
    assert_eq!(user_of(&auth, basic("bob", "right"), NPM).await.as_deref(), Some("bob"));
    assert_eq!(user_of(&auth, basic("bob", token.expose()), NPM).await.as_deref(), Some("bob"));
    // Neither does a client that keeps sending one wrong password: it is counted once.
    world.clock.advance(Duration::from_hours(1));
    for _ in 0..30 {
        assert_eq!(auth.login(&creds("bob", "stale"), ip("192.0.2.1")).await.unwrap(), None);
    }
    assert_eq!(auth.login(&creds("bob", "other"), ip("192.0.2.1")).await.unwrap(), None);
}

// Secrets

#[tokio::test]
async fn no_secret_is_stored_printed_or_logged() {
    let (log, guard) = capture();
    let (world, auth) = plain();
    auth.prepare().await.unwrap();
    auth.add_user("bob", &Secret::new("hunter2-password")).await.unwrap();
    let issued = auth.issue_token("bob", NPM, &TokenOptions::default()).await.unwrap();
    let identity = auth.authenticate(&basic("bob", "hunter2-password"), OCI).await.unwrap();
    let refresh = auth.create_refresh_token(&identity).await.unwrap().unwrap();
    let signed = auth.sign_oci("bob", &[], Duration::from_mins(1)).unwrap();
    let known = auth.validate_token(&issued.text, None).await.unwrap();
    let wrong = auth.authenticate(&basic("bob", "wrong-password"), NPM).await.unwrap();
    auth.authenticate_in_process(&creds("eve", "eves-password")).await.unwrap();
    auth.revoke_token(&signed).await.unwrap();
    drop(guard);
    let log = String::from_utf8(log.lock().clone()).unwrap();
    let shown = format!(
        "{log}{issued:?}{identity:?}{known:?}{wrong:?}{refresh:?}{:?}{}",
        creds("bob", "hunter2-password"),
        world.dump().await,
    );
    assert!(shown.contains("$argon2id$v=19$"), "the store has the password's hash");
    assert!(shown.contains("eve"), "the log has the new user");
    for secret in [
        "hunter2-password",
        "wrong-password",
        "eves-password",
        "0123456789abcdef0123456789abcdef",
        issued.text.expose(),
        refresh.expose(),
        signed.expose(),
    ] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

pub(super) type Log = Arc<parking_lot::Mutex<Vec<u8>>>;

/// Everything that this thread logs, down to the finest.
pub(super) fn capture() -> (Log, tracing::subscriber::DefaultGuard) {
    struct Writer(Log);
    impl std::io::Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = Arc::clone(&log);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || Writer(Arc::clone(&writer)))
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn a_damaged_record_is_a_fault_that_tells_nothing() {
    let (world, auth) = plain();
    let token = npm_token(&auth, &TokenOptions::default()).await;
    let page = world.store.list(&Prefix::new("_sr/auth/tokens/").unwrap(), None, 10, false).await.unwrap();
    let body = bytes::Bytes::from_static(b"{\"user\":\"bob\",\"scopes\":\"topsecret\"}");
    world.store.put(&page.objects[0].key, body.into(), crate::storage::PutOptions::default()).await.unwrap();
    let error = auth.validate_token(&token, None).await.unwrap_err();
    assert_eq!(error.status(), 500);
    assert!(!format!("{error:?} {}", error.causes()).contains("topsecret"));
}

// Configuration

#[test]
fn what_cannot_work_is_refused_with_the_options_name() {
    let world = World::new();
    for (config, option) in [
        (json!({ "tokenStore": "redis", "redisUrl": "http://cache.example.com" }), "auth.redisUrl"),
        (json!({ "tokenStore": "redis", "redisUrl": "redis://cache.example.com/x" }), "auth.redisUrl"),
        (json!({ "tokenStore": "database", "databaseUrl": "mysql://cache.example.com" }), "auth.databaseUrl"),
        (json!({ "tokenStore": "database", "databaseUrl": "sqlite::memory:" }), "auth.databaseUrl"),
        (json!({ "tokenStore": "database", "databaseUrl": "sqlite:a?mode=ro" }), "auth.databaseUrl"),
        (json!({ "jwtSecret": "" }), "auth.jwtSecret"),
        (json!({ "visibility": [{ "pattern": "@acme/*", "visibility": "private" }] }), "auth.visibility"),
    ] {
        let error = world.process_with(&config, Duration::ZERO).err().unwrap();
        assert_eq!(error.status(), 400);
        assert!(error.message().contains(option), "{error}");
        assert!(!error.message().contains("cache.example.com"), "{error}");
    }
    for config in [
        json!({ "jwtSecret": "", "tokenStore": "memory" }),
        json!({ "jwtSecret": "", "ociTokens": { "enabled": false } }),
    ] {
        world.process_with(&config, Duration::ZERO).unwrap();
    }
}

#[tokio::test]
async fn an_old_config_with_redis_and_no_url_keeps_tokens_in_the_bucket() {
    let (log, _guard) = capture();
    let world = World::new();
    let auth = world.process(&json!({ "tokenStore": "redis" }));
    auth.prepare().await.unwrap();
    auth.prepare().await.unwrap();
    let token = npm_token(&auth, &TokenOptions::default()).await;
    assert!(world.process(&json!({})).validate_token(&token, None).await.unwrap().is_some());
    let log = String::from_utf8(log.lock().clone()).unwrap();
    assert_eq!(log.matches("auth.redisUrl").count(), 1, "{log}");
}

#[test]
fn debug_output_of_an_auth_token_is_for_logs() {
    let token = AuthToken::of_password("bob".to_owned(), "npm");
    assert!(format!("{token:?}").contains("bob"));
}
