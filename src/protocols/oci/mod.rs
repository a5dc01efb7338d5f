//! OCI Distribution: container images and artifacts, for docker, podman, skopeo, buildah, containerd, `BuildKit`, crane, oras, helm and the rest.
//!
//! Specification: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>; token endpoint:
//! <https://distribution.github.io/distribution/spec/auth/token/>.
//!
//! | request, below `/v2` | answer | in |
//! |---|---|---|
//! | `GET /` | who are you: 200, or 401 with a challenge | `login` |
//! | `GET, POST /token` | a bearer token | `login` |
//! | `GET, HEAD /<name>/manifests/<tag or digest>` | a manifest | `read` |
//! | `GET /<name>/tags/list`, `/_catalog` | lists | `read` |
//! | `GET /<name>/referrers/<digest>` | what refers to a manifest | `referrers` |
//! | `GET, HEAD /<name>/blobs/<digest>` | a blob, or ranges of it | `download` |
//! | `PUT /<name>/manifests/<tag or digest>` | push | `publish` |
//! | `POST, GET, PATCH, PUT, DELETE /<name>/blobs/uploads/…` | push of a blob | `upload` |
//! | `DELETE /<name>/manifests/…`, `/<name>/blobs/<digest>` | delete | `manage` |
//! | the same of what other registries have | pulled through and kept | `proxy` |
//! | `GET /v1/search?q=` (not below `/v2`) | `podman search` | `search` |
//!
//! What is special: clients hard-code `/v2/` at the root of the host, so that is answered beside the base path, and below the base path
//! with and without `v2`; every link goes out in the form in which the request came in. Names contain slashes: paths are read from
//! the right. A blob is stored once and visible per repository ([`links`]). An upload may be continued by any process ([`session`]).

mod download;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gc;
mod immutable;
mod inventory;
mod keys;
mod links;
mod login;
mod manage;
mod manifests;
mod model;
mod name;
mod openings;
mod options;
mod proxy;
mod publish;
mod pulls;
mod read;
mod referrers;
mod retention;
mod routes;
mod search;
mod session;
mod site;
mod strict;
mod tags;
#[cfg(test)]
mod tests;
mod upload;
mod verify;

use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};

use super::prelude::*;
use crate::config::{Limits, ProtocolConfig, TokensConfig};
use options::Options;
use site::Site;

/// Its name.
pub const NAME: ProtocolName = ProtocolName::new("oci");
/// Docker, podman, containerd and helm can use no other path.
/// `podman search` asks at `/v1/search`, and nowhere else for less than the whole catalog.
pub const ALIASES: &[&str] = &["/v2", "/v1/search"];

/// Makes one.
///
/// # Errors
/// An option that is wrong, named.
pub fn build(settings: Settings) -> Result<Box<dyn Protocol>> {
    Ok(Box::new(Arc::new(Oci {
        known: links::Known::new(settings.limits.cache),
        openings: openings::Openings::new(settings.limits.open_uploads),
        awareness: Arc::default(),
        gathered: pulls::Gathered::default(),
        redirect: settings.redirect_downloads,
        base: Segments::parse(&settings.config.base_path).unwrap_or_default(),
        tokens: settings.auth.oci_tokens,
        options: Options::read(&settings.config)?,
        config: settings.config,
        limits: settings.limits,
        flights: proxy::Flights::default(),
    })))
}

/// `Warning` of this registry: the specification takes no other code and no other agent, and clients show no other.
fn warning(text: &str) -> String {
    format!("299 - \"{text}\"")
}

/// Upload sessions that nobody has touched for so long are removed.
const SESSION_AGE: Duration = Duration::from_hours(24);

struct Oci {
    base: Segments,
    config: ProtocolConfig,
    options: Options,
    tokens: TokensConfig,
    limits: Limits,
    /// Whether large blobs are fetched from the store itself.
    redirect: bool,
    known: links::Known,
    openings: openings::Openings,
    awareness: Arc<gc::Awareness>,
    gathered: pulls::Gathered,
    flights: proxy::Flights,
}

/// One request of this protocol: what handlers need.
struct Call<'a> {
    oci: &'a Arc<Oci>,
    cx: &'a Cx,
    site: Site,
    /// Who asks; an empty `Basic`, which old clients send when they have no credentials, is nobody.
    identity: Identity,
    /// Whether the credentials came as `Basic`: then there is no token to get more scope for.
    basic: bool,
}

impl<'a> Call<'a> {
    /// On the registry's own behalf: authorises nothing, and answers nobody.
    fn own(oci: &'a Arc<Oci>, cx: &'a Cx) -> Self {
        Self { oci, cx, site: Site::default(), identity: Identity::Anonymous, basic: false }
    }
}

/// Counted, since filling from an upstream goes on when the request that began it is gone.
#[async_trait]
impl Protocol for Arc<Oci> {
    async fn handle(&self, cx: &Cx, path: &Segments, request: Request) -> Result<Response> {
        let (site, rest) = Site::of(self, cx, path)?;
        let (identity, basic) = login::identify(cx, &request);
        let call = Call { oci: self, cx, site, identity, basic };
        routes::dispatch(&call, &rest, request).await
    }

    async fn flush(&self, cx: &Cx, all: bool) -> Result<()> {
        Call::own(self, cx).flush_pulls(all).await
    }

    async fn maintain(&self, cx: &Cx, job: &Job) -> Result<Report> {
        let call = Call::own(self, cx);
        let swept = session::sweep(&cx.objects, &cx.clock, SESSION_AGE).await?;
        let mut report = Report::default();
        if self.options.gc.enabled && gc::is_due(&call).await? {
            report = gc::collect(&call, job).await?;
        }
        report.remove("sessions", swept);
        Ok(report)
    }

    async fn collect_garbage(&self, cx: &Cx, job: &Job) -> Result<Option<Report>> {
        gc::collect(&Call::own(self, cx), job).await.map(Some)
    }

    fn render_error(&self, error: &Error) -> Response {
        error::render(error)
    }

    fn bad_path(&self, error: Error) -> Error {
        error.with_code("NAME_INVALID")
    }

    async fn names(&self, cx: &Cx, after: Option<String>) -> Result<(Vec<String>, Option<String>)> {
        inventory::names(cx, after).await
    }

    async fn describe(&self, cx: &Cx, name: &str) -> Result<Option<Change>> {
        inventory::look(cx, name).await
    }

    async fn verify(&self, cx: &Cx, check: &Check) -> Result<()> {
        verify::verify(cx, check).await
    }

    async fn purge(&self, cx: &Cx, name: Option<&str>) -> Result<u64> {
        proxy::purge(&Call::own(self, cx), name).await
    }

    async fn warm(&self, cx: &Cx, name: &str) -> Result<u64> {
        proxy::warm(&Call::own(self, cx), name).await
    }

    fn finish(&self, response: &mut Response) {
        // Old Docker and several scanners look for it, on the 401 of `GET /v2/` too.
        const VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
        response.headers.insert(VERSION, HeaderValue::from_static("registry/2.0"));
        response.headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
}
