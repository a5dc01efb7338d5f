//! Documents of upstreams: served while they are fresh, served and asked for again for a while after that, and served for longer if nobody
//! answers. However many ask, one request goes out.

use std::any::Any;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, HeaderName, header};
use moka::sync::Cache;

use super::client::Answer;
use super::entry::{Entry, Place};
use super::exchange::{Known, Request, Said, Upstream};
use super::failure::Failure;
use super::figures::Verdict;
use super::gather::Gathered;
use crate::core::body::Body;
use crate::core::digest::Digest;
use crate::core::error::{Error, Kind, Result};
use crate::core::flights::{Flight, Flights};
use crate::core::protocol_name::ProtocolName;
use crate::core::time::{Clock, Timestamp};
use crate::storage::{Loaded, Objects};

/// Who could be served something old waits no longer than this for something new.
const PATIENCE: Duration = Duration::from_secs(3);
/// Texts longer than this are unpacked and parsed off the async threads.
const HEAVY: usize = 128 << 10;
/// What this process remembers not to be there.
const MISSING_KEPT: u64 = 50_000;

/// What to ask for, and how to read it.
pub struct Source<D> {
    /// The request.
    pub request: Request,
    /// Where it is kept, below the upstream's folder; made of checked names.
    pub path: String,
    /// What it is, for messages: `the packument of lodash`.
    pub what: String,
    /// Longest text in bytes, unpacked.
    pub limit: u64,
    /// Whether it never changes.
    pub immutable: bool,
    /// Reads the text, given when it came to be at the latest; what it refuses is neither served nor kept.
    pub parse: Parse<D>,
}

impl<D> Clone for Source<D> {
    fn clone(&self) -> Self {
        Self {
            request: self.request.clone(),
            path: self.path.clone(),
            what: self.what.clone(),
            parse: Arc::clone(&self.parse),
            ..*self
        }
    }
}

/// Reads a text, off the async threads if it is long.
pub type Parse<D> = Arc<dyn Fn(&Bytes, Timestamp) -> Result<D> + Send + Sync>;

/// A document of an upstream.
#[derive(Debug)]
pub struct Copy<D> {
    /// The document. No other one has its version: not one of another name, of another upstream, or by other credentials.
    pub loaded: Arc<Loaded<D>>,
    /// Whose it is.
    pub upstream: Arc<Upstream>,
    /// When the upstream last said that it is so.
    pub checked: Timestamp,
    /// How it came about.
    pub verdict: Verdict,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upstream({})", self.id)
    }
}

/// What this process holds.
#[derive(Clone)]
struct Held {
    entry: Entry,
    /// `Arc<Loaded<D>>`.
    loaded: Arc<dyn Any + Send + Sync>,
    size: u64,
}

/// The documents that this process knows; nothing in it is the truth.
pub(super) struct Documents {
    held: Cache<Place, Held>,
    missing: Cache<Place, Timestamp>,
    /// What a document was that is kept nowhere, and since when.
    seen: Cache<Place, (String, Timestamp)>,
    loading: Flights<Place, Option<Held>, Failure>,
    asking: Flights<Place, Option<(Held, Verdict)>, Failure>,
    protocol: ProtocolName,
    clock: Clock,
}

impl Documents {
    pub(super) fn new(protocol: ProtocolName, bytes: u64, clock: Clock) -> Self {
        let weigh =
            |_: &Place, held: &Held| u32::try_from(held.size.saturating_mul(2) + 1024).unwrap_or(u32::MAX);
        Self {
            held: Cache::builder().max_capacity(bytes).weigher(weigh).build(),
            missing: Cache::new(MISSING_KEPT),
            seen: Cache::new(MISSING_KEPT),
            loading: Flights::default(),
            asking: Flights::default(),
            protocol,
            clock,
        }
    }

    fn place(&self, upstream: &Upstream, path: &str) -> Place {
        Place::new(self.protocol, &upstream.folder, path)
    }

