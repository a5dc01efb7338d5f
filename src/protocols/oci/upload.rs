//! Pushing a blob: at once, in one request after another, or by mounting what another repository has.
//!
//! Digest known before the first byte: straight to its final key, visible only once it matches. Unknown (docker, podman, crane: PATCH, then
//! PUT): to a place of its own, then copied inside the store. `Range` and `Content-Range` here are not those of RFC 9110.

use futures_util::StreamExt;
use tokio::time::Instant;

use super::super::prelude::*;
use super::gc::Guard;
use super::name::{self, Name};
use super::session::{self, Held};
use super::{Call, error, keys, proxy};
use crate::core::body::ByteStream;
use crate::core::task;
use crate::storage::{Staged, Writer};

/// `POST /v2/<name>/blobs/uploads/`.
pub(super) async fn start(call: &Call<'_>, name: &Name, mut request: Request) -> Result<Response> {
    let mount = request.query.get("mount").map(str::to_owned);
    let from = request.query.get("from").and_then(Name::parse);
    match from.as_ref().filter(|_| mount.is_some()) {
        Some(from) => {
            let scope = format!("repository:{name}:pull,push repository:{from}:pull");
            call.authorize_for(name, Action::Push, &scope).await?;
        }
        None => call.authorize(name, Action::Push).await?,
    }
    proxy::check_push(call, name).await?;
    let known = Instant::now();
    if let Some(wanted) = mount.as_deref().and_then(Digest::parse)
        && let Some(size) =
            find_source(call, from.as_ref(), request.query.get("from").is_some(), &wanted).await?
        && call.link(name, &wanted, size, known).await?
    {
        return Ok(created(call, name, &wanted));
    }
    if mount.is_none()
        && let Some(wanted) = request.query.get("digest")
    {
        let wanted = name::digest(wanted)?;
        let body = Incoming::of(call, &mut request)?;
        receive_whole(&call.guard(), name, &wanted, body).await?.link(call, name, &wanted).await?;
        return Ok(created(call, name, &wanted));
    }
    let sha512 = match request.query.get("digest-algorithm") {
        None | Some("sha256") => false,
        Some("sha512") => true,
        Some(_) => return Err(error::digest_invalid("`digest-algorithm` is sha256 or sha512")),
    };
    let (user, now) = (call.identity.user().unwrap_or_default(), call.cx.clock.now());
    call.oci.openings.check(user, now)?;
    let held = Held::open(call, name, sha512).await?;
    call.oci.openings.begun(user, &held.id, now);
    let least = call.cx.objects.capabilities().part_size;
    Ok(progress(call, name, &held, StatusCode::ACCEPTED).header("oci-chunk-min-length", least.to_string()))
}

/// The size of a blob that may be mounted. A source that is not there or that the caller may not pull is no error: the client uploads then.
async fn find_source(
    call: &Call<'_>,
    from: Option<&Name>,
    named: bool,
    wanted: &Digest,
) -> Result<Option<u64>> {
    match from {
        Some(from) if call.may_pull(from).await? => {
            let Some(link) = call.linked(from, wanted).await? else { return Ok(None) };
            Ok(proxy::lends(call, from, wanted).await.then_some(link.size))
        }
        None if !named => call.find_holder(wanted).await,
        _ => Ok(None),
    }
}

/// `GET`, `HEAD` of a session: how far it is.
pub(super) async fn status(call: &Call<'_>, name: &Name, id: &str) -> Result<Response> {
    call.authorize(name, Action::Push).await?;
    let held = Held::load(call, name, id).await?;
    Ok(progress(call, name, &held, StatusCode::NO_CONTENT))
}

/// `DELETE` of a session.
pub(super) async fn cancel(call: &Call<'_>, name: &Name, id: &str) -> Result<Response> {
    call.authorize(name, Action::Push).await?;
    Held::load(call, name, id).await?.abandon().await;
    call.oci.openings.ended(call.identity.user().unwrap_or_default(), id);
    Ok(Response::new(StatusCode::NO_CONTENT))
}

