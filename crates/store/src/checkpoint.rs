//! Keeps the write-ahead log short, and synced, without making anybody wait for it.
//!
//! A thread of its own syncs the write-ahead log, so that the journal may forget what is in it, and copies it
//! into the database while the writer goes on. It can never quite catch up with a busy writer, and only a log
//! that was copied to its last frame is begun anew; so, when the log has grown long, the writer copies the few
//! frames that are left, between two transactions. The file is not shortened: its blocks are used again.

use crate::{folder::Folder, head::Head, queue::Queue, schema, writer::Request};
use rusqlite::Connection;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::{Arc, mpsc as sync_mpsc},
    thread::JoinHandle,
};

/// The thread wakes when about this part of the log's length was written since the last time.
const STEPS: u64 = 4;

/// What is little enough to be left to the writer, in pages.
const LITTLE: u64 = 256;

/// The writer's side.
pub(crate) struct Checkpointer {
    pending: u64,
    step: u64,
    wake: Option<sync_mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread. `writer` leads to the writer; `wal` is the write-ahead log, to sync it.
    pub(crate) fn start(
        folder: &Folder,
        wal: File,
        wal_bytes: u64,
        head: Head,
        writer: Arc<Queue<Request>>,
    ) -> Result<Self, crate::StoreError> {
        let db = schema::open_checkpointer(folder)?;
        let folder = folder.clone();
        let (wake, woken) = sync_mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("checkrein-checkpoint".into())
            .spawn(move || {
                for file in &folder.journals {
                    if let Err(error) = preallocate(file, wal_bytes) {
                        tracing::debug!(%error, file = %file.display(), "it grows as needed: it was not laid out beforehand");
                    }
                }
                while woken.recv().is_ok() {
                    let shown = head.shown();
                    match wal.sync_data() {
                        Ok(()) => head.keep(shown),
                        Err(error) => tracing::warn!(%error, "the write-ahead log could not be synced; trying again later"),
                    }
                    let long = match catch_up(&db) {
                        Ok(frames) => frames.saturating_mul(u64::from(schema::PAGE_BYTES)) >= wal_bytes,
                        Err(error) => {
                            tracing::warn!(%error, "the write-ahead log could not be merged; trying again later");
                            false
                        }
                    };
                    if long {
                        // A full queue: the next round asks again.
                        let _full = writer.try_push(Request::FinishCheckpoint);
                    }
                }
            })
            .map_err(|e| crate::StoreError::Unusable { path: "checkpoint thread".into(), cause: e.to_string() })?;
        Ok(Self { pending: 0, step: wal_bytes / STEPS, wake: Some(wake), thread: Some(thread) })
    }

    /// The writer committed about this much.
    pub(crate) fn written(&mut self, bytes: usize) {
        // Besides what it adds, a transaction writes a page or two of each index.
        self.pending += bytes as u64 + 4 * u64::from(schema::PAGE_BYTES);
        if self.pending >= self.step
            && let Some(wake) = &self.wake
            && wake.try_send(()).is_ok()
        {
            self.pending = 0;
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

/// Copies until little was added meanwhile, at a busy writer a few times. Frames in the log.
fn catch_up(db: &Connection) -> Result<u64, rusqlite::Error> {
    let mut frames = passive(db)?;
    for _ in 0..4 {
        let before = std::mem::replace(&mut frames, passive(db)?);
        if frames.saturating_sub(before) < LITTLE {
            break;
        }
    }
    Ok(frames)
}

/// Copies what the thread left, on the writer's own connection, so that nothing is added meanwhile.
pub(crate) fn finish(db: &Connection) {
    if let Err(error) = passive(db) {
        tracing::warn!(%error, "the write-ahead log could not be merged; trying again later");
    }
}

/// Copies what can be copied without disturbing anybody. Frames in the log, copied or not.
fn passive(db: &Connection) -> Result<u64, rusqlite::Error> {
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| r.get::<_, i64>(1)).map(schema::seq)
}

/// Fills a file with zeros up to `bytes`, so that its blocks exist: writing into those syncs about twice as fast
/// as growing the file. The journal stops reading at the first frame that is none. Only ever adds at the file's end, which is safe beside a writer: it overwrites
/// what stands where it writes next.
fn preallocate(file: &Path, bytes: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(file)?;
    let zeros = vec![0_u8; 256 * 1024];
    while file.metadata()?.len() < bytes {
        file.write_all(&zeros)?;
    }
    file.sync_all()
}
