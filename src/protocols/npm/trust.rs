//! `npm trust`: which builds may publish a package without a token, and `_npmUser` of what they publish.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::not_found;
use super::factor::{TRUSTED, has_mark};
use super::json::{Members, ObjectWriter};
use super::name::PackageName;
use super::{Npm, access, body, keys, read};
use crate::auth::{AuthToken, IdToken};
use crate::core::id;
use crate::protocols::prelude::*;

/// Records of a package at most.
const MAX_RECORDS: usize = 20;
/// Bytes of a record's claims at most.
const MAX_CLAIMS: usize = 4096;
/// May publish.
pub(crate) const PUBLISH: &str = "createPackage";
/// May stage.
const STAGE: &str = "createStagedPackage";

/// One build service, and which of its builds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) claims: Map<String, Value>,
    pub(crate) permissions: Vec<String>,
    created: String,
}

/// Whom a package trusts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Trust {
    pub(crate) records: Vec<Record>,
}

impl JsonDocument for Trust {
    const LIMIT: u64 = 256 << 10;
    const NAME: &'static str = "list of trusted builds";
}

/// What npm sends.
#[derive(Deserialize)]
struct NewRecord {
    #[serde(rename = "type")]
    kind: String,
    claims: Map<String, Value>,
    /// npm up to 11.15 has none, and means publishing.
    permissions: Option<Vec<String>>,
}

impl Record {
    /// Whether an identity token is of the builds that this is about.
    pub(crate) fn covers(&self, token: &IdToken) -> bool {
        if token.kind != self.kind || self.claims.is_empty() {
            return false;
        }
        let said = |name: &str| token.claims.get(name).and_then(Value::as_str).unwrap_or_default();
        self.claims.iter().all(|(name, wanted)| match (self.kind.as_str(), name.as_str()) {
            ("github", "workflow_ref") => {
                let path = format!("{}/.github/workflows/{}@", said("repository"), file(wanted));
                said(name).starts_with(&path)
            }
            ("gitlab", "ci_config_ref_uri") => {
                // `gitlab.example.com/group/project//.gitlab-ci.yml@refs/heads/main`
                let path = format!("/{}//{}@", said("project_path"), file(wanted));
                said(name).split_once('/').is_some_and(|(_, rest)| {
                    let path = path.trim_start_matches('/');
                    rest.starts_with(path)
                })
            }
            _ => agrees(wanted, token.claims.get(name)),
        })
    }

    pub(crate) fn may(&self, permission: &str) -> bool {
        self.permissions.iter().any(|one| one == permission)
    }
}

fn file(wanted: &Value) -> &str {
    wanted.get("file").and_then(Value::as_str).unwrap_or_default()
}

/// A text must be the same; of a list every item must be there.
fn agrees(wanted: &Value, said: Option<&Value>) -> bool {
    match (wanted, said) {
        (Value::Array(wanted), Some(Value::Array(said))) => wanted.iter().all(|one| said.contains(one)),
        (wanted, Some(said)) => wanted == said,
        (_, None) => false,
    }
}

/// What a record of a known kind cannot do without, or it would trust every build of the service.
fn check(new: &NewRecord) -> Result<()> {
    let required: &[&str] = match new.kind.as_str() {
        "github" => &["repository", "workflow_ref"],
        "gitlab" => &["project_path", "ci_config_ref_uri"],
        "circleci" => &["oidc.circleci.com/org-id", "oidc.circleci.com/project-id"],
        _ => &["sub"],
    };
    let unprocessable = |why: String| Err(Error::new(Kind::Unprocessable, why));
    for name in required {
        let value = new.claims.get(*name).unwrap_or(&Value::Null);
        let text = if name.ends_with("_ref") || name.ends_with("_ref_uri") {
            file(value)
        } else {
            value.as_str().unwrap_or_default()
        };
        if text.is_empty() || text.contains(['@', '*']) || text.chars().any(char::is_control) {
            return unprocessable(format!("the claim `{name}` is missing, or no plain text"));
        }
    }
    if Value::Object(new.claims.clone()).to_string().len() > MAX_CLAIMS {
        return unprocessable(format!("the claims are larger than {MAX_CLAIMS} bytes"));
    }
    let known = |one: &String| matches!(one.as_str(), PUBLISH | STAGE);
    if new.permissions.as_ref().is_some_and(|all| all.is_empty() || !all.iter().all(known)) {
        return unprocessable(format!("the permissions are {PUBLISH} and {STAGE}, at least one of them"));
    }
    Ok(())
}

