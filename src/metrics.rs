//! What a registry tells about itself: numbers for Prometheus and one line per request for the access log. Both adapters share it.
//!
//! A request is counted when the last byte of its answer is taken, or when it is given up.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use http::{Method, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;

use crate::core::body::{Body, ByteStream};
use crate::core::error::Result;
use crate::core::protocol_name::ProtocolName;
use crate::core::request::Request;
use crate::core::response::Response;
use crate::storage::{Storage, Store};
use crate::upstream::{Grant, State, Upstream, Upstreams, Verdict};

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    protocol: &'static str,
    method: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProtocolLabels {
    protocol: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RemovedLabels {
    part: &'static str,
    kind: &'static str,
}

/// The numbers of one registry.
#[derive(Debug)]
pub struct Metrics {
    all: prometheus_client::registry::Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<ProtocolLabels, Histogram>,
    bytes_in: Family<ProtocolLabels, Counter>,
    bytes_out: Family<ProtocolLabels, Counter>,
    in_flight: Gauge,
    removed: Family<RemovedLabels, Counter>,
    freed_bytes: Family<ProtocolLabels, Counter>,
}

/// Seconds: a hot answer takes a tenth of a millisecond, a large upload minutes.
const BUCKETS: [f64; 14] =
    [0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 600.0];

impl Metrics {
    /// All at zero.
    pub(crate) fn new(storage: &Storage, upstreams: Vec<(ProtocolName, Arc<Upstreams>)>) -> Self {
        let mut all = prometheus_client::registry::Registry::with_prefix("smartregistry");
        let requests = Family::<RequestLabels, Counter>::default();
        let durations = Family::<ProtocolLabels, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let (bytes_in, bytes_out) = (Family::default(), Family::default());
        let in_flight = Gauge::default();
        all.register("requests", "Requests answered, by status class", requests.clone());
        all.register(
            "request_duration_seconds",
            "From the request's head to the answer's end",
            durations.clone(),
        );
        all.register("received_bytes", "Bytes of request bodies", bytes_in.clone());
        all.register("sent_bytes", "Bytes of answers' bodies", Family::clone(&bytes_out));
        all.register("requests_in_flight", "Requests whose answer is not out yet", in_flight.clone());
        let (removed, freed_bytes) = (Family::default(), Family::default());
        all.register("maintenance_removed", "Things that maintenance has removed", Family::clone(&removed));
        all.register(
            "maintenance_freed_bytes",
            "Bytes of the artifacts among them",
            Family::clone(&freed_bytes),
        );
        all.register_collector(Box::new(UpstreamNumbers(upstreams)));
        all.register_collector(Box::new(StoreNumbers(Arc::clone(storage.store()))));
        Self { all, requests, durations, bytes_in, bytes_out, in_flight, removed, freed_bytes }
    }

    /// Maintenance has removed these.
    pub(crate) fn removed(&self, part: &'static str, counts: &BTreeMap<&'static str, u64>, bytes: u64) {
        for (kind, count) in counts {
            self.removed.get_or_create(&RemovedLabels { part, kind }).inc_by(*count);
        }
        if bytes > 0 {
            self.freed_bytes.get_or_create(&ProtocolLabels { protocol: part }).inc_by(bytes);
        }
    }

    /// The numbers in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(8 << 10);
        // Writing into a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.all);
        text
    }

    /// A request begins.
    pub(crate) fn begin(self: &Arc<Self>, request: &mut Request) -> Observed {
        self.in_flight.inc();
        let mut received = None;
        match &mut request.body {
            Body::Empty | Body::Json(_) | Body::Form(_) => {}
            Body::Bytes(bytes) => received = Some(Arc::new(AtomicU64::new(bytes.len() as u64))),
            Body::Stream { .. } => {
                let count = Arc::new(AtomicU64::new(0));
                let body = request.take_body();
                request.body = body.wrapped(|inner| Received { inner, count: Arc::clone(&count) });
                received = Some(count);
            }
        }
        let access = tracing::enabled!(target: "access", tracing::Level::INFO).then(|| Access {
            path: redact(&request.path).to_owned(),
            id: request.id.clone(),
            peer: request.client_ip().map(|address| address.to_string()),
        });
        Observed {
            metrics: Arc::clone(self),
            began: Instant::now(),
            method: method(&request.method),
            protocol: "none",
            status: None,
            received,
            sent: 0,
            access,
        }
    }
}

/// Label of a method; those that no client of ours sends share one, so that nobody can make up new series.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

