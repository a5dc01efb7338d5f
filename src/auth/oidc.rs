//! Identity tokens of build services (OpenID Connect): signed by an issuer whose keys stand in the configuration.

use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::Auth;
use super::jwt;
use crate::config::IssuerConfig;
use crate::core::error::{Error, Result};
use crate::core::secret::Secret;
use crate::core::time::{Clock, Timestamp};

/// How far the issuer's clock and ours may be apart.
const LEEWAY: Duration = Duration::from_mins(1);
/// Longer texts are not looked at.
const MAX_LENGTH: usize = 16 << 10;
/// What a token may be signed with: what build services use. The header only chooses among these, never brings a key.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];

/// Issuers that are believed.
#[derive(Default)]
pub(super) struct Issuers(Vec<Issuer>);

struct Issuer {
    url: String,
    kind: String,
    audience: Option<String>,
    keys: Vec<Key>,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
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
    /// Reads the configured issuers.
    ///
    /// # Errors
    /// One without a usable key.
    pub(super) fn new(configured: &[IssuerConfig]) -> Result<Self> {
        jwt::install();
        configured.iter().map(Issuer::new).collect::<Result<_>>().map(Self)
    }

    /// The token, if a configured issuer has signed it for the audience and it is in its time.
    pub(super) fn verify(&self, token: &Secret, audiences: &[String], clock: &Clock) -> Option<IdToken> {
        let text = token.expose();
        if text.len() > MAX_LENGTH {
            return None;
        }
        let header = jsonwebtoken::decode_header(text).ok().filter(|header| header.crit.is_none())?;
        let unproven = jsonwebtoken::dangerous::insecure_decode::<Map<String, Value>>(text).ok()?;
        // Only to find the keys; the signature says whether it is true.
        let named = unproven.claims.get("iss")?.as_str()?;
        let issuer = self.0.iter().find(|issuer| issuer.url == named)?;
        let audiences = issuer.audience.as_ref().map_or(audiences, std::slice::from_ref);
        if audiences.is_empty() {
            return None;
        }
        let key = issuer.key(header.kid.as_deref(), header.alg)?;
        let mut validation = Validation::new(key.algorithm);
        validation.set_audience(audiences);
        validation.set_issuer(&[&issuer.url]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        // Time is checked below, with the registry's own clock.
        validation.validate_exp = false;
        let claims =
            jsonwebtoken::decode::<Map<String, Value>>(text, &key.decoding, &validation).ok()?.claims;
        in_time(&claims, clock.now()).then(|| IdToken { kind: issuer.kind.clone(), claims })
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
    fn new(config: &IssuerConfig) -> Result<Self> {
        let url = &config.issuer;
        let wrong = |why: String| Error::invalid(format!("option `auth.trustedIssuers`: {why}"));
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(wrong(format!("the issuer `{url}` is no URL")));
        }
        if config.kind.is_empty() {
            return Err(wrong(format!(
                "the issuer `{url}` needs a `type`: github, gitlab, circleci or a name of your own"
            )));
        }
        let Some(set) = &config.jwks else {
            return Err(wrong(format!(
                "the keys of `{url}` are missing: put its JWKS document into `jwks`; fetching it by URL is not built yet"
            )));
        };
        let set: JwkSet = serde_json::from_value(set.clone())
            .map_err(|error| wrong(format!("`jwks` of `{url}` is no JWKS document: {error}")))?;
        let keys: Vec<Key> = set.keys.iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err(wrong(format!("`jwks` of `{url}` has no RSA or P-256 key to check signatures with")));
        }
        Ok(Self { url: url.clone(), kind: config.kind.clone(), audience: config.audience.clone(), keys })
    }

    /// The key that a token names; one that names none is only taken where there is no choice.
    fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id));
        let first = fitting.next()?;
        (id.is_some() || fitting.next().is_none()).then_some(first)
    }
}

fn usable(jwk: &Jwk) -> Option<Key> {
    use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve};
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let named = jwk.common.key_algorithm.as_ref().map(ToString::to_string);
    let fits =
        named.is_none_or(|name| ALGORITHMS.iter().any(|one| *one == algorithm && name == format!("{one:?}")));
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    (signs && fits).then(|| Key { id: jwk.common.key_id.clone(), algorithm, decoding })
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
    pub fn verify_id_token(&self, token: &Secret, audiences: &[String]) -> Option<IdToken> {
        self.issuers.verify(token, audiences, &self.clock)
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

    pub(crate) struct TestIssuer(EcdsaKeyPair);

    impl TestIssuer {
        pub(crate) fn new() -> Self {
            let random = SystemRandom::new();
            let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap())
        }

        pub(crate) fn jwks(&self) -> Value {
            let (x, y) = self.0.public_key().as_ref().split_at(1).1.split_at(32);
            let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
            json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "alg": "ES256", "x": x, "y": y }] })
        }

        pub(crate) fn token(&self, claims: &Value) -> String {
            self.token_with(&json!({ "alg": "ES256", "typ": "JWT", "kid": "one" }), claims)
        }

        pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let message = format!("{}.{}", part(header), part(claims));
            let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hmac::{Hmac, KeyInit, Mac};
    use serde_json::{Value, json};
    use sha2::Sha256;

    use super::testing::TestIssuer;
    use super::{Clock, IssuerConfig, Issuers, Secret, Timestamp};

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
        vec![IssuerConfig { issuer, kind, audience: audience.map(str::to_owned), jwks: Some(jwks) }]
    }

    fn holds(issuers: &Issuers, token: &str) -> bool {
        let clock = Clock::manual(Timestamp::from_millis(NOW * 1000));
        issuers.verify(&Secret::new(token), &[AUDIENCE.to_owned()], &clock).is_some()
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
        let issuers = Issuers::new(&configured(issuer.jwks(), None)).unwrap();
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
        let issuers = Issuers::new(&configured(issuer.jwks(), None)).unwrap();
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
        let issuers = Issuers::new(&configured(jwks, None)).unwrap();
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
        let clock = Clock::manual(Timestamp::from_millis(NOW * 1000));
        let token = Secret::new(issuer.token(&claims()));
        let unknown = Issuers::new(&configured(issuer.jwks(), None)).unwrap();
        assert!(unknown.verify(&token, &[], &clock).is_none());
        let known = Issuers::new(&configured(issuer.jwks(), Some(AUDIENCE))).unwrap();
        assert!(known.verify(&token, &[], &clock).is_some());
    }

    #[test]
    fn an_unusable_issuer_is_named() {
        let jwks = TestIssuer::new().jwks();
        let mut bad = vec![
            configured(json!({ "keys": [] }), None),
            configured(json!("https://ci.example.com/jwks"), None),
            configured(json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0" }] }), None),
            configured(jwks.clone(), None),
            configured(jwks.clone(), None),
            configured(jwks, None),
        ];
        bad[3][0].jwks = None;
        bad[4][0].kind = String::new();
        bad[5][0].issuer = "ci.example.com".to_owned();
        for config in bad {
            let error = Issuers::new(&config).err().unwrap();
            assert!(error.message().contains("auth.trustedIssuers"), "{error}");
        }
    }
}
