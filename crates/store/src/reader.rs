//! The store for the command line: read only, beside a running server or without one.

use crate::{
    error::{StoreError, VerifyError},
    folder::Folder,
    journal,
    read::{self, EntryFilter},
    schema::{self, Mark},
    verify::{self, Verified},
};
use checkrein_core::{chain::Walk, event::Entry};
use rusqlite::Connection;
use std::path::Path;

/// A data folder, open for reading. Writes nothing, ever. What is on record and not yet in the database, the
/// last moments of a busy server or of one that was killed, is read from the journal.
pub struct Reader {
    db: Connection,
    folder: Folder,
}

impl Reader {
    /// Opens the data folder `dir`.
    ///
    /// # Errors
    /// When there is no store in it, when it cannot be read or is damaged, and when a newer version wrote it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let folder = Folder::new(dir);
        Ok(Self { db: schema::open_reader(&folder)?, folder })
    }

    /// The end of the log as the database has it, and the entries of the journal after it.
    fn end(&self) -> Result<(Walk, Vec<Entry>), StoreError> {
        let head = schema::mark(&self.db, Mark::Head)?;
        Ok((head, self.beyond(&head)?))
    }

    fn beyond(&self, head: &Walk) -> Result<Vec<Entry>, StoreError> {
        let [path, _] = &self.folder.journals;
        // One that does not connect is another log's, or was taken into use again while it was read.
        journal::beyond(&self.folder, head)
            .map(|beyond| beyond.entries)
            .map_err(|e| StoreError::Unusable { path: path.clone(), cause: e.to_string() })
    }

    /// At most `limit` entries (10,000 at most) after `after`, in order; fewer only at the end of the log.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn entries(&self, after: u64, limit: usize, filter: &EntryFilter) -> Result<Vec<Entry>, StoreError> {
        let tx = self.db.unchecked_transaction()?;
        let mut entries = read::entries(&tx, after, limit, filter)?;
        let limit = limit.clamp(1, read::MAX_PAGE);
        if entries.len() < limit {
            let late = self.end()?.1.into_iter().filter(|entry| entry.seq > after && filter.passes(entry));
            entries.extend(late.take(limit - entries.len()));
        }
        Ok(entries)
    }

    /// The entry `seq`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn entry(&self, seq: u64) -> Result<Option<Entry>, StoreError> {
        match read::entry(&self.db, seq)? {
            Some(entry) => Ok(Some(entry)),
            None => Ok(self.end()?.1.into_iter().find(|entry| entry.seq == seq)),
        }
    }

    /// The last entry on record.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn head(&self) -> Result<Walk, StoreError> {
        let (head, beyond) = self.end()?;
        Ok(beyond.last().map_or(head, |last| Walk { seq: last.seq, hash: last.hash }))
    }

    /// Walks the whole log, recomputes every hash, and compares the tables with what the log says.
    /// `anchor` is an entry noted earlier and kept elsewhere: its number and hash. `progress` is told now
    /// and then how far the walk has come.
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn verify(&self, anchor: Option<Walk>, progress: impl FnMut(u64)) -> Result<Verified, VerifyError> {
        verify::verify(&self.db, anchor, |head| self.beyond(head), progress)
    }
}
