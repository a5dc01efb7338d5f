//! `npm audit`: the vulnerabilities that the operator knows of, in the shape that each client expects. With none known the answer is
//! well-formed and empty: an error would break every install, since installing audits.
//!
//! They come from the configuration (`npm.advisories`) and from `npm/advisories.json` in the storage, both as the bulk endpoint answers:
//! `{"lodash":[{"id":1,"url":"…","title":"…","severity":"high","vulnerable_versions":"<4.17.21"}]}`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Map, Value, json};

use super::json::Members;
use super::{Npm, body, keys, proxy, version};
use crate::protocols::prelude::*;

/// Largest list of packages, decoded.
const LIMIT: u64 = 10 << 20;
/// Deepest tree of dependencies, and most packages in it.
const DEEPEST: usize = 60;
const MOST: usize = 200_000;
const SEVERITIES: [&str; 5] = ["info", "low", "moderate", "high", "critical"];

/// Vulnerabilities by package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Advisories(BTreeMap<String, Vec<Map<String, Value>>>);

impl Document for Advisories {
    const CONTENT_TYPE: &'static str = "application/json";
    const LIMIT: u64 = 64 << 20;
    const NAME: &'static str = "list of vulnerabilities";

    fn parse(bytes: &Bytes) -> Result<Self> {
        let lists: BTreeMap<String, Vec<Value>> = serde_json::from_slice(bytes)
            .map_err(|error| Error::internal("npm/advisories.json can't be read").with_source(error))?;
        Ok(Self::configured(&lists))
    }

    fn serialize(&self) -> Result<Bytes> {
        serde_json::to_vec(&self.0)
            .map(Bytes::from)
            .map_err(|error| Error::internal("a list of vulnerabilities can't be written").with_source(error))
    }
}

impl Advisories {
    /// From lists as people write them. Clients read `id`, `url`, `title`, `severity` and `vulnerable_versions` unguarded: what is missing is
    /// filled in.
    pub(crate) fn configured(lists: &BTreeMap<String, Vec<Value>>) -> Self {
        let complete = |name: &str, list: &[Value]| {
            list.iter().filter_map(|one| complete(name, one.as_object()?)).collect::<Vec<_>>()
        };
        Self(lists.iter().map(|(name, list)| (name.clone(), complete(name, list))).collect())
    }

    /// Those that concern one of the versions.
    fn concerning<'a>(
        &'a self,
        name: &str,
        versions: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = &'a Map<String, Value>> {
        let hit = move |advisory: &&Map<String, Value>| {
            let range = advisory.get("vulnerable_versions").and_then(Value::as_str).unwrap_or("*");
            version::any_in(range, versions.iter().map(String::as_str))
        };
        self.0.get(name).into_iter().flatten().filter(hit)
    }
}

/// An advisory with everything that clients rely on.
fn complete(name: &str, given: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut one = given.clone();
    let text = |one: &Map<String, Value>, key: &str| one.get(key).and_then(Value::as_str).map(str::to_owned);
    let title = text(&one, "title").unwrap_or_else(|| format!("vulnerability in {name}"));
    let severity = text(&one, "severity").filter(|severity| SEVERITIES.contains(&severity.as_str()));
    let range = text(&one, "vulnerable_versions").unwrap_or_else(|| "*".to_owned());
    let url = text(&one, "url").unwrap_or_default();
    if !one.get("id").is_some_and(Value::is_number) {
        // npm tells advisories apart by their number.
        let hash =
            super::model::short_hash(&[name.as_bytes(), title.as_bytes(), range.as_bytes(), url.as_bytes()]);
        one.insert("id".to_owned(), u32::from_str_radix(hash.get(..8)?, 16).ok()?.into());
    }
    one.insert("title".to_owned(), title.into());
    one.insert("severity".to_owned(), severity.unwrap_or_else(|| "high".to_owned()).into());
    one.insert("vulnerable_versions".to_owned(), range.into());
    one.insert("url".to_owned(), url.into());
    one.entry("cwe").or_insert_with(|| json!([]));
    one.entry("cvss").or_insert_with(|| json!({ "score": 0, "vectorString": null }));
    Some(one)
}

