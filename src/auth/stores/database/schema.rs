//! The tables, and how they come to be. A library's migrations would do for `PostgreSQL`; for `SQLite` they take no lock, and their table of
//! versions has the name that the application's own migrations in the same database may use.

use std::time::Duration;

use sqlx::{AnyConnection, Connection, Row};

use super::dialect::Dialect;
use crate::auth::stores::server::Fault;

/// What brings the schema from each version to the next. Lines are added, never changed.
const STEPS: &[&[&str]] = &[&[
    "CREATE TABLE smartregistry_users (name TEXT PRIMARY KEY, record TEXT NOT NULL)",
    "CREATE TABLE smartregistry_tokens (
        hash TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        short TEXT NOT NULL,
        login BIGINT NOT NULL,
        created BIGINT NOT NULL,
        expires BIGINT,
        used BIGINT,
        record TEXT NOT NULL
    )",
    "CREATE INDEX smartregistry_tokens_of_owner ON smartregistry_tokens (owner, short)",
    "CREATE TABLE smartregistry_revoked (id TEXT PRIMARY KEY, ends BIGINT NOT NULL)",
]];

/// How long to wait before another try to be alone with a file.
const PAUSE: Duration = Duration::from_millis(20);

/// Brings the tables up to date. Any number of processes may do it at once.
pub(super) async fn migrate(to: &mut AnyConnection, dialect: &Dialect) -> Result<(), Fault> {
    if let Some(statement) = dialect.file {
        // Nobody waits in line for this one, whatever the time-out says.
        while let Err(error) = sqlx::raw_sql(statement).execute(&mut *to).await {
            if !error.to_string().contains("locked") {
                return Err(error.into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    let mut to = to.begin_with(dialect.begin).await?;
    if let Some(statement) = dialect.lock_schema {
        sqlx::raw_sql(statement).execute(&mut *to).await?;
    }
    let version = version(&mut to, dialect).await?;
    if version > STEPS.len() {
        return Err(Fault::Away(format!(
            "its tables are of version {version} and this release knows {}; update it",
            STEPS.len()
        )));
    }
    for (number, step) in (1i64..).zip(STEPS).skip(version) {
        for statement in *step {
            sqlx::raw_sql(*statement).execute(&mut *to).await?;
        }
        sqlx::query("INSERT INTO smartregistry_schema (version) VALUES ($1)")
            .bind(number)
            .execute(&mut *to)
            .await?;
    }
    Ok(to.commit().await?)
}

async fn version(to: &mut AnyConnection, dialect: &Dialect) -> Result<usize, Fault> {
    // Asked first: who may not make tables may still use those that are there.
    if sqlx::query(dialect.has_schema).fetch_one(&mut *to).await?.try_get::<i64, _>(0)? == 0 {
        sqlx::raw_sql("CREATE TABLE smartregistry_schema (version BIGINT PRIMARY KEY)")
            .execute(&mut *to)
            .await?;
        return Ok(0);
    }
    let rows = sqlx::query("SELECT version FROM smartregistry_schema").fetch_all(&mut *to).await?;
    let mut newest = 0;
    for row in rows {
        newest = newest.max(row.try_get::<i64, _>(0)?);
    }
    Ok(usize::try_from(newest).unwrap_or_default())
}
