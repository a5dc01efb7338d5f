//! Manifests: what a pushed one must look like, what it references, and how it is listed as a referrer. Pure; the bytes are never rewritten.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/manifest.md>, `image-index.md` beside it, and Docker's schema 2.

use std::borrow::Cow;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::prelude::*;
use super::error::manifest_invalid;
use super::strict;

pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Most descriptors in one manifest: each costs a look into the store.
const MAX_DESCRIPTORS: usize = 10_000;

/// The types that can be pushed.
const TYPES: [(&str, Shape); 5] = [
    (OCI_IMAGE, Shape::Image),
    (OCI_INDEX, Shape::Index),
    (DOCKER_IMAGE, Shape::Image),
    (DOCKER_LIST, Shape::Index),
    // Withdrawn from the specification, and stored in the wild.
    (OCI_ARTIFACT, Shape::Artifact),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Image,
    Index,
    Artifact,
    /// Of a type that the registry knows nothing of: kept as it is.
    Other,
}

/// Whether a type is JSON of some application's, and none that is refused on purpose: Docker's schema 1 has no digests of its layers' types.
fn is_other(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    let inner = name.strip_prefix("application/").and_then(|rest| rest.strip_suffix("+json"));
    inner.is_some_and(|inner| !inner.is_empty() && inner.len() < 100 && inner.bytes().all(plain))
        && name != DOCKER_SCHEMA_1
}

/// A manifest as far as the registry looks into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Content type it is served with.
    pub(super) media_type: Cow<'static, str>,
    /// Config, layers and blobs that must be in the repository.
    pub(super) blobs: Vec<Descriptor>,
    /// Manifests that an index lists; build caches list blobs there as well.
    pub(super) children: Vec<Descriptor>,
    /// What it is about.
    pub(super) subject: Option<Digest>,
    artifact_type: Option<String>,
    annotations: Option<Map<String, Value>>,
}

/// A reference by content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// May be absent: it is fetched from elsewhere, or may not be distributed.
    pub(super) foreign: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    schema_version: Option<Value>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    blobs: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    subject: Option<RawDescriptor>,
    annotations: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
    data: Option<String>,
}

impl Manifest {
    /// Reads a pushed manifest. `content_type` is the header's, without parameters; `others` lets in types that nobody here knows.
    ///
    /// # Errors
    /// `MANIFEST_INVALID`, saying what is wrong.
    pub(super) fn parse(bytes: &[u8], content_type: Option<&str>, others: bool) -> Result<Self> {
        let value = strict::parse(bytes).map_err(manifest_invalid)?;
        if !value.is_object() {
            return Err(manifest_invalid("a manifest is a JSON object"));
        }
        let member = value.get("mediaType").and_then(Value::as_str);
        if let (media_type, Shape::Other) = media_type(content_type, member, others)? {
            return Ok(Self::opaque(media_type));
        }
        let raw: RawManifest = serde_json::from_value(value)
            .map_err(|error| manifest_invalid(format!("this is no manifest: {error}")))?;
        // One that can be read in two ways is read differently by the next tool (CVE-2021-41190).
        if raw.manifests.is_some() && (raw.layers.is_some() || raw.config.is_some()) {
            return Err(manifest_invalid(
                "a manifest has either `manifests`, or `config` and `layers`, never both",
            ));
        }
        let (media_type, shape) = media_type(content_type, raw.media_type.as_deref(), others)?;
        if shape != Shape::Artifact && raw.schema_version != Some(json!(2)) {
            return Err(manifest_invalid("`schemaVersion` must be 2"));
        }
        if shape == Shape::Index && raw.manifests.is_none() {
            return Err(manifest_invalid("an index needs a list `manifests`"));
        }
        if shape != Shape::Index && raw.manifests.is_some() {
            return Err(manifest_invalid(format!(
                "`manifests` belongs into an index, not into {media_type}"
            )));
        }
        if shape == Shape::Image && raw.config.is_none() {
            return Err(manifest_invalid("an image manifest needs a `config`"));
        }
        Self::check(raw, media_type)
    }

