//! One registry: builds the layers from a [`Config`], finds the protocol of a request, and sees to it that every request has an id and an
//! answer, even when a handler panics.

mod answer;
mod keys;
mod standing;
mod survey;
mod upkeep;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use http::{HeaderValue, header};
use parking_lot::Mutex;
use tracing::Instrument;

use crate::auth::{self, Action, Auth, AuthProvider, Identity, Resource, Setup};
use crate::config::{Config, Durability, ProtocolConfig, StorageConfig, StorageKind, Visibility};
use crate::core::actor::Actor;
use crate::core::error::{Error, Result};
use crate::core::origin::Trust;
use crate::core::path::Segments;
use crate::core::protocol_name::ProtocolName;
use crate::core::request::{Query, Request};
use crate::core::response::Response;
use crate::core::time::Clock;
use crate::events::Courier;
use crate::index::rebuild::Source;
use crate::index::{Change, Index};
use crate::maintenance::{Leases, Progress};
use crate::metrics::{Metrics, Observed, Tally};
use crate::protocols::cx::{Cx, Mount};
use crate::protocols::{self, Entry, Protocol, Settings};
use crate::readiness::{Probe, Readiness};
use crate::storage::local::{self, LocalStore};
use crate::storage::memory::MemoryStore;
use crate::storage::s3::{S3Descriptor, S3Store};
use crate::storage::{Hooks, Storage, StorageLimits, Store};
use crate::upstream::{Host, UpstreamProvider, Upstreams};
use answer::{Facts, no_handler, panic_text, plain_error, settle};
use upkeep::{Task, Upkeep};

pub use upkeep::Garbage;

pub use standing::Standing;
pub use survey::{Amount, Event, Events, ProtocolStats, Stats};

/// What the embedding application brings along.
#[derive(Default)]
pub struct Extensions {
    /// Its own auth provider.
    pub auth_provider: Option<Arc<dyn AuthProvider>>,
    /// Its say on which upstreams are asked.
    pub upstream_provider: Option<Arc<dyn UpstreamProvider>>,
    /// Its storage hooks.
    pub hooks: Option<Arc<dyn Hooks>>,
    /// Its own store, in place of the configured one: for tests.
    pub store: Option<Arc<dyn Store>>,
    /// Protocols of its own, beside those of the table; configured like them.
    pub protocols: &'static [Entry],
    /// The clock: a test's, else the machine's.
    pub clock: Clock,
}

/// A registry. Shares nothing with another one in the same process.
pub struct Registry {
    storage: Storage,
    auth: Arc<Auth>,
    trust: Trust,
    metrics: Arc<Metrics>,
    probe: Probe,
    mounted: Vec<Arc<Mounted>>,
    /// Indices into `mounted` by path, longest first, base paths before aliases of the same length.
    routes: Vec<Route>,
    upkeep: Arc<Upkeep>,
    /// Until they begin.
    webhooks: Mutex<Vec<Courier>>,
    /// What works beside the requests; it ends with the registry.
    background: Mutex<Vec<Task>>,
}

struct Mounted {
    name: ProtocolName,
    config: ProtocolConfig,
    protocol: Box<dyn Protocol>,
    index: Arc<Index>,
    upstream: Arc<Upstreams>,
}

/// A protocol's bucket, for its index.
struct Bucket {
    mounted: Arc<Mounted>,
    cx: Cx,
}

#[async_trait]
impl Source for Bucket {
    async fn names(&self, after: Option<String>) -> Result<(Vec<String>, Option<String>)> {
        self.mounted.protocol.names(&self.cx, after).await
    }

    async fn change(&self, name: &str) -> Result<Option<Change>> {
        self.mounted.protocol.describe(&self.cx, name).await
    }
}

/// The packages of all protocols, asked what they and who they belong to say. Weak: what it asks holds on to who asks.
struct Packages(Weak<Upkeep>);

