//! Holds the structure: which layer may know which, which crate belongs where, and what every file and protocol folder looks like.
//!
//! The tables are the rules; `check` reads the sources against them. A new layer, crate or room is a line here, with a reason in the review.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod check;
mod walk;

use check::{Source, check};

/// Layer (a file or folder right below `src/`) and the layers it may name. A layer may always name itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("config", &["core"]),
    ("handoff", &["core"]),
    ("storage", &["core", "config"]),
    ("auth", &["core", "config", "storage"]),
    ("upstream", &["core", "config", "storage"]),
    ("index", &["core", "config", "storage"]),
    ("maintenance", &["core", "storage"]),
    ("protocols", &["core", "config", "storage", "auth", "upstream", "index", "maintenance"]),
    ("events", &["core", "config", "storage", "auth", "index", "upstream", "maintenance"]),
    ("metrics", &["core", "storage", "upstream"]),
    ("readiness", &["core", "storage"]),
    (
        "registry",
        &[
            "core",
            "config",
            "storage",
            "auth",
            "upstream",
            "index",
            "maintenance",
            "events",
            "protocols",
            "metrics",
            "readiness",
        ],
    ),
    ("http", &["core", "config", "metrics", "registry"]),
    // The three provider traits are what JavaScript objects become; `protocols` gives it their names.
    (
        "node",
        &[
            "core",
            "handoff",
            "config",
            "storage",
            "auth",
            "upstream",
            "maintenance",
            "protocols",
            "metrics",
            "registry",
            "http",
        ],
    ),
];

/// A path outside this crate (a crate, or a module of one), the places that may name it, and why nobody else.
const BELONGS: &[(&str, &[&str], &str)] = &[
    ("napi", &["node"], "only the binding knows Node"),
    ("napi_derive", &["node"], "only the binding knows Node"),
    ("napi_build", &[], "only build.rs needs it"),
    (
        "hyper",
        &["http", "upstream/client"],
        "only the listener serves HTTP, and the client's errors are its errors",
    ),
    (
        "hyper_util",
        &["http", "storage/s3/error"],
        "only the listener serves HTTP, and the SDK's errors are its errors",
    ),
    ("reqwest", &["upstream"], "only `upstream` asks others"),
    ("http_auth", &["upstream"], "only `upstream` is challenged by others"),
    ("psl", &["upstream"], "only `upstream` asks whose domain a host is in"),
    ("rustls_native_certs", &["upstream"], "only `upstream` asks others"),
    ("tokio_rustls", &["http"], "only the listener speaks TLS itself"),
    (
        "rustls",
        &["http", "upstream", "storage/s3", "storage/roots"],
        "only the listener and the two clients speak TLS themselves",
    ),
    ("tokio::net", &["http", "upstream"], "sockets belong to the listener; `upstream` looks names up"),
    ("std::net::TcpStream", &[], "a blocking socket has no place on an async thread"),
    ("std::net::TcpListener", &[], "a blocking socket has no place on an async thread"),
    ("aws_config", &["storage/s3"], "only the S3 backend knows the SDK"),
    ("aws_runtime", &["storage/s3"], "only the S3 backend knows the SDK"),
    ("aws_sdk_s3", &["storage/s3"], "only the S3 backend knows the SDK"),
    ("aws_smithy_http_client", &["storage/s3"], "only the S3 backend knows the SDK"),
    ("aws_smithy_runtime_api", &["storage/s3"], "only the S3 backend knows the SDK"),
    ("aws_smithy_types", &["storage/s3"], "only the S3 backend knows the SDK"),
    (
        "rustix",
        &["storage/local", "node/runtime"],
        "system calls belong to the local store, and to who has a process to itself",
    ),
    (
        "std::fs",
        &["storage/local", "http/tls"],
        "files belong to the local store and to the listener's certificates",
    ),
    (
        "tokio::fs",
        &["storage/local", "http/tls"],
        "files belong to the local store and to the listener's certificates",
    ),
    ("std::process", &[], "a library neither starts programs nor ends its own"),
    ("std::env", &["node"], "configuration comes in through `Config`"),
    ("argon2", &["auth"], "passwords belong to `auth`"),
    ("redis", &["auth/stores/redis"], "only the token store in Redis asks Redis"),
    ("sqlx", &["auth/stores/database"], "only the token store in a database asks databases"),
    ("jsonwebtoken", &["auth"], "tokens belong to `auth`"),
    ("ring", &["core", "auth"], "signatures are made in `core` and checked in `auth`"),
    ("totp_rs", &["auth"], "second factors belong to `auth`"),
    ("governor", &["auth"], "counting tries belongs to `auth`"),
    ("prometheus_client", &["metrics"], "numbers have one owner"),
    (
        "tokio::spawn",
        &["core/task", "storage/suite", "testing"],
        "`core::task` begins tasks that log where they belong",
    ),
    ("tracing_subscriber", &["node"], "a library emits events; who listens is for the host to say"),
];

/// Layers that do no IO and wait for nothing.
const PURE: &[&str] = &["core", "config"];

/// What a pure layer may not name: `tokio` but for moving work off the async threads.
const IMPURE: &[&str] =
    &["std::fs", "std::net::TcpStream", "std::thread", "tokio::fs", "tokio::net", "tokio::time", "tokio::io"];

/// Rooms that any protocol folder may have.
const ROOMS: &[&str] = &[
    "mod",
    "routes",
    "name",
    "keys",
    "model",
    "read",
    "download",
    "publish",
    "manage",
    "login",
    "inventory",
    "verify",
    "options",
    "search",
    "proxy",
    "error",
    "tests",
    "fuzzing",
];

