//! OCI bearer tokens: JSON Web Tokens signed with HS256, carrying the unified scopes and the `access` claim that any other
//! distribution registry with the same secret understands (<https://distribution.github.io/distribution/spec/auth/jwt/>).

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey, Header, Validation,
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::AuthToken;
use super::records::Origin;
use super::scope::{Action, Scope};
use crate::core::error::{Error, Result};
use crate::core::id;
use crate::core::secret::Secret;
use crate::core::time::{Clock, Timestamp};

/// How far the clocks of two machines may be apart.
const LEEWAY: Duration = Duration::from_mins(1);
/// The protocol whose tokens these are.
pub(super) const PROTOCOL: &str = "oci";
/// Longer texts are not looked at, as in [`super::credentials`].
const MAX_LENGTH: usize = 16 << 10;
/// Longer ones are not issued: with them the headers of a request would not fit where 16 KiB are the limit, as in Node.
pub(super) const MAX_ISSUED: usize = 12 << 10;
/// Kind of the scopes, in tokens for the catalog, that say what it shows: such a token names no repository, and its user may pull from some.
pub(crate) const LISTING: &str = "listing";

/// Signs and checks the tokens of one registry.
pub(super) struct Jwt {
    sign: EncodingKey,
    verify: DecodingKey,
    validation: Validation,
    service: String,
    clock: Clock,
}

/// What a text turned out to be.
pub(super) enum Verdict {
    /// Signed with our secret for this service, and in its time. Whether it was revoked is another question.
    Good(Box<Verified>),
    /// Signed with our secret for this service, but expired or not valid yet.
    OutOfTime,
    /// Not ours: somebody else may know it.
    Foreign,
}

/// What to put into a token.
pub(super) struct Grant<'a> {
    /// Empty: anonymous.
    pub(super) user: &'a str,
    pub(super) scopes: &'a [String],
    pub(super) lifetime: Duration,
    /// The id of the signed token that this one is made from: they are revoked together.
    pub(super) id: Option<String>,
    /// What it hangs on, if it was made for a login.
    pub(super) origin: Option<Origin>,
    /// Networks it may be used from; anywhere if empty.
    pub(super) cidr: Vec<String>,
}

/// A token that holds.
pub(super) struct Verified {
    pub(super) token: AuthToken,
    /// What must still stand for it to be good.
    pub(super) origin: Option<Origin>,
    pub(super) cidr: Vec<String>,
    /// What a revocation names.
    pub(super) id: String,
    /// When the token is of no more use, leeway for a foreign clock included.
    pub(super) ends: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(default)]
    iss: String,
    #[serde(default)]
    sub: String,
    aud: serde_json::Value,
    exp: NumericDate,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<NumericDate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<NumericDate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(default)]
    access: Vec<Access>,
    /// Ours, where `access` does not say the same: a token has to fit into a header. A foreign token server with our secret sends `access` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    /// Ours: the token or password that this one ends with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    /// Ours: the networks of the token that it was made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cidr: Vec<String>,
}

/// Seconds since the epoch. Written whole, since Go's parsers want an integer; read with a fraction too, as RFC 7519 allows.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(from = "f64", into = "i64")]
struct NumericDate(Timestamp);

impl From<f64> for NumericDate {
    fn from(seconds: f64) -> Self {
        // `as` saturates.
        Self(Timestamp::from_millis((seconds * 1000.0) as i64))
    }
}

impl From<NumericDate> for i64 {
    fn from(date: NumericDate) -> Self {
        date.0.as_secs()
    }
}

#[derive(Serialize, Deserialize)]
struct Access {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl Jwt {
    /// With the registry's secret; `service` is the audience.
    pub(super) fn new(secret: &Secret, service: String, clock: Clock) -> Self {
        install();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[&service]);
        validation.set_required_spec_claims(&["exp", "aud"]);
        // Time is checked below, with the registry's own clock.
        validation.validate_exp = false;
        Self {
            sign: EncodingKey::from_secret(secret.expose().as_bytes()),
            verify: DecodingKey::from_secret(secret.expose().as_bytes()),
            validation,
            service,
            clock,
        }
    }

