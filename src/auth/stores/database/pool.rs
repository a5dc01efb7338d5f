//! Connections to the database: made when they are needed, a bounded number, and tried before use, so that a database that was away is
//! found again.

use std::path::PathBuf;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions, AnyRow, install_default_drivers};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Any, AnyConnection, AnyPool, ConnectOptions, Connection, Executor, Transaction};
use tokio::sync::{MutexGuard, OnceCell};
use url::Url;

use super::{OPTION, schema};
use crate::auth::stores::database::dialect::Dialect;
use crate::auth::stores::server::{CONNECT, Fault, Server, url};
use crate::auth::stores::turns::Turns;
use crate::core::error::{Error, Result};
use crate::core::secret::Secret;
use crate::storage::local::make_private_file;

/// A database and the connections to it.
pub(super) struct Pool {
    pub(super) server: Server,
    pub(super) dialect: &'static Dialect,
    options: AnyConnectOptions,
    /// Where `SQLite` keeps it.
    file: Option<PathBuf>,
    /// With the tables up to date.
    ready: OnceCell<AnyPool>,
    turns: Turns,
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Away(error.to_string())
    }
}

impl Pool {
    /// To the database at a URL. Does no IO.
    pub(super) fn new(address: &Secret) -> Result<Self> {
        let example = "`postgres://user:password@host/database` or `sqlite:path`";
        let mut url = url(OPTION, address, &["postgres", "postgresql", "sqlite"], example)?;
        let mut file = None;
        if url.scheme() == "sqlite" {
            url = url_of_file(&url)?;
            file = SqliteConnectOptions::from_url(&url).ok().map(|found| found.get_filename().to_path_buf());
        }
        let dialect = Dialect::of(&url);
        let options = AnyConnectOptions::from_url(&url).map_err(|_| {
            Error::invalid(format!("option `{OPTION}` is no URL of a database; write {example}"))
        })?;
        Ok(Self {
            server: Server::new(OPTION, &url),
            dialect,
            options: options.disable_statement_logging(),
            file,
            ready: OnceCell::new(),
            turns: Turns::new(dialect.writers),
        })
    }

    /// Waits until nobody else of this process writes what has this name.
    pub(super) async fn turn(&self, name: &str) -> Option<MutexGuard<'_, ()>> {
        self.turns.of(name).await
    }

    /// The pool, once there are tables.
    pub(super) async fn ready(&self) -> Result<&AnyPool, Fault> {
        self.ready.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<AnyPool, Fault> {
        install_default_drivers();
        if let Some(file) = &self.file {
            // SQLite would make it readable to everybody. What it lays beside it gets the rights of this one.
            make_private_file(file)
                .map_err(|error| Fault::Away(format!("the file can't be made: {error}")))?;
        }
        // A connection of its own: unlike the pool it says why it can't be had.
        let connect = AnyConnection::connect_with(&self.options);
        let late = |_| Fault::Away(format!("no connection within {} s", CONNECT.as_secs()));
        let mut first = tokio::time::timeout(CONNECT, connect).await.map_err(late)??;
        tell(&mut first, self.dialect.connection).await?;
        schema::migrate(&mut first, self.dialect).await?;
        first.close().await?;
        let statement = self.dialect.connection;
        let pool = AnyPoolOptions::new()
            .max_connections(self.dialect.connections)
            .acquire_timeout(CONNECT)
            .after_connect(move |to, _| Box::pin(tell(to, statement)));
        Ok(pool.connect_lazy_with(self.options.clone()))
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Any>, Fault> {
        Ok(self.ready().await?.begin_with(self.dialect.begin).await?)
    }

    /// The rows that a statement finds for some texts.
    pub(super) async fn rows(&self, statement: &'static str, values: &[&str]) -> Result<Vec<AnyRow>, Fault> {
        // No text here has one, and PostgreSQL refuses to look.
        if values.iter().any(|value| value.contains('\0')) {
            return Ok(Vec::new());
        }
        let query =
            values.iter().fold(sqlx::query(statement), |query, value| query.bind((*value).to_owned()));
        Ok(query.fetch_all(self.ready().await?).await?)
    }
}

async fn tell(to: &mut AnyConnection, statement: Option<&'static str>) -> Result<(), sqlx::Error> {
    match statement {
        Some(statement) => to.execute(sqlx::raw_sql(statement)).await.map(drop),
        None => Ok(()),
    }
}

/// The URL of a file of `SQLite`, which is made if it isn't there: `sqlite:path` and `sqlite://path` are the same.
fn url_of_file(url: &Url) -> Result<Url> {
    let path = url.as_str().trim_start_matches("sqlite:");
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.contains(['?', '#']) || path.contains(":memory:") {
        return Err(Error::invalid(format!(
            "option `{OPTION}`: `sqlite:` needs the path of a file and nothing else; for tokens that end with the process there is `auth.tokenStore: 'memory'`"
        )));
    }
    Url::parse(&format!("sqlite:{path}?mode=rwc"))
        .map_err(|_| Error::invalid(format!("option `{OPTION}`: the path of the file makes no URL")))
}
