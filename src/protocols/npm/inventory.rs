//! What the index knows of packages: which there are, and of each what a search looks at and shows.

use serde::{Deserialize, Serialize};

use super::json::Members;
use super::keys;
use super::model::{Packument, Person};
use super::name::PackageName;
use crate::config::Visibility;
use crate::index::Card;
use crate::protocols::prelude::*;

/// Folders of one page.
const PAGE: usize = 1000;
/// Longest text in a card, in bytes; most items of a list there.
const TEXT: usize = 512;
const ITEMS: usize = 32;

/// What a search shows of a package, beside its name, description and keywords.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Shown {
    pub(crate) version: String,
    /// When that version was published.
    pub(crate) date: String,
    pub(crate) updated: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) publisher: Option<Person>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) maintainers: Vec<Person>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) license: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) homepage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repository: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bugs: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) deprecated: bool,
    /// The package's own setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<Visibility>,
}

/// The state of a package as an entry of the index.
pub(crate) fn describe(name: &PackageName, packument: &Packument) -> Change {
    Change {
        name: name.as_str().to_owned(),
        event: "index".to_owned(),
        rev: Some(packument.rev.clone()),
        gone: packument.releases.is_empty(),
        card: card(packument),
        ..Change::default()
    }
}

/// What a search finds the package by: the version that `latest` names.
fn card(packument: &Packument) -> Option<Card> {
    let latest = packument.tagged("latest").or(packument.releases.last())?;
    let members = Members::parse(&latest.manifest).unwrap_or_default();
    let url = |key: &str| {
        members.object(key).and_then(|object| object.text("url")).or_else(|| members.text(key)).map(short)
    };
    let author = members.object("author").and_then(|author| author.text("name"));
    let shown = Shown {
        version: latest.version.to_string(),
        date: packument.published(&latest.version).to_owned(),
        updated: packument.modified().to_owned(),
        publisher: members.read("_npmUser").or_else(|| packument.maintainers.first().cloned()),
        maintainers: packument.maintainers.iter().take(ITEMS).cloned().collect(),
        author: author.or_else(|| members.text("author")).map(short),
        license: members.text("license").map(short),
        homepage: members.text("homepage").map(short),
        repository: url("repository"),
        bugs: url("bugs"),
        deprecated: members.text("deprecated").is_some_and(|text| !text.is_empty()),
        access: packument.notes.access,
    };
    let people = shown.maintainers.iter().chain(&shown.publisher).map(|person| person.name.clone());
    let mut people: Vec<String> = people.chain(shown.author.clone()).collect();
    people.sort();
    people.dedup();
    let keywords: Vec<String> = members.read("keywords").unwrap_or_default();
    Some(Card {
        description: members.text("description").map(short).unwrap_or_default(),
        keywords: keywords.into_iter().take(ITEMS).map(short).collect(),
        people,
        private: shown.access == Some(Visibility::Private),
        shown: serde_json::value::to_raw_value(&shown).ok(),
    })
}

fn short(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT));
    text
}

/// One page of the packages in the bucket, with all of a scope together, and where to go on.
pub(crate) async fn names(cx: &Cx, after: Option<&str>) -> Result<(Vec<String>, Option<String>)> {
    let page = cx.objects.list(&keys::packages()?, after, PAGE, true).await?;
    let mut names = Vec::new();
    for folder in page.prefixes.iter().map(|folder| keys::folder_name(folder)) {
        match folder.strip_prefix('@') {
            None => names.extend(PackageName::parse(folder).ok()),
            Some(scope) => names.extend(in_scope(cx, scope).await?),
        }
    }
    Ok((names.iter().map(|name| name.as_str().to_owned()).collect(), page.next))
}

/// All packages of a scope in the bucket.
pub(crate) async fn in_scope(cx: &Cx, scope: &str) -> Result<Vec<PackageName>> {
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = cx.objects.list(&keys::scope(scope)?, after.as_deref(), PAGE, true).await?;
        let folders = page.prefixes.iter().map(|folder| keys::folder_name(folder));
        names.extend(folders.filter_map(|name| PackageName::parse(&format!("@{scope}/{name}")).ok()));
        let Some(next) = page.next else { return Ok(names) };
        after = Some(next);
    }
}

/// The state of one package in the bucket; `None` if there is none.
pub(crate) async fn look(cx: &Cx, name: &str) -> Result<Option<Change>> {
    let Ok(name) = PackageName::parse(name) else { return Ok(None) };
    let loaded: Option<Arc<Loaded<Packument>>> =
        cx.objects.document_revalidated(&keys::index(&name)?).await?;
    let loaded = loaded.filter(|loaded| !loaded.document.releases.is_empty());
    Ok(loaded.map(|loaded| describe(&name, &loaded.document)))
}