/// `PATCH` of a session: a chunk with its place, or a stream that goes on at the end.
pub(super) async fn append(call: &Call<'_>, name: &Name, id: &str, mut request: Request) -> Result<Response> {
    call.authorize(name, Action::Push).await?;
    let held = Held::load(call, name, id).await?;
    let incoming = Incoming::of(call, &mut request)?.placed(&request, held.session.stored())?;
    let held = detached(async move {
        let mut held = held;
        let mut writer = held.writer(incoming.length).await?;
        let received = incoming.into(&mut writer, Some(&mut held)).await;
        match received {
            Ok(()) => held.keep(writer).await.map(|()| held),
            Err(Broken::Body(error)) => {
                // What has come stays: the client asks how far it got, and goes on from there.
                held.keep(writer).await?;
                Err(error)
            }
            Err(Broken::Other(error)) => {
                held.give_back(writer).await;
                Err(error)
            }
        }
    })
    .await?;
    Ok(progress(call, name, &held, StatusCode::ACCEPTED))
}

/// `PUT` of a session with `?digest=`: the last bytes, if any, and the end.
pub(super) async fn finish(call: &Call<'_>, name: &Name, id: &str, mut request: Request) -> Result<Response> {
    call.authorize(name, Action::Push).await?;
    let Some(wanted) = request.query.get("digest") else {
        return Err(error::digest_invalid("finishing an upload needs `?digest=`"));
    };
    let wanted = name::digest(wanted)?;
    let held = match Held::load(call, name, id).await {
        Ok(held) => held,
        // Finished already, and the answer got lost on the way.
        Err(error) if error.kind() == Kind::NotFound && call.promised(name, &wanted).await?.is_some() => {
            drop(error);
            return Ok(created(call, name, &wanted));
        }
        Err(error) => return Err(error),
    };
    let incoming = Incoming::of(call, &mut request)?.placed(&request, held.session.stored())?;
    let (repository, digest) = (name.clone(), wanted.clone());
    let (user, guard) = (call.identity.user().unwrap_or_default(), call.guard());
    let (stored, held) = detached(async move {
        let mut held = held;
        let stored = if held.session.writer.is_none() {
            receive_whole(&guard, &repository, &digest, incoming).await
        } else {
            receive_rest(&mut held, &guard, &repository, &digest, incoming).await
        };
        if let Err(error) = &stored
            && matches!(error.kind(), Kind::Invalid | Kind::Denied)
        {
            held.abandon().await;
        }
        stored.map(|stored| (stored, held))
    })
    .await
    .inspect_err(|error| {
        if matches!(error.kind(), Kind::Invalid | Kind::Denied) {
            call.oci.openings.ended(user, id);
        }
    })?;
    stored.link(call, name, &wanted).await?;
    held.close().await;
    call.oci.openings.ended(user, id);
    Ok(created(call, name, &wanted))
}

/// Runs to its end even if the client vanishes: what has come by then is kept.
async fn detached<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    task::spawn(work).await.map_err(|error| Error::internal("an upload broke").with_source(error))?
}

/// A blob that is durable under its digest, and not visible anywhere yet.
struct Durable {
    size: u64,
    /// When it was known to be there.
    known: Instant,
}

impl Durable {
    async fn link(self, call: &Call<'_>, name: &Name, digest: &Digest) -> Result<()> {
        if call.link(name, digest, self.size, self.known).await? {
            return Ok(());
        }
        // It was there before, unused, and was removed in this very moment.
        Err(Error::unavailable("the blob went while it was pushed; push it again"))
    }
}

/// Bytes after which a long request writes down how far it is.
const CHECKPOINT: u64 = 64 << 20;

/// A body on its way in.
struct Incoming {
    stream: ByteStream,
    /// Its length, if known.
    length: Option<u64>,
    /// Most bytes of the whole blob.
    limit: u64,
}

/// Why receiving ended early.
enum Broken {
    /// The client broke it off: what came before is good.
    Body(Error),
    /// Anything else.
    Other(Error),
}

