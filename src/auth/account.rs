//! A user's own affairs: password, second factor, profile. Only where the registry keeps its users itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::builtin::{self, Builtin};
use super::factor::{self, Factor, FactorMode, Verdict};
use super::passwords::MAX_LENGTH;
use super::provider::Credentials;
use super::records::UserRecord;
use super::stores::Age;
use super::{Auth, AuthToken};
use crate::core::error::{Error, Kind, Result};
use crate::core::id;
use crate::core::secret::Secret;
use crate::core::time::Timestamp;
use crate::storage::Edit;

/// Fields of a profile, and bytes of one, at most.
const MAX_FIELDS: usize = 16;
const MAX_FIELD: usize = 256;

/// A user as the user sees it.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// E-mail address, full name and whatever else the user has said.
    pub profile: BTreeMap<String, String>,
    /// When the password was first set, if anybody wrote it down.
    pub created: Option<Timestamp>,
    /// When anything of the account last changed.
    pub updated: Option<Timestamp>,
    /// The second factor, and whether it has still to be confirmed.
    pub factor: Option<(FactorMode, bool)>,
}

/// How the wish for a second factor ended.
#[derive(Debug)]
pub enum Enrolment {
    /// Show this `otpauth:` URL to the user, and take a code for it.
    Begun(Secret),
    /// There was one already; it is in this mode now.
    Changed(FactorMode),
}

impl Auth {
    /// Whether users, passwords and second factors are kept here and not by the application.
    pub fn keeps_users(&self) -> bool {
        self.users.builtin().is_some()
    }

    /// What is known of a user; `None` when the application keeps its users.
    pub async fn account(&self, user: &str) -> Result<Option<Account>> {
        let Some(builtin) = self.users.builtin() else { return Ok(None) };
        let record = builtin.backend.find_user(user, Age::Now).await?.unwrap_or_default();
        Ok(Some(Account {
            profile: record.profile,
            created: record.created,
            updated: record.updated,
            factor: record.factor.map(|factor| (factor.mode, factor.pending)),
        }))
    }

    /// Sets fields of a user's profile, or takes them away.
    pub async fn set_profile(&self, user: &str, fields: BTreeMap<String, Option<String>>) -> Result<()> {
        let builtin = self.own()?;
        let clean = |text: &str| text.len() <= MAX_FIELD && !text.chars().any(char::is_control);
        for (name, value) in &fields {
            if !clean(name) || !value.as_deref().is_none_or(clean) {
                return Err(Error::invalid(format!(
                    "a field of a profile has at most {MAX_FIELD} bytes and no control characters"
                )));
            }
        }
        let now = self.clock.now();
        let change = move |record: &mut UserRecord| {
            let before = record.profile.clone();
            for (name, value) in &fields {
                match value.as_deref().filter(|value| !value.is_empty()) {
                    Some(value) => record.profile.insert(name.clone(), value.to_owned()),
                    None => record.profile.remove(name),
                };
            }
            if record.profile.len() > MAX_FIELDS {
                return Err(Error::invalid(format!("a profile has at most {MAX_FIELDS} fields")));
            }
            if record.profile == before {
                return Ok(Edit::Unchanged(true));
            }
            record.updated = Some(now);
            Ok(Edit::Changed(true))
        };
        builtin.backend.change_user(user, Box::new(change)).await.map(drop)
    }

    /// Gives a user who knows the old password a new one.
    ///
    /// # Errors
    /// 401 for a wrong password.
    pub async fn change_password(
        &self,
        user: &str,
        old: Secret,
        new: &Secret,
        client: Option<IpAddr>,
    ) -> Result<()> {
        let builtin = self.own()?;
        if new.is_empty() || new.expose().len() > MAX_LENGTH {
            return Err(Error::invalid(format!("a password has 1 to {MAX_LENGTH} bytes")));
        }
        self.require_password(builtin, user, old, client).await?;
        builtin.add_user(user, new).await
    }

    /// The mode of a user's second factor, if there is one in force.
    pub async fn second_factor(&self, user: &str) -> Result<Option<FactorMode>> {
        let Some(builtin) = self.users.builtin() else { return Ok(None) };
        let factor = builtin.factor(user).await?;
        Ok(factor.filter(|factor| !factor.pending).map(|factor| factor.mode))
    }

    /// Goes on if the user has no second factor, or if `code` is good. `token` is what the request came with: a code is good once per
    /// token, and just once without.
    ///
    /// # Errors
    /// 401 with [`super::ONE_TIME_CODE`]; 429 after too many wrong codes.
    pub async fn require_code(
        &self,
        user: &str,
        token: Option<&AuthToken>,
        code: Option<&Secret>,
    ) -> Result<()> {
        let Some(builtin) = self.users.builtin() else { return Ok(()) };
        builtin.require_code(user, token, code).await
    }