impl Packages {
    fn of(&self, resource: &Resource) -> Option<(Arc<Mounted>, Cx)> {
        let upkeep = self.0.upgrade()?;
        let mounted = upkeep.mounted.iter().find(|one| one.name.as_str() == resource.protocol)?;
        Some((Arc::clone(mounted), upkeep.cx(mounted)))
    }
}

#[async_trait]
impl auth::Packages for Packages {
    async fn visibility(&self, resource: &Resource) -> Result<Option<Visibility>> {
        let Some((mounted, cx)) = self.of(resource) else { return Ok(None) };
        mounted.protocol.visibility(&cx, resource).await
    }

    async fn lets(&self, identity: &Identity, resource: &Resource, action: Action) -> Result<bool> {
        let Some((mounted, cx)) = self.of(resource) else { return Ok(true) };
        mounted.protocol.lets(&Cx { identity: identity.clone(), ..cx }, resource, action).await
    }
}

struct Route {
    path: Segments,
    alias: bool,
    to: usize,
}

impl Registry {
    /// Builds the layers. Does no IO.
    ///
    /// # Errors
    /// An unusable option, named.
    pub fn new(config: &Config, extensions: Extensions) -> Result<Self> {
        let clock = extensions.clock;
        let store = match extensions.store {
            Some(store) => store,
            None => open_store(config, &clock)?,
        };
        let limits = StorageLimits {
            cache_bytes: config.limits.cache,
            upload_bytes: config.limits.upload_memory as usize,
            metadata_ttl: Duration::from_millis(config.limits.metadata_ttl_ms),
        };
        let storage = Storage::new(store, extensions.hooks, &limits, clock.clone());
        let auth = Arc::new(build_auth(config, extensions.auth_provider, &storage, &clock)?);
        let provider = extensions.upstream_provider;
        let (mounted, routes) = mount(config, extensions.protocols, provider.as_ref(), &storage, &clock)?;
        let trust = config.trust_proxy.resolve()?;
        let upstreams = mounted.iter().map(|mounted| (mounted.name, Arc::clone(&mounted.upstream))).collect();
        let metrics = Arc::new(Metrics::new(&storage, upstreams));
        let upkeep = Arc::new(Upkeep {
            storage: storage.clone(),
            auth: Arc::clone(&auth),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            mounted: mounted.clone(),
            config: config.maintenance.clone(),
            leases: Leases::new(storage.clone()),
        });
        auth.ask_packages(Arc::new(Packages(Arc::downgrade(&upkeep))));
        let (probe, background) = (Probe::default(), Mutex::default());
        let webhooks = Mutex::new(couriers(config, &mounted, &storage, &clock)?);
        Ok(Self { storage, auth, trust, metrics, probe, mounted, routes, upkeep, webhooks, background })
    }

    /// Connects storage and auth, begins to index what is in the bucket already, and with maintenance. Idempotent.
    pub async fn init(&self) -> Result<()> {
        self.storage.prepare().await?;
        self.auth.prepare().await?;
        let mut background = self.background.lock();
        if background.is_empty() {
            background.extend(self.mounted.iter().map(|mounted| self.upkeep.settle(mounted)));
            background.push(self.upkeep.start());
            background.extend(self.webhooks.lock().drain(..).map(|courier| Task::spawn(courier.run())));
        }
        Ok(())
    }

    /// Waits until the bucket of every protocol has been gone through.
    pub async fn settled(&self) {
        for mounted in &self.mounted {
            mounted.index.settled().await;
        }
    }

    /// Does a round of maintenance now, unless another process is at one. `false`: it is.
    pub async fn maintain(&self) -> Result<bool> {
        self.upkeep.round().await
    }

    /// Collects garbage now: removes what nothing names any more, by the rules of the configuration. Safe while this and other processes serve.
    /// In a dry run it only says what it would remove.
    ///
    /// # Errors
    /// 409 while another process is at it.
    pub async fn collect_garbage(&self, dry_run: bool, progress: Progress) -> Result<Garbage> {
        self.upkeep.collect(dry_run, progress).await
    }

