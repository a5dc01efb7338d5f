//! A response as the facade gets it: a small body as a buffer, a large one as a handle to pull from.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use napi::bindgen_prelude::{BufferSlice, Either, ToNapiValue, TypeName};
use napi::{Env, sys};
use napi_derive::napi;

use super::stream::Download;
use crate::core::body::Body;
use crate::core::response::Response;
use crate::handoff::pull::Live;

/// A response. Header names in lower case, repeated ones repeated: `[name, value, name, value, …]`.
#[napi(object, object_from_js = false)]
pub struct NativeResponse {
    /// The status.
    pub status: u16,
    /// A reason phrase of our own.
    pub status_text: Option<String>,
    /// Headers: `name\nvalue\nname\nvalue …`. No value has a line break in it.
    pub headers: String,
    /// The body; nothing when there is none.
    pub body: Option<Either<Chunk, Download>>,
}

/// What is in memory anyway crosses in one piece up to this size.
const WHOLE: usize = 4 << 20;

/// Converts; must run inside the runtime, since a large body gets a task of its own.
pub(super) fn convert(response: Response, live: &Arc<Live>, idle: Duration) -> NativeResponse {
    let mut headers = String::with_capacity(512);
    for (name, value) in &response.headers {
        if !headers.is_empty() {
            headers.push('\n');
        }
        headers.push_str(name.as_str());
        headers.push('\n');
        headers.extend(value.as_bytes().iter().copied().map(char::from));
    }
    let body = match response.body {
        Body::Empty => None,
        Body::Bytes(bytes) if bytes.is_empty() => None,
        Body::Bytes(bytes) if bytes.len() <= WHOLE => Some(Either::A(Chunk::whole(bytes))),
        body => Some(Either::B(Download::start(body, live, idle))),
    };
    NativeResponse { status: response.status.as_u16(), status_text: response.reason, headers, body }
}

/// Bytes on their way into a `Buffer`.
pub struct Chunk {
    bytes: Bytes,
    of_many: bool,
}

impl Chunk {
    /// All there is.
    pub(super) const fn whole(bytes: Bytes) -> Self {
        Self { bytes, of_many: false }
    }

    /// One of many that come one after another.
    pub(super) const fn piece(bytes: Bytes) -> Self {
        Self { bytes, of_many: true }
    }
}

/// Below this a copy costs less than the bookkeeping of foreign memory.
const WORTH_SHARING: usize = 16 << 10;

impl TypeName for Chunk {
    fn type_name() -> &'static str {
        "Buffer"
    }

    fn value_type() -> napi::ValueType {
        napi::ValueType::Object
    }
}

impl ToNapiValue for Chunk {
    /// Memory that nobody else holds is handed over; anything else is copied, since JavaScript may write into its buffers and a
    /// cached document must not change under the next reader.
    // SAFETY: called by napi on the thread of `env`. The pointer given to `from_external` is that of bytes with no other owner,
    // and the bytes themselves are kept as the hint until the buffer is collected.
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        let js = Env::from_raw(env);
        let Self { bytes, of_many } = value;
        // The copy is made in our own memory: that of JavaScript comes fresh from the system each time, page by page.
        let bytes = if bytes.len() < WORTH_SHARING || bytes.is_unique() {
            bytes
        } else {
            Bytes::copy_from_slice(&bytes)
        };
        let slice = if bytes.len() >= WORTH_SHARING {
            let (start, length) = (bytes.as_ptr().cast_mut(), bytes.len());
            // The engine looks for what it could free when enough has come together. A reader that is quick leaves a hundred pieces behind by then: with
            // twice their weight half of that.
            #[allow(clippy::cast_possible_wrap)] // no buffer is that large
            let weight = if of_many { length as i64 } else { 0 };
            js.adjust_external_memory(weight)?;
            let give_back = move |env: Env, bytes| {
                drop::<Bytes>(bytes);
                let _ = env.adjust_external_memory(-weight);
            };
            unsafe { BufferSlice::from_external(&js, start, length, bytes, give_back)? }
        } else {
            BufferSlice::copy_from(&js, bytes.as_ref())?
        };
        unsafe { BufferSlice::to_napi_value(env, slice) }
    }
}
