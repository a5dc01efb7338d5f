//! One package of our own versions and another registry's. Pure.

use super::super::model::Packument;

/// Our own document with the versions that only the other one has. Of what both have, ours counts; what was taken away here does not come back from
/// there; and a tag of theirs never takes the place of ours.
pub(super) fn merge(own: &Packument, other: &Packument) -> Packument {
    let mut all = own.clone();
    let mut added = Vec::new();
    let taken = |version: &str| {
        own.release(version).is_some()
            || own.tombstone(version).is_some()
            || own.notes.staged.contains_key(version)
    };
    for release in &other.releases {
        let version = release.version.as_ref();
        if !taken(version) {
            added.push(release.clone());
            all.time.insert(version.to_owned(), other.published(version).to_owned());
        }
    }
    for (tag, version) in &other.tags {
        let there = added.iter().any(|release| release.version.as_ref() == version);
        if there && !own.tags.contains_key(tag) {
            all.tags.insert(tag.clone(), version.clone());
        }
    }
    // Theirs are older as a rule, and npm takes the last of equals.
    added.append(&mut all.releases);
    all.releases = added;
    all.notes.unpublished = None;
    if all.maintainers.is_empty() {
        all.maintainers.clone_from(&other.maintainers);
    }
    if all.readme.is_none() && !own.tags.contains_key("latest") {
        all.readme.clone_from(&other.readme);
    }
    for (key, pick) in [("created", Ord::min as fn(String, String) -> String), ("modified", Ord::max)] {
        let both = [own.time.get(key), other.time.get(key)].into_iter().flatten().cloned().reduce(pick);
        all.time.extend(both.map(|time| (key.to_owned(), time)));
    }
    // What is kept back of theirs under a number of ours says nothing of ours.
    all.restrictions = other.restrictions.clone();
    all.restrictions.versions.retain(|version, _| !taken(version));
    all
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::storage::Document;

    fn packument(value: &Value) -> Packument {
        Packument::parse(&Bytes::from(value.to_string())).unwrap()
    }

    #[test]
    fn what_is_ours_counts() {
        let own = packument(&json!({
            "name": "widget", "_rev": "3-a", "dist-tags": { "latest": "1.0.1" },
            "versions": { "1.0.0": { "ours": true }, "1.0.1": { "ours": true } },
            "time": { "created": "2026-01-02T00:00:00.000Z", "1.0.0": "2026-01-02T00:00:00.000Z", "1.0.1": "2026-01-03T00:00:00.000Z" },
            "_sr": { "tombstones": [{ "version": "0.9.0", "time": "2026-01-01T00:00:00.000Z", "by": "bob" }] },
        }));
        let other = packument(&json!({
            "name": "widget", "dist-tags": { "latest": "9.0.0", "next": "9.0.0" },
            "versions": { "0.9.0": {}, "1.0.0": {}, "9.0.0": {} },
            "time": { "created": "2020-01-01T00:00:00.000Z", "9.0.0": "2026-02-01T00:00:00.000Z" },
        }));
        let all = merge(&own, &other);
        let versions: Vec<&str> = all.releases.iter().map(|release| release.version.as_ref()).collect();
        assert_eq!(versions, ["9.0.0", "1.0.0", "1.0.1"]);
        assert_eq!((all.tags["latest"].as_str(), all.tags["next"].as_str()), ("1.0.1", "9.0.0"));
        assert!(all.release("1.0.0").unwrap().manifest.starts_with(b"{\"ours\""));
        assert_eq!(all.published("9.0.0"), "2026-02-01T00:00:00.000Z");
        assert_eq!(all.created(), "2020-01-01T00:00:00.000Z");
    }

    #[test]
    fn what_is_kept_back_of_theirs_is_not_kept_back_of_ours() {
        let own = packument(&json!({
            "name": "widget", "versions": { "1.0.0": {} },
            "_sr": {
                "tombstones": [{ "version": "0.9.0", "time": "2026-01-01T00:00:00.000Z", "by": "bob" }],
                "staged": { "1.1.0": { "id": "x", "time": "2026-01-01T00:00:00.000Z" } },
            },
        }));
        let mut other = packument(&json!({ "name": "widget", "versions": { "3.0.0": {} } }));
        let blocked = ["0.9.0", "1.0.0", "1.1.0", "2.0.0"];
        other.restrictions.versions =
            blocked.iter().map(|one| ((*one).into(), "is blocked".into())).collect();
        let all = merge(&own, &other);
        assert_eq!(own.notes.staged.len(), 1);
        assert_eq!(all.restrictions.versions.keys().map(AsRef::as_ref).collect::<Vec<&str>>(), ["2.0.0"]);
    }
}