/// `GET /-/package/{pkg}/trust`
pub(crate) async fn list(cx: &Cx, name: &PackageName) -> Result<Response> {
    access::require(cx, name, Action::Admin).await?;
    read::load(cx, name, false).await?;
    Ok(answer(StatusCode::OK, &json!(load(cx, name).await?.records)))
}

/// Whom a package trusts, as the store has it now.
pub(crate) async fn load(cx: &Cx, name: &PackageName) -> Result<Trust> {
    let loaded: Option<Arc<Loaded<Trust>>> = cx.objects.document_revalidated(&keys::trust(name)?).await?;
    Ok(loaded.map(|loaded| loaded.document.clone()).unwrap_or_default())
}

/// `POST /-/package/{pkg}/trust`, with a list of one.
pub(crate) async fn add(npm: &Npm, cx: &Cx, name: &PackageName, mut request: Request) -> Result<Response> {
    access::require(cx, name, Action::Admin).await?;
    read::load(cx, name, false).await?;
    let sent: Vec<NewRecord> = body::json(npm, &mut request, "the record of trust").await?;
    let Ok([new]) = <[NewRecord; 1]>::try_from(sent) else {
        return Err(Error::invalid("send one record of trust at a time"));
    };
    check(&new)?;
    if !cx.auth.believes(&new.kind) {
        return Err(Error::new(
            Kind::Unprocessable,
            format!(
                "this registry knows no issuer of the type {}; its operator adds one to `auth.trustedIssuers`",
                super::name::printable(&new.kind)
            ),
        ));
    }
    let record = Record {
        id: id::uuid(),
        kind: new.kind,
        claims: new.claims,
        permissions: new.permissions.unwrap_or_else(|| vec![PUBLISH.to_owned()]),
        created: cx.clock.now().rfc3339(),
    };
    let change = move |trust: &mut Trust| {
        let same = |one: &&Record| {
            (&one.kind, &one.claims, &one.permissions) == (&record.kind, &record.claims, &record.permissions)
        };
        if let Some(known) = trust.records.iter().find(same) {
            return Ok(Edit::Unchanged(known.clone()));
        }
        if trust.records.len() >= MAX_RECORDS {
            return Err(Error::new(Kind::Conflict, format!("a package trusts at most {MAX_RECORDS} builds")));
        }
        trust.records.push(record.clone());
        Ok(Edit::Changed(record.clone()))
    };
    let added = cx.objects.update(&keys::trust(name)?, &ObjectInfo::default(), change).await?;
    tracing::info!(package = name.as_str(), id = added.id, "a build is trusted");
    Ok(answer(StatusCode::CREATED, &json!([added])))
}

/// `DELETE /-/package/{pkg}/trust/{id}`
pub(crate) async fn remove(cx: &Cx, name: &PackageName, id: &str) -> Result<Response> {
    access::require(cx, name, Action::Admin).await?;
    let id = id.to_owned();
    let change = move |trust: &mut Trust| {
        let before = trust.records.len();
        trust.records.retain(|record| record.id != id);
        // Nothing there is a 404 and not a success: a mistyped id must not look like a revocation.
        if trust.records.len() == before { Err(not_found()) } else { Ok(Edit::Changed(())) }
    };
    cx.objects.update(&keys::trust(name)?, &ObjectInfo::default(), change).await?;
    Ok(answer(StatusCode::OK, &json!({ "ok": true })))
}

/// Trusts nobody any more: whoever takes the name next has not said so.
pub(crate) async fn forget(cx: &Cx, name: &PackageName) -> Result<()> {
    cx.objects.storage().delete_document(&keys::trust(name)?).await
}

/// The manifest of a version with who published it, if that was a trusted build: pnpm and deno rank versions by it.
pub(crate) fn mark(cx: &Cx, manifest: Vec<u8>) -> Vec<u8> {
    let Some(token) = cx.identity.token().filter(|token| has_mark(token, TRUSTED)) else { return manifest };
    let mut out = Vec::with_capacity(manifest.len() + 256);
    let mut writer = ObjectWriter::begin(&mut out);
    for (name, value) in &Members::parse(&manifest).unwrap_or_default().0 {
        if name == "_npmUser" {
            writer.member("_npmUser", &publisher(token));
        } else {
            writer.raw(name, value.get().as_bytes());
        }
    }
    writer.end();
    out
}

fn publisher(token: &AuthToken) -> Value {
    let trusted = token.metadata.as_ref().and_then(|all| all.get(TRUSTED)).cloned().unwrap_or_default();
    json!({ "name": token.user_id, "email": "", "trustedPublisher": trusted })
}

