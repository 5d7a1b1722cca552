//! The store for the command line: read only, beside a running server or without one.

use crate::{
    error::{StoreError, VerifyError},
    folder::Folder,
    read::{self, EntryFilter},
    schema::{self, Mark},
    verify::{self, Verified},
};
use checkrein_core::{chain::Walk, event::Entry};
use rusqlite::Connection;
use std::path::Path;

/// A data folder, open for reading. Writes nothing, ever.
pub struct Reader {
    db: Connection,
}

impl Reader {
    /// Opens the data folder `dir`.
    ///
    /// # Errors
    /// When there is no store in it, when it cannot be read or is damaged, and when a newer version wrote it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self { db: schema::open_reader(&Folder::new(dir))? })
    }

    /// At most `limit` entries (10,000 at most) after `after`, in order; fewer only at the end of the log.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn entries(&self, after: u64, limit: usize, filter: &EntryFilter) -> Result<Vec<Entry>, StoreError> {
        read::entries(&self.db, after, limit, filter)
    }

    /// The entry `seq`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn entry(&self, seq: u64) -> Result<Option<Entry>, StoreError> {
        read::entry(&self.db, seq)
    }

    /// The last entry on record.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn head(&self) -> Result<Walk, StoreError> {
        Ok(schema::mark(&self.db, Mark::Head)?)
    }

    /// Walks the whole log, recomputes every hash, and compares the tables with what the log says.
    /// `anchor` is an entry noted earlier and kept elsewhere: its number and hash. `progress` is told now
    /// and then how far the walk has come.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn verify(&self, anchor: Option<Walk>, progress: impl FnMut(u64)) -> Result<Verified, VerifyError> {
        verify::verify(&self.db, anchor, progress)
    }
}
