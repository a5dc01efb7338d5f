//! Who may: challenges, and the token endpoint that they send clients to.
//!
//! A bearer token with too little scope is 401 with a fresh challenge, never 403: containerd and crane then get a better one. Only
//! `Basic` credentials that don't suffice are 403, for there is nothing better to get.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use http::HeaderValue;
use serde_json::{Value, json};

use super::super::prelude::*;
use super::name::Name;
use super::{Call, NAME, proxy};
use crate::auth::{self, AuthToken, LISTING, Scope};
use crate::core::secret::Secret;

/// How long a token that only pulls is good.
const PULL_LIFETIME: Duration = Duration::from_mins(15);
/// How long a token that pushes is good: a push of many layers takes a while, and some clients get one token for all of it.
const PUSH_LIFETIME: Duration = Duration::from_hours(1);
/// Most scopes looked at in one token request.
const MAX_SCOPES: usize = 100;

/// Who asks, and whether as `Basic`.
pub(super) fn identify(cx: &Cx, request: &Request) -> (Identity, bool) {
    let Some(basic) = basic_of(request) else { return (cx.identity.clone(), false) };
    // The conformance suite, and old docker: no user and no password.
    if matches!(basic.as_str(), "" | ":") {
        return (Identity::Anonymous, false);
    }
    (cx.identity.clone(), true)
}

/// What stands in `Authorization: Basic`, decoded; something no password is if it can't be.
fn basic_of(request: &Request) -> Option<String> {
    let value = request.header(header::AUTHORIZATION)?.trim();
    let (scheme, pair) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(pair.trim()).ok();
    Some(bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| "?".to_owned()))
}

impl Call<'_> {
    /// Goes on only if the caller may do `action` in this repository. The first line of every handler, before anything is looked up.
    pub(super) async fn authorize(&self, name: &Name, action: Action) -> Result<()> {
        let actions = match action {
            Action::Push => "pull,push",
            other => other.as_str(),
        };
        self.authorize_for(name, action, &format!("repository:{name}:{actions}")).await
    }

    /// The same with another scope in the challenge: a mount wants two.
    pub(super) async fn authorize_for(&self, name: &Name, action: Action, scope: &str) -> Result<()> {
        let resource = self.cx.resource("repository", name.as_str());
        if self.allows(&resource, action).await? { Ok(()) } else { Err(self.refuse(scope)) }
    }

    /// Whether the caller may. Credentials that came and are no good allow nothing: a client must learn that its token has expired.
    pub(super) async fn allows(&self, resource: &Resource, action: Action) -> Result<bool> {
        match self.identity {
            Identity::Rejected => Ok(false),
            _ => self.cx.auth.allows(&self.identity, resource, action, None).await,
        }
    }

    /// Whether the caller may pull from this repository.
    pub(super) async fn may_pull(&self, name: &Name) -> Result<bool> {
        self.allows(&self.cx.resource("repository", name.as_str()), Action::Pull).await
    }

    /// Who looks at a list: the caller, and with a token for the catalog its user as far as lists go.
    pub(super) fn viewer(&self) -> Identity {
        let Identity::Known(token) = &self.identity else { return self.identity.clone() };
        let scopes = token.scopes.iter().filter_map(|text| Scope::parse(text));
        let listed: Vec<String> = scopes
            .filter(|scope| scope.kind == LISTING && token.is_signed())
            .map(|scope| format!("{NAME}:repository:{}:pull", scope.name))
            .collect();
        if listed.is_empty() {
            return self.identity.clone();
        }
        let mut token = AuthToken::clone(token);
        token.scopes.extend(listed);
        Identity::Known(Arc::new(token))
    }

    /// Whether `viewer` may see this repository in a list.
    pub(super) async fn shows(&self, viewer: &Identity, name: &Name) -> Result<bool> {
        let resource = self.cx.resource("repository", name.as_str());
        Ok(self.cx.auth.allows(viewer, &resource, Action::Pull, None).await?
            && proxy::is_listed(self, name).await?)
    }

    /// The answer to a caller who may not; `scope` is what would be enough.
    pub(super) fn refuse(&self, scope: &str) -> Error {
        let tokens = self.offers_tokens();
        let (message, reason) = match &self.identity {
            Identity::Anonymous => ("log in first", None),
            Identity::Rejected => {
                ("the credentials are wrong, expired or revoked; log in again", Some("invalid_token"))
            }
            Identity::Known(_) if self.basic || !tokens => {
                return Error::denied("this account may not do that here").with_code("DENIED");
            }
            Identity::Known(_) => ("the token does not cover this", Some("insufficient_scope")),
        };
        Error::new(Kind::Unauthorized, message)
            .with_code("UNAUTHORIZED")
            .with_header(header::WWW_AUTHENTICATE, &self.challenge(scope, reason.filter(|_| !self.basic)))
    }

    /// Exactly one challenge: the conformance suite and oras read no second one.
    fn challenge(&self, scope: &str, reason: Option<&str>) -> String {
        let quoted = |text: &str| text.replace(['"', '\\'], "");
        let realm = self.oci.tokens.realm.clone().unwrap_or_else(|| self.site.realm());
        let service = quoted(self.cx.auth.oci_service());
        if !self.offers_tokens() {
            return format!("Basic realm=\"{service}\"");
        }
        let mut line = format!("Bearer realm=\"{}\",service=\"{service}\"", quoted(&realm));
        if !scope.is_empty() {
            let _ = write!(line, ",scope=\"{}\"", quoted(scope));
        }
        // Without it containerd sends its cached token again, and fails.
        if let Some(reason) = reason {
            let _ = write!(line, ",error=\"{reason}\"");
        }
        line
    }

    /// The answer to a login at the token endpoint that is no good. It takes `Basic`, whatever the rest of the registry takes.
    fn refuse_login(&self, error: Error) -> Error {
        let service = self.cx.auth.oci_service().replace(['"', '\\'], "");
        error
            .with_code("UNAUTHORIZED")
            .with_header(header::WWW_AUTHENTICATE, &format!("Basic realm=\"{service}\""))
    }

    fn offers_tokens(&self) -> bool {
        self.oci.tokens.enabled != Some(false)
    }
}

