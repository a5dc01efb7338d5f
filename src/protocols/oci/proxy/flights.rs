//! What is being fetched: once, however many wait for it, and to its end, whoever of them goes.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::super::super::prelude::*;
use super::super::name::Name;
use super::super::{Call, Oci};
use super::blobs::Taken;
use super::manifests::Fetched;

/// By repository, who is asked for it, and digest: what an upstream lets one user have is not for another whom it was not asked about.
type Board<T> = crate::core::flights::Flights<(Name, String, Digest), T>;

/// Everything that this process is fetching.
#[derive(Default)]
pub(in super::super) struct Flights {
    pub(super) manifests: Board<Option<Fetched>>,
    pub(super) blobs: Board<Option<Taken>>,
    /// Blobs that become visible once they are stored.
    pub(super) links: crate::core::flights::Flights<(Name, Digest), bool>,
    pub(super) seats: Seats,
}

/// Which repositories are having a blob fetched, and from whom. The bytes are fetched once for all of them, so who comes second has to be known to its
/// upstream as one that has the blob.
#[derive(Default)]
pub(super) struct Seats(Arc<Mutex<Seated>>);

/// A repository, and the folder of the upstream that is asked.
type Guest = (Name, String);

/// By blob, how many of each guest's requests are at it.
type Seated = HashMap<Digest, HashMap<Guest, usize>>;

/// That a repository is; until it is dropped.
pub(super) struct Seat {
    seats: Arc<Mutex<Seated>>,
    guest: Guest,
    digest: Digest,
    /// Whether nobody else was.
    pub(super) alone: bool,
}

impl Seats {
    pub(super) fn take(&self, name: &Name, folder: &str, digest: &Digest) -> Seat {
        let guest = (name.clone(), folder.to_owned());
        let mut seats = self.0.lock();
        let of_blob = seats.entry(digest.clone()).or_default();
        *of_blob.entry(guest.clone()).or_default() += 1;
        let alone = of_blob.len() == 1;
        Seat { seats: Arc::clone(&self.0), guest, digest: digest.clone(), alone }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.lock();
        let Some(of_blob) = seats.get_mut(&self.digest) else { return };
        if let Some(count) = of_blob.get_mut(&self.guest) {
            *count -= 1;
            if *count == 0 {
                of_blob.remove(&self.guest);
            }
        }
        if of_blob.is_empty() {
            seats.remove(&self.digest);
        }
    }
}

/// What work needs that outlives the request that began it.
#[derive(Clone)]
pub(super) struct Desk {
    oci: Arc<Oci>,
    cx: Cx,
}

impl Desk {
    pub(super) fn of(call: &Call<'_>) -> Self {
        Self { oci: Arc::clone(call.oci), cx: call.cx.clone() }
    }

    /// A request of its own, on the registry's behalf: who asked has been allowed to.
    pub(super) fn call(&self) -> Call<'_> {
        Call::own(&self.oci, &self.cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_given_back_however_many_had_it() {
        let (seats, digest) = (Seats::default(), Digest::sha256(b"x"));
        let (a, b) = (Name::parse("a").unwrap(), Name::parse("b").unwrap());
        let first = seats.take(&a, "one", &digest);
        let again = seats.take(&a, "one", &digest);
        assert!(first.alone && again.alone);
        drop(first);
        let other = seats.take(&b, "one", &digest);
        assert!(!other.alone);
        drop(again);
        assert!(!seats.take(&a, "one", &digest).alone, "the other one is at it still");
        drop(other);
        let elsewhere = seats.take(&a, "two", &digest);
        assert!(elsewhere.alone && !seats.take(&a, "one", &digest).alone, "another upstream is to be asked");
        drop(elsewhere);
        assert!(seats.take(&a, "one", &digest).alone && seats.0.lock().is_empty());
    }
}
