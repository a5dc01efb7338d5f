//! The one HTTP client: HTTP/1.1 and h2, TLS by the system's roots, pooled connections, a limit on every wait, and no way from a public host
//! into the private network.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Proxy, RequestBuilder, Url};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::{Instant, timeout};

use super::failure::Failure;
use crate::core::body::ByteStream;
use crate::core::error::{Error, Kind, Result};
use crate::core::secret::Secret;
use crate::storage::Roots;

/// How long a connection may take to come about, unless somebody says otherwise.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_mins(1);
/// What is read of an answer that is only looked at for its status.
const GLANCE: u64 = 16 << 10;
/// Redirects that are followed for one request.
const REDIRECTS: usize = 5;
/// Bytes that must arrive in the span that may pass in silence: who sends one byte now and then holds a place for ever.
const TRICKLE: u64 = 4 << 10;
/// Who asks.
pub(super) const AGENT: &str = concat!("smartregistry-native/", env!("CARGO_PKG_VERSION"));

/// How a client reaches others.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    /// For a connection, for the head of an answer, for each silence in its body.
    pub(super) wait: Duration,
    pub(super) proxy: Option<Secret>,
    /// Whether hosts that the origin names may have private addresses.
    pub(super) private: Option<bool>,
    /// Whom to trust besides those whom the system trusts.
    pub(super) roots: Roots,
}

/// The client. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    open: reqwest::Client,
    /// Connects to public addresses only.
    guarded: reqwest::Client,
    wait: Duration,
    private: Option<bool>,
}

/// The head of an answer, and its body to come.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Fails if it stops, trickles or is cut.
    pub(super) body: ByteStream,
}

impl Client {
    /// A client without connections.
    ///
    /// # Errors
    /// The system has no root certificates.
    pub fn new() -> Result<Self> {
        Self::reaching(&Reach { wait: CONNECT, proxy: None, private: None, roots: Roots::default() }, &[])
    }

    /// `trusted`: the certificates of its [`Roots`], as PEM.
    pub(super) fn reaching(reach: &Reach, trusted: &[String]) -> Result<Self> {
        let tls = tls(trusted)?;
        let build = |guard: Option<Guard>| {
            let mut builder = reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(Policy::none())
                .user_agent(AGENT)
                .connect_timeout(reach.wait)
                .pool_idle_timeout(IDLE)
                .no_proxy();
            if let Some(guard) = guard {
                builder = builder.dns_resolver(Arc::new(guard));
            }
            if let Some(proxy) = &reach.proxy {
                let proxy =
                    Proxy::all(proxy.expose()).map_err(|_| Error::invalid("`proxy` is no URL of a proxy"))?;
                builder = builder.proxy(proxy);
            }
            builder
                .build()
                .map_err(|error| Error::internal("the HTTP client could not be made").with_source(error))
        };
        Ok(Self {
            open: build(None)?,
            guarded: build(Some(Guard))?,
            wait: reach.wait,
            private: reach.private,
        })
    }

    /// Sends a request and answers with the status; of the body as much is read as it takes to use the connection again. Redirects are not
    /// followed.
    ///
    /// # Errors
    /// No answer came within `limit`.
    pub async fn notify(&self, request: Request<Bytes>, limit: Duration) -> Result<StatusCode> {
        let exchange = async {
            let no_answer =
                |error: reqwest::Error| Error::unavailable("no answer came").with_source(error.without_url());
            let request = reqwest::Request::try_from(request).map_err(no_answer)?;
            let mut answer = self.open.execute(request).await.map_err(no_answer)?;
            let mut read = 0;
            // What is longer costs the connection, and nothing else.
            while let Ok(Some(chunk)) = answer.chunk().await
                && read < GLANCE
            {
                read += chunk.len() as u64;
            }
            Ok(answer.status())
        };
        timeout(limit, exchange)
            .await
            .map_err(|_| Error::unavailable(format!("no answer came within {} s", limit.as_secs())))?
    }

