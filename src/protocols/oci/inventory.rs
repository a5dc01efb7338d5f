//! What the index knows of repositories: which there are.

use super::super::prelude::*;
use super::keys;
use super::links::PAGE;
use super::name::Name;

/// Size of a tag list with nothing in it.
const EMPTY: u64 = 2;
/// Where a listing goes on: in the markers, or in the tags.
const MARKERS: &str = "markers:";
const TAGS: &str = "tags:";

/// One page of the repositories in the bucket: those with a marker, then those with tags. A repository that another program has filled is
/// known by its tags until it is first asked for.
pub(super) async fn names(cx: &Cx, after: Option<String>) -> Result<(Vec<String>, Option<String>)> {
    let after = after.unwrap_or_else(|| MARKERS.to_owned());
    let tags = after.strip_prefix(TAGS);
    let from = tags.or(after.strip_prefix(MARKERS)).filter(|from| !from.is_empty());
    let (prefix, name_of): (_, fn(&Key) -> Option<Name>) = if tags.is_some() {
        (keys::all_tags()?, keys::tags_of)
    } else {
        (keys::repositories()?, keys::repository_of)
    };
    let page = cx.objects.list(&prefix, from, PAGE, false).await?;
    // A tag list of two bytes lists nothing: of a repository that is empty, and perhaps no more there.
    let listed = page.objects.iter().filter(|one| tags.is_none() || one.size > EMPTY);
    let found = listed.filter_map(|one| name_of(&one.key));
    let found = found.map(|name| name.as_str().to_owned()).collect();
    let next = match (page.next, tags) {
        (Some(next), None) => Some(format!("{MARKERS}{next}")),
        (Some(next), Some(_)) => Some(format!("{TAGS}{next}")),
        (None, None) => Some(TAGS.to_owned()),
        (None, Some(_)) => None,
    };
    Ok((found, next))
}

/// The same, each once: those whose marker was listed are left out where tags are.
pub(super) async fn names_once(cx: &Cx, after: Option<String>) -> Result<(Vec<Name>, Option<String>)> {
    let by_tags = after.as_deref().is_some_and(|after| after.starts_with(TAGS));
    let (names, next) = names(cx, after).await?;
    let mut once = Vec::new();
    for name in names.iter().filter_map(|name| Name::parse(name)) {
        if !by_tags || cx.objects.stat(&keys::repository(&name)?).await?.is_none() {
            once.push(name);
        }
    }
    Ok((once, next))
}

/// The state of a repository; `None` if there is none.
pub(super) async fn look(cx: &Cx, name: &str) -> Result<Option<Change>> {
    let Some(name) = Name::parse(name) else { return Ok(None) };
    let there = cx.objects.stat(&keys::repository(&name)?).await?.is_some()
        || cx.objects.stat(&keys::tags(&name)?).await?.is_some_and(|meta| meta.size > EMPTY);
    Ok(there.then(|| Change {
        name: name.as_str().to_owned(),
        event: "index".to_owned(),
        ..Change::default()
    }))
}

/// Enters that nothing is left of a repository.
pub(super) async fn record_gone(cx: &Cx, name: &Name) {
    let (name, event) = (name.as_str().to_owned(), "delete".to_owned());
    cx.index.record(vec![Change { name, event, gone: true, ..Change::default() }]).await;
}

/// Enters what happened to a repository; `about` are the tags or the digest that it is about.
pub(super) async fn record(cx: &Cx, name: &Name, event: &'static str, about: &[String]) {
    let change = |version: Option<String>| Change {
        name: name.as_str().to_owned(),
        event: event.to_owned(),
        version,
        actor: cx.identity.user().map(str::to_owned),
        ..Change::default()
    };
    let changes = match about {
        [] => vec![change(None)],
        about => about.iter().map(|one| change(Some(one.clone()))).collect(),
    };
    cx.index.record(changes).await;
}
