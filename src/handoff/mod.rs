//! Bodies handed from one thread to another with backpressure, each end an explicit message: what a border to a foreign runtime is built on.

pub mod pull;
pub mod push;
