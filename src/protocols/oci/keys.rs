//! Every storage key of this protocol. The bucket layout:
//!
//! ```text
//! oci/blobs/{algorithm}/{hex}                          a blob, shared by all repositories
//! oci/manifests/{repository}/{algorithm}:{hex}         a manifest, its exact bytes
//! oci/tags/{repository}/tags.json                      tag -> digest
//! _sr/oci/repositories/{repository}/_                  the repository exists, and its links are complete
//! _sr/oci/links/{algorithm}/{hex}/{repository}/_       this blob is visible in this repository; its size
//! _sr/oci/referrers/{repository}/_/{subject}/{digest}  the descriptor of a manifest with that subject
//! _sr/oci/uploads/{uuid}                               an upload session
//! _sr/oci/pulls/{repository}/_                         when manifests and tags were last pulled
//! _sr/upstream/oci/{upstream}/{repository}/_/…         what an upstream says of its tags and lists (`upstream`)
//! _sr/oci/gc/running                                   which garbage collections are under way
//! _sr/oci/gc/condemned/{algorithm}-{2 digits}          what they are about to remove
//! ```
//!
//! The first three are the truth and were there before us. The rest can be rebuilt from them, and application hooks don't see it: a
//! quota counts a blob once, not a second time for its link. A bucket without links is readable: what a manifest of the
//! repository references is linked when it is first asked for ([`super::links`]).
//!
//! Links lie by digest first, repository last. Both questions are one request then: "may this repository see this blob" is one exact
//! key, and "who holds this blob" (a mount that names no source, garbage collection) is one listing.
//! Repositories nest (`a` and `a/b`), so a component `_`, which no name can have, closes a name off.

use super::super::prelude::*;
use super::name::Name;
use crate::storage::STAGING;

pub(super) fn blob(digest: &Digest) -> Result<Key> {
    Key::new(format!("oci/blobs/{}/{}", digest.algorithm().name(), digest.hex()))
}

pub(super) fn all_blobs() -> Result<Prefix> {
    Prefix::new("oci/blobs/")
}

pub(super) fn manifest(name: &Name, digest: &Digest) -> Result<Key> {
    Key::new(format!("oci/manifests/{name}/{digest}"))
}

/// All manifests of a repository; those of repositories nested in it too: see [`manifest_of`].
pub(super) fn manifests(name: &Name) -> Result<Prefix> {
    Prefix::new(format!("oci/manifests/{name}/"))
}

/// The digest at the end of a listed key, if it is a manifest of this very repository.
pub(super) fn manifest_of(prefix: &Prefix, key: &Key) -> Option<Digest> {
    Digest::parse(key.as_str().strip_prefix(prefix.as_str())?)
}

pub(super) fn tags(name: &Name) -> Result<Key> {
    Key::new(format!("oci/tags/{name}/tags.json"))
}

pub(super) fn all_tags() -> Result<Prefix> {
    Prefix::new("oci/tags/")
}

/// The repository whose tag list this is.
pub(super) fn tags_of(key: &Key) -> Option<Name> {
    Name::parse(key.as_str().strip_prefix("oci/tags/")?.strip_suffix("/tags.json")?)
}

pub(super) fn repository(name: &Name) -> Result<Key> {
    Key::new(format!("_sr/oci/repositories/{name}/_"))
}

pub(super) fn repositories() -> Result<Prefix> {
    Prefix::new("_sr/oci/repositories/")
}

/// The repository whose marker this is.
pub(super) fn repository_of(key: &Key) -> Option<Name> {
    Name::parse(key.as_str().strip_prefix("_sr/oci/repositories/")?.strip_suffix("/_")?)
}

pub(super) fn link(name: &Name, digest: &Digest) -> Result<Key> {
    Key::new(format!("{}{name}/_", links(digest)?.as_str()))
}

/// Every repository that holds a blob.
pub(super) fn links(digest: &Digest) -> Result<Prefix> {
    Prefix::new(format!("_sr/oci/links/{}/{}/", digest.algorithm().name(), digest.hex()))
}

/// The repository at the end of a listed link.
pub(super) fn link_of(prefix: &Prefix, key: &Key) -> Option<Name> {
    Name::parse(key.as_str().strip_prefix(prefix.as_str())?.strip_suffix("/_")?)
}

pub(super) fn referrer(name: &Name, subject: &Digest, digest: &Digest) -> Result<Key> {
    Key::new(format!("{}{}", referrers(name, subject)?.as_str(), segment(digest)))
}

pub(super) fn referrers(name: &Name, subject: &Digest) -> Result<Prefix> {
    Prefix::new(format!("_sr/oci/referrers/{name}/_/{}/", segment(subject)))
}

/// The caller has checked that `id` is one of our UUIDs.
pub(super) fn upload(id: &str) -> Result<Key> {
    Key::new(format!("_sr/oci/uploads/{id}"))
}

/// The bytes of a session while they are hashed once more.
pub(super) fn upload_data(id: &str) -> Result<Key> {
    Key::new(format!("{STAGING}oci-{id}"))
}

pub(super) fn uploads() -> Result<Prefix> {
    Prefix::new("_sr/oci/uploads/")
}

/// Which collections are under way.
pub(super) fn collections() -> Result<Key> {
    Key::new("_sr/oci/gc/running")
}

/// The condemned among the digests that begin with the same two digits.
pub(super) fn condemned(shard: &Shard) -> Result<Key> {
    Key::new(format!("{}{}-{}", all_condemned()?.as_str(), shard.algorithm.name(), shard.digits))
}

pub(super) fn all_condemned() -> Result<Prefix> {
    Prefix::new("_sr/oci/gc/condemned/")
}

