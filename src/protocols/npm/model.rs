//! The packument: the one document of a package, in the bucket and in memory. Versions stay slices of the stored text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::factor::Mfa;
use super::json::{Members, ObjectWriter};
use crate::config::Visibility;
use crate::core::time::Timestamp;
use crate::protocols::prelude::*;

/// Longest readme that is kept, in bytes, as the public registry has it.
const MAX_README: usize = 64 << 10;

/// Members of the packument that are those of the `latest` version.
const HOISTED: &[&str] = &[
    "description",
    "keywords",
    "homepage",
    "repository",
    "bugs",
    "author",
    "contributors",
    "license",
    "readmeFilename",
];

/// Somebody, as npm writes people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Person {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) email: String,
}

/// One version: its text, and its manifest as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) version: Arc<str>,
    pub(crate) manifest: Bytes,
    /// Whether it is another registry's: neither signed nor stored here.
    pub(crate) foreign: bool,
}

/// Versions that are not let through, shown so that clients can say why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Restrictions {
    /// By version, why.
    pub(crate) versions: BTreeMap<Arc<str>, Arc<str>>,
}

/// A version that was here and must never come back with other content: lockfiles name its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tombstone {
    pub(crate) version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) integrity: Option<String>,
    pub(crate) time: String,
    pub(crate) by: String,
    /// The revision that it was taken out of: by it a client's second try is told from a later wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rev: Option<String>,
    /// File name of its tarball, until it is deleted for certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// That of its attestations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attestations: Option<String>,
}

/// Who took the whole package away, and when; `npm view` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unpublished {
    pub(crate) name: String,
    pub(crate) time: String,
    /// The tags as they were.
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) versions: Vec<String>,
}

/// A version that waits for approval. Its number is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reservation {
    /// Names the object with all the rest.
    pub(crate) id: String,
    pub(crate) time: String,
}

/// What we note in the document besides what npm knows; never served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Notes {
    /// File name of each version's tarball in the package's folder.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tarballs: BTreeMap<String, String>,
    /// File name of each version's attestations, if it came with any.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) attestations: BTreeMap<String, String>,
    /// Versions that wait for approval.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) staged: BTreeMap<String, Reservation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tombstones: Vec<Tombstone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unpublished: Option<Unpublished>,
    /// Public or private, if somebody said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<Visibility>,
    /// Whether changes need a second factor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mfa: Option<Mfa>,
    /// The version whose readme is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) readme_of: Option<String>,
}

/// A package's document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Packument {
    pub(crate) name: String,
    /// `7-<32 hex>`: counts the changes; empty for a package that isn't there.
    pub(crate) rev: String,
    pub(crate) tags: BTreeMap<String, String>,
    /// In the order in which they came.
    pub(crate) releases: Vec<Release>,
    pub(crate) time: BTreeMap<String, String>,
    pub(crate) maintainers: Vec<Person>,
    pub(crate) users: BTreeMap<String, bool>,
    pub(crate) readme: Option<String>,
    pub(crate) notes: Notes,
    /// What of another registry's package is not let through; never stored.
    pub(crate) restrictions: Restrictions,
}

impl Document for Packument {
    const CONTENT_TYPE: &'static str = "application/json";
    // What can be read at all; what may be written is `limits.packument`.
    const LIMIT: u64 = 256 << 20;
    const NAME: &'static str = "packument";

    fn parse(bytes: &Bytes) -> Result<Self> {
        let members =
            Members::parse(bytes).ok_or_else(|| Error::internal("a stored packument is no JSON object"))?;
        let releases = members.object("versions").unwrap_or_default();
        let releases = releases
            .0
            .into_iter()
            .filter(|(version, _)| version != "__proto__")
            .map(|(version, manifest)| Release {
                version: version.into(),
                manifest: bytes.slice_ref(manifest.get().as_bytes()),
                foreign: false,
            })
            .collect();
        let rev = members.text("_rev").unwrap_or_else(|| format!("0-{}", short_hash(&[bytes])));
        Ok(Self {
            name: members.text("name").or_else(|| members.text("_id")).unwrap_or_default(),
            rev,
            tags: texts(&members, "dist-tags"),
            releases,
            time: texts(&members, "time"),
            maintainers: members.read("maintainers").unwrap_or_default(),
            users: members.read("users").unwrap_or_default(),
            readme: members.text("readme").filter(|readme| !readme.is_empty()),
            notes: members.read("_sr").unwrap_or_default(),
            restrictions: Restrictions::default(),
        })
    }

    fn serialize(&self) -> Result<Bytes> {
        let mut out = Vec::with_capacity(self.stored_room());
        let mut object = ObjectWriter::begin(&mut out);
        self.write_head(&mut object);
        let mut versions = object.object("versions");
        for release in &self.releases {
            versions.raw(&release.version, &release.manifest);
        }
        versions.end();
        self.write_tail(&mut object);
        object.member("_sr", &self.notes);
        object.end();
        Ok(out.into())
    }
}

