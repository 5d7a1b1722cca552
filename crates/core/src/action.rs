//! What an agent is about to do, as Checkrein understands it after classification.

use crate::name::Name;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;
use std::fmt;

/// What kind of action it is. Ordered by gravity: of several effects, the gravest names the action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Looks, changes nothing.
    Read,
    /// Creates or changes records.
    Write,
    /// Leaves the house: mail, messages, calls to other parties' APIs.
    Outbound,
    /// Runs code or commands, whose effect cannot be told beforehand.
    Execute,
    /// Removes records.
    Delete,
    /// Changes structure, rights or settings.
    Admin,
}

impl Category {
    /// Every category, least grave first.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Write, Self::Outbound, Self::Execute, Self::Delete, Self::Admin];

    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Outbound => "outbound",
            Self::Execute => "execute",
            Self::Delete => "delete",
            Self::Admin => "admin",
        }
    }
}

/// What a target is for: a property of the target, set by the operator, never by the agent.
/// Ordered by gravity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Nothing in it matters to anybody.
    Sandbox,
    /// A rehearsal.
    Staging,
    /// The real thing; also what is assumed of a target that nobody has described.
    #[default]
    Production,
}

impl Environment {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

/// A number of things, or the admission that nobody can know it. Unknown counts as too many wherever
/// that decides. JSON: a number, or `null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// This many.
    Known(u64),
    /// Nobody can tell.
    Unknown,
}

impl Count {
    /// The number, where there is one.
    pub const fn known(self) -> Option<u64> {
        match self {
            Self::Known(n) => Some(n),
            Self::Unknown => None,
        }
    }

    /// Both together; unknown if either is. Held at `u64::MAX`.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => Self::Known(a.saturating_add(b)),
            _ => Self::Unknown,
        }
    }

    /// The larger one; unknown is larger than any number.
    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => Self::Known(if a > b { a } else { b }),
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(n) => write!(f, "{n}"),
            Self::Unknown => f.write_str("an unknown number of"),
        }
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.known().serialize(s)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map_or(Self::Unknown, Self::Known))
    }
}

/// One thing that an action does to one resource. An explicit check has one; a string of SQL statements
/// has one a statement and table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// What a policy's `action` is compared with, without duplicates: the action as it was named, the verb
    /// in that name, and the canonical verb (`purge_users` → `purge_users`, `purge`, `delete`).
    pub names: SmallVec<[Name; 3]>,
    /// What kind of effect.
    pub category: Category,
    /// What it is done to: `<target>.<path>`, a URL, an address or a tool's name.
    pub resource: Name,
    /// The environment of the resource's target.
    pub environment: Environment,
}

/// The hosts that an action reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domains {
    /// Each host once: lower case, IDN in its ASCII form, no port, no user, no trailing dot; an IP address
    /// in its canonical form (`[::1]`).
    pub known: Vec<Name>,
    /// Something looked like an address and could not be understood.
    pub unknown: bool,
}

/// An action, classified. What policies, drift and people see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Who. From the key, not from the request.
    pub agent: Name,
    /// The run or conversation that it belongs to, as the agent says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<String>,
    /// What, as it was named: the explicit `action`, or the tool's name in the raw form.
    pub action: Name,
    /// The tool, in the raw form.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tool: Option<Name>,
    /// The resource of the gravest effect.
    pub resource: Name,
    /// The gravest of the effects' categories.
    pub category: Category,
    /// The gravest of the effects' environments.
    pub environment: Environment,
    /// Everything that it does; at least one.
    pub effects: SmallVec<[Effect; 1]>,
    /// Records affected as far as the request tells. A read or outbound action that says nothing affects
    /// none; a write, delete, execute or admin action that says nothing affects an unknown number.
    pub records: Count,
    /// The number that the caller stated, if it stated one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub declared: Option<u64>,
    /// That number is the number of ids that were given: it says nothing about what follows from them.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub declared_ids: bool,
    /// Distinct systems touched: targets and hosts.
    pub systems: Count,
    /// Addressees of what is sent. None for what is not outbound; unknown for an outbound action in which
    /// none could be found.
    pub recipients: Count,
    /// Hosts reached.
    pub domains: Domains,
    /// Size of the payload (or arguments) as canonical JSON, in bytes.
    pub payload_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_more_than_any_number() {
        assert_eq!(Count::Known(3).max(Count::Unknown), Count::Unknown);
        assert_eq!(Count::Known(3).max(Count::Known(5)), Count::Known(5));
        assert_eq!(Count::Known(u64::MAX).plus(Count::Known(1)), Count::Known(u64::MAX));
        assert_eq!(serde_json::to_string(&[Count::Known(7), Count::Unknown]).unwrap(), "[7,null]");
    }

    #[test]
    fn gravity_orders_categories_and_environments() {
        assert!(Category::ALL.is_sorted());
        assert!(Environment::Production > Environment::Staging);
        assert_eq!(
            Environment::default(),
            Environment::Production,
            "what nobody described counts as production"
        );
    }
}
