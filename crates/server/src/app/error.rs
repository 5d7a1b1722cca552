//! Why the application did not do what was asked. `http` decides which status each becomes.

use checkrein_api::RollbackPlan;
use checkrein_core::{approval::Refused as ApprovalRefused, classify, grant, policy};
use checkrein_store::{AppendError, StoreError};
use checkrein_targets::Error as TargetError;

/// One mistake of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where: a policy's name, or a field.
    pub subject: String,
    /// Where in it.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No key, or one that is not known.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// The key may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing, or the key may not see it.
    #[error("there is no {0} `{1}`, or this key may not see it")]
    NotFound(&'static str, String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It stands against what is there.
    #[error("{0}")]
    Conflict(String),
    /// An idempotency key was used for something else.
    #[error("the idempotency key was used for another action before; use a new one for each action")]
    KeyReused,
    /// Policies do not compile.
    #[error("the policies were not put into force; the ones before still are")]
    Policies(Vec<Item>),
    /// Too many requests from one key.
    #[error(
        "this key asks more often than its limit of {limit} requests a second; ask again in {retry_after_seconds} s"
    )]
    TooMany {
        /// The limit.
        limit: u32,
        /// When to ask again.
        retry_after_seconds: u64,
    },
    /// An approval is not where it should be for that.
    #[error("{0}")]
    Approval(#[from] ApprovalRefused),
    /// A grant is not where it should be for that.
    #[error("{0}")]
    Grant(#[from] grant::Refused),
    /// It is not on record, so nothing may run.
    #[error("nothing may run: {0}")]
    NotRecorded(String),
    /// It may or may not be on record, so nothing may run.
    #[error("nothing may run: {0}")]
    InDoubt(String),
    /// The database refused the statement. Nothing was changed.
    #[error("{message}")]
    Statement {
        /// Its own code: a SQLSTATE or the like.
        code: String,
        /// Its words.
        message: String,
        /// The check that has the attempt on record.
        check_id: Option<String>,
    },
    /// The system cannot do what was asked.
    #[error("{0}")]
    Unsupported(String),
    /// The system could not be reached or did not answer. Nothing was changed.
    #[error("{0}")]
    Target(String),
    /// A snapshot could not be taken or kept. Nothing was changed.
    #[error("no snapshot could be taken: {0}")]
    Snapshot(String),
    /// There is no room for what an agent asks for. Nothing was changed.
    #[error("{0}")]
    NoRoom(String),
    /// It is not known whether an execution took place.
    #[error("{message}")]
    ExecutionUnknown {
        /// What is known, and what to do.
        message: String,
        /// The check that will say.
        check_id: String,
    },
    /// A rollback would overwrite what somebody did since. Nothing was changed.
    #[error(
        "{} of these records were changed since; nothing was rolled back. Look at `conflicts`, then ask again with on_conflict `skip` to leave them as they are, or `force` to overwrite them", .0.conflict_count
    )]
    RollbackConflicts(Box<RollbackPlan>),
    /// A rollback would overwrite or leave out something else than a person has looked at. Nothing was changed.
    #[error(
        "the plan changed since you looked; nothing was rolled back. Look at `conflicts`, then ask again with `plan_digest` set to the `digest` of this plan"
    )]
    RollbackChanged(Box<RollbackPlan>),
    /// A rollback cannot be made whole. Nothing was changed.
    #[error("{0}")]
    RollbackImpossible(String),
    /// It is not known whether a rollback took place.
    #[error("{0}")]
    RollbackUnknown(String),
    /// The store cannot be read or opened.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The server is on its way down.
    #[error("the server is stopping; ask again in a moment")]
    Stopping,
}

impl From<AppendError> for Error {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Refused(refused) => Self::Approval(refused),
            AppendError::Grant(refused) => Self::Grant(refused),
            AppendError::Unknown(_) | AppendError::Doubt(_) => Self::InDoubt(error.to_string()),
            other => Self::NotRecorded(other.to_string()),
        }
    }
}

impl Error {
    /// What a target could not do, outside of an execution and a rollback.
    pub(super) fn of_target(error: TargetError) -> Self {
        match error {
            TargetError::Invalid(message) => Self::Invalid(message),
            TargetError::Statement { code, message } => Self::Statement { code, message, check_id: None },
            TargetError::Unmeasurable(message)
            | TargetError::Unsupported(message)
            | TargetError::TooLarge(message)
            | TargetError::Irreversible(message)
            | TargetError::Forbidden(message) => Self::Unsupported(message),
            TargetError::Snapshot(message) | TargetError::Disk(message) => Self::Snapshot(message),
            other @ (TargetError::Config(_)
            | TargetError::Unreachable(_)
            | TargetError::TimedOut { .. }
            | TargetError::Internal(_)) => Self::Target(other.to_string()),
        }
    }
}

impl From<classify::Refused> for Error {
    fn from(refused: classify::Refused) -> Self {
        Self::Invalid(refused.to_string())
    }
}

impl From<Vec<policy::Problem>> for Error {
    fn from(problems: Vec<policy::Problem>) -> Self {
        Self::Policies(
            problems
                .into_iter()
                .map(|p| Item { subject: p.policy, path: p.path, message: p.message })
                .collect(),
        )
    }
}
