//! Random ids and tokens.

use uuid::Uuid;

/// A random UUID (version 4, 122 random bits of the operating system), lower case with hyphens: npm tokens, upload sessions.
pub fn uuid() -> String {
    Uuid::new_v4().to_string()
}

/// A short random id for a request: 16 hexadecimal characters. Unique enough to find it in a log, secret to nobody: it comes from a
/// fast generator, since every request has one.
pub fn request_id() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// Whether `text` has exactly the form that [`uuid`] makes. Check it before an id from outside becomes part of a key.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

#[cfg(test)]
mod tests {
    use super::{is_uuid, uuid};

    #[test]
    fn only_our_own_form_passes() {
        assert!(is_uuid(&uuid()));
        for bad in
            ["", "..", "../../../../etc/passwd0000000000000000", "0F000000-0000-4000-8000-000000000000"]
        {
            assert!(!is_uuid(bad), "{bad}");
        }
    }
}
