//! What must hold for any bytes that reach this protocol's parsers. Listed in `crate::fuzzing`.
#![allow(clippy::indexing_slicing, clippy::similar_names)] // a panic here is a finding

use serde_json::Value;

use super::super::prelude::*;
use super::keys;
use super::login;
use super::model::{self, Manifest};
use super::name::{self, Name, Reference};
use super::options::Options;
use super::session::Session;
use super::strict;
use super::tags::TagList;
use super::upload::chunk_range;
use crate::config::ProtocolConfig;
use crate::core::path::Segments;
use crate::fuzzing::input::Input;

/// Options of this protocol, as an application writes them.
pub(crate) fn options(config: &ProtocolConfig) {
    match Options::read(config) {
        Ok(options) => {
            for rule in &options.immutable_tags {
                assert!(!rule.repository.is_empty() && !rule.tag.contains(':'), "{rule:?}");
            }
        }
        Err(error) => assert!(error.message().starts_with("option `oci"), "{error}"),
    }
}

/// Lines: a repository, a reference, a header.
pub(crate) fn name(input: &mut Input<'_>) {
    let (repository, reference, header) = (input.text(), input.text(), input.rest_text());
    let digest = Digest::sha256(header.as_bytes());
    if let Some(name) = Name::parse(&repository) {
        repository_name(&name, &repository, &digest);
    }
    match Reference::parse(&reference) {
        Ok(Reference::Tag(tag)) => {
            assert!(tag == reference && name::is_tag(&tag) && Digest::parse(&tag).is_none(), "{reference:?}");
            assert!(!tag.contains(['/', ':']) && !tag.starts_with('.') && tag.len() <= 128, "{reference:?}");
        }
        Ok(Reference::Digest(digest)) => {
            assert_eq!(digest.to_string(), reference);
            let tag = name::fallback_tag(&digest);
            assert!(name::is_tag(&tag) && name::is_fallback(&tag), "{tag:?}");
        }
        Err(error) => assert!(error.status() == 400 && error.code().is_some()),
    }
    let asked: Vec<&str> = header.lines().collect();
    for ((kind, name), _) in login::parse_scopes(&asked) {
        assert!(kind == "registry" || Name::parse(&name).is_some(), "{header:?}");
    }
    if let Some((start, end)) = chunk_range(&header) {
        assert!(start <= end && end < u64::MAX, "{header:?}");
        assert_eq!(chunk_range(&format!("{start}-{end}")), Some((start, end)));
    }
}

fn repository_name(name: &Name, text: &str, digest: &Digest) {
    assert_eq!(name.as_str(), text);
    let segments = Segments::parse(text).unwrap_or_default();
    assert!(segments.parts().join("/") == text && !segments.had_encoded_slash(), "{text:?}");
    // What a name makes lies in its own place, and is read back to the same name.
    let read_back = [
        keys::tags(name).map(|key| (keys::tags_of(&key), "oci/tags/", key)),
        keys::repository(name).map(|key| (keys::repository_of(&key), "_sr/oci/repositories/", key)),
        keys::links(digest).and_then(|links| {
            keys::link(name, digest).map(|key| (keys::link_of(&links, &key), "_sr/oci/links/", key))
        }),
    ];
    for (found, place, key) in read_back.into_iter().flatten() {
        assert_eq!(found.as_ref(), Some(name), "{key}");
        assert!(key.as_str().starts_with(place), "{key}");
    }
    if let (Ok(all), Ok(key)) = (keys::manifests(name), keys::manifest(name, digest)) {
        assert_eq!(keys::manifest_of(&all, &key).as_ref(), Some(digest), "{key}");
    }
}

