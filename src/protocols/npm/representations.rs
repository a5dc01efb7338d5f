//! The two forms in which a packument is served, each plain and gzipped: made once per stored version and base URL, kept ready. A hot
//! GET hands out bytes.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use moka::future::Cache;

use super::Npm;
use super::json::{Members, ObjectWriter};
use super::keys;
use super::model::{Packument, Release, short_hash};
use super::name::PackageName;
use super::signing::Signer;
use crate::core::time::Timestamp;
use crate::protocols::prelude::*;

/// The media type of the abbreviated form.
pub(crate) const ABBREVIATED: &str = "application/vnd.npm.install-v1+json";
/// That of the full one.
pub(crate) const FULL: &str = "application/json";

/// What the abbreviated form has of a version. `libc` is ours: without it pnpm asks for the full form of every optional dependency.
const INSTALL_FIELDS: &[&str] = &[
    "name",
    "version",
    "dependencies",
    "acceptDependencies",
    "optionalDependencies",
    "devDependencies",
    "bundleDependencies",
    "bundledDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "bin",
    "directories",
    "engines",
    "_hasShrinkwrap",
    "hasInstallScript",
    "funding",
    "cpu",
    "os",
    "libc",
];

/// Bytes of a signature of ours with what stands around it, at most.
const SIGNATURE: usize = 256;

/// Which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// Everything.
    Full,
    /// What an installer needs.
    Abbreviated,
}

impl Form {
    /// Its media type.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Full => FULL,
            Self::Abbreviated => ABBREVIATED,
        }
    }
}

/// One form, ready to send.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) plain: Bytes,
    pub(crate) gzip: Bytes,
    /// `Last-Modified`.
    pub(crate) modified: String,
}

/// What a representation is of: whose document of which package, where it is served from, and the form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    package: String,
    /// The folder of the upstream that has it, or a part of it.
    folder: Option<String>,
    base: String,
    form: Form,
}

/// Names a representation, of a version of the document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Id {
    place: Place,
    version: String,
}

/// Of how many forms the last version is remembered.
const NEWEST: u64 = 50_000;

/// The representations that this process keeps.
pub(crate) struct Representations {
    cache: Cache<Id, Arc<Ready>>,
    /// Which version was made last.
    newest: moka::sync::Cache<Place, String>,
    /// Whether the abbreviated form has `time`: pnpm then needs one request instead of two.
    abbreviated_time: bool,
}

impl Representations {
    /// With room for `bytes` bytes.
    pub(crate) fn new(bytes: u64, abbreviated_time: bool) -> Self {
        let weigh = |id: &Id, ready: &Arc<Ready>| {
            let size =
                ready.plain.len() + ready.gzip.len() + id.place.package.len() + id.place.base.len() + 256;
            u32::try_from(size).unwrap_or(u32::MAX)
        };
        Self {
            cache: Cache::builder().max_capacity(bytes).weigher(weigh).build(),
            newest: moka::sync::Cache::new(NEWEST),
            abbreviated_time,
        }
    }

    /// The entity tag of a form: known without making it. Weak, since proxies that compress drop strong ones, and the same for plain
    /// and gzip, since they say the same; another one for each form, or pnpm would take a 304 for a document it doesn't have.
    pub(crate) fn tag(loaded: &Loaded<Packument>, base: &str, form: Form) -> ETag {
        let mark: &[u8] = if form == Form::Full { b"full" } else { b"install" };
        ETag::weak(&short_hash(&[loaded.version.0.as_bytes(), base.as_bytes(), mark]))
    }

