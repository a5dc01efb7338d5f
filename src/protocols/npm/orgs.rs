//! Organisations and their teams: who may do what with the packages of a scope, once somebody has made an organisation of it. Rules are
//! pure; they only ever take rights away from what a token's scopes allow.
//!
//! Owners and admins may do everything with the packages of the scope. A developer may do what the teams that the developer is in were
//! granted; the team `developers` is all of the organisation, and has what nobody else was granted. Nobody else may write, or read what
//! is private.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::factor::{TRUSTED, has_mark};
use super::keys;
use super::name::PackageName;
use crate::protocols::prelude::*;

/// The team that everybody is in.
pub(crate) const EVERYBODY: &str = "developers";
/// Members, and teams, of an organisation at most.
const MAX_MEMBERS: usize = 10_000;
const MAX_TEAMS: usize = 1000;

/// What somebody is in an organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Developer,
    Admin,
    Owner,
}

/// What a team may do with a package. Kept in npm's words for setting it, listed in npm's words for showing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Grant {
    #[serde(rename = "read-only")]
    Read,
    #[serde(rename = "read-write")]
    Write,
}

impl Grant {
    /// `read` or `write`, as lists show it.
    pub(crate) const fn shown(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// A team.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Team {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    pub(crate) members: BTreeSet<String>,
    pub(crate) packages: BTreeMap<String, Grant>,
}

/// An organisation. One without members isn't there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Org {
    pub(crate) members: BTreeMap<String, Role>,
    pub(crate) teams: BTreeMap<String, Team>,
}

impl JsonDocument for Org {
    const LIMIT: u64 = 8 << 20;
    const NAME: &'static str = "organisation";
}

impl Org {
    pub(crate) fn is_there(&self) -> bool {
        !self.members.is_empty()
    }

    pub(crate) fn role(&self, user: &str) -> Option<Role> {
        self.members.get(user).copied()
    }

    /// What a team may do with a package.
    pub(crate) fn team_grant(&self, team: &str, package: &str) -> Option<Grant> {
        let own = self.teams.get(team).and_then(|team| team.packages.get(package).copied());
        let nobodys = || !self.teams.values().any(|team| team.packages.contains_key(package));
        own.or_else(|| (team == EVERYBODY && nobodys()).then_some(Grant::Write))
    }

    /// What a member may do with a package.
    pub(crate) fn grant(&self, user: &str, package: &str) -> Option<Grant> {
        if self.role(user)? > Role::Developer {
            return Some(Grant::Write);
        }
        let own =
            self.teams.iter().filter(|(_, team)| team.members.contains(user)).map(|(name, _)| name.as_str());
        own.chain([EVERYBODY]).filter_map(|team| self.team_grant(team, package)).max()
    }

    fn allows(&self, user: &str, package: &str, action: Action) -> bool {
        let grant = self.grant(user, package);
        match action {
            Action::Read | Action::Pull => grant.is_some(),
            Action::Write | Action::Push | Action::Delete => grant == Some(Grant::Write),
            Action::Admin | Action::Any => self.role(user) > Some(Role::Developer),
        }
    }

    /// Gives somebody a role; the first one makes the organisation.
    pub(crate) fn set_member(&mut self, user: &str, role: Role) -> Result<Edit<usize>> {
        if self.role(user) == Some(role) {
            return Ok(Edit::Unchanged(self.members.len()));
        }
        self.keep_an_owner(user, Some(role))?;
        if self.members.len() >= MAX_MEMBERS && !self.members.contains_key(user) {
            return Err(Error::new(
                Kind::Conflict,
                format!("an organisation has at most {MAX_MEMBERS} members"),
            ));
        }
        self.members.insert(user.to_owned(), role);
        Ok(Edit::Changed(self.members.len()))
    }

    /// Takes somebody out, of all teams too.
    pub(crate) fn remove_member(&mut self, user: &str) -> Result<Edit<()>> {
        if self.role(user).is_none() {
            return Ok(Edit::Unchanged(()));
        }
        self.keep_an_owner(user, None)?;
        self.members.remove(user);
        for team in self.teams.values_mut() {
            team.members.remove(user);
        }
        Ok(Edit::Changed(()))
    }

    fn keep_an_owner(&self, user: &str, role: Option<Role>) -> Result<()> {
        let mut owners = self.members.iter().filter(|(_, role)| **role == Role::Owner);
        let last = owners.next().is_some_and(|(name, _)| name == user) && owners.next().is_none();
        if last && role != Some(Role::Owner) {
            return Err(Error::denied(format!("{user} is the last owner; make somebody else one first")));
        }
        Ok(())
    }