    /// Begins the enrolment of a second factor, or changes the mode of the one there is; the code for that has been asked for by then.
    pub async fn enrol(
        &self,
        user: &str,
        password: Secret,
        mode: FactorMode,
        issuer: &str,
        client: Option<IpAddr>,
    ) -> Result<Enrolment> {
        let builtin = self.own()?;
        self.require_password(builtin, user, password, client).await?;
        let (new, now) = (Factor::new(mode)?, self.clock.now());
        let begun = new.clone();
        let change = move |record: &mut UserRecord| {
            record.updated = Some(now);
            if let Some(factor) = record.factor.as_mut().filter(|factor| !factor.pending) {
                factor.mode = mode;
                return Ok(Edit::Changed(false));
            }
            record.factor = Some(begun.clone());
            Ok(Edit::Changed(true))
        };
        let fresh = builtin.backend.change_user(user, Box::new(change)).await?;
        Ok(if fresh { Enrolment::Begun(new.url(issuer, user)) } else { Enrolment::Changed(mode) })
    }

    /// Puts a pending second factor in force, and answers its recovery codes, which nobody can show again.
    pub async fn confirm_factor(&self, user: &str, code: &Secret) -> Result<Vec<Secret>> {
        let builtin = self.own()?;
        builtin.limiter.check_code(user)?;
        let (recovery, now) = (factor::recovery_codes(), self.clock.now());
        let (codes, code, by) = (recovery.clone(), code.clone(), id::uuid());
        let change = move |record: &mut UserRecord| {
            let Some(factor) = record.factor.as_mut().filter(|factor| factor.pending) else {
                return Err(Error::new(Kind::Conflict, "there is no second factor to confirm; begin again"));
            };
            if factor.take(code.expose(), &by, seconds(now)) == Verdict::Wrong {
                return Ok(Edit::Unchanged(false));
            }
            factor.confirm(&codes);
            record.updated = Some(now);
            Ok(Edit::Changed(true))
        };
        if !builtin.backend.change_user(user, Box::new(change)).await? {
            builtin.limiter.failed_code(user);
            return Err(Error::invalid(
                "the one-time pass is wrong; type the one your authenticator shows now",
            ));
        }
        tracing::info!(user, "a second factor was enrolled");
        Ok(recovery)
    }

    /// Takes the second factor away.
    pub async fn disable_factor(&self, user: &str, password: Secret, client: Option<IpAddr>) -> Result<()> {
        let builtin = self.own()?;
        self.require_password(builtin, user, password, client).await?;
        let now = self.clock.now();
        let change = move |record: &mut UserRecord| {
            if record.factor.take().is_none() {
                return Ok(Edit::Unchanged(false));
            }
            record.updated = Some(now);
            Ok(Edit::Changed(true))
        };
        if builtin.backend.change_user(user, Box::new(change)).await? {
            tracing::info!(user, "a second factor was taken away");
        }
        Ok(())
    }

    /// Counts something that costs us a document and that anybody may begin.
    ///
    /// # Errors
    /// 429 for an address that begins too much.
    pub fn count_start(&self, client: Option<IpAddr>) -> Result<()> {
        self.limiter.start(client)
    }

    fn own(&self) -> Result<&Builtin> {
        self.users.builtin().ok_or_else(builtin::elsewhere)
    }

    async fn require_password(
        &self,
        builtin: &Builtin,
        user: &str,
        password: Secret,
        client: Option<IpAddr>,
    ) -> Result<()> {
        let credentials = Credentials { username: user.to_owned(), password, otp: None };
        if builtin.is_password(&credentials, client).await? {
            return Ok(());
        }
        Err(Error::new(Kind::Unauthorized, "the password is wrong"))
    }
}

impl Builtin {
    /// See [`Auth::require_code`].
    pub(super) async fn require_code(
        &self,
        user: &str,
        token: Option<&AuthToken>,
        code: Option<&Secret>,
    ) -> Result<()> {
        if self.factor(user).await?.is_none_or(|factor| factor.pending) {
            return Ok(());
        }
        let Some(code) = code.filter(|code| !code.is_empty()) else { return Err(factor::missing()) };
        self.limiter.check_code(user)?;
        let key = token.and_then(|token| token.metadata.as_ref()?.get("key")?.as_str());
        let by = key.map_or_else(id::uuid, str::to_owned);
        let (code, now) = (code.clone(), seconds(self.clock.now()));
        let change = move |record: &mut UserRecord| {
            // Taken away a moment ago.
            let Some(factor) = record.factor.as_mut().filter(|factor| !factor.pending) else {
                return Ok(Edit::Unchanged(true));
            };
            Ok(match factor.take(code.expose(), &by, now) {
                Verdict::Good => Edit::Changed(true),
                Verdict::Again => Edit::Unchanged(true),
                Verdict::Wrong => Edit::Unchanged(false),
            })
        };
        if self.backend.change_user(user, Box::new(change)).await? {
            return Ok(());
        }
        self.limiter.failed_code(user);
        Err(factor::wrong())
    }
}

fn seconds(now: Timestamp) -> u64 {
    u64::try_from(now.as_secs()).unwrap_or_default()
}
