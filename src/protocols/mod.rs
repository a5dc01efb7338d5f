//! What clients speak: one folder per protocol, the same rooms in each, and the table below.
//!
//! A protocol imports `core`, `storage`, `auth`, `config` and this folder's shared files; never a sibling. A new one is a folder and one
//! name in [`protocols!`].

pub mod check;
pub mod cx;
pub mod files;
pub mod prelude;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;

use crate::auth::{Action, Resource};
use crate::config::{AuthConfig, Limits, ProtocolConfig, Visibility};
use crate::core::error::{Error, Result};
use crate::core::path::Segments;
use crate::core::protocol_name::ProtocolName;
use crate::core::request::Request;
use crate::core::response::Response;
use crate::index::Change;
use crate::maintenance::{Job, Report};
use check::Check;
use cx::Cx;

/// A protocol of one registry. It may keep caches of its own; nothing in them is the truth.
#[async_trait]
pub trait Protocol: Send + Sync + 'static {
    /// Answers a request. `path` is what follows the mount point ([`Cx::mount`]).
    async fn handle(&self, cx: &Cx, path: &Segments, request: Request) -> Result<Response>;

    /// Whether credentials that come with a request are passed over, neither checked nor counted as a failed try: clients that log in send what
    /// they had before.
    fn passes_over_credentials(&self, _method: &Method, _path: &Segments) -> bool {
        false
    }

    /// The answer that this protocol's clients print for an error. Status and headers of the error are kept.
    fn render_error(&self, error: &Error) -> Response;

    /// The error for a path that can't be read, in this protocol's words.
    fn bad_path(&self, error: Error) -> Error {
        error
    }

    /// Writes down what this process has gathered in memory: what has waited long enough, about once a minute in every process; `all` of it
    /// before the process ends in good order.
    async fn flush(&self, _cx: &Cx, _all: bool) -> Result<()> {
        Ok(())
    }

    /// Does what has to be done now and then, in one process of those that share the bucket.
    async fn maintain(&self, _cx: &Cx, _job: &Job) -> Result<Report> {
        Ok(Report::default())
    }

    /// Removes what nothing names any more; `None` if this protocol leaves nothing of that kind.
    async fn collect_garbage(&self, _cx: &Cx, _job: &Job) -> Result<Option<Report>> {
        Ok(None)
    }

    /// Adds the headers that every answer of this protocol has.
    fn finish(&self, _response: &mut Response) {}

    /// One page of the names in the bucket, whoever may see them and in any order, and where to go on. The index is made of them.
    async fn names(&self, cx: &Cx, after: Option<String>) -> Result<(Vec<String>, Option<String>)>;

    /// What the index says of a name, as the bucket has it now; `None` if nothing is there.
    async fn describe(&self, cx: &Cx, name: &str) -> Result<Option<Change>>;

    /// Whether a package says of itself that it is public or private; `None` if it says nothing, or isn't there.
    async fn visibility(&self, _cx: &Cx, _resource: &Resource) -> Result<Option<Visibility>> {
        Ok(None)
    }

    /// Whether whoever a package belongs to, beside the scopes of a token, lets the caller do this; where nobody has a say, yes.
    async fn lets(&self, _cx: &Cx, _resource: &Resource, _action: Action) -> Result<bool> {
        Ok(true)
    }

    /// Takes over from another registry's document of `name`, the versions of which have been published here again, what that could not: when
    /// they came, tags, owners.
    async fn adopt(&self, _cx: &Cx, _name: &str, _document: &Bytes) -> Result<()> {
        Ok(())
    }

    /// Forgets what is cached of other registries under a name, or under all; how many things those were. What was published here is no cache:
    /// naming it is an error.
    async fn purge(&self, _cx: &Cx, _name: Option<&str>) -> Result<u64> {
        Ok(0)
    }

    /// Fetches what another registry has under a name, with all that a client would need of it, before anybody asks; how many things those were.
    async fn warm(&self, _cx: &Cx, _name: &str) -> Result<u64> {
        Ok(0)
    }

    /// Goes through all that is stored, and tells `check` what is missing or damaged.
    async fn verify(&self, cx: &Cx, check: &Check) -> Result<()>;
}

/// What a protocol is built from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its own entry in the configuration.
    pub config: ProtocolConfig,
    /// The registry's auth configuration.
    pub auth: AuthConfig,
    /// The registry's bounds.
    pub limits: Limits,
    /// Whether large downloads are answered with a redirect to the store (`storage.redirectDownloads`).
    pub redirect_downloads: bool,
}

/// A protocol in the table.
pub struct Entry {
    /// Its name, as in the configuration.
    pub name: ProtocolName,
    /// Paths that its clients hard-code: answered whenever it is enabled, with nothing stripped off.
    pub aliases: &'static [&'static str],
    /// Makes one.
    pub build: fn(Settings) -> Result<Box<dyn Protocol>>,
}

macro_rules! protocols {
    ($($name:ident),*) => {
        $(pub mod $name;)*

        /// Every protocol there is.
        pub const ALL: &[Entry] = &[$(Entry { name: $name::NAME, aliases: $name::ALIASES, build: $name::build }),*];
    };
}

protocols! { oci, npm }