/// `GET /v2/`: 401 unless everything is open to everybody, since clients learn only here that there is something to log in to;
/// 200 for anybody who is known, and for an anonymous token.
pub(super) async fn check(call: &Call<'_>) -> Result<Response> {
    let open = match call.identity {
        Identity::Known(_) => true,
        Identity::Rejected => false,
        Identity::Anonymous => {
            !call.cx.auth.has_private(NAME)
                && call.allows(&call.cx.resource("repository", "*"), Action::Push).await?
        }
    };
    if open { Ok(Response::ok("application/json", "{}")) } else { Err(call.refuse("")) }
}

/// `GET /v2/token?service=…&scope=…`: a token for whoever the `Basic` credentials say, or for nobody.
pub(super) async fn get_token(call: &Call<'_>, request: &Request) -> Result<Response> {
    let scopes: Vec<&str> = request.query.all("scope").collect();
    let offline = request.query.get("offline_token") == Some("true");
    issue(call, &call.identity, &scopes, offline).await
}

/// `POST /v2/token`: the same as a form, with a password or a refresh token in it. containerd and `BuildKit` begin here.
pub(super) async fn post_token(call: &Call<'_>, mut request: Request) -> Result<Response> {
    let form = read_form(request.take_body(), call.oci.limits.small_body).await?;
    let get = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let identity = match get("grant_type") {
        Some("refresh_token") => {
            let token = Secret::new(get("refresh_token").unwrap_or_default());
            call.cx.auth.redeem_refresh_token(&token, request.client_ip()).await?
        }
        Some("password") => by_password(call, &request, get("username"), get("password")).await?,
        None => call.identity.clone(),
        Some(_) => {
            return Err(
                Error::invalid("`grant_type` is `password` or `refresh_token`").with_code("UNSUPPORTED")
            );
        }
    };
    let scopes: Vec<&str> =
        form.iter().filter(|(key, _)| key == "scope").map(|(_, value)| value.as_str()).collect();
    issue(call, &identity, &scopes, get("access_type") == Some("offline")).await
}

