//! What a user says about a bucket (`IS3Descriptor`), and what it means: pure rules, no IO.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use url::Url;

use crate::config::ConditionalWrites;
use crate::core::error::{Error, Result};
use crate::core::secret::Secret;
use crate::storage::Key;
use crate::storage::Roots;

/// A bucket as the user describes it.
#[derive(Debug, Clone, Default)]
pub struct S3Descriptor {
    /// Host, `host:port` or URL. A scheme in it wins over `use_ssl`.
    pub endpoint: String,
    /// Port; wins over one in `endpoint`.
    pub port: Option<String>,
    /// TLS; on unless said otherwise.
    pub use_ssl: Option<bool>,
    /// Access key; without both keys the default credential chain of AWS is used.
    pub access_key: Option<Secret>,
    /// Secret key.
    pub access_secret: Option<Secret>,
    /// Session token of temporary keys.
    pub session_token: Option<Secret>,
    /// Region; `us-east-1` unless the host says more.
    pub region: Option<String>,
    /// Bucket.
    pub bucket_name: String,
    /// Prefix of every key.
    pub directory_path: Option<String>,
    /// What to demand of the bucket.
    pub conditional_writes: ConditionalWrites,
    /// File with certificates to trust besides those of the platform, as PEM.
    pub ca_file: Option<PathBuf>,
    /// The same that the host's runtime has; passed over if it is unusable.
    pub host_ca_file: Option<PathBuf>,
}

/// Who we are for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Keys { key: Secret, secret: Secret, token: Option<Secret> },
    DefaultChain,
}

/// A descriptor, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// `scheme://host[:port]`, without a port that is the scheme's own: the `Host` header is signed, and proxies rewrite it.
    pub(super) url: String,
    /// Whether the SDK should make the host from the region, as AWS wants it.
    pub(super) aws_endpoint: bool,
    /// Whether it is AWS's own S3, where the checksum headers of the SDK are understood.
    pub(super) aws: bool,
    pub(super) tls: bool,
    pub(super) region: String,
    pub(super) bucket: String,
    /// Empty, or ending in a slash.
    pub(super) prefix: String,
    pub(super) credentials: Credentials,
    /// What the user should know, one sentence each.
    pub(super) warnings: Vec<String>,
}

/// Longest `directoryPath` in bytes: with the longest key it still makes a valid S3 key.
const MAX_DIRECTORY: usize = 120;

impl S3Descriptor {
    /// Applies the rules.
    ///
    /// # Errors
    /// 400 that names the option.
    pub(super) fn resolve(&self) -> Result<Target> {
        let mut warnings = Vec::new();
        let url = self.endpoint_url(&mut warnings)?;
        let tls = url.scheme() == "https";
        let host = url.host_str().unwrap_or_default().to_owned();
        let aws = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
        let host_region = aws_region(&host);
        let aws_endpoint = tls
            && url.port().is_none()
            && (host_region.is_some() || matches!(host.as_str(), "s3.amazonaws.com" | "s3.amazonaws.com.cn"));
        let region = self.region(&host, host_region, &mut warnings);
        Ok(Target {
            aws_endpoint,
            url: url.origin().ascii_serialization(),
            aws,
            tls,
            region,
            bucket: self.bucket()?,
            prefix: self.prefix()?,
            credentials: self.credentials()?,
            warnings,
        })
    }

    pub(super) fn roots(&self) -> Roots {
        Roots { own: self.ca_file.clone(), host: self.host_ca_file.clone() }
    }

