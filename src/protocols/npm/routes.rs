//! Method and path to one function.

use super::error::not_found;
use super::name::PackageName;
use super::{
    Npm, attestations, audit, batch, download, feed, login, manage, proxy, publish, read, search, signing,
    stage, stars, tokens,
};
use super::{exchange, factor, profile, teams, trust, weblogin};
use crate::protocols::prelude::*;

/// A request that is understood.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Route<'a> {
    Packument(&'a str),
    PutPackage(&'a str),
    Version(&'a str, &'a str),
    Tarball(&'a str, &'a str),
    PutRevision(&'a str, &'a str),
    DeletePackage(&'a str, &'a str),
    DeleteVersion(&'a str, &'a str),
    DeleteTarball(&'a str, &'a str),
    Tags(&'a str),
    SetTags(&'a str, bool),
    Tag(&'a str, &'a str),
    SetTag(&'a str, &'a str),
    RemoveTag(&'a str, &'a str),
    Visibility(&'a str),
    SetAccess(&'a str),
    Login(&'a str),
    User(&'a str),
    Logout(&'a str),
    Whoami,
    Ping,
    Profile,
    SetProfile,
    BeginLogin,
    LoginPage(&'a str, &'a str),
    SubmitLogin(&'a str, &'a str),
    LoginDone(&'a str, &'a str),
    Collaborators(&'a str),
    UserPackages(&'a str),
    OrgPackages(&'a str),
    OrgUsers(&'a str),
    SetOrgUser(&'a str),
    RemoveOrgUser(&'a str),
    OrgTeams(&'a str),
    CreateTeam(&'a str),
    DestroyTeam(&'a str, &'a str),
    TeamUsers(&'a str, &'a str),
    SetTeamUser(&'a str, &'a str, bool),
    TeamPackages(&'a str, &'a str),
    SetTeamPackage(&'a str, &'a str, bool),
    ListTrust(&'a str),
    AddTrust(&'a str),
    RemoveTrust(&'a str, &'a str),
    Exchange(&'a str),
    ListTokens,
    CreateToken,
    DeleteToken(&'a str),
    Search,
    Changes,
    Root,
    AuditBulk,
    AuditQuick,
    Keys,
    Attestations(&'a str, &'a str),
    StarredByUser,
    Star(bool),
    Stars(Option<&'a str>),
    AddOwner(&'a str),
    RemoveOwner(&'a str, &'a str),
    PublishBatch,
    Stage(&'a str),
    ListStaged,
    Staged(&'a str),
    StagedTarball(&'a str),
    ApproveStaged(&'a str),
    RejectStaged(&'a str),
}

impl Route<'_> {
    /// Whether it changes something that the caller's second factor may stand before. The account's own affairs ask for it themselves.
    fn changes(self, method: &Method) -> bool {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let asks_itself = matches!(
            self,
            Route::Login(_) | Route::Logout(_) | Route::CreateToken | Route::SetProfile | Route::BeginLogin
        );
        let changes_nothing = matches!(
            self,
            Route::SubmitLogin(..)
                | Route::Exchange(_)
                | Route::AuditBulk
                | Route::AuditQuick
                // Whoever approves it is asked.
                | Route::Stage(_)
        );
        !(reads || asks_itself || changes_nothing)
    }
}

/// Whether a request is about to log in.
pub(crate) fn logs_in(method: &Method, path: &Segments) -> bool {
    matches!(route(method, &Parts::of(path.parts())), Some(Route::Login(_) | Route::BeginLogin))
}

/// Answers a request.
pub(crate) async fn dispatch(npm: &Npm, cx: &Cx, path: &Segments, request: Request) -> Result<Response> {
    let parts = Parts::of(path_of(cx, &request.method, path.parts()));
    if request.method == Method::OPTIONS {
        return options(npm, &parts);
    }
    let Some(route) = route(&request.method, &parts) else { return Err(no_route(&request.method, &parts)) };
    let changes = route.changes(&request.method);
    if changes {
        factor::guard(cx, factor::code(&request).as_ref(), Some(parts.package.as_str())).await?;
    }
    let answer = answer(npm, cx, route, request).await;
    match (answer, PackageName::parse(&parts.package)) {
        (Err(refusal), Ok(name)) if changes => Err(proxy::explain(npm, cx, &name, refusal).await),
        (answer, _) => answer,
    }
}

async fn answer(npm: &Npm, cx: &Cx, route: Route<'_>, request: Request) -> Result<Response> {
    // Nothing can be stored under a name that is none; for a reader it just isn't there.
    let name = |text: &str| {
        PackageName::parse(text).map_err(|error| {
            let reads = matches!(request.method, Method::GET | Method::HEAD);
            if reads { Error::not_found(error.message().to_owned()) } else { error }
        })
    };
    match route {
        Route::Packument(pkg) => read::get_packument(npm, cx, &name(pkg)?, &request).await,
        Route::PutPackage(pkg) => publish::put_package(npm, cx, &name(pkg)?, request).await,
        Route::Version(pkg, version) => read::get_version(npm, cx, &name(pkg)?, version).await,
        Route::Tarball(pkg, file) => download::get_tarball(npm, cx, &name(pkg)?, file, &request).await,
        Route::PutRevision(pkg, rev) => manage::put_revision(npm, cx, &name(pkg)?, rev, request).await,
        Route::DeletePackage(pkg, rev) => manage::unpublish_package(cx, &name(pkg)?, rev).await,
        Route::DeleteVersion(pkg, version) => manage::unpublish_version(npm, cx, &name(pkg)?, version).await,
        Route::DeleteTarball(pkg, file) => manage::delete_tarball(cx, &name(pkg)?, file).await,
        Route::Tags(pkg) => read::list_tags(npm, cx, &name(pkg)?).await,
        Route::SetTags(pkg, replace) => manage::set_tags(npm, cx, &name(pkg)?, replace, request).await,
        Route::Tag(pkg, tag) => read::get_tag(npm, cx, &name(pkg)?, tag).await,
        Route::SetTag(pkg, tag) => manage::set_tag(npm, cx, &name(pkg)?, tag, request).await,
        Route::RemoveTag(pkg, tag) => manage::remove_tag(cx, &name(pkg)?, tag).await,
        Route::Visibility(pkg) => manage::get_visibility(cx, &name(pkg)?).await,
        Route::SetAccess(pkg) => manage::set_access(npm, cx, &name(pkg)?, request).await,
        Route::Login(user) => login::login(npm, cx, user, request).await,
        Route::User(user) => login::get_user(cx, user).await,
        Route::Logout(token) => login::logout(cx, token, &request).await,
        Route::Whoami => login::whoami(cx),
        Route::Ping => Ok(login::ping()),
        Route::Profile => profile::get_profile(cx).await,
        Route::SetProfile => profile::set_profile(npm, cx, request).await,
        Route::BeginLogin => weblogin::begin(npm, cx, request).await,
        Route::LoginPage(session, secret) => weblogin::page(npm, cx, session, secret).await,
        Route::SubmitLogin(session, secret) => weblogin::submit(npm, cx, session, secret, request).await,
        Route::LoginDone(session, secret) => weblogin::done(npm, cx, session, secret).await,
        Route::Collaborators(pkg) => teams::collaborators(cx, &name(pkg)?, &request).await,
        Route::UserPackages(user) => teams::user_packages(cx, user).await,
        Route::OrgPackages(org) => teams::org_packages(cx, org).await,
        Route::OrgUsers(org) => teams::org_users(cx, org).await,
        Route::SetOrgUser(org) => teams::set_org_user(npm, cx, org, request).await,
        Route::RemoveOrgUser(org) => teams::remove_org_user(npm, cx, org, request).await,
        Route::OrgTeams(org) => teams::org_teams(cx, org).await,
        Route::CreateTeam(org) => teams::create_team(npm, cx, org, request).await,
        Route::DestroyTeam(org, team) => teams::destroy_team(cx, org, team).await,
        Route::TeamUsers(org, team) => teams::team_users(cx, org, team).await,
        Route::SetTeamUser(org, team, on) => teams::set_team_user(npm, cx, org, team, on, request).await,
        Route::TeamPackages(org, team) => teams::team_packages(cx, org, team).await,
        Route::SetTeamPackage(org, team, on) => {
            teams::set_team_package(npm, cx, org, team, on, request).await
        }
        Route::ListTrust(pkg) => trust::list(cx, &name(pkg)?).await,
        Route::AddTrust(pkg) => trust::add(npm, cx, &name(pkg)?, request).await,
        Route::RemoveTrust(pkg, id) => trust::remove(cx, &name(pkg)?, id).await,
        Route::Exchange(pkg) => exchange::exchange(cx, &name(pkg)?, &request).await,
        Route::ListTokens => tokens::list(cx, &request).await,
        Route::CreateToken => tokens::create(npm, cx, request).await,
        Route::DeleteToken(key) => tokens::delete(cx, key, &request).await,
        Route::Search => search::search(npm, cx, &request).await,
        Route::Changes => feed::changes(cx, &request).await,
        Route::Root => feed::root(cx).await,
        Route::AuditBulk => audit::bulk(npm, cx, request).await,
        Route::AuditQuick => audit::quick(npm, cx, request).await,
        Route::Keys => signing::get_keys(&npm.signing, cx).await,
        Route::Attestations(pkg, version) => attestations::get(npm, cx, &name(pkg)?, version, &request).await,
        Route::StarredByUser => stars::starred_by_user(cx, &request).await,
        Route::Star(on) => stars::mark(npm, cx, on, request).await,
        Route::Stars(user) => stars::list(cx, user).await,
        Route::AddOwner(pkg) => manage::add_owner(npm, cx, &name(pkg)?, request).await,
        Route::RemoveOwner(pkg, user) => manage::remove_owner(cx, &name(pkg)?, user).await,
        Route::PublishBatch => batch::publish_all(npm, cx, request).await,
        Route::Stage(pkg) => stage::stage(npm, cx, &name(pkg)?, request).await,
        Route::ListStaged => stage::list(cx, &request).await,
        Route::Staged(id) => stage::get(cx, id).await,
        Route::StagedTarball(id) => stage::get_tarball(cx, id, &request).await,
        Route::ApproveStaged(id) => stage::approve(npm, cx, id, &request).await,
        Route::RejectStaged(id) => stage::reject(cx, id).await,
    }
}

/// The path, without the base path once more: npm 6 puts the whole path of a tarball's URL behind the registry's, to delete it, and npm 10 that of the
/// attestations, to read them.
fn path_of<'a>(cx: &Cx, method: &Method, parts: &'a [String]) -> &'a [String] {
    let may_be = *method == Method::DELETE || parts.iter().any(|part| part == "attestations");
    if !may_be || route(method, &Parts::of(parts)).is_some() {
        return parts;
    }
    let base = Segments::parse(&cx.mount.prefix).ok();
    let rest = base.as_ref().and_then(|base| parts.strip_prefix(base.parts()));
    let doubled = |rest: &&[String]| {
        matches!(route(method, &Parts::of(rest)), Some(Route::DeleteTarball(..) | Route::Attestations(..)))
    };
    rest.filter(doubled).unwrap_or(parts)
}

fn route<'a>(method: &Method, parts: &'a Parts<'a>) -> Option<Route<'a>> {
    const GET: &Method = &Method::GET;
    const PUT: &Method = &Method::PUT;
    const POST: &Method = &Method::POST;
    const DELETE: &Method = &Method::DELETE;
    let method = if method == Method::HEAD { GET } else { method };
    let pkg = parts.package.as_str();
    Some(match (method, parts.rest.as_slice()) {
        (GET, ["pkg"]) => Route::Packument(pkg),
        (PUT, ["pkg"]) => Route::PutPackage(pkg),
        (PUT, ["pkg", "-rev", rev]) => Route::PutRevision(pkg, rev),
        (DELETE, ["pkg", "-rev", rev]) => Route::DeletePackage(pkg, rev),
        (GET, ["pkg", "-", file]) => Route::Tarball(pkg, file),
        // `@acme/widget/-/@acme/widget-1.0.0.tgz`: in old lockfiles, and what publish bodies name.
        (GET, ["pkg", "-", scope, file]) if parts.is_scope(scope) => Route::Tarball(pkg, file),
        (DELETE, ["pkg", "-", version]) => Route::DeleteVersion(pkg, version),
        (DELETE, ["pkg", "-", file, "-rev", _]) => Route::DeleteTarball(pkg, file),
        (DELETE, ["pkg", "-", scope, file, "-rev", _]) if parts.is_scope(scope) => {
            Route::DeleteTarball(pkg, file)
        }
        (GET, ["pkg", version]) => Route::Version(pkg, version),

        (GET, ["-", "package", "pkg", "dist-tags"]) => Route::Tags(pkg),
        (PUT, ["-", "package", "pkg", "dist-tags"]) => Route::SetTags(pkg, true),
        (POST, ["-", "package", "pkg", "dist-tags"]) => Route::SetTags(pkg, false),
        (GET, ["-", "package", "pkg", "dist-tags", tag]) => Route::Tag(pkg, tag),
        (PUT | POST, ["-", "package", "pkg", "dist-tags", tag]) => Route::SetTag(pkg, tag),
        (DELETE, ["-", "package", "pkg", "dist-tags", tag]) => Route::RemoveTag(pkg, tag),
        (GET, ["-", "package", "pkg", "visibility"]) => Route::Visibility(pkg),
        (POST, ["-", "package", "pkg", "access"]) => Route::SetAccess(pkg),

        (GET, []) => Route::Root,
        (GET, ["-", "v1", "search"]) => Route::Search,
        (GET, ["_changes"] | ["-", "_changes" | "changes"]) => Route::Changes,
        (GET, ["-", "ping"]) => Route::Ping,
        (GET, ["-", "whoami"]) => Route::Whoami,
        (DELETE, ["-", "user", "token", token]) => Route::Logout(token),
        // The form with a revision is npm's second try after a 409 of a CouchDB.
        (PUT, ["-", "user", user] | ["-", "user", user, "-rev", _]) => Route::Login(couch_user(user)?),
        (GET, ["-", "user", user]) => Route::User(couch_user(user)?),
        (GET, ["-", "npm", "v1", "user"]) => Route::Profile,
        (POST, ["-", "npm", "v1", "user"]) => Route::SetProfile,
        (POST, ["-", "v1", "login"]) => Route::BeginLogin,
        (GET, ["-", "v1", "login", session, secret]) => Route::LoginPage(session, secret),
        (POST, ["-", "v1", "login", session, secret]) => Route::SubmitLogin(session, secret),
        (GET, ["-", "v1", "done", session, secret]) => Route::LoginDone(session, secret),
        (GET, ["-", "package", "pkg", "collaborators"]) => Route::Collaborators(pkg),
        (GET, ["-", "user", user, "package"]) => Route::UserPackages(user),
        (GET, ["-", "org", org, "package"]) => Route::OrgPackages(org),
        (GET, ["-", "org", org, "user"]) => Route::OrgUsers(org),
        (PUT, ["-", "org", org, "user"]) => Route::SetOrgUser(org),
        (DELETE, ["-", "org", org, "user"]) => Route::RemoveOrgUser(org),
        (GET, ["-", "org", org, "team"]) => Route::OrgTeams(org),
        (PUT, ["-", "org", org, "team"]) => Route::CreateTeam(org),
        (DELETE, ["-", "team", org, team]) => Route::DestroyTeam(org, team),
        (GET, ["-", "team", org, team, "user"]) => Route::TeamUsers(org, team),
        (PUT, ["-", "team", org, team, "user"]) => Route::SetTeamUser(org, team, true),
        (DELETE, ["-", "team", org, team, "user"]) => Route::SetTeamUser(org, team, false),
        (GET, ["-", "team", org, team, "package"]) => Route::TeamPackages(org, team),
        (PUT, ["-", "team", org, team, "package"]) => Route::SetTeamPackage(org, team, true),
        (DELETE, ["-", "team", org, team, "package"]) => Route::SetTeamPackage(org, team, false),
        (GET, ["-", "package", "pkg", "trust"]) => Route::ListTrust(pkg),
        (POST, ["-", "package", "pkg", "trust"]) => Route::AddTrust(pkg),
        (DELETE, ["-", "package", "pkg", "trust", id]) => Route::RemoveTrust(pkg, id),
        (POST, ["-", "npm", "v1", "oidc", "token", "exchange", "package", "pkg"]) => Route::Exchange(pkg),
        (GET, ["-", "npm", "v1", "tokens"]) => Route::ListTokens,
        (POST, ["-", "npm", "v1", "tokens"]) => Route::CreateToken,
        (DELETE, ["-", "npm", "v1", "tokens", "token", key]) => Route::DeleteToken(key),
        (POST, ["-", "npm", "v1", "security", "advisories", "bulk"]) => Route::AuditBulk,
        (
            POST,
            ["-", "npm", "v1", "security", "audits"] | ["-", "npm", "v1", "security", "audits", "quick"],
        ) => Route::AuditQuick,
        (GET, ["-", "npm", "v1", "keys"]) => Route::Keys,
        (GET, ["-", "npm", "v1", "attestations", "pkg"]) => {
            let (pkg, version) = pkg.rsplit_once('@').filter(|(pkg, _)| !pkg.is_empty())?;
            Route::Attestations(pkg, version)
        }
        (GET, ["-", "_view", "starredByUser"]) => Route::StarredByUser,
        (PUT, ["-", "user", "v1", "star"]) => Route::Star(true),
        (DELETE, ["-", "user", "v1", "star"]) => Route::Star(false),
        (GET, ["-", "user", "v1", "star"]) => Route::Stars(None),
        (GET, ["-", "user", user, "stars"]) => Route::Stars(Some(user)),
        (PUT, ["-", "package", "pkg", "owners"]) => Route::AddOwner(pkg),
        (DELETE, ["-", "package", "pkg", "owners", user]) => Route::RemoveOwner(pkg, user),
        // The one of pnpm 11, the other of pnpm 12.
        (PUT, ["-", "pnpm", "v1", "publish"] | ["-", "pnpr", "v0", "publish"]) => Route::PublishBatch,
        (POST, ["-", "stage", "package", "pkg"]) => Route::Stage(pkg),
        (GET, ["-", "stage"]) => Route::ListStaged,
        (GET, ["-", "stage", id]) => Route::Staged(id),
        (DELETE, ["-", "stage", id]) => Route::RejectStaged(id),
        (GET, ["-", "stage", id, "tarball"]) => Route::StagedTarball(id),
        (POST, ["-", "stage", id, "approve"]) => Route::ApproveStaged(id),
        _ => return None,
    })
}

/// `OPTIONS`: what is possible here, and what a page of another origin may send.
fn options(npm: &Npm, parts: &Parts<'_>) -> Result<Response> {
    let allow = allowed(parts).ok_or_else(not_found)?;
    let response = Response::new(StatusCode::NO_CONTENT).header(header::ALLOW, format!("{allow}, OPTIONS"));
    if !npm.cors {
        return Ok(response);
    }
    Ok(response
        .header(header::ACCESS_CONTROL_ALLOW_METHODS, allow)
        .static_header(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, accept, if-none-match, npm-otp, npm-command, npm-auth-type, npm-session",
        )
        .static_header(header::ACCESS_CONTROL_MAX_AGE, "86400"))
}

fn couch_user(segment: &str) -> Option<&str> {
    segment.strip_prefix("org.couchdb.user:").filter(|user| !user.is_empty())
}

/// 405 for a path that has other methods, else 404.
fn no_route(method: &Method, parts: &Parts<'_>) -> Error {
    let Some(allow) = allowed(parts) else { return not_found() };
    Error::new(Kind::MethodNotAllowed, format!("{method} is not possible here; {allow} is"))
        .with_header(header::ALLOW, &allow)
}

/// The methods that a path has.
fn allowed(parts: &Parts<'_>) -> Option<String> {
    let known = [Method::GET, Method::PUT, Method::POST, Method::DELETE];
    let allow: Vec<&str> =
        known.iter().filter(|known| route(known, parts).is_some()).map(Method::as_str).collect();
    (!allow.is_empty()).then(|| allow.join(", ").replace("GET", "GET, HEAD"))
}

/// Below these the name of a package comes next; below the first of them with its version behind an `@`.
const PREFIXES: [&[&str]; 4] = [
    &["-", "npm", "v1", "attestations"],
    &["-", "npm", "v1", "oidc", "token", "exchange", "package"],
    &["-", "stage", "package"],
    &["-", "package"],
];

/// A path whose package name, one segment or two, stands as `pkg`.
struct Parts<'a> {
    package: String,
    rest: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(parts: &'a [String]) -> Self {
        let all: Vec<&str> = parts.iter().map(String::as_str).collect();
        for prefix in PREFIXES {
            let Some(rest) = all.strip_prefix(prefix) else { continue };
            let (package, rest) = match rest {
                [scope, name, rest @ ..] if scope.starts_with('@') => (format!("{scope}/{name}"), rest),
                [name, rest @ ..] => ((*name).to_owned(), rest),
                [] => continue,
            };
            let rest = prefix.iter().copied().chain(["pkg"]).chain(rest.iter().copied()).collect();
            return Self { package, rest };
        }
        match all.as_slice() {
            [] | ["-", ..] | ["_changes"] => Self { package: String::new(), rest: all },
            [scope, name, rest @ ..] if scope.starts_with('@') => Self {
                package: format!("{scope}/{name}"),
                rest: std::iter::once("pkg").chain(rest.iter().copied()).collect(),
            },
            [name, rest @ ..] => Self {
                package: (*name).to_owned(),
                rest: std::iter::once("pkg").chain(rest.iter().copied()).collect(),
            },
        }
    }

    fn is_scope(&self, segment: &str) -> bool {
        self.package.split_once('/').is_some_and(|(scope, _)| scope == segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(method: &Method, path: &str) -> String {
        let segments = Segments::parse(path).unwrap();
        let parts = Parts::of(segments.parts());
        format!("{:?}", route(method, &parts))
    }

    #[test]
    fn every_form_of_a_path_is_understood() {
        for path in
            ["/@acme%2fwidget", "/@acme%2Fwidget", "/@acme/widget", "/%40acme%2Fwidget", "//@acme//widget/"]
        {
            assert_eq!(routed(&Method::GET, path), "Some(Packument(\"@acme/widget\"))", "{path}");
        }
        let tarball = "Some(Tarball(\"@acme/widget\", \"widget-1.0.0.tgz\"))";
        for path in [
            "/@acme%2fwidget/-/widget-1.0.0.tgz",
            "/@acme/widget/-/widget-1.0.0.tgz",
            "/@acme/widget/-/@acme/widget-1.0.0.tgz",
        ] {
            assert_eq!(routed(&Method::GET, path), tarball, "{path}");
        }
        assert_eq!(routed(&Method::GET, "/@acme/widget/-/@evil/widget-1.0.0.tgz"), "None");
        assert_eq!(routed(&Method::GET, "/widget/1.0.0"), "Some(Version(\"widget\", \"1.0.0\"))");
        assert_eq!(
            routed(&Method::GET, "/@acme%2fwidget/latest"),
            "Some(Version(\"@acme/widget\", \"latest\"))"
        );
        assert_eq!(
            routed(&Method::PUT, "/-/package/@acme%2fwidget/dist-tags/next"),
            "Some(SetTag(\"@acme/widget\", \"next\"))"
        );
        assert_eq!(routed(&Method::PUT, "/-/user/org.couchdb.user:bob/-rev/1-a"), "Some(Login(\"bob\"))");
        for path in ["@acme%2fwidget", "@acme/widget"] {
            let path = format!("/-/npm/v1/oidc/token/exchange/package/{path}");
            assert_eq!(routed(&Method::POST, &path), "Some(Exchange(\"@acme/widget\"))");
        }
        assert_eq!(routed(&Method::GET, "/-"), "None");
    }
}