/// Whoever a user name and a password belong to, by the same rules as `Basic`: any token is as good as the password.
async fn by_password(
    call: &Call<'_>,
    request: &Request,
    username: Option<&str>,
    password: Option<&str>,
) -> Result<Identity> {
    let (username, password) = (username.unwrap_or_default(), password.unwrap_or_default());
    if username.is_empty() && password.is_empty() {
        return Ok(Identity::Anonymous);
    }
    if username.contains(':') {
        return Ok(Identity::Rejected);
    }
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    let mut login = Request::new(Method::GET, "");
    if let Ok(mut value) = HeaderValue::from_str(&format!("Basic {pair}")) {
        value.set_sensitive(true);
        login.headers.insert(header::AUTHORIZATION, value);
    }
    login.peer = request.client_ip();
    call.cx.auth.authenticate(&login, NAME).await
}

/// Form fields, however the host gave them.
async fn read_form(body: Body, limit: u64) -> Result<Vec<(String, String)>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match body {
        Body::Form(fields) => Ok(fields.into_iter().map(|field| (field.name, text(&field.value))).collect()),
        Body::Json(json) => {
            let Ok(Value::Object(members)) = serde_json::from_slice(&json.text) else {
                return Err(Error::invalid("a token request is a form").with_code("UNSUPPORTED"));
            };
            let fields =
                members.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())));
            Ok(fields.collect())
        }
        body => {
            let bytes = body.into_bytes("token request", limit).await?;
            Ok(form_urlencoded::parse(&bytes).into_owned().collect())
        }
    }
}

/// Grants what the caller may do of what was asked for. Less than asked is no error: clients try, and see.
async fn issue(call: &Call<'_>, identity: &Identity, scopes: &[&str], offline: bool) -> Result<Response> {
    if !call.offers_tokens() {
        return Err(Error::not_found("there are no bearer tokens here; use Basic").with_code("UNSUPPORTED"));
    }
    if matches!(identity, Identity::Rejected) {
        let wrong = Error::new(Kind::Unauthorized, "the user name, password or token is wrong");
        return Err(call.refuse_login(wrong));
    }
    let mut grants = Vec::new();
    for ((kind, name), wanted) in parse_scopes(scopes) {
        grants.extend(grant(call, identity, kind, &name, wanted).await?);
    }
    let (token, lifetime) = sign(call, identity, &mut grants).await?;
    let granted: Vec<_> = grants.into_iter().filter_map(|grant| grant.shown).collect();
    let mut answer = json!({
        "token": token.expose(),
        "access_token": token.expose(),
        "expires_in": lifetime.as_secs(),
        "issued_at": call.cx.clock.now().rfc3339(),
        "scope": granted.join(" "),
    });
    if offline
        && identity.user().is_some()
        && let Some(refresh) = call.cx.auth.create_refresh_token(identity).await?
        && let Some(members) = answer.as_object_mut()
    {
        members.insert("refresh_token".to_owned(), json!(refresh.expose()));
    }
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "no-store"))
}

/// What is granted of one scope.
struct Grant {
    /// As the client asked for it; not for what it did not ask for.
    shown: Option<String>,
    unified: Vec<String>,
    writes: bool,
}

