//! Identity tokens of build services (OpenID Connect): signed by an issuer that the configuration names.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Header, Validation};
use serde_json::{Map, Value};

use super::Auth;
use super::jwt;
use super::keys::{ALGORITHMS, Key, KeySource, Keys};
use crate::config::IssuerConfig;
use crate::core::error::{Error, Result};
use crate::core::secret::Secret;
use crate::core::time::{Clock, Timestamp};

/// How far the issuer's clock and ours may be apart.
const LEEWAY: Duration = Duration::from_mins(1);
/// Longer texts are not looked at.
const MAX_LENGTH: usize = 16 << 10;

/// Issuers that are believed.
#[derive(Default)]
pub(super) struct Issuers(Vec<Issuer>);

struct Issuer {
    url: String,
    kind: String,
    audience: Option<String>,
    keys: Keys,
}

/// A token that nothing is proven of yet.
struct Shown<'a> {
    text: &'a str,
    header: Header,
    issuer: &'a Issuer,
    audiences: &'a [String],
}

/// An identity token that holds.
#[derive(Debug, Clone)]
pub struct IdToken {
    /// What kind of issuer it is, as configured: `github`, `gitlab`, `circleci`, …
    pub kind: String,
    /// What it says.
    pub claims: Map<String, Value>,
}

impl Issuers {
    /// Reads the configured issuers. Asks none of them.
    ///
    /// # Errors
    /// One without a usable key, or without a way to one.
    pub(super) fn new(
        configured: &[IssuerConfig],
        source: &Arc<dyn KeySource>,
        clock: &Clock,
    ) -> Result<Self> {
        jwt::install();
        let made = configured.iter().map(|one| Issuer::new(one, source, clock));
        let issuers: Vec<Issuer> = made.collect::<Result<_>>()?;
        let mut known = HashSet::new();
        if let Some(again) = issuers.iter().find(|issuer| !known.insert(&issuer.url)) {
            return Err(wrong(&format!("the issuer `{}` stands there twice", again.url)));
        }
        Ok(Self(issuers))
    }

    /// The token, if a configured issuer has signed it for the audience and it is in its time.
    ///
    /// # Errors
    /// 503 while nobody can say, since the issuer's keys can't be had.
    pub(super) async fn verify(
        &self,
        token: &Secret,
        audiences: &[String],
        clock: &Clock,
    ) -> Result<Option<IdToken>> {
        let Some(shown) = self.read(token.expose(), audiences) else { return Ok(None) };
        let keys = shown.issuer.keys.find(shown.header.kid.as_deref()).await?;
        let claims = keys.get(&shown.header).and_then(|key| shown.prove(key));
        let kind = &shown.issuer.kind;
        Ok(claims
            .filter(|claims| in_time(claims, clock.now()))
            .map(|claims| IdToken { kind: kind.clone(), claims }))
    }

    /// What a token says of itself, if that alone does not rule it out: only then are keys looked for.
    fn read<'a>(&'a self, text: &'a str, audiences: &'a [String]) -> Option<Shown<'a>> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let header = jsonwebtoken::decode_header(text).ok()?;
        if header.crit.is_some() || !ALGORITHMS.contains(&header.alg) {
            return None;
        }
        let unproven = jsonwebtoken::dangerous::insecure_decode::<Map<String, Value>>(text).ok()?;
        // Only to find the keys; the signature says whether it is true.
        let named = unproven.claims.get("iss")?.as_str()?;
        let issuer = self.0.iter().find(|issuer| issuer.url == named)?;
        let audiences = issuer.audience.as_ref().map_or(audiences, std::slice::from_ref);
        (!audiences.is_empty()).then_some(Shown { text, header, issuer, audiences })
    }
}

impl Shown<'_> {
    /// Its claims, if the key's owner has signed them.
    fn prove(&self, key: &Key) -> Option<Map<String, Value>> {
        let mut validation = Validation::new(key.algorithm);
        validation.set_audience(self.audiences);
        validation.set_issuer(&[&self.issuer.url]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        // Time is checked with the registry's own clock.
        validation.validate_exp = false;
        Some(jsonwebtoken::decode(self.text, &key.decoding, &validation).ok()?.claims)
    }
}

