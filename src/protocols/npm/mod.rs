//! npm: the registry of npm, pnpm, yarn (classic and berry), bun, deno and corepack.
//!
//! There is no specification; what there is are the registry's [API document][api], the clients' sources, and what they send. Special
//! to this protocol: one document per package, the packument, that is read far more often than all else and changed by publishing,
//! tagging, deprecating and unpublishing. It is kept as slices ([`model`]), changed by pure functions ([`edit`]) and served from
//! finished bytes ([`representations`]). Clients send it back whole to change a field: such a body is a wish for that field and
//! nothing else ([`manage`]).
//!
//! [api]: https://github.com/npm/registry/blob/main/docs/REGISTRY-API.md

mod access;
mod attestations;
mod audit;
mod batch;
mod body;
mod change;
mod decode;
mod download;
mod edit;
mod error;
mod exchange;
mod factor;
mod feed;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gc;
mod inspect;
mod intake;
mod inventory;
mod json;
mod keys;
mod login;
mod manage;
mod manifest;
mod model;
mod name;
mod options;
mod orgs;
mod profile;
mod proxy;
mod publish;
mod query;
mod read;
mod readme;
mod representations;
mod routes;
mod search;
mod signing;
mod stage;
mod stars;
mod teams;
#[cfg(test)]
mod tests;
mod tokens;
mod trust;
mod upload;
mod verify;
mod version;
mod weblogin;

use std::time::Duration;

use async_trait::async_trait;

use super::prelude::*;
use crate::config::{Limits, Visibility};
use audit::Advisories;
use edit::Rules;
use options::Options;
use representations::Representations;
use signing::Signing;

/// Its name.
pub const NAME: ProtocolName = ProtocolName::new("npm");
/// npm and pnpm ask the origin, not the registry, to exchange an OpenID Connect token.
pub const ALIASES: &[&str] = &["/-/npm/v1/oidc"];

/// Makes one.
///
/// # Errors
/// An option that is wrong, named.
pub fn build(settings: Settings) -> Result<Box<dyn Protocol>> {
    let (config, options) = (&settings.config, Options::read(&settings.config)?);
    Ok(Box::new(Npm {
        representations: Representations::new(settings.limits.cache, config.feature("abbreviatedTime", true)),
        inspect: config.feature("validateTarball", true),
        cors: config.feature("cors", true),
        signing: Signing::new(&options.signing, config.feature("signing", true)),
        retry: Duration::from_secs(options.publish.idempotent_window),
        advisories: Advisories::configured(&options.advisories),
        web_login: config.feature("webLogin", false),
        proxy: proxy::Proxy::new(config, settings.limits.cache / 8),
        limits: settings.limits,
    }))
}

/// npm over one registry.
struct Npm {
    representations: Representations,
    /// Whether tarballs are looked into: refuse what is no package, or another one than it says.
    inspect: bool,
    /// Whether pages of other origins may ask.
    cors: bool,
    signing: Signing,
    /// For how long a publish may be repeated.
    retry: Duration,
    /// Known vulnerabilities that the configuration brings along.
    advisories: Advisories,
    /// Whether clients may log in with the browser, on a page of ours.
    web_login: bool,
    proxy: proxy::Proxy,
    limits: Limits,
}

/// Clients that repeat a publish whose answer was lost. Yarn since 2 goes by the name of its HTTP library.
const REPEATS: &[&str] = &["npm", "pnpm", "yarn", "got", "bun", "lerna"];

impl Npm {
    /// What a publish is held to. Package managers repeat a PUT by themselves; a program of somebody's own that publishes a version again is told
    /// that it is there, as ever.
    fn rules(&self, cx: &Cx) -> Rules {
        let agent = cx.objects.actor().and_then(|actor| actor.user_agent());
        let product = agent.and_then(|agent| agent.split(['/', ' ']).next()).unwrap_or_default();
        let repeats = REPEATS.iter().any(|name| product.eq_ignore_ascii_case(name));
        Rules { retry: if repeats { self.retry } else { Duration::ZERO }, packument: self.limits.packument }
    }
}

#[async_trait]
impl Protocol for Npm {
    async fn handle(&self, cx: &Cx, path: &Segments, request: Request) -> Result<Response> {
        let (token, client) = (access::rejected_token(cx, &request), request.client_ip());
        match routes::dispatch(self, cx, path, request).await {
            Ok(response) => Ok(response),
            Err(error) => Err(error::complete(access::bound_elsewhere(cx, token, client, error).await?, cx)),
        }
    }

    fn passes_over_credentials(&self, method: &Method, path: &Segments) -> bool {
        routes::logs_in(method, path)
    }

    async fn collect_garbage(&self, cx: &Cx, job: &Job) -> Result<Option<Report>> {
        gc::collect(cx, job).await.map(Some)
    }

    fn render_error(&self, error: &Error) -> Response {
        error::render(error)
    }

    async fn names(&self, cx: &Cx, after: Option<String>) -> Result<(Vec<String>, Option<String>)> {
        inventory::names(cx, after.as_deref()).await
    }

    async fn describe(&self, cx: &Cx, name: &str) -> Result<Option<Change>> {
        inventory::look(cx, name).await
    }

    async fn visibility(&self, cx: &Cx, resource: &Resource) -> Result<Option<Visibility>> {
        access::own_visibility(cx, resource).await
    }

    async fn lets(&self, cx: &Cx, resource: &Resource, action: Action) -> Result<bool> {
        match name::PackageName::parse(&resource.name) {
            Ok(name) if resource.kind == "package" => orgs::lets(cx, &name, action).await,
            _ => Ok(true),
        }
    }

    async fn adopt(&self, cx: &Cx, name: &str, document: &Bytes) -> Result<()> {
        manage::adopt(self, cx, &name::PackageName::parse(name)?, document).await
    }

    async fn purge(&self, cx: &Cx, name: Option<&str>) -> Result<u64> {
        proxy::purge(cx, name).await
    }

    async fn warm(&self, cx: &Cx, name: &str) -> Result<u64> {
        proxy::warm(self, cx, name).await
    }

    async fn verify(&self, cx: &Cx, check: &Check) -> Result<()> {
        verify::verify(cx, check).await
    }

    fn finish(&self, response: &mut Response) {
        // What was published is never a page of ours, whatever a browser makes of its bytes.
        response.headers.insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
        // What says nothing of caches is for who asked.
        let kept = response.headers.entry(header::CACHE_CONTROL);
        kept.or_insert(http::HeaderValue::from_static("private, no-cache"));
        if self.cors {
            // No cookie is ever looked at: a page gets what anybody gets, or brings its own token.
            response.headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, http::HeaderValue::from_static("*"));
        }
    }
}
