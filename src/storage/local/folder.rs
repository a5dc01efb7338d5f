//! The folder itself, synchronously: finding an object's file, giving a finished file its name on a condition, removing it.
//!
//! A finished file gets its name by one rename, under an advisory lock that all processes of the host respect; the lock is held for
//! the comparison and the rename only, never while bytes move to the disk.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::naming::Naming;
use super::{Durability, failed, is_missing, meta, os};
use crate::core::digest::Digest;
use crate::core::id;
use crate::storage::store::{Condition, ObjectMeta, StoreResult};
use crate::storage::{Key, PRIVATE, STAGING, StoreError};

/// Folder of files that have no name yet.
pub(super) const TEMPORARY: &str = ".sr-tmp";
/// Folder of the lock files.
pub(super) const LOCKS: &str = ".sr-lock";
/// How many lock files of a kind there are.
const LOCK_FILES: u16 = 1024;
/// How often a write is tried again when other writes and deletions move folders under it.
const TRIES: usize = 100;

/// The folder and how it names its files.
pub(super) struct Folder {
    pub(super) root: PathBuf,
    pub(super) durability: Durability,
    pub(super) naming: OnceLock<Naming>,
}

/// A file without a name: gone when it is dropped.
pub(super) struct Temporary {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing left under this name. What can't be removed now is swept later.
        let _ = fs::remove_file(&self.path);
    }
}

impl Folder {
    pub(super) fn naming(&self) -> Naming {
        self.naming.get().copied().unwrap_or_default()
    }

    /// A file that will be the object `key`.
    pub(super) fn temporary(&self, key: &Key) -> StoreResult<Temporary> {
        let folder = self.root.join(TEMPORARY);
        let path = folder.join(id::uuid());
        let create = || os::new_file(is_secret(key)).open(&path);
        let file = match create() {
            Err(error) if is_missing(&error) => os::make_private_folder(&folder).and_then(|()| create()),
            other => other,
        };
        Ok(Temporary { file: file.map_err(failed)?, path })
    }

    /// The lock of a key, held until the file is dropped.
    fn lock(&self, key: &str) -> StoreResult<File> {
        self.lock_of('k', key)
    }

    /// The lock of a thing of a kind. Two of the same kind are never held together: their locks may be one and the same.
    pub(super) fn lock_of(&self, kind: char, name: &str) -> StoreResult<File> {
        let hash = Digest::sha256(name.as_bytes());
        let number =
            hash.as_bytes().iter().take(2).fold(0, |sum, byte| sum << 8 | u16::from(*byte)) % LOCK_FILES;
        let folder = self.root.join(LOCKS);
        let path = folder.join(format!("{kind}{number:03x}"));
        let open = || File::options().write(true).create(true).truncate(false).open(&path);
        let file = match open() {
            Err(error) if is_missing(&error) => os::make_private_folder(&folder).and_then(|()| open()),
            other => other,
        };
        let file = file.map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    }

    /// Opens an object.
    pub(super) fn open(&self, key: &Key) -> StoreResult<(File, Metadata)> {
        let naming = self.naming();
        let plain = naming.path(&self.root, key.as_str());
        if let Some(found) = open_file(&plain)? {
            return Ok(found);
        }
        open_file(&naming.beside_folder(&self.root, key.as_str()))?.ok_or(StoreError::NotFound)
    }

    pub(super) fn head(&self, key: &Key) -> StoreResult<ObjectMeta> {
        let (file, found) = self.open(key)?;
        Ok(meta::read(&self.root, &file, &found))
    }

    /// Whether `condition` holds at the moment.
    pub(super) fn check(&self, key: &Key, condition: &Condition) -> StoreResult<()> {
        let present = match condition {
            Condition::Always => return Ok(()),
            Condition::Absent => self.open(key).map(|_| None),
            Condition::Matches(_) => self.head(key).map(|meta| Some(meta.version)),
        };
        let holds = match (condition, present) {
            (Condition::Absent, Err(StoreError::NotFound)) => true,
            (Condition::Matches(wanted), Ok(Some(present))) => *wanted == present,
            (_, Ok(_) | Err(StoreError::NotFound)) => false,
            (_, Err(error)) => return Err(error),
        };
        if holds { Ok(()) } else { Err(StoreError::Precondition) }
    }

    /// Gives the finished file at `from` the name of `key`, if `condition` holds.
    pub(super) fn publish(&self, from: &Path, key: &Key, condition: &Condition) -> StoreResult<()> {
        let mut made = Vec::new();
        for _ in 0..TRIES {
            self.make_parents(key, &mut made)?;
            let place = {
                let _lock = self.lock(key.as_str())?;
                self.check(key, condition)?;
                let place = self.place(key);
                meta::forget(&self.root, &place);
                let moved = match condition {
                    Condition::Absent => os::rename_new(from, &place),
                    _ => fs::rename(from, &place),
                };
                match moved {
                    Ok(()) => place,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !place.is_dir() => {
                        return Err(StoreError::Precondition);
                    }
                    // The folder was removed with its last object, or one of the object's name has come: look again.
                    Err(error) if is_missing(&error) && !from.exists() => return Err(failed(error)),
                    Err(error) if is_missing(&error) || place.is_dir() => continue,
                    Err(error) => return Err(failed(error)),
                }
            };
            made.extend(place.parent().map(Path::to_path_buf));
            return self.sync(made).map_err(|error| StoreError::Unknown(error.into()));
        }
        Err(StoreError::Conflict)
    }

