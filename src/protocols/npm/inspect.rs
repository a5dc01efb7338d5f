//! Looks into a tarball while it streams past: is it a package, is it the package that it says it is, and what npm wants to know of it.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::json::Members;
use super::manifest::has_install_script;
use super::name::PackageName;
use super::version;
use crate::core::archive::{EntryKind, Take, TarEntry, TarVisitor};
use crate::protocols::prelude::*;

/// Longest `package.json` inside a tarball.
const MAX_PACKAGE_JSON: u64 = 4 << 20;

/// What a tarball has inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inspected {
    /// Files.
    pub(crate) files: u64,
    /// Their sizes in bytes, in all.
    pub(crate) unpacked: u64,
    /// Whether installing runs something: a script of its own, or a build by `binding.gyp`.
    pub(crate) has_install_script: bool,
    /// Whether there is an `npm-shrinkwrap.json`.
    pub(crate) has_shrinkwrap: bool,
    name: Option<String>,
    version: Option<String>,
}

impl Inspected {
    /// Whether the `package.json` inside is that of the version being published. Clients show one and install the other.
    pub(crate) fn check_identity(&self, name: &PackageName, version: &str) -> Result<()> {
        if self.name.as_deref() != Some(name.as_str()) {
            let inside = super::name::printable(self.name.as_deref().unwrap_or("nothing"));
            return Err(Error::invalid(format!(
                "the package.json in the tarball of {name}@{version} names `{inside}`"
            )));
        }
        let inside = self.version.as_deref().unwrap_or("nothing");
        if version::clean(inside).as_deref() != Some(version) {
            let inside = super::name::printable(inside);
            return Err(Error::invalid(format!(
                "the package.json in the tarball of {name}@{version} has the version `{inside}`"
            )));
        }
        Ok(())
    }
}

/// The visitor that makes an [`Inspected`].
#[derive(Default)]
pub(crate) struct Inspector {
    files: u64,
    unpacked: u64,
    binding_gyp: bool,
    shrinkwrap: bool,
    package_json: Option<Vec<u8>>,
    /// Hashes of the paths seen: a hundred thousand of them are under a MiB.
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl Inspector {
    /// What was found, once the tarball is over.
    pub(crate) fn finish(self) -> Result<Inspected> {
        let text =
            self.package_json.ok_or_else(|| Error::invalid("the tarball has no package/package.json"))?;
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        let members = Members::parse(text)
            .ok_or_else(|| Error::invalid("the package.json in the tarball is no JSON object"))?;
        let scripted = has_install_script(&members);
        let builds = self.binding_gyp && members.read::<bool>("gypfile") != Some(false);
        Ok(Inspected {
            files: self.files,
            unpacked: self.unpacked,
            has_install_script: scripted || builds,
            has_shrinkwrap: self.shrinkwrap,
            name: members.text("name"),
            version: members.text("version"),
        })
    }
}

impl TarVisitor for Inspector {
    fn entry(&mut self, entry: &TarEntry) -> Result<Take> {
        let path =
            normal(&entry.path).ok_or_else(|| refuse(entry, "has a path that leads out of the package"))?;
        // npm takes the first folder off, whatever it is called.
        let inner = path.split_first().map(|(_, inner)| inner.join("/")).unwrap_or_default();
        match &entry.kind {
            EntryKind::Directory => return Ok(Take::Skip),
            EntryKind::Other => return Err(refuse(entry, "is neither a file, nor a folder, nor a link")),
            EntryKind::Link { target, hard } => {
                if !stays_inside(&path, target, *hard) {
                    return Err(refuse(entry, "is a link that leads out of the package"));
                }
            }
            EntryKind::File => {}
        }
        if inner.is_empty() {
            return Err(refuse(entry, "lies outside the package's folder"));
        }
        // Which of two would be installed depends on the client and on its file system.
        let folded = folded(&inner);
        if !self.seen.insert(self.hasher.hash_one(&folded)) {
            return Err(refuse(entry, "is there twice, or differs from another one only in case"));
        }
        let package_json = folded == "PACKAGE.JSON";
        if entry.kind != EntryKind::File {
            return if package_json { Err(refuse(entry, "must be a file")) } else { Ok(Take::Skip) };
        }
        self.files += 1;
        self.unpacked += entry.size;
        match folded.as_str() {
            "PACKAGE.JSON" if inner == "package.json" => return Ok(Take::Whole(MAX_PACKAGE_JSON)),
            "PACKAGE.JSON" => return Err(refuse(entry, "must be called package.json, in lower case")),
            // Some client finds it under any of its names.
            "BINDING.GYP" => self.binding_gyp = true,
            "NPM-SHRINKWRAP.JSON" => self.shrinkwrap |= inner == "npm-shrinkwrap.json",
            _ => {}
        }
        Ok(Take::Skip)
    }

