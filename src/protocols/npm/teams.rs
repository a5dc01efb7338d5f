//! `npm org`, `npm team`, and `npm access` for them: organisations, teams, and what they were granted.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::error::not_found;
use super::name::PackageName;
use super::orgs::{EVERYBODY, Grant, Org, Role};
use super::{Npm, body, inventory, keys, orgs, read, search};
use crate::protocols::prelude::*;

/// Packages that are looked at before a scope becomes an organisation, at most.
const LOOKED_AT: usize = 2000;
/// Names that are taken from the index at once.
const PAGE: usize = 1000;

/// The small bodies of all of these.
#[derive(Deserialize)]
struct Wish {
    user: Option<String>,
    role: Option<Role>,
    name: Option<String>,
    description: Option<String>,
    package: Option<String>,
    permissions: Option<Grant>,
}

impl Wish {
    /// Reads one that is about an organisation. Who may change none needn't send it.
    async fn of(npm: &Npm, cx: &Cx, org: &str, request: &mut Request) -> Result<Self> {
        may_change(cx, &org_name(org)?).await?;
        body::json(npm, request, "the change").await
    }

    fn user(&self) -> Result<&str> {
        let user = self.user.as_deref().map(|user| user.trim_start_matches(['@', '~']));
        user.filter(|user| !user.is_empty() && user.len() <= 256 && !user.chars().any(char::is_control))
            .ok_or_else(|| Error::invalid("the name of a user is missing"))
    }
}

/// The name of an organisation as a path has it: with or without `@`, and as fit for a scope as any.
fn org_name(text: &str) -> Result<String> {
    let name =
        PackageName::parse(&format!("@{}/x", text.trim_start_matches('@'))).map_err(|_| not_found())?;
    name.check_new().map_err(|_| not_found())?;
    name.scope().map(str::to_owned).ok_or_else(not_found)
}

/// The organisation, for one of its members. To everybody else it isn't there.
async fn seen(cx: &Cx, name: &str) -> Result<Arc<Loaded<Org>>> {
    let user = cx.require_user()?;
    let org = orgs::find(cx, &org_name(name)?).await?;
    org.filter(|org| org.document.role(user).is_some()).ok_or_else(not_found)
}

/// Goes on only for a token that may change organisations at all.
async fn may_change(cx: &Cx, org: &str) -> Result<()> {
    cx.require_user()?;
    cx.require(&cx.resource("org", org), Action::Admin, None).await
}

/// Changes an organisation, by one of its admins or owners; `least` says who.
async fn change<R, F>(cx: &Cx, org: &str, least: Role, change: F) -> Result<R>
where
    R: Send + 'static,
    F: Fn(&mut Org, Role) -> Result<Edit<R>> + Send + Sync + 'static,
{
    let org = org_name(org)?;
    may_change(cx, &org).await?;
    let user = cx.require_user()?.to_owned();
    let change = move |document: &mut Org| {
        let role = document.role(&user).ok_or_else(not_found)?;
        if role < least {
            return Err(Error::denied("only the organisation's owners and admins may do that"));
        }
        change(document, role)
    };
    cx.objects.update(&keys::org(&org)?, &ObjectInfo::default(), change).await
}

fn answer(status: StatusCode, value: &Value) -> Response {
    Response::json(status, value).static_header(header::CACHE_CONTROL, "no-store")
}

/// `GET /-/org/{org}/user`
pub(crate) async fn org_users(cx: &Cx, org: &str) -> Result<Response> {
    let org = seen(cx, org).await?;
    Ok(answer(StatusCode::OK, &json!(org.document.members)))
}

/// `PUT /-/org/{org}/user`: the first one makes the organisation, and whoever does that owns it.
pub(crate) async fn set_org_user(npm: &Npm, cx: &Cx, org: &str, mut request: Request) -> Result<Response> {
    let name = org_name(org)?;
    let wish = Wish::of(npm, cx, org, &mut request).await?;
    let caller = cx.require_user()?.to_owned();
    let (user, wanted) = (wish.user()?.to_owned(), wish.role);
    let here = orgs::find(cx, &name).await?;
    if here.is_none() {
        may_found(cx, &name, &caller).await?;
    } else if here.is_some_and(|org| org.document.role(&caller).is_none()) {
        return Err(not_found());
    }
    if cx.auth.has_user(&user).await? == Some(false) {
        return Err(Error::not_found(format!("there is no user {}", super::name::printable(&user))));
    }
    let (subject, acting) = (user.clone(), caller.clone());
    let change = move |org: &mut Org| {
        if !org.is_there() {
            org.set_member(&acting, Role::Owner)?;
            if subject == acting {
                return Ok(Edit::Changed((org.members.len(), Role::Owner)));
            }
        }
        let own = org.role(&acting).ok_or_else(not_found)?;
        let role = wanted.or(org.role(&subject)).unwrap_or(Role::Developer);
        // Only owners make and unmake owners and admins.
        if own < Role::Admin
            || (own < Role::Owner && org.role(&subject).max(Some(role)) > Some(Role::Developer))
        {
            return Err(Error::denied("only an owner of the organisation may do that"));
        }
        Ok(match org.set_member(&subject, role)? {
            Edit::Changed(size) => Edit::Changed((size, role)),
            Edit::Unchanged(size) => Edit::Unchanged((size, role)),
        })
    };
    let (size, role) = cx.objects.update(&keys::org(&name)?, &ObjectInfo::default(), change).await?;
    tracing::info!(org = name, user, ?role, "a member of an organisation was set");
    Ok(answer(StatusCode::OK, &json!({ "org": { "name": name, "size": size }, "user": user, "role": role })))
}

