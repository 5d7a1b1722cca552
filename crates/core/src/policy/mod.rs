//! Policies: what they are, how a set of them is compiled, and how it judges an action.
//!
//! A [`Policy`] is read from JSON ([`Policy::parse`], [`parse_list`]), a whole set of them is compiled into a
//! [`PolicySet`], and that judges [`Facts`] about an action into a [`Judgement`]. Conditions are three-valued:
//! what nobody can know is decided by the policy's [`OnUnknown`].

mod cel;
mod condition;
mod early;
pub mod examples;
#[doc(hidden)]
pub mod fuzz;
mod index;
mod matcher;
mod parse;
mod read;
mod reason;
pub mod replay;
mod schema;
mod scope;
mod set;
#[cfg(test)]
mod tests;
mod windows;
mod write;

pub use condition::Condition;
pub use parse::{limits, parse_list};
pub use scope::within;
pub use set::{Facts, Judgement, MAX_MATCHED, Needs, PolicySet};
pub use windows::Windows;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

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

impl Rule {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Alert => "alert",
            Self::RequireApproval => "require_approval",
            Self::Block => "block",
        }
    }
}

/// Whether a policy matches when its condition rests on something that nobody can know, e.g. how many
/// records an action touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// It does. The default of `block` and `require_approval`.
    Match,
    /// It does not. The default of `alert`; always so for `allow`.
    NoMatch,
}

impl OnUnknown {
    /// What holds for policies of `rule` that do not say.
    pub const fn default_for(rule: Rule) -> Self {
        match rule {
            Rule::Block | Rule::RequireApproval => Self::Match,
            Rule::Alert | Rule::Allow => Self::NoMatch,
        }
    }
}

/// A named rule with a condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// 1 to 128 of `A-Z a-z 0-9 _ . -`; unique in a set.
    pub name: String,
    /// What it asks for.
    pub rule: Rule,
    /// Whether it takes effect.
    pub mode: Mode,
    /// What it is for, in the operator's words.
    pub description: Option<String>,
    /// When it matches.
    pub condition: Condition,
    /// Whether it matches on what is unknown.
    pub on_unknown: OnUnknown,
    /// The `allow` policies that take its effect away where they match. Sorted, each once; only for
    /// `alert` and `require_approval`.
    pub except: Vec<String>,
    /// For `require_approval`: how many people must approve, 1 to [`limits::APPROVALS`]; 1 for the other rules.
    pub approvals: u8,
}

impl Policy {
    /// Reads one policy from JSON.
    ///
    /// # Errors
    /// Every problem found, each with the path of the part at fault and what to write instead.
    pub fn parse(value: &Value) -> Result<Self, Vec<Problem>> {
        parse::policy(value)
    }

    /// Canonical JSON, without what is the default anyway: two policies that mean the same by the same name
    /// give equal values, however they were spelled. [`Policy::parse`] reads it back.
    pub fn to_value(&self) -> Value {
        let mut entries = Map::new();
        let mut put = |key: &str, value: Value| entries.insert(key.to_owned(), value);
        put("name", self.name.as_str().into());
        put("rule", self.rule.as_str().into());
        put("condition", self.condition.to_value());
        if self.mode == Mode::Shadow {
            put("mode", "shadow".into());
        }
        if let Some(description) = &self.description {
            put("description", description.as_str().into());
        }
        if self.on_unknown != OnUnknown::default_for(self.rule) {
            put("on_unknown", if self.on_unknown == OnUnknown::Match { "match" } else { "no_match" }.into());
        }
        if !self.except.is_empty() {
            put("except", self.except.iter().map(String::as_str).collect());
        }
        if self.approvals != 1 {
            put("approvals", self.approvals.into());
        }
        Value::Object(entries)
    }
}

/// Something wrong in a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    /// The policy's name, or its place in the list (`policies[3]`) when it has none. May be empty when a
    /// single policy without a name was read.
    pub policy: String,
    /// The part at fault: `condition.any_of[1].resorce_pattern`. Empty for the whole policy.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.policy, &self.path] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}
