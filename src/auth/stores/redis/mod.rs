//! Users and tokens in Redis 6 or newer, or in Valkey.
//!
//! ```text
//! smartregistry:token:<sha256 of the text>     hash: `record`, and `used`, the day of the last use; gone an hour after its end
//! smartregistry:user:<name>                    hash: `record`, and `version`, another one after each change
//! smartregistry:users                          set of all names
//! smartregistry:tokens:<name>                  sorted set of the hashes of a user's tokens
//! smartregistry:ends:<name>                    the same of those that end, by their end
//! smartregistry:logins:<name>                  the same of refresh tokens, by their beginning
//! smartregistry:revoked:<id>                   a signed token that was revoked before its time
//! ```
//! What must change together changes in one script ([`scripts`]): Redis runs nothing else meanwhile.

mod link;
mod scripts;

use std::time::Duration;

use ::redis::cmd;
use async_trait::async_trait;

use self::link::Link;
use super::server::{Fault, read, url, written};
use super::turns::Turns;
use super::{Age, TokenBackend, UserChange, too_many};
use crate::auth::records::{Entry, MAX_REFRESH_TOKENS, MAX_TOKENS, Purpose, TokenRecord, UserRecord, key_of};
use crate::core::error::Result;
use crate::core::id;
use crate::core::secret::Secret;
use crate::core::time::{Clock, Timestamp};
use crate::storage::Edit;

/// The option that names the server.
pub(super) const OPTION: &str = "auth.redisUrl";

/// Before the name of every key. Registries that share a server take databases of their own by the number in their URLs.
const PREFIX: &str = "smartregistry:";

/// How long after its end Redis keeps a token: its clock may be ahead of ours.
const GRACE: Duration = Duration::from_hours(1);

/// Users and tokens in Redis.
pub(super) struct Redis {
    link: Link,
    clock: Clock,
    turns: Turns,
}

fn key(kind: &str, name: &str) -> String {
    format!("{PREFIX}{kind}:{name}")
}

fn users() -> String {
    format!("{PREFIX}users")
}

impl Redis {
    /// The store at a URL. Does no IO.
    pub(super) fn new(address: &Secret, clock: Clock) -> Result<Self> {
        let example = "`redis://user:password@host:6379/0`, or `rediss://…` for TLS";
        let url = url(OPTION, address, &["redis", "rediss", "valkey", "valkeys"], example)?;
        Ok(Self { link: Link::new(OPTION, &url)?, clock, turns: Turns::new(64) })
    }

    /// A user with the version of the record.
    async fn versioned(&self, name: &str) -> Result<(Option<UserRecord>, String), Fault> {
        let mut ask = cmd("HMGET");
        ask.arg(key("user", name)).arg("record").arg("version");
        let (record, version): (Option<String>, Option<String>) = self.link.ask(&ask).await?;
        Ok((record.map(read).transpose()?, version.unwrap_or_default()))
    }

    async fn change(&self, name: &str, change: &UserChange) -> Result<bool, Fault> {
        let _turn = self.turns.of(name).await;
        let mut tried: Option<(String, bool)> = None;
        loop {
            let (record, version) = self.versioned(name).await?;
            // It was written after all, and only the answer got lost.
            if let Some((_, answer)) = tried.as_ref().filter(|(own, _)| *own == version) {
                return Ok(*answer);
            }
            let mut record = record.unwrap_or_default();
            let answer = match change(&mut record)? {
                Edit::Unchanged(answer) => return Ok(answer),
                Edit::Changed(answer) => answer,
            };
            name.clone_into(&mut record.name);
            let own = id::uuid();
            let mut script = scripts::CHANGE_USER.key(key("user", name));
            script.key(users()).arg(version).arg(written(&record)?).arg(&own).arg(name);
            match self.link.run_once::<bool>(&script).await {
                Ok(true) => return Ok(answer),
                // Another process was faster: once more on what that one left.
                Ok(false) => tried = None,
                Err(fault) if tried.is_some() => return Err(fault),
                Err(_) => tried = Some((own, answer)),
            }
        }
    }

    async fn listed(&self, user: &str) -> Result<Vec<(String, Entry)>, Fault> {
        let hashes: Vec<String> =
            self.link.ask(cmd("ZRANGE").arg(key("tokens", user)).arg(0).arg(-1)).await?;
        let mut list = Vec::with_capacity(hashes.len());
        for some in hashes.chunks(1000) {
            let mut pipe = ::redis::pipe();
            for hash in some {
                pipe.hmget(key("token", hash), &["record", "used"]);
            }
            let found: Vec<(Option<String>, Option<i64>)> = self.link.pipe(&pipe).await?;
            for (hash, (record, used)) in some.iter().zip(found) {
                // Ended, and taken away by Redis.
                let Some(record) = record else { continue };
                let last_used = used.map(Timestamp::from_millis);
                list.push((hash.clone(), Entry { record: read(record)?, last_used }));
            }
        }
        Ok(list)
    }