fn in_time(claims: &Map<String, Value>, now: Timestamp) -> bool {
    // Seconds, perhaps with a fraction; `as` saturates. `Some(None)` is there and no number.
    let moment = |name: &str| {
        let seconds = claims.get(name).map(Value::as_f64)?;
        Some(seconds.map(|seconds| Timestamp::from_millis((seconds * 1000.0) as i64)))
    };
    let Some(Some(end)) = moment("exp") else { return false };
    let started = match moment("nbf").or_else(|| moment("iat")) {
        Some(Some(start)) => start <= now.plus(LEEWAY),
        Some(None) => false,
        None => true,
    };
    started && end.plus(LEEWAY) > now
}

impl Issuer {
    fn new(config: &IssuerConfig, source: &Arc<dyn KeySource>, clock: &Clock) -> Result<Self> {
        let url = &config.issuer;
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(wrong(&format!("the issuer `{url}` is no URL")));
        }
        if config.kind.is_empty() {
            return Err(wrong(&format!(
                "the issuer `{url}` needs a `type`: github, gitlab, circleci or a name of your own"
            )));
        }
        let keys = Keys::new(config, source, clock).map_err(|error| wrong(error.message()))?;
        Ok(Self { url: url.clone(), kind: config.kind.clone(), audience: config.audience.clone(), keys })
    }
}

fn wrong(why: &str) -> Error {
    Error::invalid(format!("option `auth.trustedIssuers`: {why}"))
}

impl Auth {
    /// Whether there is anybody whose identity tokens are believed.
    pub fn has_issuers(&self) -> bool {
        !self.issuers.0.is_empty()
    }

    /// Whether an issuer of this type is believed.
    pub fn believes(&self, kind: &str) -> bool {
        self.issuers.0.iter().any(|issuer| issuer.kind == kind)
    }

    /// What an identity token says, if a configured issuer has signed it and it was made for one of the audiences (or for the one that is
    /// configured with the issuer). `None` for anything else, and where nobody knows what the audience must be.
    ///
    /// # Errors
    /// 503 with `Retry-After` while the issuer's keys can't be had.
    pub async fn verify_id_token(&self, token: &Secret, audiences: &[String]) -> Result<Option<IdToken>> {
        self.issuers.verify(token, audiences, &self.clock).await
    }
}

