//! Why the application did not do what was asked. `http` decides which status each becomes.

use checkrein_core::{approval::Refused as ApprovalRefused, classify, policy};
use checkrein_store::{AppendError, StoreError};

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
    /// It is not on record, so nothing may run.
    #[error("nothing may run: {0}")]
    NotRecorded(String),
    /// It may or may not be on record, so nothing may run.
    #[error("nothing may run: {0}")]
    InDoubt(String),
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
            AppendError::Unknown(_) | AppendError::Doubt(_) => Self::InDoubt(error.to_string()),
            other => Self::NotRecorded(other.to_string()),
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
