//! Brings the database to the disk, without making anybody wait for it.
//!
//! Each time that a file of the journal is full, a thread of its own syncs the write-ahead log, so that the journal
//! may forget what is in it, and copies it into the database while the writer goes on. It can never quite catch up
//! with a busy writer, and only a log that was copied to its last frame is begun anew; so the writer copies the
//! few frames that are left, between two transactions. The log's file is not shortened: its blocks are used
//! again.
//!
//! That is seldom on purpose. While these syncs run, that of an answer may take a tick of the scheduler, 4 ms.

use crate::{folder::Folder, head::Head, queue::Queue, schema, writer::Request};
use rusqlite::Connection;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::{Arc, mpsc as sync_mpsc},
    thread::JoinHandle,
};

/// The writer's side.
pub(crate) struct Checkpointer {
    wake: Option<sync_mpsc::SyncSender<u64>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread. `writer` leads to the writer; `wal` is the write-ahead log, to sync it; `length` is
    /// that of the journal's files.
    pub(crate) fn start(
        folder: &Folder,
        wal: File,
        length: u64,
        head: Head,
        writer: Arc<Queue<Request>>,
    ) -> Result<Self, crate::StoreError> {
        let db = schema::open_checkpointer(folder)?;
        let folder = folder.clone();
        let (wake, woken) = sync_mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("checkrein-checkpoint".into())
            .spawn(move || {
                lay_out(&folder, length);
                while let Ok(length) = woken.recv() {
                    lay_out(&folder, length);
                    let shown = head.shown();
                    match wal.sync_data() {
                        Ok(()) => head.keep(shown),
                        Err(error) => tracing::warn!(%error, "the write-ahead log could not be synced; trying again later"),
                    }
                    // The second time it copies what was added during the first.
                    match passive(&db).and_then(|()| passive(&db)) {
                        Ok(()) => {
                            // A full queue: the next round asks again.
                            let _full = writer.try_push(Request::FinishCheckpoint);
                        }
                        Err(error) => {
                            tracing::warn!(%error, "the write-ahead log could not be merged; trying again later");
                        }
                    }
                }
            })
            .map_err(|e| crate::StoreError::Unusable { path: "checkpoint thread".into(), cause: e.to_string() })?;
        Ok(Self { wake: Some(wake), thread: Some(thread) })
    }

    /// There is something to bring to the disk; the journal's files are to be `length` bytes long.
    pub(crate) fn wake(&self, length: u64) {
        if let Some(wake) = &self.wake {
            // One that is at it takes what came meanwhile along the next time.
            let _busy = wake.try_send(length);
        }
    }

    /// Ends the thread.
    pub(crate) fn stop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say; a panic in it was reported by the runtime already.
            let _ended = thread.join();
        }
    }
}

/// Copies what the thread left, on the writer's own connection, so that nothing is added meanwhile.
pub(crate) fn finish(db: &Connection) {
    if let Err(error) = passive(db) {
        tracing::warn!(%error, "the write-ahead log could not be merged; trying again later");
    }
}

/// Copies what can be copied without disturbing anybody.
fn passive(db: &Connection) -> Result<(), rusqlite::Error> {
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

fn lay_out(folder: &Folder, length: u64) {
    for file in &folder.journals {
        if let Err(error) = preallocate(file, length) {
            tracing::debug!(%error, file = %file.display(), "it grows as needed: it was not laid out beforehand");
        }
    }
}

/// Fills a file with zeros up to `bytes`, so that its blocks exist: writing into those syncs about twice as fast
/// as growing the file. The journal stops reading at the first frame that is none. Only ever adds at the file's
/// end, which is safe beside a writer: it overwrites what stands where it writes next.
fn preallocate(file: &Path, bytes: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(file)?;
    if file.metadata()?.len() >= bytes {
        return Ok(());
    }
    let zeros = vec![0_u8; 256 * 1024];
    while file.metadata()?.len() < bytes {
        file.write_all(&zeros)?;
    }
    file.sync_all()
}