    fn opaque(media_type: Cow<'static, str>) -> Self {
        Self {
            media_type,
            blobs: Vec::new(),
            children: Vec::new(),
            subject: None,
            artifact_type: None,
            annotations: None,
        }
    }

    fn check(raw: RawManifest, media_type: Cow<'static, str>) -> Result<Self> {
        let config_type = raw.config.as_ref().map(|config| config.media_type.clone());
        let layers = raw.layers.unwrap_or_default();
        let blobs = raw.blobs.unwrap_or_default();
        let manifests = raw.manifests.unwrap_or_default();
        if layers.len() + blobs.len() + manifests.len() > MAX_DESCRIPTORS {
            return Err(manifest_invalid(format!("a manifest lists at most {MAX_DESCRIPTORS} descriptors")));
        }
        let blobs = raw.config.into_iter().chain(layers).chain(blobs).map(RawDescriptor::check);
        Ok(Self {
            media_type,
            blobs: blobs.collect::<Result<_>>()?,
            children: manifests.into_iter().map(RawDescriptor::check).collect::<Result<_>>()?,
            subject: raw.subject.map(|subject| subject.check().map(|subject| subject.digest)).transpose()?,
            artifact_type: raw.artifact_type.filter(|text| !text.is_empty()).or(config_type),
            annotations: raw.annotations.filter(|list| !list.is_empty()),
        })
    }

    /// Reads a stored manifest, as leniently as it goes: somebody else may have stored it, by other rules.
    pub(super) fn parse_stored(bytes: &[u8]) -> Option<Self> {
        let raw: RawManifest = serde_json::from_slice(bytes).ok()?;
        let media_type = stored_type(raw.media_type.as_deref(), raw.manifests.is_some());
        Self::check(raw, media_type.into()).ok()
    }

    /// Whether it is of a type that the specification has withdrawn.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.media_type == OCI_ARTIFACT
    }

    /// Everything it references within its repository.
    pub(super) fn references(&self) -> impl Iterator<Item = &Descriptor> {
        self.blobs.iter().chain(&self.children)
    }

    /// How the manifest is listed among the referrers of its subject.
    pub(super) fn as_referrer(&self, digest: &Digest, size: u64) -> Value {
        let mut entry = json!({ "mediaType": self.media_type, "digest": digest.to_string(), "size": size });
        if let Some(entry) = entry.as_object_mut() {
            if let Some(artifact_type) = &self.artifact_type {
                entry.insert("artifactType".to_owned(), json!(artifact_type));
            }
            if let Some(annotations) = &self.annotations {
                entry.insert("annotations".to_owned(), Value::Object(annotations.clone()));
            }
        }
        entry
    }
}

impl RawDescriptor {
    fn check(self) -> Result<Descriptor> {
        if self.media_type.is_empty() {
            return Err(manifest_invalid("a descriptor needs a `mediaType`"));
        }
        let Some(digest) = Digest::parse(&self.digest) else {
            return Err(manifest_invalid("a descriptor's `digest` is neither a sha256 nor a sha512 digest"));
        };
        if let Some(data) = &self.data {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(data)
                .map_err(|_| manifest_invalid("a descriptor's `data` is not base64"))?;
            if bytes.len() as u64 != self.size || Digest::of(digest.algorithm(), &bytes) != digest {
                return Err(manifest_invalid("a descriptor's `data` does not match its size and digest"));
            }
        }
        let foreign = self.urls.is_some_and(|urls| !urls.is_empty())
            || self.media_type.contains("nondistributable")
            || self.media_type.contains(".foreign.");
        Ok(Descriptor { digest, size: self.size, foreign })
    }
}