    /// Makes a team.
    pub(crate) fn create_team(&mut self, name: &str, description: &str) -> Result<Edit<()>> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > 100 || !name.chars().all(plain) || name.starts_with('.') {
            return Err(Error::invalid("a team's name has 1 to 100 letters, digits and `._-`"));
        }
        if name == EVERYBODY || self.teams.contains_key(name) {
            return Err(Error::new(Kind::Conflict, format!("there is a team `{name}` already")));
        }
        if self.teams.len() >= MAX_TEAMS || description.len() > 1000 {
            return Err(Error::invalid(format!(
                "an organisation has at most {MAX_TEAMS} teams, and a description at most 1000 bytes"
            )));
        }
        let team = Team { description: description.to_owned(), ..Team::default() };
        self.teams.insert(name.to_owned(), team);
        Ok(Edit::Changed(()))
    }

    /// Takes a team away, with what it was granted.
    pub(crate) fn destroy_team(&mut self, name: &str) -> Result<Edit<()>> {
        if name == EVERYBODY {
            return Err(Error::denied(format!("the team `{EVERYBODY}` is all of the organisation")));
        }
        Ok(if self.teams.remove(name).is_some() { Edit::Changed(()) } else { Edit::Unchanged(()) })
    }

    /// Puts a member into a team, or takes somebody out.
    pub(crate) fn set_team_member(&mut self, team: &str, user: &str, on: bool) -> Result<Edit<()>> {
        if team == EVERYBODY {
            return Err(Error::denied(format!(
                "the team `{EVERYBODY}` is all of the organisation; add and remove members with `npm org`"
            )));
        }
        if on && self.role(user).is_none() {
            return Err(Error::invalid(format!(
                "{user} is no member of the organisation; add them with `npm org set`"
            )));
        }
        let team = self.team_mut(team)?;
        let changed = if on { team.members.insert(user.to_owned()) } else { team.members.remove(user) };
        Ok(if changed { Edit::Changed(()) } else { Edit::Unchanged(()) })
    }

    /// Grants a team a package, or takes the grant back.
    pub(crate) fn set_grant(&mut self, team: &str, package: &str, grant: Option<Grant>) -> Result<Edit<()>> {
        if team == EVERYBODY {
            self.teams.entry(EVERYBODY.to_owned()).or_default();
        }
        let team = self.team_mut(team)?;
        let before = match grant {
            Some(grant) => team.packages.insert(package.to_owned(), grant),
            None => team.packages.remove(package),
        };
        Ok(if before == grant { Edit::Unchanged(()) } else { Edit::Changed(()) })
    }

    fn team_mut(&mut self, name: &str) -> Result<&mut Team> {
        self.teams.get_mut(name).ok_or_else(|| Error::not_found(format!("there is no team `{name}`")))
    }
}

/// The organisation that a scope belongs to, if somebody has made one.
pub(crate) async fn find(cx: &Cx, scope: &str) -> Result<Option<Arc<Loaded<Org>>>> {
    let found: Option<Arc<Loaded<Org>>> = cx.objects.document(&keys::org(scope)?).await?;
    Ok(found.filter(|loaded| loaded.document.is_there()))
}

/// Whether the organisation of the package's scope, if there is one, lets the caller do this.
pub(crate) async fn lets(cx: &Cx, name: &PackageName, action: Action) -> Result<bool> {
    let Some(scope) = name.scope() else { return Ok(true) };
    // Whoever runs the package has said which builds to trust.
    if cx.identity.token().is_some_and(|token| has_mark(token, TRUSTED)) {
        return Ok(true);
    }
    let Some(org) = find(cx, scope).await? else { return Ok(true) };
    Ok(cx.identity.user().is_some_and(|user| org.document.allows(user, name.as_str(), action)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn org() -> Org {
        let mut org = Org::default();
        for (user, role) in [
            ("olga", Role::Owner),
            ("adam", Role::Admin),
            ("dora", Role::Developer),
            ("dan", Role::Developer),
        ] {
            org.set_member(user, role).unwrap();
        }
        org.create_team("core", "").unwrap();
        org.set_team_member("core", "dora", true).unwrap();
        org
    }

    #[test]
    fn what_nobody_was_granted_is_everybodys() {
        let mut org = org();
        assert_eq!(org.grant("dan", "@acme/a"), Some(Grant::Write));
        assert_eq!(org.grant("eve", "@acme/a"), None);
        org.set_grant("core", "@acme/a", Some(Grant::Write)).unwrap();
        assert_eq!((org.grant("dora", "@acme/a"), org.grant("dan", "@acme/a")), (Some(Grant::Write), None));
        assert_eq!(org.grant("dan", "@acme/b"), Some(Grant::Write));
        org.set_grant(EVERYBODY, "@acme/a", Some(Grant::Read)).unwrap();
        assert_eq!(
            (org.grant("dora", "@acme/a"), org.grant("dan", "@acme/a")),
            (Some(Grant::Write), Some(Grant::Read))
        );
        assert!(org.allows("dan", "@acme/a", Action::Read) && !org.allows("dan", "@acme/a", Action::Write));
        assert!(
            org.allows("dora", "@acme/a", Action::Delete) && !org.allows("dora", "@acme/a", Action::Admin)
        );
        assert!(org.allows("adam", "@acme/a", Action::Admin) && org.allows("olga", "@acme/a", Action::Write));
        org.set_grant("core", "@acme/a", None).unwrap();
        org.set_grant(EVERYBODY, "@acme/a", None).unwrap();
        assert_eq!(org.grant("dan", "@acme/a"), Some(Grant::Write));
    }

    #[test]
    fn an_organisation_keeps_an_owner_and_forgets_who_leaves() {
        let mut org = org();
        assert!(org.remove_member("olga").is_err() && org.set_member("olga", Role::Admin).is_err());
        org.set_member("adam", Role::Owner).unwrap();
        org.remove_member("olga").unwrap();
        org.remove_member("dora").unwrap();
        assert!(org.teams["core"].members.is_empty());
        assert!(org.set_team_member("core", "dora", true).is_err());
        assert_eq!(org.remove_member("dora").unwrap(), Edit::Unchanged(()));
    }

    #[test]
    fn teams_have_plain_names_and_one_is_everybody() {
        let mut org = org();
        for bad in ["", "a/b", "../x", ".x", "a:b", "\u{e4}", &"a".repeat(101)] {
            assert!(org.create_team(bad, "").is_err(), "{bad}");
        }
        assert!(org.create_team(EVERYBODY, "").is_err() && org.destroy_team(EVERYBODY).is_err());
        assert!(org.set_team_member(EVERYBODY, "dan", false).is_err());
        assert!(org.set_grant("nobody", "@acme/a", Some(Grant::Read)).is_err());
    }
}
