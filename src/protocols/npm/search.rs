//! `GET /-/v1/search`, over the names of the packages.
//!
//! There is no index yet: names are listed from the bucket, at most [`NAMES`] of them, and the packuments of the first [`MATCHES`] that
//! match are read. Beyond either bound the answer says `incomplete` and counts what it has seen.

use std::cmp::Reverse;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::error::not_found;
use super::json::Members;
use super::keys;
use super::model::Person;
use super::name::PackageName;
use super::query::Query;
use crate::protocols::prelude::*;

/// Most names that are looked at.
const NAMES: usize = 20_000;
/// Most packuments that are read for one search.
const MATCHES: usize = 500;
/// Packuments read at the same time.
const READS: usize = 16;
/// Longest text.
const MAX_TEXT: usize = 512;

/// Answers a search. Only packages that the caller may read are in it, and are counted.
pub(crate) async fn search(cx: &Cx, request: &Request) -> Result<Response> {
    let text = request.query.get("text").unwrap_or_default();
    if text.len() > MAX_TEXT {
        return Err(Error::invalid(format!("the search text is longer than {MAX_TEXT} bytes")));
    }
    let number = |name: &str| request.query.get(name).and_then(|text| text.parse::<usize>().ok());
    let (size, from) = (number("size").unwrap_or(20).min(250), number("from").unwrap_or(0));
    let query = Query::parse(text);
    let (names, mut incomplete) = list(cx).await?;
    let mut matching: Vec<_> =
        names.into_iter().filter_map(|name| Some((Reverse(rank(&name, &query)?), name))).collect();
    matching.sort();
    incomplete |= matching.len() > MATCHES;
    matching.truncate(MATCHES);
    let reads = matching.into_iter().map(|(_, name)| found(cx, name));
    let found: Vec<Result<Option<Value>>> = stream::iter(reads).buffered(READS).collect().await;
    let found: Vec<Value> = found.into_iter().filter_map(Result::transpose).collect::<Result<_>>()?;
    let found: Vec<Value> = found.into_iter().filter(|one| query.accepts(one)).collect();
    let total = found.len();
    let objects: Vec<Value> = found.into_iter().skip(from).take(size).collect();
    let mut answer = json!({ "objects": objects, "total": total, "time": cx.clock.now().http_date() });
    if let Some(object) = answer.as_object_mut().filter(|_| incomplete) {
        object.insert("incomplete".to_owned(), Value::from(true));
    }
    Ok(Response::json(StatusCode::OK, &answer).static_header(header::CACHE_CONTROL, "private, no-cache"))
}

/// How well a name fits: exact, beginning, anywhere; `None` if a word is not in it.
fn rank(name: &PackageName, query: &Query) -> Option<u8> {
    if let Some(scope) = &query.scope
        && !name.scope().is_some_and(|own| own.eq_ignore_ascii_case(scope))
    {
        return None;
    }
    let lower = name.as_str().to_lowercase();
    let unscoped = lower.split_once('/').map_or(lower.as_str(), |(_, name)| name);
    let mut rank = 3;
    for word in &query.words {
        let begins = lower.starts_with(word.as_str()) || unscoped.starts_with(word.as_str());
        let fits = if query.boost_exact && (*word == lower || *word == unscoped) {
            Some(3)
        } else if begins {
            Some(2)
        } else {
            lower.contains(word.as_str()).then_some(1)
        };
        rank = rank.min(fits?);
    }
    Some(rank)
}

/// Names in the bucket, and whether there are more than are looked at.
pub(crate) async fn list(cx: &Cx) -> Result<(Vec<PackageName>, bool)> {
    let (top, mut more) = folders(cx, &keys::packages()?, NAMES).await?;
    let mut names = Vec::new();
    for folder in top {
        if let Some(scope) = folder.strip_prefix('@') {
            let left = NAMES.saturating_sub(names.len());
            let (inner, more_inner) = folders(cx, &keys::scope(scope)?, left).await?;
            more |= more_inner;
            names
                .extend(inner.iter().filter_map(|name| PackageName::parse(&format!("{folder}/{name}")).ok()));
        } else {
            names.extend(PackageName::parse(&folder));
        }
    }
    Ok((names, more))
}

