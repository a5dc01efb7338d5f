//! Publish bodies on their way in: the splitter, base64, gzip, batches, the document around a tarball, and the tarball's inside.
#![allow(clippy::indexing_slicing, clippy::similar_names)] // a panic here is a finding

use std::collections::BTreeMap;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::read::GzDecoder;
use serde_json::Value;

use super::super::attestations;
use super::super::batch;
use super::super::decode::{Base64, Gunzip};
use super::super::inspect::{Inspected, Inspector};
use super::super::intake::{Event, IntakeLimits, Splitter};
use super::super::json::{self, Members};
use super::super::manifest::{self, Submission, TarballFacts};
use super::super::model::Person;
use super::super::name::{self, PackageName};
use super::super::version;
use crate::core::archive::{ArchiveLimits, TarGz};
use crate::core::digest::{Algorithm, Digest, Hasher};
use crate::fuzzing::input::{Input, cuts};

const LIMITS: IntakeLimits = IntakeLimits { document: 6000, around: 4000, attachment: 2000 };

pub(crate) fn publish(data: &[u8]) {
    let mut input = Input::new(data);
    let (mode, seed) = (input.byte(), input.byte());
    match mode % 5 {
        0 => body(input.rest(), seed),
        1 => base64(input.rest(), seed),
        2 => gunzip(input.rest(), seed),
        3 => packages(input.rest(), seed),
        _ => submission(&input.text(), &input.text(), input.rest()),
    }
}

/// The document without data, and what the attachments held.
type Split = (Bytes, Vec<(String, Vec<u8>)>);

fn split(pieces: &[&[u8]]) -> Option<Split> {
    let mut splitter = Splitter::new(LIMITS);
    let mut events = Vec::new();
    for piece in pieces {
        splitter.feed(piece, &mut events).ok()?;
    }
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    for event in events {
        match event {
            Event::Begin(name) => found.push((name, Vec::new())),
            Event::Data(data) => found.last_mut().into_iter().for_each(|one| one.1.extend_from_slice(&data)),
            Event::End => {}
        }
    }
    Some((splitter.finish().ok()?, found))
}

fn body(data: &[u8], seed: u8) {
    let [first, rest @ ..] = cuts(data, seed).map(|pieces| split(&pieces));
    for other in rest {
        assert_eq!(first, other, "pieces matter");
    }
    let whole = json::check(data).ok().and_then(|()| serde_json::from_slice::<Value>(data).ok());
    let Some((kept, found)) = first else {
        // What is JSON and small is only refused for its base64.
        if data.len() < 1000
            && let Some(whole) = whole
        {
            assert!(tarballs(&whole).any(|(_, text)| STANDARD.decode(text).is_err()), "{whole}");
        }
        return;
    };
    let bound = if found.is_empty() { LIMITS.document } else { LIMITS.around };
    assert!(kept.len() as u64 <= bound);
    assert!(found.iter().map(|(_, data)| data.len() as u64).sum::<u64>() <= LIMITS.attachment);
    // A document is good with its data exactly if it is good without.
    assert_eq!(whole.is_some(), json::check(&kept).is_ok(), "{kept:?}");
    let Some(mut whole) = whole else { return };
    let expected: Vec<_> =
        tarballs(&whole).map(|(name, text)| (name.clone(), STANDARD.decode(text).ok())).collect();
    assert_eq!(found.len(), expected.len(), "{whole}");
    // The order in the document is not that of the map.
    let expected: BTreeMap<_, _> = expected.into_iter().collect();
    for (name, data) in found {
        assert_eq!(expected.get(&name), Some(&Some(data)), "{whole}");
        whole["_attachments"][name]["data"] = Value::from("");
    }
    assert_eq!(serde_json::from_slice::<Value>(&kept).ok(), Some(whole));
}

/// `data` of every attachment that is no Sigstore bundle.
fn tarballs(document: &Value) -> impl Iterator<Item = (&String, &str)> {
    let all = document.get("_attachments").and_then(Value::as_object).into_iter().flatten();
    all.filter(|(name, _)| !name.ends_with(manifest::BUNDLE))
        .filter_map(|(name, attachment)| Some((name, attachment.as_object()?.get("data")?.as_str()?)))
}

fn base64(data: &[u8], seed: u8) {
    let expected = STANDARD.decode(data).ok();
    for pieces in cuts(data, seed) {
        let mut decoder = Base64::default();
        let mut decoded = Vec::new();
        let taken = pieces.iter().try_for_each(|piece| decoder.push(piece, &mut decoded));
        let all = taken.and_then(|()| decoder.finish()).ok().map(|()| decoded);
        assert_eq!(all, expected);
    }
}

