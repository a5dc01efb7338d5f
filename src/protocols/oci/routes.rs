//! Every route: method and segments, from the right since names contain slashes.

use super::super::prelude::*;
use super::name::Name;
use super::{Call, download, error, login, manage, publish, read, referrers, search, upload};

pub(super) async fn dispatch(call: &Call<'_>, path: &Segments, request: Request) -> Result<Response> {
    let method = match request.method.as_str() {
        // HEAD is GET without the body, and the registry takes that off.
        "HEAD" => "GET",
        method => method,
    };
    let method = method.to_owned();
    match (method.as_str(), path.as_strs().as_slice()) {
        ("GET", []) => login::check(call).await,
        ("GET", ["token"]) => login::get_token(call, &request).await,
        ("POST", ["token"]) => login::post_token(call, request).await,
        ("GET", ["_catalog"]) => read::list_repositories(call, &request).await,
        ("GET", ["_oci", "ext", "discover"]) => read::list_extensions(call).await,
        ("GET", ["v1", "search"]) => search::search(call, &request).await,

        ("GET", [name @ .., "tags", "list"]) if !name.is_empty() => {
            read::list_tags(call, &repo(name)?, &request).await
        }
        ("GET", [name @ .., "referrers", digest]) => {
            referrers::list_referrers(call, &repo(name)?, digest, &request).await
        }

        ("GET", [name @ .., "manifests", reference]) => {
            read::get_manifest(call, &repo(name)?, reference, &request).await
        }
        ("PUT", [name @ .., "manifests", reference]) => {
            publish::put_manifest(call, &repo(name)?, reference, request).await
        }
        ("DELETE", [name @ .., "manifests", reference]) => {
            manage::delete_manifest(call, &repo(name)?, reference).await
        }

        ("POST", [name @ .., "blobs", "uploads"]) => upload::start(call, &repo(name)?, request).await,
        ("GET", [name @ .., "blobs", "uploads", id]) => upload::status(call, &repo(name)?, id).await,
        ("PATCH", [name @ .., "blobs", "uploads", id]) => {
            upload::append(call, &repo(name)?, id, request).await
        }
        ("PUT", [name @ .., "blobs", "uploads", id]) => upload::finish(call, &repo(name)?, id, request).await,
        ("DELETE", [name @ .., "blobs", "uploads", id]) => upload::cancel(call, &repo(name)?, id).await,

        ("GET", [name @ .., "blobs", digest]) => {
            download::get_blob(call, &repo(name)?, digest, &request).await
        }
        ("DELETE", [name @ .., "blobs", digest]) => manage::delete_blob(call, &repo(name)?, digest).await,

        (_, path) => Err(no_route(path)),
    }
}

fn repo(segments: &[&str]) -> Result<Name> {
    Name::from_segments(segments)
}

/// The right path with a method that means nothing there is 405 and says which do.
fn no_route(path: &[&str]) -> Error {
    let allow = match path {
        [] | ["_catalog"] | ["v1", "search"] | [.., "tags", "list"] | [.., "referrers", _] => "GET, HEAD",
        ["token"] => "GET, HEAD, POST",
        [.., "manifests", _] => "GET, HEAD, PUT, DELETE",
        [.., "blobs", "uploads"] => "POST",
        [.., "blobs", "uploads", _] => "GET, HEAD, PATCH, PUT, DELETE",
        [.., "blobs", _] => "GET, HEAD, DELETE",
        _ => return Error::not_found("there is nothing at this path").with_code("UNSUPPORTED"),
    };
    error::method_not_allowed(allow)
}
