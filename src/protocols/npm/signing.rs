//! The registry's own signatures: each version's name and hash, signed by a key that the bucket holds or the configuration gives.
//!
//! Keys are one small document. It is made through compare-and-swap, so that any number of processes that start at once agree on one key.
//! A key that is replaced stays in the list with the time until which its signatures count, a day after the new one came: by then every
//! process has noticed.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::not_found;
use super::json::ObjectWriter;
use super::keys;
use super::model::Release;
use super::name::PackageName;
use super::options;
use super::proxy;
use crate::core::ecdsa::KeyPairP256;
use crate::core::secret::Secret;
use crate::core::time::Timestamp;
use crate::protocols::prelude::*;

/// What the manifest of a signed version has.
const MARK: &[u8] = b"\"signatures\":[";
/// How npm calls this kind of key.
const KIND: &str = "ecdsa-sha2-nistp256";
/// How long a process signs with a key before it looks whether that is still the one.
const RECHECK: Duration = Duration::from_hours(1);
/// How long a key that was replaced still counts for what is published.
const OVERLAP: Duration = Duration::from_hours(24);

/// A key as the bucket has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredKey {
    keyid: String,
    /// The public half, DER in base64.
    key: String,
    /// The private half, PKCS#8 in base64; of a configured key there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private: Option<String>,
    created: String,
    #[serde(default)]
    expires: Option<String>,
}

/// Its private half is never printed.
impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredKey({}, expires {:?})", self.keyid, self.expires)
    }
}

/// All keys whose signatures are about; the one that signs has no end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SigningKeys {
    keys: Vec<StoredKey>,
}

impl JsonDocument for SigningKeys {
    const LIMIT: u64 = 1 << 20;
    const NAME: &'static str = "list of signing keys";
    const SECRET: bool = true;
}

impl SigningKeys {
    /// The key that signs now, if it is the wanted one: a configured key by its id, else one of our own that is not too old.
    fn active(&self, wanted: &Wanted, now: Timestamp) -> Option<&StoredKey> {
        self.keys.iter().find(|key| key.expires.is_none()).filter(|key| match wanted {
            Wanted::Configured(id) => key.keyid == *id,
            Wanted::Own(rotate) => {
                let created = Timestamp::parse_rfc3339(&key.created).unwrap_or_default();
                key.private.is_some() && rotate.is_none_or(|rotate| now.since(created) < rotate)
            }
        })
    }

    /// Makes `fresh` the key that signs, unless the document has one by now that will do.
    fn ensure(&mut self, fresh: &StoredKey, wanted: &Wanted, now: Timestamp) -> Edit<StoredKey> {
        if let Some(active) = self.active(wanted, now) {
            return Edit::Unchanged(active.clone());
        }
        for key in &mut self.keys {
            key.expires.get_or_insert_with(|| now.plus(OVERLAP).rfc3339());
        }
        // One that was in use before comes back.
        self.keys.retain(|key| key.keyid != fresh.keyid);
        self.keys.push(fresh.clone());
        Edit::Changed(fresh.clone())
    }
}

/// Which key is to sign.
#[derive(Debug, Clone)]
enum Wanted {
    /// The one of this id.
    Configured(String),
    /// One of our own, not older than this.
    Own(Option<Duration>),
}

/// A key that signs.
pub(crate) struct Signer {
    pair: KeyPairP256,
    id: String,
}

impl Signer {
    fn new(pair: KeyPairP256) -> Self {
        Self { id: pair.id(), pair }
    }

    /// `dist.signatures` of a version.
    pub(crate) fn signatures(&self, name: &PackageName, version: &str, integrity: &str) -> Result<Vec<u8>> {
        let signature = self.pair.sign(format!("{name}@{version}:{integrity}").as_bytes())?;
        let mut out = vec![b'['];
        let mut object = ObjectWriter::begin(&mut out);
        object.member("keyid", &self.id);
        object.member("sig", &STANDARD.encode(signature));
        object.end();
        out.push(b']');
        Ok(out)
    }
}

/// The signing of one registry.
pub(crate) struct Signing {
    enabled: bool,
    configured: Option<Arc<Signer>>,
    wanted: Wanted,
    /// The key in use, and when it was last found to be the right one.
    active: Mutex<Option<(Arc<Signer>, Timestamp)>>,
}

impl Signing {
    /// As the configuration says; the key in it has been checked.
    pub(crate) fn new(options: &options::Signing, enabled: bool) -> Self {
        let configured = options.private_key.as_ref().and_then(|pem| KeyPairP256::from_pem(pem).ok());
        let configured = configured.map(|pair| Arc::new(Signer::new(pair)));
        let rotate = options.rotate_days.map(|days| Duration::from_hours(24 * u64::from(days)));
        Self {
            enabled,
            wanted: configured
                .as_ref()
                .map_or(Wanted::Own(rotate), |signer| Wanted::Configured(signer.id.clone())),
            configured,
            active: Mutex::new(None),
        }
    }