    fn endpoint_url(&self, warnings: &mut Vec<String>) -> Result<Url> {
        let text = self.endpoint.trim();
        if text.is_empty() {
            return Err(Error::invalid(
                "option `storage.endpoint` is missing: give the host of the S3 server",
            ));
        }
        let bad = || Error::invalid("option `storage.endpoint` is neither a host, nor host:port, nor a URL");
        let full = if text.contains("://") {
            text.to_owned()
        } else {
            let scheme = if self.use_ssl.unwrap_or(true) { "https" } else { "http" };
            match text.parse::<Ipv6Addr>() {
                Ok(address) => format!("{scheme}://[{address}]"),
                Err(_) => format!("{scheme}://{text}"),
            }
        };
        let mut url = Url::parse(&full).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(bad());
        }
        if text.contains("://") && self.use_ssl.is_some_and(|tls| tls != (url.scheme() == "https")) {
            warnings.push(format!("`storage.useSsl` is ignored: `storage.endpoint` says {}", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            warnings.push(
                "the credentials in `storage.endpoint` are ignored: use `accessKey` and `accessSecret`"
                    .into(),
            );
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            warnings.push(
                "path and query in `storage.endpoint` are ignored: use `bucketName` and `directoryPath`"
                    .into(),
            );
        }
        if let Some(text) = self.port.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            let port = text.parse::<u16>().ok().filter(|port| *port > 0);
            let port = port.ok_or_else(|| {
                Error::invalid("option `storage.port` must be a number between 1 and 65535")
            })?;
            url.set_port(Some(port)).map_err(|()| bad())?;
        }
        if url.port() == Some(0) {
            return Err(bad());
        }
        Ok(url)
    }

    fn region(&self, host: &str, of_host: Option<String>, warnings: &mut Vec<String>) -> String {
        let given = self.region.as_deref().map(str::trim).filter(|region| !region.is_empty());
        match (given, of_host) {
            (Some(given), Some(of_host)) if given != of_host => {
                warnings.push(format!("`storage.region` is ignored: the endpoint is in {of_host}"));
                of_host
            }
            (_, Some(of_host)) => of_host,
            (Some(given), None) => given.to_owned(),
            // Cloudflare signs for the region `auto`.
            (None, None) if host.ends_with(".r2.cloudflarestorage.com") => "auto".to_owned(),
            (None, None) => "us-east-1".to_owned(),
        }
    }

    fn bucket(&self) -> Result<String> {
        let name = self.bucket_name.trim();
        if name.is_empty() {
            return Err(Error::invalid("option `storage.bucketName` is missing"));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.len() > 255 || name.len() < 3 || !name.chars().all(fits) || name.starts_with('.') {
            return Err(Error::invalid(
                "option `storage.bucketName` is no bucket name: 3 or more letters, digits, dots and hyphens",
            ));
        }
        Ok(name.to_owned())
    }

    fn prefix(&self) -> Result<String> {
        let parts: Vec<&str> = self
            .directory_path
            .as_deref()
            .unwrap_or_default()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        if parts.is_empty() {
            return Ok(String::new());
        }
        let path = parts.join("/");
        if path.len() > MAX_DIRECTORY || Key::new(path.as_str()).is_err() {
            return Err(Error::invalid(format!(
                "option `storage.directoryPath` is no key prefix: at most {MAX_DIRECTORY} bytes, without `.` and `..`"
            )));
        }
        Ok(path + "/")
    }

    fn credentials(&self) -> Result<Credentials> {
        let given = |secret: &Option<Secret>| secret.clone().filter(|secret| !secret.is_empty());
        let token = given(&self.session_token);
        match (given(&self.access_key), given(&self.access_secret)) {
            (Some(key), Some(secret)) => Ok(Credentials::Keys { key, secret, token }),
            (Some(_), None) => Err(missing("accessSecret", "accessKey")),
            (None, Some(_)) => Err(missing("accessKey", "accessSecret")),
            (None, None) if token.is_some() => Err(missing("accessKey", "sessionToken")),
            (None, None) => Ok(Credentials::DefaultChain),
        }
    }
}

fn missing(option: &str, given: &str) -> Error {
    Error::invalid(format!("option `storage.{option}` is missing, while `storage.{given}` is given"))
}

/// The region in a host of AWS's S3: `s3.eu-west-1.amazonaws.com`, `s3-eu-west-1.amazonaws.com`.
fn aws_region(host: &str) -> Option<String> {
    let name = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let region = name.strip_prefix("s3.").or_else(|| name.strip_prefix("s3-"))?;
    // `s3.dualstack.…`, `s3-accelerate`, `s3-fips.…` are taken as they are.
    (region.split('-').count() >= 3 && !region.contains('.')).then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Credentials, S3Descriptor};
    use crate::core::secret::Secret;

