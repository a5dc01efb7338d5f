//! A token store of each kind, and as many processes on it as a test wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, Row};

use crate::auth::stores::TokenBackend;
use crate::auth::tests::config_of;
use crate::auth::{Auth, Setup};
use crate::core::id;
use crate::core::time::Clock;
use crate::storage::memory::MemoryStore;
use crate::storage::{GetOptions, Prefix, Storage, StorageLimits, Store};

/// Kinds of token stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "s3-tests"), allow(dead_code))]
pub(super) enum Kind {
    Memory,
    Storage,
    Sqlite,
    Redis,
    Postgres,
}

/// A store of a test's own.
pub(super) struct World {
    pub(super) kind: Kind,
    pub(super) clock: Clock,
    store: Arc<dyn Store>,
    /// Of the configuration.
    url: String,
    /// Memory is one process's: every process is this one.
    alone: Option<Arc<Auth>>,
    /// Where `SQLite` has its file.
    pub(super) folder: tempfile::TempDir,
}

impl World {
    pub(super) async fn new(kind: Kind) -> Self {
        // Redis lets go of what has ended by its own clock.
        let clock = Clock::manual(Clock::real().now());
        let folder = tempfile::tempdir().unwrap();
        let url = match kind {
            Kind::Memory | Kind::Storage => String::new(),
            Kind::Sqlite => format!("sqlite:{}/tokens of ours.db", folder.path().display()),
            Kind::Redis => format!("{}/{}", lent("REDIS"), fastrand::u16(1..16384)),
            Kind::Postgres => postgres().await,
        };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
        let mut world = Self { kind, clock, store, url, alone: None, folder };
        if kind == Kind::Redis {
            let mut to = world.redis().await;
            redis::cmd("FLUSHDB").query_async::<()>(&mut to).await.unwrap();
        }
        if kind == Kind::Memory {
            world.alone = Some(world.start(&world.options(), Duration::ZERO));
        }
        world
    }

    /// A process that asks the store about everything.
    pub(super) fn process(&self) -> Arc<Auth> {
        self.alone.clone().unwrap_or_else(|| self.start(&self.options(), Duration::ZERO))
    }

    /// A process that remembers for the default metadata TTL.
    pub(super) fn remembering(&self) -> Arc<Auth> {
        self.alone.clone().unwrap_or_else(|| self.start(&self.options(), Duration::from_secs(1)))
    }

    /// What the configuration says of the store.
    fn options(&self) -> Value {
        match self.kind {
            Kind::Memory => json!({ "tokenStore": "memory" }),
            Kind::Storage => json!({ "tokenStore": "storage" }),
            Kind::Redis => json!({ "tokenStore": "redis", "redisUrl": self.url }),
            Kind::Sqlite | Kind::Postgres => json!({ "tokenStore": "database", "databaseUrl": self.url }),
        }
    }

    /// A process whose configuration names another store.
    pub(super) fn with(&self, options: &Value) -> Arc<Auth> {
        self.start(options, Duration::ZERO)
    }

    fn start(&self, options: &Value, ttl: Duration) -> Arc<Auth> {
        let limits = StorageLimits { metadata_ttl: ttl, ..StorageLimits::default() };
        let storage = Storage::new(Arc::clone(&self.store), None, &limits, self.clock.clone());
        let auth = Auth::new(Setup {
            config: &config_of(options),
            provider: None,
            storage: &storage,
            clock: &self.clock,
            metadata_ttl: ttl,
            anonymous_read: BTreeMap::new(),
            keys: crate::auth::keys::testing::Nowhere::source(),
            oci: true,
            shared: true,
        });
        Arc::new(auth.unwrap())
    }

    /// Everything that is kept, as text.
    pub(super) async fn dump(&self) -> String {
        match self.kind {
            Kind::Memory | Kind::Storage => self.dump_objects().await,
            Kind::Redis => self.dump_redis().await,
            Kind::Sqlite | Kind::Postgres => self.dump_database().await,
        }
    }

    async fn dump_objects(&self) -> String {
        let page = self.store.list(&Prefix::new("").unwrap(), None, 100_000, false).await.unwrap();
        let mut text = String::new();
        for object in page.objects {
            text.extend([object.key.as_str(), "\n"]);
            let mut body = self.store.get(&object.key, GetOptions::default()).await.unwrap().body;
            while let Some(chunk) = body.next().await {
                text += &String::from_utf8_lossy(&chunk.unwrap());
            }
        }
        text
    }

    pub(super) async fn redis(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url.as_str()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    async fn dump_redis(&self) -> String {
        let mut to = self.redis().await;
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut to).await.unwrap();
        let mut text = String::new();
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut to).await.unwrap();
            let ask = match kind.as_str() {
                "hash" => redis::cmd("HGETALL").arg(&key).to_owned(),
                "zset" => redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).arg("WITHSCORES").to_owned(),
                "set" => redis::cmd("SMEMBERS").arg(&key).to_owned(),
                _ => redis::cmd("GET").arg(&key).to_owned(),
            };
            let value: redis::Value = ask.query_async(&mut to).await.unwrap();
            let lines: Vec<String> = match &value {
                redis::Value::Array(_) => redis::from_redis_value(value).unwrap(),
                _ => vec![redis::from_redis_value(value).unwrap()],
            };
            text.extend([key, "\n".to_owned(), lines.join("\n"), "\n".to_owned()]);
        }
        text
    }

    pub(super) async fn database(&self) -> sqlx::AnyConnection {
        sqlx::any::install_default_drivers();
        sqlx::AnyConnection::connect(&self.url).await.unwrap()
    }

    async fn dump_database(&self) -> String {
        let mut to = self.database().await;
        let mut text = String::new();
        for statement in [
            "SELECT name, record FROM smartregistry_users",
            "SELECT hash || ' ' || owner || ' ' || short, record FROM smartregistry_tokens",
            "SELECT id, '' FROM smartregistry_revoked",
        ] {
            for row in to.fetch_all(statement).await.unwrap() {
                text.extend([row.get::<String, _>(0), "\n".to_owned(), row.get(1), "\n".to_owned()]);
            }
        }
        text
    }
}

/// The store behind a process.
pub(super) fn backend(auth: &Auth) -> &dyn TokenBackend {
    auth.users.builtin().unwrap().backend.as_ref()
}

/// The URL of the server of this kind that the test runner has started.
#[allow(clippy::disallowed_methods)]
fn lent(kind: &str) -> String {
    let variable = format!("SMARTREGISTRY_TEST_{kind}");
    std::env::var(&variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run these tests through `npm run test:core`"))
}

/// The URL of a schema of one's own.
async fn postgres() -> String {
    sqlx::any::install_default_drivers();
    let (server, schema) = (lent("POSTGRES"), format!("s{}", id::uuid().replace('-', "")));
    let mut to = sqlx::AnyConnection::connect(&server).await.unwrap();
    to.execute(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).await.unwrap();
    format!("{server}?options[search_path]={schema}")
}
