//! Attestations: the Sigstore bundle that comes along with a publish, checked for being about this very tarball, kept as an object of
//! its own, and served as it came.
//!
//! Its signature is for clients to check: they have the roots of trust, a registry in a closed network has none. What is checked here is
//! that nobody hangs the provenance of one tarball on another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::error::not_found;
use super::json::{self, Members, ObjectWriter};
use super::name::PackageName;
use super::{Npm, keys, proxy};
use crate::protocols::files::{self, FileHead};
use crate::protocols::prelude::*;

/// Largest bundle.
const LIMIT: usize = 1 << 20;
/// What an attestation of how a package was built is called.
const PROVENANCE: &str = "https://slsa.dev/provenance/";
/// How the media type of a bundle begins, in all its versions.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const STATEMENT: &str = "application/vnd.in-toto+json";

/// A bundle that is about the version it came with.
#[derive(Debug)]
pub(crate) struct Attestation {
    pub(crate) predicate: String,
    /// The document to store and to serve.
    pub(crate) document: Vec<u8>,
}

/// Whether an attestation says how the package was built: then the packument says so, and pnpm and deno hold later versions to it.
pub(crate) fn is_provenance(predicate: &str) -> bool {
    predicate.starts_with(PROVENANCE)
}

/// Checks a bundle's text against the version and the hash of its tarball.
pub(crate) fn check(name: &PackageName, version: &str, sha512: &Digest, text: &str) -> Result<Attestation> {
    let wrong =
        |why: &str| Error::invalid(format!("the attestation of {name}@{version} can't be taken: {why}"));
    if text.len() > LIMIT {
        return Err(Error::too_large(&format!("the attestation of {name}@{version}"), LIMIT as u64));
    }
    json::check(text.as_bytes()).map_err(|_| wrong("it is no JSON object, or has a key twice"))?;
    let bundle = Members::parse(text.as_bytes()).unwrap_or_default();
    if !bundle.text("mediaType").is_some_and(|kind| kind.starts_with(BUNDLE)) {
        return Err(wrong("it is no Sigstore bundle"));
    }
    let envelope = bundle.object("dsseEnvelope").ok_or_else(|| wrong("it has no DSSE envelope"))?;
    let signed = envelope.read::<Vec<&RawValue>>("signatures").is_some_and(|list| !list.is_empty());
    if envelope.text("payloadType").as_deref() != Some(STATEMENT) || !signed {
        return Err(wrong("its envelope is no signed in-toto statement"));
    }
    let payload = envelope.text("payload").and_then(|text| STANDARD.decode(text).ok());
    let payload = payload.ok_or_else(|| wrong("its payload is no base64"))?;
    json::check(&payload).map_err(|_| wrong("its statement is no JSON object, or has a key twice"))?;
    let statement = Members::parse(&payload).unwrap_or_default();
    let subjects: Vec<&RawValue> = statement.read("subject").unwrap_or_default();
    let [subject] = subjects.as_slice() else { return Err(wrong("it must be about exactly one thing")) };
    let subject = Members::of(subject).unwrap_or_default();
    if subject.text("name") != Some(purl(name, version)) {
        return Err(wrong("it is about another package or version"));
    }
    let hash = subject.object("digest").and_then(|digest| digest.text("sha512"));
    if !hash.is_some_and(|hash| hash.eq_ignore_ascii_case(&sha512.hex())) {
        return Err(wrong("it is about another tarball"));
    }
    let predicate = statement.text("predicateType").filter(|kind| !kind.is_empty() && kind.len() <= 256);
    let predicate = predicate.ok_or_else(|| wrong("it has no predicateType"))?;
    Ok(Attestation { document: document(&predicate, text), predicate })
}

/// `pkg:npm/%40acme/widget@1.0.0`
fn purl(name: &PackageName, version: &str) -> String {
    format!("pkg:npm/{}@{version}", name.as_str().replace('@', "%40"))
}

/// The answer to who asks for it, made once.
fn document(predicate: &str, bundle: &str) -> Vec<u8> {
    let mut out = b"{\"attestations\":[".to_vec();
    let mut object = ObjectWriter::begin(&mut out);
    object.member("predicateType", predicate);
    object.raw("bundle", bundle.trim().as_bytes());
    object.end();
    out.extend_from_slice(b"]}");
    out
}

/// Stores it and answers its file name. Nothing names it yet.
pub(crate) async fn store(
    cx: &Cx,
    name: &PackageName,
    version: &str,
    attestation: &Attestation,
) -> Result<String> {
    let file = keys::attestations(version);
    let info = ObjectInfo::of(name.as_str()).version(version).content_type("application/json");
    let options = PutOptions {
        condition: Condition::Absent,
        content_type: Some("application/json".to_owned()),
        ..PutOptions::default()
    };
    let bytes = Bytes::from(attestation.document.clone());
    match cx.objects.put(&keys::file(name, &file)?, bytes, options, &info).await? {
        Some(_) => Ok(file),
        None => Err(Error::unavailable("the attestation's place is taken; try again")),
    }
}

/// `GET /-/npm/v1/attestations/{pkg}@{version}`
pub(crate) async fn get(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    version: &str,
    request: &Request,
) -> Result<Response> {
    let shown = proxy::package(npm, cx, name, false).await?;
    let packument = &shown.loaded.document;
    if let Some((upstream, _)) = &shown.source
        && let Some(release) = packument.release(version).filter(|release| release.foreign)
    {
        return proxy::attestations(cx, name, release, upstream).await;
    }
    let file = packument.notes.attestations.get(version).filter(|_| packument.release(version).is_some());
    let file = file.ok_or_else(not_found)?;
    let info = ObjectInfo::of(name.as_str()).version(version);
    let head = FileHead { content_type: "application/json", etag: None, cache_control: "private, no-cache" };
    files::serve(cx, request, &keys::file(name, file)?, &head, &info).await?.ok_or_else(not_found)
}
