//! What is remembered of users and tokens. No token text and no password: a token goes by the SHA-256 of its text, a password by its
//! argon2id hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::factor::Factor;
use crate::core::time::Timestamp;
use crate::storage::JsonDocument;

/// A user's tokens at most; far beyond what a person or a build farm needs.
pub(super) const MAX_TOKENS: u32 = 10_000;
/// A user's refresh tokens at most: every `docker login` makes one, so the oldest give way.
pub(super) const MAX_REFRESH_TOKENS: u32 = 50;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Purpose {
    /// It opens things.
    #[default]
    Access,
    /// It buys OCI access tokens, and nothing else.
    Refresh,
}

/// What a refresh token or a signed token came from, and ends with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Origin {
    /// A token, by its key.
    Token(String),
    /// A password, by the digest of its hash.
    Password(String),
}

/// A token as it is kept. No `Debug`: what it can do is nobody's business in a log.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TokenRecord {
    pub(super) user: String,
    pub(super) protocol: String,
    pub(super) purpose: Purpose,
    pub(super) scopes: Vec<String>,
    pub(super) readonly: bool,
    pub(super) created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) cidr: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// The first characters of the text.
    pub(super) hint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<Origin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<serde_json::Value>,
}

impl TokenRecord {
    pub(super) fn expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// A token in its user's list.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub(super) record: TokenRecord,
    /// To the day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_used: Option<Timestamp>,
}

/// A user. One without a password only has tokens that the application made for an id of its own.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct UserRecord {
    pub(super) name: String,
    /// PHC string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) factor: Option<Factor>,
    /// What the user says about themselves: e-mail address, full name and the like.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) profile: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<Timestamp>,
    /// When password, second factor or profile last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) updated: Option<Timestamp>,
}

/// The key of a token: the first characters of its hash. Long enough to be unique among a user's, and no use without the rest.
pub(super) fn key_of(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// SHA-256 as hexadecimal text.
pub(super) fn sha256(text: &str) -> String {
    hex::encode(sha2::Sha256::digest(text.as_bytes()))
}

impl JsonDocument for TokenRecord {
    const LIMIT: u64 = 64 << 10;
    const NAME: &'static str = "token";
    const SECRET: bool = true;
}

impl JsonDocument for UserRecord {
    const LIMIT: u64 = 1 << 20;
    const NAME: &'static str = "user";
    const SECRET: bool = true;
}
