//! What every protocol file needs, in one `use` line.

pub use std::sync::Arc;

pub use bytes::Bytes;
pub use http::{Method, StatusCode, header};

pub use super::check::Check;
pub use super::cx::Cx;
pub use super::{Protocol, Settings};
pub use crate::auth::{Action, Identity, Resource};
pub use crate::core::body::Body;
pub use crate::core::conditional::ETag;
pub use crate::core::digest::{Algorithm, Digest};
pub use crate::core::error::{Error, Kind, Result};
pub use crate::core::path::Segments;
pub use crate::core::protocol_name::ProtocolName;
pub use crate::core::request::Request;
pub use crate::core::response::Response;
pub use crate::index::Change;
pub use crate::maintenance::{Job, Report};
pub use crate::storage::{
    Condition, Document, Edit, GetOptions, JsonDocument, Key, Loaded, ObjectInfo, Objects, Prefix, PutOptions,
};
