//! Patterns over names: `@acme/*`, `com.acme.*:*`, `v*`.

/// Whether a name pattern covers a name.
pub fn name_matches(pattern: &str, name: &str) -> bool {
    pattern == "*"
        || (name.starts_with('@') <= pattern.starts_with('@') && glob(pattern.as_bytes(), name.as_bytes()))
}

/// `*` is any run of bytes, everything else is itself. Goes back to the latest `*` only, so it costs at most `pattern x text`.
fn glob(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', rest)), _) => {
                retry = Some((rest, text));
                pattern = rest;
            }
            (Some((want, pattern_rest)), Some((have, text_rest))) if want == have => {
                (pattern, text) = (pattern_rest, text_rest);
            }
            (None, None) => return true,
            _ => {
                let Some((after_star, from)) = retry else { return false };
                let Some((_, shorter)) = from.split_first() else { return false };
                retry = Some((after_star, shorter));
                (pattern, text) = (after_star, shorter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::name_matches;

    fn slow_glob(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| slow_glob(rest, &text[at..])),
            Some((want, rest)) => text.first() == Some(want) && slow_glob(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn glob_agrees_with_its_definition(pattern in "[ab/*]{0,8}", text in "[ab/]{0,10}") {
            prop_assert_eq!(name_matches(&pattern, &text), slow_glob(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn a_name_covers_itself_and_an_unscoped_pattern_no_scoped_name(
            name in "[a-z./:-]{1,12}", pattern in "[a-z/*-]{2,12}",
        ) {
            prop_assert!(name_matches(&name, &name));
            let reaches_scoped = name_matches(&pattern, &["@", name.as_str()].concat());
            prop_assert!(!reaches_scoped);
        }

        #[test]
        fn never_panics(pattern in ".{0,80}", name in ".{0,40}") {
            let _ = name_matches(&pattern, &name);
        }
    }
}
