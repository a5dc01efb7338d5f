//! Versions and ranges, as npm cleans and compares them. Pure.

use crate::core::error::{Error, Result};

use super::name::printable;

/// Longest version text that is looked at.
const MAX_VERSION: usize = 256;
/// Largest number in a version: what JavaScript counts exactly.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// The version in the form that the registry knows it by: trimmed, without a leading `v` or `=`, without build metadata.
///
/// npm publishes `1.0.0+build` as `1.0.0`; other clients may not, and two versions that differ in their build alone are one.
pub(crate) fn clean(text: &str) -> Option<String> {
    if text.len() > MAX_VERSION {
        return None;
    }
    parse(text.trim().trim_start_matches(['v', '='])).map(|mut version| {
        version.build = semver::BuildMetadata::EMPTY;
        version.to_string()
    })
}

/// The same, or a 400 that says which version is none.
pub(crate) fn require(text: &str) -> Result<String> {
    clean(text).ok_or_else(|| Error::invalid(format!("`{}` is no semantic version", printable(text))))
}

fn parse(text: &str) -> Option<semver::Version> {
    let version = semver::Version::parse(text).ok()?;
    [version.major, version.minor, version.patch]
        .iter()
        .all(|number| *number <= MAX_NUMBER)
        .then_some(version)
}

/// Whether a text can be read as a range, such as `1`, `^1.0.0` or `*`; also with numbers that are too large for the crate and not for npm.
pub(crate) fn is_range(text: &str) -> bool {
    let numbers =
        || text.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= MAX_VERSION
        && (nodejs_semver::Range::parse(text).is_ok() || clean(text).is_some() || numbers())
}

/// The version that npm would install for a range: the preferred one (that of `latest`) if it fits, else the highest that fits.
pub(crate) fn max_satisfying<'a>(
    range: &str,
    versions: impl Iterator<Item = &'a str>,
    preferred: Option<&str>,
) -> Option<&'a str> {
    if range.len() > MAX_VERSION {
        return None;
    }
    let range = nodejs_semver::Range::parse(range).ok()?;
    let mut best: Option<(&str, nodejs_semver::Version)> = None;
    for text in versions {
        // Packuments from before 2012 have versions that are none.
        let Ok(version) = nodejs_semver::Version::parse(text) else { continue };
        if !range.satisfies(&version) {
            continue;
        }
        if preferred == Some(text) {
            return Some(text);
        }
        if best.as_ref().is_none_or(|(_, highest)| version > *highest) {
            best = Some((text, version));
        }
    }
    best.map(|(text, _)| text)
}

/// Whether any of the versions lies in a range. Prereleases count: a vulnerable one is vulnerable.
pub(crate) fn any_in<'a>(range: &str, mut versions: impl Iterator<Item = &'a str>) -> bool {
    let wanted = (range.len() <= 4096).then(|| nodejs_semver::Range::parse(range).ok()).flatten();
    let Some(wanted) = wanted else { return false };
    versions.any(|text| {
        nodejs_semver::Version::parse(text)
            .is_ok_and(|version| range.trim() == "*" || wanted.satisfies_with_prerelease(&version, true))
    })
}

/// The highest version, releases before prereleases: where `latest` goes when its version is taken away.
pub(crate) fn highest<'a>(versions: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    versions
        .filter_map(|text| parse(text).map(|version| (version.pre.is_empty(), version, text)))
        .max_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)))
        .map(|(_, _, text)| text)
}

/// The highest version below another, releases before prereleases.
pub(crate) fn highest_below<'a>(limit: &str, versions: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = parse(limit)?;
    highest(versions.filter(|text| parse(text).is_some_and(|version| version < limit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cleans_as_npm_does() {
        for (text, cleaned) in [
            ("1.0.0", "1.0.0"),
            (" v1.2.3 ", "1.2.3"),
            ("=1.2.3", "1.2.3"),
            ("1.1.0-beta.1+build5", "1.1.0-beta.1"),
            ("0.0.0-x-y-z.--", "0.0.0-x-y-z.--"),
            ("20240101120000.0.0", "20240101120000.0.0"),
        ] {
            assert_eq!(clean(text).as_deref(), Some(cleaned), "{text}");
        }
        let long = format!("1.0.0-{}", "a".repeat(256));
        for bad in [
            "",
            "latest",
            "1",
            "1.0",
            "01.0.0",
            "1.0.0-01",
            "1.0.0-",
            "../../1.0.0",
            "1.0.0/..",
            "1.0.0.0",
            "9007199254740992.0.0",
            "1.0.0 2.0.0",
            &long,
        ] {
            assert_eq!(clean(bad), None, "{bad}");
        }
    }

    #[test]
    fn picks_as_npm_does() {
        let all = ["1.0.0", "1.2.0", "1.10.0", "2.0.0-beta.1", "not-a-version"];
        let pick = |range: &str, latest| max_satisfying(range, all.into_iter(), latest);
        assert_eq!(pick("^1", None), Some("1.10.0"));
        assert_eq!(pick("^1", Some("1.2.0")), Some("1.2.0"));
        assert_eq!(pick(">=2.0.0-0", None), Some("2.0.0-beta.1"));
        assert_eq!(pick("^3", None), None);
        assert_eq!(pick("nonsense range", None), None);
        assert_eq!(highest(all.into_iter()), Some("1.10.0"));
        assert_eq!(highest(["2.0.0-a", "2.0.0-b"].into_iter()), Some("2.0.0-b"));
    }

    proptest! {
        #[test]
        fn cleaning_twice_changes_nothing(text in "[v= ]{0,2}[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}(-[a-z0-9.-]{1,8})?(\\+[a-z0-9]{1,5})?") {
            if let Some(once) = clean(&text) {
                let twice = clean(&once);
                prop_assert_eq!(twice.as_deref(), Some(once.as_str()));
                prop_assert!(!once.contains(['/', '\\', '+', ' ']));
            }
        }

        #[test]
        fn never_panics(text in ".{0,300}", other in ".{0,40}") {
            let _ = clean(&text);
            let _ = is_range(&text);
            let _ = max_satisfying(&text, [other.as_str(), "1.0.0"].into_iter(), None);
            let _ = highest([other.as_str()].into_iter());
        }
    }
}
