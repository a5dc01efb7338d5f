//! Fetches the keys of issuers for `auth`, by the one HTTP client.

use std::sync::OnceLock;

use async_trait::async_trait;

use crate::auth::{Document, KeySource, Lookup};
use crate::core::error::Result;
use crate::upstream::client::Client;

/// Asks issuers.
#[derive(Default)]
pub(super) struct IssuerKeys {
    /// Made when it is first needed: that reads the system's certificates, and to make a registry does no IO.
    client: OnceLock<Client>,
}

impl IssuerKeys {
    fn client(&self) -> Result<&Client> {
        match self.client.get() {
            Some(client) => Ok(client),
            None => Client::new().map(|client| self.client.get_or_init(|| client)),
        }
    }
}

#[async_trait]
impl KeySource for IssuerKeys {
    async fn fetch(&self, lookup: &Lookup) -> Result<Document> {
        let client = self.client()?.reaching_private(lookup.private);
        let (headers, bytes) = client.document(&lookup.url, &lookup.origin, lookup.limit).await?;
        Ok(Document { headers, bytes })
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::testing::upstream::{FakeUpstream, Reply};

    const LIMIT: u64 = 1000;

    async fn fetch(url: &str, origin: &str, private: Option<bool>) -> Result<Document> {
        let (url, origin) = (Url::parse(url).unwrap(), Url::parse(origin).unwrap());
        IssuerKeys::default().fetch(&Lookup { url, origin, private, limit: LIMIT }).await
    }

    #[tokio::test]
    async fn nobody_is_sent_into_the_private_network() {
        let (issuer, inside) = (FakeUpstream::start().await, FakeUpstream::start().await);
        inside.on("/keys", Reply::ok("{}"));
        issuer.on("/sent", Reply::redirect(&format!("{}/keys", inside.url)));
        let (named, sent) = (format!("{}/keys", inside.url), format!("{}/sent", issuer.url));
        // A public host, which is not asked itself, names one inside.
        let refused = fetch(&named, "https://1.1.1.1/", None).await.unwrap_err();
        assert!(refused.message().contains("private address"), "{refused}");
        // A redirect there.
        let refused = fetch(&sent, &issuer.url, Some(false)).await.unwrap_err();
        assert!(refused.message().contains("private address"), "{refused}");
        assert_eq!((issuer.count(), inside.count()), (1, 0));
        // Whoever is inside may name others there.
        for private in [None, Some(true)] {
            assert_eq!(fetch(&sent, &issuer.url, private).await.unwrap().bytes, "{}");
        }
    }

    #[tokio::test]
    async fn a_document_is_bounded_and_whole() {
        let issuer = FakeUpstream::start().await;
        let at = |path: &str| format!("{}{path}", issuer.url);
        issuer.on("/just", Reply::ok(vec![b'x'; 1000]).header("cache-control", "max-age=60"));
        issuer.on("/large", Reply::ok(vec![b'x'; 1001]));
        issuer.on("/cut", Reply::ok(vec![b'x'; 500]).length(900));
        issuer.on("/loop", Reply::redirect(&at("/loop")));
        issuer.on("/gone", Reply::new(410, "x"));
        let just = fetch(&at("/just"), &issuer.url, None).await.unwrap();
        assert_eq!((just.bytes.len(), just.headers["cache-control"].to_str().unwrap()), (1000, "max-age=60"));
        for (path, why) in [("/large", "limit"), ("/cut", ""), ("/loop", "redirects"), ("/gone", "410")] {
            let error = fetch(&at(path), &issuer.url, None).await.unwrap_err();
            assert!(error.kind().is_server_fault() && error.message().contains(why), "{path}: {error}");
        }
    }
}
