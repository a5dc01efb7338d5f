//! Every storage key of this protocol.
//!
//! ```text
//! npm/packages/widget/index.json                      the packument, with our own notes under `_sr`
//! npm/packages/widget/widget-1.0.0.tgz                a tarball
//! npm/packages/@acme/widget/index.json
//! npm/packages/@acme/widget/acme-widget-1.0.0.tgz
//! npm/packages/widget/widget-1.0.0.<8 hex>.tgz        a tarball whose place a broken-off publish holds
//! ```
//!
//! The layout that other programs write says `{name}-{version}.tgz`; what that is for a scoped name they disagree on. We write one
//! form, note each tarball's file name in the packument, and look for all three where there is no note ([`candidates`]).

use super::name::PackageName;
use crate::core::error::Result;
use crate::core::id;
use crate::storage::{Key, Prefix};

/// Where packages live.
const PACKAGES: &str = "npm/packages/";
/// The document in a package's folder.
const INDEX: &str = "index.json";

/// The packument.
pub(crate) fn index(name: &PackageName) -> Result<Key> {
    file(name, INDEX)
}

/// A file in a package's folder.
pub(crate) fn file(name: &PackageName, file: &str) -> Result<Key> {
    Key::new(format!("{PACKAGES}{name}/{file}"))
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
