//! A JWKS document (RFC 7517), and which of its keys a token is checked with.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use serde::Deserialize;
use serde_json::Value;

use crate::core::error::{Error, Result};

/// What a token may be signed with: what build services use. The header only chooses among these, never brings a key.
pub(in crate::auth) const ALGORITHMS: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];

/// The public keys of an issuer.
pub(in crate::auth) struct KeySet(Vec<Key>);

/// One of them.
pub(in crate::auth) struct Key {
    id: Option<String>,
    pub(in crate::auth) algorithm: Algorithm,
    pub(in crate::auth) decoding: DecodingKey,
}

/// Keys of a kind that we don't know are passed over one by one (RFC 7517, section 5), so none is read before it is looked at.
#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

impl KeySet {
    /// # Errors
    /// It is no JWKS document, or has no key that is of use.
    pub(super) fn read(document: &Value) -> Result<Self> {
        let document = Jwks::deserialize(document)
            .map_err(|error| Error::invalid(format!("is no JWKS document: {error}")))?;
        let keys: Vec<Key> = document
            .keys
            .iter()
            .filter_map(|key| Jwk::deserialize(key).ok())
            .filter_map(|jwk| usable(&jwk))
            .collect();
        if keys.is_empty() {
            return Err(Error::invalid("has no RSA or P-256 key to check signatures with"));
        }
        Ok(Self(keys))
    }

    /// How many keys a document lists, of use or not.
    pub(super) fn listed(document: &Value) -> usize {
        document.get("keys").and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// Whether there is a key of this name. A token that names none does not ask for a new one.
    pub(super) fn knows(&self, id: Option<&str>) -> bool {
        id.is_none_or(|id| self.0.iter().any(|key| key.id.as_deref() == Some(id)))
    }

    /// The key that a token names; one that names none is only taken where there is no choice.
    pub(in crate::auth) fn get(&self, header: &Header) -> Option<&Key> {
        let id = header.kid.as_deref();
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.algorithm == header.alg && (id.is_none() || key.id.as_deref() == id));
        let first = fitting.next()?;
        (id.is_some() || fitting.next().is_none()).then_some(first)
    }
}

fn usable(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    let common = &jwk.common;
    let signs = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|list| list.contains(&KeyOperations::Verify));
    let named = common.key_algorithm.as_ref().map(ToString::to_string);
    let fits = named.is_none_or(|name| name == format!("{algorithm:?}"));
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    (signs && fits).then(|| Key { id: common.key_id.clone(), algorithm, decoding })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::TestIssuer;

    #[test]
    fn what_a_key_is_for_is_heeded_and_what_nobody_knows_passed_over() {
        let key = TestIssuer::new().jwk();
        let with = |name: &str, value: Value| {
            let mut key = key.clone();
            key[name] = value;
            key
        };
        let read = |keys: Value| KeySet::read(&json!({ "keys": keys }));
        for bad in [
            with("use", json!("enc")),
            with("alg", json!("RS256")),
            with("alg", json!("ES384")),
            with("alg", json!("something new")),
            with("key_ops", json!(["sign"])),
            with("crv", json!("P-384")),
            with("kty", json!("something new")),
            json!("no key at all"),
        ] {
            assert!(read(json!([bad])).is_err(), "{bad}");
            assert_eq!(read(json!([bad, key])).unwrap().0.len(), 1, "{bad}");
        }
        for good in [with("use", Value::Null), with("alg", Value::Null), with("key_ops", json!(["verify"]))] {
            assert!(read(json!([good])).is_ok(), "{good}");
        }
        let set = read(json!([key])).unwrap();
        assert!(set.knows(Some("one")) && set.knows(None) && !set.knows(Some("two")) && !set.knows(Some("")));
    }
}
