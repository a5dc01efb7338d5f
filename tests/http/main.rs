//! The listener, from the outside: raw sockets and real clients against a protocol that does what its path says.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod bodies;
mod http2;
mod lab;
mod limits;
mod own_paths;
mod requests;
mod stop;
mod tls;
