//! Bodies across the border, in pieces: [`Download`] is pulled by the facade, [`Upload`] is written to by it.

use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{Buffer, Null, PromiseRaw, ToNapiValue};
use napi::{Env, sys};
use napi_derive::napi;

use super::error::Out;
use super::request::owned;
use super::response::Chunk;
use super::runtime::promise;
use crate::core::body::Body;
use crate::core::error::Result;
use crate::handoff::pull::{Live, Pull, Ready};
use crate::handoff::push::{Push, Written};

/// A large body on its way out.
#[napi]
pub struct Download {
    pull: Arc<Pull>,
}

/// What `tryNext` gives: a buffer, null at the end, false for "wait for `next`".
pub struct TryNext(Ready);

impl ToNapiValue for TryNext {
    // SAFETY: hands `env` on to the conversions of its parts.
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        match value.0 {
            Ready::Piece(bytes) => unsafe { Chunk::to_napi_value(env, Chunk::piece(bytes)) },
            Ready::End => unsafe { Null::to_napi_value(env, Null) },
            Ready::Later => unsafe { bool::to_napi_value(env, false) },
        }
    }
}

#[napi]
impl Download {
    /// A piece that is ready.
    #[napi(catch_unwind)]
    pub fn try_next(&self) -> Out<TryNext> {
        Out(self.pull.try_next().map(TryNext))
    }

    /// The next piece; null at the end and after `cancel`.
    #[napi(catch_unwind)]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Out<Option<Chunk>>>> {
        let pull = Arc::clone(&self.pull);
        promise(env, async move { Ok(pull.next().await?.map(Chunk::piece)) })
    }

    /// Nobody wants the rest.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.pull.cancel();
    }
}

impl Download {
    /// Must run inside the runtime.
    pub(super) fn start(body: Body, live: &Arc<Live>, idle: Duration) -> Self {
        Self { pull: Arc::new(Pull::start(body, live, idle)) }
    }
}

/// Collected by JavaScript: a read that still waits has nobody to tell.
impl Drop for Download {
    fn drop(&mut self) {
        self.pull.cancel();
    }
}

/// A body on its way in.
#[napi]
pub struct Upload {
    push: Push,
}

#[napi]
impl Upload {
    /// With the announced length, if there is one.
    #[napi(constructor, catch_unwind)]
    #[allow(clippy::cast_sign_loss)] // checked
    pub fn new(length: Option<f64>) -> Self {
        let length = length.filter(|length| length.is_finite() && *length >= 0.0);
        Self { push: Push::new(length.map(|length| length as u64)) }
    }

    /// 1: taken; 0: no room, use `write`; -1: nobody reads any more, stop.
    #[napi(catch_unwind)]
    pub fn try_write(&self, piece: Buffer) -> i32 {
        match self.push.try_write(owned(piece)) {
            Written::Taken => 1,
            Written::Full => 0,
            Written::Closed => -1,
        }
    }

    /// Waits for room. False: nobody reads any more, stop.
    #[napi(catch_unwind)]
    pub fn write<'env>(&self, env: &'env Env, piece: Buffer) -> napi::Result<PromiseRaw<'env, Out<bool>>> {
        let written = self.push.write(owned(piece));
        promise(env, async move { Ok(written.await) })
    }

    /// All is written.
    #[napi(catch_unwind)]
    pub fn end(&self) {
        self.push.end();
    }

    /// The source broke: what was written is not the whole body.
    #[napi(catch_unwind)]
    pub fn abort(&self, reason: String) {
        self.push.abort(reason);
    }
}

impl Upload {
    /// The reader's end. There is one.
    pub(super) fn body(&self) -> Result<Body> {
        self.push.body()
    }
}
