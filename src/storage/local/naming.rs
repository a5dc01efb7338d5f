//! How a key becomes a path below the root, and back.
//!
//! A key is its own path wherever the volume can hold it: a folder synchronised from a bucket is readable as it is. What a volume
//! can't hold is percent-encoded. Two names are ours on every volume: `<name>.%obj` is the object `<name>` beside a folder of that
//! name (a bucket has both, a file system doesn't), and `<start>.%cut/~<rest>` is a segment that encoding made too long.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// First characters of our own folders in the root.
pub(super) const OWN: &str = ".sr-";
/// Suffix of an object whose name is also a folder's.
pub(super) const OBJECT: &str = ".%obj";
/// Suffix of the folder that holds the rest of an overlong name.
const CUT: &str = ".%cut";
/// Longest file name in bytes that every file system in use can hold.
const LONGEST: usize = 255;
/// How much of an overlong name stands before its cut.
const PIECE: usize = 200;

/// What the volume can't hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Naming {
    /// Windows' rules: reserved characters and device names, no dot or space at the end.
    pub(super) reserved: bool,
    /// Names that differ only in case, or only in their Unicode form, are the same file.
    pub(super) folds: bool,
}

impl Naming {
    /// The path of the object `key`, if no folder of that name is in the way.
    pub(super) fn path(self, root: &Path, key: &str) -> PathBuf {
        self.join(root, key, "")
    }

    /// The path of the object `key` beside a folder of that name.
    pub(super) fn beside_folder(self, root: &Path, key: &str) -> PathBuf {
        self.join(root, key, OBJECT)
    }

    fn join(self, root: &Path, key: &str, suffix: &str) -> PathBuf {
        let mut path = root.to_path_buf();
        let mut segments = key.split('/').enumerate().peekable();
        while let Some((at, segment)) = segments.next() {
            let mut name = self.encode(segment, at == 0);
            if segments.peek().is_none() {
                name.push_str(suffix);
            }
            push_cut(&mut path, &name);
        }
        path
    }

    /// The file name for a segment of a key; `first` for the segment that lies in the root.
    pub(super) fn encode(self, segment: &str, first: bool) -> String {
        let own = first && segment.starts_with(OWN);
        let device = self.reserved && is_device(segment);
        let last = segment.len() - segment.chars().next_back().map_or(0, char::len_utf8);
        let mut name = String::with_capacity(segment.len() + 8);
        for (at, c) in segment.char_indices() {
            let rest = segment.get(at + c.len_utf8()..).unwrap_or_default();
            let escape = match c {
                '%' => {
                    self.folds || rest.starts_with("obj") || rest.starts_with("cut") || self.is_escape(rest)
                }
                '.' if at == 0 && own => true,
                '.' | ' ' => self.reserved && at == last,
                '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' => self.reserved,
                c if !c.is_ascii() || c.is_ascii_uppercase() => self.folds || (device && at == 0),
                _ => device && at == 0,
            };
            if escape {
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    let _ = write!(name, "%{byte:02X}");
                }
            } else {
                name.push(c);
            }
        }
        name
    }

    /// The segment that a file name stands for; `None` for a file that is no object's.
    pub(super) fn decode(self, name: &str, first: bool) -> Option<String> {
        let mut bytes = Vec::with_capacity(name.len());
        let mut rest = name;
        while let Some(c) = rest.chars().next() {
            let tail = rest.get(c.len_utf8()..).unwrap_or_default();
            if c == '%' && self.is_escape(tail) {
                bytes.push(tail.get(..2).and_then(hex_upper)?);
                rest = tail.get(2..).unwrap_or_default();
            } else {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = tail;
            }
        }
        let segment = String::from_utf8(bytes).ok()?;
        (self.encode(&segment, first) == name).then_some(segment)
    }

    /// Whether `%` before `rest` is one of our escapes.
    fn is_escape(self, rest: &str) -> bool {
        let byte = rest.get(..2).and_then(hex_upper);
        byte.is_some_and(|byte| match byte {
            b'%' | b'.' => true,
            b'\\' | b':' | b'*' | b'?' | b'"' | b'<' | b'>' | b'|' | b' ' => self.reserved,
            byte if byte.is_ascii_uppercase() => self.folds || self.reserved,
            byte if byte.is_ascii_lowercase() => self.reserved,
            byte => !byte.is_ascii() && self.folds,
        })
    }
}

/// Adds `name` to `path`, in pieces if no file system could hold it whole.
fn push_cut(path: &mut PathBuf, name: &str) {
    let mut rest = name;
    let mut mark = "";
    while rest.len() + mark.len() > LONGEST {
        let end = (0..=PIECE).rev().find(|end| rest.is_char_boundary(*end)).unwrap_or(0);
        let (piece, tail) = rest.split_at(end);
        path.push(format!("{mark}{piece}{CUT}"));
        rest = tail;
        mark = "~";
    }
    path.push(format!("{mark}{rest}"));
}

fn hex_upper(text: &str) -> Option<u8> {
    let upper = text.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
    upper.then(|| u8::from_str_radix(text, 16).ok()).flatten()
}

