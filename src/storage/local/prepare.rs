//! What happens at the start and now and then: the folders, what the volume can hold, what was left behind.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use super::folder::{Folder, LOCKS, TEMPORARY};
use super::naming::{Naming, OWN};
use super::{failed, os};
use crate::core::id;
use crate::core::time::Timestamp;
use crate::storage::error::StoreError;
use crate::storage::key::PRIVATE;
use crate::storage::store::StoreResult;

/// Remembers a naming that isn't the plain one, so that the folder can move to a volume that could hold more.
const MARKER: &str = ".sr-naming";

/// Makes the folder ready; answers what the operator should know.
pub(super) fn prepare(folder: &Folder) -> StoreResult<Vec<String>> {
    make_folders(&folder.root).map_err(|error| {
        // Said at the start, to whoever has written the configuration: "not found" alone would not do.
        StoreError::Denied(format!("the storage folder can't be made or used: {error}"))
    })?;
    let volume = probe(&folder.root.join(TEMPORARY)).map_err(failed)?;
    let naming = choose(&folder.root, volume)?;
    let _ = folder.naming.set(naming);
    let mut warnings: Vec<String> = os::warning(&folder.root).into_iter().collect();
    warnings.extend(open_secrets(&folder.root));
    if volume.folds && !naming.folds {
        warnings.push(
            "the storage folder was filled on a volume that tells upper from lower case and lies on one that doesn't: names that differ only in case are one name here"
                .to_owned(),
        );
    }
    Ok(warnings)
}

/// Our folders, for the owner alone. Those above the root are nobody's secret.
fn make_folders(root: &Path) -> std::io::Result<()> {
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent)?;
    }
    for path in [root.to_path_buf(), root.join(TEMPORARY), root.join(LOCKS)] {
        os::make_private_folder(&path)?;
    }
    Ok(())
}

/// Says so where everybody on the machine can get at tokens, passwords and keys: folders that are there already stay as they are, since
/// somebody may have opened them on purpose.
fn open_secrets(root: &Path) -> Option<String> {
    let ours = root.join(PRIVATE);
    let secrets = ours.join("auth");
    [root, &ours, &secrets].into_iter().all(os::is_open_to_others).then(|| {
        format!(
            "everybody on this machine can read the tokens and keys in {}: take the right away with `chmod 700 {}`",
            secrets.display(),
            ours.display()
        )
    })
}

/// A folder keeps the naming it began with. One that came from elsewhere, with files and no marker, has its keys as they are.
#[allow(clippy::disallowed_methods)] // this is storage::local
fn choose(root: &Path, volume: Naming) -> StoreResult<Naming> {
    let marker = root.join(MARKER);
    if let Some(begun) = fs::read(&marker).ok().and_then(|text| serde_json::from_slice::<Naming>(&text).ok())
    {
        return Ok(Naming { reserved: begun.reserved || volume.reserved, folds: begun.folds });
    }
    let mut entries = fs::read_dir(root).map_err(failed)?;
    let filled =
        entries.any(|entry| entry.is_ok_and(|entry| !entry.file_name().to_string_lossy().starts_with(OWN)));
    let naming = Naming { reserved: volume.reserved, folds: volume.folds && !filled };
    if naming != Naming::default() {
        let text = serde_json::to_vec(&naming).map_err(|error| failed(error.into()))?;
        fs::write(&marker, text).map_err(failed)?;
    }
    Ok(naming)
}

/// Finds out what the volume can hold. Also the proof that we may write here.
fn probe(temporary: &Path) -> std::io::Result<Naming> {
    let name = format!("{}-a", id::uuid());
    let plain = temporary.join(&name);
    File::create_new(&plain)?;
    let folds = temporary.join(name.to_uppercase()).exists();
    fs::remove_file(&plain)?;
    let odd = format!("{}:<a>. ", id::uuid());
    let path = temporary.join(&odd);
    let made = File::create_new(&path).is_ok();
    // Windows takes the colon for the name of a stream in another file, and drops the end.
    let kept =
        fs::read_dir(temporary)?.flatten().any(|entry| entry.file_name().to_str() == Some(odd.as_str()));
    if made {
        fs::remove_file(&path)?;
    }
    Ok(Naming { reserved: !(made && kept), folds })
}

/// Removes temporary files and uploads that nobody has touched for `age`.
pub(super) fn sweep(folder: &Folder, age: Duration, now: Timestamp) -> StoreResult<u64> {
    let mut removed = 0;
    let listed = match fs::read_dir(folder.root.join(TEMPORARY)) {
        Ok(listed) => listed,
        Err(error) if super::is_missing(&error) => return Ok(0),
        Err(error) => return Err(failed(error)),
    };
    for entry in listed {
        let entry = entry.map_err(failed)?;
        let touched = entry.metadata().and_then(|found| found.modified()).map(Timestamp::from);
        if touched.is_ok_and(|touched| now >= touched.plus(age)) && fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}
