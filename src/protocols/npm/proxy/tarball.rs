//! Tarballs of other registries: checked against the packument that named them, stored on the way to the first who asks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use super::super::error::not_found;
use super::super::json::Members;
use super::super::model::{Release, short_hash};
use super::super::name::PackageName;
use super::super::{Npm, access, download, keys, read, version};
use super::{Shown, ask, package, source};
use crate::core::time::Timestamp;
use crate::protocols::files::{self, FileHead};
use crate::protocols::prelude::*;
use crate::upstream::{File, Fill, Request as Ask, Upstream};

/// Up to so many bytes a tarball is held back until it is found to be what it should be.
const SMALL: u64 = 64 << 10;

/// A tarball as its packument names it.
struct Named {
    url: String,
    /// What it must hash to: the strongest that is known.
    digest: Option<Digest>,
}

impl Named {
    fn of(release: &Release) -> Option<Self> {
        let dist = Members::parse(&release.manifest)?.object("dist")?;
        let integrity = dist.text("integrity").unwrap_or_default();
        let by = |algorithm: Algorithm| {
            let mut all = integrity.split_ascii_whitespace().filter_map(|one| one.split_once('-'));
            let (_, hash) = all.find(|(name, _)| *name == algorithm.name())?;
            let bytes = STANDARD.decode(hash.split('?').next()?).ok()?;
            Digest::from_hex(algorithm, &hex::encode(bytes))
        };
        let shasum = || Digest::from_hex(Algorithm::Sha1, &dist.text("shasum")?.to_ascii_lowercase());
        let digest = by(Algorithm::Sha512)
            .or_else(|| by(Algorithm::Sha256))
            .or_else(|| by(Algorithm::Sha1))
            .or_else(shasum);
        Some(Self { url: dist.text("tarball")?, digest })
    }

    /// How it is presented. By what it must hash to it is known before it is here.
    fn head(&self, head: &FileHead) -> FileHead {
        let known = || self.digest.as_ref().map(|digest| ETag::strong(&digest.hex()));
        FileHead { etag: head.etag.clone().or_else(known), ..head.clone() }
    }

    fn file(&self, npm: &Npm, upstream: &Upstream, name: &PackageName, version: &str) -> Result<File> {
        let hash = self.digest.as_ref().map(ToString::to_string);
        // One that nobody knows the hash of is told apart by its address.
        let mark = short_hash(&[hash.as_ref().unwrap_or(&self.url).as_bytes()]);
        Ok(File {
            request: Ask::get(self.url.clone()),
            key: keys::cached(upstream.folder(), name, version, &mark)?,
            what: format!("the tarball of {name} {version}"),
            digests: self.digest.iter().cloned().collect(),
            size: None,
            limit: npm.limits.artifact,
            info: ObjectInfo::of(name.as_str()).version(version).content_type("application/octet-stream"),
        })
    }
}

/// GET and HEAD of a tarball that is not ours.
pub(crate) async fn get_tarball(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    release: &Release,
    upstream: &Arc<Upstream>,
    request: &Request,
    head: &FileHead,
) -> Result<Response> {
    let named = Named::of(release).ok_or_else(not_found)?;
    let (head, file) = (&named.head(head), named.file(npm, upstream, name, &release.version)?);
    if let Some(response) = files::serve(cx, request, &file.key, head, &file.info).await? {
        return Ok(response);
    }
    if request.is_head() {
        return size_of(cx, upstream, &file, head).await;
    }
    let flight = fetch(cx, upstream, &file).await?;
    if request.header(header::RANGE).is_some() && flight.is_kept() {
        // A part can't be checked: it is cut out of what was.
        flight.stored().await?;
        return files::serve(cx, request, &file.key, head, &file.info).await?.ok_or_else(not_found);
    }
    let mut response = coming(head, flight.is_kept());
    response.body = Body::stream(flight.stream(), flight.length());
    if flight.length().is_some_and(|length| length <= SMALL) {
        // What is wrong with it is then said, where a longer one can only be broken off.
        response.body = response.body.into_bytes(&file.what, SMALL).await?.into();
    }
    Ok(response)
}

/// The head of an answer with what is not here yet: the same as when it is, as far as that is known. `kept`: whether it will be here.
fn coming(head: &FileHead, kept: bool) -> Response {
    let mut response = Response::new(StatusCode::OK)
        .static_header(header::CONTENT_TYPE, head.content_type)
        .static_header(header::CACHE_CONTROL, head.cache_control)
        .static_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if kept {
        response = response.static_header(header::ACCEPT_RANGES, "bytes");
    }
    match &head.etag {
        Some(tag) => response.etag(tag),
        None => response,
    }
}

