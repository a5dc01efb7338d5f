//! Every storage key of this protocol.
//!
//! ```text
//! npm/packages/widget/index.json                      the packument, with our own notes under `_sr`
//! npm/packages/widget/widget-1.0.0.tgz                a tarball
//! npm/packages/@acme/widget/index.json
//! npm/packages/@acme/widget/acme-widget-1.0.0.tgz
//! npm/packages/widget/widget-1.0.0.<8 hex>.tgz        a tarball whose place a broken-off publish holds, or one that is staged
//! npm/packages/widget/attestations/1.0.0.<8 hex>.json the attestations of a version, as they are served
//! npm/staged/<uuid>.json                              a staged version, until it is approved or rejected; the packument has a note of it
//! npm/advisories.json                                 known vulnerabilities by package: the operator's, for `npm audit`
//! npm/cache/npmjs/lodash/4.17.21.<32 hex>.tgz        a tarball of an upstream, by what it must hash to
//! _sr/npm/signing-keys.json                           the keys that versions are signed with; can't be rebuilt
//! _sr/npm/stars/<32 hex>.json                         what a user has starred, by the hash of the name; the packuments have the truth
//! _sr/npm/orgs/acme.json                              members and teams of an organisation
//! _sr/npm/trust/@acme/widget.json                     whom a package trusts to publish it
//! _sr/npm/logins/<milliseconds>-<uuid>.json           a login with the browser, for minutes
//! ```
//!
//! The layout that other programs write says `{name}-{version}.tgz`; what that is for a scoped name they disagree on. We write one
//! form, note each tarball's file name in the packument, and look for all three where there is no note ([`candidates`]).

use super::model::short_hash;
use super::name::PackageName;
use crate::core::error::Result;
use crate::core::id;
use crate::storage::{Key, PRIVATE, Prefix};

/// Where packages live.
const PACKAGES: &str = "npm/packages/";
/// Where tarballs of upstreams are kept.
const CACHE: &str = "npm/cache/";
/// Where staged versions wait.
const STAGED: &str = "npm/staged/";
/// The document in a package's folder.
const INDEX: &str = "index.json";

/// The packument.
pub(crate) fn index(name: &PackageName) -> Result<Key> {
    file(name, INDEX)
}

/// Everything in a package's folder.
pub(crate) fn folder(name: &PackageName) -> Result<Prefix> {
    Prefix::new(format!("{PACKAGES}{name}/"))
}

/// A file in a package's folder.
pub(crate) fn file(name: &PackageName, file: &str) -> Result<Key> {
    Key::new(format!("{PACKAGES}{name}/{file}"))
}

/// The keys that versions are signed with.
pub(crate) fn signing() -> Result<Key> {
    Key::new(format!("{PRIVATE}/npm/signing-keys.json"))
}

/// What a user has starred. Users may have any name; a hash of it fits a key.
pub(crate) fn stars(user: &str) -> Result<Key> {
    Key::new(format!("{PRIVATE}/npm/stars/{}.json", short_hash(&[user.as_bytes()])))
}

/// The operator's list of vulnerabilities.
pub(crate) fn advisories() -> Result<Key> {
    Key::new("npm/advisories.json")
}

/// A staged version. `id` is a UUID.
pub(crate) fn staged(id: &str) -> Result<Key> {
    Key::new(format!("{STAGED}{id}.json"))
}

/// All staged versions.
pub(crate) fn all_staged() -> Result<Prefix> {
    Prefix::new(STAGED)
}

/// The id in the key of a staged version.
pub(crate) fn staged_id(key: &Key) -> Option<&str> {
    key.as_str().strip_prefix(STAGED)?.strip_suffix(".json").filter(|id| id::is_uuid(id))
}

/// A file name for the attestations of a version that nobody else uses.
pub(crate) fn attestations(version: &str) -> String {
    format!("attestations/{version}.{}.json", id::uuid().get(..8).unwrap_or_default())
}

/// The file name that a tarball is written under. `version` is clean.
pub(crate) fn tarball(name: &PackageName, version: &str) -> String {
    let name = name.as_str().trim_start_matches('@').replace('/', "-");
    format!("{name}-{version}.tgz")
}