    /// Forgets and removes a document.
    pub(super) async fn purge(&self, objects: &Objects, upstream: &Upstream, path: &str) -> Result<u64> {
        let place = self.place(upstream, path);
        self.held.invalidate(&place);
        self.missing.invalidate(&place);
        place.purge(objects).await
    }

    /// Forgets everything that it knows: somebody has removed some of it.
    pub(super) fn forget(&self) {
        self.held.invalidate_all();
        self.missing.invalidate_all();
        self.seen.invalidate_all();
    }

    /// Whether the upstream ever had it.
    pub(super) async fn had(&self, objects: &Objects, upstream: &Upstream, path: &str) -> Result<bool> {
        let place = self.place(upstream, path);
        Ok(self.held.contains_key(&place) || place.look(objects).await?.is_some())
    }

    /// A document that may change, if it is here and fresh.
    pub(super) fn held<D: Send + Sync + 'static>(
        &self,
        upstream: &Arc<Upstream>,
        path: &str,
    ) -> Option<Copy<D>> {
        let held = self.held.get(&self.place(upstream, path))?;
        let fresh = held.entry.text.is_some() && held.entry.age(self.clock.now()) < upstream.ttl(false);
        if fresh { answer(upstream, Some(held), Verdict::Hit) } else { None }
    }

    /// A document of an upstream; `None` if it has no such thing. `newest`: the client wants to know how it is now.
    pub(super) async fn get<D: Send + Sync + 'static>(
        self: &Arc<Self>,
        objects: &Objects,
        upstream: &Arc<Upstream>,
        source: &Source<D>,
        newest: bool,
    ) -> Result<Option<Copy<D>>, Arc<Failure>> {
        let place = self.place(upstream, &source.path);
        let rules = &upstream.cache;
        let ttl = upstream.ttl(source.immutable);
        let now = self.clock.now();
        if !newest && self.missing.get(&place).is_some_and(|since| now.since(since) < rules.negative) {
            return Ok(answer(upstream, None, Verdict::Negative));
        }
        let mut held = self.held.get(&place);
        if held.as_ref().is_none_or(|held| held.entry.age(now) >= ttl) && rules.enabled {
            // Another process may have asked meanwhile.
            held = self.reload(objects, source, &place, held).await?;
        }
        let age = held.as_ref().map(|held| held.entry.age(now));
        if let Some(age) = age.filter(|age| *age < ttl && !newest) {
            tracing::trace!(upstream = %upstream.id, age = age.as_secs(), "{} is fresh", source.what);
            return Ok(answer(upstream, held, Verdict::Hit));
        }
        let refresh = self.refresh(objects, upstream, source, &place, held.as_ref());
        let Some((held, age)) = held.zip(age) else {
            let fresh = refresh.await?;
            return Ok(fresh.and_then(|(held, verdict)| answer(upstream, Some(held), verdict)));
        };
        if age < ttl + rules.while_revalidate && !newest {
            return Ok(answer(upstream, Some(held), Verdict::Stale));
        }
        let still_good = age < ttl + rules.if_error;
        let refreshed =
            if still_good { tokio::time::timeout(PATIENCE, refresh).await.ok() } else { Some(refresh.await) };
        match refreshed {
            Some(Ok(fresh)) => Ok(fresh.and_then(|(held, verdict)| answer(upstream, Some(held), verdict))),
            Some(Err(failure)) if !still_good => Err(failure),
            Some(Err(failure)) => {
                tracing::info!(upstream = %upstream.id, "{} is served as it was {} s ago: {failure}", source.what, age.as_secs());
                Ok(answer(upstream, Some(held), Verdict::Stale))
            }
            None => Ok(answer(upstream, Some(held), Verdict::Stale)),
        }
    }

    /// What the bucket has; read once, however many ask.
    fn reload<D: Send + Sync + 'static>(
        self: &Arc<Self>,
        objects: &Objects,
        source: &Source<D>,
        place: &Place,
        known: Option<Held>,
    ) -> Flight<Option<Held>, Failure> {
        self.loading.join(place, || {
            let (documents, objects) = (Arc::clone(self), objects.clone());
            let (source, place) = (source.clone(), place.clone());
            async move { documents.load(&objects, &place, &source, known).await.map_err(Failure::Ours) }
        })
    }

    /// What the bucket has, unless that is what is known.
    async fn load<D: Send + Sync + 'static>(
        &self,
        objects: &Objects,
        place: &Place,
        source: &Source<D>,
        known: Option<Held>,
    ) -> Result<Option<Held>> {
        let Some(entry) = place.look(objects).await? else { return Ok(known) };
        if let Some(known) = known.filter(|known| known.entry.text == entry.text) {
            let checked = known.entry.checked.max(entry.checked);
            let held = Held { entry: Entry { checked, ..entry }, ..known };
            self.held.insert(place.clone(), held.clone());
            return Ok(Some(held));
        }
        let Some(text) = entry.text.clone() else {
            let held = Held { entry, loaded: Arc::new(()), size: 0 };
            self.held.insert(place.clone(), held.clone());
            return Ok(Some(held));
        };
        let Some(bytes) = place.read(objects, &text, &source.what, source.limit).await? else {
            return Ok(None);
        };
        match parse(place, entry, bytes, &source.parse).await {
            Ok(held) => {
                self.held.insert(place.clone(), held.clone());
                Ok(Some(held))
            }
            // Another release may have written it, with other rules: it is asked for again.
            Err(error) => {
                tracing::warn!("{} can't be read as it is cached: {}", source.what, error.message());
                Ok(None)
            }
        }
    }

    /// Asks the upstream, unless somebody is at it: then waits for that.
    fn refresh<D: Send + Sync + 'static>(
        self: &Arc<Self>,
        objects: &Objects,
        upstream: &Arc<Upstream>,
        source: &Source<D>,
        place: &Place,
        held: Option<&Held>,
    ) -> Flight<Option<(Held, Verdict)>, Failure> {
        self.asking.join(place, || {
            let (documents, upstream, objects) = (Arc::clone(self), Arc::clone(upstream), objects.clone());
            let (source, held, place) = (source.clone(), held.cloned(), place.clone());
            async move { documents.ask(&objects, &upstream, &source, &place, held).await }
        })
    }

    async fn ask<D: Send + Sync + 'static>(
        &self,
        objects: &Objects,
        upstream: &Upstream,
        source: &Source<D>,
        place: &Place,
        held: Option<Held>,
    ) -> Result<Option<(Held, Verdict)>, Failure> {
        let mut request = source.request.clone();
        let had = held.filter(|held| held.entry.text.is_some());
        request.known = had.as_ref().map(|held| Known {
            etag: held.entry.etag.clone(),
            last_modified: held.entry.last_modified.clone(),
        });
        let began = self.clock.now();
        match news(upstream, &request, source).await? {
            News::Text(text) => {
                let Some(had) = had.filter(|had| had.entry.sum.as_ref() == Some(&text.sum)) else {
                    return self.take(objects, upstream, source, place, text, began).await.map(Some);
                };
                // The same again, from an upstream that does not know what it is known by.
                let Text { etag, last_modified, .. } = text;
                let entry = Entry { checked: began, etag, last_modified, ..had.entry };
                let held = self.renew(objects, upstream, place, Held { entry, ..had }).await?;
                Ok(Some((held, Verdict::Miss)))
            }
            News::Unchanged => {
                let Some(had) = had else {
                    return Err(Failure::Nonsense(
                        "it says that nothing has changed to who knows nothing".to_owned(),
                    ));
                };
                let entry = Entry { checked: began, ..had.entry };
                let held = self.renew(objects, upstream, place, Held { entry, ..had }).await?;
                Ok(Some((held, Verdict::Revalidated)))
            }
            News::Missing => {
                self.missing.insert(place.clone(), began);
                if had.is_some() {
                    // Written down, or the next process would go on serving it.
                    self.settle(objects, upstream, place, Entry { checked: began, ..Entry::default() })
                        .await?;
                    self.held.invalidate(place);
                }
                Ok(None)
            }
        }
    }

    /// Writes down that what is held is fresh.
    async fn renew(
        &self,
        objects: &Objects,
        upstream: &Upstream,
        place: &Place,
        held: Held,
    ) -> Result<Held, Failure> {
        let entry = self.settle(objects, upstream, place, held.entry.clone()).await?;
        if entry.text != held.entry.text {
            // Another process was told of something newer meanwhile, which that entry is of: it is read when somebody asks again.
            self.held.invalidate(place);
            return Ok(held);
        }
        let held = Held { entry, ..held };
        self.held.insert(place.clone(), held.clone());
        Ok(held)
    }

    /// Since when a document is what it is, as far as anybody knows.
    fn dated(&self, upstream: &Upstream, place: &Place, text: &Text, began: Timestamp) -> Timestamp {
        let said = text.last_modified.as_deref().and_then(Timestamp::parse_http_date);
        let since = said.filter(|said| *said <= began).unwrap_or(began);
        if upstream.cache.enabled {
            return since;
        }
        let seen = self.seen.get(place).filter(|(sum, _)| *sum == text.sum).map(|(_, since)| since);
        let since = seen.map_or(since, |seen| seen.min(since));
        self.seen.insert(place.clone(), (text.sum.clone(), since));
        since
    }

    /// Takes a document in: parsed before it is believed, written before it is named.
    async fn take<D: Send + Sync + 'static>(
        &self,
        objects: &Objects,
        upstream: &Upstream,
        source: &Source<D>,
        place: &Place,
        text: Text,
        began: Timestamp,
    ) -> Result<(Held, Verdict), Failure> {
        let since = Some(self.dated(upstream, place, &text, began));
        let Text { bytes, sum, etag, last_modified } = text;
        let (text, sum) = (Some(String::new()), Some(sum));
        let unnamed = Entry { checked: began, text, sum, since, etag, last_modified };
        let held = parse(place, unnamed, bytes.clone(), &source.parse).await.map_err(|error| {
            let failure = Failure::Nonsense(format!("{} can't be read: {}", source.what, error.message()));
            upstream.suffered(&failure);
            failure
        })?;
        if !upstream.cache.enabled {
            return Ok((held, Verdict::Miss));
        }
        let text = place.write(objects, bytes, began).await.map_err(Failure::Ours)?;
        let entry = Entry { text: Some(text), ..held.entry };
        self.settle(objects, upstream, place, entry.clone()).await?;
        let held = Held { entry, ..held };
        self.missing.invalidate(place);
        self.held.insert(place.clone(), held.clone());
        Ok((held, Verdict::Miss))
    }

    async fn settle(
        &self,
        objects: &Objects,
        upstream: &Upstream,
        place: &Place,
        entry: Entry,
    ) -> Result<Entry, Failure> {
        if !upstream.cache.enabled {
            return Ok(entry);
        }
        place.settle(objects, entry).await.map_err(Failure::Ours)
    }
}

