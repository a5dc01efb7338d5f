//! Logging in with the browser: `npm login` opens a page of ours and asks now and then whether somebody has logged in there.
//!
//! A login has two secrets: the browser's opens the page, the poll's fetches the token. Who has seen the page's address, in a browser's
//! history or over a shoulder, can't fetch the token. The store keeps digests of both and the name of who logged in; the token is made
//! when it is fetched, once.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq;

use super::error::not_found;
use super::model::short_hash;
use super::{NAME, Npm, body, keys};
use crate::auth::{Credentials, ONE_TIME_CODE, TokenOptions};
use crate::core::id;
use crate::core::request::Query;
use crate::core::secret::Secret;
use crate::core::time::Timestamp;
use crate::protocols::prelude::*;

/// How long a login may take.
const LIFETIME: Duration = Duration::from_mins(5);
/// After this long the document of a login that nobody ended is cleared away.
const FORGOTTEN: Duration = Duration::from_hours(1);
/// Bytes of the page's form at most.
const MAX_FORM: u64 = 8192;
/// Seconds until the client may ask again; without them npm asks without a pause.
const RETRY_AFTER: &str = "2";

/// A login under way, below `_sr/`.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Login {
    created: Timestamp,
    browser: String,
    poll: String,
    /// What the client says the machine is called, and where it asked from: for the user to recognise the login.
    hostname: String,
    address: String,
    user: Option<String>,
    taken: bool,
}

impl JsonDocument for Login {
    const LIMIT: u64 = 16 << 10;
    const NAME: &'static str = "login";
    const SECRET: bool = true;
}

impl Login {
    fn is_over(&self, now: Timestamp) -> bool {
        self.taken || now.since(self.created) > LIFETIME
    }
}

/// `POST /-/v1/login`. Where it isn't switched on it isn't there: only then clients ask for a password instead.
pub(crate) async fn begin(npm: &Npm, cx: &Cx, mut request: Request) -> Result<Response> {
    let base = cx.mount.base_url();
    if !npm.web_login || !base.starts_with("http") {
        return Err(not_found());
    }
    let client = request.client_ip();
    cx.auth.count_start(client)?;
    // yarn berry sends nothing at all.
    let sent = body::bytes(&mut request, "the login", npm.limits.small_body).await?;
    let sent: Map<String, Value> = serde_json::from_slice(&sent).unwrap_or_default();
    let hostname = sent.get("hostname").and_then(Value::as_str).unwrap_or_default();
    let now = cx.clock.now();
    let (session, browser, poll) =
        (format!("{:016x}-{}", now.as_millis(), id::uuid()), id::uuid(), id::uuid());
    let login = Login {
        created: now,
        browser: digest(&browser),
        poll: digest(&poll),
        hostname: hostname.chars().filter(|c| !c.is_control()).take(100).collect(),
        address: client.map(|address| address.to_string()).unwrap_or_default(),
        ..Login::default()
    };
    let change = move |document: &mut Login| {
        *document = login.clone();
        Ok(Edit::Changed(()))
    };
    cx.objects.update(&keys::login(&session)?, &ObjectInfo::default(), change).await?;
    clear_away(cx).await?;
    let answer = json!({
        "loginUrl": format!("{base}/-/v1/login/{session}/{browser}"),
        "doneUrl": format!("{base}/-/v1/done/{session}/{poll}"),
    });
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "no-store"))
}

/// Takes away what logins that nobody ended have left; the keys are in the order of time.
async fn clear_away(cx: &Cx) -> Result<()> {
    let now = cx.clock.now();
    let page = cx.objects.list(&keys::logins()?, None, 20, false).await?;
    for key in page.objects.into_iter().map(|object| object.key) {
        let name = key.as_str().rsplit('/').next().unwrap_or_default();
        let born = name.get(..16).and_then(|text| i64::from_str_radix(text, 16).ok()).unwrap_or_default();
        if now.since(Timestamp::from_millis(born)) < FORGOTTEN {
            break;
        }
        cx.objects.storage().delete_document(&key).await?;
    }
    Ok(())
}

fn digest(secret: &str) -> String {
    short_hash(&[secret.as_bytes()])
}

/// The login, if the session is one and the secret is the one that `which` keeps the digest of.
async fn find(
    npm: &Npm,
    cx: &Cx,
    session: &str,
    secret: &str,
    which: fn(&Login) -> &str,
) -> Result<(Key, Login)> {
    let named = session.len() == 53
        && session.get(17..).is_some_and(id::is_uuid)
        && session.get(..16).is_some_and(|born| born.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if !npm.web_login || !named {
        return Err(not_found());
    }
    let key = keys::login(session)?;
    let loaded: Option<Arc<Loaded<Login>>> = cx.objects.document_revalidated(&key).await?;
    let login = loaded.map(|loaded| loaded.document.clone()).ok_or_else(not_found)?;
    let right: bool = which(&login).as_bytes().ct_eq(digest(secret).as_bytes()).into();
    if !right || login.is_over(cx.clock.now()) {
        return Err(not_found());
    }
    Ok((key, login))
}

/// `GET /-/v1/done/{session}/{poll}`: 202 until somebody has logged in, then the token, once.
pub(crate) async fn done(npm: &Npm, cx: &Cx, session: &str, secret: &str) -> Result<Response> {
    let (key, login) = find(npm, cx, session, secret, |login| &login.poll).await?;
    if login.user.is_none() {
        let response = Response::json(StatusCode::ACCEPTED, &json!({}));
        return Ok(response
            .static_header(header::RETRY_AFTER, RETRY_AFTER)
            .static_header(header::CACHE_CONTROL, "no-store"));
    }
    let take = |login: &mut Login| match &login.user {
        Some(user) if !login.taken => {
            login.taken = true;
            Ok(Edit::Changed(user.clone()))
        }
        _ => Err(not_found()),
    };
    let user = cx.objects.update(&key, &ObjectInfo::default(), take).await?;
    let options = TokenOptions { readonly: cx.auth.default_readonly(NAME), ..TokenOptions::default() };
    let token = cx.auth.create_token(&user, NAME, &options).await?;
    cx.objects.storage().delete_document(&key).await?;
    let answer = json!({ "token": token.expose() });
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "no-store"))
}