impl Incoming {
    fn of(call: &Call<'_>, request: &mut Request) -> Result<Self> {
        let body = request.take_body();
        if body.is_parsed() {
            return Err(error::upload_invalid(
                "the blob's bytes are lost: a body parser read it before the registry did; mount the registry before any \
                 body parser, or pass `rawBody`",
            ));
        }
        let length = body.length();
        let limit = call.oci.limits.artifact;
        if length.is_some_and(|length| length > limit) {
            return Err(Error::too_large("the blob", limit));
        }
        Ok(Self { stream: body.into_stream()?, length, limit })
    }

    /// Checks the chunk's place against what is stored, and its length against what it says.
    fn placed(self, request: &Request, stored: u64) -> Result<Self> {
        let Some(header) = request.header(header::CONTENT_RANGE) else { return Ok(self) };
        let (start, end) = chunk_range(header)
            .ok_or_else(|| error::upload_invalid("`Content-Range` is `<first byte>-<last byte>`"))?;
        if start != stored {
            return Err(error::out_of_order(stored));
        }
        let said = end - start + 1;
        match self.length {
            Some(length) if length != said => {
                Err(Error::invalid(format!("the body has {length} bytes, and `Content-Range` says {said}"))
                    .with_code("SIZE_INVALID"))
            }
            Some(_) => Ok(self),
            None => {
                let stream = Body::stream(self.stream, Some(said)).into_stream()?;
                Ok(Self { stream, length: Some(said), limit: self.limit })
            }
        }
    }

    /// Takes everything in, noting now and then in the session how far it is.
    async fn into(
        mut self,
        writer: &mut Writer,
        mut held: Option<&mut Held>,
    ) -> std::result::Result<(), Broken> {
        let mut noted = writer.length();
        while let Some(chunk) = self.stream.next().await {
            let chunk = chunk.map_err(Broken::Body)?;
            if writer.length() + chunk.len() as u64 > self.limit {
                return Err(Broken::Other(Error::too_large("the blob", self.limit)));
            }
            writer.write(chunk).await.map_err(Broken::Other)?;
            if let Some(held) = held.as_mut().filter(|_| writer.length() - noted >= CHECKPOINT) {
                held.checkpoint(writer).await.map_err(Broken::Other)?;
                noted = writer.length();
            }
        }
        Ok(())
    }
}

/// `0-1023`; some clients send `bytes 0-1023/*`.
pub(super) fn chunk_range(header: &str) -> Option<(u64, u64)> {
    let header = header.trim();
    let header = header.strip_prefix("bytes").map_or(header, |rest| rest.trim_start_matches([' ', '=']));
    let (start, end) = header.split('/').next()?.split_once('-')?;
    let number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    let (start, end) = (number(start)?, number(end)?);
    (start <= end && end < u64::MAX).then_some((start, end))
}

/// A whole blob in one body, straight to its final key.
async fn receive_whole(guard: &Guard, name: &Name, wanted: &Digest, incoming: Incoming) -> Result<Durable> {
    let mut writer =
        guard.objects.writer(Some(&keys::blob(wanted)?), &[wanted.algorithm()], incoming.length)?;
    let received = incoming.into(&mut writer, None).await;
    if let Err(Broken::Body(error) | Broken::Other(error)) = received {
        // That the client learns what went wrong matters more than what is left: it is swept.
        let _ = session::discard(writer).await;
        return Err(error);
    }
    publish(writer.finish().await?, guard, name, wanted, Condition::Always).await
}

