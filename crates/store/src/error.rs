//! What can go wrong, for a person: the cause and the next step.

use checkrein_core::{approval::Refused, chain::Broken, event::Checked, grant};
use rusqlite::ErrorCode;
use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// Why a store cannot be opened or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another server has the folder.
    #[error(
        "another Checkrein server{} is using the data folder {}; stop it, or give this one another folder \
         with --data", pid.as_ref().map(|p| format!(" (process {p})")).unwrap_or_default(), folder.display()
    )]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// The other server's process, if it said so.
        pid: Option<u32>,
    },
    /// The folder or a file in it cannot be made, read or written.
    #[error("cannot use {}: {cause}; check that it exists, that this user may write to it, and that the disk has space", path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// There is no store in the folder.
    #[error("there is no Checkrein store in {}; name the data folder with --data, or create one with `checkrein serve`", folder.display())]
    Absent {
        /// The data folder.
        folder: PathBuf,
    },
    /// The folder held a store, and now its file is gone or empty.
    #[error("{} is missing or empty, but this folder has held a store; put the file back from a backup, or remove {} to start a new log", file.display(), lock.display())]
    Lost {
        /// The database file.
        file: PathBuf,
        /// The lock file that remembers.
        lock: PathBuf,
    },
    /// A newer Checkrein wrote it.
    #[error("{} was written by a newer Checkrein (schema {found}; this one knows up to {known}); start the newer version", file.display())]
    Newer {
        /// The database file.
        file: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest that this code knows.
        known: i64,
    },
    /// It is no store, or a damaged one.
    #[error("{} is no Checkrein store, or is damaged: {cause}; restore it from a backup, or use another folder with --data", file.display())]
    Damaged {
        /// The database file.
        file: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The end of the log is not what was written last.
    #[error("the action log in {} does not end where it should: {broken}; run `checkrein log verify --data {}` to see what happened to it, then restore it from a backup", folder.display(), folder.display())]
    Tail {
        /// The data folder.
        folder: PathBuf,
        /// What is wrong with it.
        broken: Broken,
    },
    /// The journal continues another log than the one that is there.
    #[error("the journal in {} holds entry {found}, which does not continue the log: that ends at entry {last}; put the database back that belongs to it, or, where an older one was put back on purpose, move checkrein.journal-1 and checkrein.journal-2 away", folder.display())]
    Stray {
        /// The data folder.
        folder: PathBuf,
        /// The last entry of the log.
        last: u64,
        /// The entry that does not connect.
        found: u64,
    },
    /// A read failed.
    #[error("cannot read the store: {0}")]
    Read(Arc<rusqlite::Error>),
    /// What is on record cannot be understood.
    #[error("entry {seq} of the action log cannot be understood: {cause}; run `checkrein log verify`")]
    Entry {
        /// Its number.
        seq: u64,
        /// What is wrong.
        cause: String,
    },
    /// A row of a table cannot be understood.
    #[error("a row of the table `{table}` cannot be understood: {cause}; run `checkrein log verify`")]
    Row {
        /// The table.
        table: String,
        /// What is wrong.
        cause: String,
    },
    /// What was recorded last cannot be brought into the database.
    #[error("what was recorded last cannot be read yet: {0}")]
    Behind(Box<AppendError>),
    /// The writer does not answer.
    #[error("what was recorded last cannot be read: the store has not answered for {} s; the disk may be stuck", .0.as_secs_f32())]
    Late(Duration),
    /// The store was closed.
    #[error("the store is closed: the server is stopping")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(Arc::new(error))
    }
}

/// Why events are not on record, or not known to be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// This key sent a check with this idempotency key before: the one on record.
    #[error("the idempotency key was used before, by {}", .0.decision.id)]
    Duplicate(Box<Checked>),
    /// What should happen to an approval cannot, from where it stands.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What should happen to a grant cannot, from where it stands.
    #[error(transparent)]
    Grant(#[from] grant::Refused),
    /// What the event is about is not on record.
    #[error("there is no {0}")]
    NotFound(String),
    /// What the event creates is on record already.
    #[error("{0} exists already")]
    Exists(String),
    /// The disk is full. Nothing was recorded.
    #[error(
        "not recorded, the disk of the data folder is full ({0}); free some space, then try again: no restart is needed"
    )]
    Full(String),
    /// Writing failed. Nothing was recorded.
    #[error(
        "not recorded, writing to the data folder failed ({0}); check the disk and the rights on the folder, then try again"
    )]
    Io(String),
    /// Writing failed, and what was written could not be taken back.
    #[error(
        "writing to the data folder failed ({0}), so it is unknown whether this was recorded; treat it as not allowed, and check the disk of the data folder"
    )]
    Doubt(String),
    /// No room in the queue in time. Nothing was recorded.
    #[error("not recorded, the store has been busy for {} s; the disk may be stuck", .0.as_secs_f32())]
    Busy(Duration),
    /// Handed over, and no answer in time.
    #[error("the store has not answered for {} s, so it is unknown whether this was recorded; treat it as not allowed, and check the disk of the data folder", .0.as_secs_f32())]
    Unknown(Duration),
    /// An event that cannot be written as JSON, or no event at all.
    #[error("not recorded, the event is not valid: {0}")]
    Invalid(String),
    /// The store was closed.
    #[error("not recorded, the store is closed: the server is stopping")]
    Closed,
}

impl AppendError {
    /// A failed transaction, for everybody who was in it.
    pub(crate) fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }

    /// A failed write.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::Full(error.to_string())
            }
            _ => Self::Io(error.to_string()),
        }
    }
}

/// What is wrong with a log, and where.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VerifyError {
    /// An entry was changed, removed, reordered or cut off.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// There are entries after the last one that was recorded.
    #[error(
        "entries after {head} were added by something other than Checkrein: the last one is {found}, the recorded head is {head}"
    )]
    Beyond {
        /// The last entry on record.
        head: u64,
        /// The last entry that is there.
        found: u64,
    },
    /// The log's beginning is missing, and no entry of retention accounts for it.
    #[error(
        "the log begins after entry {base}, but no `log.pruned` entry in it says that retention removed what came before"
    )]
    Unattested {
        /// The entry after which the log begins.
        base: u64,
    },
    /// The log is not the one that the anchor was taken from.
    #[error("entry {0} is not the one of the anchor: the log was rewritten since the anchor was taken")]
    Anchor(u64),
    /// Retention removed the anchor's entry.
    #[error(
        "entry {anchor} of the anchor was removed by retention (the log begins after {base}); use a later anchor"
    )]
    AnchorPruned {
        /// The anchor's entry.
        anchor: u64,
        /// The entry after which the log begins.
        base: u64,
    },
    /// A table, index, view or trigger is not the one that Checkrein made.
    #[error(
        "the schema was changed: `{0}` is not what Checkrein made; what it shows or does cannot be trusted"
    )]
    Schema(String),
    /// An entry's body makes no sense.
    #[error("entry {seq} cannot be understood: {cause}")]
    Entry {
        /// Its number.
        seq: u64,
        /// What is wrong.
        cause: String,
    },
    /// A table does not say what the log says.
    #[error("table `{table}` was changed: {row} {what}")]
    Projection {
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// How it differs.
        what: Difference,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a row of a table differs from what the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// It is gone.
    #[error("is missing, though the log has it")]
    Missing,
    /// It was never logged.
    #[error("is there, though the log does not have it")]
    Added,
    /// It says something else.
    #[error("is not what the log says")]
    Changed,
}

impl From<rusqlite::Error> for VerifyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}
