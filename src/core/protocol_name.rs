//! The short name of a protocol in scopes, keys, logs and metrics. This layer lists none of them.

use std::fmt;

/// An opaque short name, such as `npm`; made only by the table in `protocols`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProtocolName(&'static str);

impl ProtocolName {
    /// Names a protocol. Meant for the table of protocols and for tests.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name as it stands in scopes, keys, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
