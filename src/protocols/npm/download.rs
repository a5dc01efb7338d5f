//! GET and HEAD of tarballs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::not_found;
use super::json::Members;
use super::model::{Packument, Release};
use super::name::PackageName;
use super::{access, keys, read};
use crate::protocols::files::{self, FileHead, IMMUTABLE_PRIVATE, IMMUTABLE_PUBLIC};
use crate::protocols::prelude::*;

/// `GET /{pkg}/-/{file}.tgz`. Nothing is negotiated, whatever clients ask: most send `Accept-Encoding: gzip`, some the packument's type.
pub(crate) async fn get_tarball(
    cx: &Cx,
    name: &PackageName,
    file: &str,
    request: &Request,
) -> Result<Response> {
    // The packument is in memory as a rule: the client has just had it. It says where the tarball is, what it hashes to, and
    // that it may still be had.
    let loaded = read::load(cx, name, false).await?;
    let release = find(&loaded.document, name, file).ok_or_else(not_found)?;
    let integrity = sha512(release);
    let public = cx.auth.is_public(&access::package(cx, name), loaded.document.notes.access);
    let head = FileHead {
        content_type: "application/octet-stream",
        etag: integrity.as_deref().map(|hash| ETag::strong(&hex::encode(hash))),
        cache_control: if public { IMMUTABLE_PUBLIC } else { IMMUTABLE_PRIVATE },
    };
    let version = release.version.as_ref();
    let info = ObjectInfo::of(name.as_str()).version(version);
    let noted = loaded.document.notes.tarballs.get(version).cloned();
    // Another program noted nothing: it is under one of the names that are in use.
    let files = noted.map_or_else(|| keys::candidates(name, version), |file| vec![file]);
    for file in files {
        if let Some(response) = files::serve(cx, request, &keys::file(name, &file)?, &head, &info).await? {
            return Ok(describe(response, integrity.as_deref()));
        }
    }
    Err(not_found())
}

fn describe(response: Response, hash: Option<&[u8]>) -> Response {
    let response = response.static_header(header::CONTENT_DISPOSITION, "attachment");
    match hash {
        // RFC 9530: of the whole file, also on a part of it.
        Some(hash) => response.header("repr-digest", format!("sha-512=:{}:", STANDARD.encode(hash))),
        None => response,
    }
}

/// The version that a file name means: the known prefix and suffix come off, the rest must be a version that is here.
fn find<'a>(packument: &'a Packument, name: &PackageName, file: &str) -> Option<&'a Release> {
    let version = file.strip_prefix(name.unscoped())?.strip_prefix('-')?.strip_suffix(".tgz")?;
    packument.release(version)
}

/// The tarball's SHA-512, where the manifest has it.
pub(super) fn sha512(release: &Release) -> Option<Vec<u8>> {
    let integrity = Members::parse(&release.manifest)?.object("dist")?.text("integrity")?;
    let hash = integrity.split_ascii_whitespace().find_map(|one| one.strip_prefix("sha512-"))?;
    STANDARD.decode(hash).ok().filter(|hash| hash.len() == 64)
}