/// Further rooms, by protocol.
const EXTRA_ROOMS: &[(&str, &[&str])] = &[
    (
        "oci",
        &[
            "links",
            "manifests",
            "session",
            "site",
            "strict",
            "tags",
            "upload",
            "referrers",
            "catalog",
            "immutable",
            "openings",
            "gc",
            "retention",
            "pulls",
        ],
    ),
    (
        "npm",
        &[
            "access",
            "attestations",
            "audit",
            "batch",
            "body",
            "change",
            "decode",
            "edit",
            "exchange",
            "factor",
            "feed",
            "gc",
            "inspect",
            "intake",
            "json",
            "manifest",
            "orgs",
            "profile",
            "query",
            "readme",
            "representations",
            "signing",
            "stage",
            "stars",
            "teams",
            "tokens",
            "trust",
            "upload",
            "version",
            "weblogin",
        ],
    ),
];

#[test]
fn the_sources_keep_the_rules() {
    let sources = walk::sources("src");
    assert!(sources.len() > 50, "the sources were not found");
    let broken = check(&sources);
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_test_that_stands_for_an_attack_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let quoted: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let mut found = 0;
    for pair in quoted.windows(2).filter(|pair| pair[0].strip_suffix(".rs").is_some()) {
        let (file, name) = (pair[0], pair[1]);
        let places = ["src", "src/protocols", "."].map(|place| root.join(place).join(file));
        let source = places.iter().find_map(|place| std::fs::read_to_string(place).ok());
        let source = source.unwrap_or_else(|| panic!("docs/security.md names {file}, which is not there"));
        assert!(source.contains(&format!("fn {name}()")), "docs/security.md: {file} has no test {name}");
        found += 1;
    }
    assert!(found > 50, "the table was not read");
}

fn one(path: &str, text: &str) -> Vec<String> {
    check(&[Source { path: path.to_owned(), text: format!("//! Test.\n{text}") }])
}

#[test]
fn a_layer_that_looks_up_is_named_with_its_line() {
    for text in [
        "\nuse crate::storage::Key;",
        "\nfn f() -> crate::storage::Key { todo!() }",
        "\nfn f() { g(super::super::super::storage::Key::new()) }",
        "\nuse crate::{error::Error, storage::{Key, Prefix}};",
        "\nfn f() { matches!(x, crate::storage::Key { .. }) }",
    ] {
        let broken = one("src/core/a/b.rs", text);
        let expected = "src/core/a/b.rs:3: `core` may not know `storage`";
        assert!(broken.first().is_some_and(|line| line.starts_with(expected)), "{text}: {broken:?}");
    }
    assert_eq!(one("src/storage/a.rs", "use crate::core::error::Error; use super::key::Key;"), [""; 0]);
    assert!(one("src/planets/a.rs", "").iter().any(|line| line.contains("`planets` is no layer")));
}

#[test]
fn a_protocol_that_looks_at_its_sibling_is_named() {
    let npm = Source {
        path: "src/protocols/npm/read.rs".into(),
        text: "//! A.\nuse super::super::oci::name::Name;\n".into(),
    };
    let oci = Source {
        path: "src/protocols/oci/name.rs".into(),
        text: "//! B.\nuse super::super::prelude::Key;\n".into(),
    };
    let broken = check(&[npm, oci]);
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(
        broken[0].starts_with("src/protocols/npm/read.rs:2: a protocol never knows a sibling"),
        "{broken:?}"
    );
}

#[test]
fn a_crate_out_of_its_place_is_named_but_tests_may_use_it() {
    let cases = [
        ("src/http/a.rs", "use napi::Env;", "only the binding knows Node"),
        ("src/protocols/npm/read.rs", "fn f() { aws_sdk_s3::Client::new(); }", "only the S3 backend"),
        ("src/auth/a.rs", "fn f() { std::fs::read(\"a\"); }", "files belong to"),
        ("src/auth/a.rs", "use std::{fs, io};", "files belong to"),
        ("src/registry.rs", "use hyper::body::Incoming;", "only the listener"),
        ("src/core/a.rs", "async fn f() { tokio::time::sleep(x).await }", "`core` does no IO"),
    ];
    for (path, text, why) in cases {
        let broken = one(path, text);
        assert!(broken.iter().any(|line| line.contains(why)), "{path} {text}: {broken:?}");
        let tested = format!("#[cfg(test)]\nmod tests {{ {text} }}");
        assert_eq!(one(path, &tested), [""; 0]);
    }
    assert_eq!(one("src/storage/local/os.rs", "use std::fs; use rustix::fs::fsync;"), [""; 0]);
    assert_eq!(one("src/http/tls.rs", "fn f() { tokio::fs::read(\"a\"); }"), [""; 0]);
}

#[test]
fn a_file_without_a_purpose_a_strange_room_and_a_stray_key_are_named() {
    let silent = Source { path: "src/core/a.rs".into(), text: "use std::fmt;".into() };
    assert!(check(&[silent])[0].contains("begins with a `//!` line"));
    assert!(one("src/protocols/npm/helpers.rs", "").iter().any(|line| line.contains("`helpers` is no room")));
    assert!(one("src/protocols/cargo/upload.rs", "").iter().any(|line| line.contains("`upload` is no room")));
    assert_eq!(one("src/protocols/oci/upload.rs", ""), [""; 0]);
    let stray = one("src/protocols/npm/read.rs", "fn f() { Key::new(\"npm/a\") }");
    assert!(
        stray[0].starts_with("src/protocols/npm/read.rs:2: a protocol makes its keys in keys.rs"),
        "{stray:?}"
    );
    assert_eq!(one("src/protocols/npm/keys.rs", "fn f() { Key::new(\"npm/a\") }"), [""; 0]);
}