/// A HEAD of what is not here yet asks no more of the upstream.
async fn size_of(cx: &Cx, upstream: &Upstream, file: &File, head: &FileHead) -> Result<Response> {
    let headers =
        cx.upstream.head(upstream, &file.request.as_head(), &file.what).await?.ok_or_else(not_found)?;
    let mut response = coming(head, upstream.keeps());
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if let Some(length) = length {
        response.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(response)
}

async fn fetch(cx: &Cx, upstream: &Arc<Upstream>, file: &File) -> Result<Arc<Fill>> {
    if file.digests.is_empty() {
        tracing::info!(upstream = %upstream.id, "{} is not checked: nobody says what it hashes to", file.what);
    }
    let flight = cx.upstream.fetch(&cx.objects, upstream, file).await?;
    flight.ok_or_else(|| {
        Error::not_found(format!("upstream {} lists {} and does not have it", upstream.id, file.what))
    })
}

/// Fetches a package ahead of the first who asks: its packument and the tarball of one version (`name`, `name@version`, `name@tag`).
pub(crate) async fn warm(npm: &Npm, cx: &Cx, wanted: &str) -> Result<u64> {
    let (text, spec) = match wanted.rsplit_once('@').filter(|(name, _)| !name.is_empty()) {
        Some((name, spec)) => (name, spec),
        None => (wanted, "latest"),
    };
    let name = PackageName::parse(text)?;
    let Shown { loaded, source } = package(npm, cx, &name, false).await?;
    let Some((upstream, _)) = source else { return Ok(0) };
    let packument = &loaded.document;
    let found = packument.tagged(spec).or_else(|| packument.release(spec)).or_else(|| {
        let all = packument.releases.iter().map(|release| release.version.as_ref());
        packument.release(version::max_satisfying(spec, all, None)?)
    });
    let release = found.ok_or_else(|| Error::not_found(format!("there is no {text}@{spec}")))?;
    if !release.foreign {
        return Ok(0);
    }
    let named = Named::of(release).ok_or_else(not_found)?;
    let file = named.file(npm, &upstream, &name, &release.version)?;
    if cx.objects.stat(&file.key).await?.is_some() {
        return Ok(0);
    }
    fetch(cx, &upstream, &file).await?.stored().await?;
    Ok(1)
}

/// Removes what is cached of a package, or of all.
pub(crate) async fn purge(cx: &Cx, name: Option<&str>) -> Result<u64> {
    let Some(name) = name else {
        let documents = cx.upstream.purge_all(&cx.objects).await?;
        return Ok(documents + remove(cx, &keys::cache()?).await?);
    };
    let name = PackageName::parse(name)?;
    let Some(candidates) = ask(cx, &name, "packument").await? else { return Ok(0) };
    // The documents first: what they name may go once nothing names it.
    let mut removed = cx.upstream.purge(&cx.objects, &candidates, &source(&name, 0).path).await?;
    for upstream in candidates.iter() {
        removed += remove(cx, &keys::cached_folder(upstream.folder(), &name)?).await?;
    }
    Ok(removed)
}

async fn remove(cx: &Cx, prefix: &Prefix) -> Result<u64> {
    let (mut removed, mut after) = (0, None);
    loop {
        let page = cx.objects.list(prefix, after.as_deref(), 1000, false).await?;
        for listed in page.objects {
            cx.objects.delete(&listed.key, &ObjectInfo::default()).await?;
            removed += 1;
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(removed),
        }
    }
}

/// A tarball that was cached before its version, or its package, was taken away upstream: an install by a lockfile must not break because of that.
/// `None` if there is none, or if that is not wanted.
pub(crate) async fn kept_tarball(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    version: &str,
    request: &Request,
) -> Result<Option<Response>> {
    if !npm.proxy.keep_removed
        || !cx.upstream.is_used()
        || version::clean(version).as_deref() != Some(version)
    {
        return Ok(None);
    }
    let own = read::cached(cx, name).await?;
    let visibility = own.as_ref().and_then(|own| own.document.notes.access);
    if own.is_some_and(|own| own.document.is_owned()) || !access::may_read(cx, name, visibility).await? {
        return Ok(None);
    }
    let Some(candidates) = ask(cx, name, "tarball").await? else { return Ok(None) };
    for upstream in candidates.iter() {
        let policy = &upstream.policy;
        let covers = |range: &str| version::any_in(range, std::iter::once(version));
        // Nobody knows any more when it came out; old enough to be here is old enough.
        let blocked = policy.blocks_name(name.as_str()).is_some()
            || policy.blocks(name.as_str(), Some(Timestamp::default()), cx.clock.now(), covers).is_some();
        let Some(key) = (if blocked { None } else { find_kept(cx, name, version, upstream).await? }) else {
            continue;
        };
        tracing::info!(upstream = %upstream.id, "{name} {version} is served as it was cached; it is gone there");
        let head = FileHead {
            content_type: "application/octet-stream",
            etag: None,
            cache_control: "private, no-cache",
        };
        let info = ObjectInfo::of(name.as_str()).version(version);
        return Ok(files::serve(cx, request, &key, &head, &info)
            .await?
            .map(|response| download::describe(response, None)));
    }
    Ok(None)
}

async fn find_kept(cx: &Cx, name: &PackageName, version: &str, upstream: &Upstream) -> Result<Option<Key>> {
    let prefix = keys::cached_version(upstream.folder(), name, version)?;
    let page = cx.objects.list(&prefix, None, 10, false).await?;
    let mut found: Vec<_> =
        page.objects.into_iter().filter(|listed| keys::is_cached_of(&prefix, &listed.key)).collect();
    found.sort_by_key(|listed| listed.modified);
    Ok(found.pop().map(|listed| listed.key))
}
