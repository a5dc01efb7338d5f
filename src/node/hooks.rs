//! `IStorageHooks` of the application as the core's trait. A `before` that fails denies; an `after` that fails is logged.

use std::time::Duration;

use async_trait::async_trait;
use napi::bindgen_prelude::Object;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::callback::Callback;
use crate::core::error::{Error, Result};
use crate::storage::{HookContext, Hooks, Operation, Verdict};

/// The application's hooks; what it did not define is never called.
pub(super) struct JsHooks {
    before_put: Option<Callback>,
    after_put: Option<Callback>,
    before_delete: Option<Callback>,
    after_delete: Option<Callback>,
    after_get: Option<Callback>,
    limit: Duration,
}

/// `IBeforePutResult`, `IBeforeDeleteResult`.
#[derive(Deserialize)]
struct GivenVerdict {
    allowed: bool,
    reason: Option<String>,
}

impl JsHooks {
    /// From the functions that the facade has made.
    pub(super) fn new(object: &Object<'_>, limit: Duration) -> napi::Result<Self> {
        Ok(Self {
            before_put: Callback::of(object, "beforePut")?,
            after_put: Callback::of(object, "afterPut")?,
            before_delete: Callback::of(object, "beforeDelete")?,
            after_delete: Callback::of(object, "afterDelete")?,
            after_get: Callback::of(object, "afterGet")?,
            limit,
        })
    }

    async fn call<R: DeserializeOwned>(&self, hook: &Callback, context: &HookContext) -> Result<R> {
        let arguments = json!([context_json(context)]);
        tokio::time::timeout(self.limit, hook.call(&arguments)).await.unwrap_or_else(|_| {
            Err(Error::internal(format!("it did not answer within {} ms", self.limit.as_millis())))
        })
    }

    async fn ask(&self, hook: Option<&Callback>, name: &str, context: &HookContext) -> Verdict {
        let Some(hook) = hook else { return Verdict::Allowed };
        match self.call::<GivenVerdict>(hook, context).await {
            Ok(GivenVerdict { allowed: true, .. }) => Verdict::Allowed,
            Ok(GivenVerdict { allowed: false, reason }) => Verdict::Denied(reason),
            Err(error) => {
                tracing::error!(
                    key = context.key,
                    causes = error.causes(),
                    "the hook {name} failed: {}",
                    error.message()
                );
                Verdict::Denied(None)
            }
        }
    }

    async fn tell(&self, hook: Option<&Callback>, name: &str, context: &HookContext) {
        let Some(hook) = hook else { return };
        if let Err(error) = self.call::<Value>(hook, context).await {
            tracing::error!(
                key = context.key,
                causes = error.causes(),
                "the hook {name} failed: {}",
                error.message()
            );
        }
    }
}

fn context_json(context: &HookContext) -> Value {
    let info = &context.info;
    json!({
        "operation": match context.operation {
            Operation::Put => "put",
            Operation::Delete => "delete",
            Operation::Get => "get",
        },
        "key": context.key,
        "protocol": context.protocol.as_str(),
        "actor": context.actor,
        "metadata": {
            "contentType": info.content_type,
            "size": info.size,
            "digest": info.digest,
            "packageName": info.package_name,
            "version": info.version,
        },
        "timestamp": context.timestamp.as_millis(),
    })
}

#[async_trait]
impl Hooks for JsHooks {
    async fn before_put(&self, context: &HookContext) -> Verdict {
        self.ask(self.before_put.as_ref(), "beforePut", context).await
    }

    async fn after_put(&self, context: &HookContext) {
        self.tell(self.after_put.as_ref(), "afterPut", context).await;
    }

    async fn before_delete(&self, context: &HookContext) -> Verdict {
        self.ask(self.before_delete.as_ref(), "beforeDelete", context).await
    }

    async fn after_delete(&self, context: &HookContext) {
        self.tell(self.after_delete.as_ref(), "afterDelete", context).await;
    }

    async fn after_get(&self, context: &HookContext) {
        self.tell(self.after_get.as_ref(), "afterGet", context).await;
    }
}
