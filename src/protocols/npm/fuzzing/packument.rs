//! The packument: a document that somebody else may have written, read, served, and changed.
#![allow(clippy::indexing_slicing, clippy::similar_names)] // a panic here is a finding

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::edit::{self, NewRelease, Removal, Rules};
use super::super::json;
use super::super::model::{Packument, Person};
use super::super::name::PackageName;
use super::super::representations::{self, View};
use super::super::version;
use crate::config::Visibility;
use crate::core::error::Result;
use crate::core::time::Timestamp;
use crate::fuzzing::input::Input;
use crate::storage::{Document, Edit};

const BASE: &str = "https://registry.example.com/npm";
const LIMIT: u64 = 1 << 20;

/// Lines of changes up to an empty one, then the stored document.
pub(crate) fn packument(data: &[u8]) {
    let mut input = Input::new(data);
    let mut changes = Vec::new();
    while changes.len() < 16 {
        let line = input.text();
        if line.is_empty() {
            break;
        }
        changes.push(line);
    }
    let stored = Bytes::copy_from_slice(input.rest());
    let start = if stored.is_empty() { Ok(Packument::default()) } else { Packument::parse(&stored) };
    let Ok(start) = start else { return };
    // Read leniently once, it is stored as it is from then on.
    let mut packument = settled(&start);
    assert_eq!(settled(&packument), packument, "{packument:?}");
    served(&packument);
    let mut now = Timestamp::from_millis(1_790_000_000_000);
    for line in &changes {
        now = now.plus(Duration::from_secs(1));
        let before = packument.clone();
        if change(&mut packument, line, now).is_err() {
            packument = before;
            continue;
        }
        holds(&before, &packument, line);
        served(&packument);
    }
}

/// Stored and read again.
fn settled(packument: &Packument) -> Packument {
    let bytes = packument.serialize().unwrap_or_default();
    let read = Packument::parse(&bytes);
    assert!(read.is_ok(), "{}", String::from_utf8_lossy(&bytes));
    read.unwrap_or_default()
}

/// What is served is JSON, and sends nobody elsewhere for a tarball.
fn served(packument: &Packument) {
    let Ok(name) = PackageName::parse(&packument.name) else { return };
    let view = View { base: BASE, signer: None };
    let forms = [
        representations::full(&name, packument, &view),
        representations::abbreviated(&name, packument, &view, true),
    ];
    for form in forms {
        let read = serde_json::from_slice::<Value>(&form);
        // Numbers beyond a double are a matter of the reader.
        let Ok(value) = read else {
            assert!(serde_json::from_slice::<&RawValue>(&form).is_ok(), "{}", String::from_utf8_lossy(&form));
            continue;
        };
        for (version, manifest) in value["versions"].as_object().into_iter().flatten() {
            let Some(dist) = manifest["dist"].as_object() else { continue };
            assert_eq!(dist["tarball"], Value::from(representations::tarball_url(&name, version, BASE)));
        }
        assert!(value.get("_sr").is_none(), "our notes are not served");
    }
    let _ = Timestamp::parse_rfc3339(packument.modified()).unwrap_or_default().http_date();
}

/// What any change leaves true.
fn holds(before: &Packument, after: &Packument, line: &str) {
    let tags_held =
        |packument: &Packument| packument.tags.values().all(|one| packument.release(one).is_some());
    assert!(!tags_held(before) || tags_held(after), "{line:?}: a tag names nothing: {after:?}");
    assert!(after.modified() >= before.modified(), "{line:?}: time runs backwards");
    let mut versions: Vec<&str> = after.releases.iter().map(|one| one.version.as_ref()).collect();
    let unique = |list: &mut Vec<&str>| {
        let all = list.len();
        list.sort_unstable();
        list.dedup();
        list.len() == all
    };
    let mut earlier: Vec<&str> = before.releases.iter().map(|one| one.version.as_ref()).collect();
    assert!(!unique(&mut earlier) || unique(&mut versions), "{line:?}: a version twice");
    for dead in &after.notes.tombstones {
        // Whoever wrote the first document may have left both.
        let was = before.release(&dead.version).is_some() && before.tombstone(&dead.version).is_some();
        assert!(was || after.release(&dead.version).is_none(), "{line:?}: {} came back", dead.version);
    }
    // A manifest changes by being deprecated and in no other way.
    for release in &after.releases {
        let Some(old) = before.release(&release.version) else { continue };
        assert!(
            line.starts_with('d') || old.manifest == release.manifest,
            "{line:?} changed {}",
            release.version
        );
    }
    let read = settled(after);
    assert_eq!(read.releases, after.releases, "{line:?}");
    assert_eq!((&read.tags, &read.notes, &read.rev), (&after.tags, &after.notes, &after.rev), "{line:?}");
}

