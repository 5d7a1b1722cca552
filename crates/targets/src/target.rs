//! What every system can do, and the words for it.

use crate::{
    CommitError, Digest, Error, Kind, Selection, Statement,
    snapshot::{Snapshot, SnapshotWriter, Table},
};
use async_trait::async_trait;
use checkrein_core::{
    rollback::{ConflictKind, OnConflict},
    touched::How,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A system that Checkrein is connected to.
///
/// Every method is bounded by the target's limits and may be dropped at any time: an open transaction is
/// rolled back then. Resources are paths below the target (`public.users`), without the target's name.
#[async_trait]
pub trait Target: Send + Sync {
    /// Which kind of system.
    fn kind(&self) -> Kind;

    /// Connects and looks whether everything that Checkrein needs is there.
    async fn test(&self) -> Result<Report, Error>;

    /// The least that an account needs, as statements to run (`-- ` comments say why). Connects only if it
    /// can, to name the database and its schemas.
    async fn grants(&self, account: &str) -> String;

    /// Counts what an action would touch: own records and, through foreign keys, what would follow. In a
    /// read-only transaction. Statements that only read count the rows that they return.
    async fn count(&self, what: &Selection) -> Result<Counted, Error>;

    /// Up to `rows` records of each resource that an action would touch, as they stand: its own first, then
    /// what follows those through foreign keys. In the same way and the same time as [`Target::count`]. Only
    /// the first of many are followed, so a resource that is counted may be missing. Records that are made, or
    /// that a statement only reads, are none.
    async fn sample(&self, what: &Selection, rows: usize) -> Result<Vec<Sampled>, Error>;

    /// Runs one statement in a read-only transaction.
    async fn read(&self, statement: &Statement) -> Result<ResultSet, Error>;

    /// Runs the statements in one transaction, which stays open, and measures what they did.
    ///
    /// # Errors
    /// [`Error::Unmeasurable`] for what must be refused or held: the transaction is rolled back then. Any
    /// other error too means that nothing changed.
    async fn execute(&self, statements: &[Statement]) -> Result<Box<dyn Pending>, Error>;

    /// Takes the before-images of what is meant (and of what would follow through foreign keys) into `out`.
    async fn capture(&self, what: &Selection, out: &mut SnapshotWriter) -> Result<Captured, Error>;

    /// Reads the records of an unsealed snapshot as they stand now, as after-images, into `out`.
    async fn seal(&self, snapshot: &Snapshot, out: &mut SnapshotWriter) -> Result<(), Error>;

    /// The records of a block as JSON, for people: `data` of the table `shape` describes.
    ///
    /// # Errors
    /// When the block is not of this kind of system.
    fn decode(&self, table: &Table, data: &[u8]) -> Result<Vec<Map<String, Value>>, Error>;

    /// Plans the rollback of `snapshot`: what it would change and where it would do harm. Changes nothing.
    async fn plan(&self, snapshot: &Snapshot, options: &UndoOptions) -> Result<Plan, Error>;

    /// Rolls `snapshot` back in a transaction that stays open: locked, compared, restored, foreign keys
    /// checked again, verified. What it overwrites goes into `out` as before-images and what it leaves as
    /// after-images, so that it can itself be undone.
    ///
    /// With conflicts and [`OnConflict::Refuse`] the answer is [`Undo::Conflicts`] and nothing changed.
    async fn rollback(
        &self,
        snapshot: &Snapshot,
        options: &UndoOptions,
        out: &mut SnapshotWriter,
    ) -> Result<Undo, Error>;

    /// Whether the transaction `token` was committed, asked after a crash or a lost connection. `snapshot`
    /// is what it captured, for systems that keep no record of transactions.
    async fn resolve(&self, token: &str, snapshot: &Snapshot) -> Result<Settled, Error>;
}

/// A transaction that has done its work and is still open. Dropped: rolled back.
#[async_trait]
pub trait Pending: Send {
    /// What it changed, as the system measured it.
    fn measured(&self) -> &Measured;

    /// What each statement returned.
    fn results(&self) -> &[ResultSet];

    /// Names the transaction for [`Target::resolve`]. Put on record before the commit. At most 4 KiB.
    fn token(&self) -> &str;

    /// Says that an approval will be bound to it, so that [`Pending::capture`] answers with a digest: over the
    /// before-images, the keys of what was inserted, and of what it leaves those values that come from
    /// somewhere else than the record and the statement. The same statement over unchanged records gives the
    /// same digest again, unless it would write something else.
    fn bind(&mut self);

    /// Takes before- and after-images of everything that it changed into `out`. Not called for the transaction
    /// of a rollback, which has captured already.
    async fn capture(&mut self, out: &mut SnapshotWriter) -> Result<Captured, Error>;

    /// Makes it durable.
    async fn commit(self: Box<Self>) -> Result<(), CommitError>;

    /// Undoes all of it and frees its locks; when this returns, or soon after if the connection is lost.
    async fn rollback(self: Box<Self>);
}

/// Records of one resource that are affected in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    /// Path within the target: `public.orders`.
    pub resource: String,
    /// How.
    pub how: How,
    /// How many.
    pub records: u64,
}

/// What would be affected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The named resources first.
    pub affected: Vec<Affected>,
    /// Why the system would refuse it as it stands, a sentence each: `3 records of public.invoices refer to
    /// them and forbid it`.
    pub refusals: Vec<String>,
    /// Why the number may be too small although nothing failed: triggers that may do more. Empty: exact.
    pub at_least: Vec<String>,
}

