//! Changing a packument: the document first, then the index, so that whoever follows the feed finds what it tells of.

use parking_lot::Mutex;

use super::inventory;
use super::keys;
use super::model::Packument;
use super::name::PackageName;
use crate::protocols::prelude::*;

/// What happens to a package, in the words of the change feed.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    kind: &'static str,
    /// The version or tag that it is about.
    about: Option<String>,
}

impl Event {
    /// Something about the package as a whole.
    pub(crate) const fn new(kind: &'static str) -> Self {
        Self { kind, about: None }
    }

    /// Something about one version or tag.
    pub(crate) fn about(kind: &'static str, about: impl Into<String>) -> Self {
        Self { kind, about: Some(about.into()) }
    }
}

/// Changes a packument and enters that in the index. Nothing is entered where nothing was changed.
pub(crate) async fn update<R, F>(
    cx: &Cx,
    name: &PackageName,
    event: Event,
    info: &ObjectInfo,
    change: F,
) -> Result<R>
where
    R: Send + 'static,
    F: Fn(&mut Packument) -> Result<Edit<R>> + Send + Sync + 'static,
{
    // What the document came to be, as of the last try: a try may be written although its answer got lost.
    let entry = Arc::new(Mutex::new(None));
    let (made, named) = (Arc::clone(&entry), name.clone());
    let actor = cx.identity.user().map(str::to_owned);
    let change = move |packument: &mut Packument| {
        let edit = change(packument)?;
        if matches!(edit, Edit::Changed(_)) {
            let change = inventory::describe(&named, packument);
            let (event, version) = (event.kind.to_owned(), event.about.clone());
            *made.lock() = Some(Change { event, version, actor: actor.clone(), ..change });
        }
        Ok(edit)
    };
    let (answer, written) = cx.objects.update_told(&keys::index(name)?, info, change).await?;
    let entry = entry.lock().take().filter(|_| written);
    if let Some(entry) = entry {
        cx.index.record(vec![entry]).await;
    }
    Ok(answer)
}
