//! The only wrapper of thread-safe functions: a method of an object that the application gave us.
//!
//! The facade hands over one function per method that the object really has. It takes a number and JSON, never throws, and sooner or later calls
//! [`settle`] with that number and JSON: a promise would cost the JavaScript thread, which has to do all of this, as much again as the call. All are
//! weak: none keeps a process alive, and one whose thread is gone fails.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use napi::Status;
use napi::bindgen_prelude::{FnArgs, Function, Object};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::core::error::{Error, Result};

type Arguments = FnArgs<(f64, String)>;
type Ask = ThreadsafeFunction<Arguments, (), Arguments, Status, false, true>;

/// Who waits for the outcome of a call, by its number; of all registries of this process.
static WAITING: LazyLock<Mutex<HashMap<u64, oneshot::Sender<String>>>> = LazyLock::new(Mutex::default);
static CALLS: AtomicU64 = AtomicU64::new(0);

/// The outcome of a call. One that nobody waits for any more is dropped.
#[napi(catch_unwind)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a number that came from here
pub fn settle(call: f64, outcome: String) {
    let waiting = WAITING.lock().remove(&(call as u64));
    if let Some(waiting) = waiting {
        let _ = waiting.send(outcome);
    }
}

/// A place among those who wait, given up when it is dropped: by a call that has failed, or was given up.
struct Turn(u64);

impl Turn {
    fn take() -> (Self, oneshot::Receiver<String>) {
        let (sender, receiver) = oneshot::channel();
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        WAITING.lock().insert(call, sender);
        (Self(call), receiver)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        WAITING.lock().remove(&self.0);
    }
}

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
        let method: Option<Function<'_, Arguments, ()>> = object.get(name)?;
        let Some(method) = method else { return Ok(None) };
        let ask = method.build_threadsafe_function().callee_handled::<false>().weak::<true>().build()?;
        Ok(Some(Self { name, ask }))
    }

    /// Calls it. The caller sets the time limit.
    pub(super) async fn call<R: DeserializeOwned>(&self, arguments: &impl Serialize) -> Result<R> {
        let arguments = serde_json::to_string(arguments)
            .map_err(|error| Error::internal("arguments that are no JSON").with_source(error))?;
        let gone = |why: String| Error::internal(format!("{} can't be called any more: {why}", self.name));
        let (turn, outcome) = Turn::take();
        #[allow(clippy::cast_precision_loss)] // a process makes no 2^53 calls
        let number = turn.0 as f64;
        let status = self.ask.call((number, arguments).into(), ThreadsafeFunctionCallMode::NonBlocking);
        if status != Status::Ok {
            return Err(gone(status.to_string()));
        }
        let text = outcome.await.map_err(|error| gone(error.to_string()))?;
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