    /// Asks `url`, of which `own` says whether it is at the configured origin: only that is shown `secret` headers, and only that may be at a
    /// private address unless it says otherwise itself. Follows redirects.
    pub(super) async fn ask(
        &self,
        method: &Method,
        url: &Url,
        origin: &Url,
        headers: &HeaderMap,
        secret: &HeaderMap,
        body: Option<&Bytes>,
    ) -> Result<Answer, Failure> {
        let (mut url, mut method) = (url.clone(), method.clone());
        for _ in 0..=REDIRECTS {
            let at_home = same_origin(&url, origin);
            let anywhere = at_home || self.may_be_private(origin).await;
            if !anywhere && has_private_address(&url) {
                return Err(Failure::Strayed(format!("{} is a private address", host(&url))));
            }
            let client = if anywhere { &self.open } else { &self.guarded };
            let mut request = client.request(method.clone(), url.clone()).headers(headers.clone());
            if at_home {
                request = request.headers(secret.clone());
            }
            if let Some(body) = body.filter(|_| method == Method::POST) {
                request = request.body(body.clone());
            }
            let answer = timeout(self.wait, persisting(&method, request))
                .await
                .map_err(|_| Failure::Silent(self.wait))??;
            let Some(next) = next_of(&answer, &url)? else { return Ok(self.open_answer(answer)) };
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(Failure::Strayed(format!("{} redirects to an unencrypted address", host(&url))));
            }
            if answer.status() == StatusCode::SEE_OTHER {
                method = Method::GET;
            }
            url = next;
        }
        Err(Failure::Strayed(format!("{} redirects more than {REDIRECTS} times", host(origin))))
    }

    /// The same client, for which it is settled whether hosts that an origin names may have private addresses; by default if its own host
    /// has one.
    #[must_use]
    pub fn reaching_private(&self, private: Option<bool>) -> Self {
        Self { private, ..self.clone() }
    }

    fn open_answer(&self, answer: reqwest::Response) -> Answer {
        let (status, headers) = (answer.status(), answer.headers().clone());
        Answer { status, headers, body: flowing(answer, self.wait) }
    }

    /// A host inside the private network may name others there; a public one may not, or it could have us ask what only we can reach.
    async fn may_be_private(&self, origin: &Url) -> bool {
        if let Some(private) = self.private {
            return private;
        }
        let address = (host(origin), origin.port_or_known_default().unwrap_or(443));
        match tokio::net::lookup_host(address).await {
            Ok(mut found) => found.any(|address| is_private(address.ip())),
            Err(_) => false,
        }
    }
}

/// Sends a request. Where a connection breaks before an answer, it was most likely a kept one that the other end closed as the request came, which says nothing
/// of how it is: a read is then sent once more (RFC 9112, 9.3.1). Whether it was kept can't be told here; on a new one that only costs one request more.
async fn persisting(method: &Method, request: RequestBuilder) -> reqwest::Result<reqwest::Response> {
    let once_more = if method.is_safe() { request.try_clone() } else { None };
    match request.send().await {
        Err(error) if hung_up(&error) => match once_more {
            Some(again) => again.send().await,
            None => Err(error),
        },
        outcome => outcome,
    }
}

