//! Other registries, cached: which of them are asked for a name, what is kept of their answers and for how long, and what happens while they
//! are slow, broken or lying.
//!
//! Protocols ask through [`Upstreams`] and say where something is and how it is read; nothing here knows a document format. What an upstream sent is
//! kept apart from what was published here: a cached name is not an owned one.

mod breaker;
pub mod client;
mod credentials;
mod documents;
mod entry;
mod exchange;
mod failure;
mod figures;
mod fill;
mod gather;
mod lookup;
mod provider;
mod rules;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use bytes::Bytes;
use moka::sync::Cache;

pub use breaker::State;
pub use documents::{Copy, Parse, Source};
pub use exchange::{Request, Upstream};
pub use figures::{Figures, Grant, Verdict};
pub use fill::{File, Fill};
pub use gather::{Gather, Gathered};
pub use provider::{Question, UpstreamProvider};
pub use rules::{Blocked, Policy};

use crate::config::upstream::{ProtocolUpstreams, UpstreamConfig};
use crate::core::error::{Error, Kind, Result};
use crate::core::protocol_name::ProtocolName;
use crate::core::secret::Secret;
use crate::core::time::Clock;
use crate::storage::{Edit, JsonDocument, Key, ObjectInfo, Objects, PRIVATE, Prefix};
use documents::Documents;
use exchange::Said;
use fill::Fills;

/// Configurations of a provider that are kept ready.
const CHAINS: u64 = 1000;
/// Between the id of an upstream that a provider gave and which one that is; no id has it.
const OWNER: char = '~';

/// What all upstreams of a process have in common.
#[derive(Clone, Default)]
pub struct Host {
    /// The time.
    pub clock: Clock,
    /// A file with certificates that the host's runtime trusts.
    pub ca_file: Option<PathBuf>,
}

/// The upstreams of one protocol.
pub struct Upstreams {
    protocol: ProtocolName,
    provider: Option<Arc<dyn UpstreamProvider>>,
    fixed: Option<Arc<Chain>>,
    /// By configuration, as a provider gave it: breakers and tokens outlive a request.
    given: Cache<u64, Arc<Chain>>,
    documents: Arc<Documents>,
    fills: Arc<Fills>,
    /// How many purges this process has heard of.
    purges: AtomicU64,
    host: Host,
}

/// The upstreams of one configuration, in the order in which they are asked.
struct Chain {
    list: Vec<Arc<Upstream>>,
    config: ProtocolUpstreams,
}

/// The upstreams that are asked for one name.
#[derive(Clone)]
pub struct Candidates {
    name: String,
    /// Everything that rules may call it, that name among them.
    names: Vec<String>,
    list: Vec<Arc<Upstream>>,
    /// Whether the name that was asked for says itself whose it is.
    pub within: bool,
    /// Whether their versions are shown beside our own.
    pub merge: bool,
    /// Whether a name that they have may be published here.
    pub allow_shadowing: bool,
}

impl Candidates {
    /// One alone, whatever the name.
    pub fn of(upstream: &Arc<Upstream>) -> Self {
        let list = vec![Arc::clone(upstream)];
        Self {
            name: String::new(),
            names: Vec::new(),
            list,
            within: false,
            merge: false,
            allow_shadowing: false,
        }
    }

    /// They, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.list.iter()
    }

    /// What they are asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Goes on only if an upstream's policy lets the name through.
    ///
    /// # Errors
    /// 403 that says why not.
    pub fn check_policy(&self, upstream: &Upstream) -> Result<()> {
        let Some(blocked) = upstream.policy.blocks_names(&self.names) else { return Ok(()) };
        let (name, reason) = (&self.name, &blocked.reason);
        tracing::info!(upstream = %upstream.id, "{name} {reason}");
        Err(Error::denied(format!("{name} {reason}")))
    }

    /// The same with the one in front whose folder this is, if it is among them: it had something of this name before.
    #[must_use]
    pub fn first(mut self, folder: &str) -> Self {
        self.list.sort_by_key(|upstream| upstream.folder != folder);
        self
    }
}

/// How often something was purged: other processes forget what they hold when it moves.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
struct Purges {
    count: u64,
}

impl JsonDocument for Purges {
    const LIMIT: u64 = 1024;
    const NAME: &'static str = "count of purges";
}

