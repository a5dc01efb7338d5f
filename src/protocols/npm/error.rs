//! An error as npm's clients print it: npm up to 11 reads `error` and nothing else, npm 12 and tools also `message`.

use serde_json::{Map, Value};

use crate::auth::ONE_TIME_CODE;
use crate::protocols::prelude::*;

/// Marks a 401 that is to carry no challenge: npm replaces the text of one that has by its own.
pub(crate) const SAY_AS_IS: &str = "say-as-is";

/// The answer for an error.
pub(crate) fn render(error: &Error) -> Response {
    let message = sentence(error.public_message());
    let mut body = Map::new();
    match error.code() {
        // CouchDB's form, which the clients' own wording for a conflict comes from.
        Some("conflict") => {
            body.insert("error".to_owned(), Value::from("conflict"));
            body.insert("reason".to_owned(), Value::from(message.clone()));
        }
        _ => {
            body.insert("error".to_owned(), Value::from(message.clone()));
        }
    }
    body.insert("message".to_owned(), Value::from(message));
    Response::json(error.status(), &Value::Object(body)).static_header(header::CACHE_CONTROL, "no-store")
}

/// Messages may quote what a client sent; no control character gets into a terminal.
fn sentence(message: &str) -> String {
    message.chars().filter(|c| !c.is_control()).collect()
}

/// Adds what the status needs: a 401 says how to log in.
pub(crate) fn complete(error: Error, cx: &Cx) -> Error {
    let challenged = error.headers().iter().any(|(name, _)| name == header::WWW_AUTHENTICATE);
    if error.kind() != Kind::Unauthorized || challenged || error.code() == Some(SAY_AS_IS) {
        return error;
    }
    if error.code() == Some(ONE_TIME_CODE) {
        return error.with_header(header::WWW_AUTHENTICATE, "OTP");
    }
    let realm = cx.mount.base_url().replace('"', "");
    error.with_header(header::WWW_AUTHENTICATE, &format!("Bearer realm=\"{realm}\""))
}

/// 404 in npmjs's words, which tools look for.
pub(crate) fn not_found() -> Error {
    Error::not_found("Not found")
}