/// A line with a content type, then a manifest.
pub(crate) fn manifest(data: &[u8]) {
    let mut input = Input::new(data);
    let (others, content_type) = (input.byte() % 2 == 1, input.text());
    let bytes = input.rest();
    let strict = strict::parse(bytes);
    if let Ok(value) = &strict {
        assert_eq!(serde_json::from_slice::<Value>(bytes).ok().as_ref(), Some(value));
    }
    let content_type = Some(content_type.as_str()).filter(|text| !text.is_empty());
    match Manifest::parse(bytes, content_type, others) {
        Err(error) => assert_eq!(error.code(), Some("MANIFEST_INVALID"), "{error}"),
        Ok(manifest) => pushed(&manifest, bytes, content_type, &strict.unwrap_or_default()),
    }
    // Bytes in the bucket may be anybody's.
    let served = model::serve_type(content_type, bytes);
    assert!(
        served.starts_with("application/") && served.bytes().all(|byte| byte.is_ascii_graphic()),
        "{served}"
    );
    if let Some(stored) = Manifest::parse_stored(bytes) {
        assert!(stored.references().count() <= 10_001);
        let entry = stored.as_referrer(&Digest::sha256(bytes), bytes.len() as u64);
        assert_eq!(entry["size"], Value::from(bytes.len()));
    }
}

fn pushed(manifest: &Manifest, bytes: &[u8], content_type: Option<&str>, value: &Value) {
    assert!(value.is_object(), "a manifest is read strictly");
    // Both names of the type are the one that it is served with.
    let neutral = ["application/json", "application/octet-stream"];
    if let Some(said) = content_type.filter(|said| !neutral.contains(said)) {
        assert_eq!(manifest.media_type, said);
    }
    if let Some(said) = value["mediaType"].as_str() {
        assert_eq!(manifest.media_type, said);
    }
    assert_eq!(model::serve_type(Some(&manifest.media_type), bytes), manifest.media_type);
    assert!(manifest.references().count() <= 10_001);
    // An image is no index (CVE-2021-41190).
    assert!(manifest.children.is_empty() || manifest.blobs.is_empty());
    if manifest.references().count() > 0 {
        let stored = Manifest::parse_stored(bytes);
        let same = stored.is_some_and(|stored| {
            stored.blobs == manifest.blobs
                && stored.children == manifest.children
                && stored.subject == manifest.subject
        });
        assert!(same, "what is pushed is found again");
    }
    let entry = manifest.as_referrer(&Digest::sha256(bytes), bytes.len() as u64);
    assert_eq!(entry["mediaType"], Value::from(manifest.media_type.as_ref()));
}

/// A line with a tag to set, then a stored tag list.
pub(crate) fn tag_list(input: &mut Input<'_>) {
    let tag = input.text();
    let Ok(mut list) = TagList::parse(&Bytes::copy_from_slice(input.rest())) else { return };
    assert!(list.names().all(|name| name::is_tag(name) && list.get(name).is_some()));
    let read = |list: &TagList| TagList::parse(&list.serialize().unwrap_or_default()).unwrap_or_default();
    let same = |one: &TagList, other: &TagList| {
        one.names().eq(other.names()) && one.names().all(|name| one.get(name) == other.get(name))
    };
    assert!(same(&read(&list), &list), "{list:?}");
    if !name::is_tag(&tag) {
        return;
    }
    let digest = Digest::sha256(tag.as_bytes());
    list.set(&tag, &digest);
    let mut again = read(&list);
    assert!(same(&again, &list) && !again.set(&tag, &digest), "{list:?}");
    again.remove(&tag);
    assert!(read(&again).get(&tag).is_none(), "{again:?}");
    again.remove_digest(&digest);
    let rest = read(&again);
    assert!(!rest.has_digest(&digest) && same(&rest, &again), "{again:?}");
}

/// A stored upload session.
pub(crate) fn session(input: &mut Input<'_>) {
    let Ok(session) = Session::parse(&Bytes::copy_from_slice(input.rest())) else { return };
    let written = session.serialize().unwrap_or_default();
    let again = Session::parse(&written).and_then(|session| session.serialize());
    assert_eq!(again.ok(), Some(written));
    assert!(session.algorithms().contains(&Algorithm::Sha256));
    let _ = session.stored();
}