impl Upstreams {
    /// Those of the configuration, or of a provider. `bytes` of memory are for documents.
    ///
    /// # Errors
    /// An option that can't be used, named.
    pub fn new(
        protocol: ProtocolName,
        config: Option<&ProtocolUpstreams>,
        provider: Option<Arc<dyn UpstreamProvider>>,
        bytes: u64,
        host: Host,
    ) -> Result<Self> {
        let named =
            |error: Error| Error::invalid(format!("option `upstreams.{protocol}`: {}", error.message()));
        let fixed =
            config.map(|config| Chain::new(config, false, &host).map(Arc::new)).transpose().map_err(named)?;
        Ok(Self {
            protocol,
            provider,
            fixed,
            given: Cache::new(CHAINS),
            documents: Arc::new(Documents::new(protocol, bytes, host.clock.clone())),
            fills: Arc::new(Fills::new()),
            purges: AtomicU64::default(),
            host,
        })
    }

    /// Whether anything may ever be asked for.
    pub fn is_used(&self) -> bool {
        self.provider.is_some() || self.fixed.as_ref().is_some_and(|chain| !chain.list.is_empty())
    }

    /// Every upstream that this process knows, for numbers.
    pub fn known(&self) -> Vec<Arc<Upstream>> {
        let given = self.given.iter().map(|(_, chain)| chain).collect::<Vec<_>>();
        let all = self.fixed.iter().chain(&given).flat_map(|chain| chain.list.iter());
        let mut seen = HashSet::new();
        all.filter(|upstream| seen.insert(Arc::clone(&upstream.id))).cloned().collect()
    }

    /// Whether the configuration shows any own packages together with those of upstreams.
    pub fn may_merge(&self) -> bool {
        self.fixed.as_ref().is_some_and(|chain| !chain.config.merge.is_empty())
    }

    /// The upstreams that are asked for a name; `None` if it is not asked for.
    pub async fn candidates(&self, question: Question) -> Result<Option<Candidates>> {
        let Some(chain) = self.chain(&question).await? else { return Ok(None) };
        Ok(chain.candidates(vec![question.resource]))
    }

    /// The same for a name that may say itself whose it is. `rest_of` answers what an upstream with this namespace is asked for, if the name
    /// begins with that; then nobody else is asked. `also_called` are further names by which rules may call it.
    pub async fn candidates_within(
        &self,
        question: Question,
        rest_of: &(dyn Fn(&str) -> Option<String> + Sync),
        also_called: fn(&str) -> Option<String>,
    ) -> Result<Option<Candidates>> {
        let Some(chain) = self.chain(&question).await? else { return Ok(None) };
        Ok(chain.candidates_within(question.resource, rest_of, also_called))
    }

    async fn chain(&self, question: &Question) -> Result<Option<Arc<Chain>>> {
        match &self.provider {
            Some(provider) => match provider.resolve(question).await? {
                Some(config) => self.given_chain(&config).map(Some),
                None => Ok(None),
            },
            None => Ok(self.fixed.clone()),
        }
    }

    /// A provider may give a new object for every request; what it says is what counts.
    fn given_chain(&self, config: &Arc<ProtocolUpstreams>) -> Result<Arc<Chain>> {
        let mut hasher = DefaultHasher::new();
        // `Debug` of a secret says nothing, so those are added.
        format!("{config:?}").hash(&mut hasher);
        for upstream in &config.upstreams {
            secrets_of(upstream).for_each(|secret| secret.hash(&mut hasher));
        }
        let id = hasher.finish();
        if let Some(chain) = self.given.get(&id) {
            return Ok(chain);
        }
        let chain = Chain::new(config, true, &self.host).map_err(|error| {
            Error::internal("the upstream provider answered with something that can't be used")
                .with_source(error)
        })?;
        let chain = Arc::new(chain);
        self.given.insert(id, Arc::clone(&chain));
        Ok(chain)
    }