    /// A collection without a lease, for tests: what it does is right without one.
    #[cfg(test)]
    pub(crate) async fn collect_unasked(&self) -> Result<()> {
        self.upkeep.collect_all(&crate::maintenance::Job::default()).await.map(|_| ())
    }

    /// Removes what is cached of a protocol's upstreams: of a name, or all. How many objects those were.
    ///
    /// # Errors
    /// 404 for a protocol that is not enabled; storage faults.
    pub async fn purge(&self, protocol: &str, name: Option<&str>) -> Result<u64> {
        let mounted = self.enabled(protocol)?;
        mounted.protocol.purge(&self.upkeep.cx(mounted), name).await
    }

    /// Fetches something of a protocol's upstreams ahead of the first who asks. How many files those were.
    ///
    /// # Errors
    /// 404 for a protocol that is not enabled, and for what is not there; 503 while the upstream gives no answer.
    pub async fn warm(&self, protocol: &str, name: &str) -> Result<u64> {
        let mounted = self.enabled(protocol)?;
        mounted.protocol.warm(&self.upkeep.cx(mounted), name).await
    }

    /// Writes down what was gathered in memory: before the process ends in good order.
    pub async fn flush(&self) {
        self.upkeep.flush(true).await;
    }

    /// The storage.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Who may do what.
    pub fn auth(&self) -> &Arc<Auth> {
        &self.auth
    }

    /// Whose forwarding headers are believed (`trustProxy`), for [`crate::core::origin::resolve`].
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Its numbers.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether it can do its work now.
    pub async fn readiness(&self) -> Readiness {
        self.probe.ask(&self.storage).await
    }

    /// Names and base paths of the enabled protocols.
    pub fn protocols(&self) -> impl Iterator<Item = (ProtocolName, &ProtocolConfig)> {
        self.mounted.iter().map(|mounted| (mounted.name, &mounted.config))
    }

    /// Whether a protocol answers below this path: an embedding application asks before it hands a request over.
    pub fn matches(&self, path: &str) -> bool {
        Segments::parse(path)
            .is_ok_and(|path| self.routes.iter().any(|route| rest_of(route, &path).is_some()))
    }

    /// Answers a request. Every failure is an answer.
    pub async fn handle(&self, request: Request) -> Response {
        self.handle_counted(request, false).await.0
    }

    /// The same; if wanted, with what counts another one that is answered so without being looked at.
    async fn handle_counted(&self, mut request: Request, wanted: bool) -> (Response, Option<Tally>) {
        let id = request.id.clone();
        let span = tracing::info_span!("request", id = %id, method = %request.method, protocol = tracing::field::Empty);
        let facts = Facts::of(&request);
        let mut observed = self.metrics.begin(&mut request);
        let mut response = self.route(request, &mut observed).instrument(span).await;
        settle(&facts, &mut response);
        let tally = if wanted { observed.tally(&response) } else { None };
        observed.answered(&mut response);
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers.insert("x-request-id", value);
        }
        (response, tally)
    }

    async fn route(&self, mut request: Request, observed: &mut Observed) -> Response {
        if let Some(error) = request.refused.take() {
            return plain_error(&error);
        }
        if let Some((path, query)) = request.path.split_once('?') {
            let query = Query::parse(query);
            request.path = path.to_owned();
            request.query.extend(query);
        }
        let parsed = Segments::parse(&request.path);
        let leading = parsed.is_err().then(|| Segments::leading(&request.path));
        let found = leading.as_ref().or(parsed.as_ref().ok()).and_then(|path| self.find(path));
        let Some((route, mounted, rest)) = found else {
            return parsed.map_or_else(|error| plain_error(&error), |_| no_handler());
        };
        tracing::Span::current().record("protocol", mounted.name.as_str());
        observed.protocol(mounted.name);
        if let Err(error) = parsed {
            let mut response = render(mounted, &mounted.protocol.bad_path(error));
            mounted.protocol.finish(&mut response);
            return response;
        }
        let answer = AssertUnwindSafe(self.run(mounted, route, &rest, request)).catch_unwind().await;
        let mut response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => render(mounted, &error),
            Err(panic) => {
                let what = panic_text(panic.as_ref());
                tracing::error!(what, "a handler panicked");
                render(mounted, &Error::internal("a handler panicked"))
            }
        };
        mounted.protocol.finish(&mut response);
        response
    }

    /// Whose a path is, and what follows there.
    fn find(&self, path: &Segments) -> Option<(&Route, &Mounted, Segments)> {
        let (route, rest) = self.routes.iter().find_map(|route| Some((route, rest_of(route, path)?)))?;
        Some((route, self.mounted.get(route.to)?, rest))
    }

    async fn run(
        &self,
        mounted: &Mounted,
        route: &Route,
        path: &Segments,
        request: Request,
    ) -> Result<Response> {
        let identity = if mounted.protocol.passes_over_credentials(&request.method, path) {
            Identity::Anonymous
        } else {
            self.auth.authenticate(&request, mounted.name).await?
        };
        let base = if route.alias { String::new() } else { route.path.to_path() };
        let registry_url = mounted.config.registry_url.as_deref();
        let mount = Mount {
            prefix: format!("{}{base}", request.origin.prefix),
            registry_url: registry_url.map(|url| url.trim_end_matches('/').to_owned()),
            origin: request.origin.clone(),
        };
        let actor = actor(&request, &identity);
        let cx = Cx {
            objects: self.storage.objects(mounted.name, actor),
            identity,
            mount,
            method: request.method.clone(),
            ..self.upkeep.cx(mounted)
        };
        mounted.protocol.handle(&cx, path, request).await
    }
}

