//! The SDK's clients for one bucket: TLS, pool, credentials, time-outs, retries, counting.
//!
//! Three classes of traffic, since a storm in one must not starve another. `metadata` is small and quick; `reads` and `bulk`
//! move bytes. Each has its own retry budget (the SDK stops retrying when a client's is used up) and its own time-outs; all share
//! one connection pool. The SDK sets no time-out on requests by itself: a silent peer would hang them forever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::imds;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    AppName, BehaviorVersion, ConfigBag, IdentityCache, Intercept, ProvideCredentials, Region,
    RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents, SharedCredentialsProvider,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::BoxError;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;

use super::bucket::REQUESTS;
use super::descriptor::{Credentials, Target};
use super::error::failure;
use crate::storage::Roots;
use crate::storage::{StoreError, StoreResult};

/// Time to reach the server.
const CONNECT: Duration = Duration::from_millis(3100);
/// Idle connections are dropped before load balancers do it: a stale one costs a reset.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// What trying again after a time-out or a broken connection costs of [`budget`].
const RETRY_COST: u32 = 10;
/// Idle connections kept.
const POOL_SIZE: usize = 64;

/// The clients, which share one pool.
pub(super) struct Clients {
    /// HEAD, LIST, DELETE, small writes.
    pub(super) metadata: Client,
    /// GET: the time-out covers the wait for the first byte; the body has its own.
    pub(super) reads: Client,
    /// Parts, large writes, copies, completions.
    pub(super) bulk: Client,
}

/// Counts requests as they go out, retries included.
#[derive(Debug)]
struct Counter(Arc<AtomicU64>);

#[dyn_dispatch_hint]
impl Intercept for Counter {
    fn name(&self) -> &'static str {
        "Counter"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// What outlives a change of region.
pub(super) struct Connector {
    http: SharedHttpClient,
    credentials: SharedCredentialsProvider,
    requests: Arc<AtomicU64>,
}

impl Connector {
    /// Loads certificates and finds credentials; with the default chain this may ask files and the instance's metadata service.
    pub(super) async fn new(target: &Target, roots: &Roots, requests: Arc<AtomicU64>) -> StoreResult<Self> {
        let unusable = |why| StoreError::Denied(format!("option `storage.caFile`: {why}"));
        let http = http_client(target, &roots.read("the S3 storage").await.map_err(unusable)?)?;
        let credentials = match &target.credentials {
            Credentials::Keys { key, secret, token } => {
                SharedCredentialsProvider::new(aws_sdk_s3::config::Credentials::new(
                    key.expose(),
                    secret.expose(),
                    token.as_ref().map(|token| token.expose().to_owned()),
                    None,
                    "storage config",
                ))
            }
            Credentials::DefaultChain => default_chain(target, &http).await?,
        };
        Ok(Self { http, credentials, requests })
    }

    /// Clients that sign for `region`.
    pub(super) fn clients(&self, target: &Target, region: &str) -> Clients {
        let identity = IdentityCache::lazy().build();
        let class = |name: &'static str, attempts: u32, attempt: u64, operation: u64| {
            let mut config = aws_sdk_s3::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .http_client(self.http.clone())
                .credentials_provider(self.credentials.clone())
                .identity_cache(identity.clone())
                .region(Region::new(region.to_owned()))
                .force_path_style(true)
                .retry_config(RetryConfig::standard().with_max_attempts(attempts))
                .retry_partition(RetryPartition::custom(name).token_bucket(budget()).build())
                .timeout_config(
                    TimeoutConfig::builder()
                        .connect_timeout(CONNECT)
                        .operation_attempt_timeout(Duration::from_secs(attempt))
                        .operation_timeout(Duration::from_secs(operation))
                        .build(),
                )
                // Bodies are read under our own time-out between frames, and go on where they broke off.
                .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
                .interceptor(Counter(Arc::clone(&self.requests)));
            if let Ok(name) = AppName::new("smartregistry-native") {
                config = config.app_name(name);
            }
            if !target.aws_endpoint {
                config = config.endpoint_url(&target.url);
            }
            if !target.aws {
                // By default the SDK frames bodies with checksum trailers: s3rver stores the framing as if it were the bytes,
                // Ceph and MinIO of 2021 answer 400.
                config = config
                    .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                    .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
            }
            Client::from_conf(config.build())
        };
        Clients {
            // A server with too much to do answers late; what is given up early it does all the same, and once more when it is asked again.
            metadata: class("metadata", 3, 10, 30),
            reads: class("reads", 3, 30, 100),
            bulk: class("bulk", 4, 120, 600),
        }
    }
}

/// What a class of traffic may spend on trying again before it gives up at the first failure. The SDK's default is enough for fifty requests
/// at once; where a server is too busy for a moment, everything that is on its way fails together.
fn budget() -> TokenBucket {
    TokenBucket::builder().capacity(2 * REQUESTS * RETRY_COST as usize).timeout_retry_cost(RETRY_COST).build()
}

fn http_client(target: &Target, roots: &[String]) -> StoreResult<SharedHttpClient> {
    // Over plain HTTP no certificate is needed, and a machine without any is no error.
    let needed = target.tls || target.credentials == Credentials::DefaultChain;
    let mut trust = TrustStore::empty().with_native_roots(needed);
    for pem in roots {
        trust = trust.with_pem_certificate(pem.as_str());
    }
    let context = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|error| StoreError::Failed(failure(error.to_string())))?;
    Ok(aws_smithy_http_client::Builder::new()
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_SIZE)
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https())
}

/// Environment, profile files, web identity, container, instance metadata; asked once now, so that the error comes early.
async fn default_chain(target: &Target, http: &SharedHttpClient) -> StoreResult<SharedCredentialsProvider> {
    let region = Region::new(target.region.clone());
    let config = ProviderConfig::default().with_http_client(http.clone()).with_region(Some(region.clone()));
    // Off EC2 nobody answers there: one try of a second.
    let instance = imds::Client::builder()
        .configure(&config)
        .max_attempts(1)
        .connect_timeout(Duration::from_secs(1))
        .read_timeout(Duration::from_secs(1))
        .build();
    let chain = DefaultCredentialsChain::builder()
        .configure(config)
        .region(region)
        .imds_client(instance)
        .build()
        .await;
    if let Err(error) = chain.provide_credentials().await {
        tracing::debug!(error = %aws_sdk_s3::error::DisplayErrorContext(&error), "no default credentials");
        return Err(StoreError::Denied(
            "no credentials for the S3 storage: set `accessKey` and `accessSecret`, or one of the AWS default sources \
             (environment, profile, web identity, container, instance metadata)"
                .to_owned(),
        ));
    }
    Ok(SharedCredentialsProvider::new(chain))
}