/// The type to serve a pushed manifest with.
fn media_type(
    header: Option<&str>,
    member: Option<&str>,
    others: bool,
) -> Result<(Cow<'static, str>, Shape)> {
    let header = header.filter(|name| !matches!(*name, "" | "application/json" | "application/octet-stream"));
    let name = match (header, member) {
        (Some(header), Some(member)) if header != member => {
            return Err(manifest_invalid("`mediaType` and the `Content-Type` header are not the same"));
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => {
            return Err(manifest_invalid("a manifest needs a `Content-Type` header or a `mediaType`"));
        }
    };
    if let Some((known, shape)) = TYPES.into_iter().find(|(known, _)| *known == name) {
        return Ok((Cow::Borrowed(known), shape));
    }
    if others && is_other(name) {
        return Ok((Cow::Owned(name.to_owned()), Shape::Other));
    }
    Err(manifest_invalid(
        "this type of manifest is not taken: push an OCI image manifest or index, or Docker's schema 2",
    ))
}

/// The type to serve a stored manifest with, when nothing else tells.
pub(super) fn stored_type(member: Option<&str>, has_manifests: bool) -> &'static str {
    let known = member.and_then(|member| TYPES.into_iter().find(|(known, _)| *known == member));
    known.map_or(if has_manifests { OCI_INDEX } else { OCI_IMAGE }, |(name, _)| name)
}