/// What the caller may do of what was asked for.
async fn grant(
    call: &Call<'_>,
    identity: &Identity,
    kind: &'static str,
    name: &str,
    wanted: Vec<Action>,
) -> Result<Vec<Grant>> {
    let resource = call.cx.resource(kind, name);
    let mut actions = Vec::new();
    for action in wanted {
        if call.cx.auth.allows(identity, &resource, action, None).await? {
            actions.push(action);
        }
    }
    if actions.is_empty() {
        return Ok(Vec::new());
    }
    let words: Vec<_> = actions.iter().map(|action| action.as_str()).collect();
    let mut grants = vec![Grant {
        shown: Some(format!("{kind}:{name}:{}", words.join(","))),
        unified: words.iter().map(|word| format!("{resource}:{word}")).collect(),
        writes: actions.iter().any(|action| !action.is_read()),
    }];
    if kind == "registry" {
        let listed = call.cx.auth.readable(identity, NAME, "repository").into_iter();
        let listed = listed.map(|name| format!("{NAME}:{LISTING}:{name}:pull"));
        grants.extend(listed.map(|scope| Grant { shown: None, unified: vec![scope], writes: false }));
    }
    Ok(grants)
}

/// A token for as many of the grants as it can carry, and how long it lives. Clients ask first for what they are about: the last are left out.
async fn sign(call: &Call<'_>, identity: &Identity, grants: &mut Vec<Grant>) -> Result<(Secret, Duration)> {
    loop {
        let unified: Vec<String> = grants.iter().flat_map(|grant| &grant.unified).cloned().collect();
        let lifetime = if grants.iter().any(|grant| grant.writes) { PUSH_LIFETIME } else { PULL_LIFETIME };
        let signed = call.cx.auth.sign_oci_for(identity, &unified, lifetime).await;
        let (token, lifetime) = signed.map_err(|error| match error.kind() {
            Kind::Unauthorized => call.refuse_login(error),
            _ => error,
        })?;
        if !auth::is_too_long(&token) || grants.is_empty() {
            return Ok((token, lifetime));
        }
        grants.truncate(grants.len() - grants.len().div_ceil(8));
    }
}

type Wanted = Vec<((&'static str, String), Vec<Action>)>;

/// Repeated and space-joined scopes in their order, duplicates merged. The type stands before the first colon, actions behind the last.
/// What is no valid name asks for nothing, so that no pattern gets into a token.
pub(super) fn parse_scopes(scopes: &[&str]) -> Wanted {
    let mut wanted: Vec<((&'static str, String), BTreeSet<&str>)> = Vec::new();
    for scope in scopes.iter().flat_map(|scopes| scopes.split(' ')).take(MAX_SCOPES) {
        let Some((kind, rest)) = scope.split_once(':') else { continue };
        let Some((name, actions)) = rest.rsplit_once(':') else { continue };
        let kind = match kind.split('(').next() {
            Some("repository") if Name::parse(name).is_some() => "repository",
            Some("registry") if name == "catalog" => "registry",
            _ => continue,
        };
        let id = (kind, name.to_owned());
        match wanted.iter_mut().find(|(known, _)| *known == id) {
            Some((_, texts)) => texts.extend(actions.split(',')),
            None => wanted.push((id, actions.split(',').collect())),
        }
    }
    wanted.into_iter().map(|((kind, name), texts)| ((kind, name), actions(kind, &texts))).collect()
}

fn actions(kind: &str, texts: &BTreeSet<&str>) -> Vec<Action> {
    if kind == "registry" {
        return texts.contains("*").then_some(Action::Any).into_iter().collect();
    }
    let all = [Action::Pull, Action::Push, Action::Delete];
    all.into_iter().filter(|action| texts.contains("*") || texts.contains(action.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_come_in_every_shape() {
        let wanted = parse_scopes(&[
            "repository:k/one:pull repository:k/one:pull,push",
            "repository(plugin):p:pull",
            "registry:catalog:*",
            "repository:all:*",
            "repository:*:pull repository:team/*:push repository:A:pull repository::pull nonsense repository:x",
            "",
        ]);
        let text: Vec<String> = wanted
            .iter()
            .map(|((kind, name), actions)| {
                let actions: Vec<_> = actions.iter().map(|action| action.as_str()).collect();
                format!("{kind}:{name}:{}", actions.join(","))
            })
            .collect();
        assert_eq!(
            text,
            [
                "repository:k/one:pull,push",
                "repository:p:pull",
                "registry:catalog:*",
                "repository:all:pull,push,delete",
            ]
        );
    }
}