/// Records of one resource, for a person to look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampled {
    /// Path within the target.
    pub resource: String,
    /// Names, in order; the first [`SAMPLE_COLUMNS`].
    pub columns: Vec<String>,
    /// Each record as a list in the order of the columns. A text is cut after [`SAMPLE_CHARS`] characters and
    /// one more, which says so.
    pub rows: Vec<Vec<Value>>,
}

/// Columns of a record in a sample.
pub const SAMPLE_COLUMNS: usize = 30;
/// Characters (of what is no text: bytes) of a value in a sample.
pub const SAMPLE_CHARS: usize = 4000;
/// Records of one resource that are followed along one foreign key for a sample.
pub(crate) const SAMPLE_FROM: usize = 100;

/// What was changed, as the system itself says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// One entry a resource and way. Empty: nothing was changed. An upper bound where `exact` is false.
    pub affected: Vec<Affected>,
    /// False when a record may have been counted more than once.
    pub exact: bool,
}

impl Measured {
    /// All records together.
    pub fn records(&self) -> u64 {
        self.affected.iter().filter(|a| a.how != How::Read).map(|a| a.records).sum()
    }
}

impl Counted {
    /// All records together that would change.
    pub fn records(&self) -> u64 {
        self.affected.iter().filter(|a| a.how != How::Read).map(|a| a.records).sum()
    }
}

/// What went into a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// Records with their before-image (or absence, for inserted ones), by resource.
    pub affected: Vec<Affected>,
    /// Over the records, for approvals; see [`Pending::bind`]. None where nobody asked for it, in a database.
    pub digest: Option<Digest>,
}

/// The rows that a statement returned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResultSet {
    /// Names, in order; empty when it returns no rows.
    pub columns: Vec<String>,
    /// Each row as a list in the order of the columns. Whole numbers that JSON readers would round and
    /// types that JSON lacks are texts.
    pub rows: Vec<Vec<Value>>,
    /// Rows that the statement says it changed (or returned).
    pub affected: u64,
}

/// One thing that Checkrein needs of a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privilege {
    /// What for: `count`, `execute`, `snapshot`, `rollback`.
    pub needed_for: String,
    /// Whether it is there.
    pub ok: bool,
    /// What was found, and what to do if it is not there.
    pub message: String,
}

/// What a test of a target found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `PostgreSQL 15.18`.
    pub system: String,
    /// Each thing that was looked at.
    pub privileges: Vec<Privilege>,
}

/// How a rollback is to be done.
#[derive(Clone, Debug, Default)]
pub struct UndoOptions {
    /// What to do about records that somebody changed since.
    pub on_conflict: OnConflict,
    /// Told how far it is.
    pub progress: Arc<Progress>,
}

/// How far a long piece of work is. Cheap to read from elsewhere.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records to handle; 0 while that is unknown.
    pub total: std::sync::atomic::AtomicU64,
    /// Records handled.
    pub done: std::sync::atomic::AtomicU64,
}

/// Conflicts that are shown; beyond them only the number.
pub const CONFLICTS_SHOWN: usize = 200;

/// What a rollback would change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// One entry a resource.
    pub by_resource: Vec<ResourcePlan>,
    /// The first [`CONFLICTS_SHOWN`].
    pub conflicts: Vec<Conflict>,
    /// All of them.
    pub conflict_count: u64,
    /// Names all of them, each with its states: of two plans of one snapshot it is alike exactly when the same stands
    /// against both. Zeros when nothing does.
    pub conflict_digest: [u8; 32],
    /// What else a person should know: a sequence is not rewound, a column was added since.
    pub notes: Vec<String>,
}

impl Plan {
    /// Counts a conflict more and takes it into the digest; `parts` say which record it is and what its states are.
    /// Conflicts come in the same order each time. Returns whether it is one of those that are shown.
    pub(crate) fn stands_against(&mut self, parts: &[Option<&[u8]>]) -> bool {
        self.conflict_count += 1;
        self.take_in(parts);
        self.conflicts.len() < CONFLICTS_SHOWN
    }

    /// Takes into the digest what stands against the rollback.
    pub(crate) fn take_in(&mut self, parts: &[Option<&[u8]>]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.conflict_digest);
        for part in parts {
            // The length keeps the parts apart, and absence from what is empty.
            hasher.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            hasher.update(part.unwrap_or_default());
        }
        self.conflict_digest = hasher.finalize().into();
    }
}

/// A resource's part of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcePlan {
    /// Path within the target.
    pub resource: String,
    /// Records to put back that are gone.
    pub insert: u64,
    /// Records to give back their old content.
    pub update: u64,
    /// Records to remove that the action made.
    pub delete: u64,
    /// Records that are already as they were.
    pub keep: u64,
    /// Records that somebody has worked on since.
    pub conflicts: u64,
}

/// A record that somebody has worked on since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// Path of its resource within the target.
    pub resource: String,
    /// Its key, by column; without a primary key, all of the record.
    pub key: Map<String, Value>,
    /// Why it is one.
    pub kind: ConflictKind,
    /// The record before the action; absent when it did not exist.
    pub before: Option<Map<String, Value>>,
    /// As the action left it; absent when it removed it or the snapshot is not sealed.
    pub after: Option<Map<String, Value>>,
    /// As it is now; absent when it is gone.
    pub now: Option<Map<String, Value>>,
}

/// What became of a rollback before its commit.
pub enum Undo {
    /// Done, verified, captured, and waiting for its commit. The plan says what was done.
    Ready(Plan, Box<dyn Pending>),
    /// Nothing to do: everything already is as it was.
    Nothing(Plan),
    /// Nothing was changed, because somebody has worked on these records since.
    Conflicts(Plan),
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It took place.
    Committed,
    /// It did not.
    NotCommitted,
    /// Still under way; ask again.
    Running,
    /// It cannot be told. Why.
    Unknown(String),
}