/// A map of texts; what isn't one (`time.unpublished`) is left out.
fn texts(members: &Members<'_>, key: &str) -> BTreeMap<String, String> {
    let members = members.object(key).unwrap_or_default();
    let list = members.0.iter().filter(|(name, _)| name != "__proto__");
    list.filter_map(|(name, value)| Some((name.to_string(), serde_json::from_str(value.get()).ok()?)))
        .collect()
}

/// 32 hexadecimal characters over the parts.
pub(crate) fn short_hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut text = hex::encode(hash.finalize());
    text.truncate(32);
    text
}

impl Packument {
    /// Whether the package has never been here.
    pub(crate) fn is_new(&self) -> bool {
        let once = self.notes.unpublished.is_some() || !self.notes.tombstones.is_empty();
        self.rev.is_empty() || (self.releases.is_empty() && !once)
    }

    /// Room for the stored text, which has the names of two files for each version.
    fn stored_room(&self) -> usize {
        self.room(2 * self.name.len() + 96)
    }

    /// Room for its text, where so much is written for each version beside manifest and time. Rather too much, which costs nothing while
    /// it is not touched: a text that outgrows its room is there twice while it is copied, and keeps a room of twice its size.
    pub(crate) fn room(&self, beside: usize) -> usize {
        let one = |release: &Release| release.manifest.len() + 6 * release.version.len() + 96 + beside;
        let rest = self.readme.as_ref().map_or(0, String::len) + (64 << 10);
        self.releases.iter().map(one).sum::<usize>() + rest
    }

    /// Goes on only if the document stays within `limits.packument`.
    pub(crate) fn check_size(&self, limit: u64) -> Result<()> {
        // Of a version: its manifest, and its text as a key there, in `time` and in the notes, with what JSON puts around.
        let one = |release: &Release| release.manifest.len() + 3 * release.version.len() + 96;
        let size = self.releases.iter().map(one).sum::<usize>() + self.readme.as_ref().map_or(0, String::len);
        if size as u64 <= limit {
            return Ok(());
        }
        Err(Error::new(
            Kind::TooLarge,
            format!(
                "the packument of {} would be larger than the limit of {limit} bytes (limits.packument); unpublish old versions",
                self.name
            ),
        ))
    }

    /// A version's manifest.
    pub(crate) fn release(&self, version: &str) -> Option<&Release> {
        self.releases.iter().find(|release| release.version.as_ref() == version)
    }

    /// The version that a tag names, if it is there.
    pub(crate) fn tagged(&self, tag: &str) -> Option<&Release> {
        self.release(self.tags.get(tag)?)
    }

    /// What was here under this version before it was unpublished.
    pub(crate) fn tombstone(&self, version: &str) -> Option<&Tombstone> {
        self.notes.tombstones.iter().find(|one| one.version == version)
    }

    /// When the served content last changed. Never before the newest version, which is what pnpm relies on.
    pub(crate) fn modified(&self) -> &str {
        let newest = self.releases.iter().filter_map(|release| self.time.get(release.version.as_ref())).max();
        self.time
            .get("modified")
            .max(newest)
            .or_else(|| self.time.get("created"))
            .map_or(EPOCH, String::as_str)
    }

    /// When the package was first published.
    pub(crate) fn created(&self) -> &str {
        self.time.get("created").map_or_else(|| self.modified(), String::as_str)
    }

    /// Marks a change: time and revision. `salt` is what changed.
    pub(crate) fn touch(&mut self, now: Timestamp, salt: &[&[u8]]) {
        // Another process's clock may be ahead; time must not run backwards for caches.
        let now = now.rfc3339().max(self.modified().to_owned());
        self.time.entry("created".to_owned()).or_insert_with(|| now.clone());
        self.time.insert("modified".to_owned(), now.clone());
        let count = self.rev.split('-').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
        let mut parts = vec![self.rev.as_bytes(), now.as_bytes()];
        parts.extend(salt);
        self.rev = format!("{}-{}", count + 1, short_hash(&parts));
    }

    /// Keeps a readme, cut where the public registry cuts it.
    pub(crate) fn set_readme(&mut self, version: &str, readme: Option<&str>) {
        self.readme = readme.filter(|text| !text.is_empty()).map(|text| cut(text, MAX_README).to_owned());
        self.notes.readme_of = self.readme.as_ref().map(|_| version.to_owned());
    }

    /// Goes on unless a version that is not there is one that is not let through.
    ///
    /// # Errors
    /// 403 that says why.
    pub(crate) fn check_restrictions(&self, version: &str) -> Result<()> {
        let Some(reason) = self.restrictions.versions.get(version) else { return Ok(()) };
        Err(Error::denied(format!("{} {version} {reason}", self.name)))
    }

    /// Why a version is not let through, for clients that understand it: npm then says so, where it would say that there is no such version.
    pub(crate) fn write_restrictions(&self, object: &mut ObjectWriter<'_>) {
        let restricted = &self.restrictions.versions;
        let Some(first) = restricted.values().next() else { return };
        let alike = restricted.values().all(|reason| reason == first);
        let reason: &str = if alike { first } else { "is not let through by this registry" };
        let mut policy = object.object("policyRestrictions");
        policy.member("message", &format!("the wanted version of {} {reason}", self.name));
        let mut versions = policy.object("versions");
        for version in restricted.keys() {
            versions.member(version, &serde_json::json!({ "name": self.name, "version": version }));
        }
        versions.end();
        policy.end();
    }

