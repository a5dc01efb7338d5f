//! Where the client thinks it is talking to, and who it is: from the connection, or from a proxy's headers where that proxy is trusted.
//!
//! Pure: the listener and the Node binding give it the same three things (headers, whether the connection is encrypted, the peer's
//! address) and get the same answer. Nobody's forwarding headers are believed unless the operator has said so: with them a client
//! could choose the links that others are served, and slip past a limit that counts by address.

use std::net::IpAddr;

use http::{HeaderMap, header};
use ipnet::IpNet;

use super::error::{Error, Result};
use super::request::Origin;

/// Whose `X-Forwarded-*` and `Forwarded` headers are believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// Nobody's.
    #[default]
    Nobody,
    /// Everybody's: there is always a proxy in front, and nothing else reaches us.
    Everybody,
    /// Those of peers in these networks.
    Networks(Vec<IpNet>),
}

impl Trust {
    /// From networks (`10.0.0.0/8`) and single addresses (`::1`).
    ///
    /// # Errors
    /// The text that is neither.
    pub fn networks(list: &[String]) -> Result<Self> {
        let parse = |text: &String| {
            let text = text.trim();
            text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                Error::invalid(format!("option `trustProxy`: `{text}` is no address and no network"))
            })
        };
        Ok(Self::Networks(list.iter().map(parse).collect::<Result<_>>()?))
    }

    /// Whether a peer may say who the client is. One whose address is not known is in no network.
    fn believes(&self, peer: Option<IpAddr>) -> bool {
        match self {
            Self::Nobody => false,
            Self::Everybody => true,
            Self::Networks(list) => peer.is_some_and(|peer| contains(list, peer)),
        }
    }
}

fn contains(list: &[IpNet], address: IpAddr) -> bool {
    // A dual-stack socket shows an IPv4 peer as `::ffff:10.0.0.1`; nobody writes it like that in a configuration.
    list.iter().any(|net| net.contains(&address.to_canonical()))
}

/// What is known about the other side of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// For links.
    pub origin: Origin,
    /// The client's own address, for limits and logs.
    pub client: Option<IpAddr>,
    /// Whether the forwarding headers of this request were believed.
    pub forwarded: bool,
}

/// Reads origin and client off a request. `secure`: the connection is TLS; `host` is the authority that the request line or `:authority`
/// named, which wins over the `Host` header (RFC 9112, section 3.2.2).
pub fn resolve(
    headers: &HeaderMap,
    host: Option<&str>,
    secure: bool,
    peer: Option<IpAddr>,
    trust: &Trust,
) -> Seen {
    let own = host.or_else(|| text(headers, header::HOST.as_str())).filter(|host| is_host(host));
    let origin = Origin {
        scheme: Some(if secure { "https" } else { "http" }.to_owned()),
        host: own.map(str::to_owned),
        prefix: String::new(),
    };
    let mut seen = Seen { origin, client: peer.map(|peer| peer.to_canonical()), forwarded: false };
    if trust.believes(peer) {
        seen.forwarded = true;
        believe(&mut seen, headers, trust);
    }
    seen
}

/// Overwrites what the proxy knows better. Where any of the `X-Forwarded-*` headers is there, `Forwarded` is ignored: proxies that set the
/// former pass the latter through as the client wrote it.
fn believe(seen: &mut Seen, headers: &HeaderMap, trust: &Trust) {
    let [proto, host, chain] = ["x-forwarded-proto", "x-forwarded-host", "x-forwarded-for"];
    if [proto, host, chain].iter().any(|name| headers.contains_key(*name)) {
        take(seen, text(headers, proto).map(first), text(headers, host).map(first));
        let addresses: Vec<_> = every(headers, chain).map(address).collect();
        seen.client = client(&addresses, trust).or(seen.client);
    } else if headers.contains_key(header::FORWARDED) {
        let hops: Vec<Hop> = every(headers, header::FORWARDED.as_str()).map(Hop::parse).collect();
        if let Some(hop) = hops.first() {
            take(seen, hop.proto.as_deref(), hop.host.as_deref());
        }
        let addresses: Vec<_> = hops.iter().map(|hop| hop.client).collect();
        seen.client = client(&addresses, trust).or(seen.client);
    }
    if let Some(prefix) = text(headers, "x-forwarded-prefix").map(|text| text.trim().trim_end_matches('/'))
        && is_prefix(prefix)
    {
        prefix.clone_into(&mut seen.origin.prefix);
    }
}

fn take(seen: &mut Seen, proto: Option<&str>, host: Option<&str>) {
    if let Some(scheme) = proto
        .and_then(|proto| ["http", "https"].into_iter().find(|scheme| proto.eq_ignore_ascii_case(scheme)))
    {
        seen.origin.scheme = Some(scheme.to_owned());
    }
    if let Some(host) = host.filter(|host| is_host(host)) {
        seen.origin.host = Some(host.to_owned());
    }
}

