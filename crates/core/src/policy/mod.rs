//! Policies: what they are, how a set of them is compiled, and how it judges an action.

use serde::{Deserialize, Serialize};

/// What a policy asks for. Ordered by precedence: the later wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Lets it run; exempts from a policy that names this one in `except`.
    Allow,
    /// Lets it run and tells the team.
    Alert,
    /// Makes it wait for a person.
    RequireApproval,
    /// Stops it.
    Block,
}

/// Whether a policy takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It is evaluated and reported, without effect.
    Shadow,
}
