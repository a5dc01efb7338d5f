//! Users and tokens in `PostgreSQL` 15 or newer, or in a file of `SQLite`: the same tables, and statements that both understand.

mod dialect;
mod pool;
mod schema;

use async_trait::async_trait;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use self::pool::Pool;
use super::server::{Fault, read, written};
use super::{Age, TokenBackend, UserChange, too_many};
use crate::auth::records::{Entry, MAX_REFRESH_TOKENS, MAX_TOKENS, Purpose, TokenRecord, UserRecord, key_of};
use crate::core::error::Result;
use crate::core::secret::Secret;
use crate::core::time::{Clock, Timestamp};
use crate::storage::{Document, Edit};

/// The option that names the database.
pub(super) const OPTION: &str = "auth.databaseUrl";

/// How often a user's row is looked for that others delete in the same moment.
const TRIES: usize = 5;

/// Users and tokens in a database.
pub(super) struct Database {
    pool: Pool,
    clock: Clock,
}

impl Database {
    /// The store at a URL. Does no IO.
    pub(super) fn new(address: &Secret, clock: Clock) -> Result<Self> {
        Ok(Self { pool: Pool::new(address)?, clock })
    }

    /// The user's row, locked until the transaction ends; made if it isn't there.
    async fn lock(&self, to: &mut AnyConnection, name: &str) -> Result<UserRecord, Fault> {
        let named = written(&UserRecord { name: name.to_owned(), ..UserRecord::default() })?;
        for _ in 0..TRIES {
            sqlx::query(
                "INSERT INTO smartregistry_users (name, record) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            )
            .bind(name.to_owned())
            .bind(named.clone())
            .execute(&mut *to)
            .await?;
            let find = sqlx::query(self.pool.dialect.lock_user).bind(name.to_owned());
            if let Some(row) = find.fetch_optional(&mut *to).await? {
                return record(&row, 0);
            }
        }
        Err(Fault::Away("a user's row is made and deleted again and again".to_owned()))
    }

    async fn add(&self, hash: &str, token: &TokenRecord) -> Result<(), Fault> {
        let _turn = self.pool.turn(&token.user).await;
        let mut to = self.pool.begin().await?;
        self.lock(&mut to, &token.user).await?;
        self.make_room(&mut to, token).await?;
        sqlx::query(
            "INSERT INTO smartregistry_tokens (hash, owner, short, login, created, expires, record)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (hash) DO NOTHING",
        )
        .bind(hash.to_owned())
        .bind(token.user.clone())
        .bind(key_of(hash).to_owned())
        .bind(i64::from(token.purpose == Purpose::Refresh))
        .bind(token.created.as_millis())
        .bind(token.expires.map(Timestamp::as_millis))
        .bind(written(token)?)
        .execute(&mut *to)
        .await?;
        Ok(to.commit().await?)
    }

    /// Takes away what ended, and the oldest refresh tokens if there comes another.
    async fn make_room(&self, to: &mut AnyConnection, token: &TokenRecord) -> Result<(), Fault> {
        sqlx::query("DELETE FROM smartregistry_tokens WHERE owner = $1 AND expires <= $2")
            .bind(token.user.clone())
            .bind(self.clock.now().as_millis())
            .execute(&mut *to)
            .await?;
        if token.purpose == Purpose::Refresh {
            // SQLite wants a limit before an offset: one that is none.
            sqlx::query(
                "DELETE FROM smartregistry_tokens WHERE hash IN (SELECT hash FROM smartregistry_tokens
                 WHERE owner = $1 AND login = 1 ORDER BY created DESC, hash DESC LIMIT 1000000 OFFSET $2)",
            )
            .bind(token.user.clone())
            .bind(i64::from(MAX_REFRESH_TOKENS) - 1)
            .execute(&mut *to)
            .await?;
        }
        let count = sqlx::query("SELECT COUNT(*) FROM smartregistry_tokens WHERE owner = $1")
            .bind(token.user.clone())
            .fetch_one(&mut *to)
            .await?;
        if count.try_get::<i64, _>(0)? >= i64::from(MAX_TOKENS) {
            return Err(too_many(&token.user).into());
        }
        Ok(())
    }

    async fn change(&self, name: &str, change: &UserChange) -> Result<bool, Fault> {
        let _turn = self.pool.turn(name).await;
        let mut to = self.pool.begin().await?;
        let mut user = self.lock(&mut to, name).await?;
        let answer = match change(&mut user)? {
            // The transaction is rolled back, and with it a row that was made for this.
            Edit::Unchanged(answer) => return Ok(answer),
            Edit::Changed(answer) => answer,
        };
        name.clone_into(&mut user.name);
        sqlx::query("UPDATE smartregistry_users SET record = $2 WHERE name = $1")
            .bind(name.to_owned())
            .bind(written(&user)?)
            .execute(&mut *to)
            .await?;
        to.commit().await?;
        Ok(answer)
    }

    async fn remove(&self, name: &str) -> Result<(), Fault> {
        let _turn = self.pool.turn(name).await;
        let mut to = self.pool.begin().await?;
        // The user first: whoever is adding a token has this row until that is done.
        for statement in [
            "DELETE FROM smartregistry_users WHERE name = $1",
            "DELETE FROM smartregistry_tokens WHERE owner = $1",
        ] {
            sqlx::query(statement).bind(name.to_owned()).execute(&mut *to).await?;
        }
        Ok(to.commit().await?)
    }