/// `letter word word`. A change that is run a second time, because nobody knew whether it had been written, finds itself there.
fn change(packument: &mut Packument, line: &str, now: Timestamp) -> Result<()> {
    let mut words = line.split(' ');
    let (kind, one, two) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let wanted = BTreeMap::from([(one.to_owned(), two.to_owned())]);
    let user = Person { name: one.to_owned(), email: two.to_owned() };
    match kind.chars().next().unwrap_or_default() {
        'p' => {
            let Some(new) = release(packument, one, two, now) else { return Ok(()) };
            again(packument, |packument| edit::add_version(packument, &new))
        }
        'q' => {
            let Some(new) = release(packument, one, two, now) else { return Ok(()) };
            again(packument, |packument| edit::reserve(packument, &new, "an id"))
        }
        'a' => {
            let Some(new) = release(packument, one, two, now) else { return Ok(()) };
            again(packument, |packument| edit::approve(packument, &new, "an id"))
        }
        'b' => {
            let Some(new) = release(packument, one, two, now) else { return Ok(()) };
            let before = packument.tags.clone();
            again(packument, |packument| Ok(edit::take_back(packument, &new, &before)))
        }
        'f' => again(packument, |packument| Ok(edit::release(packument, one, "an id"))),
        'd' => again(packument, |packument| edit::deprecate(packument, &wanted, LIMIT, now)),
        't' => again(packument, |packument| edit::set_tags(packument, &wanted, kind.len() > 1, now)),
        'r' => edit::remove_tag(packument, one, now).map(drop),
        's' => again(packument, |packument| Ok(edit::star(packument, one, kind.len() > 1, now))),
        'm' => {
            again(packument, |packument| edit::set_maintainers(packument, std::slice::from_ref(&user), now))
        }
        'x' => again(packument, |packument| Ok(edit::set_access(packument, Visibility::Private, now))),
        // Of a package that is not there nothing is taken away.
        'u' if !packument.is_new() && !packument.releases.is_empty() => {
            let rev = packument.rev.clone();
            let removal = if kind.len() > 1 {
                Removal::Package
            } else {
                Removal::AllBut([one.to_owned()].into(), wanted)
            };
            again(packument, |packument| edit::unpublish(packument, &rev, &removal, "bob", now))
        }
        _ => Ok(()),
    }
}

fn again<R>(packument: &mut Packument, run: impl Fn(&mut Packument) -> Result<Edit<R>>) -> Result<()> {
    let before = packument.clone();
    let changed = match run(packument)? {
        Edit::Changed(_) => true,
        Edit::Unchanged(_) => false,
    };
    assert!(changed || before == *packument, "a change that says it was none");
    let after = packument.clone();
    let second = run(packument);
    assert!(matches!(second, Ok(Edit::Unchanged(_))) && after == *packument, "a change that is made twice");
    Ok(())
}

fn release(packument: &Packument, version: &str, tag: &str, now: Timestamp) -> Option<NewRelease> {
    let name = if packument.name.is_empty() { "widget" } else { &packument.name };
    let version = version::clean(version)?;
    let tags = if super::super::name::check_tag(tag).is_ok() { vec![tag.to_owned()] } else { Vec::new() };
    let manifest = format!(
        r#"{{"name":{name:?},"version":{version:?},"dist":{{"integrity":"sha512-x"}},"_npmUser":{{"name":"bob"}}}}"#
    );
    json::check(manifest.as_bytes()).ok()?;
    Some(NewRelease {
        name: name.to_owned(),
        file: format!("{version}.tgz"),
        manifest: RawValue::from_string(manifest).ok()?,
        integrity: "sha512-x".to_owned(),
        readme: Some(tag.to_owned()),
        user: Person { name: "bob".to_owned(), email: String::new() },
        attestations: None,
        access: None,
        rules: Rules { retry: Duration::from_mins(15), packument: LIMIT },
        version,
        tags,
        now,
    })
}
