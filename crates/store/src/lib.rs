//! Durable state of Checkrein: the action log, and the tables that derive from it, on SQLite.
//!
//! The log is the truth. Whatever else is on record (policies, keys, approvals, idempotency keys) is a
//! projection of it, written in the same transaction by one function (`project::apply`), so that it can be
//! rebuilt and compared: that is what [`Reader::verify`] does.
//!
//! One thread writes ([`Store::append`] hands it events and waits): it takes what has gathered while the
//! last sync ran, applies it to the database, writes it into the journal with one sync, then answers everybody.
//! Nothing is acknowledged that is not durable. The database commits behind that; a read waits for it. Reads run
//! beside the writer on a few connections of their own.
//!
//! A data folder holds `checkrein.db` (with `-wal` and `-shm` beside it while a server runs), the two files of
//! the journal, `drift.db` with what agents normally do, and `checkrein.lock`, which keeps a second server out.

mod baselines;
mod checkpoint;
mod direct;
mod error;
mod folder;
mod grants;
mod head;
mod journal;
mod listing;
mod outbox;
mod postman;
mod project;
mod prune;
mod queue;
mod read;
mod reader;
mod schema;
mod slim;
mod snapshots;
mod store;
mod tx;
mod verify;
mod writer;

pub use baselines::{Baselines, KnownAgent, SavedAgent};
pub use error::{AppendError, Difference, StoreError, VerifyError};
pub use grants::{GrantFilter, GrantPage};
pub use outbox::{SignalFilter, SignalPage, SignalRow};
pub use read::{
    ApprovalFilter, ApprovalPage, BreakerRow, CheckFilter, CheckPage, CheckRow, ChecksByHour, EntryFilter,
    MAX_PAGE,
};
pub use reader::Reader;
pub use snapshots::{LiveSnapshot, OpenExecution, SnapshotFilter, SnapshotPage};
pub use store::{Options, Pruned, Stamp, Store};
pub use verify::Verified;
