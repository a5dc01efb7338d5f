//! Searching upstreams beside ourselves.

use form_urlencoded::Serializer;
use serde_json::Value;

use super::super::inventory::Shown;
use super::super::model::Person;
use super::super::name::PackageName;
use super::super::{NAME, access, search as own};
use super::{Ask, EXTRA, all, is_theirs};
use crate::core::time::Timestamp;
use crate::index::Hit;
use crate::protocols::prelude::*;
use crate::upstream::Upstream;

/// Longest answer.
const LIMIT: u64 = 8 << 20;
/// Most packages that are asked for at once.
const MOST: usize = 250;

/// What upstreams have that matches.
pub(crate) struct Theirs {
    /// Best first.
    pub(crate) objects: Vec<Value>,
    /// How many there are, of those that the caller may read.
    pub(crate) total: usize,
    /// Whether `total` is all that there is.
    pub(crate) complete: bool,
}

/// Packages of upstreams that match. None of a name that is ours, is not let through, or may not be read by the caller. An upstream that takes its
/// time is left out.
pub(crate) async fn search(cx: &Cx, text: &str, wanted: usize) -> Result<Theirs> {
    let mut theirs = Theirs { objects: Vec::new(), total: 0, complete: true };
    if !access::may_read_some(cx) {
        return Ok(theirs);
    }
    let open = !cx.auth.has_private(NAME);
    for upstream in all(cx, "search").await? {
        match tokio::time::timeout(EXTRA, ask(cx, &upstream, text, wanted.min(MOST))).await {
            Ok(Ok((objects, there))) => {
                let before = theirs.objects.len();
                for object in &objects {
                    if let Some(object) = shown(cx, &upstream, object, &theirs.objects).await? {
                        theirs.objects.push(object);
                    }
                }
                theirs.total += theirs.objects.len() - before;
                // How many there are beyond what was looked at is nobody's business who may not read them all.
                let beyond = there.saturating_sub(objects.len());
                if open {
                    theirs.total += beyond;
                } else {
                    theirs.complete &= beyond == 0;
                }
            }
            Ok(Err(error)) => {
                tracing::info!(upstream = %upstream.id, "it is not searched: {}", error.message());
            }
            Err(_) => {
                tracing::info!(upstream = %upstream.id, "it is not searched: it takes too long");
            }
        }
    }
    Ok(theirs)
}

/// What an upstream found, in the form of what we find; `None` of what is not shown.
async fn shown(cx: &Cx, upstream: &Upstream, object: &Value, found: &[Value]) -> Result<Option<Value>> {
    let Some((hit, shown)) = read(object) else { return Ok(None) };
    let text = hit.name.as_str();
    let Ok(name) = PackageName::parse(text) else { return Ok(None) };
    let known = found.iter().any(|one| one.pointer("/package/name").and_then(Value::as_str) == Some(text));
    let held_back = upstream.policy.blocks_name(text).is_some() || !upstream.asks_for(text);
    if known || held_back || !is_theirs(cx, &name).await? || super::ask(cx, &name, "search").await?.is_none()
    {
        return Ok(None);
    }
    let mut made = own::object(cx, &hit, &shown);
    let insecure = object.pointer("/flags/insecure").filter(|count| count.is_u64());
    if let (Some(count), Some(place)) = (insecure, made.pointer_mut("/flags/insecure")) {
        *place = count.clone();
    }
    Ok(Some(made))
}

/// Takes out of what an upstream found what we show of a package. Clients read unguarded what some registries leave out, so nothing else of it goes
/// on to them.
fn read(object: &Value) -> Option<(Hit, Shown)> {
    let package = object.get("package")?;
    let text = |place: &str| {
        let text = package.pointer(place).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let list = |place: &str| package.get(place).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    // npm makes a date of it, and fails on one that is none.
    let date = |date: Option<&Value>| {
        let date = date.and_then(Value::as_str).filter(|date| Timestamp::parse_rfc3339(date).is_some());
        date.map(str::to_owned)
    };
    let mut score = [object.get("searchScore"), object.pointer("/score/final")].into_iter().flatten();
    let date_of = date(package.get("date")).or_else(|| date(object.get("updated")));
    let shown = Shown {
        version: text("/version")?,
        updated: date(object.get("updated")).or_else(|| date_of.clone()).unwrap_or_default(),
        date: date_of.unwrap_or_default(),
        publisher: package.get("publisher").and_then(person),
        maintainers: list("maintainers").iter().filter_map(person).collect(),
        author: text("/author/name").or_else(|| text("/author")),
        license: text("/license"),
        homepage: text("/links/homepage"),
        repository: text("/links/repository"),
        bugs: text("/links/bugs"),
        deprecated: object.pointer("/flags/deprecated") == Some(&Value::Bool(true))
            || text("/deprecated").is_some(),
        access: None,
    };
    let hit = Hit {
        name: text("/name")?,
        score: score.find_map(Value::as_f64).unwrap_or_default() as f32,
        description: text("/description").unwrap_or_default(),
        keywords: list("keywords").iter().filter_map(|word| Some(word.as_str()?.to_owned())).collect(),
        shown: None,
    };
    Some((hit, shown))
}

fn person(value: &Value) -> Option<Person> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let name = text("username").or_else(|| text("name"))?;
    Some(Person { name, email: text("email").unwrap_or_default() })
}

fn query(text: &str, wanted: usize) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("text", text).append_pair("from", "0").append_pair("size", &wanted.to_string());
    query.finish()
}

async fn ask(cx: &Cx, upstream: &Upstream, text: &str, wanted: usize) -> Result<(Vec<Value>, usize)> {
    let request =
        Ask::get(format!("-/v1/search?{}", query(text, wanted))).accept("application/json").compressed();
    let Some((_, bytes)) = cx.upstream.ask(upstream, &request, "its search", LIMIT).await? else {
        return Ok((Vec::new(), 0));
    };
    let mut answer: Value = serde_json::from_slice(&bytes)
        .map_err(|_| cx.upstream.distrust(upstream, "what its search found can't be read"))?;
    let total = answer.get("total").and_then(Value::as_u64).and_then(|total| usize::try_from(total).ok());
    let objects = match answer.get_mut("objects").map(Value::take) {
        Some(Value::Array(objects)) => objects,
        _ => Vec::new(),
    };
    let total = total.unwrap_or(objects.len());
    Ok((objects, total))
}
