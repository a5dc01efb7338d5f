//! Seven package registries in one library, over an S3 bucket or a local folder.
//!
//! Layers, each of which knows only those on its left:
//! `core <- storage <- {auth, upstream, index, maintenance} <- {protocols, events} <- registry <- {http, node}`.
//! [`registry::Registry`] is the one entry: [`core::request::Request`] in, [`core::response::Response`] out. The listener
//! (`http`) and the Node binding (`node`) are two thin adapters around it.

pub mod auth;
pub mod config;
pub mod core;
pub mod events;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod handoff;
pub mod http;
pub mod index;
pub mod maintenance;
pub mod metrics;
#[cfg(feature = "node")]
mod node;
pub mod protocols;
pub mod readiness;
pub mod registry;
pub mod storage;
#[cfg(test)]
mod testing;
pub mod upstream;
