//! Where a request came in: the path below the API root, and the form in which links go out again.
//!
//! `Location` and `Link` are absolute paths: a wrong scheme or host there makes containerd drop its credentials, and a path
//! without a leading slash breaks podman.

use super::super::prelude::*;
use super::{Oci, error};

/// The API root as the client knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Site {
    /// Path of the API root without a slash at the end: `/v2`, `/oci/v2`, `/oci`.
    root: String,
    /// `https://host[:port]`, if known.
    origin: Option<String>,
    /// Whether links carry the origin (`features.absoluteUrls`), for proxies that can do no other.
    absolute: bool,
}

impl Site {
    /// Takes the API root off the path.
    ///
    /// # Errors
    /// 404 for `/v2` when that alias is switched off (`features.v2Alias`); `NAME_INVALID` for an encoded slash, or two in a row.
    pub(super) fn of(oci: &Oci, cx: &Cx, path: &Segments) -> Result<(Self, Segments)> {
        if path.had_encoded_slash() {
            return Err(error::name_invalid("slashes in a repository name are not percent-encoded"));
        }
        if path.had_empty() {
            return Err(error::name_invalid("a repository name has something between any two slashes"));
        }
        let base = oci.base.to_path();
        let by_alias = !base.is_empty() && cx.mount.prefix == cx.mount.origin.prefix;
        if by_alias && !oci.config.feature("v2Alias", true) {
            return Err(Error::not_found("No registry handler for this path"));
        }
        let version = Segments::parse("v2")?;
        let base_is_root = base.ends_with("/v2") && !by_alias;
        let (rest, stripped) = match path.strip_prefix(&version) {
            Some(rest) if !base_is_root => (rest, true),
            _ => (path.clone(), false),
        };
        let public = cx.mount.registry_url.as_deref().filter(|_| !by_alias).map(split_url);
        let root = match public {
            // The public URL's path stands for the base path, and clients go on with `/v2` there.
            Some((_, public)) if public.ends_with("/v2") => public.to_owned(),
            Some((_, public)) => format!("{public}/v2"),
            // Through an alias there is no other root, and the alias may be another path than that.
            None if by_alias || stripped => format!("{}/v2", cx.mount.prefix),
            None => cx.mount.prefix.clone(),
        };
        let origin = cx.mount.registry_url.as_deref().map(|url| split_url(url).0.to_owned()).or_else(|| {
            let host = cx.mount.origin.host.as_deref()?;
            Some(format!("{}://{host}", cx.mount.origin.scheme.as_deref().unwrap_or("http")))
        });
        let absolute = oci.config.feature("absoluteUrls", false);
        Ok((Self { root, origin, absolute }, rest))
    }

    /// A link to `rest` below the API root, for `Location` and `Link`.
    pub(super) fn link(&self, rest: &str) -> String {
        let origin = self.origin.as_deref().filter(|_| self.absolute).unwrap_or_default();
        format!("{origin}{}/{rest}", self.root)
    }

    /// The token endpoint. Absolute whenever the host is known: no client resolves a relative realm.
    pub(super) fn realm(&self) -> String {
        format!("{}{}/token", self.origin.as_deref().unwrap_or_default(), self.root)
    }
}

/// `https://host:port` and `/path`, without a slash at the end.
fn split_url(url: &str) -> (&str, &str) {
    let host_at = url.find("://").map_or(0, |at| at + 3);
    let path_at = url.get(host_at..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| host_at + at);
    let (origin, path) = url.split_at_checked(path_at).unwrap_or((url, ""));
    (origin, path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::split_url;

    #[test]
    fn urls_split_at_the_path() {
        assert_eq!(split_url("https://r.example.com"), ("https://r.example.com", ""));
        assert_eq!(split_url("https://r.example.com:1/oci/"), ("https://r.example.com:1", "/oci"));
    }
}