/// Names of devices on Windows, with any extension.
fn is_device(segment: &str) -> bool {
    let stem = segment.split('.').next().unwrap_or_default().trim_end();
    let numbered = |name: &str| {
        stem.len() == 4
            && stem.is_char_boundary(3)
            && stem.get(..3).is_some_and(|s| s.eq_ignore_ascii_case(name))
            && stem.ends_with(|c: char| ('1'..='9').contains(&c))
    };
    ["con", "prn", "aux", "nul"].iter().any(|name| stem.eq_ignore_ascii_case(name))
        || numbered("com")
        || numbered("lpt")
}

/// A file or folder of one level of the tree.
pub(super) struct Entry {
    /// The key's segment.
    pub(super) segment: String,
    /// Where it is.
    pub(super) path: PathBuf,
    /// Whether it is a folder.
    pub(super) is_folder: bool,
}

impl Naming {
    /// What lies directly in `folder`, in no order; nothing if it is gone. `first` for the root.
    pub(super) fn entries(self, folder: &Path, first: bool) -> std::io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.gather(folder, "", first, &mut entries)?;
        Ok(entries)
    }

    fn gather(
        self,
        folder: &Path,
        start: &str,
        first: bool,
        entries: &mut Vec<Entry>,
    ) -> std::io::Result<()> {
        let listed = match fs::read_dir(folder) {
            Ok(listed) => listed,
            Err(error) if super::is_missing(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        for item in listed {
            let item = item?;
            let file_name = item.file_name();
            let Some(name) = file_name.to_str() else { continue };
            if first && start.is_empty() && name.starts_with(OWN) {
                continue;
            }
            let piece = if start.is_empty() { Some(name) } else { name.strip_prefix('~') };
            let Some(piece) = piece else { continue };
            let path = item.path();
            let kind = item.file_type()?;
            let is_folder = if kind.is_symlink() { path.is_dir() } else { kind.is_dir() };
            if let Some(begun) = piece.strip_suffix(CUT).filter(|_| is_folder) {
                self.gather(&path, &format!("{start}{begun}"), first, entries)?;
                continue;
            }
            let whole = format!("{start}{piece}");
            let object = whole.strip_suffix(OBJECT).filter(|_| !is_folder).unwrap_or(&whole);
            if let Some(segment) = self.decode(object, first) {
                entries.push(Entry { segment, path, is_folder });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Naming;
    use proptest::prelude::*;
    use std::path::Path;

    const ALL: [Naming; 4] = [
        Naming { reserved: false, folds: false },
        Naming { reserved: true, folds: false },
        Naming { reserved: false, folds: true },
        Naming { reserved: true, folds: true },
    ];

    #[test]
    fn keys_of_the_layout_are_plain_files() {
        for key in [
            "npm/packages/@a/b/index.json",
            "oci/manifests/a/b/sha256:00ff",
            "maven/g/a/1.0+build/a-1.0+build.jar",
            "rubygems/gems/RedCloth-4.2.9.gem",
            "x/100%/a%2fb/a%2Fb/ü .txt",
        ] {
            assert_eq!(ALL[0].path(Path::new("/r"), key), Path::new("/r").join(key));
        }
    }

    #[test]
    fn what_a_volume_cannot_hold_is_encoded() {
        let windows = ALL[1];
        assert_eq!(windows.encode("sha256:00", false), "sha256%3A00");
        assert_eq!(windows.encode("con.json", false), "%63on.json");
        assert_eq!(windows.encode("end. ", false), "end.%20");
        assert_eq!(ALL[2].encode("RedCloth", false), "%52ed%43loth");
        assert_eq!(ALL[0].encode(".sr-tmp", true), "%2Esr-tmp");
        assert_eq!(ALL[0].encode("a.%obj", false), "a.%25obj");
        assert_eq!(ALL[0].encode("%2E", false), "%252E");
    }

    #[test]
    fn an_overlong_name_is_cut_and_cannot_climb() {
        let name = format!("{}..", "É".repeat(100));
        let path = ALL[3].path(Path::new("/r"), &name);
        assert!(path.components().count() > 3);
        assert!(path.iter().all(|part| part.len() <= 255 && part != ".." && part != "."));
    }

    proptest! {
        #[test]
        fn every_segment_comes_back(segment in r#"([a-zA-Z0-9.%: ü"*+]|%2E|%25|%obj|%cut|\.sr-|con|%3A|%41){1,40}"#, first: bool) {
            prop_assume!(segment != "." && segment != "..");
            for naming in ALL {
                let name = naming.encode(&segment, first);
                prop_assert_eq!(naming.decode(&name, first), Some(segment.clone()));
                prop_assert!(!name.ends_with(".%obj") && !name.ends_with(".%cut"));
                prop_assert!(!first || !name.starts_with(".sr-"));
                if naming.folds {
                    let plain = name.replace('%', "");
                    prop_assert!(plain.is_ascii());
                }
            }
        }
    }
}
