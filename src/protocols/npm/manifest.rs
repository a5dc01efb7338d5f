//! A version's manifest on its way in: what the client says, checked against its tarball, with the server's own fields in place of the
//! client's. Everything else is kept as it was sent: registries that list the fields they know keep breaking clients.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::json;

use super::inspect::Inspected;
use super::json::{Members, ObjectWriter};
use super::model::Person;
use super::name::PackageName;
use super::{attestations, version};
use crate::core::digest::Digests;
use crate::protocols::prelude::*;

/// Fields that are the server's, that an install left behind in the publisher's folder, or that are kept elsewhere.
const DROPPED: &[&str] = &[
    "_id",
    "_rev",
    "_sr",
    "_npmUser",
    "_attachments",
    "maintainers",
    "dist",
    "readme",
    "time",
    "users",
    "hasInstallScript",
    "_hasShrinkwrap",
    "name",
    "version",
    "bin",
    "deprecated",
    "integrity",
    "shasum",
    "_resolved",
    "_from",
    "_integrity",
    "_shasum",
    "_where",
    "_args",
    "_inBundle",
    "_inCache",
    "_installable",
    "_phantomChildren",
    "_requested",
    "_requiredBy",
    "_shrinkwrap",
    "_spec",
    "_location",
    "_development",
    "_optional",
];

/// How the name of a Sigstore bundle among the attachments ends.
pub(crate) const BUNDLE: &str = ".sigstore";

/// What is known of a tarball once all of it is here.
#[derive(Debug)]
pub(crate) struct TarballFacts<'a> {
    pub(crate) digests: &'a Digests,
    /// `None` when looking inside is switched off.
    pub(crate) inside: Option<&'a Inspected>,
    /// Its public URL as of now; made anew for each answer.
    pub(crate) url: String,
    /// `dist.signatures`, if this registry signs.
    pub(crate) signatures: Option<Vec<u8>>,
    /// `predicateType` of the attestation that came along.
    pub(crate) attested: Option<&'a str>,
}

impl TarballFacts<'_> {
    /// `sha512-…`
    pub(crate) fn integrity(&self) -> String {
        self.digests.get(Algorithm::Sha512).map(Digest::integrity).unwrap_or_default()
    }
}

/// Checks the hashes that the client named against the bytes.
pub(crate) fn check_hashes(sent: &Members<'_>, facts: &TarballFacts<'_>, package: &str) -> Result<()> {
    let Some(dist) = sent.object("dist") else { return Ok(()) };
    let shasum = dist.text("shasum").filter(|sum| !sum.is_empty());
    let sha1 = facts.digests.get(Algorithm::Sha1).map(Digest::hex).unwrap_or_default();
    if shasum.is_some_and(|sum| !sum.eq_ignore_ascii_case(&sha1)) {
        return Err(Error::invalid(format!(
            "the tarball of {package} has another shasum than its manifest says: {sha1}"
        )));
    }
    // An integrity text is a list; each algorithm that was computed must be right.
    let integrity = dist.text("integrity").unwrap_or_default();
    for one in integrity.split_ascii_whitespace() {
        let one = one.split('?').next().unwrap_or_default();
        let computed = [Algorithm::Sha512, Algorithm::Sha1]
            .into_iter()
            .filter_map(|algorithm| facts.digests.get(algorithm).map(Digest::integrity))
            .find(|computed| computed.split('-').next() == one.split('-').next());
        if computed.as_deref().is_some_and(|computed| computed != one) {
            return Err(Error::invalid(format!(
                "the tarball of {package} does not match the integrity in its manifest; it is {}",
                facts.integrity()
            )));
        }
    }
    Ok(())
}

