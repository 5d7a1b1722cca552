//! Why a target could not do what was asked. In each case the target is as it was, unless it says otherwise.

use std::time::Duration;

/// Why a target could not do what was asked. The texts name cause and next step, and hold no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(String),
    /// The system cannot be reached, or the connection broke before anything was decided.
    #[error("{0}")]
    Unreachable(String),
    /// It takes longer than the operator allows.
    #[error("{what} took longer than {limit:?}; nothing was changed")]
    TimedOut {
        /// What took so long.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The account may not do it. Holds the GRANT that is missing where that is known.
    #[error("{0}")]
    Forbidden(String),
    /// The request makes no sense to the system: no such table, no such column, a syntax error.
    #[error("{0}")]
    Invalid(String),
    /// The system itself refused the statement: a constraint, a trigger, a deadlock. With its code
    /// (SQLSTATE or the like).
    #[error("{message}")]
    Statement {
        /// SQLSTATE or the system's own code.
        code: String,
        /// The system's words.
        message: String,
    },
    /// Its effect cannot be measured or undone, so it must not run: DDL, TRUNCATE, a foreign table, …
    #[error("{0}")]
    Unmeasurable(String),
    /// It is more than the operator allows: rows or bytes of a snapshot, rows of a result.
    #[error("{0}")]
    TooLarge(String),
    /// A rollback could not be made whole: a foreign key would break, a unique value is taken, the table
    /// has changed its shape, the verification found a difference.
    #[error("{0}")]
    Irreversible(String),
    /// The snapshot is damaged, or was written by somebody else, or the key is not the one it was sealed with.
    #[error("{0}")]
    Snapshot(String),
    /// This system cannot do this at all. Says why, and what to do instead.
    #[error("{0}")]
    Unsupported(String),
    /// The snapshot's own file cannot be written or read: the disk of this side is full, or does not answer.
    #[error("{0}")]
    Disk(String),
    /// Anything else that went wrong on this side: a thread that died.
    #[error("{0}")]
    Internal(String),
}

/// What became of a commit that did not report success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// It certainly did not happen; the system is as it was.
    #[error("{0}")]
    NotCommitted(String),
    /// Nobody knows yet; [`crate::Target::resolve`] will.
    #[error("{0}")]
    Unknown(String),
}