/// Whether the connection was closed instead of an answer.
fn hung_up(error: &reqwest::Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    !error.is_connect()
        && causes.any(|cause| {
            let closed =
                cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
            let reset = cause.downcast_ref::<io::Error>().is_some_and(|cause| {
                matches!(cause.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            });
            closed || reset
        })
}

/// Whether two URLs are at one place: scheme, host and port.
pub(super) fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// The host of a URL, as it can be looked up.
pub(super) fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

/// Where an answer sends on to, if it does.
fn next_of(answer: &reqwest::Response, from: &Url) -> Result<Option<Url>, Failure> {
    let moved = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(location) = answer.headers().get(header::LOCATION).filter(|_| moved) else { return Ok(None) };
    let lost = || Failure::Strayed(format!("{} redirects to no address", host(from)));
    let next = location.to_str().ok().and_then(|text| from.join(text).ok()).ok_or_else(lost)?;
    if !matches!(next.scheme(), "http" | "https") || next.host().is_none() {
        return Err(lost());
    }
    Ok(Some(next))
}

/// The body: an error where it stops for too long, comes in drops, or ends before its announced length (which the client sees to).
fn flowing(answer: reqwest::Response, wait: Duration) -> ByteStream {
    let state = Some((answer.bytes_stream(), Instant::now() + wait, 0_u64));
    Box::pin(stream::unfold(state, move |state| async move {
        let (mut body, mut due, mut since) = state?;
        let slow = || Error::new(Kind::Unavailable, "the upstream sends too slowly");
        match timeout(wait, body.next()).await {
            Err(_) => Some((Err(slow()), None)),
            Ok(None) => None,
            Ok(Some(Err(error))) => {
                let error = Error::new(Kind::Unavailable, "the upstream's answer was cut")
                    .with_source(error.without_url());
                Some((Err(error), None))
            }
            Ok(Some(Ok(chunk))) => {
                since += chunk.len() as u64;
                if Instant::now() >= due {
                    if since < TRICKLE {
                        return Some((Err(slow()), None));
                    }
                    (due, since) = (Instant::now() + wait, 0);
                }
                Some((Ok(chunk), Some((body, due, since))))
            }
        }
    }))
}

/// TLS as everywhere in this process: ring, whom the system trusts, and these.
fn tls(trusted: &[String]) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let own = trusted.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()));
    roots.add_parsable_certificates(own.flatten());
    if roots.is_empty() {
        return Err(Error::internal("there are no root certificates on this system"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| Error::internal("TLS could not be set up").with_source(error))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Looks names up and keeps private addresses to itself.
struct Guard;

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| !is_private(address.ip())).collect();
            if public.is_empty() {
                return Err(format!("{} has no public address", name.as_str()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether the URL's host is written as a private address: those are never looked up.
fn has_private_address(url: &Url) -> bool {
    host(url).parse().is_ok_and(is_private)
}

/// Whether an address is not one of the public Internet (IANA's special-purpose registries).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => {
            let embedded = address.to_ipv4_mapped().or_else(|| translated(address));
            embedded.map_or_else(|| is_private_v6(address), is_private_v4)
        }
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let [first, ..] = address.segments();
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || (first & 0xfe00) == 0xfc00
        || (first & 0xffc0) == 0xfe80
        || (first & 0xffc0) == 0xfec0
}

/// The IPv4 address behind `64:ff9b::/96`, which a translating network reaches.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else { return None };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(Ipv4Addr::new(a, b, c, d))
}

/// A header value that no log shows.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers as many requests as this says on each connection, and hangs up on the next one; and how many requests came.
    async fn server(answers: &'static [usize]) -> (Url, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            for most in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                for number in 0..=*most {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(socket.read_u8().await.unwrap());
                    }
                    counted.fetch_add(1, Relaxed);
                    if number < *most {
                        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    }
                }
            }
        });
        (url, count)
    }

    async fn ask(client: &Client, method: &Method, url: &Url) -> Result<StatusCode, Failure> {
        let (none, body) = (HeaderMap::new(), Bytes::from_static(b"x"));
        let answer = client.ask(method, url, url, &none, &none, Some(&body)).await?;
        assert_eq!(answer.body.count().await, 0);
        Ok(answer.status)
    }

    #[tokio::test]
    async fn who_hangs_up_on_a_kept_connection_is_asked_on_a_new_one() {
        let client = Client::new().unwrap();
        let (url, count) = server(&[1, 1]).await;
        assert_eq!(ask(&client, &Method::GET, &url).await.unwrap(), StatusCode::OK);
        assert_eq!(ask(&client, &Method::GET, &url).await.unwrap(), StatusCode::OK);
        assert_eq!(count.load(Relaxed), 3);
    }

    #[tokio::test]
    async fn who_always_hangs_up_is_asked_twice_and_told_something_once() {
        let client = Client::new().unwrap();
        let (url, count) = server(&[0, 0, 1]).await;
        assert!(matches!(ask(&client, &Method::GET, &url).await, Err(Failure::Unreachable(_))));
        assert_eq!(count.load(Relaxed), 2);
        let (url, count) = server(&[0, 1]).await;
        assert!(matches!(ask(&client, &Method::POST, &url).await, Err(Failure::Unreachable(_))));
        assert_eq!(count.load(Relaxed), 1);
    }

    #[test]
    fn private_addresses_are_known_in_every_form() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "198.18.0.1",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
        ] {
            assert!(is_private(text.parse().unwrap()), "{text}");
        }
        for text in
            ["8.8.8.8", "100.63.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
        {
            assert!(!is_private(text.parse().unwrap()), "{text}");
        }
        for url in ["http://127.0.0.1/x", "http://[::1]:80/x", "http://0x7f.1/x", "http://2130706433/"] {
            assert!(has_private_address(&Url::parse(url).unwrap()), "{url}");
        }
        assert!(!has_private_address(&Url::parse("http://example.com/").unwrap()));
    }
}
