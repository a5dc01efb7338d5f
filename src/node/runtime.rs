//! What is set up once per process when the addon is loaded: threads, the log of last resort, and the panic hook.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread::available_parallelism;

use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, ToNapiValue, within_runtime_if_available};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use super::error::Out;
use crate::core::error::Result;

/// More blocking threads than this only wait for each other: hashing and passwords are limited by cores, files by the disk.
const BLOCKING_THREADS: usize = 48;

/// The runtime that napi would make lets its blocking pool grow to 512 threads.
#[napi_derive::module_init]
fn init() {
    log();
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, ToString::to_string);
        tracing::error!(place, "panic: {}", info.payload_as_str().unwrap_or("without a text"));
    }));
    let cores = available_parallelism().map_or(2, usize::from);
    let workers = number("SMARTREGISTRY_WORKER_THREADS").unwrap_or(cores).max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("smartregistry")
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => napi::bindgen_prelude::create_custom_tokio_runtime(runtime),
        Err(error) => tracing::warn!(%error, "the thread pool could not be made as wanted"),
    }
}

/// Has the process take memory in small pages only, on Linux. For a process that is a registry and nothing else: the allocator takes huge ones where it
/// can, of which downloads and documents that come and go leave a part in use each. Does nothing where that is not possible.
#[napi_derive::napi(catch_unwind)]
pub fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay");
    }
}

/// Warnings and errors to stderr, unless the host says more or less.
fn log() {
    let filter = EnvFilter::try_from_env("SMARTREGISTRY_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .finish();
    // A worker thread loads the addon again; the log is there already.
    let _ = subscriber.try_init();
}

#[allow(clippy::disallowed_methods)] // asked once at load, before there is any configuration
fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs `work` on the runtime and promises its outcome.
pub(super) fn promise<T: ToNapiValue + Send + 'static>(
    env: &Env,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> napi::Result<PromiseRaw<'_, Out<T>>> {
    env.spawn_future(async move { Ok(Out(work.await)) })
}

/// The outcome of `work` if it has nothing to wait for; else `work` back, to go on with [`promise`].
///
/// A hot read is answered from memory: a task, a hop to another thread and one back to this one would cost several times the work.
/// The little that is done here before the first wait is what costs little.
pub(super) fn at_once<F: Future + Unpin>(mut work: F) -> std::result::Result<F::Output, F> {
    let first = within_runtime(|| Pin::new(&mut work).poll(&mut Context::from_waker(Waker::noop())));
    match first {
        Poll::Ready(outcome) => Ok(outcome),
        // Whatever it waits for hears of the true waker when the runtime asks for the first time.
        Poll::Pending => Err(work),
    }
}

/// Does `work` here and now, where tasks may be started.
pub(super) fn within_runtime<T>(work: impl FnOnce() -> T) -> T {
    within_runtime_if_available(work)
}
