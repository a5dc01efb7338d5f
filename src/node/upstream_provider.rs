//! `IUpstreamProvider` of the application as the core's trait.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use napi::bindgen_prelude::Object;
use serde_json::{Value, json};

use super::callback::Callback;
use crate::config::upstream::ProtocolUpstreams;
use crate::core::error::{Error, Result};
use crate::upstream::{Question, UpstreamProvider};

/// How long the application may take to say which upstreams are asked.
const LIMIT: Duration = Duration::from_secs(10);

/// The application's provider.
pub(super) struct JsUpstreamProvider(Callback);

impl JsUpstreamProvider {
    /// From the function that the facade has made.
    pub(super) fn new(object: &Object<'_>) -> napi::Result<Self> {
        let missing = || napi::Error::from_reason("upstreamProvider.resolveUpstreamConfig is missing");
        Callback::of(object, "resolveUpstreamConfig")?.map(Self).ok_or_else(missing)
    }
}

#[async_trait]
impl UpstreamProvider for JsUpstreamProvider {
    async fn resolve(&self, question: &Question) -> Result<Option<Arc<ProtocolUpstreams>>> {
        let context = json!([{
            "protocol": question.protocol.as_str(),
            "resource": question.resource,
            "scope": question.scope,
            "actor": question.actor,
            "method": question.method,
            "resourceType": question.resource_type,
        }]);
        let answer =
            tokio::time::timeout(LIMIT, self.0.call::<Value>(&context)).await.unwrap_or_else(|_| {
                Err(Error::internal(format!(
                    "the upstream provider did not answer within {} s",
                    LIMIT.as_secs()
                )))
            })?;
        if answer.is_null() {
            return Ok(None);
        }
        // What serde would quote may be a secret: only where it stands is told.
        let config: ProtocolUpstreams = serde_path_to_error::deserialize(answer).map_err(|error| {
            Error::internal(format!("what the upstream provider returned can't be used: `{}`", error.path()))
        })?;
        Ok(Some(Arc::new(config)))
    }
}
