//! What is known of an object besides its bytes: in an extended attribute of its file, else in a sidecar, else guessed from the file.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::os;
use crate::core::digest::Digest;
use crate::core::id;
use crate::storage::store::{Chunks, ObjectMeta, PutOptions, Version};

/// Folder of the sidecars, in the root.
const SIDECARS: &str = ".sr-meta";

/// Objects up to this size are versioned by their content; larger ones by a random id, since hashing them again would cost more
/// than it tells.
const HASHED: usize = 256 << 10;

/// What is kept with a file. `size` and `modified` tell whether it still is the file that was written: a foreign program
/// may have changed the bytes in place, and then neither version nor user metadata is true any more.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "s")]
    size: u64,
    #[serde(rename = "m")]
    modified: i64,
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(rename = "u", default, skip_serializing_if = "BTreeMap::is_empty")]
    user: BTreeMap<String, String>,
}

/// A version for bytes in memory.
pub(super) fn version_of(data: &Chunks) -> Version {
    if data.len() > HASHED {
        return fresh_version();
    }
    let mut hasher = crate::core::digest::Hasher::new(&[crate::core::digest::Algorithm::Sha256]);
    for piece in data.pieces() {
        hasher.update(piece);
    }
    let digests = hasher.finish();
    let hex = digests.get(crate::core::digest::Algorithm::Sha256).map(Digest::hex).unwrap_or_default();
    Version(format!("\"{}\"", hex.get(..32).unwrap_or_default()))
}

/// A version that no object has had yet.
pub(super) fn fresh_version() -> Version {
    Version(format!("\"{}\"", id::uuid().replace('-', "")))
}

/// Keeps metadata with a file whose bytes are all written, before it gets its name.
pub(super) fn keep(root: &Path, file: &File, version: &Version, options: &PutOptions) -> std::io::Result<()> {
    let found = file.metadata()?;
    let kept = Kept {
        version: version.0.clone(),
        size: found.len(),
        modified: nanos(&found),
        content_type: options.content_type.clone(),
        user: options.user.clone(),
    };
    let text = serde_json::to_vec(&kept)?;
    if os::set_attribute(file, &text) {
        return Ok(());
    }
    let sidecar = sidecar(root, &found);
    if let Some(folder) = sidecar.parent() {
        os::make_private_folder(folder)?;
    }
    let mut to = File::create(&sidecar)?;
    std::io::Write::write_all(&mut to, &text)?;
    to.sync_all()
}

/// Metadata of an open file.
pub(super) fn read(root: &Path, file: &File, found: &Metadata) -> ObjectMeta {
    let text = os::attribute(file).or_else(|| sidecar_text(root, found));
    let kept = text.and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
    let intact = kept.as_ref().is_some_and(|kept| kept.size == found.len() && kept.modified == nanos(found));
    let (version, content_type, user) = match kept {
        Some(kept) if intact => (Version(kept.version), kept.content_type, kept.user),
        other => (guessed_version(found), other.and_then(|kept| kept.content_type), BTreeMap::new()),
    };
    ObjectMeta {
        size: found.len(),
        version,
        modified: found.modified().map(Into::into).unwrap_or_default(),
        content_type,
        user,
    }
}

/// Removes the sidecar of a file that is about to go, if it has one.
pub(super) fn forget(root: &Path, path: &Path) {
    if root.join(SIDECARS).is_dir()
        && let Ok(found) = fs::symlink_metadata(path)
    {
        // It only takes room: no other file ever matches it.
        let _ = fs::remove_file(sidecar(root, &found));
    }
}

/// A file that we did not write: replaced or changed, it differs in one of these.
fn guessed_version(found: &Metadata) -> Version {
    Version(format!("\"f-{:x}-{:x}-{:x}\"", found.len(), nanos(found), os::identity(found)))
}

#[allow(clippy::disallowed_methods)] // this is storage::local
fn sidecar_text(root: &Path, found: &Metadata) -> Option<Vec<u8>> {
    fs::read(sidecar(root, found)).ok()
}

fn sidecar(root: &Path, found: &Metadata) -> PathBuf {
    let name = format!("{:x}-{:x}-{:x}", os::identity(found), nanos(found), found.len());
    root.join(SIDECARS).join(name)
}

fn nanos(found: &Metadata) -> i64 {
    let span = found.modified().ok().and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
    span.and_then(|span| i64::try_from(span.as_nanos()).ok()).unwrap_or(0)
}