    /// The document that this process holds of the first candidate, if it is fresh: what most requests find. Otherwise see [`Self::document`].
    pub async fn held<D: Send + Sync + 'static>(
        &self,
        objects: &Objects,
        candidates: &Candidates,
        path: impl Fn(&Upstream) -> String + Send,
    ) -> Option<Copy<D>> {
        self.hear_of_purges(objects).await;
        let upstream = candidates.list.iter().find(|upstream| candidates.check_policy(upstream).is_ok())?;
        self.documents.held(upstream, &path(upstream))
    }

    /// A document, from the first candidate that has it; `None` if none has. One that had it before is not passed over because it fails: another
    /// one's could be anybody's.
    pub async fn document<D: Send + Sync + 'static>(
        &self,
        objects: &Objects,
        candidates: &Candidates,
        source: impl Fn(&Upstream) -> Source<D> + Send,
        newest: bool,
    ) -> Result<Option<Copy<D>>> {
        self.hear_of_purges(objects).await;
        let mut trouble = None;
        for upstream in &candidates.list {
            if let Err(blocked) = candidates.check_policy(upstream) {
                trouble.get_or_insert(blocked);
                continue;
            }
            let source = source(upstream);
            let failure = match self.documents.get(objects, upstream, &source, newest).await {
                Ok(Some(copy)) => return Ok(Some(copy)),
                Ok(None) => continue,
                Err(failure) => failure,
            };
            let error = failure.to_error(&upstream.id, &source.what);
            let stays = error.kind() == Kind::Denied
                || self.documents.had(objects, upstream, &source.path).await.unwrap_or(true);
            if stays {
                return Err(error);
            }
            trouble = Some(error);
        }
        trouble.map_or(Ok(None), Err)
    }

    /// Begins to fetch a file, or joins who is at it; `None` if the upstream has no such file.
    pub async fn fetch(
        &self,
        objects: &Objects,
        upstream: &Arc<Upstream>,
        file: &File,
    ) -> Result<Option<Arc<Fill>>> {
        let flight = self.fills.fetch(objects, upstream, file).await;
        flight.map_err(|failure| failure.to_error(&upstream.id, &file.what))
    }

    /// What a HEAD says: headers, if it is there.
    pub async fn head(
        &self,
        upstream: &Upstream,
        request: &Request,
        what: &str,
    ) -> Result<Option<http::HeaderMap>> {
        match upstream.exchange(request).await {
            Ok(Said::Here(answer)) => Ok(Some(answer.headers)),
            Ok(Said::Missing | Said::Unchanged) => Ok(None),
            Ok(Said::Refused(status, words)) => Err(documents::refusal(&upstream.id, what, status, &words)),
            Err(failure) => Err(failure.to_error(&upstream.id, what)),
        }
    }

    /// A small answer whole, kept nowhere; `None` if there is none.
    pub async fn ask(
        &self,
        upstream: &Upstream,
        request: &Request,
        what: &str,
        limit: u64,
    ) -> Result<Option<(http::HeaderMap, Bytes)>> {
        match upstream.exchange(request).await {
            Ok(Said::Here(answer)) => {
                let headers = answer.headers.clone();
                let bytes = documents::whole(answer, what, limit).await;
                let bytes = bytes.inspect_err(|failure| upstream.suffered(failure));
                bytes
                    .map(|bytes| Some((headers, bytes)))
                    .map_err(|failure| failure.to_error(&upstream.id, what))
            }
            Ok(Said::Missing | Said::Unchanged) => Ok(None),
            Ok(Said::Refused(status, words)) => Err(documents::refusal(&upstream.id, what, status, &words)),
            Err(failure) => Err(failure.to_error(&upstream.id, what)),
        }
    }

    /// What an upstream sent was not what it should be: it is not well.
    pub fn distrust(&self, upstream: &Upstream, why: &str) -> Error {
        let failure = failure::Failure::Nonsense(why.to_owned());
        upstream.suffered(&failure);
        failure.to_error(&upstream.id, "it")
    }

    /// Removes what is cached at `path` of every upstream of a configuration; how many objects those were.
    pub async fn purge(&self, objects: &Objects, candidates: &Candidates, path: &str) -> Result<u64> {
        let mut removed = 0;
        for upstream in &candidates.list {
            removed += self.documents.purge(objects, upstream, path).await?;
        }
        self.tell_of_purge(objects).await?;
        Ok(removed)
    }

    /// Removes every document that is cached.
    pub async fn purge_all(&self, objects: &Objects) -> Result<u64> {
        let prefix = Prefix::new(format!("{PRIVATE}/upstream/{}/", self.protocol))?;
        let (mut removed, mut after) = (0, None);
        loop {
            let page = objects.list(&prefix, after.as_deref(), 1000, false).await?;
            for listed in page.objects.iter().filter(|listed| !listed.key.as_str().ends_with("/purges.json"))
            {
                objects.delete(&listed.key, &ObjectInfo::default()).await?;
                removed += 1;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        self.tell_of_purge(objects).await?;
        Ok(removed)
    }

    fn purges_key(&self) -> Result<Key> {
        Key::new(format!("{PRIVATE}/upstream/{}/purges.json", self.protocol))
    }

    async fn tell_of_purge(&self, objects: &Objects) -> Result<()> {
        let edit = |purges: &mut Purges| {
            purges.count += 1;
            Ok(Edit::Changed(()))
        };
        objects.update(&self.purges_key()?, &ObjectInfo::default(), edit).await?;
        self.documents.forget();
        Ok(())
    }

    /// Forgets what this process holds if another one has purged: one small read per metadata TTL, however many documents are asked for.
    async fn hear_of_purges(&self, objects: &Objects) {
        let Ok(key) = self.purges_key() else { return };
        let Ok(purges) = objects.document::<Purges>(&key).await else { return };
        let count = purges.map_or(0, |purges| purges.document.count);
        if self.purges.swap(count, SeqCst) != count {
            self.documents.forget();
        }
    }
}

impl Chain {
    /// `given`: by a provider, which may say something else the next time.
    fn new(config: &ProtocolUpstreams, given: bool, host: &Host) -> Result<Self> {
        let mut list = Vec::new();
        let mut seen = HashSet::new();
        for upstream in &config.upstreams {
            if !seen.insert(upstream.id.to_lowercase()) {
                return Err(Error::invalid(format!("two upstreams are called `{}`", upstream.id)));
            }
            let wanted = config.enabled && upstream.enabled.unwrap_or(true);
            let made = Upstream::new(upstream, config, folder_of(upstream, given), host)?;
            if wanted {
                list.push(Arc::new(made));
            }
        }
        list.sort_by_key(|upstream| upstream.priority);
        Ok(Self { list, config: config.clone() })
    }

    /// For the first of these names, which mean the same; all of them for what is about no name.
    fn candidates(&self, names: Vec<String>) -> Option<Candidates> {
        let name = names.first()?.clone();
        if names.iter().any(|name| rules::is_kept_inside(&self.config.private, name)) {
            return None;
        }
        let list: Vec<_> = self
            .list
            .iter()
            .filter(|upstream| name.is_empty() || upstream.asks_for_any(&names))
            .cloned()
            .collect();
        let merge =
            self.config.merge.iter().any(|pattern| crate::core::pattern::name_matches(pattern, &name));
        let allow_shadowing = self.config.allow_shadowing || merge;
        (!list.is_empty()).then_some(Candidates { name, names, list, within: false, merge, allow_shadowing })
    }

    fn candidates_within(
        &self,
        name: String,
        rest_of: &(dyn Fn(&str) -> Option<String> + Sync),
        also_called: fn(&str) -> Option<String>,
    ) -> Option<Candidates> {
        let rests = self.list.iter().filter_map(|upstream| rest_of(&upstream.namespace));
        // The longest namespace is meant.
        let Some(rest) = rests.min_by_key(String::len) else {
            let also = also_called(&name);
            return self.candidates([Some(name), also].into_iter().flatten().collect());
        };
        let also = also_called(&rest);
        let mut found =
            self.candidates([Some(rest.clone()), also, Some(name)].into_iter().flatten().collect())?;
        found.list.retain(|upstream| rest_of(&upstream.namespace).as_ref() == Some(&rest));
        found.within = true;
        (!found.list.is_empty()).then_some(found)
    }
}

/// The upstream whose folder this is.
pub fn id_of(folder: &str) -> &str {
    folder.split_once(OWNER).map_or(folder, |(id, _)| id)
}

/// Whether what lies in this folder was brought in by what a provider gave, which may be one user's.
pub fn is_personal(folder: &str) -> bool {
    folder.contains(OWNER)
}

/// Where what is cached of an upstream lies. What one user was given is not for another user: a provider that gives each other credentials, or another
/// URL under the same id, gets a folder for each.
fn folder_of(upstream: &UpstreamConfig, given: bool) -> String {
    if !given {
        return upstream.id.clone();
    }
    let mut parts = vec![upstream.url.clone(), upstream.auth.username.clone().unwrap_or_default()];
    parts.extend(secrets_of(upstream).map(str::to_owned));
    let hash = crate::core::digest::Digest::sha256(serde_json::json!(parts).to_string().as_bytes()).hex();
    format!("{}{OWNER}{}", upstream.id, hash.get(..16).unwrap_or_default())
}

fn secrets_of(upstream: &UpstreamConfig) -> impl Iterator<Item = &str> {
    let auth = &upstream.auth;
    [&auth.password, &auth.token, &auth.header_value, &upstream.proxy]
        .into_iter()
        .flatten()
        .map(Secret::expose)
}

/// The policy of a configuration's first upstream.
#[cfg(test)]
pub(crate) fn policy_of(config: &ProtocolUpstreams) -> Policy {
    config.upstreams.first().map(|one| Policy::new(&one.policy, &config.policy)).unwrap_or_default()
}