/// The manifest to store, without `maintainers`.
pub(crate) fn build(
    name: &PackageName,
    version: &str,
    sent: &Members<'_>,
    facts: &TarballFacts<'_>,
    user: &Person,
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut object = ObjectWriter::begin(&mut out);
    object.member("name", name.as_str());
    object.member("version", version);
    for (key, value) in sent.0.iter().filter(|(key, _)| !DROPPED.contains(&key.as_ref())) {
        object.raw(key, value.get().as_bytes());
    }
    if let Some(bin) = sent.get("bin") {
        object.raw("bin", &normal_bin(name, bin.get()));
    }
    if let Some(message) = sent.text("deprecated").filter(|message| !message.is_empty()) {
        object.member("deprecated", &message);
    }
    object.member("_id", &format!("{name}@{version}"));
    if let Some(inside) = facts.inside {
        if inside.has_install_script || has_install_script(sent) {
            object.member("hasInstallScript", &true);
        }
        object.member("_hasShrinkwrap", &inside.has_shrinkwrap);
    }
    let mut dist = object.object("dist");
    dist.member("integrity", &facts.integrity());
    dist.member("shasum", &facts.digests.get(Algorithm::Sha1).map(Digest::hex).unwrap_or_default());
    dist.member("tarball", &facts.url);
    if let Some(inside) = facts.inside {
        dist.member("fileCount", &inside.files);
        dist.member("unpackedSize", &inside.unpacked);
    }
    if let Some(signatures) = &facts.signatures {
        dist.raw("signatures", signatures);
    }
    if let Some(predicate) = facts.attested {
        // The URL is made for each answer.
        let mut attestations = dist.object("attestations");
        attestations.member("url", "");
        if attestations::is_provenance(predicate) {
            attestations.member("provenance", &json!({ "predicateType": predicate }));
        }
        attestations.end();
    }
    dist.end();
    object.member("_npmUser", user);
    object.end();
    out
}

/// Whether installing runs something of the package's own.
pub(crate) fn has_install_script(manifest: &Members<'_>) -> bool {
    let Some(scripts) = manifest.object("scripts") else { return false };
    ["preinstall", "install", "postinstall"].iter().any(|name| scripts.has(name))
}

/// `"bin": "cli.js"` means one program of the package's name; readers expect the object.
fn normal_bin<'a>(name: &PackageName, bin: &'a str) -> Cow<'a, [u8]> {
    match serde_json::from_str::<Cow<'_, str>>(bin) {
        Ok(path) => json!({ name.unscoped(): path }).to_string().into_bytes().into(),
        Err(_) => bin.as_bytes().into(),
    }
}

/// What a publish body says besides the tarball, checked for being about one version of the package in the path.
pub(crate) struct Submission<'a> {
    pub(crate) version: String,
    pub(crate) manifest: Members<'a>,
    pub(crate) tags: Vec<String>,
    pub(crate) readme: Option<String>,
    pub(crate) access: Option<String>,
    /// `length` of the tarball's attachment.
    pub(crate) length: Option<u64>,
    /// The text of the Sigstore bundle that came along.
    pub(crate) bundle: Option<String>,
}

impl<'a> Submission<'a> {
    /// Reads a checked document. `attachment` is the name under which the tarball came, `given` a bundle that came beside the document.
    pub(crate) fn read(
        name: &PackageName,
        body: &Members<'a>,
        attachment: &str,
        given: Option<&Bytes>,
    ) -> Result<Self> {
        let said = body.text("name").or_else(|| body.text("_id")).unwrap_or_default();
        if said != name.as_str() {
            let said = super::name::printable(&said);
            return Err(Error::invalid(format!("the document is about `{said}` and was sent to {name}")));
        }
        let versions = body.object("versions").unwrap_or_default();
        let [(key, manifest)] = versions.0.as_slice() else {
            return Err(Error::invalid(format!(
                "a publish of {name} must have exactly one version, not {}",
                versions.0.len()
            )));
        };
        let version = version::require(key)?;
        let manifest = Members::of(manifest)
            .ok_or_else(|| Error::invalid(format!("the manifest of {name}@{version} is no object")))?;
        if manifest.has("name") && manifest.text("name").as_deref() != Some(name.as_str()) {
            return Err(Error::invalid(format!("the manifest of {name}@{version} names another package")));
        }
        if manifest.has("version")
            && manifest.text("version").and_then(|text| version::clean(&text)) != Some(version.clone())
        {
            return Err(Error::invalid(format!("the manifest of {name}@{version} names another version")));
        }
        if attachment_version(name, attachment).as_ref() != Some(&version) {
            return Err(Error::invalid(format!(
                "the attachment must be called {}",
                super::keys::canonical(name, &version)
            )));
        }
        let attachments = body.object("_attachments").unwrap_or_default();
        let length = attachments.object(attachment).and_then(|attachment| attachment.read("length"));
        let bundle = bundle(name, &version, &attachments, given)?;
        let readme = manifest.text("readme").or_else(|| body.text("readme"));
        Ok(Self {
            tags: tags(name, &version, body)?,
            access: body.text("access"),
            version,
            manifest,
            readme,
            length,
            bundle,
        })
    }
}