    /// Everything before `versions`.
    pub(crate) fn write_head(&self, object: &mut ObjectWriter<'_>) {
        object.member("_id", &self.name);
        object.member("_rev", &self.rev);
        object.member("name", &self.name);
        object.member("dist-tags", &self.tags);
    }

    /// Everything after `versions`.
    pub(crate) fn write_tail(&self, object: &mut ObjectWriter<'_>) {
        self.write_time(object);
        self.write_restrictions(object);
        object.member("maintainers", &self.maintainers);
        if !self.users.is_empty() {
            object.member("users", &self.users);
        }
        let Some(latest) = self.tagged("latest") else { return };
        if let Some(members) = Members::parse(&latest.manifest) {
            for key in HOISTED {
                if let Some(value) = members.get(key) {
                    object.raw(key, value.get().as_bytes());
                }
            }
        }
        // The readme of another version would be a lie: latest has moved since.
        let of_latest =
            self.notes.readme_of.as_deref().is_none_or(|version| version == latest.version.as_ref());
        object.member("readme", self.readme.as_deref().filter(|_| of_latest).unwrap_or_default());
    }

    /// `time`, with an entry for every version: pnpm refuses a document that lacks one.
    pub(crate) fn write_time(&self, object: &mut ObjectWriter<'_>) {
        let mut time = object.object("time");
        time.member("created", self.created());
        time.member("modified", self.modified());
        for release in &self.releases {
            time.member(&release.version, self.published(&release.version));
        }
        if let Some(unpublished) = &self.notes.unpublished {
            time.member("unpublished", unpublished);
        }
        time.end();
    }

    /// When a version was published; where nobody wrote it down, the latest that it can have been.
    pub(crate) fn published(&self, version: &str) -> &str {
        self.time.get(version).map_or_else(|| self.modified(), String::as_str)
    }
}

const EPOCH: &str = "1970-01-01T00:00:00.000Z";

/// At most `limit` bytes of a text, without cutting a character apart.
fn cut(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::npm::keys;
    use crate::protocols::npm::name::PackageName;

    #[test]
    fn no_text_outgrows_its_room() {
        let name = PackageName::parse("@acme/widget").unwrap();
        let mut packument = Packument { name: name.as_str().into(), ..Packument::default() };
        for n in 0..500 {
            let version = format!("1.0.{n}-beta.{n}");
            packument.time.insert(version.clone(), EPOCH.into());
            packument.notes.tarballs.insert(version.clone(), keys::other_tarball(&name, &version));
            packument.notes.attestations.insert(version.clone(), keys::attestations(&version));
            let manifest = Bytes::from_static(b"{}");
            packument.releases.push(Release { version: version.into(), manifest, foreign: false });
        }
        let room = packument.stored_room();
        let text = packument.serialize().unwrap().len();
        assert!(text <= room && room < 2 * text + (64 << 10), "{text} bytes in a room of {room}");
    }

    #[test]
    fn a_foreign_packument_is_read_leniently_and_written_back_whole() {
        let text = Bytes::from_static(
            br#"{"name":"widget","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"widget","version":"1.0.0","x":[1.50],"description":"d"},"__proto__":{}},"time":{"created":"2020-01-01T00:00:00.000Z","unpublished":{"x":1}},"maintainers":"nonsense","odd":1}"#,
        );
        let packument = Packument::parse(&text).unwrap();
        assert!(packument.rev.starts_with("0-") && packument.rev.len() == 34);
        assert_eq!(packument.releases.len(), 1);
        assert_eq!(packument.published("1.0.0"), "2020-01-01T00:00:00.000Z");
        let stored = packument.serialize().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&stored).unwrap();
        assert_eq!(value["description"], "d");
        assert!(std::str::from_utf8(&stored).unwrap().contains(r#""x":[1.50]"#));
        let again = Packument::parse(&stored).unwrap();
        assert_eq!(again.releases, packument.releases);
        assert_eq!(again.serialize().unwrap(), stored);
        assert!(Packument::parse(&Bytes::from_static(b"[]")).is_err());
    }

    #[test]
    fn revisions_count_and_time_goes_on() {
        let mut packument = Packument::default();
        let now = Timestamp::from_millis(1_700_000_000_000);
        packument.touch(now, &[b"a"]);
        let first = packument.rev.clone();
        assert!(first.starts_with("1-") && first.len() == 34);
        packument.touch(Timestamp::from_millis(1_600_000_000_000), &[b"b"]);
        assert!(packument.rev.starts_with("2-"));
        assert_eq!(packument.modified(), now.rfc3339());
        assert_eq!(packument.created(), now.rfc3339());
    }

    #[test]
    fn readmes_are_cut_between_characters() {
        let mut packument = Packument::default();
        packument.set_readme("1.0.0", Some(&"\u{e4}".repeat(40_000)));
        assert_eq!(packument.readme.unwrap().len(), 64 << 10);
    }
}
