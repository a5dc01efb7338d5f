//! Blobs of upstreams: handed on while they are fetched, checked and stored; visible in the repository before the client has the last of it.

use futures_util::{FutureExt, StreamExt, stream};
use http::HeaderValue;
use tokio::time::Instant;

use super::super::super::prelude::*;
use super::super::{Call, download, error, keys};
use super::flights::{Desk, Seat};
use super::{Place, scope, target, text_of};
use crate::core::body::ByteStream;
use crate::core::flights::Flight;
use crate::upstream::{File, Fill, Request as Ask, Upstream, Verdict};

/// What becomes of a blob that the repository could not see.
#[derive(Clone)]
pub(super) enum Taken {
    /// Another repository had it here, and the upstream says that this one has it too.
    Here(u64, Arc<Upstream>),
    /// It is coming.
    Coming { fill: Arc<Fill>, upstream: Arc<Upstream>, linked: Option<Flight<bool>> },
}

/// `GET`, `HEAD` of a blob that the repository does not have yet.
pub(in super::super) async fn get_missing(
    call: &Call<'_>,
    place: &Place,
    digest: &Digest,
    request: &Request,
) -> Result<Response> {
    if !place.is_remote() {
        return Err(error::blob_unknown(digest));
    }
    if request.is_head() {
        let (size, upstream) = head(call, place, digest).await?.ok_or_else(|| error::blob_unknown(digest))?;
        let mut response = download::fresh(call, &place.name, digest);
        response.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        return Ok(place.sign(call, response, Some((&upstream.id, Verdict::Miss))));
    }
    let taken = take(call, place, digest).await?.ok_or_else(|| error::blob_unknown(digest))?;
    let (id, verdict) = match &taken {
        Taken::Here(_, upstream) => (Arc::clone(&upstream.id), Verdict::Revalidated),
        Taken::Coming { upstream, .. } => (Arc::clone(&upstream.id), Verdict::Miss),
    };
    let response = match taken {
        Taken::Here(size, _) => download::serve(call, &place.name, digest, size, request).await?,
        Taken::Coming { fill, linked, .. } => match linked {
            // A part is served from the whole: what is cut out of a stream is neither checked nor kept.
            Some(linked) if request.header(header::RANGE).is_some() || fill.length().is_none() => {
                linked.await.map_err(|error| Error::repeat(&error))?;
                let size = call.cx.objects.stat(&keys::blob(digest)?).await?.map(|meta| meta.size);
                let size = size.ok_or_else(|| error::blob_unknown(digest))?;
                download::serve(call, &place.name, digest, size, request).await?
            }
            linked => {
                let length = fill.length();
                let mut response = download::fresh(call, &place.name, digest);
                response.body = Body::stream(until_linked(fill.stream(), linked), length);
                Some(response)
            }
        },
    };
    let response = response.ok_or_else(|| error::blob_unknown(digest))?;
    Ok(place.sign(call, response, Some((&id, verdict))))
}

/// Hands out the last piece when the blob is visible: a client that has it all may ask for it again at once, and must not be sent upstream for it.
/// That it could not be made visible is no reason to keep back what is good.
fn until_linked(inner: ByteStream, linked: Option<Flight<bool>>) -> ByteStream {
    let Some(linked) = linked else { return inner };
    let state = Some((inner, None, linked));
    Box::pin(stream::unfold(state, |state| async move {
        let (mut inner, mut held, linked): (ByteStream, Option<Bytes>, Flight<bool>) = state?;
        loop {
            match inner.next().await {
                Some(Ok(chunk)) => {
                    if let Some(ready) = held.replace(chunk) {
                        return Some((Ok(ready), Some((inner, held, linked))));
                    }
                }
                Some(Err(error)) => return Some((Err(error), None)),
                None => {
                    if let Err(error) = linked.await {
                        tracing::warn!("a blob was fetched and could not be kept: {}", error.message());
                    }
                    return held.map(|last| (Ok(last), None));
                }
            }
        }
    }))
}

/// Size of a blob, and who has it; `None` if no upstream has.
async fn head(call: &Call<'_>, place: &Place, digest: &Digest) -> Result<Option<(u64, Arc<Upstream>)>> {
    if call.is_absent(place, digest, false) {
        return Ok(None);
    }
    let mut trouble = None;
    for (upstream, repository) in place.by_digest(&mut trouble) {
        match size_at(call, &upstream, &repository, digest).await {
            Ok(Some(size)) => return Ok(Some((size, upstream))),
            Ok(None) => {}
            Err(error) => trouble = Some(error),
        }
    }
    call.note_absent(place, digest, false, trouble)
}

