//! Names, tags, versions and references of every protocol.

use super::input::Input;
use crate::protocols::{npm, oci};

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 2 {
        0 => npm::fuzzing::name(&mut input),
        _ => oci::fuzzing::name(&mut input),
    }
}
