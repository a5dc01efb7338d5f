//! What of an upstream's packument is let through: the same for who reads it and for who downloads from it.

use std::collections::BTreeMap;

use super::super::model::{Packument, Restrictions, short_hash};
use super::super::name::PackageName;
use super::super::{Npm, version};
use crate::core::time::Timestamp;
use crate::protocols::prelude::*;
use crate::upstream::{Policy, Upstream};

/// The packument without what the upstream's policy keeps back; made once per version of both, and again when a version comes of age.
///
/// # Errors
/// 403 if nothing is left.
pub(super) fn let_through(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    loaded: Arc<Loaded<Packument>>,
    upstream: &Upstream,
) -> Result<Arc<Loaded<Packument>>> {
    let policy = &upstream.policy;
    if policy.is_open() {
        return Ok(loaded);
    }
    let now = cx.clock.now();
    let id = short_hash(&[loaded.version.0.as_bytes(), policy.id().as_bytes()]);
    let version = format!("{}/{id}", loaded.version.0);
    let made = npm.proxy.get(&version, now);
    let made = made.unwrap_or_else(|| {
        let (packument, until) = restrict(&loaded.document, policy, name, now);
        npm.proxy.keep(packument, version, until)
    });
    match made.document.restrictions.versions.values().next() {
        Some(reason) if made.document.releases.is_empty() => {
            Err(Error::denied(format!("{name} {reason}; no other version is left")))
        }
        _ => Ok(made),
    }
}

/// Takes out what is not let through, and moves the tags that pointed at it. Also says when that will be another answer.
fn restrict(
    packument: &Packument,
    policy: &Policy,
    name: &PackageName,
    now: Timestamp,
) -> (Packument, Option<Timestamp>) {
    let mut made = packument.clone();
    let (mut restricted, mut until) = (BTreeMap::new(), None::<Timestamp>);
    made.releases.retain(|release| {
        let number = release.version.as_ref();
        let published = packument.time.get(number).and_then(|time| Timestamp::parse_rfc3339(time));
        let covers = |range: &str| version::any_in(range, std::iter::once(number));
        let Some(blocked) = policy.blocks(name.as_str(), published, now, covers) else { return true };
        until = until.into_iter().chain(blocked.until).min();
        restricted.insert(Arc::clone(&release.version), blocked.reason);
        false
    });
    let left = || made.releases.iter().map(|release| release.version.as_ref());
    let mut tags = BTreeMap::new();
    for (tag, to) in &packument.tags {
        let to = if !restricted.contains_key(to.as_str()) {
            Some(to.as_str())
        } else if tag == "latest" {
            version::highest_below(to, left()).or_else(|| version::highest(left()))
        } else {
            None
        };
        tags.extend(to.map(|to| (tag.clone(), to.to_owned())));
    }
    made.tags = tags;
    made.restrictions = Restrictions { versions: restricted };
    (made, until)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_kept_back_leaves_a_document_that_installs() {
        let day = |day: u32| format!("2026-01-{day:02}T00:00:00.000Z");
        let text = serde_json::json!({
            "name": "widget", "dist-tags": { "latest": "1.2.0", "next": "2.0.0-a", "old": "1.0.0", "bad": "1.1.0" },
            "versions": { "1.0.0": {}, "1.1.0": {}, "1.2.0": {}, "1.9.0": {}, "2.0.0-a": {} },
            "time": { "1.0.0": day(1), "1.1.0": day(2), "1.2.0": day(9), "1.9.0": day(3), "2.0.0-a": day(8) },
        });
        let name = PackageName::parse("widget").unwrap();
        let packument =
            Packument::parse_foreign(&Bytes::from(text.to_string()), &name, Timestamp::default()).unwrap();
        let config = serde_json::json!({
            "upstreams": [{ "id": "a", "url": "https://example.com" }],
            "policy": { "minimumReleaseAgeSeconds": 86_400 * 3, "block": [{ "name": "widget", "versions": "1.1" }] },
        });
        let policy = crate::upstream::policy_of(&serde_json::from_value(config).unwrap());
        let now = Timestamp::parse_rfc3339(&day(10)).unwrap();
        let (made, until) = restrict(&packument, &policy, &name, now);
        let left: Vec<&str> = made.releases.iter().map(|release| release.version.as_ref()).collect();
        assert_eq!(left, ["1.0.0", "1.9.0"]);
        assert_eq!(made.tags["latest"], "1.0.0", "nothing above what its maintainers call the latest");
        assert_eq!(made.tags["old"], "1.0.0");
        assert!(!made.tags.contains_key("next") && !made.tags.contains_key("bad"));
        assert!(made.restrictions.versions["1.2.0"].contains("too new"));
        assert!(made.restrictions.versions["1.1.0"].contains("blocked"));
        let first = Timestamp::parse_rfc3339(&day(11)).unwrap();
        assert_eq!(until, Some(first));
        let (made, until) = restrict(&packument, &policy, &name, now.plus(Duration::from_hours(72)));
        assert_eq!((made.tags["latest"].as_str(), until), ("1.2.0", None));
    }
}
