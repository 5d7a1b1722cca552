//! Work that blocks, on threads that may: bounded in time, stopped when nobody waits any more, and what it
//! finds handed over block by block.

use super::object::Record;
use crate::{
    Error, RowWriter,
    snapshot::{Side, SnapshotWriter},
};
use serde_json::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// Blocks that may wait for the snapshot.
const QUEUE: usize = 4;
/// When a block is handed over, in bytes.
const BLOCK: usize = 1 << 20;

/// Whether somebody still waits for the work.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asked at every file and every megabyte.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::Internal("it was given up; nothing was changed".to_owned()));
        }
        Ok(())
    }
}

/// Dropped with the future that waits.
struct Waiting(Stop);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

enum Item {
    Tables(Value),
    Records(Side, u64, Vec<u8>),
    Bytes(Vec<u8>),
}

/// The way into a snapshot: two tables, one of records and one of bytes.
pub(super) struct Sink {
    send: mpsc::Sender<Item>,
    sides: [RowWriter; 2],
    bytes: RowWriter,
}

impl Sink {
    /// Before anything else: what the reader must know of the records.
    pub(super) fn begin(&mut self, shape: Value) -> Result<(), Error> {
        self.put(Item::Tables(shape))
    }

    pub(super) fn record(&mut self, side: Side, record: &Record) -> Result<(), Error> {
        let [before, after] = &mut self.sides;
        let to = match side {
            Side::Before => before,
            Side::After => after,
        };
        record.write(to);
        if to.len() < BLOCK {
            return Ok(());
        }
        let (rows, data) = to.take();
        self.put(Item::Records(side, rows, data))
    }

    /// `bytes` of the content `number`, at `at`.
    pub(super) fn bytes(&mut self, number: u64, at: u64, bytes: &[u8]) -> Result<(), Error> {
        self.bytes.row(3);
        self.bytes.cell(0, &number.to_le_bytes());
        self.bytes.cell(0, &at.to_le_bytes());
        self.bytes.cell(0, bytes);
        if self.bytes.len() < BLOCK {
            return Ok(());
        }
        let (_, data) = self.bytes.take();
        self.put(Item::Bytes(data))
    }

    /// Hands over what is left.
    fn finish(&mut self) -> Result<(), Error> {
        if !self.bytes.is_empty() {
            let (_, data) = self.bytes.take();
            self.put(Item::Bytes(data))?;
        }
        let [before, after] = &mut self.sides;
        for (side, (rows, data)) in [(Side::Before, before.take()), (Side::After, after.take())] {
            if rows > 0 {
                self.put(Item::Records(side, rows, data))?;
            }
        }
        Ok(())
    }

    fn put(&self, item: Item) -> Result<(), Error> {
        self.send
            .blocking_send(item)
            .map_err(|_| Error::Internal("the snapshot took no more; nothing was changed".to_owned()))
    }
}

/// What both tables of a snapshot are told apart by.
pub(super) const RECORDS: &str = "records";
pub(super) const BYTES: &str = "bytes";

/// Runs `work` on a thread, for at most `limit`.
pub(super) async fn run<T: Send + 'static>(
    what: &'static str,
    limit: Duration,
    work: impl FnOnce(&Stop) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let stop = Stop::default();
    let _waiting = Waiting(stop.clone());
    let thread = tokio::task::spawn_blocking(move || work(&stop));
    match tokio::time::timeout(limit, thread).await {
        Ok(done) => done.map_err(|e| Error::Internal(format!("{what}: {e}")))?,
        Err(_) => Err(Error::TimedOut { what, limit }),
    }
}

/// Runs `work` on a thread, for at most `limit`, and writes what it finds into `out`.
pub(super) async fn run_into<T: Send + 'static>(
    what: &'static str,
    limit: Duration,
    out: &mut SnapshotWriter,
    work: impl FnOnce(&Stop, &mut Sink) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (send, mut receive) = mpsc::channel(QUEUE);
    let thread = run(what, limit, move |stop| {
        let mut sink = Sink { send, sides: Default::default(), bytes: RowWriter::default() };
        let done = work(stop, &mut sink)?;
        sink.finish()?;
        Ok(done)
    });
    let write = async move {
        let mut tables = None;
        while let Some(item) = receive.recv().await {
            match (item, tables) {
                (Item::Tables(mut shape), _) => {
                    if let Value::Object(map) = &mut shape {
                        map.insert("holds".to_owned(), RECORDS.into());
                    }
                    let records = out.table(".", shape).await?;
                    tables = Some((records, out.table(".", serde_json::json!({"holds": BYTES})).await?));
                }
                (Item::Records(side, rows, data), Some((records, _))) => {
                    out.rows(records, side, rows, &data).await?;
                }
                // Bytes belong to records and are not records themselves: they count as none.
                (Item::Bytes(data), Some((_, bytes))) => {
                    out.rows(bytes, Side::Before, 0, &data).await?;
                }
                (_, None) => return Err(Error::Internal("records before their table".to_owned())),
            }
        }
        Ok(())
    };
    // An error in writing ends the work too: the thread finds nobody at the other end.
    let (done, written): (Result<T, Error>, Result<(), Error>) =
        futures_util::future::join(thread, write).await;
    written?;
    done
}