/// The type to serve bytes with that lie in the bucket with this content type: foreign copies lose it.
pub(super) fn serve_type(stored: Option<&str>, bytes: &[u8]) -> Cow<'static, str> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Peek {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    if let Some((known, _)) = TYPES.into_iter().find(|(known, _)| Some(*known) == stored) {
        return Cow::Borrowed(known);
    }
    let Ok(peek) = serde_json::from_slice::<Peek>(bytes) else { return Cow::Borrowed(OCI_IMAGE) };
    let named = peek.media_type.as_deref();
    match stored.filter(|name| is_other(name) && named.is_none_or(|named| named == *name)) {
        Some(other) => Cow::Owned(other.to_owned()),
        None => Cow::Borrowed(stored_type(named, peek.manifests.is_some())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str, content: &str) -> Value {
        let digest = Digest::sha256(content.as_bytes()).to_string();
        json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
    }

    fn image() -> Value {
        json!({ "schemaVersion": 2, "mediaType": OCI_IMAGE, "config": descriptor("application/x", "{}"),
                "layers": [descriptor("application/y", "layer")] })
    }

    fn with(changes: &Value) -> Value {
        let mut image = image();
        for (name, value) in changes.as_object().unwrap() {
            image[name] = value.clone();
        }
        image
    }

    fn parse(value: &Value, content_type: &str) -> Result<Manifest> {
        Manifest::parse(value.to_string().as_bytes(), Some(content_type), false)
    }

    #[test]
    fn what_clients_push_is_taken() {
        assert_eq!(parse(&image(), OCI_IMAGE).unwrap().blobs.len(), 2);
        assert_eq!(parse(&image(), "application/json").unwrap().media_type, OCI_IMAGE);
        for no_layers in [json!([]), Value::Null] {
            assert_eq!(parse(&with(&json!({ "layers": no_layers })), OCI_IMAGE).unwrap().blobs.len(), 1);
        }
        let empty = json!({ "schemaVersion": 2, "manifests": [] });
        assert!(parse(&empty, OCI_INDEX).unwrap().children.is_empty());
        let data = json!({"mediaType": "a/b", "size": 2, "data": "e30=", "digest": Digest::sha256(b"{}").to_string()});
        assert!(parse(&with(&json!({ "config": data, "org.custom": 1 })), OCI_IMAGE).is_ok());
        let artifact =
            json!({ "mediaType": OCI_ARTIFACT, "artifactType": "a/b", "blobs": [descriptor("a/b", "x")] });
        assert_eq!(parse(&artifact, OCI_ARTIFACT).unwrap().blobs.len(), 1);
    }

    #[test]
    fn what_means_two_things_or_nothing_is_refused() {
        let bad_data = json!({"mediaType": "a/b", "size": 2, "data": "AAA=", "digest": Digest::sha256(b"{}").to_string()});
        for changes in [
            json!({ "schemaVersion": 1 }),
            json!({ "manifests": [] }),
            json!({ "config": null }),
            json!({ "mediaType": OCI_INDEX }),
            json!({ "mediaType": "application/vnd.docker.distribution.manifest.v1+json" }),
            json!({ "layers": [{ "mediaType": "a/b", "digest": "sha256:00", "size": 1 }] }),
            json!({ "layers": [{ "mediaType": "a/b", "digest": Digest::sha256(b"").to_string(), "size": -1 }] }),
            json!({ "layers": [{ "mediaType": "a/b", "digest": Digest::sha256(b"").to_string(), "size": 1.5 }] }),
            json!({ "layers": [{ "digest": Digest::sha256(b"").to_string(), "size": 1 }] }),
            json!({ "layers": {} }),
            json!({ "config": bad_data }),
            json!({ "layers": vec![descriptor("a/b", "x"); MAX_DESCRIPTORS + 1] }),
        ] {
            let error = parse(&with(&changes), OCI_IMAGE).unwrap_err();
            assert_eq!(error.code(), Some("MANIFEST_INVALID"), "{changes}");
        }
        let index = json!({ "schemaVersion": 2, "layers": [] });
        assert!(parse(&index, OCI_INDEX).is_err());
        assert!(parse(&json!([]), OCI_IMAGE).is_err());
        assert!(Manifest::parse(b"{\"schemaVersion\":2,", Some(OCI_IMAGE), false).is_err());
        assert!(parse(&json!({ "schemaVersion": 2, "config": descriptor("a/b", "x") }), "").is_err());
    }

    #[test]
    fn a_referrer_is_typed_by_its_config_unless_it_says_itself() {
        let digest = Digest::sha256(b"m");
        let subject = descriptor(OCI_IMAGE, "subject");
        let manifest =
            parse(&with(&json!({ "subject": subject, "annotations": {"k": "v"} })), OCI_IMAGE).unwrap();
        assert_eq!(manifest.subject, Some(Digest::sha256(b"subject")));
        let entry = manifest.as_referrer(&digest, 9);
        assert_eq!(
            (entry["artifactType"].as_str(), entry["annotations"]["k"].as_str()),
            (Some("application/x"), Some("v"))
        );
        let manifest = parse(&with(&json!({ "artifactType": "a/z" })), OCI_IMAGE).unwrap();
        assert_eq!(manifest.as_referrer(&digest, 9)["artifactType"], "a/z");
        let index = json!({ "schemaVersion": 2, "manifests": [], "subject": subject });
        assert!(parse(&index, OCI_INDEX).unwrap().as_referrer(&digest, 9).get("artifactType").is_none());
    }

    #[test]
    fn other_types_are_kept_as_they_are_where_they_are_let_in() {
        let other = "application/vnd.example.thing.v1+json";
        let text = json!({ "mediaType": other, "config": "not a descriptor", "manifests": 1 }).to_string();
        let manifest = Manifest::parse(text.as_bytes(), Some(other), true).unwrap();
        assert_eq!((manifest.media_type.as_ref(), manifest.references().count()), (other, 0));
        assert_eq!(serve_type(Some(other), text.as_bytes()), other);
        assert!(Manifest::parse(text.as_bytes(), Some(other), false).is_err());
        for bad in [
            DOCKER_SCHEMA_1,
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "text/x+json",
            "application/+json",
            "application/a b+json",
        ] {
            let error = Manifest::parse(b"{}", Some(bad), true).unwrap_err();
            assert_eq!(error.code(), Some("MANIFEST_INVALID"), "{bad}");
        }
        // A known type is held to its rules all the same.
        assert!(Manifest::parse(b"{}", Some(OCI_IMAGE), true).is_err());
        assert!(Manifest::parse(text.as_bytes(), Some("application/vnd.example.b+json"), true).is_err());
    }

    #[test]
    fn a_stored_manifest_finds_its_type_again() {
        let bytes = image().to_string();
        assert_eq!(serve_type(Some(DOCKER_IMAGE), bytes.as_bytes()), DOCKER_IMAGE);
        assert_eq!(serve_type(Some("application/octet-stream"), bytes.as_bytes()), OCI_IMAGE);
        assert_eq!(serve_type(None, br#"{"schemaVersion":2,"manifests":[]}"#), OCI_INDEX);
    }
}
