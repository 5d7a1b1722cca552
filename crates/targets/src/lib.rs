//! The systems that Checkrein is connected to: one module a system, all behind [`Target`].
//!
//! Only this crate opens connections to systems of users. It counts, measures, captures and restores; it
//! decides nothing: policies, approvals and the action log are the server's.
//!
//! ```text
//! count ──► the check's blast radius            execute ──► Pending ──► capture ──► commit | roll back
//! capture ─► snapshot ─► seal                   rollback ─► Undo    ──────────────► commit | roll back
//! ```
//! Whatever is about to change a system stops at a [`Pending`]: a transaction that is still open, of which
//! the effect is known. The caller decides, puts its decision and the snapshot on record, and only then
//! commits. After a crash [`Target::resolve`] tells whether a commit took place.

mod binding;
mod config;
mod digest;
mod error;
mod files;
mod mysql;
mod postgres;
mod rows;
mod selection;
pub mod snapshot;
mod sqlite;
mod stay;
mod target;

pub use config::{Kind, Limits, Place, TargetConfig};
pub use digest::{Digest, RowsDigest};
pub use error::{CommitError, Error};
pub use rows::{Cell, RowReader, RowWriter};
pub use selection::{Selection, Statement};
pub use target::{
    Affected, CONFLICTS_SHOWN, Captured, Conflict, Counted, Measured, Pending, Plan, Privilege, Progress,
    Report, ResourcePlan, ResultSet, SAMPLE_CHARS, SAMPLE_COLUMNS, Sampled, Settled, Target, Undo,
    UndoOptions,
};

pub use checkrein_core::touched::How;

use std::sync::Arc;

/// The target that `config` describes. Nothing is connected yet: the first use does that.
///
/// # Errors
/// When the address or path makes no sense.
pub fn open(config: TargetConfig) -> Result<Arc<dyn Target>, Error> {
    Ok(match config.place.kind() {
        Kind::Postgres => Arc::new(postgres::Postgres::new(config)?),
        Kind::Mysql => Arc::new(mysql::Mysql::new(config)?),
        Kind::Sqlite => Arc::new(sqlite::Sqlite::new(config)?),
        Kind::Files => Arc::new(files::Files::new(config)?),
    })
}