    /// Where the object's file is or belongs. Only under its lock.
    fn place(&self, key: &Key) -> PathBuf {
        let naming = self.naming();
        let plain = naming.path(&self.root, key.as_str());
        let beside = naming.beside_folder(&self.root, key.as_str());
        if plain.is_dir() || beside.is_file() { beside } else { plain }
    }

    /// Makes the folders above an object; `made` collects the folders that got an entry by it. An object that stands where a folder
    /// has to be is moved beside it.
    fn make_parents(&self, key: &Key, made: &mut Vec<PathBuf>) -> StoreResult<()> {
        let naming = self.naming();
        let plain = naming.path(&self.root, key.as_str());
        if plain.parent().is_some_and(Path::is_dir) {
            return Ok(());
        }
        let ends = key.as_str().match_indices('/').map(|(at, _)| at);
        for name in ends.filter_map(|end| key.as_str().get(..end)) {
            let folder = naming.path(&self.root, name);
            if folder.is_dir() {
                continue;
            }
            let _lock = self.lock(name)?;
            if folder.is_file() {
                fs::rename(&folder, naming.beside_folder(&self.root, name)).map_err(failed)?;
            }
            make_folder(&folder, &self.root, made).map_err(failed)?;
        }
        // The last segment may have a cut of its own.
        match plain.parent() {
            Some(parent) => make_folder(parent, &self.root, made).map_err(failed),
            None => Ok(()),
        }
    }

    /// Moves an object, if `condition` holds for its new place.
    pub(super) fn rename(&self, from: &Key, to: &Key, condition: &Condition) -> StoreResult<()> {
        self.check(to, condition)?;
        let naming = self.naming();
        let plain = naming.path(&self.root, from.as_str());
        let place = if plain.is_file() { plain } else { naming.beside_folder(&self.root, from.as_str()) };
        if !place.is_file() {
            return Err(StoreError::NotFound);
        }
        if from == to {
            return Ok(());
        }
        self.publish(&place, to, condition)?;
        let emptied: Vec<_> = place.parent().map(Path::to_path_buf).into_iter().collect();
        self.sync(emptied.clone()).map_err(|error| StoreError::Unknown(error.into()))?;
        for folder in emptied {
            self.prune(folder);
        }
        Ok(())
    }

    /// Removes an object. Answers the folder whose entry is gone, for [`Folder::sync`].
    pub(super) fn remove(&self, key: &Key) -> StoreResult<Option<PathBuf>> {
        let naming = self.naming();
        let _lock = self.lock(key.as_str())?;
        let mut changed = None;
        for place in [naming.path(&self.root, key.as_str()), naming.beside_folder(&self.root, key.as_str())] {
            if !place.is_file() {
                continue;
            }
            meta::forget(&self.root, &place);
            match fs::remove_file(&place) {
                Ok(()) => changed = place.parent().map(Path::to_path_buf),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(changed)
    }

    /// Makes the entries of folders durable.
    pub(super) fn sync(&self, mut folders: Vec<PathBuf>) -> io::Result<()> {
        if self.durability == Durability::Relaxed {
            return Ok(());
        }
        folders.sort_unstable();
        folders.dedup();
        folders.iter().try_for_each(|folder| os::sync_folder(folder))
    }

    /// Removes a folder and those above it as long as they are empty.
    pub(super) fn prune(&self, mut folder: PathBuf) {
        while folder != self.root && folder.starts_with(&self.root) && fs::remove_dir(&folder).is_ok() {
            if !folder.pop() {
                break;
            }
        }
    }
}

/// Whether an object is for the registry's eyes only: what is ours holds tokens, passwords and keys to sign with. What is staged becomes a
/// package's file, which is as open as the others.
pub(super) fn is_secret(key: &Key) -> bool {
    key.is_private() && !key.as_str().starts_with(STAGING)
}

fn open_file(path: &Path) -> StoreResult<Option<(File, Metadata)>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) || path.is_dir() => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let found = file.metadata().map_err(failed)?;
    Ok(found.is_file().then_some((file, found)))
}

/// Makes a folder and those missing above it, as far as the root. Others may remove it again, or stand in its way, at any moment:
/// whoever needs it finds out and looks again.
fn make_folder(folder: &Path, root: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let below = folder.strip_prefix(root).unwrap_or(folder);
    let private = below.as_os_str().is_empty() || below.starts_with(PRIVATE);
    for last_try in [false, true] {
        let made_now = if private { os::private_folder().create(folder) } else { fs::create_dir(folder) };
        match made_now {
            Ok(()) => {
                made.extend(folder.parent().map(Path::to_path_buf));
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => break,
            Err(error) if is_missing(&error) && folder != root => {
                if let Some(parent) = folder.parent().filter(|_| !last_try) {
                    make_folder(parent, root, made)?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