fn gunzip(data: &[u8], seed: u8) {
    let mut expected = Vec::new();
    let whole = GzDecoder::new(data).take(1 << 20).read_to_end(&mut expected).is_ok();
    for pieces in cuts(data, seed) {
        let mut decoder = Gunzip::new();
        let mut all = Vec::new();
        let mut feed = |piece: &&[u8]| {
            let out = decoder.feed(piece)?;
            assert!(out.len() <= 1100 * (piece.len() + 300), "a byte gives a thousand");
            all.extend(out);
            Ok(()) as crate::core::error::Result<()>
        };
        let taken = pieces.iter().try_for_each(&mut feed);
        let done = taken.and_then(|()| decoder.finish()).map(|rest| all.extend(rest)).is_ok();
        assert!(!done || (whole && all.get(..expected.len()) == Some(&expected)), "another text came out");
    }
}

fn packages(data: &[u8], seed: u8) {
    let [first, rest @ ..] = cuts(data, seed).map(|pieces| batch::documents(&pieces).ok());
    for other in rest {
        assert_eq!(first, other, "pieces matter");
    }
    let Some(found) = first else { return };
    let whole: Value = serde_json::from_slice(data).unwrap_or_default();
    let list = whole.get("packages").and_then(Value::as_array).cloned().unwrap_or_default();
    let documents: Vec<Option<Value>> = found.iter().map(|one| serde_json::from_slice(one).ok()).collect();
    // Who reads the batch as one document sees the same packages.
    if documents.iter().all(Option::is_some) {
        assert_eq!(documents.into_iter().flatten().collect::<Vec<_>>(), list);
    }
}

fn submission(name: &str, attachment: &str, body: &[u8]) {
    let Ok(package) = PackageName::parse(name) else { return };
    let digest = Digest::of(Algorithm::Sha512, body);
    if let Ok(attestation) = attestations::check(&package, "1.0.0", &digest, &String::from_utf8_lossy(body)) {
        assert!(json::check(&attestation.document).is_ok() && attestation.predicate.len() <= 256);
    }
    if json::check(body).is_err() {
        return;
    }
    let members = Members::parse(body);
    assert!(members.is_some(), "what is checked can be read");
    let members = members.unwrap_or_default();
    let Ok(read) = Submission::read(&package, &members, attachment, None) else { return };
    assert_eq!(version::clean(&read.version).as_ref(), Some(&read.version));
    assert!(read.tags.iter().all(|tag| name::check_tag(tag).is_ok()));
    let mut hasher = Hasher::new(&[Algorithm::Sha1, Algorithm::Sha512]);
    hasher.update(body);
    let digests = hasher.finish();
    let url = "https://registry.example.com/x.tgz".to_owned();
    let facts =
        TarballFacts { digests: &digests, inside: None, url: url.clone(), signatures: None, attested: None };
    let user = Person { name: "bob".to_owned(), email: String::new() };
    let built = manifest::build(&package, &read.version, &read.manifest, &facts, &user);
    assert!(json::check(&built).is_ok(), "{}", String::from_utf8_lossy(&built));
    let built: Value = serde_json::from_slice(&built).unwrap_or_default();
    assert_eq!((&built["name"], &built["version"]), (&Value::from(name), &Value::from(read.version)));
    // What is the server's is the server's.
    assert_eq!(
        (&built["dist"]["tarball"], &built["_npmUser"]["name"]),
        (&Value::from(url), &Value::from("bob"))
    );
    assert_eq!(built["dist"]["integrity"], Value::from(digest.integrity()));
    for field in ["maintainers", "_rev", "time", "users", "_attachments", "hasInstallScript"] {
        assert!(built.get(field).is_none(), "{built}");
    }
}

/// Looks into a tarball as a publish does.
pub(crate) fn inspect(pieces: &[&[u8]], limits: ArchiveLimits) -> Option<Inspected> {
    let mut tarball = TarGz::new(Inspector::default(), limits);
    pieces.iter().try_for_each(|piece| tarball.feed(piece)).ok()?;
    let inspected = tarball.finish().ok()?.finish().ok()?;
    assert!(inspected.files <= limits.entries && inspected.unpacked <= limits.unpacked);
    let other = PackageName::parse("@fuzz/never-inside").ok()?;
    let _ = inspected.check_identity(&other, "1.0.0");
    Some(inspected)
}
