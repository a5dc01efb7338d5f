//! The registry as the facade holds it.

use std::sync::Arc;
use std::time::Duration;

use napi::Env;
use napi::bindgen_prelude::{ClassInstance, Either, Either3, Function, Object, PromiseRaw};
use napi_derive::napi;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::auth_manager::NativeAuth;
use super::auth_provider::JsAuthProvider;
use super::error::Out;
use super::hooks::JsHooks;
use super::logger::Scope;
use super::operation::{NativeOperation, Work};
use super::repeat::Repeat;
use super::request::{self, NativeBody, NativeExtra, Parts};
use super::response::{self, NativeResponse};
use super::runtime::{at_once, promise, within_runtime};
use super::server::{self, NativeServer};
use super::storage::NativeStorage;
use super::stream::Upload;
use super::upstream_provider::JsUpstreamProvider;
use crate::config::Config;
use crate::core::body::Body;
use crate::core::error::{Error, Kind, Result};
use crate::handoff::pull::Live;
use crate::registry::{Extensions, Registry};

/// How long the last flush may take.
const FLUSH: Duration = Duration::from_secs(3);

/// A registry; empty once destroyed.
#[napi]
pub struct NativeRegistry {
    registry: Mutex<Option<Arc<Registry>>>,
    live: Arc<Live>,
    idle: Duration,
    scope: Scope,
}

/// Reads the configuration and builds the layers. Does no IO. `extensions` holds the wrapped methods of the application's objects.
#[napi(catch_unwind)]
pub fn create_registry(config: String, extensions: Option<Object<'_>>) -> napi::Result<Out<NativeRegistry>> {
    let config = match Config::from_json(&config) {
        Ok(config) => config,
        Err(error) => return Ok(Out(Err(error))),
    };
    let (mut own, mut write) = (Extensions::default(), None);
    if let Some(given) = extensions {
        write = given.get::<Function<'_, String, ()>>("logger")?;
        if let Some(provider) = given.get::<Object<'_>>("authProvider")? {
            own.auth_provider = Some(Arc::new(JsAuthProvider::new(&provider)?));
        }
        if let Some(hooks) = given.get::<Object<'_>>("storageHooks")? {
            let limit = Duration::from_millis(config.limits.hook_timeout_ms);
            own.hooks = Some(Arc::new(JsHooks::new(&hooks, limit)?));
        }
        if let Some(provider) = given.get::<Object<'_>>("upstreamProvider")? {
            own.upstream_provider = Some(Arc::new(JsUpstreamProvider::new(&provider)?));
        }
    }
    let idle = Duration::from_millis(config.limits.body_idle_ms);
    let scope = Scope::new(config.log_level, write)?;
    let made = scope.within(|| Registry::new(&config, own));
    Ok(Out(made.map(|registry| NativeRegistry {
        registry: Mutex::new(Some(Arc::new(registry))),
        live: Arc::default(),
        idle,
        scope,
    })))
}

/// The protocols that this build serves.
#[napi(catch_unwind)]
pub fn protocol_names() -> Vec<String> {
    crate::protocols::ALL.iter().map(|entry| entry.name.as_str().to_owned()).collect()
}

#[napi]
impl NativeRegistry {
    /// Connects storage and auth.
    #[napi(catch_unwind)]
    pub fn init<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Out<()>>> {
        let registry = self.get();
        self.scope.promise(env, async move { registry?.init().await })
    }

