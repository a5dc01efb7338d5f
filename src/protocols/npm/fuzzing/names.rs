//! Names, tags, versions, ranges, and what somebody types into a search.

use serde_json::json;

use super::super::keys;
use super::super::manifest::attachment_version;
use super::super::name::{self, PackageName};
use super::super::query::Query;
use super::super::version;
use crate::core::path::Segments;
use crate::fuzzing::input::Input;

/// Lines: a name, a version, a range, and whatever else.
pub(crate) fn name(input: &mut Input<'_>) {
    let (name, version, range) = (input.text(), input.text(), input.text());
    let version = version::clean(&version).inspect(|clean| {
        assert_eq!(version::clean(clean).as_ref(), Some(clean), "{version:?}");
        assert!(clean.is_ascii() && !clean.contains(['/', '\\', '+', ' ', '%']), "{version:?}");
    });
    if let Ok(parsed) = PackageName::parse(&name) {
        package(&parsed, &name, version.as_deref().unwrap_or("1.0.0"));
    }
    ranges(&range, &[&name, version.as_deref().unwrap_or_default(), "1.0.0", "2.0.0-rc.1"]);
    if name::check_tag(&range).is_ok() {
        // Clients take tag and version in the same place.
        assert!(version::clean(&range).is_none() && !version::is_range(&range), "{range:?}");
        assert!(!name::is_prototype_key(&range) && !range.contains('/'), "{range:?}");
    }
    let found = json!({ "package": { "name": name, "keywords": [range] }, "flags": {} });
    let query = Query::parse(&input.rest_text());
    assert!(query.words.len() <= 16);
    query.accepts(&found);
}

fn package(package: &PackageName, text: &str, version: &str) {
    assert_eq!(package.as_str(), text);
    assert_eq!(
        package.scope().map_or(String::new(), |scope| format!("@{scope}/")) + package.unscoped(),
        text
    );
    if package.check_new().is_ok() {
        assert!(!text.bytes().any(|byte| byte.is_ascii_uppercase()), "{text:?}");
    }
    // As a path, escaped or not, it is the same name again.
    for path in [text.to_owned(), package.escaped()] {
        let segments = Segments::parse(&path).unwrap_or_default();
        assert_eq!(segments.parts().join("/"), text);
    }
    let folder = format!("npm/packages/{text}/");
    let files = keys::candidates(package, version).into_iter().chain([
        keys::other_tarball(package, version),
        keys::attestations(version),
        "index.json".to_owned(),
    ]);
    for file in files {
        // A long name with a long version makes no key; what makes one stays in the package's folder.
        let Ok(key) = keys::file(package, &file) else { continue };
        assert!(key.as_str().starts_with(&folder) && !key.is_private(), "{key}");
        assert!(key.as_str() == folder.clone() + "index.json" || file != "index.json");
    }
    for attachment in [format!("{text}-{version}.tgz"), keys::canonical(package, version)] {
        assert_eq!(attachment_version(package, &attachment).as_deref(), Some(version), "{attachment:?}");
    }
}

fn ranges(range: &str, versions: &[&str]) {
    let best = version::max_satisfying(range, versions.iter().copied(), None);
    assert!(best.is_none_or(|best| versions.contains(&best)));
    assert!(version::is_range(range) || best.is_none(), "{range:?}");
    for preferred in versions {
        let chosen = version::max_satisfying(range, versions.iter().copied(), Some(preferred));
        // With or without a preference the same ranges have an answer.
        assert_eq!(chosen.is_some(), best.is_some(), "{range:?}");
    }
    version::any_in(range, versions.iter().copied());
    assert!(version::highest(versions.iter().copied()).is_some_and(|one| versions.contains(&one)));
}
