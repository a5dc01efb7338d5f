//! Listings, always URL-encoded: keys may hold characters that XML can't.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::EncodingType;
use percent_encoding::percent_decode_str;

use super::bucket::{Bucket, timestamp, version};
use super::error::store_error;
use crate::core::time::Timestamp;
use crate::storage::{Key, Listed, Page, Prefix, StoreResult, Version};

/// Most entries of a page, as every server has it.
const PAGE: usize = 1000;

/// Greater than any character in a key: what comes after a folder comes after `folder/` and this.
const LAST: &str = "\u{10ffff}";

impl Bucket {
    pub(super) async fn list_page(
        &self,
        prefix: &Prefix,
        after: Option<&str>,
        limit: usize,
        by_folder: bool,
    ) -> StoreResult<Page> {
        let limit = limit.clamp(1, PAGE);
        let crude_lists = self.quirks().crude_lists.load(Ordering::Relaxed);
        let asked = if crude_lists { PAGE } else { limit };
        let mut after = after.map(str::to_owned);
        let mut page = Page::default();
        // A page may be empty for us though it was not for the server: foreign keys, a folder that is summed up already.
        loop {
            let delimiter = by_folder && !crude_lists;
            // After a folder means after everything in it.
            let skip = if by_folder && after.as_deref().is_some_and(|after| after.ends_with('/')) {
                LAST
            } else {
                ""
            };
            let from = after.as_deref().map(|after| format!("{}{after}{skip}", self.target().prefix));
            let answer = self.list_request(prefix, from, asked, delimiter).await?;
            let more = answer.is_truncated() == Some(true);
            let entries = self.entries(&answer, after.as_deref());
            let last = entries.last().map(|entry| entry.name().to_owned());
            let start = after.clone();
            for entry in entries {
                let entry = if by_folder && crude_lists { entry.folded(prefix) } else { entry };
                if after.as_deref().is_some_and(|after| entry.name() <= after) {
                    continue;
                }
                if page.objects.len() + page.prefixes.len() == limit {
                    page.next = after;
                    return Ok(page);
                }
                after = Some(entry.name().to_owned());
                match entry {
                    Entry::Folder(name) => page.prefixes.push(name),
                    // Keys that ours could never be belong to somebody else.
                    Entry::Object(name, listed) => page.objects.extend(listed.with_key(name)),
                }
            }
            let (true, Some(last)) = (more, last) else { return Ok(page) };
            let count = page.objects.len() + page.prefixes.len();
            if count == limit || (count > 0 && !crude_lists) {
                page.next = after;
                return Ok(page);
            }
            if after == start {
                after = Some(last);
            }
        }
    }

    async fn list_request(
        &self,
        prefix: &Prefix,
        after: Option<String>,
        limit: usize,
        delimiter: bool,
    ) -> StoreResult<ListObjectsV2Output> {
        let _permit = self.permit().await;
        let clients = self.clients().await?;
        clients
            .metadata
            .list_objects_v2()
            .bucket(&self.target().bucket)
            .prefix(format!("{}{}", self.target().prefix, prefix.as_str()))
            .set_start_after(after)
            .set_delimiter(delimiter.then(|| "/".to_owned()))
            .max_keys(i32::try_from(limit).unwrap_or(i32::MAX))
            .encoding_type(EncodingType::Url)
            .send()
            .await
            .map_err(|error| store_error("ListObjectsV2", &error))
    }

    /// What the server listed, by name; servers that misunderstand the start repeat what was before it.
    fn entries(&self, answer: &ListObjectsV2Output, after: Option<&str>) -> Vec<Entry> {
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let root = self.target().prefix.as_str();
        let name = |text: Option<&str>| -> Option<String> {
            let path = decode(text?, encoded);
            let name = path.strip_prefix(root)?;
            after.is_none_or(|after| name > after).then(|| name.to_owned())
        };
        let objects = answer.contents().iter().filter_map(|object| {
            let listed = Object {
                size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                modified: timestamp(object.last_modified()),
                version: version(object.e_tag()).ok(),
            };
            Some(Entry::Object(name(object.key())?, listed))
        });
        let folders =
            answer.common_prefixes().iter().filter_map(|folder| name(folder.prefix()).map(Entry::Folder));
        let mut entries: Vec<Entry> = objects.chain(folders).collect();
        entries.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        entries
    }
}

/// One line of a listing.
enum Entry {
    Object(String, Object),
    Folder(String),
}

/// What a listing tells of an object.
struct Object {
    size: u64,
    modified: Timestamp,
    version: Option<Version>,
}

impl Object {
    fn with_key(self, name: String) -> Option<Listed> {
        let key = Key::new(name).ok()?;
        Some(Listed { key, size: self.size, modified: self.modified, version: self.version })
    }
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Self::Object(name, _) | Self::Folder(name) => name,
        }
    }

    /// The folder that it lies in, where the listing is by folder.
    fn folded(self, prefix: &Prefix) -> Self {
        let name = self.name();
        let start = prefix.as_str().len();
        let end = name.get(start..).and_then(|rest| rest.find('/'));
        match end.and_then(|end| name.get(..=start + end)) {
            Some(folder) => Self::Folder(folder.to_owned()),
            None => self,
        }
    }
}

/// A key out of a listing. In this encoding a space may come as `+`, a plus never does.
pub(super) fn decode(text: &str, encoded: bool) -> String {
    if !encoded {
        return text.to_owned();
    }
    let text = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn decodes_only_what_was_encoded() {
        assert_eq!(decode("a%2Bb+c%20d/%C3%A4", true), "a+b c d/ä");
        assert_eq!(decode("a+b%20c", false), "a+b%20c");
    }
}