    /// The form, from memory or made now; made once however many ask, and off the async threads. `folder` is that of the upstream, if the document
    /// is not ours alone: what one user is shown and what another one is are then each kept.
    pub(crate) async fn get(
        &self,
        npm: &Npm,
        cx: &Cx,
        name: &PackageName,
        loaded: &Arc<Loaded<Packument>>,
        folder: Option<&str>,
        form: Form,
    ) -> Result<Arc<Ready>> {
        let base = cx.mount.base_url();
        let folder = folder.map(str::to_owned);
        let place = Place { package: name.as_str().to_owned(), folder, base: base.clone(), form };
        let id = Id { place, version: loaded.version.0.clone() };
        let (name, loaded, time) = (name.clone(), Arc::clone(loaded), self.abbreviated_time);
        let coming = id.clone();
        let make = async move {
            self.forget_older(coming).await;
            let signer = npm.signing.for_unsigned(cx, &loaded.document.releases).await?;
            let work = move || {
                let view = View { base: &base, signer: signer.as_deref() };
                make(&name, &loaded.document, &view, form, time)
            };
            tokio::task::spawn_blocking(work)
                .await
                .map(Arc::new)
                .map_err(|error| Error::internal("a packument could not be written out").with_source(error))
        };
        // Those who waited for the same share its failure, which is the storage's: they may try again.
        self.cache.try_get_with(id, make).await.map_err(|error| {
            tracing::error!(causes = error.causes(), "{}", error.message());
            Error::unavailable("the packument could not be made ready; try again")
        })
    }

    /// Makes room for a form that is about to be made: nobody asks for that of the version before again, and each may be as large as
    /// the document.
    async fn forget_older(&self, coming: Id) {
        let Id { place, version } = coming;
        let older = self.newest.get(&place).filter(|older| *older != version);
        self.newest.insert(place.clone(), version);
        if let Some(version) = older {
            self.cache.invalidate(&Id { place, version }).await;
            // Else it stays until the cache finds time.
            self.cache.run_pending_tasks().await;
        }
    }
}

/// How versions are shown.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// The public base URL.
    pub(crate) base: &'a str,
    /// Signs what has no signature yet.
    pub(crate) signer: Option<&'a Signer>,
}

fn make(name: &PackageName, packument: &Packument, view: &View<'_>, form: Form, time: bool) -> Ready {
    let plain = match form {
        Form::Full => full(name, packument, view),
        Form::Abbreviated => abbreviated(name, packument, view, time),
    };
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::default());
    let written = encoder.write_all(&plain).and_then(|()| encoder.finish()).unwrap_or_default();
    let modified = Timestamp::parse_rfc3339(packument.modified()).unwrap_or_default().http_date();
    Ready { plain: plain.into(), gzip: written.into(), modified }
}

/// The full packument, with its `_rev`, as it is edited and sent back.
pub(crate) fn full(name: &PackageName, packument: &Packument, view: &View<'_>) -> Vec<u8> {
    let signature = if view.signer.is_some() { SIGNATURE } else { 0 };
    let url = view.base.len() + 2 * name.as_str().len();
    let mut out = Vec::with_capacity(packument.room(url + signature));
    let mut object = ObjectWriter::begin(&mut out);
    packument.write_head(&mut object);
    // `npm view` says who took a package away, and when, if there are no versions at all.
    if packument.notes.unpublished.is_none() {
        let mut versions = object.object("versions");
        for release in &packument.releases {
            versions.raw(&release.version, &manifest(name, release, view, None));
        }
        versions.end();
    }
    packument.write_tail(&mut object);
    object.end();
    out
}

/// What an installer needs of it.
pub(crate) fn abbreviated(name: &PackageName, packument: &Packument, view: &View<'_>, time: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut object = ObjectWriter::begin(&mut out);
    object.member("name", &packument.name);
    object.member("modified", packument.modified());
    object.member("dist-tags", &packument.tags);
    let mut versions = object.object("versions");
    for release in &packument.releases {
        versions.raw(&release.version, &manifest(name, release, view, Some(INSTALL_FIELDS)));
    }
    versions.end();
    packument.write_restrictions(&mut object);
    if time {
        packument.write_time(&mut object);
    }
    object.end();
    out
}