    fn at(endpoint: &str, port: Option<&str>, use_ssl: Option<bool>) -> S3Descriptor {
        S3Descriptor {
            endpoint: endpoint.into(),
            port: port.map(str::to_owned),
            use_ssl,
            bucket_name: "packages".into(),
            ..S3Descriptor::default()
        }
    }

    #[test]
    fn understands_every_way_to_write_an_endpoint() {
        type Row<'a> = (&'a str, Option<&'a str>, Option<bool>, &'a str, usize);
        // endpoint, port, useSsl -> URL, warnings
        let table: &[Row<'_>] = &[
            ("s3.example.com", None, None, "https://s3.example.com", 0),
            ("s3.example.com", None, Some(false), "http://s3.example.com", 0),
            ("s3.example.com:9000", None, Some(false), "http://s3.example.com:9000", 0),
            ("s3.example.com:9000", Some("9001"), Some(true), "https://s3.example.com:9001", 0),
            ("s3.example.com", Some("443"), None, "https://s3.example.com", 0),
            ("s3.example.com:443", None, Some(true), "https://s3.example.com", 0),
            ("http://s3.example.com:80/", None, None, "http://s3.example.com", 0),
            ("s3.example.com", Some("80"), Some(true), "https://s3.example.com:80", 0),
            ("http://s3.example.com", None, Some(true), "http://s3.example.com", 1),
            ("https://s3.example.com", None, Some(false), "https://s3.example.com", 1),
            ("http://s3.example.com", Some("9000"), Some(false), "http://s3.example.com:9000", 0),
            ("HTTP://S3.Example.COM:9000/", None, None, "http://s3.example.com:9000", 0),
            ("http://s3.example.com/base/?a=1", None, None, "http://s3.example.com", 1),
            ("http://key:word@s3.example.com/base", None, None, "http://s3.example.com", 2),
            ("127.0.0.1:9000", None, Some(false), "http://127.0.0.1:9000", 0),
            ("::1", Some("9000"), Some(false), "http://[::1]:9000", 0),
            ("[::1]:9000", None, Some(false), "http://[::1]:9000", 0),
            (" localhost ", Some(" 9000 "), Some(false), "http://localhost:9000", 0),
        ];
        for (endpoint, port, use_ssl, url, warnings) in table {
            let target = at(endpoint, *port, *use_ssl).resolve().unwrap();
            assert_eq!(target.url, *url, "{endpoint}");
            assert_eq!(target.tls, url.starts_with("https"), "{endpoint}");
            assert_eq!(target.warnings.len(), *warnings, "{endpoint}: {:?}", target.warnings);
            assert!(!target.warnings.iter().any(|text| text.contains("word")), "{endpoint}");
        }
    }

    #[test]
    fn finds_the_region() {
        type Row<'a> = (&'a str, Option<&'a str>, &'a str, bool, usize);
        // endpoint, region option -> region, whether the SDK makes the host, warnings
        let table: &[Row<'_>] = &[
            ("s3.example.com", None, "us-east-1", false, 0),
            ("s3.example.com", Some(""), "us-east-1", false, 0),
            ("s3.example.com", Some("garage"), "garage", false, 0),
            ("s3.amazonaws.com", None, "us-east-1", true, 0),
            ("s3.amazonaws.com", Some("eu-central-1"), "eu-central-1", true, 0),
            ("s3.eu-central-1.amazonaws.com", None, "eu-central-1", true, 0),
            ("s3-eu-west-1.amazonaws.com", Some("eu-west-1"), "eu-west-1", true, 0),
            ("s3.eu-central-1.amazonaws.com", Some("us-east-1"), "eu-central-1", true, 1),
            ("s3.cn-north-1.amazonaws.com.cn", None, "cn-north-1", true, 0),
            ("s3.dualstack.eu-west-1.amazonaws.com", Some("eu-west-1"), "eu-west-1", false, 0),
            ("http://s3.amazonaws.com", None, "us-east-1", false, 0),
            ("abc.r2.cloudflarestorage.com", None, "auto", false, 0),
            ("abc.r2.cloudflarestorage.com", Some("us-east-1"), "us-east-1", false, 0),
        ];
        for (endpoint, region, expected, made, warnings) in table {
            let mut descriptor = at(endpoint, None, None);
            descriptor.region = region.map(str::to_owned);
            let target = descriptor.resolve().unwrap();
            assert_eq!(target.region, *expected, "{endpoint}");
            assert_eq!(target.aws_endpoint, *made, "{endpoint}");
            assert_eq!(target.aws, endpoint.contains("amazonaws"), "{endpoint}");
            assert_eq!(target.warnings.len(), *warnings, "{endpoint}: {:?}", target.warnings);
        }
    }

    #[test]
    fn names_the_option_that_is_wrong() {
        type Change = fn(&mut S3Descriptor);
        let table: &[(&str, Change)] = &[
            ("storage.endpoint", |d| d.endpoint = "  ".into()),
            ("storage.endpoint", |d| d.endpoint = "ftp://example.com".into()),
            ("storage.endpoint", |d| d.endpoint = "two words".into()),
            ("storage.endpoint", |d| d.endpoint = "example.com:99999".into()),
            ("storage.endpoint", |d| d.endpoint = "https://".into()),
            ("storage.port", |d| d.port = Some("0".into())),
            ("storage.port", |d| d.port = Some("99999".into())),
            ("storage.port", |d| d.port = Some("http".into())),
            ("storage.bucketName", |d| d.bucket_name = String::new()),
            ("storage.bucketName", |d| d.bucket_name = "a/b/c".into()),
            ("storage.bucketName", |d| d.bucket_name = "..".into()),
            ("storage.directoryPath", |d| d.directory_path = Some("a/../b".into())),
            ("storage.directoryPath", |d| d.directory_path = Some("x".repeat(121))),
            ("storage.accessSecret", |d| d.access_key = Some(Secret::new("key"))),
            ("storage.accessKey", |d| d.access_secret = Some(Secret::new("hidden"))),
            ("storage.accessKey", |d| d.session_token = Some(Secret::new("hidden"))),
        ];
        for (option, change) in table {
            let mut descriptor = at("s3.example.com", None, None);
            change(&mut descriptor);
            let error = descriptor.resolve().unwrap_err();
            assert!(error.message().starts_with(&format!("option `{option}`")), "{option}: {error}");
            assert!(!error.message().contains("hidden"), "{error}");
        }
    }

    #[test]
    fn normalises_prefix_and_keys() {
        for (given, prefix) in
            [(None, ""), (Some(""), ""), (Some("/"), ""), (Some("/a//b/"), "a/b/"), (Some("a"), "a/")]
        {
            let mut descriptor = at("s3.example.com", None, None);
            descriptor.directory_path = given.map(str::to_owned);
            assert_eq!(descriptor.resolve().unwrap().prefix, prefix);
        }
        let mut descriptor = at("s3.example.com", None, None);
        descriptor.access_key = Some(Secret::new(""));
        assert_eq!(descriptor.resolve().unwrap().credentials, Credentials::DefaultChain);
        descriptor.access_key = Some(Secret::new("key"));
        descriptor.access_secret = Some(Secret::new("secret"));
        assert!(matches!(descriptor.resolve().unwrap().credentials, Credentials::Keys { token: None, .. }));
    }
}