/// The client's address in a chain that each proxy has added its peer to. With a list of proxies: the last address that is none of them,
/// since everything before it is hearsay. With trust in everybody: the first.
fn client(chain: &[Option<IpAddr>], trust: &Trust) -> Option<IpAddr> {
    match trust {
        Trust::Nobody => None,
        Trust::Everybody => chain.first().copied().flatten(),
        Trust::Networks(list) => {
            let mut known = None;
            for hop in chain.iter().rev() {
                // A hop that hides itself (`unknown`, `_gazonk`) ends what can be known.
                known = Some((*hop)?);
                if known.is_some_and(|address| !contains(list, address)) {
                    break;
                }
            }
            known
        }
    }
}

/// One element of `Forwarded` (RFC 7239, section 4).
#[derive(Default)]
struct Hop {
    client: Option<IpAddr>,
    proto: Option<String>,
    host: Option<String>,
}

impl Hop {
    fn parse(element: &str) -> Self {
        let mut hop = Self::default();
        for pair in element.split(';') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => hop.client = address(value),
                "proto" => hop.proto = Some(value.to_owned()),
                "host" => hop.host = Some(value.to_owned()),
                _ => {}
            }
        }
        hop
    }
}

/// An address with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None if text.matches(':').count() == 1 => text.split(':').next()?,
        None => text,
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Every element of a list header, over all its lines.
fn every<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
}

fn first(list: &str) -> &str {
    list.split(',').next().unwrap_or_default().trim()
}

/// Whether this can stand in a link: a host with or without port and nothing that would end the authority or break out of a document.
fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 300
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
        })
}

fn is_prefix(text: &str) -> bool {
    text.starts_with('/')
        && !text.starts_with("//")
        && text.len() <= 300
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'~' | b'@')
        })
}

#[cfg(test)]
mod tests {
    use super::{Seen, Trust, resolve};
    use http::{HeaderMap, HeaderName, HeaderValue};

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn see(list: &[(&'static str, &str)], peer: &str, trust: &Trust) -> Seen {
        resolve(&headers(list), None, false, Some(peer.parse().unwrap()), trust)
    }

    fn proxies() -> Trust {
        Trust::networks(&["10.0.0.0/8".to_owned(), "::1".to_owned()]).unwrap()
    }

    const FORWARDED: &[(&str, &str)] = &[
        ("host", "inner:5000"),
        ("x-forwarded-proto", "https, http"),
        ("x-forwarded-host", "registry.example.com"),
        ("x-forwarded-for", "198.51.100.7, 203.0.113.9, 10.1.1.1"),
        ("x-forwarded-prefix", "/pkgs/"),
    ];

    #[test]
    fn nobody_is_believed_unless_told() {
        for (trust, peer) in [(Trust::Nobody, "10.0.0.1"), (proxies(), "192.0.2.1")] {
            let seen = see(FORWARDED, peer, &trust);
            assert_eq!(seen.origin.url().unwrap(), "http://inner:5000");
            assert_eq!(seen.client.unwrap().to_string(), peer);
            assert!(!seen.forwarded);
        }
    }

    #[test]
    fn a_trusted_proxy_tells_origin_and_client() {
        let seen = see(FORWARDED, "10.0.0.1", &proxies());
        assert_eq!(seen.origin.url().unwrap(), "https://registry.example.com/pkgs");
        // 198.51.100.7 is what the client itself has written.
        assert_eq!(seen.client.unwrap().to_string(), "203.0.113.9");
        let seen = see(FORWARDED, "::ffff:10.0.0.1", &proxies());
        assert_eq!(seen.client.unwrap().to_string(), "203.0.113.9");
        assert_eq!(
            see(FORWARDED, "192.0.2.1", &Trust::Everybody).client.unwrap().to_string(),
            "198.51.100.7"
        );
    }

    #[test]
    fn the_standard_header_counts_where_the_older_ones_are_absent() {
        let standard = (
            "forwarded",
            "for=\"[2001:db8::17]:4711\";proto=https;host=\"a.example.com:8443\", for=10.0.0.2",
        );
        let seen = see(&[("host", "inner"), standard], "::1", &proxies());
        assert_eq!(seen.origin.url().unwrap(), "https://a.example.com:8443");
        assert_eq!(seen.client.unwrap().to_string(), "2001:db8::17");
        let seen = see(&[("host", "inner"), standard, ("x-forwarded-proto", "https")], "::1", &proxies());
        assert_eq!(seen.origin.url().unwrap(), "https://inner");
    }

    #[test]
    fn what_could_break_a_link_is_ignored() {
        let bad = &[
            ("host", "inner"),
            ("x-forwarded-proto", "javascript"),
            ("x-forwarded-host", "a.example.com/<script>"),
            ("x-forwarded-prefix", "//evil.example.com"),
            ("x-forwarded-for", "unknown, 10.0.0.3"),
        ];
        let seen = see(bad, "10.0.0.1", &proxies());
        assert_eq!(seen.origin.url().unwrap(), "http://inner");
        assert_eq!(seen.client.unwrap().to_string(), "10.0.0.1");
        assert_eq!(see(&[("host", "a b")], "10.0.0.1", &Trust::Nobody).origin.url(), None);
        assert!(Trust::networks(&["10.0.0.0/33".to_owned()]).unwrap_err().message().contains("10.0.0.0/33"));
    }
}
