//! The only wrapper of thread-safe functions: a method of an object that the application gave us.
//!
//! The facade hands over one function per method that the object really has. It takes and gives JSON, always returns a promise, and
//! never throws: what went wrong is in the answer. All are weak: none keeps a process alive, and one whose thread is gone fails.

use napi::Status;
use napi::bindgen_prelude::{Function, Object, Promise};
use napi::threadsafe_function::ThreadsafeFunction;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};

type Ask = ThreadsafeFunction<String, Promise<String>, String, Status, false, true>;

/// A method of the application's object.
pub(super) struct Callback {
    name: &'static str,
    ask: Ask,
}

/// What the facade makes of the method's outcome.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Failed { error: String, stack: String },
    Given { value: T },
}

impl Callback {
    /// The method, if the object has it.
    pub(super) fn of(object: &Object<'_>, name: &'static str) -> napi::Result<Option<Self>> {
        let method: Option<Function<'_, String, Promise<String>>> = object.get(name)?;
        let Some(method) = method else { return Ok(None) };
        let ask = method.build_threadsafe_function().callee_handled::<false>().weak::<true>().build()?;
        Ok(Some(Self { name, ask }))
    }

    /// Calls it. The caller sets the time limit.
    pub(super) async fn call<R: DeserializeOwned>(&self, arguments: &impl Serialize) -> Result<R> {
        let arguments = serde_json::to_string(arguments)
            .map_err(|error| Error::internal("arguments that are no JSON").with_source(error))?;
        let gone = |error: napi::Error| {
            Error::internal(format!("{} can't be called any more: {}", self.name, error.reason))
        };
        let promise = self.ask.call_async_catch(arguments).await.map_err(gone)?;
        let text = promise.await.map_err(gone)?;
        match serde_json::from_str::<Answer<R>>(&text) {
            Ok(Answer::Given { value }) => Ok(value),
            Ok(Answer::Failed { error, stack }) => Err(Error::internal(error).with_source(stack)),
            Err(error) => {
                Err(Error::internal(format!("{} returned something it should not", self.name))
                    .with_source(error))
            }
        }
    }
}
