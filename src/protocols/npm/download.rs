//! GET and HEAD of tarballs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::not_found;
use super::json::Members;
use super::model::{Packument, Release};
use super::name::PackageName;
use super::proxy::{self, Shown};
use super::{Npm, access, keys};
use crate::protocols::files::{self, FileHead, IMMUTABLE_PRIVATE, IMMUTABLE_PUBLIC};
use crate::protocols::prelude::*;

/// `GET /{pkg}/-/{file}.tgz`. Nothing is negotiated, whatever clients ask: most send `Accept-Encoding: gzip`, some the packument's type.
pub(crate) async fn get_tarball(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    file: &str,
    request: &Request,
) -> Result<Response> {
    let version = version_of(name, file);
    // The packument is in memory as a rule: the client has just had it. It says where the tarball is, what it hashes to, and
    // that it may still be had.
    let Shown { loaded, source } = match proxy::package(npm, cx, name, false).await {
        Ok(shown) => shown,
        Err(error) => {
            let kept = match version {
                Some(version) => proxy::kept_tarball(npm, cx, name, version, request).await?,
                None => None,
            };
            return kept.ok_or(error);
        }
    };
    let packument = &loaded.document;
    let version = version.ok_or_else(not_found)?;
    let Some(release) = packument.release(version) else {
        packument.check_restrictions(version)?;
        return proxy::kept_tarball(npm, cx, name, version, request).await?.ok_or_else(not_found);
    };
    let integrity = sha512(release);
    let head = head(cx, name, packument, integrity.as_deref());
    let response = match &source {
        Some((upstream, verdict)) if release.foreign => {
            let response = proxy::get_tarball(npm, cx, name, release, upstream, request, &head).await?;
            proxy::describe(npm, response, Some(&(Arc::clone(upstream), *verdict)))
        }
        _ => own_tarball(cx, name, packument, version, request, &head).await?,
    };
    Ok(describe(response, integrity.as_deref()))
}

fn head(cx: &Cx, name: &PackageName, packument: &Packument, sha512: Option<&[u8]>) -> FileHead {
    let public = cx.auth.is_public(&access::package(cx, name), packument.notes.access);
    FileHead {
        content_type: "application/octet-stream",
        etag: sha512.map(|hash| ETag::strong(&hex::encode(hash))),
        cache_control: if public { IMMUTABLE_PUBLIC } else { IMMUTABLE_PRIVATE },
    }
}

async fn own_tarball(
    cx: &Cx,
    name: &PackageName,
    packument: &Packument,
    version: &str,
    request: &Request,
    head: &FileHead,
) -> Result<Response> {
    let info = ObjectInfo::of(name.as_str()).version(version);
    let noted = packument.notes.tarballs.get(version).cloned();
    // Another program noted nothing: it is under one of the names that are in use.
    let files = noted.map_or_else(|| keys::candidates(name, version), |file| vec![file]);
    for file in files {
        if let Some(response) = files::serve(cx, request, &keys::file(name, &file)?, head, &info).await? {
            return Ok(response);
        }
    }
    Err(not_found())
}

pub(super) fn describe(response: Response, hash: Option<&[u8]>) -> Response {
    let response = response.static_header(header::CONTENT_DISPOSITION, "attachment");
    match hash {
        // RFC 9530: of the whole file, also on a part of it.
        Some(hash) => response.header("repr-digest", format!("sha-512=:{}:", STANDARD.encode(hash))),
        None => response,
    }
}

/// The version that a file name means: the known prefix and suffix come off.
fn version_of<'a>(name: &PackageName, file: &'a str) -> Option<&'a str> {
    file.strip_prefix(name.unscoped())?.strip_prefix('-')?.strip_suffix(".tgz")
}

/// The tarball's SHA-512, where the manifest has it.
pub(super) fn sha512(release: &Release) -> Option<Vec<u8>> {
    let integrity = Members::parse(&release.manifest)?.object("dist")?.text("integrity")?;
    let hash = integrity.split_ascii_whitespace().find_map(|one| one.strip_prefix("sha512-"))?;
    STANDARD.decode(hash).ok().filter(|hash| hash.len() == 64)
}
