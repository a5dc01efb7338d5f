//! What must hold for any bytes that reach this protocol's parsers. Listed in `crate::fuzzing`.

mod names;
mod packument;
mod publish;

pub(crate) use names::name;
pub(crate) use packument::packument;
pub(crate) use publish::{inspect, publish};
