//! The keys of issuers: from the configuration, or fetched when the first token comes and kept for a while.

mod ring;
mod set;
mod source;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(super) use set::{ALGORITHMS, Key, KeySet};
pub use source::{Document, KeySource, Lookup};

use crate::config::IssuerConfig;
use crate::core::error::{Error, Result};
use crate::core::time::Clock;
use ring::Ring;
use source::Place;

/// Where an issuer's keys come from.
pub(super) enum Keys {
    /// They stand in the configuration.
    Inline(Arc<KeySet>),
    /// They are fetched.
    Fetched(Arc<Ring>),
}

impl Keys {
    /// # Errors
    /// What is wrong with the issuer's options.
    pub(super) fn new(config: &IssuerConfig, source: &Arc<dyn KeySource>, clock: &Clock) -> Result<Self> {
        let Some(document) = &config.jwks else {
            let ring = Ring::new(Place::new(config)?, Arc::clone(source), clock.clone());
            return Ok(Self::Fetched(Arc::new(ring)));
        };
        let named =
            |error: Error| Error::invalid(format!("`jwks` of `{}` {}", config.issuer, error.message()));
        KeySet::read(document).map(|set| Self::Inline(Arc::new(set))).map_err(named)
    }

    /// The keys, fetched if there are none yet or none of this name.
    ///
    /// # Errors
    /// 503 with `Retry-After` while they can't be had.
    pub(super) async fn find(&self, id: Option<&str>) -> Result<Arc<KeySet>> {
        match self {
            Self::Inline(set) => Ok(Arc::clone(set)),
            Self::Fetched(ring) => ring.find(id).await,
        }
    }
}