    async fn by_key(&self, user: &str, short: &str) -> Result<Option<(String, TokenRecord)>, Fault> {
        let mut ask = cmd("ZRANGEBYLEX");
        ask.arg(key("tokens", user)).arg(format!("[{short}")).arg("+").arg("LIMIT").arg(0).arg(1);
        let hashes: Vec<String> = self.link.ask(&ask).await?;
        let Some(hash) = hashes.into_iter().find(|hash| key_of(hash) == short) else { return Ok(None) };
        Ok(self.token(&hash).await?.map(|record| (hash, record)))
    }

    async fn token(&self, hash: &str) -> Result<Option<TokenRecord>, Fault> {
        let found: Option<String> = self.link.ask(cmd("HGET").arg(key("token", hash)).arg("record")).await?;
        Ok(found.map(read).transpose()?)
    }

    async fn add(&self, hash: &str, record: &TokenRecord) -> Result<(), Fault> {
        let user = &record.user;
        let named = UserRecord { name: user.clone(), ..UserRecord::default() };
        let login = (record.purpose == Purpose::Refresh).then(|| record.created.as_millis());
        let mut script = scripts::ADD_TOKEN.key(key("token", hash));
        for kind in ["tokens", "ends", "logins", "user"] {
            script.key(key(kind, user));
        }
        script.key(users()).arg(key("token", "")).arg(hash).arg(user).arg(written(record)?);
        script.arg(self.clock.now().as_millis()).arg(record.expires.map_or(0, Timestamp::as_millis));
        script.arg(record.expires.map_or(0, |end| end.plus(GRACE).as_millis())).arg(login.unwrap_or(0));
        script.arg(MAX_TOKENS).arg(MAX_REFRESH_TOKENS).arg(written(&named)?).arg(id::uuid());
        if self.link.run::<bool>(&script).await? {
            return Ok(());
        }
        Err(too_many(user).into())
    }
}

#[async_trait]
impl TokenBackend for Redis {
    async fn prepare(&self) -> Result<()> {
        let ping = async { self.link.ask::<String>(&cmd("PING")).await.map(drop) };
        self.link.server.prepare(ping).await
    }

    async fn find_token(&self, hash: &str) -> Result<Option<TokenRecord>> {
        self.link.server.call(self.token(hash)).await
    }

    async fn add_token(&self, hash: &str, record: TokenRecord) -> Result<()> {
        self.link.server.call(self.add(hash, &record)).await
    }

    async fn remove_token(&self, user: &str, hash: &str) -> Result<()> {
        let mut script = scripts::REMOVE_TOKEN.key(key("token", hash));
        for kind in ["tokens", "ends", "logins"] {
            script.key(key(kind, user));
        }
        script.arg(hash);
        self.link.server.call(self.link.run(&script)).await
    }

    async fn tokens(&self, user: &str) -> Result<Vec<(String, Entry)>> {
        self.link.server.call(self.listed(user)).await
    }

    async fn find_key(&self, user: &str, key: &str, _: Age) -> Result<Option<(String, TokenRecord)>> {
        self.link.server.call(self.by_key(user, key)).await
    }

    async fn find_user(&self, name: &str, _: Age) -> Result<Option<UserRecord>> {
        self.link.server.call(async { Ok(self.versioned(name).await?.0) }).await
    }

    async fn change_user(&self, name: &str, change: UserChange) -> Result<bool> {
        self.link.server.call(self.change(name, &change)).await
    }

    async fn remove_user(&self, name: &str) -> Result<()> {
        let mut script = scripts::REMOVE_USER.key(key("user", name));
        script.key(users());
        for kind in ["tokens", "ends", "logins"] {
            script.key(key(kind, name));
        }
        script.arg(key("token", "")).arg(name);
        self.link.server.call(self.link.run(&script)).await
    }

    async fn user_names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> =
            self.link.server.call(self.link.ask(cmd("SMEMBERS").arg(users()))).await?;
        names.sort();
        Ok(names)
    }

    async fn touch(&self, _: &str, hash: &str, day: Timestamp) -> Result<()> {
        let mut script = scripts::TOUCH_TOKEN.key(key("token", hash));
        script.arg(day.as_millis());
        self.link.server.call(self.link.run(&script)).await
    }

    async fn revoke_signed(&self, id: &str, ends: Timestamp) -> Result<()> {
        let ends = ends.plus(GRACE).as_millis();
        let mut set = cmd("SET");
        set.arg(key("revoked", id)).arg("").arg("PXAT").arg(ends);
        self.link.server.call(self.link.ask(&set)).await
    }

    async fn is_revoked(&self, id: &str) -> Result<bool> {
        self.link.server.call(self.link.ask(cmd("EXISTS").arg(key("revoked", id)))).await
    }
}