    /// What signs now; `None` when signing is off. Nearly always from memory.
    pub(crate) async fn signer(&self, cx: &Cx) -> Result<Option<Arc<Signer>>> {
        if !self.enabled {
            return Ok(None);
        }
        let now = cx.clock.now();
        let known = self.active.lock().clone();
        if let Some((signer, _)) = known.filter(|(_, checked)| now.since(*checked) < RECHECK) {
            return Ok(Some(signer));
        }
        let key = self.key(cx, now).await?;
        let signer = match (&self.configured, key.private) {
            (Some(configured), _) => Arc::clone(configured),
            (None, Some(private)) => {
                let pair = KeyPairP256::from_base64(&Secret::new(private)).map_err(|error| {
                    Error::internal("the stored signing key can't be used").with_source(error)
                })?;
                Arc::new(Signer::new(pair))
            }
            (None, None) => return Err(Error::internal("the stored signing key has no private half")),
        };
        *self.active.lock() = Some((Arc::clone(&signer), now));
        Ok(Some(signer))
    }

    /// What signs the versions that came before the key did, or from another program; `None` if there are none.
    pub(crate) async fn for_unsigned(&self, cx: &Cx, releases: &[Release]) -> Result<Option<Arc<Signer>>> {
        let signed =
            |release: &Release| release.foreign || memchr::memmem::find(&release.manifest, MARK).is_some();
        if !self.enabled || releases.iter().all(signed) {
            return Ok(None);
        }
        self.signer(cx).await
    }

    /// The key that is to sign, made now if there is none.
    async fn key(&self, cx: &Cx, now: Timestamp) -> Result<StoredKey> {
        let place = keys::signing()?;
        let loaded: Option<Arc<Loaded<SigningKeys>>> = cx.objects.document(&place).await?;
        if let Some(active) = loaded.as_ref().and_then(|loaded| loaded.document.active(&self.wanted, now)) {
            return Ok(active.clone());
        }
        let (signer, private) = if let Some(configured) = &self.configured {
            (Arc::clone(configured), None)
        } else {
            let private = KeyPairP256::generate()?;
            (Arc::new(Signer::new(KeyPairP256::from_base64(&private)?)), Some(private.expose().to_owned()))
        };
        let fresh = StoredKey {
            keyid: signer.id.clone(),
            key: STANDARD.encode(signer.pair.public_key()),
            private,
            created: now.rfc3339(),
            expires: None,
        };
        let wanted = self.wanted.clone();
        let change = move |list: &mut SigningKeys| Ok(list.ensure(&fresh, &wanted, now));
        cx.objects.update(&place, &ObjectInfo::default(), change).await
    }
}

/// `GET /-/npm/v1/keys`. Without keys 404, which clients take for a registry that doesn't sign.
pub(crate) async fn get_keys(signing: &Signing, cx: &Cx) -> Result<Response> {
    // Makes the key that signs, if there is none yet.
    signing.signer(cx).await?;
    // What was signed before signing was switched off is still checked.
    let loaded: Option<Arc<Loaded<SigningKeys>>> = cx.objects.document(&keys::signing()?).await?;
    let mut list: Vec<_> = loaded.iter().flat_map(|loaded| loaded.document.keys.iter().map(public)).collect();
    // Packages of upstreams are signed by those. Nobody's key stands in for one of ours.
    for key in proxy::signing_keys(cx).await? {
        if !list.iter().any(|own| own.get("keyid") == key.get("keyid")) {
            list.push(key);
        }
    }
    if list.is_empty() {
        return Err(not_found());
    }
    Ok(Response::json(StatusCode::OK, &json!({ "keys": list }))
        .static_header(header::CACHE_CONTROL, "public, max-age=300"))
}

/// A key as everybody may see it.
fn public(key: &StoredKey) -> serde_json::Value {
    json!({ "expires": key.expires, "keyid": key.keyid, "keytype": KIND, "scheme": KIND, "key": key.key })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, private: bool, created: Timestamp) -> StoredKey {
        StoredKey {
            keyid: id.to_owned(),
            key: String::new(),
            private: private.then(String::new),
            created: created.rfc3339(),
            expires: None,
        }
    }

    #[test]
    fn one_key_signs_and_those_before_it_end() {
        let start = Timestamp::from_millis(1_790_000_000_000);
        let own = Wanted::Own(Some(Duration::from_hours(48)));
        let mut list = SigningKeys::default();
        let first = key("a", true, start);
        assert_eq!(list.ensure(&first, &own, start), Edit::Changed(first.clone()));
        // Another process comes with a key of its own, too late.
        assert_eq!(list.ensure(&key("b", true, start), &own, start), Edit::Unchanged(first));
        let later = start.plus(Duration::from_hours(48));
        let second = key("b", true, later);
        assert_eq!(list.ensure(&second, &own, later), Edit::Changed(second));
        assert_eq!(list.keys[0].expires.as_deref(), Some(later.plus(OVERLAP).rfc3339().as_str()));
        let configured = Wanted::Configured("c".to_owned());
        let third = key("c", false, later);
        assert_eq!(list.ensure(&third, &configured, later), Edit::Changed(third.clone()));
        assert_eq!(list.ensure(&third, &configured, later), Edit::Unchanged(third));
        // Without the configuration its private half is nowhere: one of our own again.
        let fourth = key("d", true, later);
        assert_eq!(list.ensure(&fourth, &own, later), Edit::Changed(fourth));
        assert_eq!(list.keys.iter().filter(|key| key.expires.is_none()).count(), 1);
        assert_eq!(SigningKeys::parse(&Document::serialize(&list).unwrap()).unwrap(), list);
    }
}