fn answer(status: StatusCode, value: &Value) -> Response {
    Response::json(status, value).static_header(header::CACHE_CONTROL, "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: &str, claims: Value) -> Record {
        let Value::Object(claims) = claims else { panic!() };
        Record {
            id: String::new(),
            kind: kind.to_owned(),
            claims,
            permissions: vec![PUBLISH.to_owned()],
            created: String::new(),
        }
    }

    fn token(kind: &str, claims: Value) -> IdToken {
        let Value::Object(claims) = claims else { panic!() };
        IdToken { kind: kind.to_owned(), claims }
    }

    #[test]
    fn a_github_workflow_is_that_file_of_that_repository() {
        let record = record(
            "github",
            json!({ "repository": "o/r", "workflow_ref": { "file": "release.yml" }, "environment": "prod" }),
        );
        let build = |repository: &str, reference: &str, environment: Value| {
            token(
                "github",
                json!({ "repository": repository, "workflow_ref": reference, "environment": environment }),
            )
        };
        let right = "o/r/.github/workflows/release.yml@refs/heads/main";
        assert!(record.covers(&build("o/r", right, json!("prod"))));
        assert!(!record.covers(&build("o/r", right, Value::Null)));
        assert!(!record.covers(&build("o/r", right, json!("dev"))));
        assert!(!record.covers(&build("evil/r", right, json!("prod"))));
        assert!(!record.covers(&build("evil/r", "evil/r/.github/workflows/release.yml@x", json!("prod"))));
        assert!(!record.covers(&build("o/r", "o/r/.github/workflows/release.yml.evil@x", json!("prod"))));
        assert!(
            !record.covers(&build("o/r", "evil/x/.github/workflows/release.yml@x", json!("prod"))),
            "a reused workflow of others"
        );
        assert!(!record.covers(&token(
            "gitlab",
            json!({ "repository": "o/r", "workflow_ref": right, "environment": "prod" })
        )));
    }

    #[test]
    fn a_gitlab_pipeline_and_a_circleci_project() {
        let lab = record(
            "gitlab",
            json!({ "project_path": "g/s/p", "ci_config_ref_uri": { "file": ".gitlab-ci.yml" } }),
        );
        let build = |path: &str, uri: &str| {
            token("gitlab", json!({ "project_path": path, "ci_config_ref_uri": uri }))
        };
        assert!(lab.covers(&build("g/s/p", "gitlab.example.com/g/s/p//.gitlab-ci.yml@refs/heads/main")));
        assert!(!lab.covers(&build("g/s/p", "gitlab.example.com/g/s/p//other.yml@refs/heads/main")));
        assert!(!lab.covers(&build("x/p", "gitlab.example.com/x/p//.gitlab-ci.yml@refs/heads/main")));
        assert!(!lab.covers(&build("g/s/p", "gitlab.example.com/evil/g/s/p//.gitlab-ci.yml@x")));
        let circle = record(
            "circleci",
            json!({ "oidc.circleci.com/org-id": "o", "oidc.circleci.com/project-id": "p", "oidc.circleci.com/context-ids": ["c"] }),
        );
        let build = |contexts: Value| {
            token(
                "circleci",
                json!({ "oidc.circleci.com/org-id": "o", "oidc.circleci.com/project-id": "p", "oidc.circleci.com/context-ids": contexts }),
            )
        };
        assert!(circle.covers(&build(json!(["a", "c"]))));
        assert!(!circle.covers(&build(json!(["a"]))) && !circle.covers(&build(Value::Null)));
    }

    #[test]
    fn a_record_that_would_trust_everybody_is_refused() {
        for (kind, claims) in [
            ("github", json!({})),
            ("github", json!({ "repository": "o/r" })),
            ("github", json!({ "repository": "", "workflow_ref": { "file": "x.yml" } })),
            ("github", json!({ "repository": "o/*", "workflow_ref": { "file": "x.yml" } })),
            ("github", json!({ "repository": "o/r", "workflow_ref": { "file": "x.yml@refs" } })),
            ("gitlab", json!({ "project_path": "a/b" })),
            ("circleci", json!({ "oidc.circleci.com/org-id": "o" })),
            ("own", json!({ "anything": "x" })),
        ] {
            let Value::Object(claims) = claims else { panic!() };
            let new = NewRecord { kind: kind.to_owned(), claims, permissions: None };
            assert!(check(&new).is_err(), "{kind} {:?}", new.claims);
        }
        let Value::Object(claims) = json!({ "sub": "x" }) else { panic!() };
        let new =
            NewRecord { kind: "own".to_owned(), claims, permissions: Some(vec!["everything".to_owned()]) };
        assert!(check(&new).is_err());
        assert!(!record("github", json!({})).covers(&token("github", json!({}))));
    }
}
