//! The sources against the tables.

use std::collections::BTreeSet;

use crate::walk::{Named, is_test, named};
use crate::{BELONGS, EXTRA_ROOMS, IMPURE, LAYERS, PURE, ROOMS};

/// A file and its text.
pub(crate) struct Source {
    /// From the crate's root: `src/core/body.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// `["core", "body"]`; the folder itself for a `mod.rs`.
    fn module(&self) -> Vec<String> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let path = path.strip_suffix("/mod").unwrap_or(path);
        path.split('/').filter(|part| *part != "lib").map(str::to_owned).collect()
    }
}

/// Every broken rule as `file:line: sentence`.
pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    let only_for_tests = only_for_tests(sources);
    let protocols: BTreeSet<String> = sources
        .iter()
        .filter_map(|source| source.path.strip_prefix("src/protocols/")?.split_once('/'))
        .map(|(name, _)| name.to_owned())
        .collect();
    let mut broken = Vec::new();
    for source in sources {
        if !source.text.starts_with("//!") {
            let rule = "every file begins with a `//!` line that says what the room is for";
            broken.push(format!("{}:1: {rule}", source.path));
        }
        rooms(source, &mut broken);
        if only_for_tests.iter().any(|prefix| source.path.starts_with(prefix.as_str())) {
            continue;
        }
        if let Some(layer) = source.module().first()
            && !LAYERS.iter().any(|(name, _)| name == layer)
        {
            broken
                .push(format!("{}:1: `{layer}` is no layer of the table in tests/architecture", source.path));
        }
        match named(&source.text) {
            Ok(paths) => paths.iter().for_each(|path| {
                if let Some(rule) = breaks(source, path, &protocols) {
                    broken.push(format!("{}:{}: {rule}", source.path, path.line));
                }
            }),
            Err(error) => broken.push(format!("{}:1: can't be parsed: {error}", source.path)),
        }
    }
    broken.dedup();
    broken
}

/// Files that only tests and fuzzers have: `#[cfg(test)] mod name;` in their parent.
fn only_for_tests(sources: &[Source]) -> Vec<String> {
    let mut list = Vec::new();
    for source in sources {
        let folder = match source.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs")) => folder.to_owned(),
            _ => source.path.trim_end_matches(".rs").to_owned(),
        };
        let Ok(file) = syn::parse_file(&source.text) else { continue };
        for item in file.items {
            let syn::Item::Mod(module) = item else { continue };
            if is_test(&module.attrs) && module.content.is_none() {
                list.push(format!("{folder}/{}.rs", module.ident));
                list.push(format!("{folder}/{}/", module.ident));
            }
        }
    }
    list
}

fn rooms(source: &Source, broken: &mut Vec<String>) {
    let Some((protocol, room)) =
        source.path.strip_prefix("src/protocols/").and_then(|path| path.split_once('/'))
    else {
        return;
    };
    let room = room.split('/').next().unwrap_or(room).trim_end_matches(".rs");
    let own = EXTRA_ROOMS.iter().find(|(name, _)| *name == protocol).map_or(&[][..], |(_, rooms)| rooms);
    if !ROOMS.contains(&room) && !own.contains(&room) {
        let rule = "a protocol has the rooms that all have, and those listed for it in tests/architecture";
        broken.push(format!("{}:1: `{room}` is no room of `{protocol}`: {rule}", source.path));
    }
}

fn breaks(source: &Source, path: &Named, protocols: &BTreeSet<String>) -> Option<String> {
    let here = source.module();
    let first = path.segments.first()?.as_str();
    if !matches!(first, "crate" | "super" | "self") {
        return outside(&here, path).or_else(|| stray_key(source, path));
    }
    let there = resolve(&here, path)?;
    let (own, layer) = (here.first()?.as_str(), there.first()?.as_str());
    if own == "protocols"
        && layer == "protocols"
        && let (Some(mine), Some(other)) = (here.get(1), there.get(1))
        && mine != other
        && protocols.contains(mine)
        && protocols.contains(other)
    {
        return Some(format!("a protocol never knows a sibling, and this names `{other}`"));
    }
    let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == own)?;
    let is_layer = LAYERS.iter().any(|(name, _)| *name == layer);
    (is_layer && layer != own && !allowed.contains(&layer)).then(|| {
        let list = if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") };
        format!("`{own}` may not know `{layer}`; it knows {list}")
    })
}

/// A path of ours from the crate's root.
fn resolve(here: &[String], path: &Named) -> Option<Vec<String>> {
    let mut at = [here, &path.inside].concat();
    let mut rest = path.segments.as_slice();
    while let Some((first, more)) = rest.split_first() {
        match first.as_str() {
            "crate" => at.clear(),
            "super" => {
                at.pop()?;
            }
            "self" => {}
            _ => break,
        }
        rest = more;
    }
    at.extend(rest.iter().cloned());
    Some(at)
}

fn outside(here: &[String], path: &Named) -> Option<String> {
    let layer = here.first()?.as_str();
    let place = here.join("/");
    let is = |name: &str| {
        let wanted: Vec<&str> = name.split("::").collect();
        path.segments.len() >= wanted.len()
            && path.segments.iter().zip(&wanted).all(|(have, want)| have == want)
    };
    if PURE.contains(&layer)
        && let Some(name) = IMPURE.iter().find(|name| is(name))
    {
        return Some(format!("`{layer}` does no IO and waits for nothing, and this names `{name}`"));
    }
    let (name, places, why) = BELONGS.iter().find(|(name, _, _)| is(name))?;
    // `use hyper;` and `hyper::x` are paths of more than a word; a local called `hyper` is not.
    let alone = path.segments.len() == 1 && !name.contains("::");
    let home = places.iter().any(|home| place == *home || place.starts_with(&format!("{home}/")));
    (!alone && !home).then(|| format!("`{name}` does not belong here: {why}"))
}

fn stray_key(source: &Source, path: &Named) -> Option<String> {
    let (_, room) = source.path.strip_prefix("src/protocols/")?.split_once('/')?;
    let makes = matches!(path.segments.as_slice(), [.., kind, make] if matches!(kind.as_str(), "Key" | "Prefix") && make == "new");
    (makes && room != "keys.rs").then(|| {
        "a protocol makes its keys in keys.rs alone: the layout of the bucket is read in one place".to_owned()
    })
}
