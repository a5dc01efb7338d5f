//! The vocabulary: requests, responses, bodies, errors, and the small grammars of HTTP. Does no IO, imports nothing of ours.

pub mod actor;
pub mod archive;
pub mod body;
pub mod conditional;
pub mod digest;
pub mod ecdsa;
pub mod error;
pub mod flights;
pub mod hashing;
pub mod id;
pub mod negotiate;
pub mod origin;
pub mod park;
pub mod path;
pub mod pattern;
pub mod protocol_name;
pub mod range;
pub mod request;
pub mod response;
pub mod secret;
pub mod task;
pub mod time;
