//! What is here of upstreams that open themselves to some users and not to others: whom it is shown to, and whose answers are whose.

use super::super::super::prelude::*;
use super::super::Call;
use super::super::links::Origin;
use super::super::name::Name;
use super::Place;
use crate::upstream::{Candidates, is_personal};

/// Which upstreams are asked, with whose credentials: what they say to somebody they have not said to everybody.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in super::super) struct Whose(Arc<[String]>);

impl Whose {
    pub(super) fn of(place: &Place) -> Self {
        let upstreams = place.candidates.iter().flat_map(Candidates::iter);
        Self(upstreams.map(|upstream| upstream.folder().to_owned()).collect())
    }
}

/// Whether a blob that a repository holds may be mounted elsewhere by this caller: as it may be read, so by policy, and with credentials of its own where
/// those count. Who may not uploads it, and so does everybody while that can't be found out: a mount never fails.
pub(in super::super) async fn lends(call: &Call<'_>, from: &Name, digest: &Digest) -> bool {
    let opened = async {
        let place = Place::of(call, from.clone(), "blob").await?;
        place.check_policy()?;
        place.opens(call, &format!("blobs/{digest}")).await
    };
    opened.await.unwrap_or_else(|error| refused(from, &error))
}

/// The same for a mount that names no source, without a question to any upstream: what is one user's is not offered.
pub(in super::super) async fn lends_to_all(call: &Call<'_>, from: &Name) -> bool {
    let open = async {
        match call.origin(from).await? {
            Origin::Cached(folder) if is_personal(&folder) => Ok(false),
            Origin::Cached(_) => Place::of(call, from.clone(), "blob").await?.check_policy().map(|()| true),
            Origin::Owned | Origin::Absent => Ok(true),
        }
    };
    open.await.unwrap_or_else(|error| refused(from, &error))
}

fn refused(from: &Name, error: &Error) -> bool {
    tracing::debug!("nothing is mounted from {from}: {}", error.message());
    false
}

/// Whether a list may name a repository: one that came with somebody's credentials is named to who comes with the same.
pub(in super::super) async fn is_listed(call: &Call<'_>, name: &Name) -> Result<bool> {
    if !call.cx.upstream.is_used() {
        return Ok(true);
    }
    let Some(Origin::Cached(folder)) = call.marked(name).await? else { return Ok(true) };
    if !is_personal(&folder) {
        return Ok(true);
    }
    let place = Place::of(call, name.clone(), "tags").await?;
    Ok(place.candidates.iter().flat_map(Candidates::iter).any(|upstream| *upstream.folder() == *folder))
}
