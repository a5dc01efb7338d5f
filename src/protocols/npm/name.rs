//! Package names and dist-tags: parse, check, print. Pure.
//!
//! Two grades, as in `validate-npm-package-name`: what may exist (old packages have upper case and `~'!()*`), and what may be created.
//! Case is never folded: `JSONStream` and `jsonstream` are two packages.

use std::fmt;

use crate::core::error::{Error, Result};

/// Longest name, scope included.
const MAX_NAME: usize = 214;
/// Longest dist-tag.
const MAX_TAG: usize = 256;

/// Names that Node keeps for itself: a package of such a name could never be required.
const CORE_MODULES: &[&str] = &[
    "assert",
    "async_hooks",
    "buffer",
    "child_process",
    "cluster",
    "console",
    "constants",
    "crypto",
    "dgram",
    "diagnostics_channel",
    "dns",
    "domain",
    "events",
    "fs",
    "http",
    "http2",
    "https",
    "inspector",
    "module",
    "net",
    "os",
    "path",
    "perf_hooks",
    "process",
    "punycode",
    "querystring",
    "readline",
    "repl",
    "stream",
    "string_decoder",
    "sys",
    "timers",
    "tls",
    "trace_events",
    "tty",
    "url",
    "util",
    "v8",
    "vm",
    "wasi",
    "worker_threads",
    "zlib",
];

/// A package's name, `widget` or `@acme/widget`, safe to be part of a storage key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PackageName(String);

impl PackageName {
    /// A name that may exist, by the rules for old packages.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        check(text)
            .map_err(|why| Error::invalid(format!("`{}` is no package name: {why}", printable(text))))?;
        Ok(Self(text.to_owned()))
    }

    /// Whether a package of this name may be created now.
    pub(crate) fn check_new(&self) -> Result<()> {
        let refuse =
            |why: &str| Err(Error::invalid(format!("`{self}` can't be the name of a new package: {why}")));
        if self.0.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return refuse("it must be lower case");
        }
        if self.unscoped().contains(['~', '\'', '!', '(', ')', '*']) {
            return refuse("it must not have any of ~'!()*");
        }
        if self.scope().is_some_and(|scope| scope.starts_with(['-', '_', '.'])) {
            return refuse("its scope must not begin with a dot, hyphen or underscore");
        }
        if self.unscoped().starts_with('-') {
            return refuse("it must not begin with a hyphen");
        }
        if self.scope().is_none() && CORE_MODULES.contains(&self.0.as_str()) {
            return refuse("it is the name of a module of Node itself");
        }
        Ok(())
    }

    /// The whole name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// `acme` of `@acme/widget`.
    pub(crate) fn scope(&self) -> Option<&str> {
        self.0.strip_prefix('@').and_then(|rest| rest.split_once('/')).map(|(scope, _)| scope)
    }

    /// `widget` of `@acme/widget`, and of `widget`.
    pub(crate) fn unscoped(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// As npm writes it into paths: `@acme%2fwidget`.
    pub(crate) fn escaped(&self) -> String {
        self.0.replace('/', "%2f")
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > MAX_NAME {
        return Err("it is longer than 214 characters");
    }
    let name = match text.strip_prefix('@') {
        None => text,
        Some(rest) => {
            let (scope, name) = rest.split_once('/').ok_or("a scope needs a name: @scope/name")?;
            // Old scopes may begin with a hyphen or underscore; a leading dot would hide a folder.
            if scope.is_empty() || scope.starts_with('.') {
                return Err("its scope is empty or begins with a dot");
            }
            if !scope.bytes().all(is_url_safe) {
                return Err("its scope has a character that is not URL-safe");
            }
            name
        }
    };
    if name.is_empty() || name.starts_with(['.', '_']) {
        return Err("it is empty or begins with a dot or underscore");
    }
    if name == "-" {
        return Err("`-` is where the registry's own paths begin");
    }
    if !name.bytes().all(is_url_safe) {
        return Err("it has a character that is not URL-safe");
    }
    if matches!(name.to_ascii_lowercase().as_str(), "node_modules" | "favicon.ico") && !text.starts_with('@')
    {
        return Err("the name is reserved");
    }
    Ok(())
}

/// What `encodeURIComponent` leaves alone.
fn is_url_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte)
}

/// Text from a client, cut and cleaned for a message.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// Whether `tag` may be a dist-tag: nothing that could be read as a version range, since clients take both in the same place.
pub(crate) fn check_tag(tag: &str) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("`{}` is no dist-tag: {why}", printable(tag))));
    if tag.is_empty() || tag.len() > MAX_TAG {
        return refuse("it is empty or longer than 256 characters");
    }
    if !tag.bytes().all(is_url_safe) {
        return refuse("it has a character that is not URL-safe");
    }
    if is_prototype_key(tag) {
        return refuse("the word is reserved");
    }
    // npm passes over any number of `v`, the crate that reads ranges here over one.
    let bare = tag.trim_start_matches('v');
    if super::version::is_range(tag) || (!bare.is_empty() && super::version::is_range(bare)) {
        return refuse("it can be read as a version range");
    }
    Ok(())
}

/// Keys that would reach the prototype of an object in JavaScript.
pub(crate) fn is_prototype_key(key: &str) -> bool {
    matches!(key, "__proto__" | "constructor" | "prototype")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_may_exist_and_what_may_be_created() {
        let long = "a".repeat(214);
        for good in ["widget", "@acme/widget", "@types/node", "constructor", "tostring", "a.b-c_d", &long] {
            PackageName::parse(good).unwrap().check_new().unwrap();
        }
        for old in ["JSONStream", "a~b", "it's", "http", "fs", "@_old/x", "-x"] {
            assert!(PackageName::parse(old).unwrap().check_new().is_err(), "{old}");
        }
        let longer = "a".repeat(215);
        for bad in [
            "",
            "-",
            ".",
            "..",
            ".a",
            "_a",
            "__proto__",
            "@a/b/c",
            "@/a",
            "@a/",
            "@a",
            "@a/.b",
            "@a/_b",
            "@.a/b",
            "a/b",
            "a b",
            "a%2e",
            "a\\b",
            "\u{e4}",
            "node_modules",
            "favicon.ico",
            "a\0",
            "a:b",
            &longer,
        ] {
            assert!(PackageName::parse(bad).is_err(), "{bad}");
        }
        let name = PackageName::parse("@acme/widget").unwrap();
        assert_eq!(
            (name.scope(), name.unscoped(), name.escaped().as_str()),
            (Some("acme"), "widget", "@acme%2fwidget")
        );
    }

    #[test]
    fn tags() {
        for good in ["latest", "beta", "next-11", "v", "vv", "release", "vnext", "v8-lts"] {
            check_tag(good).unwrap();
        }
        for bad in [
            "",
            "1",
            "1.0.0",
            "v1",
            "vv1",
            "vv1.1.0",
            "vvv1.x",
            "vx",
            "v8268213655067531",
            "v0.22.8268213655067531",
            "1.x",
            "*",
            "x",
            "^1.0.0",
            "a/b",
            "a b",
            "__proto__",
            "constructor",
        ] {
            assert!(check_tag(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_passes_makes_a_key(text in "[@a-zA-Z0-9._~!*'()/\\\\%: -]{0,40}") {
            if let Ok(name) = PackageName::parse(&text) {
                prop_assert!(super::super::keys::index(&name).is_ok());
                prop_assert!(name.as_str().split('/').count() <= 2);
            }
        }

        #[test]
        fn never_panics(text in ".{0,300}") {
            let _ = PackageName::parse(&text).map(|name| name.check_new());
            let _ = check_tag(&text);
        }
    }
}
