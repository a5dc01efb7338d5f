//! What must hold for any bytes that reach this protocol's parsers. Listed in `crate::fuzzing`.

mod names;
mod packument;
mod publish;

pub(crate) use names::name;
pub(crate) use packument::packument;
pub(crate) use publish::{inspect, publish};

/// Options of this protocol, as an application writes them.
pub(crate) fn options(config: &crate::config::ProtocolConfig) {
    if let Err(error) = super::options::Options::read(config) {
        assert!(error.message().starts_with("option `npm"), "{error}");
    }
}