    fn content(&mut self, _: &TarEntry, content: Vec<u8>) -> Result<()> {
        self.package_json = Some(content);
        Ok(())
    }
}

/// One name for all that some file system takes for the same path: one that ignores case does so for letters beyond ASCII too (`\u{17f}` is
/// an `s`), Apple's older one passes over what is invisible, and Windows over dots and spaces at the end.
fn folded(inner: &str) -> String {
    let invisible = |c: char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let shown = inner.trim_end_matches(['.', ' ']).chars().filter(|c| !invisible(*c));
    shown.flat_map(char::to_lowercase).flat_map(char::to_uppercase).collect()
}

fn refuse(entry: &TarEntry, why: &str) -> Error {
    Error::invalid(format!(
        "the tarball is refused: its entry `{}` {why}",
        super::name::printable(&entry.path)
    ))
}

/// The segments of a path without `.` and empty ones; `None` if it could leave its folder on any system.
fn normal(path: &str) -> Option<Vec<&str>> {
    if path.starts_with('/') || path.contains(['\\', '\0']) {
        return None;
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !matches!(*segment, "" | ".")).collect();
    let drive = segments.first().is_some_and(|first| first.contains(':'));
    (!drive && !segments.contains(&"..")).then_some(segments)
}

/// Whether a link's target lies below the package's folder, the first segment. A hard link counts from the root of the archive, a
/// symbolic one from its own folder.
fn stays_inside(link: &[&str], target: &str, hard: bool) -> bool {
    if target.starts_with('/') || target.contains(['\\', '\0', ':']) {
        return false;
    }
    let mut at: Vec<&str> =
        link.split_last().filter(|_| !hard).map(|(_, folder)| folder.to_vec()).unwrap_or_default();
    for segment in target.split('/') {
        match segment {
            ".." if at.pop().is_none() => return false,
            "" | "." | ".." => {}
            name => at.push(name),
        }
    }
    at.first() == link.first()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(path: &str, kind: EntryKind) -> TarEntry {
        TarEntry { path: path.to_owned(), kind, size: 1 }
    }

    fn link(target: &str, hard: bool) -> EntryKind {
        EntryKind::Link { target: target.to_owned(), hard }
    }

    #[test]
    fn dangerous_entries_are_refused() {
        for (path, kind) in [
            ("/etc/passwd", EntryKind::File),
            ("package/../../x", EntryKind::File),
            ("package\\..\\x", EntryKind::File),
            ("C:/x", EntryKind::File),
            ("package", EntryKind::File),
            ("package/dev", EntryKind::Other),
            ("package/a", link("../x", false)),
            ("package/a", link("/etc/passwd", false)),
            ("package/b/a", link("../../x", false)),
            ("package/a", link("../package/x", true)),
            ("package/a", link("other/x", true)),
            ("package/package.json", link("other.json", false)),
            ("package/Package.json", EntryKind::File),
            ("package/package.j\u{17f}on", EntryKind::File),
            ("package/pac\u{212a}age.json", EntryKind::File),
            ("package/package\u{200c}.json", EntryKind::File),
            ("package/package.json.", EntryKind::File),
        ] {
            assert!(Inspector::default().entry(&entry(path, kind.clone())).is_err(), "{path} {kind:?}");
        }
        for (path, kind) in [
            ("package/a/b", EntryKind::File),
            ("./package//a", EntryKind::File),
            ("package/", EntryKind::Directory),
            ("package/a", link("b", false)),
            ("package/x/a", link("../b", false)),
            ("package/a", link("package/b", true)),
        ] {
            Inspector::default().entry(&entry(path, kind)).unwrap();
        }
    }

    #[test]
    fn a_path_may_come_once() {
        for (first, second) in [
            ("package/a", "package/a"),
            ("package/a", "package/./a"),
            ("package/a", "other/a"),
            ("package/package.json", "package/PACKAGE.json"),
            ("package/index.js", "package/Index.js"),
            ("package/lib/a.js", "package/LIB/a.js"),
        ] {
            let mut inspector = Inspector::default();
            inspector.entry(&entry(first, EntryKind::File)).unwrap();
            assert!(inspector.entry(&entry(second, EntryKind::File)).is_err(), "{first} {second}");
        }
    }

    #[test]
    fn a_build_is_an_install_script_unless_it_is_declined() {
        for (file, text, builds) in [
            ("binding.gyp", "{}", true),
            ("Binding.gyp", "{}", true),
            ("binding.gyp", r#"{"gypfile":true}"#, true),
            ("binding.gyp", r#"{"gypfile":false}"#, false),
            ("binding.gyp", r#"{"gypfile":false,"scripts":{"install":"x"}}"#, true),
            ("lib/binding.gyp", "{}", false),
        ] {
            let mut inspector = Inspector::default();
            inspector.entry(&entry(&format!("package/{file}"), EntryKind::File)).unwrap();
            let package_json = entry("package/package.json", EntryKind::File);
            inspector.entry(&package_json).unwrap();
            inspector.content(&package_json, text.into()).unwrap();
            assert_eq!(inspector.finish().unwrap().has_install_script, builds, "{file} {text}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_stays_inside(path in "[a/.\\\\:]{0,20}") {
            if let Some(segments) = normal(&path) {
                prop_assert!(segments.iter().all(|segment| !segment.is_empty() && *segment != ".." && !segment.contains('\\')));
            }
        }
    }
}
