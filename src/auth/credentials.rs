//! What a request presents: Bearer, bare token, Basic, and the header names that some clients use instead.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderName, header};

use crate::core::error::{Error, Result};
use crate::core::request::Request;
use crate::core::secret::Secret;

/// What came along, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Presented {
    /// No credentials.
    Nothing,
    /// A token, in whatever way.
    Token(Secret),
    /// Basic: a user name with a password, which may as well be a token.
    Basic {
        /// The user name; may be empty, `_` or `__token__`.
        username: String,
        /// Password or token; may be empty when the token is in the user name.
        password: Secret,
    },
    /// Something that can't be read: as good as a wrong token.
    Unusable,
}

/// Headers that carry a bare token: Composer's `gitlab-token`, and what Maven's and Gradle's header authentication is set to.
const TOKEN_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("private-token"),
    HeaderName::from_static("job-token"),
    HeaderName::from_static("deploy-token"),
];

/// Longer than any credentials in use; a JWT with a few hundred scopes still fits.
const MAX_LENGTH: usize = 16 << 10;

/// Padding may be missing: some clients strip it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Presented {
    /// Reads the credentials of a request. A token given outside the headers wins.
    ///
    /// # Errors
    /// 400 for more than one set of credentials in `Authorization`: which one a proxy before us has checked is anybody's guess.
    pub(super) fn of(request: &Request) -> Result<Self> {
        if let Some(token) = &request.token {
            return Ok(from_text(token.expose()));
        }
        let mut values = request.headers.get_all(header::AUTHORIZATION).iter();
        if let Some(value) = values.next() {
            if values.next().is_some() || value.as_bytes().contains(&b',') {
                return Err(Error::invalid("more than one set of credentials in `Authorization`; send one"));
            }
            return Ok(value.to_str().map_or(Self::Unusable, from_text));
        }
        let other = TOKEN_HEADERS.iter().find_map(|name| request.headers.get(name));
        Ok(other.map_or(Self::Nothing, |value| value.to_str().map_or(Self::Unusable, bare)))
    }
}

/// Reads a header value: a scheme in any case, or a bare token as cargo and gem send it.
fn from_text(text: &str) -> Presented {
    let text = text.trim();
    let (scheme, rest) = text.split_once(' ').map_or((text, ""), |(scheme, rest)| (scheme, rest.trim()));
    match scheme.to_ascii_lowercase().as_str() {
        // Users of other registries write `token = "Token …"` into cargo's credentials.
        "bearer" | "token" => bare(rest),
        "basic" => basic(rest),
        _ => bare(text),
    }
}

fn bare(token: &str) -> Presented {
    match token.trim() {
        "" => Presented::Nothing,
        long if long.len() > MAX_LENGTH => Presented::Unusable,
        token => Presented::Token(Secret::new(token)),
    }
}

fn basic(encoded: &str) -> Presented {
    if encoded.len() > MAX_LENGTH {
        return Presented::Unusable;
    }
    let Ok(bytes) = BASE64.decode(encoded) else { return Presented::Unusable };
    // Clients of the Java world send Latin-1.
    let text = String::from_utf8(bytes)
        .unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect());
    match text.split_once(':') {
        // What docker sends when it has no credentials: anonymous, not a failed login.
        Some(("", "")) => Presented::Nothing,
        Some((username, password)) => {
            Presented::Basic { username: username.to_owned(), password: Secret::new(password) }
        }
        None => Presented::Unusable,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, Method};
    use proptest::prelude::*;

    use super::{BASE64, Presented};
    use crate::core::request::Request;
    use crate::core::secret::Secret;
    use base64::Engine;

    fn with(headers: &[(&'static str, &str)]) -> Request {
        let mut request = Request::new(Method::GET, "/");
        for (name, value) in headers {
            request.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        request
    }

    fn presented(value: &str) -> Presented {
        Presented::of(&with(&[("authorization", value)])).unwrap()
    }

    fn token(text: &str) -> Presented {
        Presented::Token(Secret::new(text))
    }

    fn user(username: &str, password: &str) -> Presented {
        Presented::Basic { username: username.to_owned(), password: Secret::new(password) }
    }

    #[test]
    fn reads_every_form_that_clients_send() {
        for value in ["Bearer abc", "bearer abc", "BEARER   abc ", "abc", " abc", "Token abc", "token abc"] {
            assert_eq!(presented(value), token("abc"), "{value}");
        }
        assert_eq!(presented("Basic bWU6c2VjcmV0"), user("me", "secret"));
        assert_eq!(presented("basic bWU6"), user("me", ""));
        assert_eq!(presented("Basic X190b2tlbl9fOmE6Yg"), user("__token__", "a:b"));
        assert_eq!(presented("tok 123"), token("tok 123"));
        let latin1 = BASE64.encode(b"j\xfcrgen:pa\xdf");
        assert_eq!(presented(&format!("Basic {latin1}")), user("jürgen", "paß"));
        assert_eq!(Presented::of(&with(&[("private-token", "abc")])).unwrap(), token("abc"));
    }

    #[test]
    fn empty_credentials_are_none() {
        for value in ["", "Bearer", "Bearer ", "Basic Og==", "Basic Og"] {
            assert_eq!(presented(value), Presented::Nothing, "{value:?}");
        }
        assert_eq!(Presented::of(&with(&[])).unwrap(), Presented::Nothing);
    }

    #[test]
    fn what_cannot_be_read_is_no_good() {
        let long = format!("Bearer {}", "x".repeat(20_000));
        for value in ["Basic", "Basic ", "Basic !!!", "Basic bWU=", long.as_str()] {
            assert_eq!(presented(value), Presented::Unusable, "{value:.20}");
        }
    }

    #[test]
    fn two_sets_of_credentials_are_refused() {
        let twice = with(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert_eq!(Presented::of(&twice).unwrap_err().status(), 400);
        let joined = with(&[("authorization", "Bearer a, Bearer b")]);
        assert_eq!(Presented::of(&joined).unwrap_err().status(), 400);
    }

    #[test]
    fn a_token_outside_the_headers_wins() {
        let mut request = with(&[("authorization", "Bearer header")]);
        request.token = Some(Secret::new("given"));
        assert_eq!(Presented::of(&request).unwrap(), token("given"));
    }

    proptest! {
        #[test]
        fn never_panics(value in "[ -~]{0,60}") {
            let _ = Presented::of(&with(&[("authorization", &value)]));
        }

        #[test]
        fn basic_comes_back_as_it_went(username in "[^:\\x00]{0,20}", password in ".{1,20}") {
            let encoded = BASE64.encode(format!("{username}:{password}"));
            prop_assert_eq!(presented(&format!("Basic {encoded}")), user(&username, &password));
        }
    }
}
