//! How much patience and memory a connection gets.

use std::time::Duration;

use serde::Deserialize;

/// Bounds of a listener. Times are in milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpLimits {
    /// Connections at a time; more wait in the operating system's queue.
    pub max_connections: usize,
    /// Bytes of a request's line and headers; beyond: 431. Their number is limited to 100 on HTTP/1.1.
    pub max_header_bytes: u32,
    /// From the first byte of a request (or from the beginning of a connection, TLS handshake included) to the end of its headers.
    pub header_timeout_ms: u64,
    /// How long a connection without a request is kept.
    pub idle_timeout_ms: u64,
    /// How long a client may neither send the body it announced nor take the body it asked for. Not a limit of the whole transfer.
    pub stall_timeout_ms: u64,
    /// Bytes of a body that are read and dropped after an early answer (401, 413), so that the client gets to see it.
    pub drain_bytes: u64,
    /// HTTP/2 requests at a time on one connection.
    pub max_streams: u32,
    /// How long a stop waits for running requests.
    pub close_timeout_ms: u64,
    /// How often the certificate files are looked at.
    pub tls_reload_ms: u64,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_header_bytes: 64 << 10,
            header_timeout_ms: 30_000,
            // Longer than the 60 s after which common load balancers drop an idle connection: whoever closes first must not be us.
            idle_timeout_ms: 75_000,
            stall_timeout_ms: 60_000,
            drain_bytes: 64 << 20,
            max_streams: 256,
            close_timeout_ms: 30_000,
            tls_reload_ms: 10_000,
        }
    }
}

impl HttpLimits {
    /// [`Self::header_timeout_ms`].
    pub(super) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    /// [`Self::stall_timeout_ms`].
    pub(super) fn stall_timeout(&self) -> Duration {
        Duration::from_millis(self.stall_timeout_ms)
    }

    /// How often a connection is looked at: often enough for the shortest limit, seldom enough to cost nothing.
    pub(super) fn tick(&self) -> Duration {
        let shortest = self.header_timeout_ms.min(self.idle_timeout_ms).min(self.stall_timeout_ms);
        Duration::from_millis((shortest / 4).clamp(10, 5_000))
    }
}