    /// The audience of the tokens.
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// A token.
    pub(super) fn sign(&self, grant: Grant<'_>) -> Result<Secret> {
        let now = self.clock.now();
        let access = access(grant.scopes);
        let scopes = (unified(&access) != grant.scopes).then(|| grant.scopes.to_vec());
        let claims = Claims {
            iss: self.service.clone(),
            sub: grant.user.to_owned(),
            aud: self.service.clone().into(),
            exp: NumericDate(now.plus(grant.lifetime)),
            nbf: Some(NumericDate(now)),
            iat: Some(NumericDate(now)),
            jti: Some(grant.id.unwrap_or_else(id::uuid)),
            access,
            scopes,
            origin: grant.origin,
            cidr: grant.cidr,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.sign)
            .map(Secret::new)
            .map_err(|error| Error::internal("an OCI token could not be signed").with_source(error))
    }

    /// Whether a text has the form of such a token at all.
    pub(super) fn looks_like(text: &str) -> bool {
        text.len() <= MAX_LENGTH
            && text.starts_with("eyJ")
            && text.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Checks signature, algorithm, audience and time. The algorithm is ours to say, never the header's; keys that come inside the token
    /// are not looked at.
    pub(super) fn verify(&self, token: &Secret) -> Verdict {
        let text = token.expose();
        if !Self::looks_like(text) {
            return Verdict::Foreign;
        }
        let Ok(data) = jsonwebtoken::decode::<Claims>(text, &self.verify, &self.validation) else {
            return Verdict::Foreign;
        };
        // A critical extension that is not understood makes the token invalid (RFC 7515, section 4.1.11).
        if data.header.crit.is_some() {
            return Verdict::Foreign;
        }
        let claims = data.claims;
        let now = self.clock.now();
        let expires = claims.exp.0;
        // A token of ours says when it ends; only the clock of somebody else who signs with our secret may differ.
        let ends = if claims.iss == self.service { expires } else { expires.plus(LEEWAY) };
        let early = claims.nbf.or(claims.iat).is_some_and(|start| start.0 > now.plus(LEEWAY));
        if ends <= now || early {
            return Verdict::OutOfTime;
        }
        let id = claims.jti.clone().unwrap_or_else(|| digest_of_message(text));
        let mut metadata = Map::from_iter([("jti".to_owned(), json!(id))]);
        metadata.extend((!claims.cidr.is_empty()).then(|| ("cidr".to_owned(), json!(claims.cidr))));
        metadata.extend(claims.origin.iter().map(|origin| ("origin".to_owned(), json!(origin))));
        let token = AuthToken {
            kind: Some(PROTOCOL.to_owned()),
            user_id: claims.sub,
            scopes: claims.scopes.unwrap_or_else(|| unified(&claims.access)),
            readonly: false,
            expires_at: Some(expires),
            metadata: Some(Value::Object(metadata)),
        };
        Verdict::Good(Box::new(Verified { token, origin: claims.origin, cidr: claims.cidr, id, ends }))
    }
}

/// What a revocation names in a token without an id: the part that is signed, since it has one spelling only.
fn digest_of_message(text: &str) -> String {
    let message = text.rsplit_once('.').map_or(text, |(message, _)| message);
    hex::encode(Sha256::digest(message.as_bytes()))
}

/// The `access` claim that says the same as the unified scopes about OCI. What lists show is nothing that other registries know.
fn access(scopes: &[String]) -> Vec<Access> {
    let mut list: Vec<Access> = Vec::new();
    let parsed = scopes.iter().filter_map(|text| Scope::parse(text));
    for scope in parsed.filter(|scope| scope.covers(PROTOCOL) && scope.kind != LISTING) {
        let kind = if scope.kind == "*" { "repository" } else { scope.kind };
        let actions: &[&str] = match scope.action {
            Action::Any if kind == "repository" => &["pull", "push", "delete"],
            Action::Any | Action::Admin => &["*"],
            Action::Read | Action::Pull => &["pull"],
            Action::Write | Action::Push => &["pull", "push"],
            Action::Delete => &["delete"],
        };
        let at =
            list.iter().position(|one| one.kind == kind && one.name == scope.name).unwrap_or_else(|| {
                list.push(Access { kind: kind.to_owned(), name: scope.name.to_owned(), actions: Vec::new() });
                list.len() - 1
            });
        if let Some(one) = list.get_mut(at) {
            let new: Vec<_> =
                actions.iter().filter(|new| !one.actions.iter().any(|have| have == *new)).collect();
            one.actions.extend(new.into_iter().map(|new| (*new).to_owned()));
        }
    }
    list
}

/// The unified scopes that say the same as a foreign `access` claim.
fn unified(access: &[Access]) -> Vec<String> {
    access
        .iter()
        .flat_map(|one| {
            // `repository(plugin)` is a repository.
            let kind = one.kind.split('(').next().unwrap_or_default();
            one.actions.iter().map(move |action| format!("{PROTOCOL}:{kind}:{}:{action}", one.name))
        })
        .collect()
}

/// Gives the JWT crate its cryptography: a table of functions for the whole process. It is the same for all registries, and an `Err`
/// means that it stands already.
pub(super) fn install() {
    let _ = CRYPTOGRAPHY.install_default();
}

/// Ours are signed with HMAC from the crates that the rest of the registry hashes with. Public keys are only checked against, by `ring`,
/// which TLS brings along; the providers that come with the JWT crate would bring RSA of their own.
static CRYPTOGRAPHY: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| match algorithm {
        Algorithm::HS256 => Ok(Box::new(Mac256::new(key.as_bytes())?)),
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    },
    verifier_factory: |algorithm, key| match (algorithm, key.kind()) {
        // A public key must never serve as a shared secret.
        (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) if key.family() == AlgorithmFamily::Hmac => {
            Ok(Box::new(Mac256::new(secret)?))
        }
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            Ok(Box::new(Rsa256(RsaPublicKeyComponents { n: n.clone(), e: e.clone() })))
        }
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) if key.family() == AlgorithmFamily::Ec => {
            Ok(Box::new(Ec256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.clone()))))
        }
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    },
    key_utils: KeyUtils::new_unimplemented(),
};