/// An organisation rules over a scope. It may only be made of one that is nobody else's: neither a user's own name nor with packages
/// of others in it.
async fn may_found(cx: &Cx, org: &str, caller: &str) -> Result<()> {
    let taken = || {
        Error::denied(format!(
            "the scope @{org} is somebody else's, or has packages that are; you can't make it an organisation"
        ))
    };
    if org != caller && cx.auth.has_user(org).await? == Some(true) {
        return Err(taken());
    }
    // Who may be an owner is decided by what is there, not by what the index has heard of.
    let names = inventory::in_scope(cx, org).await?;
    if names.len() > LOOKED_AT {
        return Err(taken());
    }
    for name in names {
        let key = keys::index(&name)?;
        let loaded: Option<Arc<Loaded<super::model::Packument>>> = cx.objects.document(&key).await?;
        if loaded.is_some_and(|loaded| !loaded.document.maintainers.iter().any(|one| one.name == caller)) {
            return Err(taken());
        }
    }
    Ok(())
}

/// `DELETE /-/org/{org}/user`
pub(crate) async fn remove_org_user(npm: &Npm, cx: &Cx, org: &str, mut request: Request) -> Result<Response> {
    let wish = Wish::of(npm, cx, org, &mut request).await?;
    let user = wish.user()?.to_owned();
    change(cx, org, Role::Admin, move |org, own| {
        if own < Role::Owner && org.role(&user) > Some(Role::Developer) {
            return Err(Error::denied("only an owner of the organisation may do that"));
        }
        org.remove_member(&user)
    })
    .await?;
    Ok(answer(StatusCode::OK, &json!({ "ok": true })))
}

/// `GET /-/org/{org}/team`
pub(crate) async fn org_teams(cx: &Cx, org: &str) -> Result<Response> {
    let loaded = seen(cx, org).await?;
    let name = org_name(org)?;
    let own = loaded.document.teams.keys().map(String::as_str).filter(|team| *team != EVERYBODY);
    let teams: Vec<String> =
        [EVERYBODY].into_iter().chain(own).map(|team| format!("{name}:{team}")).collect();
    Ok(answer(StatusCode::OK, &json!(teams)))
}

/// `PUT /-/org/{org}/team`
pub(crate) async fn create_team(npm: &Npm, cx: &Cx, org: &str, mut request: Request) -> Result<Response> {
    let wish = Wish::of(npm, cx, org, &mut request).await?;
    let team = wish.name.ok_or_else(|| Error::invalid("the name of the team is missing"))?;
    let (name, description) = (team.clone(), wish.description.unwrap_or_default());
    change(cx, org, Role::Admin, move |org, _| org.create_team(&name, &description)).await?;
    Ok(answer(StatusCode::CREATED, &json!({ "name": team })))
}

/// `DELETE /-/team/{org}/{team}`
pub(crate) async fn destroy_team(cx: &Cx, org: &str, team: &str) -> Result<Response> {
    let team = team.to_owned();
    change(cx, org, Role::Admin, move |org, _| org.destroy_team(&team)).await?;
    Ok(answer(StatusCode::OK, &json!({ "ok": true })))
}

/// `GET /-/team/{org}/{team}/user`
pub(crate) async fn team_users(cx: &Cx, org: &str, team: &str) -> Result<Response> {
    let org = seen(cx, org).await?;
    let users = match org.document.teams.get(team) {
        _ if team == EVERYBODY => json!(org.document.members.keys().collect::<Vec<_>>()),
        Some(team) => json!(team.members),
        None => return Err(not_found()),
    };
    Ok(answer(StatusCode::OK, &users))
}

/// `PUT|DELETE /-/team/{org}/{team}/user`
pub(crate) async fn set_team_user(
    npm: &Npm,
    cx: &Cx,
    org: &str,
    team: &str,
    on: bool,
    mut request: Request,
) -> Result<Response> {
    let wish = Wish::of(npm, cx, org, &mut request).await?;
    let (user, team) = (wish.user()?.to_owned(), team.to_owned());
    change(cx, org, Role::Admin, move |org, _| org.set_team_member(&team, &user, on)).await?;
    let status = if on { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer(status, &json!({ "ok": true })))
}