/// One version's manifest as it is served: tarball under our own URL, readme and empty deprecations left out; only `fields` if given.
pub(crate) fn manifest(
    name: &PackageName,
    release: &Release,
    view: &View<'_>,
    fields: Option<&[&str]>,
) -> Vec<u8> {
    // What another registry did not sign is not for us to vouch for.
    let view = &View { signer: view.signer.filter(|_| !release.foreign), ..*view };
    let mut out = Vec::with_capacity(release.manifest.len() + 128);
    let mut object = ObjectWriter::begin(&mut out);
    for (key, value) in &Members::parse(&release.manifest).unwrap_or_default().0 {
        match key.as_ref() {
            "dist" => object.raw("dist", &dist(name, &release.version, value.get().as_bytes(), view)),
            // Old data has `false` and empty texts, which pnpm would print.
            "deprecated" if is_message(value.get()) => object.raw(key, value.get().as_bytes()),
            // Only ever true; npm asks for the tarball if the other is missing.
            "hasInstallScript" if value.get() != "true" => {}
            "deprecated" | "readme" | "_attachments" | "_sr" => {}
            // pnpm and deno rank versions by how they were published, and read no more of this here.
            "_npmUser" if fields.is_some() => {
                if let Some(trust) = trust(value.get().as_bytes()) {
                    object.raw("_npmUser", &trust);
                }
            }
            key if fields.is_none_or(|fields| fields.contains(&key)) => {
                object.raw(key, value.get().as_bytes());
            }
            _ => {}
        }
    }
    object.end();
    out
}

/// `_npmUser` with nothing but how the version was published; `None` if it was in the ordinary way.
fn trust(user: &[u8]) -> Option<Vec<u8>> {
    let members = Members::parse(user)?;
    let shown = ["trustedPublisher", "approver"];
    let shown: Vec<_> = shown.iter().filter_map(|key| Some((key, members.get(key)?))).collect();
    if shown.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    let mut object = ObjectWriter::begin(&mut out);
    for (key, value) in shown {
        object.raw(key, value.get().as_bytes());
    }
    object.end();
    Some(out)
}

fn is_message(value: &str) -> bool {
    serde_json::from_str::<String>(value).is_ok_and(|message| !message.is_empty())
}

fn dist(name: &PackageName, version: &str, dist: &[u8], view: &View<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(dist.len() + 64);
    let mut object = ObjectWriter::begin(&mut out);
    let members = Members::parse(dist).unwrap_or_default();
    if let Some(signer) = view.signer.filter(|_| !members.has("signatures"))
        && let Some(integrity) = members.text("integrity")
        && let Ok(signatures) = signer.signatures(name, version, &integrity)
    {
        object.raw("signatures", &signatures);
    }
    for (key, value) in &members.0 {
        match key.as_ref() {
            "tarball" => {}
            // Data of another program may have an empty place for them.
            "signatures" if view.signer.is_some() && !members.has("signatures") => {}
            // npm takes the path alone, from the origin: another registry's would miss our base path.
            "attestations" => {
                object.raw(key, &attestations(name, version, value.get().as_bytes(), view.base));
            }
            _ => object.raw(key, value.get().as_bytes()),
        }
    }
    object.member("tarball", &tarball_url(name, version, view.base));
    object.end();
    out
}

fn attestations(name: &PackageName, version: &str, value: &[u8], base: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 64);
    let mut object = ObjectWriter::begin(&mut out);
    for (key, value) in Members::parse(value).unwrap_or_default().0.iter().filter(|(key, _)| key != "url") {
        object.raw(key, value.get().as_bytes());
    }
    object.member("url", &format!("{base}/-/npm/v1/attestations/{}@{version}", name.escaped()));
    object.end();
    out
}

/// The one public URL of a tarball: clients leave it out of their lockfiles because they can build it themselves.
pub(crate) fn tarball_url(name: &PackageName, version: &str, base: &str) -> String {
    format!("{base}/{name}/-/{}", keys::canonical(name, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_form_of_a_new_version_takes_the_place_of_the_last() {
        let kept = Representations::new(1 << 20, true);
        let id = |version: &str, form| Id {
            place: Place {
                package: "widget".into(),
                folder: None,
                base: "https://npm.example.com".into(),
                form,
            },
            version: version.into(),
        };
        let ready = || Arc::new(Ready { plain: Bytes::new(), gzip: Bytes::new(), modified: String::new() });
        let make = async |id: Id| {
            kept.forget_older(id.clone()).await;
            kept.cache.insert(id, ready()).await;
        };
        for version in ["1", "2", "2"] {
            make(id(version, Form::Full)).await;
            make(id(version, Form::Abbreviated)).await;
        }
        for form in [Form::Full, Form::Abbreviated] {
            assert!(!kept.cache.contains_key(&id("1", form)));
            assert!(kept.cache.contains_key(&id("2", form)));
        }
    }
}