struct Mac256(Hmac<Sha256>);

impl Mac256 {
    fn new(key: &[u8]) -> jsonwebtoken::errors::Result<Self> {
        Hmac::new_from_slice(key).map(Self).map_err(|_| ErrorKind::InvalidKeyFormat.into())
    }
}

impl Signer<Vec<u8>> for Mac256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.0.clone().chain_update(message).finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Mac256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        // Compares in constant time.
        self.0.clone().chain_update(message).verify_slice(signature).map_err(SignatureError::from_source)
    }
}

impl JwtSigner for Mac256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Mac256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

/// An RSA public key, of 2048 to 8192 bits.
struct Rsa256(RsaPublicKeyComponents<Vec<u8>>);

impl Verifier<Vec<u8>> for Rsa256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        self.0.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for Rsa256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}

/// A point on P-256.
struct Ec256(UnparsedPublicKey<Vec<u8>>);

impl Verifier<Vec<u8>> for Ec256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        self.0.verify(message, signature).map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for Ec256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::crypto::JwtSigner;
    use serde_json::{Value, json};

    use super::{Grant, Jwt, Mac256, Verdict, Verified};
    use crate::core::secret::Secret;
    use crate::core::time::{Clock, Timestamp};
    use jsonwebtoken::signature::Signer;

    const NOW: i64 = 1_790_000_000;

    fn jwt() -> (Jwt, Clock) {
        let clock = Clock::manual(Timestamp::from_millis(NOW * 1000));
        (Jwt::new(&Secret::new("secret"), "my-registry".to_owned(), clock.clone()), clock)
    }

    /// A token of one's own making.
    fn forge(secret: &str, header: &Value, claims: &Value) -> Secret {
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mac = Mac256::new(secret.as_bytes()).unwrap();
        assert_eq!(mac.algorithm(), jsonwebtoken::Algorithm::HS256);
        Secret::new(format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.sign(message.as_bytes()))))
    }

    fn hs256() -> Value {
        json!({ "alg": "HS256", "typ": "JWT" })
    }

    fn claims() -> Value {
        json!({ "iss": "x", "sub": "bob", "aud": "my-registry", "exp": NOW + 300, "nbf": NOW, "iat": NOW, "jti": "j" })
    }

    fn good(verdict: Verdict) -> Verified {
        match verdict {
            Verdict::Good(verified) => *verified,
            Verdict::OutOfTime => panic!("out of time"),
            Verdict::Foreign => panic!("foreign"),
        }
    }

    fn grant(scopes: &[String], lifetime: Duration) -> Grant<'_> {
        Grant { user: "bob", scopes, lifetime, id: None, origin: None, cidr: Vec::new() }
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    #[test]
    fn carries_scopes_and_the_claims_of_other_registries() {
        let (jwt, _) = jwt();
        let scopes = vec![
            "oci:repository:a/b:push".to_owned(),
            "oci:repository:a/b:delete".to_owned(),
            "oci:registry:catalog:*".to_owned(),
            "npm:package:x:read".to_owned(),
        ];
        let token = jwt.sign(grant(&scopes, Duration::from_mins(5))).unwrap();
        let payload = token.expose().split('.').nth(1).unwrap();
        let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        assert_eq!(
            payload["access"],
            json!([
                { "type": "repository", "name": "a/b", "actions": ["pull", "push", "delete"] },
                { "type": "registry", "name": "catalog", "actions": ["*"] },
            ])
        );
        assert_eq!(payload["aud"], "my-registry");
        assert_eq!(payload["iss"], "my-registry");
        assert_eq!(payload["exp"].as_f64().unwrap() as i64, NOW + 300);
        assert_eq!(payload["nbf"].as_f64().unwrap() as i64, NOW);
        let verified = good(jwt.verify(&token));
        assert_eq!(verified.token.user_id, "bob");
        assert_eq!(verified.token.scopes, scopes);
        assert_eq!(payload["jti"], verified.id.as_str());
    }

    #[test]
    fn what_the_access_claim_says_is_not_said_twice() {
        let (jwt, _) = jwt();
        let claims = |scopes: &[&str]| {
            let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
            let token = jwt.sign(grant(&scopes, Duration::from_mins(5))).unwrap();
            assert_eq!(good(jwt.verify(&token)).token.scopes, scopes);
            let payload = token.expose().split('.').nth(1).unwrap();
            serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
        };
        let plain = [
            "oci:repository:a:pull",
            "oci:repository:a:push",
            "oci:repository:b:pull",
            "oci:registry:catalog:*",
        ];
        assert!(claims(&plain).get("scopes").is_none());
        assert!(claims(&[]).get("scopes").is_none());
        // Pushing alone is said with pulling in `access`, and what lists show is said nowhere else.
        assert!(claims(&["oci:repository:a:push"])["scopes"].is_array());
        let listing = claims(&["oci:registry:catalog:*", "oci:listing:team/*:pull"]);
        assert_eq!(listing["access"], json!([{ "type": "registry", "name": "catalog", "actions": ["*"] }]));
        assert!(listing["scopes"].is_array());
    }

    #[test]
    fn times_are_whole_numbers_for_parsers_that_want_integers() {
        let (jwt, _) = jwt();
        let token = jwt.sign(grant(&[], Duration::from_mins(5))).unwrap();
        let payload = token.expose().split('.').nth(1).unwrap();
        let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        assert!(payload["exp"].is_i64() && payload["iat"].is_i64() && payload["nbf"].is_i64(), "{payload}");
    }

    #[test]
    fn our_own_token_ends_when_it_says_and_a_foreign_one_with_a_minutes_leeway() {
        let (jwt, clock) = jwt();
        let own = jwt.sign(grant(&[], Duration::from_mins(5))).unwrap();
        let foreign = forge("secret", &hs256(), &claims());
        clock.advance(Duration::from_secs(299));
        assert!(good(jwt.verify(&own)).ends > clock.now());
        clock.advance(Duration::from_secs(1));
        assert!(matches!(jwt.verify(&own), Verdict::OutOfTime));
        clock.advance(Duration::from_secs(59));
        assert!(matches!(jwt.verify(&foreign), Verdict::Good(_)));
        clock.advance(Duration::from_secs(1));
        assert!(matches!(jwt.verify(&foreign), Verdict::OutOfTime));
        let (jwt, _) = self::jwt();
        let later = forge("secret", &hs256(), &with("nbf", json!(NOW + 61)));
        assert!(matches!(jwt.verify(&later), Verdict::OutOfTime));
        let soon = forge("secret", &hs256(), &with("nbf", json!(NOW + 59)));
        assert!(matches!(jwt.verify(&soon), Verdict::Good(_)));
    }

    #[test]
    fn a_foreign_token_server_with_our_secret_is_understood() {
        let (jwt, _) = jwt();
        let claims = json!({
            "sub": "bob", "aud": ["other", "my-registry"], "exp": NOW + 300,
            "access": [{ "type": "repository(plugin)", "name": "a/b", "actions": ["pull", "push"] }],
        });
        let verified = good(jwt.verify(&forge("secret", &hs256(), &claims)));
        assert_eq!(verified.token.scopes, ["oci:repository:a/b:pull", "oci:repository:a/b:push"]);
        assert_eq!(verified.id.len(), 64);
    }

    #[test]
    fn what_is_not_signed_by_us_for_us_is_foreign() {
        let (jwt, _) = jwt();
        assert!(matches!(jwt.verify(&forge("secret", &hs256(), &claims())), Verdict::Good(_)));
        for (what, token) in [
            ("another secret", forge("other", &hs256(), &claims())),
            ("another audience", forge("secret", &hs256(), &with("aud", json!("elsewhere")))),
            ("no audience", forge("secret", &hs256(), &with("aud", Value::Null))),
            ("no end", forge("secret", &hs256(), &with("exp", Value::Null))),
            ("an end in words", forge("secret", &hs256(), &with("exp", json!("never")))),
            ("a start in words", forge("secret", &hs256(), &with("nbf", json!("0")))),
            ("another algorithm", forge("secret", &json!({ "alg": "HS512" }), &claims())),
            ("no algorithm", forge("secret", &json!({ "alg": "none" }), &claims())),
            ("a public-key algorithm", forge("secret", &json!({ "alg": "RS256" }), &claims())),
            (
                "an unknown critical extension",
                forge("secret", &json!({ "alg": "HS256", "crit": ["x"] }), &claims()),
            ),
            (
                "a key of its own",
                forge(
                    "other",
                    &json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": "b3RoZXI" } }),
                    &claims(),
                ),
            ),
        ] {
            assert!(matches!(jwt.verify(&token), Verdict::Foreign), "{what}");
        }
        for text in ["", "eyJ", "eyJ..", "a.b.c", &format!("eyJ.{}.x", "a".repeat(20_000))] {
            assert!(matches!(jwt.verify(&Secret::new(text)), Verdict::Foreign), "{text:.20}");
        }
    }

    #[test]
    fn a_changed_token_does_not_hold() {
        let (jwt, _) = jwt();
        let token = jwt.sign(grant(&[], Duration::from_mins(5))).unwrap();
        let text = token.expose();
        for at in (0..text.len()).step_by(7) {
            let mut changed = text.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = Secret::new(String::from_utf8(changed).unwrap());
            assert!(!matches!(jwt.verify(&changed), Verdict::Good(_)), "byte {at}");
        }
    }
}
