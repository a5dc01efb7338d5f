//! Listing: a sorted walk that can be taken up after any key. Each page reads the folders on its way again; never on a hot path.

use std::fs::File;
use std::path::Path;

use super::folder::Folder;
use super::naming::{Entry, Naming};
use super::{failed, is_missing, meta};
use crate::storage::Key;
use crate::storage::store::{Listed, Page, StoreResult};

struct Walk<'a> {
    folder: &'a Folder,
    naming: Naming,
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    by_folder: bool,
    page: Page,
    last: String,
}

/// One page of the keys that begin with `prefix` and come after `after`.
pub(super) fn page(
    folder: &Folder,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    by_folder: bool,
) -> StoreResult<Page> {
    // Whole segments of the prefix name a folder to begin in; the rest of it filters what lies there.
    let (base, _) = prefix.rsplit_once('/').unwrap_or_default();
    let naming = folder.naming();
    let after = after.unwrap_or_default();
    let page = Page::default();
    let limit = limit.max(1);
    let mut walk = Walk { folder, naming, prefix, after, limit, by_folder, page, last: String::new() };
    let (start, base) = match base {
        "" => (folder.root.clone(), String::new()),
        base => (naming.path(&folder.root, base), format!("{base}/")),
    };
    walk.level(&start, &base)?;
    Ok(walk.page)
}

impl Walk<'_> {
    /// Lists what lies in `path`, whose keys begin with `base`. `false` when the page is full.
    fn level(&mut self, path: &Path, base: &str) -> StoreResult<bool> {
        for (name, entry) in self.sorted(path, base)? {
            if entry.is_folder && self.by_folder {
                if self.has_object(&entry.path)? && !self.take(&name, |page, name| page.prefixes.push(name)) {
                    return Ok(false);
                }
            } else if entry.is_folder {
                if !self.level(&entry.path, &name)? {
                    return Ok(false);
                }
            } else if let Some(listed) = self.listed(&entry.path, &name)
                && !self.take(&name, |page, _| page.objects.push(listed))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The entries of a level that can hold what is asked for, by key; a folder's key ends in a slash.
    fn sorted(&self, path: &Path, base: &str) -> StoreResult<Vec<(String, Entry)>> {
        let entries = self.naming.entries(path, base.is_empty()).map_err(failed)?;
        let mut named: Vec<_> = entries
            .into_iter()
            .map(|entry| {
                (format!("{base}{}{}", entry.segment, if entry.is_folder { "/" } else { "" }), entry)
            })
            .filter(|(name, entry)| {
                // A folder that was answered as such stands for all below it.
                let inside = entry.is_folder && !self.by_folder && self.after.starts_with(name);
                name.starts_with(self.prefix) && (name.as_str() > self.after || inside)
            })
            .collect();
        named.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(named)
    }

    /// Adds to the page; `false`, with the place to go on, when it is full.
    fn take(&mut self, name: &str, add: impl FnOnce(&mut Page, String)) -> bool {
        if self.page.objects.len() + self.page.prefixes.len() >= self.limit {
            self.page.next = Some(std::mem::take(&mut self.last));
            return false;
        }
        name.clone_into(&mut self.last);
        add(&mut self.page, name.to_owned());
        true
    }

    /// The object at `path`; `None` if it went meanwhile, or is a file whose name is no key.
    fn listed(&self, path: &Path, name: &str) -> Option<Listed> {
        let key = Key::new(name).ok()?;
        let file = File::open(path).ok()?;
        let found = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let meta = meta::read(&self.folder.root, &file, &found);
        Some(Listed { key, size: meta.size, modified: meta.modified, version: Some(meta.version) })
    }

    /// Whether any object lies below a folder: an empty one is a leftover that no bucket would show.
    fn has_object(&self, path: &Path) -> StoreResult<bool> {
        let entries = match self.naming.entries(path, false) {
            Ok(entries) => entries,
            Err(error) if is_missing(&error) => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        if entries.iter().any(|entry| !entry.is_folder) {
            return Ok(true);
        }
        for entry in entries {
            if self.has_object(&entry.path)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
