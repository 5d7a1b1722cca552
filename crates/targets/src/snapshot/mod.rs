//! The snapshot file: what a risky action touches, before and after.
//!
//! ```text
//! file   = magic "CHKRSNP1" · salt (32 bytes) · flags (1 byte: bit 0 = encrypted) · frame · frame · … · footer frame
//! frame  = kind (1) · length of the sealed payload (u32, little-endian) · sealed payload
//! sealed payload = zstd(payload) · 16 bytes of tag
//! ```
//! Kinds: header (JSON [`Header`]), table (JSON [`Table`]), rows (table u32 · side u8 · rows u64 · data),
//! footer (JSON [`Footer`]).
//!
//! With a key, payloads are sealed with XChaCha20-Poly1305 under a key of the file's own, derived from the
//! operator's key and the salt; the nonce is the frame's number and the associated data its kind, so frames
//! cannot be changed, swapped, dropped or carried over. Without a key the tag is the first half of a keyed
//! BLAKE3 over number, kind and payload under a key derived from the salt alone: it finds damage, not an
//! attacker. A file without its footer is not a snapshot: the writer died, and nothing had been
//! acknowledged. What `data` holds is the system's own business.
//!
//! A snapshot is one file, or two once it has been sealed: the second holds the after-images.

mod frame;
mod reader;
mod writer;

pub use reader::{Block, Blocks, Snapshot};
pub(crate) use writer::BLOCK_BYTES;
pub use writer::{SnapshotWriter, Written};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// The operator's key for snapshots, 32 bytes. Never shown.
#[derive(Clone)]
pub struct SnapshotKey([u8; 32]);

impl SnapshotKey {
    /// A key of 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SnapshotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotKey(…)")
    }
}

/// Which state of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Before the action.
    Before,
    /// After it.
    After,
}

/// How a file begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The snapshot's id.
    pub id: String,
    /// The target's name.
    pub target: String,
    /// The kind of system, e.g. `postgres`.
    pub kind: String,
    /// What the system needs to know of the whole, e.g. the settings that its texts were made with.
    #[serde(default)]
    pub system: Value,
}

/// One table (or folder) in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its number in this file: 0, 1, 2, …
    pub index: u32,
    /// Path within the target.
    pub resource: String,
    /// What the system needs to restore it: columns, types, key.
    pub shape: Value,
}

/// How a file ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footer {
    /// By table, in the order of their numbers.
    pub tables: Vec<Totals>,
    /// Whether after-images were taken: a rollback can tell the agent's write from another's.
    pub sealed: bool,
    /// Resources of which the action was to change records and to remove none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stay: Vec<String>,
    /// What the system needs to know of the whole and learnt only at the end.
    #[serde(default)]
    pub system: Value,
}

/// What a file holds of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Before-images.
    pub before: u64,
    /// After-images.
    pub after: u64,
}
