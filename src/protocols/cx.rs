//! What a handler may touch, for one request: storage, auth, clock, and where it is mounted.

use std::sync::Arc;

use http::Method;

use crate::auth::{Action, Auth, Identity, Resource};
use crate::config::Visibility;
use crate::core::error::{Error, Kind, Result};
use crate::core::protocol_name::ProtocolName;
use crate::core::request::Origin;
use crate::core::response::Response;
use crate::core::time::Clock;
use crate::index::Index;
use crate::storage::Objects;
use crate::upstream::{Candidates, Question, Upstreams};

/// The context of one request of one protocol. Cheap to clone, for work that outlives the request.
#[derive(Clone)]
pub struct Cx {
    /// The protocol's name.
    pub protocol: ProtocolName,
    /// The bucket.
    pub objects: Objects,
    /// What no single document of the protocol knows: names, changes, searches.
    pub index: Arc<Index>,
    /// Who may do what.
    pub auth: Arc<Auth>,
    /// Other registries, where some are configured.
    pub upstream: Arc<Upstreams>,
    /// The time.
    pub clock: Clock,
    /// Who asks. Authenticated before the handler runs.
    pub identity: Identity,
    /// Where the request came in.
    pub mount: Mount,
    /// Its method, for who decides by it which upstreams are asked.
    pub method: Method,
}

/// Where a request came in, for links.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// The base path that was stripped off (`/npm`), with the prefix that a trusted proxy had stripped before; empty for an alias.
    pub prefix: String,
    /// The configured public base URL, without a slash at the end.
    pub registry_url: Option<String>,
    /// Where the client thinks it is talking to.
    pub origin: Origin,
}

impl Mount {
    /// The public base URL without a slash at the end: as configured, else from the request's host, else just the path.
    pub fn base_url(&self) -> String {
        if let Some(url) = &self.registry_url {
            return url.clone();
        }
        // `Origin::url` brings the trusted prefix, and `self.prefix` has it too.
        let own = self.prefix.strip_prefix(&self.origin.prefix).unwrap_or(&self.prefix);
        self.origin.url().map_or_else(|| self.prefix.clone(), |origin| origin + own)
    }
}

impl Cx {
    /// The upstreams that are asked for a name; `None` if it is not asked for. Whether it belongs to somebody here is the protocol's to know.
    pub async fn upstreams(
        &self,
        name: &str,
        scope: Option<&str>,
        kind: &'static str,
    ) -> Result<Option<Candidates>> {
        if !self.upstream.is_used() {
            return Ok(None);
        }
        self.upstream.candidates(self.question(name, scope, kind)).await
    }

    /// What a provider of upstreams is asked.
    pub fn question(&self, name: &str, scope: Option<&str>, kind: &'static str) -> Question {
        Question {
            protocol: self.protocol,
            resource: name.to_owned(),
            scope: scope.map(str::to_owned),
            actor: self.objects.actor().cloned(),
            method: self.method.to_string(),
            resource_type: kind,
        }
    }

    /// Names a resource of this protocol.
    pub fn resource(&self, kind: &'static str, name: impl Into<String>) -> Resource {
        crate::auth::resource(self.protocol, kind, name)
    }

    /// Says of the answer to a read whether it [stands](Response::stands), where it hangs on stored documents alone and `resource` is what was read.
    #[must_use]
    pub fn standing(&self, response: Response, resource: &Resource, own: Option<Visibility>) -> Response {
        let is_open = matches!(self.identity, Identity::Anonymous)
            && self.auth.is_settled()
            && self.auth.is_public(resource, own);
        Response { stands: is_open && !self.upstream.is_used() && !self.objects.has_hooks(), ..response }
    }

    /// Whether the caller may do `action`. Ask before any look-up whose result or timing would tell that something exists.
    pub async fn allows(&self, resource: &Resource, action: Action, own: Option<Visibility>) -> Result<bool> {
        self.auth.allows(&self.identity, resource, action, own).await
    }

    /// Goes on only if the caller may do `action`: 401 for nobody and for bad credentials, else 403. Protocols add their
    /// challenge where they render the error.
    pub async fn require(&self, resource: &Resource, action: Action, own: Option<Visibility>) -> Result<()> {
        if self.allows(resource, action, own).await? {
            return Ok(());
        }
        Err(match &self.identity {
            Identity::Anonymous => {
                Error::new(Kind::Unauthorized, format!("log in first: {resource} needs a token"))
            }
            Identity::Rejected => {
                Error::new(Kind::Unauthorized, "the credentials are wrong, expired or revoked; log in again")
            }
            Identity::Known(token) if token.readonly && !action.is_read() => Error::denied(format!(
                "this token is read-only; {resource} needs one that may {}",
                action.as_str()
            )),
            Identity::Known(token) => {
                Error::denied(format!("{} may not {} {resource}", token.user_id, action.as_str()))
            }
        })
    }

    /// The logged-in user, or 401.
    pub fn require_user(&self) -> Result<&str> {
        self.identity.user().ok_or_else(|| Error::new(Kind::Unauthorized, "log in first"))
    }
}