async fn size_at(
    call: &Call<'_>,
    upstream: &Upstream,
    repository: &str,
    digest: &Digest,
) -> Result<Option<u64>> {
    let ask = Ask::head(target(upstream, repository, &format!("blobs/{digest}"))).scope(scope(repository));
    let Some(headers) = call.cx.upstream.head(upstream, &ask, &what(repository, digest)).await? else {
        return Ok(None);
    };
    let size = text_of(&headers, header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    size.map(Some).ok_or_else(|| call.cx.upstream.distrust(upstream, "it does not say how large a blob is"))
}

fn what(repository: &str, digest: &Digest) -> String {
    format!("the blob {digest} of {repository}")
}

/// Has a blob fetched, unless somebody is at it; `None` if no upstream has it.
pub(super) async fn take(call: &Call<'_>, place: &Place, digest: &Digest) -> Result<Option<Taken>> {
    if call.is_absent(place, digest, false) {
        return Ok(None);
    }
    let flight = call.oci.flights.blobs.join(&(place.name.clone(), place.asked(), digest.clone()), || {
        let (desk, place, digest) = (Desk::of(call), place.clone(), digest.clone());
        async move { take_now(&desk, &place, &digest).await }.boxed()
    });
    flight.await.map_err(|error| Error::repeat(&error))
}

async fn take_now(desk: &Desk, place: &Place, digest: &Digest) -> Result<Option<Taken>> {
    let call = &desk.call();
    let known = Instant::now();
    let here = call.cx.objects.stat(&keys::blob(digest)?).await?.map(|meta| meta.size);
    let mut trouble = None;
    for (upstream, repository) in place.by_digest(&mut trouble) {
        let seat = call.oci.flights.seats.take(&place.name, upstream.folder(), digest);
        let taken = async {
            // What is here, or on its way for another repository, is this one's too only if its upstream says so.
            if here.is_some() || !seat.alone {
                let Some(size) = size_at(call, &upstream, &repository, digest).await? else {
                    return Ok(None);
                };
                if here == Some(size)
                    && upstream.keeps()
                    && show(call, place, digest, size, &upstream, known).await?
                {
                    return Ok(Some(Taken::Here(size, Arc::clone(&upstream))));
                }
            }
            fetch(desk, place, digest, &upstream, &repository, seat).await
        };
        match taken.await {
            Ok(Some(taken)) => return Ok(Some(taken)),
            Ok(None) => {}
            Err(error) => trouble = Some(error),
        }
    }
    call.note_absent(place, digest, false, trouble)
}

async fn fetch(
    desk: &Desk,
    place: &Place,
    digest: &Digest,
    upstream: &Arc<Upstream>,
    repository: &str,
    seat: Seat,
) -> Result<Option<Taken>> {
    let call = &desk.call();
    let info = ObjectInfo::of(place.name.as_str()).digest(digest.to_string()).content_type(download::TYPE);
    let wanted = File {
        request: Ask::get(target(upstream, repository, &format!("blobs/{digest}"))).scope(scope(repository)),
        key: keys::blob(digest)?,
        what: what(repository, digest),
        digests: vec![digest.clone()],
        size: None,
        limit: call.oci.limits.artifact,
        info,
    };
    let Some(fill) = call.cx.upstream.fetch(&call.cx.objects, upstream, &wanted).await? else {
        return Ok(None);
    };
    tracing::info!(upstream = %upstream.id, "{} is being fetched", wanted.what);
    let linked = fill.is_kept().then(|| {
        call.oci.flights.links.join(&(place.name.clone(), digest.clone()), || {
            let (desk, place, digest) = (desk.clone(), place.clone(), digest.clone());
            let (fill, upstream) = (Arc::clone(&fill), Arc::clone(upstream));
            async move {
                // Nobody else may join while it is on its way, and not be asked whether it may.
                let _seat = seat;
                fill.stored().await?;
                let (call, known) = (desk.call(), Instant::now());
                let size = match fill.length() {
                    Some(size) => size,
                    None => call.cx.objects.stat(&keys::blob(&digest)?).await?.map_or(0, |meta| meta.size),
                };
                show(&call, &place, &digest, size, &upstream, known).await
            }
            .boxed()
        })
    });
    Ok(Some(Taken::Coming { fill, upstream: Arc::clone(upstream), linked }))
}

/// Makes a blob visible in a repository that is filled from an upstream. The blob was durable at `known`. `false` if it was removed meanwhile, or
/// the name has become somebody's here.
async fn show(
    call: &Call<'_>,
    place: &Place,
    digest: &Digest,
    size: u64,
    upstream: &Upstream,
    known: Instant,
) -> Result<bool> {
    if !call.mark_cached(&place.name, upstream.folder()).await? {
        return Ok(false);
    }
    call.write_link(&place.name, digest, size).await?;
    call.settle(&place.name, digest, size, known).await
}
