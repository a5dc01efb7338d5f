//! `Accept` and `Accept-Encoding` with their q-values (RFC 9110, section 12.5).

/// The weight 0..=1000 that a header gives to `name`, from the most specific entry that covers it; `None` if nothing does.
/// Works for media types (`a/b`, `a/*`, `*/*`) and codings (`gzip`, `*`).
pub fn quality(header: &str, name: &str) -> Option<u16> {
    let family = name.split_once('/').map(|(family, _)| family);
    let mut best: Option<(u8, u16)> = None;
    for entry in header.split(',') {
        let mut fields = entry.split(';');
        let item = fields.next().unwrap_or_default().trim();
        let specificity = if item.eq_ignore_ascii_case(name) {
            3
        } else if family
            .is_some_and(|family| item.strip_suffix("/*").is_some_and(|f| f.eq_ignore_ascii_case(family)))
        {
            2
        } else if item == "*" || item == "*/*" {
            1
        } else {
            continue;
        };
        let weight = fields
            .find_map(|field| field.trim().strip_prefix(['q', 'Q'])?.strip_prefix('='))
            .map_or(1000, weight);
        if best.is_none_or(|(seen, _)| specificity > seen) {
            best = Some((specificity, weight));
        }
    }
    best.map(|(_, weight)| weight)
}

fn weight(text: &str) -> u16 {
    let value: f32 = text.trim().parse().unwrap_or(0.0);
    #[allow(clippy::cast_sign_loss)] // clamped
    let weight = (value.clamp(0.0, 1.0) * 1000.0) as u16;
    weight
}

/// Whether `header` names `media_type` itself, wanted at least as much as `other`. Wildcards do not count as naming it.
pub fn prefers(header: &str, media_type: &str, other: &str) -> bool {
    let named = header.split(',').any(|entry| {
        entry.split(';').next().is_some_and(|item| item.trim().eq_ignore_ascii_case(media_type))
    });
    let wanted = quality(header, media_type).unwrap_or(0);
    named && wanted > 0 && wanted >= quality(header, other).unwrap_or(0)
}

/// Whether a body may be sent with `coding` (`gzip`, `zstd`, `br`).
pub fn accepts_encoding(header: Option<&str>, coding: &str) -> bool {
    header.and_then(|header| quality(header, coding)).is_some_and(|weight| weight > 0)
}

#[cfg(test)]
mod tests {
    use super::{accepts_encoding, prefers, quality};

    const CORGI: &str = "application/vnd.npm.install-v1+json";

    #[test]
    fn chooses_as_npms_clients_mean_it() {
        assert!(prefers(
            "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*",
            CORGI,
            "application/json"
        ));
        for full in ["*/*", "application/json", "application/json; q=1.0, */*", "application/*", ""] {
            assert!(!prefers(full, CORGI, "application/json"), "{full}");
        }
        assert!(!prefers("application/vnd.npm.install-v1+json; q=0, */*", CORGI, "application/json"));
    }

    #[test]
    fn encodings() {
        assert!(accepts_encoding(Some("gzip,deflate"), "gzip"));
        assert!(accepts_encoding(Some("*"), "gzip"));
        assert!(!accepts_encoding(Some("gzip;q=0, *"), "gzip"));
        assert!(!accepts_encoding(None, "gzip"));
        assert_eq!(quality("br;q=0.5", "br"), Some(500));
        assert!(!accepts_encoding(Some("gzip; Q=0"), "gzip"));
    }
}