/// The actor that hooks see: the host's, completed with who the token says it is.
fn actor(request: &Request, identity: &Identity) -> Option<Arc<Actor>> {
    let mut actor = request.actor.clone().unwrap_or_default();
    actor.complete("userId", identity.user());
    actor.complete("ip", request.peer.map(|peer| peer.to_string()));
    actor.complete("userAgent", request.header(header::USER_AGENT));
    (!actor.is_nobody()).then(|| Arc::new(actor))
}

fn open_store(config: &Config, clock: &Clock) -> Result<Arc<dyn Store>> {
    match config.storage_kind() {
        StorageKind::Memory => Ok(Arc::new(MemoryStore::new(clock.clone()))),
        StorageKind::S3 => Ok(Arc::new(S3Store::new(&s3_descriptor(&config.storage), clock.clone())?)),
        StorageKind::Local => {
            let Some(path) = config.storage.path.as_deref().filter(|path| !path.is_empty()) else {
                return Err(Error::invalid(
                    "option `storage.path` is missing: the local store needs a folder",
                ));
            };
            let durability = match config.storage.durability {
                Some(Durability::Relaxed) => local::Durability::Relaxed,
                Some(Durability::Full) | None => local::Durability::Full,
            };
            Ok(Arc::new(LocalStore::new(path.into(), durability, clock.clone())))
        }
    }
}

fn s3_descriptor(config: &StorageConfig) -> S3Descriptor {
    S3Descriptor {
        endpoint: config.endpoint.clone().unwrap_or_default(),
        port: config.port.clone(),
        use_ssl: config.use_ssl,
        access_key: config.access_key.clone(),
        access_secret: config.access_secret.clone(),
        session_token: config.session_token.clone(),
        region: config.region.clone(),
        bucket_name: config.bucket_name.clone().unwrap_or_default(),
        directory_path: config.directory_path.clone(),
        conditional_writes: config.conditional_writes.unwrap_or_default(),
        ca_file: config.ca_file.clone().filter(|path| !path.as_os_str().is_empty()),
        host_ca_file: config.host_ca_file.clone().filter(|path| !path.as_os_str().is_empty()),
    }
}