/// A document as it is handed out; `None` if it was there, and is no more.
fn answer<D: Send + Sync + 'static>(
    upstream: &Arc<Upstream>,
    held: Option<Held>,
    verdict: Verdict,
) -> Option<Copy<D>> {
    upstream.figures.note(verdict);
    let held = held?;
    held.entry.text.as_ref()?;
    let loaded = held.loaded.downcast().ok()?;
    Some(Copy { loaded, upstream: Arc::clone(upstream), checked: held.entry.checked, verdict })
}

/// What an upstream says of a document.
enum News {
    Text(Text),
    Unchanged,
    Missing,
}

/// A document's text, and what it is known by.
struct Text {
    bytes: Bytes,
    /// What the bytes hash to.
    sum: String,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Text {
    async fn new(bytes: Bytes, etag: Option<String>, last_modified: Option<String>) -> Result<Self, Failure> {
        let hashed = bytes.clone();
        let sum = off_thread(bytes.len(), move || Digest::sha256(&hashed).hex()).await;
        Ok(Self { bytes, sum: sum.map_err(Failure::Ours)?, etag, last_modified })
    }
}

/// Asks for a document, and reads it whole within its limit.
async fn news<D>(upstream: &Upstream, request: &Request, source: &Source<D>) -> Result<News, Failure> {
    if let Some(gather) = &request.gather {
        let known = request.known.as_ref().and_then(|known| known.etag.as_deref());
        return Ok(match gather.gather(upstream, known).await.map_err(Failure::Ours)? {
            None => News::Missing,
            Some(gathered) if known == Some(&gathered.tag) => News::Unchanged,
            Some(Gathered { text, tag }) => News::Text(Text::new(text, Some(tag), None).await?),
        });
    }
    match upstream.exchange(request).await? {
        Said::Here(answer) => {
            let etag = text_of(&answer.headers, header::ETAG);
            let last_modified = text_of(&answer.headers, header::LAST_MODIFIED);
            let bytes = whole(answer, &source.what, source.limit)
                .await
                .inspect_err(|failure| upstream.suffered(failure))?;
            upstream.figures.received(bytes.len() as u64);
            Ok(News::Text(Text::new(bytes, etag, last_modified).await?))
        }
        Said::Unchanged => Ok(News::Unchanged),
        Said::Missing => Ok(News::Missing),
        Said::Refused(status, words) => {
            Err(Failure::Ours(refusal(&upstream.id, &source.what, status, &words)))
        }
    }
}

async fn parse<D: Send + Sync + 'static>(
    place: &Place,
    entry: Entry,
    bytes: Bytes,
    read: &Parse<D>,
) -> Result<Held> {
    let size = bytes.len() as u64;
    let read = Arc::clone(read);
    let since = entry.since();
    let document = off_thread(bytes.len(), move || read(&bytes, since)).await??;
    let loaded = Loaded { document, version: place.version(&entry), size };
    Ok(Held { loaded: Arc::new(loaded), entry, size })
}