    /// Answers a request: at once if nothing has to be waited for, else with a promise.
    #[napi(catch_unwind)]
    #[allow(clippy::too_many_arguments)] // flat on purpose: each property of an object costs a look-up on the JavaScript thread
    pub fn handle<'env>(
        &self,
        env: &'env Env,
        method: String,
        path: String,
        headers: String,
        query: Vec<String>,
        body: Option<NativeBody>,
        upload: Option<ClassInstance<'_, Upload>>,
        peer: Option<String>,
        secure: Option<bool>,
        prefix: Option<String>,
        extra: Option<NativeExtra>,
    ) -> napi::Result<Either<Out<NativeResponse>, PromiseRaw<'env, Out<NativeResponse>>>> {
        let registry = self.get();
        let secure = secure.unwrap_or_default();
        let parts =
            Parts { method, path, headers, query, peer, secure, prefix, extra: extra.unwrap_or_default() };
        let body = request::body(body, upload.as_deref());
        // What has a body is waited for in any case, and worked on where it disturbs nobody.
        let bare = matches!(body, Ok(Body::Empty));
        let (live, idle) = (Arc::clone(&self.live), self.idle);
        let answer = Box::pin(self.scope.around(async move {
            let registry = registry?;
            let answer = Box::pin(registry.handle(parts.build(body, registry.trust()))).await;
            Ok(response::convert(answer, &live, idle))
        }));
        Ok(match if bare { at_once(answer) } else { Err(answer) } {
            Ok(answer) => Either::A(Out(answer)),
            Err(answer) => Either::B(promise(env, answer)?),
        })
    }

    /// Keeps the head of a request that comes again and again; nothing for one that can't be read.
    #[napi(catch_unwind)]
    pub fn repeat(
        &self,
        method: String,
        path: String,
        headers: String,
        peer: Option<String>,
        secure: bool,
        prefix: Option<String>,
    ) -> Out<Option<Repeat>> {
        let parts = Parts {
            method,
            path,
            headers,
            query: Vec::new(),
            peer,
            secure,
            prefix,
            extra: NativeExtra::default(),
        };
        Out(self.get().map(|registry| Repeat::new(parts.build(Ok(Body::Empty), registry.trust()))))
    }

    /// Answers a request that has come again: with its id, if the answer is the one that was handed over the last time; else as [`NativeRegistry::handle`].
    #[napi(catch_unwind)]
    pub fn handle_again<'env>(
        &self,
        env: &'env Env,
        repeat: ClassInstance<'_, Repeat>,
    ) -> napi::Result<Either3<String, Out<NativeResponse>, PromiseRaw<'env, Out<NativeResponse>>>> {
        let registry = self.get();
        if let Some(id) = registry.as_ref().ok().and_then(|registry| repeat.still_stands(registry)) {
            return Ok(Either3::A(id));
        }
        let (live, idle, request) = (Arc::clone(&self.live), self.idle, repeat.request());
        let answer = async move { Ok(registry?.handle_standing(request).await) };
        Ok(match at_once(Box::pin(self.scope.around(answer))) {
            Ok(Ok((response, standing))) => match repeat.recognise(&response, standing) {
                Some(id) => Either3::A(id),
                None => Either3::B(Out(Ok(within_runtime(|| response::convert(response, &live, idle))))),
            },
            Ok(Err(error)) => Either3::B(Out(Err(error))),
            Err(answer) => {
                let answer = async move { Ok(response::convert(answer.await?.0, &live, idle)) };
                Either3::C(promise(env, answer)?)
            }
        })
    }

    /// Users and tokens of this registry.
    #[napi(catch_unwind)]
    pub fn auth(&self) -> Out<NativeAuth> {
        Out(self.get().map(|registry| NativeAuth::new(Arc::clone(registry.auth()), self.scope.clone())))
    }

    /// The objects of this registry.
    #[napi(catch_unwind)]
    pub fn storage(&self) -> Out<NativeStorage> {
        Out(self.get().map(|registry| {
            NativeStorage::new(
                registry.storage().clone(),
                Arc::clone(&self.live),
                self.idle,
                self.scope.clone(),
            )
        }))
    }

    /// Whether a protocol answers below this path.
    #[napi(catch_unwind)]
    pub fn matches(&self, path: String) -> bool {
        self.get().is_ok_and(|registry| registry.matches(&path))
    }

    /// Names and base paths of the enabled protocols: `[name, path, …]`.
    #[napi(catch_unwind)]
    pub fn protocols(&self) -> Out<Vec<String>> {
        Out(self.get().map(|registry| {
            registry
                .protocols()
                .flat_map(|(name, config)| [name.as_str().to_owned(), config.base_path.clone()])
                .collect()
        }))
    }

    /// Starts the native listener; options as JSON.
    #[napi(catch_unwind)]
    pub fn listen<'env>(
        &self,
        env: &'env Env,
        options: String,
    ) -> napi::Result<PromiseRaw<'env, Out<NativeServer>>> {
        let registry = self.get();
        // A thread that ends takes its listener along: nobody else could close it.
        let stop = CancellationToken::new();
        env.add_env_cleanup_hook(stop.clone(), |stop| stop.cancel())?;
        self.scope.promise(env, async move { server::listen(registry?, &options, stop).await })
    }

    /// The numbers, as Prometheus reads them.
    #[napi(catch_unwind)]
    pub fn metrics(&self) -> Out<String> {
        Out(self.get().map(|registry| {
            let text = registry.metrics().render();
            let own = format!(
                "# HELP smartregistry_open_bodies Bodies on their way out through JavaScript.\n\
                 # TYPE smartregistry_open_bodies gauge\nsmartregistry_open_bodies {}\n",
                self.live.count()
            );
            // The format ends with this line, and nothing may follow it.
            match text.strip_suffix("# EOF\n") {
                Some(rest) => format!("{rest}{own}# EOF\n"),
                None => text + &own,
            }
        }))
    }

    /// A collection of garbage, to be run once.
    #[napi(catch_unwind)]
    pub fn collection(&self, dry_run: bool) -> Out<NativeOperation> {
        self.operation(Work::Collect { dry_run })
    }

    /// A look whether everything is there and whole, to be run once.
    #[napi(catch_unwind)]
    pub fn verification(&self, shallow: bool, rebuild_index: bool) -> Out<NativeOperation> {
        self.operation(Work::Verify { shallow, rebuild_index })
    }

    /// A count of what there is, to be run once.
    #[napi(catch_unwind)]
    pub fn stats(&self) -> Out<NativeOperation> {
        self.operation(Work::Stats)
    }

    /// A takeover of what another registry's document says, to be run once.
    #[napi(catch_unwind)]
    pub fn adoption(&self, protocol: String, name: String, document: String) -> Out<NativeOperation> {
        self.operation(Work::Adopt { protocol, name, document })
    }

    /// A removal of what is cached of a protocol's upstreams, of one name or all, to be run once.
    #[napi(catch_unwind)]
    pub fn purge(&self, protocol: String, name: Option<String>) -> Out<NativeOperation> {
        self.operation(Work::Purge { protocol, name })
    }

    /// A fetch of something of a protocol's upstreams ahead of time, to be run once.
    #[napi(catch_unwind)]
    pub fn warm(&self, protocol: String, name: String) -> Out<NativeOperation> {
        self.operation(Work::Warm { protocol, name })
    }

    /// A read of a protocol's feed after `since`, to be run once.
    #[napi(catch_unwind)]
    pub fn events(&self, protocol: String, since: i64) -> Out<NativeOperation> {
        self.operation(Work::Events { protocol, since: u64::try_from(since).unwrap_or(0) })
    }

    /// Writes down what was gathered in memory, as far as that can be done in a moment.
    #[napi(catch_unwind)]
    pub fn flush<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Out<()>>> {
        let registry = self.get();
        self.scope.promise(env, async move {
            // Whoever ends a process does not wait for a store that is away.
            let _ = tokio::time::timeout(FLUSH, registry?.flush()).await;
            Ok(())
        })
    }

    /// Lets everything go. What is in flight goes on to its end.
    #[napi(catch_unwind)]
    pub fn destroy(&self) {
        drop(self.registry.lock().take());
    }
}

impl NativeRegistry {
    fn operation(&self, work: Work) -> Out<NativeOperation> {
        Out(self.get().map(|registry| NativeOperation::new(registry, work, self.scope.clone())))
    }

    pub(super) fn get(&self) -> Result<Arc<Registry>> {
        self.registry
            .lock()
            .clone()
            .ok_or_else(|| Error::new(Kind::Unavailable, "the registry is destroyed").with_code("DESTROYED"))
    }
}