/// What lies in the storage. A list that can't be read must not break installs: the log says so.
async fn stored(cx: &Cx) -> Result<Option<Arc<Loaded<Advisories>>>> {
    match cx.objects.document(&keys::advisories()?).await {
        Ok(loaded) => Ok(loaded),
        Err(error) => {
            tracing::error!(causes = error.causes(), "audits are answered without it: {}", error.message());
            Ok(None)
        }
    }
}

/// What is known about the versions asked for, by package.
async fn known(
    npm: &Npm,
    cx: &Cx,
    asked: &BTreeMap<String, BTreeSet<String>>,
) -> Result<BTreeMap<String, Vec<Map<String, Value>>>> {
    let (stored, mut found) = (stored(cx).await?, proxy::known_vulnerabilities(cx, asked).await?);
    let lists = [Some(&npm.advisories), stored.as_ref().map(|loaded| &loaded.document)];
    for (name, versions) in asked {
        // What an upstream knows is held to the same form as what people write.
        let theirs: Vec<_> =
            found.remove(name).into_iter().flatten().filter_map(|one| complete(name, &one)).collect();
        let hits = lists.iter().flatten().flat_map(|list| list.concerning(name, versions)).cloned();
        let mut seen = HashSet::new();
        let hits: Vec<_> =
            hits.chain(theirs).filter(|one| seen.insert(one.get("id").map(Value::to_string))).collect();
        if !hits.is_empty() {
            found.insert(name.clone(), hits);
        }
    }
    Ok(found)
}

/// `POST /-/npm/v1/security/advisories/bulk`: npm 7 and later, pnpm 11, berry, bun, deno.
pub(crate) async fn bulk(npm: &Npm, cx: &Cx, mut request: Request) -> Result<Response> {
    let bytes = read(&mut request).await?;
    let members = Members::parse(&bytes).unwrap_or_default();
    let mut asked = BTreeMap::new();
    for (name, versions) in &members.0 {
        let versions: Vec<String> = serde_json::from_str(versions.get()).unwrap_or_default();
        asked.insert(name.to_string(), versions.into_iter().collect());
    }
    Ok(Response::json(StatusCode::OK, &known(npm, cx, &asked).await?))
}

/// `POST /-/npm/v1/security/audits[/quick]`: npm 6, pnpm 10, yarn classic. They send the tree of what is installed and want to know where in
/// it a vulnerable version is.
pub(crate) async fn quick(npm: &Npm, cx: &Cx, mut request: Request) -> Result<Response> {
    let bytes = read(&mut request).await?;
    let tree: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut places = Places::default();
    places.walk(&tree, &mut Vec::new());
    let asked = places.versions();
    let known = known(npm, cx, &asked).await?;
    Ok(Response::json(StatusCode::OK, &report(&places, &known)))
}

/// The list is read within its limit and must be a JSON object, so that a broken client hears of it.
async fn read(request: &mut Request) -> Result<Bytes> {
    let bytes = body::bytes(request, "the list of packages", LIMIT).await?;
    match Members::parse(&bytes) {
        Some(_) => Ok(bytes),
        None => Err(Error::invalid("the list of packages is no JSON object")),
    }
}

/// Where each version of each package is in a tree: `a>b>c`.
#[derive(Default)]
struct Places {
    found: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    dev: usize,
    optional: usize,
    total: usize,
}