/// `GET /-/v1/login/{session}/{browser}`
pub(crate) async fn page(npm: &Npm, cx: &Cx, session: &str, secret: &str) -> Result<Response> {
    match find(npm, cx, session, secret, |login| &login.browser).await {
        Ok((_, login)) if login.user.is_none() => Ok(form(cx, &login, StatusCode::OK, "")),
        Ok(_) => {
            Ok(said(StatusCode::OK, "You are logged in. Go back to your terminal; this page can be closed."))
        }
        Err(error) if error.kind() == Kind::NotFound => Ok(gone()),
        Err(error) => Err(error),
    }
}

/// `POST /-/v1/login/{session}/{browser}`: the form of the page. The password comes with it each time, so no other site can send it for
/// somebody.
pub(crate) async fn submit(
    npm: &Npm,
    cx: &Cx,
    session: &str,
    secret: &str,
    mut request: Request,
) -> Result<Response> {
    let (key, login) = match find(npm, cx, session, secret, |login| &login.browser).await {
        Ok(found) => found,
        Err(error) if error.kind() == Kind::NotFound => return Ok(gone()),
        Err(error) => return Err(error),
    };
    let client = request.client_ip();
    let sent = fields(&mut request).await?;
    let field = |name: &str| sent.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let credentials = Credentials {
        username: field("username").unwrap_or_default(),
        password: Secret::new(field("password").unwrap_or_default()),
        otp: field("otp").filter(|code| !code.is_empty()).map(Secret::new),
    };
    let again = |status: StatusCode, why: &str| Ok(form(cx, &login, status, why));
    let user = match cx.auth.login(&credentials, client).await {
        Ok(Some(user)) => user,
        Ok(None) => return again(StatusCode::UNAUTHORIZED, "The user name or the password is wrong."),
        Err(error) if error.code() == Some(ONE_TIME_CODE) => {
            return again(StatusCode::UNAUTHORIZED, error.public_message());
        }
        Err(error) if error.kind() == Kind::TooMany => {
            return again(StatusCode::TOO_MANY_REQUESTS, error.public_message());
        }
        Err(error) => return Err(error),
    };
    let change = move |login: &mut Login| match &login.user {
        None if !login.poll.is_empty() => {
            login.user = Some(user.clone());
            Ok(Edit::Changed(()))
        }
        Some(known) if *known == user => Ok(Edit::Unchanged(())),
        _ => Err(not_found()),
    };
    match cx.objects.update(&key, &ObjectInfo::default(), change).await {
        Ok(()) => {
            Ok(said(StatusCode::OK, "You are logged in. Go back to your terminal; this page can be closed."))
        }
        Err(error) if error.kind() == Kind::NotFound => Ok(gone()),
        Err(error) => Err(error),
    }
}

/// The fields of a form, as a browser sends them or as a body parser of the host has left them.
async fn fields(request: &mut Request) -> Result<Vec<(String, String)>> {
    let body = request.take_body();
    if let Body::Form(fields) = body {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        return Ok(fields.into_iter().map(|field| (field.name, text(&field.value))).collect());
    }
    let bytes = body.into_bytes("the form", MAX_FORM).await?;
    let Ok(members) = serde_json::from_slice::<Map<String, Value>>(&bytes) else {
        return Ok(Query::parse(&String::from_utf8_lossy(&bytes)).pairs().to_vec());
    };
    Ok(members.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect())
}

fn form(cx: &Cx, login: &Login, status: StatusCode, problem: &str) -> Response {
    let mut html = String::new();
    let machine = if login.hostname.is_empty() { "a terminal" } else { &login.hostname };
    let from = if login.address.is_empty() { String::new() } else { format!(" ({})", login.address) };
    let (registry, machine, problem) =
        (escape(&cx.mount.base_url()), escape(&format!("{machine}{from}")), escape(problem));
    // Writing to a text never fails.
    let _ = write!(
        html,
        "<p>Somebody at <b>{machine}</b> wants to log in to <b>{registry}</b>. Only go on if that is you, a moment ago.</p>\
         <p role=\"alert\">{problem}</p>\
         <form method=\"post\">\
         <p><label>User name <input name=\"username\" autocomplete=\"username\" required></label></p>\
         <p><label>Password <input name=\"password\" type=\"password\" autocomplete=\"current-password\" required></label></p>\
         <p><label>One-time pass, if you have a second factor <input name=\"otp\" autocomplete=\"one-time-code\"></label></p>\
         <p><button>Log in</button></p></form>"
    );
    document(status, &html)
}

fn said(status: StatusCode, text: &str) -> Response {
    document(status, &format!("<p>{}</p>", escape(text)))
}

fn gone() -> Response {
    said(StatusCode::NOT_FOUND, "This login has ended. Run the command in your terminal again.")
}

fn document(status: StatusCode, content: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Log in</title><body>{content}</body></html>"
    );
    Response::with_body(status, "text/html; charset=utf-8", Bytes::from(html))
        .static_header(header::CACHE_CONTROL, "no-store")
        .static_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .static_header(header::X_FRAME_OPTIONS, "DENY")
        .static_header(header::REFERRER_POLICY, "no-referrer")
        .static_header(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        )
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
