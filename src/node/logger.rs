//! `config.logger` and `config.logLevel`: what a registry logs goes where its application wants it, and nowhere else.

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use napi::bindgen_prelude::{Function, PromiseRaw, ToNapiValue};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use tracing::instrument::WithSubscriber;
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Level};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use super::error::Out;
use super::runtime;
use crate::config::LogLevel;
use crate::core::error::Result;

/// Lines that wait for the application's thread, at most: one that is busy for long must not fill the memory.
const WAITING: usize = 1024;

type Send = ThreadsafeFunction<String, (), String, Status, false, true, WAITING>;

/// Where a registry's work logs; the process' own log unless its configuration says otherwise.
#[derive(Clone, Default)]
pub(super) struct Scope(Option<Dispatch>);

impl Scope {
    /// From the configuration, and the function that takes each line as JSON.
    pub(super) fn new(
        level: Option<LogLevel>,
        write: Option<Function<'_, String, ()>>,
    ) -> napi::Result<Self> {
        let Some(write) = write else { return Ok(Self(level.map(|level| to_stderr(level.into())))) };
        let send =
            write.build_threadsafe_function().callee_handled::<false>().weak::<true>().max_queue_size();
        let lines = Lines(Arc::new(Shared { send: send.build()?, dropped: AtomicU64::new(0) }));
        Ok(Self(Some(to_application(lines, level.unwrap_or_default().into()))))
    }

    /// Does `work` here and now.
    pub(super) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(log) => tracing::dispatcher::with_default(log, work),
            None => work(),
        }
    }

    /// The same work, wherever it goes on.
    pub(super) fn around<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        let log = self.0.clone();
        async move {
            match log {
                Some(log) => work.with_subscriber(log).await,
                None => work.await,
            }
        }
    }

    /// Runs `work` on the runtime and promises its outcome.
    pub(super) fn promise<'env, T: ToNapiValue + std::marker::Send + 'static>(
        &self,
        env: &'env Env,
        work: impl Future<Output = Result<T>> + std::marker::Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, Out<T>>> {
        runtime::promise(env, self.around(work))
    }
}

fn to_stderr(level: LevelFilter) -> Dispatch {
    let lines = tracing_subscriber::fmt().with_max_level(level).with_target(false).with_ansi(false);
    Dispatch::new(lines.with_writer(io::stderr).finish())
}

fn to_application(lines: Lines, level: LevelFilter) -> Dispatch {
    // The span of a request is kept whatever the level: its id belongs into the first line of trouble.
    let wanted = FilterFn::new(move |about| {
        about.is_span() && *about.level() <= Level::INFO || *about.level() <= level
    })
    .with_max_level_hint(level.max(LevelFilter::INFO));
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_writer(lines);
    Dispatch::new(tracing_subscriber::registry().with(json.with_filter(wanted)))
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

struct Shared {
    send: Send,
    dropped: AtomicU64,
}

#[derive(Clone)]
struct Lines(Arc<Shared>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { lines: self.clone(), text: Vec::new() }
    }
}

/// One line on its way; sent when it is complete.
struct Line {
    lines: Lines,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Shared { send, dropped } = &*self.lines.0;
        let Ok(line) = String::from_utf8(mem::take(&mut self.text)) else { return };
        let missed = dropped.swap(0, Ordering::Relaxed);
        if missed > 0 {
            let note = format!(
                r#"{{"level":"WARN","message":"{missed} lines of the log were dropped: the thread of the application was busy"}}"#
            );
            if send.call(note, ThreadsafeFunctionCallMode::NonBlocking) != Status::Ok {
                dropped.fetch_add(missed, Ordering::Relaxed);
            }
        }
        if send.call(line, ThreadsafeFunctionCallMode::NonBlocking) != Status::Ok {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
