//! Conditions on writes: the dialect of the tag, and how a condition given at the start of a multipart upload reaches its end.

use super::bucket::bare;
use crate::storage::{Condition, StoreError, StoreResult, UploadId, Version};

/// The tag to send in `If-Match` of a write. Ceph 16 compares it without the quotes that it sends itself.
pub(super) fn tag(version: &Version, bare_tags: bool) -> String {
    if bare_tags { bare(&version.0).to_owned() } else { version.0.clone() }
}

/// The id of an upload together with the condition that its completion must check: the id is all that survives this process.
pub(super) fn with_condition(condition: &Condition, id: &str) -> UploadId {
    UploadId(match condition {
        Condition::Always => format!("~{id}"),
        Condition::Absent => format!("*~{id}"),
        Condition::Matches(version) => format!("{}~{id}", bare(&version.0)),
    })
}

/// The reverse of [`with_condition`]. An id that has not its form is nobody's.
pub(super) fn split(upload: &UploadId) -> StoreResult<(Condition, &str)> {
    let (condition, id) = upload.0.split_once('~').ok_or(StoreError::NoSuchUpload)?;
    let condition = match condition {
        "" => Condition::Always,
        "*" => Condition::Absent,
        tag => Condition::Matches(Version(format!("\"{tag}\""))),
    };
    Ok((condition, id))
}

#[cfg(test)]
mod tests {
    use super::{Condition, UploadId, Version, split, tag, with_condition};

    #[test]
    fn conditions_survive_in_the_upload_id() {
        for condition in
            [Condition::Always, Condition::Absent, Condition::Matches(Version("\"0a1b-3\"".into()))]
        {
            let upload = with_condition(&condition, "2~abc");
            assert_eq!(split(&upload).unwrap(), (condition, "2~abc"));
        }
        assert!(split(&UploadId("abc".into())).is_err());
    }

    #[test]
    fn speaks_both_dialects() {
        let version = Version("\"0a1b\"".into());
        assert_eq!(tag(&version, false), "\"0a1b\"");
        assert_eq!(tag(&version, true), "0a1b");
    }
}