/// The shard whose condemned these are.
pub(super) fn condemned_of(key: &Key) -> Option<Shard> {
    let (algorithm, digits) = key.as_str().strip_prefix("_sr/oci/gc/condemned/")?.split_once('-')?;
    let algorithm = ALGORITHMS.into_iter().find(|one| one.name() == algorithm)?;
    (digits.len() == 2).then(|| Shard { algorithm, digits: digits.to_owned() })
}

/// What digests may be made with.
pub(super) const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// The digests of one algorithm that begin with the same two hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shard {
    algorithm: Algorithm,
    digits: String,
}

impl Shard {
    pub(super) fn of(digest: &Digest) -> Self {
        Self { algorithm: digest.algorithm(), digits: digest.hex().get(..2).unwrap_or_default().to_owned() }
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The beginning of its digests.
    pub(super) fn digits(&self) -> &str {
        &self.digits
    }
}

/// The blobs whose digests begin so, in order of their digests.
pub(super) fn blobs_from(algorithm: Algorithm, digits: &str) -> Result<Prefix> {
    Prefix::new(format!("oci/blobs/{}/{digits}", algorithm.name()))
}

/// The digest of a listed blob.
pub(super) fn blob_of(key: &Key) -> Option<Digest> {
    let (algorithm, hex) = key.as_str().strip_prefix("oci/blobs/")?.split_once('/')?;
    Digest::from_hex(ALGORITHMS.into_iter().find(|one| one.name() == algorithm)?, hex)
}

/// The links whose digests begin so, in order of their digests.
pub(super) fn links_from(algorithm: Algorithm, digits: &str) -> Result<Prefix> {
    Prefix::new(format!("_sr/oci/links/{}/{digits}", algorithm.name()))
}

/// The digest of a listed link, and the repository if it is one that can be.
pub(super) fn linked(key: &Key) -> Option<(Digest, Option<Name>)> {
    let (algorithm, rest) = key.as_str().strip_prefix("_sr/oci/links/")?.split_once('/')?;
    let (hex, name) = rest.split_once('/')?;
    let digest = Digest::from_hex(ALGORITHMS.into_iter().find(|one| one.name() == algorithm)?, hex)?;
    Some((digest, name.strip_suffix("/_").and_then(Name::parse)))
}

/// All manifests of all repositories.
pub(super) fn all_manifests() -> Result<Prefix> {
    Prefix::new("oci/manifests/")
}

/// The digest of a listed manifest, and its repository if it is one that can be.
pub(super) fn any_manifest_of(key: &Key) -> Option<(Option<Name>, Digest)> {
    let (name, digest) = key.as_str().strip_prefix("oci/manifests/")?.rsplit_once('/')?;
    Some((Name::parse(name), Digest::parse(digest)?))
}

/// All descriptors of referrers.
pub(super) fn all_referrers() -> Result<Prefix> {
    Prefix::new("_sr/oci/referrers/")
}

/// Repository and digest of a listed descriptor.
pub(super) fn referrer_of(key: &Key) -> Option<(Name, Digest)> {
    let (name, rest) = key.as_str().strip_prefix("_sr/oci/referrers/")?.split_once("/_/")?;
    let (_, digest) = rest.split_once('/')?;
    let (algorithm, hex) = digest.split_once('-')?;
    let algorithm = ALGORITHMS.into_iter().find(|one| one.name() == algorithm)?;
    Some((Name::parse(name)?, Digest::from_hex(algorithm, hex)?))
}

/// When things of a repository were last pulled.
pub(super) fn pulls(name: &Name) -> Result<Key> {
    Key::new(format!("_sr/oci/pulls/{name}/_"))
}

/// Everything that is kept of what an upstream says of one of its repositories, below the upstream's folder.
pub(super) fn upstream_repository(name: &str) -> String {
    format!("{name}/_")
}

/// What it says of a tag. Tags that differ in case alone, or end as no file name of Windows does, are told apart by a hash.
pub(super) fn upstream_tag(name: &str, tag: &str) -> String {
    let plain = tag.bytes().all(|byte| !byte.is_ascii_uppercase()) && !tag.ends_with('.');
    if plain {
        return format!("{name}/_/tags/{tag}");
    }
    let hash = Digest::sha256(tag.as_bytes()).hex();
    format!("{name}/_/tags/~{hash}")
}

/// Its list of tags.
pub(super) fn upstream_tags(name: &str) -> String {
    format!("{name}/_/list")
}

/// Its list of referrers.
pub(super) fn upstream_referrers(name: &str, subject: &Digest) -> String {
    format!("{name}/_/referrers/{}", segment(subject))
}

fn segment(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_repositories_do_not_mix() {
        let digest = Digest::sha256(b"x");
        let (outer, inner) = (Name::parse("a").unwrap(), Name::parse("a/b").unwrap());
        let listed = manifests(&outer).unwrap();
        assert!(manifest_of(&listed, &manifest(&outer, &digest).unwrap()).is_some());
        assert!(manifest_of(&listed, &manifest(&inner, &digest).unwrap()).is_none());
        let holders = links(&digest).unwrap();
        for name in [outer, inner] {
            assert_eq!(link_of(&holders, &link(&name, &digest).unwrap()), Some(name.clone()));
            assert_eq!(repository_of(&repository(&name).unwrap()), Some(name.clone()));
            assert_eq!(tags_of(&tags(&name).unwrap()), Some(name));
        }
    }

    #[test]
    fn the_longest_name_still_makes_keys() {
        let name = Name::parse(&"a".repeat(255)).unwrap();
        let digest = Digest::of(Algorithm::Sha512, b"x");
        assert!(link(&name, &digest).is_ok() && referrer(&name, &digest, &digest).is_ok());
    }
}
