//! The native listener: HTTP/1.1 and HTTP/2 over TCP or TLS straight into [`Registry::handle`], with no JavaScript on the way.
//!
//! `listener` accepts and ends connections, `activity` knows whether one is still alive, `convert` translates requests and answers,
//! `observe` answers `/-/health`, `/-/ready` and `/-/metrics`, `tls` keeps the certificate fresh, `limits` are the bounds.

mod activity;
mod convert;
mod limits;
mod listener;
mod observe;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use limits::HttpLimits;
pub use tls::{Pem, TlsOptions};

use crate::core::error::{Error, Result};
use crate::core::task;
use crate::registry::Registry;
use tls::Certificates;

/// Where and how to listen.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Address or name of the interface.
    pub host: String,
    /// Port; 0 picks a free one.
    pub port: u16,
    /// Certificate and key; without them plain HTTP.
    pub tls: Option<TlsOptions>,
    /// Bounds.
    pub limits: HttpLimits,
    /// Stops it like [`Server::close`], which waits, too.
    pub stop: CancellationToken,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 0,
            tls: None,
            limits: HttpLimits::default(),
            stop: CancellationToken::new(),
        }
    }
}

/// A running listener. Dropping it lets it run on; [`Server::close`] ends it.
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    certificates: Option<Arc<Certificates>>,
}

/// What the connections of a listener have in common.
struct Shared {
    registry: Arc<Registry>,
    limits: HttpLimits,
    /// Accept nothing more, finish what runs.
    stop: CancellationToken,
    /// Finish nothing.
    kill: CancellationToken,
    /// Every task of this listener: accepting, connections, writing handlers.
    tasks: TaskTracker,
}

/// Listens on the current tokio runtime.
///
/// # Errors
/// An address that can't be had, or certificate files that can't be used.
pub async fn listen(registry: Arc<Registry>, options: ListenOptions) -> Result<Server> {
    let certificates = match options.tls {
        Some(tls) => Some(Arc::new(Certificates::load(tls).await?)),
        None => None,
    };
    let place = (options.host.trim_start_matches('[').trim_end_matches(']'), options.port);
    let cannot = |error: std::io::Error| {
        Error::invalid(format!("cannot listen on {}:{}: {error}", options.host, options.port))
    };
    let socket = TcpListener::bind(place).await.map_err(cannot)?;
    let addr = socket.local_addr().map_err(cannot)?;
    let shared = Arc::new(Shared {
        registry,
        limits: options.limits,
        stop: options.stop.child_token(),
        kill: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    if let Some(certificates) = &certificates {
        shared.tasks.spawn(task::carry(
            Arc::clone(certificates).watch(shared.limits.tls_reload_ms, shared.stop.clone()),
        ));
    }
    shared.tasks.spawn(task::carry(listener::accept(socket, Arc::clone(&shared), certificates.clone())));
    Ok(Server { addr, shared, certificates })
}

impl Server {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.certificates.is_some() { "https" } else { "http" }
    }

    /// Reads the certificate files now. Connections that stand keep what they have.
    ///
    /// # Errors
    /// Files that can't be used; the old certificate stays.
    pub async fn reload_tls(&self) -> Result<()> {
        match &self.certificates {
            Some(certificates) => certificates.reload().await,
            None => Err(Error::invalid("this listener has no certificate")),
        }
    }

    /// Stops accepting, lets running requests finish for [`HttpLimits::close_timeout_ms`], then cuts them. Calling it again waits as well.
    pub async fn close(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let deadline = std::time::Duration::from_millis(self.shared.limits.close_timeout_ms);
        if tokio::time::timeout(deadline, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!(
                open = self.shared.tasks.len(),
                "requests were still running at the deadline; they are cut"
            );
            self.shared.kill.cancel();
            // What is left are handlers whose client is gone: their bodies have failed, and they end by themselves.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), self.shared.tasks.wait()).await;
        }
    }

    /// Until it has been closed and the last request is done.
    pub async fn wait(&self) {
        self.shared.tasks.wait().await;
    }
}
