//! Packages of other registries: whose a name is, and the packument that is shown of it.
//!
//! A package that is here in any form is owned, and no upstream is asked for anything of that name, unless the configuration merges the two: a public
//! package of the same name and a higher version must not find its way in (dependency confusion). What is shown and what can be downloaded comes
//! from one packument, so the two never disagree.

mod audit;
mod filter;
mod merge;
mod provenance;
mod search;
mod tarball;

use std::time::Duration;

use moka::sync::Cache;

use super::error::not_found;
use super::json::Members;
use super::model::Packument;
use super::name::PackageName;
use super::{Npm, access, keys, read};
use crate::config::ProtocolConfig;
use crate::core::time::Timestamp;
use crate::protocols::prelude::*;
use crate::upstream::{self, Candidates, Copy, Request as Ask, Source, Upstream, Verdict};

pub(super) use audit::known as known_vulnerabilities;
pub(super) use provenance::{attestations, keys as signing_keys};
pub(super) use search::search;
pub(super) use tarball::{get_tarball, kept_tarball, purge, warm};

/// For how long an upstream is waited for that only adds to an answer.
const EXTRA: Duration = Duration::from_secs(2);

/// For how long an upstream is waited for before a name is taken.
const PUBLISH: Duration = Duration::from_secs(5);

/// A package as it is shown.
pub(crate) struct Shown {
    pub(crate) loaded: Arc<Loaded<Packument>>,
    /// The upstream that has it, if it is not ours alone, and how its packument came about.
    pub(crate) source: Option<(Arc<Upstream>, Verdict)>,
}

/// How this protocol proxies, and what it has made of packuments of upstreams: without what is not let through, or together with our own.
pub(crate) struct Proxy {
    /// Whether upstreams are searched too.
    pub(crate) search: bool,
    /// Whether tarballs are served on that an upstream has taken away.
    keep_removed: bool,
    /// Whether answers say how they came about.
    cache_status: bool,
    made: Cache<String, (Arc<Loaded<Packument>>, Option<Timestamp>)>,
}

impl Proxy {
    pub(crate) fn new(config: &ProtocolConfig, bytes: u64) -> Self {
        // Versions are slices of a text that is counted where it is held.
        let weigh = |_: &String, (loaded, _): &(Arc<Loaded<Packument>>, Option<Timestamp>)| {
            u32::try_from(loaded.document.releases.len() * 128 + 1024).unwrap_or(u32::MAX)
        };
        Self {
            search: config.feature("searchUpstream", true),
            keep_removed: config.feature("keepRemoved", true),
            cache_status: config.feature("cacheStatus", false),
            made: Cache::builder().max_capacity(bytes).weigher(weigh).build(),
        }
    }

    /// What was made under this version, as long as it holds.
    fn get(&self, version: &str, now: Timestamp) -> Option<Arc<Loaded<Packument>>> {
        let (loaded, until) = self.made.get(version)?;
        until.is_none_or(|until| now < until).then_some(loaded)
    }

    /// Keeps what was made of the packument of this version. What is served of it is told apart by when it was made, since a version that comes of
    /// age makes another one of it.
    fn keep(
        &self,
        packument: Packument,
        version: String,
        until: Option<Timestamp>,
    ) -> Arc<Loaded<Packument>> {
        let shown = match until {
            Some(until) => format!("{version}<{}", until.as_millis()),
            None => version.clone(),
        };
        let loaded = Loaded { size: 0, document: packument, version: crate::storage::Version(shown) };
        let loaded = Arc::new(loaded);
        self.made.insert(version, (Arc::clone(&loaded), until));
        loaded
    }
}

