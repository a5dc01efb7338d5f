//! The scope grammar `{protocol}:{type}:{name}:{action}`: parse, print, match, and what an action implies.

use std::fmt;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Look at it, download it.
    Read,
    /// Publish to it.
    Write,
    /// Remove it or a part of it.
    Delete,
    /// OCI's word for read.
    Pull,
    /// OCI's word for write; implies pull.
    Push,
    /// Change who may do what with it.
    Admin,
    /// Everything.
    Any,
}

impl Action {
    /// The word in a scope.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Admin => "admin",
            Self::Any => "*",
        }
    }

    /// Whether it only looks.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Read | Self::Pull)
    }
}

/// A package, repository, crate, …: the first three fields of a scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// `npm`
    pub protocol: String,
    /// `package`
    pub kind: String,
    /// `@acme/widget`
    pub name: String,
}

/// `npm:package:@acme/widget`
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.protocol, self.kind, self.name)
    }
}