fn build_auth(
    config: &Config,
    provider: Option<Arc<dyn AuthProvider>>,
    storage: &Storage,
    clock: &Clock,
) -> Result<Auth> {
    let mut anonymous_read = BTreeMap::new();
    for entry in protocols::ALL {
        if let Some(own) = config.protocol(entry.name.as_str())? {
            anonymous_read.insert(entry.name.as_str().to_owned(), own.feature("anonymousRead", true));
        }
    }
    let oci = config.protocol("oci")?.is_some_and(|own| own.enabled);
    Auth::new(Setup {
        config: &config.auth,
        provider,
        storage,
        clock,
        metadata_ttl: Duration::from_millis(config.limits.metadata_ttl_ms),
        anonymous_read,
        keys: Arc::new(keys::IssuerKeys::default()),
        oci,
        shared: config.storage_kind() == StorageKind::S3,
    })
}

fn mount(
    config: &Config,
    more: &[Entry],
    provider: Option<&Arc<dyn UpstreamProvider>>,
    storage: &Storage,
    clock: &Clock,
) -> Result<(Vec<Arc<Mounted>>, Vec<Route>)> {
    let mut mounted: Vec<Arc<Mounted>> = Vec::new();
    let mut routes: Vec<Route> = Vec::new();
    for entry in protocols::ALL.iter().chain(more) {
        let Some(own) = config.protocol(entry.name.as_str())?.filter(|own| own.enabled) else { continue };
        let to = mounted.len();
        let base = Segments::parse(&own.base_path)?;
        if let Some(other) = routes.iter().find(|route| !route.alias && route.path == base) {
            let other = mounted.get(other.to).map_or("another protocol", |other| other.name.as_str());
            return Err(Error::invalid(format!(
                "option `{}.basePath`: `{}` belongs to {other} already",
                entry.name, own.base_path
            )));
        }
        routes.push(Route { path: base, alias: false, to });
        for alias in entry.aliases {
            routes.push(Route { path: Segments::parse(alias)?, alias: true, to });
        }
        let settings = Settings {
            config: own.clone(),
            auth: config.auth.clone(),
            limits: config.limits.clone(),
            redirect_downloads: config.storage.redirect_downloads,
        };
        let index = Arc::new(Index::new(storage, entry.name, clock.clone())?);
        let upstreams = config.upstreams.get(entry.name.as_str());
        let ca_file = config.storage.host_ca_file.clone().filter(|path| !path.as_os_str().is_empty());
        let host = Host { clock: clock.clone(), ca_file };
        let upstream = Upstreams::new(entry.name, upstreams, provider.cloned(), config.limits.cache, host)?;
        let protocol = (entry.build)(settings)?;
        let upstream = Arc::new(upstream);
        mounted.push(Arc::new(Mounted { name: entry.name, config: own, protocol, index, upstream }));
    }
    routes.sort_by_key(|route| (std::cmp::Reverse(route.path.parts().len()), route.alias));
    Ok((mounted, routes))
}

/// Who delivers to the webhooks of the configuration.
fn couriers(
    config: &Config,
    mounted: &[Arc<Mounted>],
    storage: &Storage,
    clock: &Clock,
) -> Result<Vec<Courier>> {
    let feeds = || mounted.iter().map(|one| (one.name, Arc::clone(&one.index))).collect();
    config.webhooks.iter().map(|hook| Courier::new(hook, feeds(), storage.clone(), clock.clone())).collect()
}

fn rest_of(route: &Route, path: &Segments) -> Option<Segments> {
    let rest = path.strip_prefix(&route.path)?;
    Some(if route.alias { path.clone() } else { rest })
}

fn render(mounted: &Mounted, error: &Error) -> Response {
    if error.kind().is_server_fault() {
        tracing::error!(kind = ?error.kind(), causes = error.causes(), "{}", error.message());
    } else {
        tracing::debug!(kind = ?error.kind(), causes = error.causes(), "{}", error.message());
    }
    let mut response = mounted.protocol.render_error(error);
    for (name, value) in error.headers() {
        response.headers.insert(name.clone(), value.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::Registry;
    use crate::core::request::Request;

    #[test]
    fn an_answer_can_be_awaited_on_any_thread() {
        fn is_send<T: Send>(_: impl Fn(&'static Registry, Request) -> T) {}
        is_send(|registry: &'static Registry, request| registry.handle(request));
    }
}
