//! One webhook: what it wants to hear, and how it is told.
//!
//! Headers and signature are those of Standard Webhooks (<https://www.standardwebhooks.com>), for which every language has a library: the
//! signature is HMAC-SHA-256 over `id.timestamp.body`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, StatusCode, Uri, header};
use serde_json::json;
use sha2::Sha256;

use crate::config::WebhookConfig;
use crate::core::digest::Digest;
use crate::core::error::{Error, Result};
use crate::core::pattern::name_matches;
use crate::core::protocol_name::ProtocolName;
use crate::core::secret::Secret;
use crate::core::time::Timestamp;
use crate::index::Entry;
use crate::upstream::client::Client;

/// How long a receiver may take.
const LIMIT: Duration = Duration::from_secs(15);
/// Before a secret that is written in base64.
const ENCODED: &str = "whsec_";
/// Bytes of the hash that names a webhook.
const ID: usize = 16;

/// A webhook of the configuration, checked.
pub(super) struct Webhook {
    id: String,
    uri: Uri,
    secret: Option<Vec<u8>>,
    config: WebhookConfig,
}

impl Webhook {
    pub(super) fn new(config: &WebhookConfig) -> Result<Self> {
        let bad = |problem: &str| Error::invalid(format!("option `webhooks.url`: {problem}"));
        let uri: Uri = config.url.parse().map_err(|_| bad("this is no URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(bad("a URL begins with http:// or https:// and names a host"));
        }
        // Two that differ in what they want to hear are two, also at one URL.
        let (events, protocols, names) = (&config.events, &config.protocols, &config.names);
        let mut id =
            Digest::sha256(json!([config.url, events, protocols, names]).to_string().as_bytes()).hex();
        id.truncate(ID);
        let secret = config.secret.as_ref().map(key_of).transpose()?;
        Ok(Self { id, uri, secret, config: config.clone() })
    }

    /// Names its cursor.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Where it goes, for the log: the rest of the URL may be a secret.
    pub(super) fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    /// Whether it wants to hear of a protocol at all.
    pub(super) fn hears(&self, protocol: ProtocolName) -> bool {
        let protocols = &self.config.protocols;
        protocols.is_empty() || protocols.iter().any(|one| one == protocol.as_str())
    }

    pub(super) fn wants(&self, event: &Entry) -> bool {
        let WebhookConfig { events, names, .. } = &self.config;
        (events.is_empty() || events.contains(&event.event))
            && (names.is_empty() || names.iter().any(|pattern| name_matches(pattern, &event.name)))
    }

    /// Tells of one event; the receiver's status.
    pub(super) async fn send(
        &self,
        client: &Client,
        protocol: ProtocolName,
        event: &Entry,
        now: Timestamp,
    ) -> Result<StatusCode> {
        client.notify(self.request(protocol, event, now)?, LIMIT).await
    }

    fn request(&self, protocol: ProtocolName, event: &Entry, now: Timestamp) -> Result<Request<Bytes>> {
        let id = format!("{protocol}-{}-{}", event.time.as_millis(), event.serial);
        let body = json!({
            "type": format!("{protocol}.{}", event.event),
            "timestamp": event.time.rfc3339(),
            "data": {
                "protocol": protocol.as_str(), "event": event.event, "name": event.name, "version": event.version,
                "actor": event.actor, "serial": event.serial, "gone": event.gone,
            },
        })
        .to_string();
        let seconds = now.as_millis() / 1000;
        let mut request = Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("smartregistry-native/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &id)
            .header("webhook-timestamp", seconds);
        if let Some(secret) = &self.secret {
            request =
                request.header("webhook-signature", format!("v1,{}", sign(secret, &id, seconds, &body)?));
        }
        request
            .body(body.into())
            .map_err(|error| Error::internal("a webhook's request could not be made").with_source(error))
    }
}

/// The bytes of a secret, which may be written in base64.
fn key_of(secret: &Secret) -> Result<Vec<u8>> {
    let text = secret.expose();
    match text.strip_prefix(ENCODED) {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map_err(|_| Error::invalid("option `webhooks.secret`: what follows `whsec_` is no base64")),
        None => Ok(text.as_bytes().to_vec()),
    }
}

fn sign(secret: &[u8], id: &str, seconds: i64, body: &str) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret)
        .map_err(|error| Error::internal("a webhook's secret can't be used").with_source(error))?;
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    Ok(STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Change;

    fn hook(config: &str) -> Result<Webhook> {
        Webhook::new(&serde_json::from_str(config).unwrap())
    }

    #[test]
    fn signs_as_the_standard_has_it() {
        let key = key_of(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let signature = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature.unwrap(), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn hears_what_it_asked_for() {
        let all = hook(r#"{"url":"https://example.com/x"}"#).unwrap();
        let some =
            r#"{"url":"https://example.com/x","events":["publish"],"names":["@acme/*"],"protocols":["npm"]}"#;
        let some = hook(some).unwrap();
        let event = |name: &str, event: &str| {
            let change = Change { name: name.to_owned(), event: event.to_owned(), ..Change::default() };
            Entry::new(change, 7, Timestamp::from_millis(1_790_000_000_000), String::new())
        };
        for (name, kind, wanted) in
            [("@acme/widget", "publish", true), ("@acme/widget", "star", false), ("widget", "publish", false)]
        {
            assert!(all.wants(&event(name, kind)));
            assert_eq!(some.wants(&event(name, kind)), wanted, "{name} {kind}");
        }
        let (npm, oci) = (ProtocolName::new("npm"), ProtocolName::new("oci"));
        assert_ne!(all.id(), some.id(), "each has a cursor of its own");
        assert!(all.hears(oci) && some.hears(npm) && !some.hears(oci));
        let now = Timestamp::from_millis(1_790_000_001_000);
        let request = all.request(npm, &event("widget", "publish"), now).unwrap();
        assert_eq!(request.headers()["webhook-id"], "npm-1790000000000-7");
        assert_eq!(request.headers()["webhook-timestamp"], "1790000001");
        assert!(!request.headers().contains_key("webhook-signature"));
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!((&body["type"], &body["data"]["name"]), (&json!("npm.publish"), &json!("widget")));
    }

    #[test]
    fn what_can_not_work_is_refused() {
        for config in [
            r#"{"url":"nonsense"}"#,
            r#"{"url":"ftp://example.com"}"#,
            r#"{"url":"https://example.com","secret":"whsec_%%%"}"#,
        ] {
            assert!(hook(config).err().unwrap().message().starts_with("option `webhooks."), "{config}");
        }
    }
}
