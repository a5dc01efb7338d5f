//! What the fuzzers feed: one function per family of parsers, each of which says what must hold for any bytes and panics when it does not.
//!
//! A parser is private to its layer, so most of the functions stand in a file `fuzzing.rs` beside it, and this is the list of them.
//! `fuzz/` drives them with libFuzzer (`npm run fuzz`); `cargo test` feeds them the inputs that are kept there. The first byte of an input
//! says which of the family's parsers gets the rest.

mod config;
mod http;
pub(crate) mod input;
mod names;
mod stored;
mod tarball;

use crate::protocols::{npm, oci};

/// A family of parsers.
pub struct Target {
    /// Its name, as on the command line and of its folder of inputs.
    pub name: &'static str,
    /// Checks one input.
    pub run: fn(&[u8]),
}

/// Every family.
pub const TARGETS: &[Target] = &[
    Target { name: "http", run: http::run },
    Target { name: "config", run: config::run },
    Target { name: "names", run: names::run },
    Target { name: "tokens", run: crate::auth::fuzzing::tokens },
    Target { name: "npm_publish", run: npm::fuzzing::publish },
    Target { name: "npm_packument", run: npm::fuzzing::packument },
    Target { name: "tarball", run: tarball::run },
    Target { name: "oci_manifest", run: oci::fuzzing::manifest },
    Target { name: "stored", run: stored::run },
];

/// Checks one input of the family `name`.
///
/// # Panics
/// When something does not hold that should, or there is no such family.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    assert!(target.is_some(), "there is no target `{name}`");
    if let Some(target) = target {
        (target.run)(data);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::TARGETS;

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // files of the checkout
    fn every_input_that_is_kept_holds() {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join("inputs");
        let mut seen = 0;
        for target in TARGETS {
            (target.run)(&[]);
            for file in files(&kept.join(target.name)) {
                let input = fs::read(&file).unwrap();
                let held = std::panic::catch_unwind(|| (target.run)(&input));
                assert!(held.is_ok(), "{} does not hold", file.display());
                seen += 1;
            }
        }
        assert!(seen >= TARGETS.len(), "the inputs were not found");
        for folder in fs::read_dir(&kept).unwrap() {
            let name = folder.unwrap().file_name();
            assert!(TARGETS.iter().any(|target| *target.name == *name), "inputs of no target: {name:?}");
        }
    }
}
