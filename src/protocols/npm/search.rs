//! `GET /-/v1/search`, over the index.

use serde_json::{Value, json};

use super::NAME;
use super::access;
use super::inventory::Shown;
use super::model::Person;
use super::name::PackageName;
use super::query::Query;
use super::{Npm, proxy};
use crate::index::{Hit, Wanted};
use crate::protocols::prelude::*;

/// Longest text.
const MAX_TEXT: usize = 512;
/// Most packages of one answer, and how many without a word.
const MAX_SIZE: usize = 250;
const SIZE: usize = 20;
/// How far a search may be leafed through.
const MAX_FROM: usize = 10_000;
/// Matches that are looked at where not everybody may see them all. What is beyond is neither shown nor counted.
const LOOKED_AT: usize = 1000;
/// Of these, so many at a time.
const BATCH: usize = 100;

/// What is shown of a search, and how much there is.
#[derive(Default)]
struct Answer {
    objects: Vec<Value>,
    total: usize,
    /// Whether `total` is all that there is.
    complete: bool,
}

/// Answers a search. Only packages that the caller may read are in it, and are counted.
pub(crate) async fn search(npm: &Npm, cx: &Cx, request: &Request) -> Result<Response> {
    let text = request.query.get("text").unwrap_or_default();
    if text.len() > MAX_TEXT {
        return Err(Error::invalid(format!("the search text is longer than {MAX_TEXT} bytes")));
    }
    let number = |name: &str| request.query.get(name).and_then(|text| text.parse::<usize>().ok());
    let (from, size) = (number("from").unwrap_or(0), number("size").unwrap_or(SIZE).min(MAX_SIZE));
    if from > MAX_FROM {
        return Err(Error::invalid(format!("`from` is larger than {MAX_FROM}; use more words instead")));
    }
    let mut answer = find(cx, &Query::parse(text), from, size).await?;
    if npm.proxy.search && cx.upstream.is_used() && !text.is_empty() {
        add_upstream(cx, &mut answer, text, from, size).await?;
    }
    let time = cx.clock.now().http_date();
    let mut value = json!({ "objects": answer.objects, "total": answer.total, "time": time });
    if let Some(object) = value.as_object_mut().filter(|_| !answer.complete) {
        object.insert("incomplete".to_owned(), Value::from(true));
    }
    Ok(Response::json(StatusCode::OK, &value).static_header(header::CACHE_CONTROL, "private, no-cache"))
}

/// Fills up the page with what upstreams have, after everything that is ours.
async fn add_upstream(cx: &Cx, answer: &mut Answer, text: &str, from: usize, size: usize) -> Result<()> {
    let skip = from.saturating_sub(answer.total);
    let room = size - answer.objects.len().min(size);
    let theirs = proxy::search(cx, text, skip.saturating_add(room)).await?;
    answer.objects.extend(theirs.objects.into_iter().skip(skip).take(room));
    answer.total += theirs.total;
    answer.complete &= theirs.complete;
    Ok(())
}

async fn find(cx: &Cx, query: &Query, from: usize, size: usize) -> Result<Answer> {
    let wanted = query.wanted();
    let page = cx.index.search(&wanted, from, size).await?;
    if page.private == 0 && !query.narrows() && !cx.auth.has_private(NAME) {
        let objects = page.hits.iter().take(size).filter_map(|hit| Some(object(cx, hit, &shown(hit)?)));
        return Ok(Answer { objects: objects.collect(), total: page.total, complete: true });
    }
    let mut answer = Answer::default();
    for looked in (0..LOOKED_AT).step_by(BATCH) {
        let found = cx.index.search(&wanted, looked, BATCH).await?;
        for hit in &found.hits {
            let Some(object) = visible(cx, query, hit).await? else { continue };
            if (from..from.saturating_add(size)).contains(&answer.total) {
                answer.objects.push(object);
            }
            answer.total += 1;
        }
        if looked + BATCH >= found.total {
            answer.complete = true;
            break;
        }
    }
    Ok(answer)
}

/// A package as it stands in the answer, if it is what is looked for and the caller may read it.
async fn visible(cx: &Cx, query: &Query, hit: &Hit) -> Result<Option<Value>> {
    let (Some(shown), Ok(name)) = (shown(hit), PackageName::parse(&hit.name)) else { return Ok(None) };
    let object = object(cx, hit, &shown);
    let fits = query.accepts(&object) && access::may_read(cx, &name, shown.access).await?;
    Ok(fits.then_some(object))
}

/// Names of the packages that have `user` among their owners, and that the caller may read.
pub(crate) async fn owned_by(cx: &Cx, user: &str) -> Result<Vec<String>> {
    let wanted = Wanted { people: vec![user.to_owned()], ..Wanted::default() };
    let (mut owned, mut looked) = (Vec::new(), 0);
    loop {
        let found = cx.index.search(&wanted, looked, BATCH).await?;
        looked += BATCH;
        for hit in &found.hits {
            let (Some(shown), Ok(name)) = (shown(hit), PackageName::parse(&hit.name)) else { continue };
            let owns = shown.maintainers.iter().any(|one| one.name == user);
            if owns && access::may_read(cx, &name, shown.access).await? {
                owned.push(hit.name.clone());
            }
        }
        if looked >= found.total {
            return Ok(owned);
        }
    }
}

fn shown(hit: &Hit) -> Option<Shown> {
    serde_json::from_str(hit.shown.as_ref()?.get()).ok()
}

/// A package in the form that clients know: every one of them reads some of it unguarded.
pub(super) fn object(cx: &Cx, hit: &Hit, shown: &Shown) -> Value {
    let scope = hit.name.strip_prefix('@').and_then(|name| name.split_once('/')).map(|(scope, _)| scope);
    let mut package = json!({
        "name": hit.name,
        "scope": scope.unwrap_or("unscoped"),
        "version": shown.version,
        "keywords": hit.keywords,
        "date": shown.date,
        // pnpm fails on a publisher without a name.
        "publisher": shown.publisher.as_ref().map_or_else(|| json!({ "username": "", "email": "" }), person),
        "maintainers": shown.maintainers.iter().map(person).collect::<Vec<_>>(),
        "links": links(cx, &hit.name, shown),
    });
    if let Some(object) = package.as_object_mut() {
        let description = Some(&hit.description).filter(|text| !text.is_empty());
        for (key, text) in [("description", description), ("license", shown.license.as_ref())] {
            object.extend(text.map(|text| (key.to_owned(), Value::from(text.as_str()))));
        }
        object.extend(shown.author.as_ref().map(|author| ("author".to_owned(), json!({ "name": author }))));
    }
    json!({
        "package": package,
        "score": { "final": hit.score, "detail": { "quality": 1.0, "popularity": 1.0, "maintenance": 1.0 } },
        "searchScore": hit.score,
        "flags": {
            "unstable": shown.version.starts_with("0."), "insecure": 0, "deprecated": shown.deprecated,
        },
        "updated": shown.updated,
    })
}

fn person(person: &Person) -> Value {
    json!({ "username": person.name, "email": person.email })
}

fn links(cx: &Cx, name: &str, shown: &Shown) -> Value {
    let own = Some(format!("{}/{name}", cx.mount.base_url()));
    let links = [
        ("npm", own.as_ref()),
        ("homepage", shown.homepage.as_ref()),
        ("repository", shown.repository.as_ref()),
        ("bugs", shown.bugs.as_ref()),
    ];
    let links = links.into_iter().filter_map(|(key, url)| Some((key.to_owned(), Value::from(url?.as_str()))));
    Value::Object(links.collect())
}