/// The folders right below a prefix, and whether there are more than `limit`.
pub(crate) async fn folders(cx: &Cx, prefix: &Prefix, limit: usize) -> Result<(Vec<String>, bool)> {
    let mut names = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = cx.objects.list(prefix, after.as_deref(), 1000, true).await?;
        names.extend(page.prefixes.iter().map(|folder| keys::folder_name(folder).to_owned()));
        match page.next {
            None => return Ok((names, false)),
            Some(_) if names.len() >= limit => return Ok((names, true)),
            Some(next) => after = Some(next),
        }
    }
}

/// A package as it stands in the answer; `None` if there is nothing to see.
async fn found(cx: &Cx, name: PackageName) -> Result<Option<Value>> {
    let name = &name;
    let loaded = match super::read::load(cx, name, false).await {
        Ok(loaded) => loaded,
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Unauthorized) => return Ok(None),
        Err(error) => return Err(error),
    };
    let packument = &loaded.document;
    let Some(latest) = packument.tagged("latest") else { return Ok(None) };
    let members = Members::parse(&latest.manifest).ok_or_else(not_found)?;
    let date = packument.published(&latest.version);
    let people: Vec<Value> = packument.maintainers.iter().map(person).collect();
    let publisher: Option<Person> = members.read("_npmUser");
    let publisher = publisher.as_ref().or(packument.maintainers.first()).map_or_else(
        // pnpm fails on a publisher without a name.
        || json!({ "username": "", "email": "" }),
        person,
    );
    let mut package = json!({
        "name": name.as_str(),
        "scope": name.scope().unwrap_or("unscoped"),
        "version": latest.version.as_ref(),
        "keywords": members.read::<Vec<String>>("keywords").unwrap_or_default(),
        "date": date,
        "publisher": publisher,
        "maintainers": people,
        "links": links(cx, name, &members),
    });
    if let Some(object) = package.as_object_mut() {
        for key in ["description", "license"] {
            if let Some(text) = members.text(key) {
                object.insert(key.to_owned(), Value::from(text));
            }
        }
        if let Some(author) =
            members.object("author").and_then(|author| author.text("name")).or_else(|| members.text("author"))
        {
            object.insert("author".to_owned(), json!({ "name": author }));
        }
    }
    Ok(Some(json!({
        "package": package,
        "score": { "final": 1.0, "detail": { "quality": 1.0, "popularity": 1.0, "maintenance": 1.0 } },
        "searchScore": 1.0,
        "flags": {
            "unstable": latest.version.starts_with("0."), "insecure": 0,
            "deprecated": members.text("deprecated").is_some_and(|text| !text.is_empty()),
        },
        "updated": packument.modified(),
    })))
}

fn person(person: &Person) -> Value {
    json!({ "username": person.name, "email": person.email })
}

fn links(cx: &Cx, name: &PackageName, members: &Members<'_>) -> Value {
    let url =
        |key: &str| members.object(key).and_then(|object| object.text("url")).or_else(|| members.text(key));
    let mut links = serde_json::Map::new();
    links.insert("npm".to_owned(), Value::from(format!("{}/{name}", cx.mount.base_url())));
    for (key, value) in
        [("homepage", members.text("homepage")), ("repository", url("repository")), ("bugs", url("bugs"))]
    {
        if let Some(value) = value {
            links.insert(key.to_owned(), Value::from(value));
        }
    }
    Value::Object(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let name = PackageName::parse("@acme/left-pad").unwrap();
        let rank = |text: &str| rank(&name, &Query::parse(text));
        assert_eq!(rank(""), Some(3));
        assert_eq!(rank("left-pad"), Some(3));
        assert_eq!(rank("LEFT"), Some(2));
        assert_eq!(rank("pad left"), Some(1));
        assert_eq!(rank("scope:acme pad"), Some(1));
        assert_eq!(rank("scope:other"), None);
        assert_eq!(rank("right"), None);
    }
}
