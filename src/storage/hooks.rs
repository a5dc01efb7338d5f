//! Storage hooks: what the embedding application may see and veto (`IStorageHooks`).

use async_trait::async_trait;

use crate::core::actor::Actor;
use crate::core::protocol_name::ProtocolName;
use crate::core::time::Timestamp;

/// What is being done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A write.
    Put,
    /// A deletion.
    Delete,
    /// A read.
    Get,
}

/// What is known of the object, as hooks see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Content type.
    pub content_type: Option<String>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Digest, `sha256:…`.
    pub digest: Option<String>,
    /// Package, repository, crate, … it belongs to.
    pub package_name: Option<String>,
    /// Version it belongs to.
    pub version: Option<String>,
}

impl ObjectInfo {
    /// Of a package.
    pub fn of(package_name: impl Into<String>) -> Self {
        Self { package_name: Some(package_name.into()), ..Self::default() }
    }

    /// With its version.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// With its digest.
    #[must_use]
    pub fn digest(mut self, digest: impl Into<String>) -> Self {
        self.digest = Some(digest.into());
        self
    }

    /// With its content type.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }
}

/// One call of a hook.
#[derive(Debug, Clone)]
pub struct HookContext {
    /// What is done.
    pub operation: Operation,
    /// The full key, without `directoryPath`.
    pub key: String,
    /// By which protocol.
    pub protocol: ProtocolName,
    /// On whose behalf.
    pub actor: Option<Actor>,
    /// What is known of the object.
    pub info: ObjectInfo,
    /// When.
    pub timestamp: Timestamp,
}

/// The answer of a `before` hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allowed,
    /// Don't; the reason is shown to the client.
    Denied(Option<String>),
}

/// Hooks of the embedding application. They run once for every object that a user's action writes, deletes or reads, never for
/// our own objects below `_sr/`. An implementation turns its own failures into [`Verdict::Denied`] before, and into a log line after.
#[async_trait]
pub trait Hooks: Send + Sync + 'static {
    /// Before the first byte becomes visible.
    async fn before_put(&self, _context: &HookContext) -> Verdict {
        Verdict::Allowed
    }
    /// After the write is durable.
    async fn after_put(&self, _context: &HookContext) {}
    /// Before the deletion.
    async fn before_delete(&self, _context: &HookContext) -> Verdict {
        Verdict::Allowed
    }
    /// After the deletion.
    async fn after_delete(&self, _context: &HookContext) {}
    /// After the first byte of a read was found.
    async fn after_get(&self, _context: &HookContext) {}
}