/// The package as it is shown to the caller. `newest`: as it is now.
pub(crate) async fn package(npm: &Npm, cx: &Cx, name: &PackageName, newest: bool) -> Result<Shown> {
    let key = keys::index(name)?;
    let own: Option<Arc<Loaded<Packument>>> =
        if newest { cx.objects.document_revalidated(&key).await? } else { read::cached(cx, name).await? };
    let visibility = own.as_ref().and_then(|own| own.document.notes.access);
    if !access::may_read(cx, name, visibility).await? {
        return Err(access::hidden(cx));
    }
    let Some(own) = own.filter(|own| own.document.is_owned()) else {
        let Some(candidates) = ask(cx, name, "packument").await? else { return Err(not_found()) };
        return of_upstream(npm, cx, name, &candidates).await?.ok_or_else(not_found);
    };
    let shown = if cx.upstream.may_merge() { merged(npm, cx, name, &own).await? } else { None };
    let shown = shown.unwrap_or(Shown { loaded: own, source: None });
    // There is a document also where nothing was published yet: for what is staged.
    if shown.loaded.document.is_new() { Err(not_found()) } else { Ok(shown) }
}

/// Whether the name is free for what an upstream has, and the caller may read that.
async fn is_theirs(cx: &Cx, name: &PackageName) -> Result<bool> {
    let own = read::cached(cx, name).await?;
    let visibility = own.as_ref().and_then(|own| own.document.notes.access);
    Ok(!own.is_some_and(|own| own.document.is_owned()) && access::may_read(cx, name, visibility).await?)
}

/// The upstreams of a name.
async fn ask(cx: &Cx, name: &PackageName, kind: &'static str) -> Result<Option<Candidates>> {
    let scope = name.scope().map(|scope| format!("@{scope}"));
    cx.upstreams(name.as_str(), scope.as_deref(), kind).await
}

/// What the first upstream that has the package shows of it.
async fn of_upstream(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    candidates: &Candidates,
) -> Result<Option<Shown>> {
    let limit = npm.limits.packument;
    let copy = cx.upstream.document(&cx.objects, candidates, |_| source(name, limit), false).await?;
    let Some(Copy { loaded, upstream, verdict, .. }) = copy else { return Ok(None) };
    let loaded = filter::let_through(npm, cx, name, loaded, &upstream)?;
    // An upstream keeps a document of a package that was taken away.
    let shown = Shown { loaded, source: Some((upstream, verdict)) };
    Ok(Some(shown).filter(|shown| !shown.loaded.document.releases.is_empty()))
}

/// Our own versions and those of an upstream, if the configuration wants that of this name. While the upstream fails: our own.
async fn merged(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    own: &Arc<Loaded<Packument>>,
) -> Result<Option<Shown>> {
    let Some(candidates) = ask(cx, name, "packument").await?.filter(|candidates| candidates.merge) else {
        return Ok(None);
    };
    let other = match of_upstream(npm, cx, name, &candidates).await {
        Ok(Some(other)) => other,
        Ok(None) => return Ok(None),
        Err(error) => {
            tracing::warn!(package = name.as_str(), "only our own versions are shown: {}", error.message());
            return Ok(None);
        }
    };
    let version = format!("{}+{}", own.version.0, other.loaded.version.0);
    let now = cx.clock.now();
    let loaded = npm.proxy.get(&version, now).unwrap_or_else(|| {
        npm.proxy.keep(merge::merge(&own.document, &other.loaded.document), version, None)
    });
    Ok(Some(Shown { loaded, source: other.source }))
}

/// Where a packument is, and how it is read.
fn source(name: &PackageName, limit: u64) -> Source<Packument> {
    let own_name = name.clone();
    Source {
        // The full form: the abbreviated one has no times, and both are made of it.
        request: Ask::get(name.escaped()).accept("application/json").compressed(),
        path: name.to_string(),
        what: format!("the packument of {name}"),
        limit,
        immutable: false,
        parse: Arc::new(move |bytes, since| Packument::parse_foreign(bytes, &own_name, since)),
    }
}

impl Packument {
    /// Whether the name is taken here: by versions, by what became of them, or by one that waits.
    pub(super) fn is_owned(&self) -> bool {
        !self.is_new() || !self.notes.staged.is_empty()
    }