fn class(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16() / 100) {
        None => "cancelled",
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(_) => "5xx",
    }
}

/// The path for the log, without what would let a reader of the log act as somebody else: npm has tokens in paths.
fn redact(path: &str) -> &str {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    for before in ["/-/user/token/", "/-/npm/v1/tokens/token/"] {
        if let Some(at) = path.find(before) {
            return path.get(..at + before.len()).unwrap_or_default();
        }
    }
    path
}

/// What the access log needs; made only when somebody listens.
struct Access {
    path: String,
    id: String,
    peer: Option<String>,
}

/// One request on its way; counted when dropped.
pub(crate) struct Observed {
    metrics: Arc<Metrics>,
    began: Instant,
    method: &'static str,
    protocol: &'static str,
    /// `None`: given up before there was an answer.
    status: Option<StatusCode>,
    received: Option<Arc<AtomicU64>>,
    sent: u64,
    access: Option<Access>,
}

/// Counts requests that are answered alike without being looked at.
#[derive(Debug)]
pub(crate) struct Tally {
    requests: Counter,
    durations: Histogram,
    bytes_out: Counter,
    sent: u64,
}

impl Tally {
    /// One more, that took so long.
    pub(crate) fn count(&self, took: Duration) {
        self.requests.inc();
        self.durations.observe(took.as_secs_f64());
        self.bytes_out.inc_by(self.sent);
    }
}

impl Observed {
    /// What counts others that are answered like this one; `None` where each is written down, and for what is not in memory.
    pub(crate) fn tally(&self, response: &Response) -> Option<Tally> {
        let sent = match &response.body {
            Body::Empty => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Stream { .. } | Body::Json(_) | Body::Form(_) => return None,
        };
        if !response.stands || self.access.is_some() {
            return None;
        }
        let (metrics, protocol) = (&self.metrics, ProtocolLabels { protocol: self.protocol });
        let status = class(Some(response.status));
        let labels = RequestLabels { protocol: self.protocol, method: self.method, status };
        Some(Tally {
            requests: metrics.requests.get_or_create_owned(&labels),
            durations: metrics.durations.get_or_create_owned(&protocol),
            bytes_out: metrics.bytes_out.get_or_create_owned(&protocol),
            sent,
        })
    }

    /// The protocol is known.
    pub(crate) fn protocol(&mut self, name: ProtocolName) {
        self.protocol = name.as_str();
    }

    /// The answer is known; a stream is counted on, to its end.
    pub(crate) fn answered(mut self, response: &mut Response) {
        self.status = Some(response.status);
        match &mut response.body {
            Body::Bytes(bytes) => self.sent = bytes.len() as u64,
            Body::Stream { .. } => {
                let body = std::mem::take(&mut response.body);
                response.body = body.wrapped(|inner| Sent { inner, observed: self });
            }
            Body::Empty | Body::Json(_) | Body::Form(_) => {}
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let metrics = &self.metrics;
        let took = self.began.elapsed();
        let received = self.received.as_ref().map_or(0, |count| count.load(Relaxed));
        let status = class(self.status);
        metrics.in_flight.dec();
        let labels = RequestLabels { protocol: self.protocol, method: self.method, status };
        metrics.requests.get_or_create(&labels).inc();
        let labels = ProtocolLabels { protocol: self.protocol };
        metrics.durations.get_or_create(&labels).observe(took.as_secs_f64());
        if received > 0 {
            metrics.bytes_in.get_or_create(&labels).inc_by(received);
        }
        if self.sent > 0 {
            metrics.bytes_out.get_or_create(&labels).inc_by(self.sent);
        }
        if let Some(access) = &self.access {
            tracing::info!(
                target: "access",
                method = self.method,
                path = access.path,
                protocol = self.protocol,
                status = self.status.map_or(499, |status| status.as_u16()),
                sent = self.sent,
                received,
                ms = took.as_secs_f64() * 1000.0,
                id = access.id,
                peer = access.peer.as_deref().unwrap_or("-"),
                "request"
            );
        }
    }
}

/// A request body that is counted.
struct Received {
    inner: ByteStream,
    count: Arc<AtomicU64>,
}

impl Stream for Received {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = self.inner.as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(chunk))) = &item {
            self.count.fetch_add(chunk.len() as u64, Relaxed);
        }
        item
    }
}

/// An answer's body that is counted.
struct Sent {
    inner: ByteStream,
    observed: Observed,
}

impl Stream for Sent {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = self.inner.as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(chunk))) = &item {
            self.observed.sent += chunk.len() as u64;
        }
        item
    }
}

