//! Who says which upstreams there are: the configuration, or the embedding application for each request.

use std::sync::Arc;

use async_trait::async_trait;

use crate::config::upstream::ProtocolUpstreams;
use crate::core::actor::Actor;
use crate::core::error::Result;
use crate::core::protocol_name::ProtocolName;

/// What is being asked for (`IUpstreamResolutionContext`).
#[derive(Debug, Clone)]
pub struct Question {
    /// In which protocol.
    pub protocol: ProtocolName,
    /// The name: of a package, a repository.
    pub resource: String,
    /// The part of it that an organisation owns: `@acme`.
    pub scope: Option<String>,
    /// Who asks.
    pub actor: Option<Arc<Actor>>,
    /// The HTTP method.
    pub method: String,
    /// What of it: `packument`, `tarball`, `manifest`, `blob`.
    pub resource_type: &'static str,
}

/// Says which upstreams are asked, for each request anew.
#[async_trait]
pub trait UpstreamProvider: Send + Sync + 'static {
    /// The upstreams for a request; `None` for none. A failure denies.
    async fn resolve(&self, question: &Question) -> Result<Option<Arc<ProtocolUpstreams>>>;
}