async fn off_thread<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if bytes < HEAVY {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("work on an upstream's document failed").with_source(error))
}

/// The whole text of an answer, unpacked; never more than `limit` bytes of it in memory.
pub(super) async fn whole(answer: Answer, what: &str, limit: u64) -> Result<Bytes, Failure> {
    let gzip = text_of(&answer.headers, header::CONTENT_ENCODING);
    let length = text_of(&answer.headers, header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let too_large = || Failure::Nonsense(format!("{what} is larger than the limit of {limit} bytes"));
    let bytes = match Body::stream(answer.body, length).into_bytes(what, limit).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == Kind::TooLarge => return Err(too_large()),
        Err(error) => return Err(Failure::Unreachable(error.message().to_owned().into())),
    };
    match gzip.as_deref() {
        None | Some("identity") => Ok(bytes),
        Some("gzip" | "x-gzip") => {
            let unpack = move || {
                let mut text = Vec::new();
                let read = MultiGzDecoder::new(bytes.as_ref()).take(limit + 1).read_to_end(&mut text);
                read.map(|_| text)
            };
            let text = off_thread(HEAVY, unpack).await.map_err(Failure::Ours)?;
            let text = text.map_err(|_| Failure::Nonsense(format!("{what} came damaged")))?;
            if text.len() as u64 > limit { Err(too_large()) } else { Ok(text.into()) }
        }
        Some(other) => {
            Err(Failure::Nonsense(format!("{what} came in an encoding that nobody asked for: {other}")))
        }
    }
}

pub(super) fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// What an upstream, or the firewall before it, said of something that it does not give.
pub(super) fn refusal(upstream: &str, what: &str, status: u16, words: &str) -> Error {
    let error = Error::denied(format!("upstream {upstream} refuses {what} ({status}): {words}"));
    error.with_code("UPSTREAM_REFUSED")
}