/// The Sigstore bundle among the attachments: JSON in a text, not base64.
fn bundle(
    name: &PackageName,
    version: &str,
    attachments: &Members<'_>,
    given: Option<&Bytes>,
) -> Result<Option<String>> {
    let is_bundle = |key: &str| key.ends_with(BUNDLE);
    let mut bundles = attachments.0.iter().filter(|(key, _)| is_bundle(key));
    let Some((key, attachment)) = bundles.next() else { return Ok(None) };
    let stem = key.strip_suffix(BUNDLE).unwrap_or_default();
    if bundles.next().is_some() || stem_version(name, stem).as_deref() != Some(version) {
        return Err(Error::invalid(format!(
            "{name}@{version} may have one attestation, called {name}-{version}{BUNDLE}"
        )));
    }
    let given = given.and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::to_owned);
    match given.or_else(|| Members::of(attachment)?.text("data")) {
        Some(text) => Ok(Some(text)),
        None => Err(Error::invalid(format!("the attestation of {name}@{version} has no data"))),
    }
}

/// The tags of the document, all of which must name the version that comes with it.
fn tags(name: &PackageName, version: &str, body: &Members<'_>) -> Result<Vec<String>> {
    let mut tags = BTreeSet::new();
    for (tag, target) in &body.object("dist-tags").unwrap_or_default().0 {
        super::name::check_tag(tag)?;
        let target: Option<String> = serde_json::from_str(target.get()).ok();
        if target.and_then(|target| version::clean(&target)).as_deref() != Some(version) {
            return Err(Error::invalid(format!(
                "the tag `{}` must name {name}@{version}, the version being published",
                super::name::printable(tag)
            )));
        }
        tags.insert(tag.to_string());
    }
    Ok(tags.into_iter().collect())
}

/// The version in an attachment's name: `@acme/widget-1.0.0.tgz` as clients write it, or `widget-1.0.0.tgz`. The name is never a key.
pub(crate) fn attachment_version(name: &PackageName, attachment: &str) -> Option<String> {
    stem_version(name, attachment.strip_suffix(".tgz")?)
}

fn stem_version(name: &PackageName, stem: &str) -> Option<String> {
    let rest = stem.strip_prefix(name.as_str()).or_else(|| stem.strip_prefix(name.unscoped()))?;
    version::clean(rest.strip_prefix('-')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachment_names() {
        let name = PackageName::parse("@acme/widget").unwrap();
        for good in ["@acme/widget-1.0.0.tgz", "widget-1.0.0.tgz", "widget-1.0.0+b.tgz"] {
            assert_eq!(attachment_version(&name, good).as_deref(), Some("1.0.0"), "{good}");
        }
        for bad in [
            "",
            "widget.tgz",
            "other-1.0.0.tgz",
            "widget-latest.tgz",
            "../widget-1.0.0.tgz",
            "widget-../../1.0.0.tgz",
            "widget-1.0.0.zip",
        ] {
            assert_eq!(attachment_version(&name, bad), None, "{bad}");
        }
    }

    #[test]
    fn bins_become_objects() {
        let name = PackageName::parse("@acme/widget").unwrap();
        assert_eq!(normal_bin(&name, "\"cli.js\"").as_ref(), br#"{"widget":"cli.js"}"#);
        assert_eq!(normal_bin(&name, "{\"a\":\"b\"}").as_ref(), b"{\"a\":\"b\"}");
    }
}