/// `PUT|DELETE /-/team/{org}/{team}/package`
pub(crate) async fn set_team_package(
    npm: &Npm,
    cx: &Cx,
    org: &str,
    team: &str,
    on: bool,
    mut request: Request,
) -> Result<Response> {
    let wish = Wish::of(npm, cx, org, &mut request).await?;
    let package =
        wish.package.as_deref().ok_or_else(|| Error::invalid("the name of the package is missing"))?;
    let package = PackageName::parse(package)?;
    if package.scope() != Some(org_name(org)?.as_str()) {
        return Err(Error::invalid(format!("{package} is no package of that organisation")));
    }
    let grant = match (on, wish.permissions) {
        (true, None) => return Err(Error::invalid("`permissions` is read-only or read-write")),
        (true, grant) => grant,
        (false, _) => None,
    };
    let (team, package) = (team.to_owned(), package.as_str().to_owned());
    change(cx, org, Role::Admin, move |org, _| org.set_grant(&team, &package, grant)).await?;
    let status = if on { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer(status, &json!({ "ok": true })))
}

/// `GET /-/team/{org}/{team}/package`
pub(crate) async fn team_packages(cx: &Cx, org: &str, team: &str) -> Result<Response> {
    let loaded = seen(cx, org).await?;
    if team != EVERYBODY && !loaded.document.teams.contains_key(team) {
        return Err(not_found());
    }
    let names = packages_of(cx, &org_name(org)?).await?;
    let granted = |name: &PackageName| {
        let grant = loaded.document.team_grant(team, name.as_str())?;
        Some((name.as_str().to_owned(), grant.shown()))
    };
    Ok(answer(StatusCode::OK, &json!(names.iter().filter_map(granted).collect::<BTreeMap<_, _>>())))
}

/// `GET /-/org/{org}/package`: what the caller may do with the packages of the organisation.
pub(crate) async fn org_packages(cx: &Cx, org: &str) -> Result<Response> {
    let loaded = seen(cx, org).await?;
    let user = cx.require_user()?;
    let names = packages_of(cx, &org_name(org)?).await?;
    let granted = |name: &PackageName| {
        let grant = loaded.document.grant(user, name.as_str())?;
        Some((name.as_str().to_owned(), grant.shown()))
    };
    Ok(answer(StatusCode::OK, &json!(names.iter().filter_map(granted).collect::<BTreeMap<_, _>>())))
}

/// `GET /-/user/{user}/package`: packages that name the user as an owner, and that the caller may see.
pub(crate) async fn user_packages(cx: &Cx, user: &str) -> Result<Response> {
    cx.require_user()?;
    let user = user.trim_start_matches(['@', '~']);
    let own = search::owned_by(cx, user).await?;
    if own.is_empty() && cx.auth.has_user(user).await? == Some(false) {
        return Err(not_found());
    }
    let own = own.iter().map(|name| (name.as_str(), Grant::Write.shown()));
    Ok(answer(StatusCode::OK, &json!(own.collect::<BTreeMap<_, _>>())))
}

/// `GET /-/package/{pkg}/collaborators`: its owners, and who of its organisation may do what.
pub(crate) async fn collaborators(cx: &Cx, name: &PackageName, request: &Request) -> Result<Response> {
    cx.require_user()?;
    let loaded = read::load(cx, name, false).await?;
    let mut list: BTreeMap<String, &str> = BTreeMap::new();
    if let Some(org) = match name.scope() {
        Some(scope) => orgs::find(cx, scope).await?,
        None => None,
    } {
        for user in org.document.members.keys() {
            let grant = org.document.grant(user, name.as_str());
            list.extend(grant.map(|grant| (user.clone(), grant.shown())));
        }
    } else {
        list.extend(loaded.document.maintainers.iter().map(|one| (one.name.clone(), Grant::Write.shown())));
    }
    if let Some(user) = request.query.get("user") {
        list.retain(|name, _| name == user);
    }
    Ok(answer(StatusCode::OK, &json!(list)))
}

/// The packages of a scope.
async fn packages_of(cx: &Cx, scope: &str) -> Result<Vec<PackageName>> {
    let prefix = format!("@{scope}/");
    let (mut packages, mut after) = (Vec::new(), Arc::<str>::from(prefix.as_str()));
    loop {
        let page = cx.index.names(Some(&after), PAGE).await?;
        let own = page.iter().take_while(|name| name.starts_with(&prefix));
        let before = packages.len();
        packages.extend(own.filter_map(|name| PackageName::parse(name).ok()));
        match page.last().filter(|last| page.len() == PAGE && last.starts_with(&prefix)) {
            Some(last) if packages.len() > before => after = Arc::clone(last),
            _ => return Ok(packages),
        }
    }
}
