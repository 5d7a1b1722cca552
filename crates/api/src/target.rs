//! The systems that the server is connected to, on the wire.

use checkrein_core::action::Environment;
use serde::{Deserialize, Serialize};

/// The targets that the server is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetList {
    /// By name.
    pub targets: Vec<TargetView>,
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetView {
    /// The first part of its resources' names.
    pub name: String,
    /// `postgres`, `mysql`, `sqlite` or `files`.
    pub kind: String,
    /// What it is for.
    pub environment: Environment,
}

/// What a test of a target found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetReport {
    /// Whether it can be reached and everything that Checkrein needs is there.
    pub ok: bool,
    /// What answers there, e.g. `PostgreSQL 15.18`; `null` when nothing does.
    #[schema(required = true)]
    pub system: Option<String>,
    /// Why it cannot be used at all, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub error: Option<String>,
    /// Each thing that was looked at.
    pub privileges: Vec<TargetPrivilege>,
}

/// One thing that Checkrein needs of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetPrivilege {
    /// What for: `count`, `execute`, `snapshot`, `rollback`.
    pub needed_for: String,
    /// Whether it is there.
    pub ok: bool,
    /// What was found, and what to do if it is not there.
    pub message: String,
}
