//! Documents as they lie in the bucket, where other programs write too: tag lists, upload sessions, and the index.

use super::input::Input;
use crate::core::digest::{Hasher, Midstate};
use crate::protocols::oci;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 5 {
        0 => oci::fuzzing::tag_list(&mut input),
        1 => oci::fuzzing::session(&mut input),
        2 => crate::index::fuzzing::lines(&mut input),
        3 => crate::index::fuzzing::head(&mut input),
        _ => midstate(&mut input),
    }
}

/// A hasher at rest: what goes on is a hasher, whatever it was saved by.
fn midstate(input: &mut Input<'_>) {
    let Ok(state) = serde_json::from_slice::<Midstate>(input.rest()) else { return };
    let Some(mut hasher) = state.restore() else { return };
    let before = hasher.length();
    hasher.update(b"more");
    assert_eq!(hasher.length(), before.saturating_add(4));
    let saved = hasher.save();
    assert_eq!(saved.restore().map(Hasher::finish), Some(hasher.finish()));
}
