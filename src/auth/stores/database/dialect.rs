//! Where `PostgreSQL` and `SQLite` differ.

use url::Url;

/// What one of them is told in its own words.
pub(super) struct Dialect {
    /// Begins a transaction that writes.
    pub(super) begin: &'static str,
    /// Reads a user's record and lets nobody else write it until the transaction ends.
    pub(super) lock_user: &'static str,
    /// Lets nobody else change the schema until the transaction ends.
    pub(super) lock_schema: Option<&'static str>,
    /// Counts the tables that hold the schema's version.
    pub(super) has_schema: &'static str,
    /// What a file is told once.
    pub(super) file: Option<&'static str>,
    /// What every connection is told.
    pub(super) connection: Option<&'static str>,
    /// Connections at most.
    pub(super) connections: u32,
    /// How many of one process may write at once.
    pub(super) writers: usize,
}

static POSTGRES: Dialect = Dialect {
    begin: "BEGIN",
    lock_user: "SELECT record FROM smartregistry_users WHERE name = $1 FOR UPDATE",
    // Any number that other programs hardly take.
    lock_schema: Some("SELECT pg_advisory_xact_lock(8362915047710)"),
    has_schema: "SELECT COUNT(*) FROM pg_catalog.pg_class WHERE oid = to_regclass('smartregistry_schema')",
    file: None,
    connection: None,
    connections: 10,
    writers: 64,
};

static SQLITE: Dialect = Dialect {
    // Takes the one lock there is at once: who reads first and wants to write then may be refused.
    begin: "BEGIN IMMEDIATE",
    lock_user: "SELECT record FROM smartregistry_users WHERE name = $1",
    lock_schema: None,
    has_schema: "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'smartregistry_schema'",
    // Readers and the writer don't wait for each other, and a commit is on the disk all the same.
    file: Some("PRAGMA journal_mode = WAL"),
    // In milliseconds: how long to wait for another process's turn.
    connection: Some("PRAGMA busy_timeout = 4000; PRAGMA synchronous = FULL"),
    connections: 4,
    writers: 1,
};

impl Dialect {
    /// The dialect of a URL.
    pub(super) fn of(url: &Url) -> &'static Self {
        if url.scheme() == "sqlite" { &SQLITE } else { &POSTGRES }
    }
}
