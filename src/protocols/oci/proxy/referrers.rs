//! What refers to a manifest at an upstream: from its list, or from the tag under which clients keep one where there is no list.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::super::super::prelude::*;
use super::super::name::fallback_tag;
use super::super::{Call, keys, model};
use super::{Place, next_page, remote_name, scope, target};
use crate::upstream::{Copy, Gather, Gathered, Request as Ask, Source, Upstream, Upstreams};

/// Pages that are read, at most, and bytes of each.
const MAX_PAGES: usize = 50;
const MAX_PAGE: u64 = 4 << 20;

/// The descriptors of what refers to `subject`, by digest; `None` if no upstream has any.
pub(in super::super) async fn list(
    call: &Call<'_>,
    place: &Place,
    subject: &Digest,
) -> Result<Option<Copy<BTreeMap<String, Value>>>> {
    let Some(candidates) = &place.candidates else { return Ok(None) };
    let source = |upstream: &Upstream| {
        let repository = remote_name(upstream, candidates.name());
        let path = keys::upstream_referrers(&repository, subject);
        let what = format!("the referrers of {}@{subject}", place.name);
        let gather = ReferrerGather {
            upstreams: Arc::clone(&call.cx.upstream),
            repository,
            subject: subject.clone(),
            what: what.clone(),
            most: call.oci.limits.referrers,
        };
        let request = Ask::gathered(Arc::new(gather));
        Source {
            request,
            path,
            what,
            limit: u64::MAX,
            immutable: false,
            parse: Arc::new(|bytes, _| parse(bytes)),
        }
    };
    call.cx.upstream.document(&call.cx.objects, candidates, source, false).await
}

fn parse(bytes: &Bytes) -> Result<BTreeMap<String, Value>> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::internal("what is kept of a list of referrers is no JSON").with_source(error))
}

struct ReferrerGather {
    upstreams: Arc<Upstreams>,
    repository: String,
    subject: Digest,
    what: String,
    most: usize,
}

impl std::fmt::Debug for ReferrerGather {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReferrerGather({})", self.what)
    }
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Value>>,
}

#[async_trait]
impl Gather for ReferrerGather {
    async fn gather(&self, upstream: &Upstream, _known: Option<&str>) -> Result<Option<Gathered>> {
        let found = match self.listed(upstream).await? {
            Some(found) => found,
            None => self
                .page(upstream, &format!("manifests/{}", fallback_tag(&self.subject)))
                .await?
                .map(|(found, _)| found)
                .unwrap_or_default(),
        };
        if found.is_empty() {
            return Ok(None);
        }
        let text = serde_json::to_vec(&found)
            .map_err(|error| Error::internal("a list of referrers does not serialise").with_source(error))?;
        let tag = Digest::sha256(&text).to_string();
        Ok(Some(Gathered { text: text.into(), tag }))
    }
}

impl ReferrerGather {
    /// `None` if the upstream has no such list.
    async fn listed(&self, upstream: &Upstream) -> Result<Option<BTreeMap<String, Value>>> {
        let mut found = BTreeMap::new();
        let mut rest = format!("referrers/{}", self.subject);
        for page in 0..MAX_PAGES {
            let Some((entries, next)) = self.page(upstream, &rest).await? else {
                if page == 0 {
                    return Ok(None);
                }
                break;
            };
            let before = found.len();
            found.extend(entries);
            let Some(next) = next.filter(|_| found.len() > before && found.len() < self.most) else { break };
            rest = format!("referrers/{}?{next}", self.subject);
        }
        Ok(Some(found))
    }

    async fn page(
        &self,
        upstream: &Upstream,
        rest: &str,
    ) -> Result<Option<(BTreeMap<String, Value>, Option<String>)>> {
        let ask = Ask::get(target(upstream, &self.repository, rest)).accept(model::OCI_INDEX);
        let ask = ask.scope(scope(&self.repository)).compressed();
        let Some((headers, bytes)) = self.upstreams.ask(upstream, &ask, &self.what, MAX_PAGE).await? else {
            return Ok(None);
        };
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|_| self.upstreams.distrust(upstream, "its list of referrers is none"))?;
        let entries = index.manifests.unwrap_or_default().into_iter();
        let entries = entries.filter_map(|entry| Some((digest_of(&entry)?, entry))).take(self.most).collect();
        Ok(Some((entries, next_page(&headers))))
    }
}

/// The digest of a descriptor, if it is one.
fn digest_of(entry: &Value) -> Option<String> {
    entry.get("mediaType")?.as_str()?;
    entry.get("size")?.as_u64()?;
    Digest::parse(entry.get("digest")?.as_str()?).map(|digest| digest.to_string())
}
