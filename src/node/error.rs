//! `core::Error` as a JavaScript error with `code`, `status` and `cause`.
//!
//! The facade makes an instance of its error class of it and gives it the caller's stack.

use napi::JsValue;
use napi::bindgen_prelude::{ToNapiValue, TypeName};
use napi::{Env, sys};

use crate::core::error::{Error, Kind, Result};

/// What a function of the binding returns: a value, or exactly this error thrown or rejected.
///
/// `napi::Result` would do but for `code`: async functions can't set it there.
pub struct Out<T>(pub Result<T>);

impl<T> From<Result<T>> for Out<T> {
    fn from(result: Result<T>) -> Self {
        Self(result)
    }
}

impl<T: TypeName> TypeName for Out<T> {
    fn type_name() -> &'static str {
        T::type_name()
    }

    fn value_type() -> napi::ValueType {
        T::value_type()
    }
}

impl<T: ToNapiValue> ToNapiValue for Out<T> {
    // SAFETY: `env` is the environment of the thread that napi calls this on; it is handed on, never kept.
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        match value.0 {
            Ok(value) => unsafe { T::to_napi_value(env, value) },
            Err(error) => Err(to_js(Env::from_raw(env), &error)?),
        }
    }
}

/// The error that JavaScript will see, thrown unchanged wherever it is returned.
pub(super) fn to_js(env: Env, error: &Error) -> napi::Result<napi::Error> {
    let mut object = env.create_error(napi::Error::from_reason(error.message()))?;
    object.set("code", error.code().unwrap_or_else(|| code(error.kind())))?;
    object.set("status", u32::from(error.status().as_u16()))?;
    let causes = error.causes();
    if !causes.is_empty() {
        object.set("cause", env.create_error(napi::Error::from_reason(causes))?)?;
    }
    Ok(napi::Error::from(object.to_unknown()))
}

/// The `code` of an error that has no protocol's own.
pub(super) const fn code(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "INVALID",
        Kind::Unauthorized => "UNAUTHORIZED",
        Kind::Denied => "DENIED",
        Kind::NotFound => "NOT_FOUND",
        Kind::MethodNotAllowed => "METHOD_NOT_ALLOWED",
        Kind::Timeout => "TIMEOUT",
        Kind::Conflict => "CONFLICT",
        Kind::LengthRequired => "LENGTH_REQUIRED",
        Kind::Precondition => "PRECONDITION_FAILED",
        Kind::TooLarge => "TOO_LARGE",
        Kind::UnsupportedMedia => "UNSUPPORTED_MEDIA_TYPE",
        Kind::Range => "RANGE_NOT_SATISFIABLE",
        Kind::Unprocessable => "UNPROCESSABLE",
        Kind::TooMany => "TOO_MANY_REQUESTS",
        Kind::Internal => "INTERNAL",
        Kind::Unsupported => "UNSUPPORTED",
        Kind::BadGateway => "BAD_GATEWAY",
        Kind::Unavailable => "UNAVAILABLE",
        Kind::StorageFull => "STORAGE_FULL",
        Kind::Aborted => "ABORTED",
    }
}