    async fn revoke(&self, id: &str, ends: Timestamp) -> Result<(), Fault> {
        let _turn = self.pool.turn(id).await;
        let mut to = self.pool.begin().await?;
        sqlx::query("DELETE FROM smartregistry_revoked WHERE ends <= $1")
            .bind(self.clock.now().as_millis())
            .execute(&mut *to)
            .await?;
        sqlx::query(
            "INSERT INTO smartregistry_revoked (id, ends) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
        )
        .bind(id.to_owned())
        .bind(ends.as_millis())
        .execute(&mut *to)
        .await?;
        Ok(to.commit().await?)
    }

    /// Changes a token's row.
    async fn change_token(
        &self,
        statement: &'static str,
        hash: &str,
        day: Option<Timestamp>,
    ) -> Result<(), Fault> {
        let _turn = self.pool.turn(hash).await;
        let query = sqlx::query(statement).bind(hash.to_owned());
        let query = day.into_iter().fold(query, |query, day| query.bind(day.as_millis()));
        query.execute(self.pool.ready().await?).await?;
        Ok(())
    }
}

#[async_trait]
impl TokenBackend for Database {
    async fn prepare(&self) -> Result<()> {
        self.pool.server.prepare(async { self.pool.ready().await.map(drop) }).await
    }

    async fn find_token(&self, hash: &str) -> Result<Option<TokenRecord>> {
        let statement = "SELECT record FROM smartregistry_tokens WHERE hash = $1";
        let find =
            async { self.pool.rows(statement, &[hash]).await?.first().map(|row| record(row, 0)).transpose() };
        self.pool.server.call(find).await
    }

    async fn add_token(&self, hash: &str, record: TokenRecord) -> Result<()> {
        self.pool.server.call(self.add(hash, &record)).await
    }

    async fn remove_token(&self, _: &str, hash: &str) -> Result<()> {
        let statement = "DELETE FROM smartregistry_tokens WHERE hash = $1";
        self.pool.server.call(self.change_token(statement, hash, None)).await
    }

    async fn tokens(&self, user: &str) -> Result<Vec<(String, Entry)>> {
        let statement = "SELECT hash, record, used FROM smartregistry_tokens WHERE owner = $1";
        let entry = |row: &AnyRow| {
            let last_used = row.try_get::<Option<i64>, _>(2)?.map(Timestamp::from_millis);
            Ok((row.try_get(0)?, Entry { record: record(row, 1)?, last_used }))
        };
        let list = async { self.pool.rows(statement, &[user]).await?.iter().map(entry).collect() };
        self.pool.server.call(list).await
    }

    async fn find_key(&self, user: &str, key: &str, _: Age) -> Result<Option<(String, TokenRecord)>> {
        let statement = "SELECT hash, record FROM smartregistry_tokens WHERE owner = $1 AND short = $2";
        let token = |row: &AnyRow| Ok((row.try_get(0)?, record(row, 1)?));
        let find = async { self.pool.rows(statement, &[user, key]).await?.first().map(token).transpose() };
        self.pool.server.call(find).await
    }

    async fn find_user(&self, name: &str, _: Age) -> Result<Option<UserRecord>> {
        let statement = "SELECT record FROM smartregistry_users WHERE name = $1";
        let find =
            async { self.pool.rows(statement, &[name]).await?.first().map(|row| record(row, 0)).transpose() };
        self.pool.server.call(find).await
    }

    async fn change_user(&self, name: &str, change: UserChange) -> Result<bool> {
        self.pool.server.call(self.change(name, &change)).await
    }

    async fn remove_user(&self, name: &str) -> Result<()> {
        self.pool.server.call(self.remove(name)).await
    }

    async fn user_names(&self) -> Result<Vec<String>> {
        let rows = self.pool.rows("SELECT name FROM smartregistry_users", &[]);
        let list = async { rows.await?.iter().map(|row| Ok(row.try_get(0)?)).collect() };
        let mut names: Vec<String> = self.pool.server.call(list).await?;
        names.sort();
        Ok(names)
    }

    async fn touch(&self, _: &str, hash: &str, day: Timestamp) -> Result<()> {
        let statement =
            "UPDATE smartregistry_tokens SET used = $2 WHERE hash = $1 AND (used IS NULL OR used < $2)";
        self.pool.server.call(self.change_token(statement, hash, Some(day))).await
    }

    async fn revoke_signed(&self, id: &str, ends: Timestamp) -> Result<()> {
        self.pool.server.call(self.revoke(id, ends)).await
    }

    async fn is_revoked(&self, id: &str) -> Result<bool> {
        let statement = "SELECT id FROM smartregistry_revoked WHERE id = $1";
        self.pool.server.call(async { Ok(!self.pool.rows(statement, &[id]).await?.is_empty()) }).await
    }
}

/// The record in a column.
fn record<D: Document>(row: &AnyRow, column: usize) -> Result<D, Fault> {
    Ok(read(row.try_get(column)?)?)
}