/// Numbers that the store counts itself.
struct StoreNumbers(Arc<dyn Store>);

impl std::fmt::Debug for StoreNumbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoreNumbers({})", self.0.kind())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabels {
    store: &'static str,
}

impl Collector for StoreNumbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let labels = StoreLabels { store: self.0.kind() };
        let requests = ConstCounter::new(self.0.requests());
        let mut metric = encoder.encode_descriptor(
            "storage_requests",
            "Requests to the storage backend",
            None,
            requests.metric_type(),
        )?;
        requests.encode(metric.encode_family(&labels)?)
    }
}

/// Numbers that the upstreams count themselves.
struct UpstreamNumbers(Vec<(ProtocolName, Arc<Upstreams>)>);

impl std::fmt::Debug for UpstreamNumbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UpstreamNumbers")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    protocol: &'static str,
    upstream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    protocol: &'static str,
    upstream: String,
    verdict: &'static str,
}

/// A number of an upstream: name, help, and how it is read.
type UpstreamCount = (&'static str, &'static str, fn(&Upstream) -> u64);

const UPSTREAM_COUNTS: [UpstreamCount; 3] = [
    ("upstream_requests", "Requests to an upstream", |upstream| upstream.figures().requests()),
    ("upstream_failures", "Those that failed", |upstream| upstream.figures().failures()),
    ("upstream_received_bytes", "Bytes of an upstream's answers", |upstream| upstream.figures().bytes()),
];

/// The same of what it grants, where it says so.
type UpstreamGrant = (&'static str, &'static str, fn(&Grant) -> u64);

const UPSTREAM_GRANTS: [UpstreamGrant; 2] = [
    ("upstream_granted_requests", "Requests that an upstream grants in one window", |grant| grant.limit),
    ("upstream_remaining_requests", "Those of them that are left, as it said last", |grant| grant.remaining),
];

impl UpstreamNumbers {
    fn each(&self) -> impl Iterator<Item = (UpstreamLabels, Arc<Upstream>)> {
        self.0.iter().flat_map(|(protocol, upstreams)| {
            let labels = |upstream: &Upstream| UpstreamLabels {
                protocol: protocol.as_str(),
                upstream: upstream.id.to_string(),
            };
            upstreams.known().into_iter().map(move |upstream| (labels(&upstream), upstream))
        })
    }

    fn answers(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let help = "What was asked of an upstream, by how it was answered";
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut metric = encoder.encode_descriptor("upstream_answers", help, None, kind)?;
        for (UpstreamLabels { protocol, upstream: id }, upstream) in self.each() {
            for verdict in Verdict::ALL {
                let labels = VerdictLabels { protocol, upstream: id.clone(), verdict: verdict.as_str() };
                ConstCounter::new(upstream.figures().count(verdict))
                    .encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Collector for UpstreamNumbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        if self.0.iter().all(|(_, upstreams)| !upstreams.is_used()) {
            return Ok(());
        }
        self.answers(&mut encoder)?;
        for (name, help, read) in UPSTREAM_COUNTS {
            let kind = ConstCounter::new(0_u64).metric_type();
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for (labels, upstream) in self.each() {
                ConstCounter::new(read(&upstream)).encode(metric.encode_family(&labels)?)?;
            }
        }
        for (name, help, read) in UPSTREAM_GRANTS {
            let kind = ConstGauge::new(0_i64).metric_type();
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for (labels, grant) in
                self.each().filter_map(|(labels, one)| Some((labels, one.figures().grant()?)))
            {
                ConstGauge::new(i64::try_from(read(&grant)).unwrap_or(i64::MAX))
                    .encode(metric.encode_family(&labels)?)?;
            }
        }
        let help = "0 asked as usual, 1 tried with one request, 2 left alone";
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut metric = encoder.encode_descriptor("upstream_breaker", help, None, kind)?;
        for (labels, upstream) in self.each() {
            let state: i64 = match upstream.state() {
                State::Closed => 0,
                State::HalfOpen => 1,
                State::Open(_) => 2,
            };
            ConstGauge::new(state).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn no_token_gets_into_the_log() {
        assert_eq!(redact("/npm/-/user/token/0f3c?x=1"), "/npm/-/user/token/");
        assert_eq!(redact("/npm/-/npm/v1/tokens/token/abc"), "/npm/-/npm/v1/tokens/token/");
        assert_eq!(redact("/npm/left-pad?token=abc"), "/npm/left-pad");
    }
}
