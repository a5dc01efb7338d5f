//! Asking others: the one HTTP client, and (to come) caching proxies of remote registries.

pub mod client;