/// A file name that nobody else uses, for when the ordinary one is taken by what a broken-off publish left behind: what lies there
/// may belong to a publish that is about to commit, so it is never overwritten or shared.
pub(crate) fn other_tarball(name: &PackageName, version: &str) -> String {
    let ordinary = tarball(name, version);
    let stem = ordinary.trim_end_matches(".tgz");
    format!("{stem}.{}.tgz", id::uuid().get(..8).unwrap_or_default())
}

/// The file names under which another program may have put a tarball.
pub(crate) fn candidates(name: &PackageName, version: &str) -> Vec<String> {
    let mut list = vec![tarball(name, version)];
    if name.scope().is_some() {
        list.push(format!("{name}-{version}.tgz"));
        list.push(canonical(name, version));
    }
    list
}

/// The file name in public URLs: `widget-1.0.0.tgz`, also for a scoped name. Clients build it themselves.
pub(crate) fn canonical(name: &PackageName, version: &str) -> String {
    format!("{}-{version}.tgz", name.unscoped())
}

/// Members and teams of an organisation.
pub(crate) fn org(name: &str) -> Result<Key> {
    Key::new(format!("_sr/npm/orgs/{name}.json"))
}

/// Whom a package trusts.
pub(crate) fn trust(name: &PackageName) -> Result<Key> {
    Key::new(format!("_sr/npm/trust/{name}.json"))
}

/// Logins with the browser, oldest first.
pub(crate) fn logins() -> Result<Prefix> {
    Prefix::new("_sr/npm/logins/")
}

/// A login with the browser.
pub(crate) fn login(session: &str) -> Result<Key> {
    Key::new(format!("_sr/npm/logins/{session}.json"))
}

/// A tarball of an upstream. `mark` says what it must hash to, so that one of other content never stands in for it.
pub(crate) fn cached(folder: &str, name: &PackageName, version: &str, mark: &str) -> Result<Key> {
    Key::new(format!("{CACHE}{folder}/{name}/{version}.{mark}.tgz"))
}

/// What is cached of a package of an upstream.
pub(crate) fn cached_folder(folder: &str, name: &PackageName) -> Result<Prefix> {
    Prefix::new(format!("{CACHE}{folder}/{name}/"))
}

/// Tarballs of a version of an upstream; those of `1.0.0.x` too, which [`is_cached_of`] tells apart.
pub(crate) fn cached_version(folder: &str, name: &PackageName, version: &str) -> Result<Prefix> {
    Prefix::new(format!("{CACHE}{folder}/{name}/{version}."))
}

/// Whether a listed key is a tarball of this very version.
pub(crate) fn is_cached_of(prefix: &Prefix, key: &Key) -> bool {
    let rest = key.as_str().strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_suffix(".tgz"));
    rest.is_some_and(|mark| mark.len() == 32 && mark.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// What is cached of all upstreams.
pub(crate) fn cache() -> Result<Prefix> {
    Prefix::new(CACHE)
}

/// All packages.
pub(crate) fn packages() -> Result<Prefix> {
    Prefix::new(PACKAGES)
}

/// All packages of a scope.
pub(crate) fn scope(scope: &str) -> Result<Prefix> {
    Prefix::new(format!("{PACKAGES}@{scope}/"))
}

/// The last segment of a folder that a listing told of.
pub(crate) fn folder_name(prefix: &str) -> &str {
    prefix.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let plain = PackageName::parse("widget").unwrap();
        let scoped = PackageName::parse("@acme/widget").unwrap();
        assert_eq!(index(&scoped).unwrap().as_str(), "npm/packages/@acme/widget/index.json");
        assert_eq!(tarball(&plain, "1.0.0"), "widget-1.0.0.tgz");
        assert_eq!(tarball(&scoped, "1.0.0"), "acme-widget-1.0.0.tgz");
        assert_eq!(candidates(&plain, "1.0.0"), ["widget-1.0.0.tgz"]);
        assert_eq!(
            candidates(&scoped, "1.0.0"),
            ["acme-widget-1.0.0.tgz", "@acme/widget-1.0.0.tgz", "widget-1.0.0.tgz"]
        );
        let other = other_tarball(&plain, "1.0.0");
        assert!(other.starts_with("widget-1.0.0.") && other.len() == "widget-1.0.0.12345678.tgz".len());
    }
}
