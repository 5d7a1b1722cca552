//! Who may do what.

use serde::{Deserialize, Serialize};

/// What a key may do. Ordered: each may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Checks and reports outcomes, for the agents that it is bound to.
    Agent,
    /// Also: reads everything, decides approvals.
    Operator,
    /// Also: policies and keys.
    Admin,
}

impl Role {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// A key as it is kept: never the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// `key_…`.
    pub id: String,
    /// What it may do.
    pub role: Role,
    /// What people call it; shown as who decided or changed something.
    pub name: String,
    /// For role `agent`: the name or pattern of the agents that it speaks for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
    /// SHA-256 of the whole key, in lower-case hexadecimal. Keys are 256 random bits, so that no slow hash
    /// is needed.
    pub sha256: String,
}
