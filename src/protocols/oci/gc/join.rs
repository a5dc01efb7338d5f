//! Links and blobs, listed side by side by digest: what is dead shows without reading anything.

use std::collections::VecDeque;

use super::super::super::prelude::*;
use super::super::keys;
use super::super::links::PAGE;
use super::super::name::Name;
use super::marks::Marks;
use crate::core::time::Timestamp;
use crate::storage::Listed;

/// Most dead links of one digest that one collection takes.
const MOST_LINKS: usize = 10_000;

/// A listing, read page by page.
struct Listing {
    objects: Objects,
    prefix: Prefix,
    page: VecDeque<Listed>,
    after: Option<String>,
    ended: bool,
}

impl Listing {
    fn new(objects: &Objects, prefix: Prefix) -> Self {
        Self { objects: objects.clone(), prefix, page: VecDeque::new(), after: None, ended: false }
    }

    async fn peek(&mut self) -> Result<Option<&Listed>> {
        while self.page.is_empty() && !self.ended {
            let page = self.objects.list(&self.prefix, self.after.as_deref(), PAGE, false).await?;
            self.page.extend(page.objects);
            self.ended = page.next.is_none();
            self.after = page.next;
        }
        Ok(self.page.front())
    }

    fn pop(&mut self) -> Option<Listed> {
        self.page.pop_front()
    }
}

/// What is dead of one digest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) digest: Digest,
    /// Repositories whose links go.
    pub(super) links: Vec<Name>,
    /// Size of the blob, if that goes too.
    pub(super) blob: Option<u64>,
}

/// What was counted on the way.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    pub(super) links: u64,
    pub(super) blobs: u64,
}

/// Links and blobs of one algorithm whose digests begin so.
pub(super) struct Join<'a> {
    links: Listing,
    blobs: Listing,
    marks: &'a Marks,
    /// What is younger is not looked at.
    deadline: Timestamp,
    pub(super) seen: Seen,
    /// Repositories that may be empty; those with a link are taken out.
    pub(super) empty: Option<&'a mut std::collections::BTreeSet<Name>>,
}

impl<'a> Join<'a> {
    pub(super) fn new(
        objects: &Objects,
        algorithm: Algorithm,
        digits: &str,
        marks: &'a Marks,
        deadline: Timestamp,
    ) -> Result<Self> {
        Ok(Self {
            links: Listing::new(objects, keys::links_from(algorithm, digits)?),
            blobs: Listing::new(objects, keys::blobs_from(algorithm, digits)?),
            marks,
            deadline,
            seen: Seen::default(),
            empty: None,
        })
    }

    /// The next digest that has something dead.
    pub(super) async fn next(&mut self) -> Result<Option<Dead>> {
        loop {
            let link = digest_of(&mut self.links, |key| keys::linked(key).map(|(digest, _)| digest)).await?;
            let blob = digest_of(&mut self.blobs, keys::blob_of).await?;
            let Some(digest) = least(link, blob) else { return Ok(None) };
            let dead = self.look_at(digest).await?;
            if dead.blob.is_some() || !dead.links.is_empty() {
                return Ok(Some(dead));
            }
        }
    }

    /// Takes everything of one digest off both listings.
    async fn look_at(&mut self, digest: Digest) -> Result<Dead> {
        let mut dead = Dead { links: Vec::new(), blob: None, digest };
        let mut alive = false;
        while let Some(one) = self.links.peek().await? {
            let name = match keys::linked(&one.key) {
                Some((digest, name)) if digest == dead.digest => name,
                _ => break,
            };
            let old = one.modified <= self.deadline;
            self.links.pop();
            self.seen.links += 1;
            let Some(name) = name else {
                alive = true;
                continue;
            };
            if let Some(empty) = &mut self.empty {
                empty.remove(&name);
            }
            if old && dead.links.len() < MOST_LINKS && !self.marks.within(&name, &dead.digest) {
                dead.links.push(name);
            } else {
                alive = true;
            }
        }
        if let Some(one) = self.blobs.peek().await?
            && keys::blob_of(&one.key).as_ref() == Some(&dead.digest)
        {
            let (old, size) = (one.modified <= self.deadline, one.size);
            self.blobs.pop();
            self.seen.blobs += 1;
            dead.blob = (old && !alive && !self.marks.anywhere(&dead.digest)).then_some(size);
        }
        Ok(dead)
    }
}

/// The digest at the front; what is no key of this layout is passed over.
async fn digest_of(listing: &mut Listing, of: fn(&Key) -> Option<Digest>) -> Result<Option<Digest>> {
    while let Some(one) = listing.peek().await? {
        match of(&one.key) {
            Some(digest) => return Ok(Some(digest)),
            None => listing.pop(),
        };
    }
    Ok(None)
}

fn least(one: Option<Digest>, other: Option<Digest>) -> Option<Digest> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