/// What is stored of a blob already, and the rest in this body.
async fn receive_rest(
    held: &mut Held,
    guard: &Guard,
    name: &Name,
    wanted: &Digest,
    incoming: Incoming,
) -> Result<Durable> {
    let mut writer = held.writer(None).await?;
    match incoming.into(&mut writer, Some(held)).await {
        Ok(()) => {}
        Err(Broken::Body(error)) => {
            held.keep(writer).await?;
            return Err(error);
        }
        Err(Broken::Other(error)) => {
            held.give_back(writer).await;
            return Err(error);
        }
    }
    let staged = writer.finish().await?;
    let size = staged.digests().length;
    let hashed = staged.digests().get(wanted.algorithm()).is_some();
    if hashed {
        let staged = expect(staged, wanted).await?;
        // An earlier try may have got as far as this, and the client has shown again that it has the bytes.
        guard.clear(wanted).await?;
        let known = Instant::now();
        let stored = if held.session.reread { held.objects.stat(&keys::blob(wanted)?).await? } else { None };
        if stored.is_some_and(|meta| meta.size == size) {
            staged.discard().await?;
            return Ok(Durable { size, known });
        }
        if !held.session.reread {
            return publish(staged, guard, name, wanted, Condition::Absent).await;
        }
        return read_again(held, guard, staged, name, wanted).await;
    }
    read_again(held, guard, staged, name, wanted).await
}

/// Hashes the stored bytes on their way to the final key: by an algorithm that did not run along, or because they are not taken on trust.
async fn read_again(
    held: &Held,
    guard: &Guard,
    staged: Staged,
    name: &Name,
    wanted: &Digest,
) -> Result<Durable> {
    let objects = &held.objects;
    let place = keys::upload_data(&held.id)?;
    staged.publish(&place, Condition::Always, None, &ObjectInfo::default()).await?;
    let found = objects.read(&place, GetOptions::default(), &ObjectInfo::default()).await?;
    let found = found.ok_or_else(|| Error::internal("an upload's bytes are gone"))?;
    let length = Some(found.meta.size);
    let stream = Body::stream(found.body, length).into_stream()?;
    let copied = receive_whole(guard, name, wanted, Incoming { stream, length, limit: u64::MAX }).await;
    objects.delete(&place, &ObjectInfo::default()).await?;
    copied
}

/// Goes on only with the bytes that were announced; others are thrown away.
async fn expect(staged: Staged, wanted: &Digest) -> Result<Staged> {
    match staged.expect_digest(wanted) {
        Ok(()) => Ok(staged),
        Err(error) => {
            staged.discard().await?;
            Err(error.with_code("DIGEST_INVALID"))
        }
    }
}

/// Checks, and makes durable under the digest.
async fn publish(
    staged: Staged,
    guard: &Guard,
    name: &Name,
    wanted: &Digest,
    condition: Condition,
) -> Result<Durable> {
    let size = staged.digests().length;
    let staged = expect(staged, wanted).await?;
    let info =
        ObjectInfo::of(name.as_str()).digest(wanted.to_string()).content_type("application/octet-stream");
    guard.clear(wanted).await?;
    let known = Instant::now();
    // That it is there already is as good: equal digests are equal bytes.
    staged.publish(&keys::blob(wanted)?, condition, info.content_type.as_deref(), &info).await?;
    Ok(Durable { size, known })
}

fn created(call: &Call<'_>, name: &Name, digest: &Digest) -> Response {
    Response::new(StatusCode::CREATED)
        .header(header::LOCATION, call.site.link(&format!("{name}/blobs/{digest}")))
        .header("docker-content-digest", digest.to_string())
}

/// Where the session stands. No query in the link: some clients add `?digest=` blindly.
fn progress(call: &Call<'_>, name: &Name, held: &Held, status: StatusCode) -> Response {
    Response::new(status)
        .header(header::LOCATION, call.site.link(&format!("{name}/blobs/uploads/{}", held.id)))
        .header(header::RANGE, error::range(held.session.stored()))
        .header("docker-upload-uuid", &held.id)
}

#[cfg(test)]
mod tests {
    use super::chunk_range;

    #[test]
    fn chunk_ranges_are_not_those_of_http() {
        assert_eq!(chunk_range("0-1023"), Some((0, 1023)));
        assert_eq!(chunk_range("bytes 10-19/*"), Some((10, 19)));
        assert_eq!(chunk_range("bytes=10-19"), Some((10, 19)));
        for bad in ["", "5", "9-5", "-5", "5-", "a-b", "0-18446744073709551615", "+1-2"] {
            assert_eq!(chunk_range(bad), None, "{bad}");
        }
    }
}