impl Places {
    fn walk<'a>(&mut self, node: &'a Value, path: &mut Vec<&'a str>) {
        let Some(dependencies) = node.get("dependencies").and_then(Value::as_object) else { return };
        for (name, child) in dependencies {
            if self.total >= MOST || path.len() >= DEEPEST {
                return;
            }
            self.total += 1;
            let flag = |key: &str| child.get(key).and_then(Value::as_bool) == Some(true);
            self.dev += usize::from(flag("dev"));
            self.optional += usize::from(flag("optional"));
            path.push(name);
            if let Some(version) = child.get("version").and_then(Value::as_str) {
                let places =
                    self.found.entry(name.clone()).or_default().entry(version.to_owned()).or_default();
                places.push(path.join(">"));
            }
            self.walk(child, path);
            path.pop();
        }
    }

    fn versions(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.found.iter().map(|(name, versions)| (name.clone(), versions.keys().cloned().collect())).collect()
    }
}

/// The answer of the old endpoints.
fn report(places: &Places, known: &BTreeMap<String, Vec<Map<String, Value>>>) -> Value {
    let mut counts: BTreeMap<&str, usize> = SEVERITIES.iter().map(|severity| (*severity, 0)).collect();
    let mut advisories = Map::new();
    let mut actions = Vec::new();
    for (name, list) in known {
        for advisory in list {
            let range = advisory.get("vulnerable_versions").and_then(Value::as_str).unwrap_or("*");
            let versions = places.found.get(name).into_iter().flatten();
            let findings: Vec<(&String, &Vec<String>)> = versions
                .filter(|(version, _)| version::any_in(range, std::iter::once(version.as_str())))
                .collect();
            let paths: Vec<&String> = findings.iter().flat_map(|(_, paths)| paths.iter()).collect();
            let severity = advisory.get("severity").and_then(Value::as_str).unwrap_or("high");
            if let Some(count) =
                SEVERITIES.iter().find(|known| **known == severity).and_then(|key| counts.get_mut(key))
            {
                *count += paths.len();
            }
            let id = advisory.get("id").cloned().unwrap_or_default();
            let resolves: Vec<Value> = paths
                .iter()
                .map(|path| json!({ "id": id, "path": path, "dev": false, "optional": false, "bundled": false }))
                .collect();
            actions.push(json!({ "action": "review", "module": name, "resolves": resolves }));
            advisories.insert(id.to_string(), old_form(name, advisory, &findings));
        }
    }
    json!({
        "actions": actions, "advisories": advisories, "muted": [],
        "metadata": {
            "vulnerabilities": counts, "dependencies": places.total - places.dev.min(places.total),
            "devDependencies": places.dev, "optionalDependencies": places.optional, "totalDependencies": places.total,
        },
    })
}

/// An advisory as the old endpoints have it: more fields, all of which some client reads.
fn old_form(name: &str, advisory: &Map<String, Value>, findings: &[(&String, &Vec<String>)]) -> Value {
    let mut one = advisory.clone();
    let findings: Vec<Value> = findings
        .iter()
        .map(|(version, paths)| json!({ "version": version, "paths": paths, "dev": false, "optional": false, "bundled": false }))
        .collect();
    one.insert("findings".to_owned(), findings.into());
    one.insert("module_name".to_owned(), name.into());
    for (key, value) in [
        ("patched_versions", Value::from("<0.0.0")),
        ("overview", Value::from("")),
        ("recommendation", Value::from("")),
        ("references", Value::from("")),
        ("access", Value::from("public")),
        ("cves", json!([])),
        ("github_advisory_id", Value::Null),
        ("created", Value::from("")),
        ("updated", Value::from("")),
        ("deleted", Value::Null),
        ("found_by", Value::Null),
        ("reported_by", Value::Null),
        ("metadata", Value::Null),
    ] {
        one.entry(key).or_insert(value);
    }
    if let Some(id) = one.get("url").and_then(Value::as_str).and_then(|url| url.rsplit('/').next())
        && id.starts_with("GHSA-")
        && one.get("github_advisory_id").is_some_and(Value::is_null)
    {
        let id = Value::from(id);
        one.insert("github_advisory_id".to_owned(), id);
    }
    // CWEs are a text here.
    if let Some(list) = one.get("cwe").and_then(Value::as_array) {
        let text: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
        let text = Value::from(text.join(", "));
        one.insert("cwe".to_owned(), text);
    }
    Value::Object(one)
}
