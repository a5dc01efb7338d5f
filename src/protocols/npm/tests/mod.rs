//! Full requests on a registry in memory, as each client sends them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod accounts;
mod attacks;
mod batch;
mod costs;
mod faults;
mod gc;
mod large;
mod lists;
mod manage;
mod proxy;
mod publish;
mod races;
mod read;
mod signing;
mod stage;
mod teams;
mod trespass;
mod trust;
mod trust_keys;
mod users;
mod weblogin;

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::core::digest::{Algorithm, Digest};
use crate::testing::{TestRegistry, TestRequest, TestResponse};

/// A package about to be published.
#[derive(Clone)]
struct Package {
    name: String,
    version: String,
    /// What `package.json` and the manifest have beside name and version.
    fields: Value,
    files: Vec<(String, Vec<u8>)>,
    /// The tarball, if it is not to be made of the above.
    tarball: Option<Vec<u8>>,
}

impl Package {
    fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            fields: json!({}),
            files: vec![("index.js".to_owned(), b"module.exports = 1\n".to_vec())],
            tarball: None,
        }
    }

    fn fields(mut self, fields: Value) -> Self {
        self.fields = fields;
        self
    }

    fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.to_owned(), content.into()));
        self
    }

    fn tarball(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.tarball = Some(bytes.into());
        self
    }

    fn package_json(&self) -> Value {
        let mut value = json!({ "name": self.name, "version": self.version });
        for (key, field) in self.fields.as_object().unwrap() {
            value[key] = field.clone();
        }
        value
    }

    fn tgz(&self) -> Vec<u8> {
        if let Some(bytes) = &self.tarball {
            return bytes.clone();
        }
        let mut files = vec![("package.json".to_owned(), self.package_json().to_string().into_bytes())];
        files.extend(self.files.clone());
        let files: Vec<_> =
            files.iter().map(|(path, content)| (format!("package/{path}"), content.clone())).collect();
        tgz(&files)
    }

    fn unscoped(&self) -> &str {
        self.name.rsplit('/').next().unwrap()
    }

    /// The manifest as npm puts it into the body.
    fn manifest(&self) -> Value {
        let tgz = self.tgz();
        let mut value = self.package_json();
        value["_id"] = json!(format!("{}@{}", self.name, self.version));
        value["readme"] = json!(format!("# {}", self.name));
        value["dist"] = json!({
            "integrity": Digest::of(Algorithm::Sha512, &tgz).integrity(),
            "shasum": Digest::of(Algorithm::Sha1, &tgz).hex(),
            "tarball": format!("http://registry.example.com/npm/{0}/-/{0}-{1}.tgz", self.name, self.version),
        });
        value
    }

    fn attachments(&self) -> Value {
        let tgz = self.tgz();
        json!({ format!("{}-{}.tgz", self.name, self.version): {
            "content_type": "application/octet-stream", "data": STANDARD.encode(&tgz), "length": tgz.len(),
        } })
    }

    /// The body as npm sends it: attachments last.
    fn body(&self) -> Value {
        json!({
            "_id": self.name, "name": self.name, "dist-tags": { "latest": self.version },
            "versions": { self.version.as_str(): self.manifest() }, "access": null, "_attachments": self.attachments(),
        })
    }

    fn path(&self) -> String {
        format!("/npm/{}", self.name.replace('/', "%2f"))
    }

    fn put(&self) -> TestRequest {
        TestRequest::put(&self.path()).header("user-agent", NPM).json(&self.body())
    }

    fn tarball_path(&self) -> String {
        format!("/npm/{}/-/{}-{}.tgz", self.name, self.unscoped(), self.version)
    }
}

/// A gzipped tar file of the given files.
fn tgz(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(data: &[u8]) -> Vec<u8> {
    use std::io::Read as _;
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(data).read_to_end(&mut out).unwrap();
    out
}

/// Keys of a JSON object in the order of the text.
fn keys_of(text: &str) -> Vec<String> {
    let members: super::json::Members<'_> = serde_json::from_str(text).unwrap();
    members.0.iter().map(|(key, _)| key.to_string()).collect()
}

/// Every key there is, ours too, but for the registry's signing key, which any publish may bring into being.
async fn all_keys(registry: &TestRegistry) -> Vec<String> {
    let keys = registry.keys(true).await;
    keys.into_iter().filter(|key| key != "_sr/npm/signing-keys.json").collect()
}

/// How npm calls itself.
const NPM: &str = "npm/11.21.2 node/v20.20.2 linux x64 workspaces/false";

async fn publish(registry: &TestRegistry, name: &str, version: &str) -> Package {
    let package = Package::new(name, version);
    let answer = registry.send(package.put()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    package
}

async fn packument(registry: &TestRegistry, name: &str) -> Value {
    let answer = registry.send(TestRequest::get(&format!("/npm/{name}"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Every version that the packument names has its tarball, and the tarball is what the packument says it is.
async fn check_whole(registry: &TestRegistry, name: &str) {
    let document = packument(registry, name).await;
    for (version, manifest) in document["versions"].as_object().unwrap() {
        let path =
            manifest["dist"]["tarball"].as_str().unwrap().trim_start_matches("http://registry.example.com");
        let answer = registry.send(TestRequest::get(path)).await;
        assert_eq!(answer.status, 200, "{name}@{version}");
        let integrity = Digest::of(Algorithm::Sha512, answer.bytes()).integrity();
        assert_eq!(manifest["dist"]["integrity"], integrity, "{name}@{version}");
    }
}

fn error_of(answer: &TestResponse) -> String {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{}", answer.text());
    let value = answer.json();
    assert_eq!(value["error"], value["message"]);
    value["error"].as_str().unwrap().to_owned()
}