    /// Another registry's packument. What it says beside what npm knows is its own affair. Where it does not say when versions came, they came by
    /// `since`: clients believe that nothing is newer than `modified`, so the epoch would make everything old enough.
    fn parse_foreign(bytes: &Bytes, name: &PackageName, since: Timestamp) -> Result<Self> {
        let mut packument = Self::parse(bytes)?;
        if packument.name != name.as_str() {
            return Err(Error::invalid("it is the packument of another package"));
        }
        packument.notes = super::model::Notes::default();
        packument.releases.iter_mut().for_each(|release| release.foreign = true);
        let undated = packument.releases.iter().any(|one| !packument.time.contains_key(one.version.as_ref()));
        if undated && !packument.time.contains_key("modified") {
            let said = Members::parse(bytes).and_then(|members| members.text("modified"));
            let said = said.filter(|text| Timestamp::parse_rfc3339(text).is_some());
            packument.time.insert("modified".to_owned(), said.unwrap_or_else(|| since.rfc3339()));
        }
        Ok(packument)
    }
}

/// The upstream that has a package of this name.
async fn whose(npm: &Npm, cx: &Cx, name: &PackageName, candidates: &Candidates) -> Result<Option<Arc<str>>> {
    let late = |_| Err(Error::unavailable("the upstream takes too long"));
    let found = tokio::time::timeout(PUBLISH, of_upstream(npm, cx, name, candidates)).await;
    let source = found.unwrap_or_else(late)?.and_then(|shown| shown.source);
    Ok(source.map(|(upstream, _)| Arc::clone(&upstream.id)))
}

/// Puts a refusal to change what is not here: where it is an upstream's, 404 would leave somebody who sees the package at a loss.
pub(super) async fn explain(npm: &Npm, cx: &Cx, name: &PackageName, refusal: Error) -> Error {
    if refusal.kind() != Kind::NotFound || !cx.upstream.is_used() {
        return refusal;
    }
    let whose = async {
        if !is_theirs(cx, name).await? {
            return Ok(None);
        }
        match ask(cx, name, "packument").await? {
            Some(candidates) => whose(npm, cx, name, &candidates).await,
            None => Ok(None),
        }
    };
    match whose.await {
        Ok(Some(upstream)) => Error::denied(format!(
            "{name} is a package of upstream {upstream}; only what was published here can be changed here"
        )),
        Ok(None) => refusal,
        Err(error) => {
            tracing::info!(package = name.as_str(), "nobody can say whose it is: {}", error.message());
            refusal
        }
    }
}

/// Goes on unless the name belongs to a package of an upstream: who publishes that by mistake would hide it from everybody here.
pub(super) async fn may_take_name(npm: &Npm, cx: &Cx, name: &PackageName) -> Result<()> {
    if !cx.upstream.is_used() {
        return Ok(());
    }
    let own = read::cached(cx, name).await?;
    if own.is_some_and(|own| own.document.is_owned()) {
        return Ok(());
    }
    let Some(candidates) = ask(cx, name, "packument").await?.filter(|all| !all.allow_shadowing) else {
        return Ok(());
    };
    match whose(npm, cx, name, &candidates).await {
        Ok(None) => Ok(()),
        Ok(Some(upstream)) => Err(Error::denied(format!(
            "{name} is a package of upstream {upstream}, and publishing it here would hide that; choose another name, or set `upstreams.npm.allowShadowing`"
        ))),
        // Work goes on while an upstream is away: this guards against a mistake, not against an enemy.
        Err(error) => {
            tracing::info!(
                package = name.as_str(),
                "nobody can say whether the name is free upstream: {}",
                error.message()
            );
            Ok(())
        }
    }
}

/// Adds `Cache-Status` where that is switched on.
pub(super) fn describe(npm: &Npm, response: Response, source: Option<&(Arc<Upstream>, Verdict)>) -> Response {
    match source.filter(|_| npm.proxy.cache_status) {
        Some((upstream, verdict)) => response.header("cache-status", verdict.header(&upstream.id)),
        None => response,
    }
}

/// Every upstream that may be asked about a whole protocol, not about a name.
async fn all(cx: &Cx, kind: &'static str) -> Result<Vec<Arc<upstream::Upstream>>> {
    Ok(cx.upstreams("", None, kind).await?.map(|all| all.iter().cloned().collect()).unwrap_or_default())
}