/// For tests: an issuer with a P-256 key of its own.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::{Value, json};

    pub(crate) struct TestIssuer {
        key: EcdsaKeyPair,
        id: &'static str,
    }

    impl TestIssuer {
        pub(crate) fn new() -> Self {
            Self::with_key("one")
        }

        /// With a key that is called so.
        pub(crate) fn with_key(id: &'static str) -> Self {
            let random = SystemRandom::new();
            let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random);
            Self { key: key.unwrap(), id }
        }

        pub(crate) fn jwks(&self) -> Value {
            json!({ "keys": [self.jwk()] })
        }

        pub(crate) fn jwk(&self) -> Value {
            let (x, y) = self.key.public_key().as_ref().split_at(1).1.split_at(32);
            let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
            json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "alg": "ES256", "x": x, "y": y })
        }

        pub(crate) fn token(&self, claims: &Value) -> String {
            self.token_with(&json!({ "alg": "ES256", "typ": "JWT", "kid": self.id }), claims)
        }

        pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let message = format!("{}.{}", part(header), part(claims));
            let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use futures_util::FutureExt;
    use hmac::{Hmac, KeyInit, Mac};
    use serde_json::{Value, json};
    use sha2::Sha256;

    use super::super::keys::testing::Nowhere;
    use super::testing::TestIssuer;
    use super::{Clock, IdToken, IssuerConfig, Issuers, Result, Secret, Timestamp};

    const NOW: i64 = 1_790_000_000;
    const URL: &str = "https://ci.example.com";
    const AUDIENCE: &str = "npm:registry.example.com";
    /// Made once with a key that nobody has kept.
    const RSA_KEY: &str = "qyIG4oxqBwaIz0tTixWLuIAl-FUd2UYv9VxY-LBYCZ79YR0LJP0sdCzLXg9anK45zlQfEKqEmlZ5kUi1SKV1_r4ShdhVav0HnYbmPBqdJNar4y\
         uH9lGrL08tOOp1yAXYWPDeh_14QGE8cD_e09Xwej4YwaibcS3Jn3V6L7_VZXq00rGo58PjIkyIt7e-MdvktGLRwQyNiozAlpJF3qfMUUIwanFx\
         exRbTJgk9F-EjGAEjvzLvkAdaz418BaMJ-OJorGPXlO-O9RYR8vMOHz6A8krmAs2TvjRTOEUvHSTdEu4YxNgxJieQy_OjaWxtMdL8WeclH-f8_\
         -spm3-Pytlbw";
    const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InJzYS0xIn0.eyJpc3MiOiJodHRwczovL2NpLmV4YW1wbGUuY29tIiwiYXVkIjoibn\
         BtOnJlZ2lzdHJ5LmV4YW1wbGUuY29tIiwic3ViIjoiYnVpbGQiLCJleHAiOjE3OTAwMDAzMDAsImlhdCI6MTc5MDAwMDAwMH0.Y5C4OC42sZ1r\
         icMev8zUP64kiFoH7SW44YweOCCiINWxK-v2uXhXe1Re6BeqYDIwUKw0WdTnt0urmLte-pVdQVpEsZrfa2oz8IXnXvjE_deZ67qLv335Mz85WO\
         4nuhhpD21Tpe8-uFvnQNKakbUC6Ypf1kK1xHMVR323xJVQU1YvIVZJml4FNHz6kAqIB1E_YYvRnl71Ip6Nd0g3jJu-UaTNT5T93ctnS8b1yHGy\
         bJLQ9r-SiA6WIpqNwoBag_RwwHQPDN_gc88pHfc4tMOTIlJeXulPS6SpDDq0WzTuINr5Le70y3mNi-dwCmtEn2XozmDEcVVN8zxTi-daLw21Fw";

    fn configured(jwks: Value, audience: Option<&str>) -> Vec<IssuerConfig> {
        let (issuer, kind) = (URL.to_owned(), "github".to_owned());
        let audience = audience.map(str::to_owned);
        vec![IssuerConfig { issuer, kind, audience, jwks: Some(jwks), ..IssuerConfig::default() }]
    }

    fn clock() -> Clock {
        Clock::manual(Timestamp::from_millis(NOW * 1000))
    }

    fn made(configured: &[IssuerConfig]) -> Result<Issuers> {
        Issuers::new(configured, &Nowhere::source(), &clock())
    }

    fn verified(issuers: &Issuers, token: &str, audiences: &[String]) -> Option<IdToken> {
        let verdict = issuers.verify(&Secret::new(token), audiences, &clock()).now_or_never();
        verdict.expect("keys that stand in the configuration are not waited for").unwrap()
    }

    fn holds(issuers: &Issuers, token: &str) -> bool {
        verified(issuers, token, &[AUDIENCE.to_owned()]).is_some()
    }

    fn claims() -> Value {
        json!({ "iss": URL, "aud": AUDIENCE, "sub": "build", "exp": NOW + 300, "nbf": NOW, "iat": NOW })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    #[test]
    fn what_a_configured_issuer_signed_for_us_now_holds_and_nothing_else() {
        let (issuer, other) = (TestIssuer::new(), TestIssuer::new());
        let issuers = made(&configured(issuer.jwks(), None)).unwrap();
        assert!(holds(&issuers, &issuer.token(&claims())));
        assert!(holds(&issuers, &issuer.token(&with("aud", json!(["x", AUDIENCE])))));
        assert!(
            holds(&issuers, &issuer.token_with(&json!({ "alg": "ES256" }), &claims())),
            "one key, no choice"
        );
        for (what, claims) in [
            ("another audience", with("aud", json!("npm:other.example.com"))),
            ("no audience", with("aud", Value::Null)),
            ("another issuer", with("iss", json!("https://evil.example.com"))),
            ("an issuer that begins like it", with("iss", json!(format!("{URL}.evil.example.com")))),
            ("the end is past", with("exp", json!(NOW - 61))),
            ("no end", with("exp", Value::Null)),
            ("an end in words", with("exp", json!("never"))),
            ("not yet", with("nbf", json!(NOW + 61))),
            ("a start in words", with("nbf", json!("0"))),
        ] {
            assert!(!holds(&issuers, &issuer.token(&claims)), "{what}");
        }
        assert!(!holds(&issuers, &other.token(&claims())), "another key");
        for header in [
            json!({ "alg": "none" }),
            json!({ "alg": "RS256", "kid": "one" }),
            json!({ "alg": "ES256", "kid": "two" }),
            json!({ "alg": "ES256", "kid": "one", "crit": ["x"] }),
        ] {
            assert!(!holds(&issuers, &issuer.token_with(&header, &claims())), "{header}");
        }
        let brought = json!({ "alg": "ES256", "kid": "one", "jwk": other.jwks()["keys"][0] });
        assert!(!holds(&issuers, &other.token_with(&brought, &claims())), "a key of its own");
        for text in ["", "a.b.c", "eyJ..", &"e".repeat(20_000)] {
            assert!(!holds(&issuers, text), "{text:.20}");
        }
    }

    #[test]
    fn a_public_key_is_no_shared_secret() {
        let issuer = TestIssuer::new();
        let issuers = made(&configured(issuer.jwks(), None)).unwrap();
        let key = &issuer.jwks()["keys"][0];
        let point = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
        let secret = [vec![4], point("x"), point("y")].concat();
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&json!({ "alg": "HS256", "kid": "one" })), part(&claims()));
        let mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap().chain_update(&message).finalize();
        assert!(!holds(&issuers, &format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.into_bytes()))));
    }

    #[test]
    fn rsa_holds_too_until_a_byte_changes() {
        let jwks =
            json!({ "keys": [{ "kty": "RSA", "kid": "rsa-1", "alg": "RS256", "n": RSA_KEY, "e": "AQAB" }] });
        let issuers = made(&configured(jwks, None)).unwrap();
        assert!(holds(&issuers, RSA_TOKEN));
        for at in (0..RSA_TOKEN.len()).step_by(11) {
            let mut changed = RSA_TOKEN.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(changed == RSA_TOKEN || !holds(&issuers, &changed), "byte {at}");
        }
    }

    #[test]
    fn the_audience_is_configured_or_known_or_nothing_holds() {
        let issuer = TestIssuer::new();
        let token = issuer.token(&claims());
        let unknown = made(&configured(issuer.jwks(), None)).unwrap();
        assert!(verified(&unknown, &token, &[]).is_none());
        let known = made(&configured(issuer.jwks(), Some(AUDIENCE))).unwrap();
        assert!(verified(&known, &token, &[]).is_some());
    }

    #[test]
    fn an_unusable_issuer_is_named() {
        let jwks = TestIssuer::new().jwks();
        let changed = |change: fn(&mut IssuerConfig)| {
            let mut config = configured(jwks.clone(), None);
            change(&mut config[0]);
            config
        };
        let fetched = |change: fn(&mut IssuerConfig)| {
            let mut config = configured(jwks.clone(), None);
            config[0].jwks = None;
            change(&mut config[0]);
            config
        };
        let twice = [configured(jwks.clone(), None), configured(jwks.clone(), Some("x"))].concat();
        for (config, why) in [
            (configured(json!({ "keys": [] }), None), "no RSA or P-256 key"),
            (configured(json!("https://ci.example.com/jwks"), None), "no JWKS document"),
            (configured(json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0" }] }), None), "no RSA or P-256 key"),
            (changed(|one| one.kind = String::new()), "needs a `type`"),
            (changed(|one| one.issuer = "ci.example.com".to_owned()), "is no URL"),
            (twice, "twice"),
            (fetched(|one| one.issuer = "https://".to_owned()), "is no URL"),
            (fetched(|one| one.issuer = "https://ci.example.com/?x".to_owned()), "`jwksUrl`"),
            (fetched(|one| one.issuer = "http://ci.example.com".to_owned()), "https"),
            (fetched(|one| one.issuer = "http://127.0.0.1:8080".to_owned()), "allowPrivateAddresses"),
            (fetched(|one| one.jwks_url = Some("keys.json".to_owned())), "is no URL"),
            (fetched(|one| one.jwks_url = Some("http://ci.example.com/keys".to_owned())), "https"),
            (
                fetched(|one| one.jwks_url = Some("https://user:word@ci.example.com/keys".to_owned())),
                "password",
            ),
            (
                fetched(|one| {
                    one.issuer = "http://ci.example.com".to_owned();
                    one.allow_private_addresses = Some(true);
                }),
                "https",
            ),
        ] {
            let error = made(&config).err().unwrap_or_else(|| panic!("{config:?}"));
            assert!(error.message().starts_with("option `auth.trustedIssuers`: "), "{error}");
            assert!(error.message().contains(why), "{why}: {error}");
        }
        for good in [
            fetched(|_| {}),
            fetched(|one| one.issuer = "https://ci.example.com/group/".to_owned()),
            fetched(|one| one.jwks_url = Some("https://keys.example.com/keys?of=ci".to_owned())),
            fetched(|one| {
                one.issuer = "http://localhost:8080".to_owned();
                one.allow_private_addresses = Some(true);
            }),
            // Its own keys stand there, so nobody is asked.
            changed(|one| one.jwks_url = Some("nowhere".to_owned())),
        ] {
            assert!(made(&good).is_ok(), "{good:?}");
        }
    }
}
