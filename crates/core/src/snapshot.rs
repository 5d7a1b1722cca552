//! Snapshots and rollbacks as they are kept on record: what the log says of them, and where they stand.

use crate::{approval::Actor, rollback::OnConflict, time::Timestamp};
use serde::{Deserialize, Serialize};

/// Why a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Somebody asked for it.
    Requested,
    /// Taken with a check that was allowed.
    Automatic,
    /// Taken inside the transaction of a guarded execution.
    Execution,
    /// Of what a rollback overwrote, so that the rollback can itself be undone.
    Rollback,
}

impl Origin {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Automatic => "automatic",
            Self::Execution => "execution",
            Self::Rollback => "rollback",
        }
    }
}

/// How many records of one resource a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Held {
    /// `<target>.<path>`.
    pub resource: String,
    /// Records; those that did not exist before count too.
    pub records: u64,
}

/// A snapshot as it was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// `snp_…`; also names its file.
    pub id: String,
    /// The target's name.
    pub target: String,
    /// What it is of: a resource, or the target where several are.
    pub resource: String,
    /// Whose action it belongs to.
    pub agent: String,
    /// The run or conversation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<String>,
    /// The check that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check_id: Option<String>,
    /// Why it was taken.
    pub origin: Origin,
    /// Whether it holds after-images, too.
    pub sealed: bool,
    /// What it holds; largest first.
    pub by_resource: Vec<Held>,
    /// Size of its file.
    pub bytes: u64,
    /// The key that it was taken with.
    pub key_id: String,
}

/// The moment in which after-images were added to a snapshot. What others changed between the snapshot and
/// this moment looks like the action's own work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Seal {
    /// When.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// The key that asked for it.
    pub key_id: String,
}

/// A snapshot as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotState {
    /// As it was taken; `sealed` and `bytes` as they are now.
    #[serde(flatten)]
    pub record: SnapshotRecord,
    /// When it was taken.
    pub created_at: Timestamp,
    /// Files: 2 once after-images were added.
    pub parts: u32,
    /// When after-images were added, and by whom; absent where they were taken with the rest, and in logs
    /// from before this was recorded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seal: Option<Seal>,
    /// Why it is gone; absent while it is there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub removed: Option<String>,
}

impl SnapshotState {
    /// One that was just taken.
    pub const fn taken(record: SnapshotRecord, at: Timestamp) -> Self {
        Self { record, created_at: at, parts: 1, seal: None, removed: None }
    }

    /// Whether it can be used.
    pub const fn live(&self) -> bool {
        self.removed.is_none()
    }

    /// All records in it.
    pub fn records(&self) -> u64 {
        self.record.by_resource.iter().fold(0, |sum, held| sum.saturating_add(held.records))
    }

    /// After-images were added in a second file of `bytes`. False when it has them, or is gone.
    pub fn seal(&mut self, bytes: u64, seal: Option<Seal>) -> bool {
        if self.record.sealed || self.removed.is_some() {
            return false;
        }
        self.record.sealed = true;
        self.record.bytes = self.record.bytes.saturating_add(bytes);
        self.parts = 2;
        self.seal = seal;
        true
    }

    /// Its files go. False when they went before.
    pub fn remove(&mut self, reason: &str) -> bool {
        let live = self.live();
        if live {
            self.removed = Some(reason.to_owned());
        }
        live
    }
}

/// What a rollback does to the records of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Steps {
    /// `<target>.<path>`.
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

/// A rollback that is about to be committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRecord {
    /// `rbk_…`.
    pub id: String,
    /// What it rolls back.
    pub snapshot_id: String,
    /// What undoes it.
    pub undo_snapshot_id: String,
    /// The target's name.
    pub target: String,
    /// Names its transaction.
    pub token: String,
    /// Who wants it.
    pub by: Actor,
    /// What was to be done about conflicts.
    pub on_conflict: OnConflict,
    /// Records restored.
    pub restored: u64,
    /// The same by resource.
    pub by_resource: Vec<Steps>,
}

/// How a rollback ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RollbackStatus {
    /// It took place.
    Done,
    /// It did not; nothing was changed.
    NotDone,
    /// It cannot be told.
    Unknown,
}

impl RollbackStatus {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotDone => "not_done",
            Self::Unknown => "unknown",
        }
    }
}

/// A rollback as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackState {
    /// As it was begun.
    #[serde(flatten)]
    pub record: RollbackRecord,
    /// When.
    pub started_at: Timestamp,
    /// How it ended; absent while that is open.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<RollbackStatus>,
    /// What is to be said about its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// The part of a check that says that Checkrein itself runs the action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// The target's name.
    pub target: String,
    /// Names the transaction that is committed next; absent where none is. An execution with a token and
    /// without an outcome is settled at the next start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// What the transaction captured, to tell by later whether it took place. Where no snapshot was asked
    /// for it goes once the outcome is on record.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub snapshot_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_sealed_and_removed_once() {
        let mut s = SnapshotState::taken(
            SnapshotRecord {
                id: "snp_1".into(),
                target: "shop".into(),
                resource: "shop.users".into(),
                agent: "bot".into(),
                session: None,
                check_id: None,
                origin: Origin::Requested,
                sealed: false,
                by_resource: vec![
                    Held { resource: "shop.users".into(), records: 2 },
                    Held { resource: "shop.orders".into(), records: 3 },
                ],
                bytes: 10,
                key_id: "key_1".into(),
            },
            Timestamp::from_micros(1),
        );
        assert_eq!((s.records(), s.live(), s.parts), (5, true, 1));
        let seal = |at| Some(Seal { at: Timestamp::from_micros(at), key_id: "key_2".into() });
        assert!(s.seal(7, seal(5)) && !s.seal(7, seal(6)));
        assert_eq!((s.record.bytes, s.parts, s.record.sealed), (17, 2, true));
        assert_eq!(s.seal, seal(5));
        assert!(s.remove("old") && !s.remove("other"));
        assert_eq!(s.removed.as_deref(), Some("old"));
        let mut unsealed = SnapshotState { removed: Some("old".into()), ..s };
        unsealed.record.sealed = false;
        assert!(!unsealed.seal(1, seal(7)), "what is gone cannot be sealed");
        let text = serde_json::to_string(&unsealed).unwrap();
        assert_eq!(serde_json::from_str::<SnapshotState>(&text).unwrap(), unsealed);
    }
}
