//! What manifests reference, in memory of a fixed size: a filter that never forgets what it was told, and at worst takes something for
//! marked that is not. Then that stays until the next collection, which draws another seed.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use fastbloom::BloomFilter;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::super::super::prelude::*;
use super::super::keys;
use super::super::links::{PAGE, PARALLEL};
use super::super::manifests::{MAX_STORED, off_thread};
use super::super::name::Name;

/// Bits of the filter: 16 MiB. With ten million references one in a thousand dead blobs is taken for marked.
const BITS: usize = if cfg!(test) { 1 << 20 } else { 128 << 20 };
/// References that the number of hashes is chosen for.
const EXPECTED: usize = 8_000_000;

/// The marks of one collection.
pub(super) struct Marks {
    filter: BloomFilter,
    /// Repositories with a manifest that could not be understood: what they hold is kept.
    pub(super) unsure: BTreeMap<Name, Digest>,
    /// Whether there was one that lies where no repository can be.
    pub(super) lost: bool,
    /// Manifests that go in this collection, if it were not a dry run: they mark nothing.
    skipped: HashSet<(Name, Digest)>,
    pub(super) manifests: u64,
}

impl Marks {
    pub(super) fn new(skipped: HashSet<(Name, Digest)>) -> Self {
        Self {
            filter: BloomFilter::with_num_bits(BITS).expected_items(EXPECTED),
            unsure: BTreeMap::new(),
            lost: false,
            skipped,
            manifests: 0,
        }
    }

    /// Whether any manifest of any repository may reference it.
    pub(super) fn anywhere(&self, digest: &Digest) -> bool {
        self.lost || !self.unsure.is_empty() || self.filter.contains(&("", digest))
    }

    /// Whether a manifest of this repository may reference it.
    pub(super) fn within(&self, name: &Name, digest: &Digest) -> bool {
        self.unsure.contains_key(name) || self.filter.contains(&(name.as_str(), digest))
    }

    /// Whether this repository may have this manifest.
    pub(super) fn has_manifest(&self, name: &Name, digest: &Digest) -> bool {
        self.unsure.contains_key(name) || self.filter.contains(&("manifest", name.as_str(), digest))
    }

    /// Reads every manifest there is.
    pub(super) async fn collect(&mut self, objects: &Objects, job: &Job) -> Result<()> {
        let (prefix, mut after) = (keys::all_manifests()?, None);
        loop {
            let page = objects.list(&prefix, after.as_deref(), PAGE, false).await?;
            let found: Vec<_> = page
                .objects
                .iter()
                .filter_map(|one| keys::any_manifest_of(&one.key).map(|of| (of, &one.key)))
                .collect();
            let reads: Vec<_> = found
                .into_iter()
                .map(|((name, digest), key)| read(objects, key.clone(), name, digest).boxed())
                .collect();
            let mut reads = stream::iter(reads).buffer_unordered(PARALLEL);
            while let Some(read) = reads.try_next().await? {
                self.add(read);
            }
            job.may_go_on()?;
            job.at("reading manifests", self.manifests, None);
            let Some(next) = page.next else { return Ok(()) };
            after = Some(next);
        }
    }

    fn add(&mut self, read: Read) {
        let Read { name, digest, references } = read;
        self.manifests += 1;
        if let Some(name) = &name {
            if self.skipped.contains(&(name.clone(), digest.clone())) {
                return;
            }
            self.filter.insert(&("manifest", name.as_str(), &digest));
        }
        match references {
            Some(references) => {
                for one in references {
                    self.filter.insert(&("", &one));
                    if let Some(name) = &name {
                        self.filter.insert(&(name.as_str(), &one));
                    }
                }
            }
            None => match name {
                Some(name) => {
                    self.unsure.entry(name).or_insert(digest);
                }
                None => self.lost = true,
            },
        }
    }
}

/// A manifest that was read.
struct Read {
    name: Option<Name>,
    digest: Digest,
    /// `None`: it can't be understood.
    references: Option<Vec<Digest>>,
}

async fn read(objects: &Objects, key: Key, name: Option<Name>, digest: Digest) -> Result<Read> {
    let Some((bytes, meta)) = objects.inspect(&key, "manifest", MAX_STORED).await? else {
        // Deleted a moment ago: it references nothing.
        return Ok(Read { name, digest, references: Some(Vec::new()) });
    };
    let references = off_thread(meta.size, move || Ok(digests_in(&bytes))).await?;
    Ok(Read { name, digest, references })
}

/// Every digest that stands anywhere in a JSON document as a whole text: also in members that this registry does not know.
/// `None` if it is no JSON.
pub(super) fn digests_in(bytes: &[u8]) -> Option<Vec<Digest>> {
    let mut found = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    Scan(&mut found).deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(found)
}

struct Scan<'a>(&'a mut Vec<Digest>);

impl<'de> DeserializeSeed<'de> for Scan<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> std::result::Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scan<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<(), E> {
        self.0.extend(Digest::parse(text));
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<(), A::Error> {
        while items.next_element_seed(Scan(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<(), A::Error> {
        while members.next_key_seed(Scan(self.0))?.is_some() {
            members.next_value_seed(Scan(self.0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn digests_are_found_wherever_they_stand() {
        let one = |text: &str| Digest::sha256(text.as_bytes());
        let long = Digest::of(Algorithm::Sha512, b"x");
        let text = json!({
            "config": { "digest": one("1").to_string(), "size": 1 }, "odd": [[null, true, -1, 2.5, one("2").to_string()]],
            one("3").to_string(): long.to_string(), "no": "sha256:0", "inside": format!("x {}", one("4")),
        });
        let mut found = digests_in(text.to_string().as_bytes()).unwrap();
        found.sort();
        let mut expected = vec![one("1"), one("2"), one("3"), long];
        expected.sort();
        assert_eq!(found, expected);
        // An escape says the same.
        let escaped = text.to_string().replace("sha256:", "sha256\\u003a");
        assert_eq!(digests_in(escaped.as_bytes()).unwrap().len(), 4);
        assert!(digests_in(b"{").is_none() && digests_in(b"{} x").is_none() && digests_in(b"").is_none());
    }
}
