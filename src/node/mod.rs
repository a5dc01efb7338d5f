//! What JavaScript sees: a thin, private binding. Convert, call, convert back; the public API is the hand-written facade in `js/`.
//!
//! The only importer of napi. Every sync function carries `catch_unwind`: a panic in one without it ends the process.
// The macros of napi write the functions and docs that Node calls; what they make is no API of this crate.
#![allow(missing_docs, unreachable_pub)]
// napi hands arguments over by value, and its conversions are traits with `unsafe fn`; what is unsafe of our own says why.
#![allow(unsafe_code, clippy::needless_pass_by_value)]
// In a test build napi registers nothing, and nobody else calls what it would.
#![cfg_attr(test, allow(dead_code))]

#[cfg(feature = "mimalloc")]
mod allocator;
mod auth_manager;
mod auth_provider;
mod callback;
mod error;
mod hooks;
mod logger;
mod operation;
mod registry;
mod repeat;
mod request;
mod response;
mod runtime;
mod server;
mod storage;
mod stream;
mod upstream_provider;
