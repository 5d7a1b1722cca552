//! From the thread that works on the file to the snapshot that is being written.

use super::connect::Fault;
use crate::{
    Error,
    snapshot::{Side, SnapshotWriter},
};
use serde_json::Value;
use tokio::sync::mpsc;

/// What a block gathers before it is handed over.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks under way.
const QUEUE: usize = 4;

enum Item {
    Table(String, Value),
    Rows(Side, u64, Vec<u8>),
    System(Value),
    Sealed,
}

/// Where the working thread puts what belongs into the snapshot.
pub(super) struct Sink {
    to: mpsc::Sender<Item>,
    before: (u64, Vec<u8>),
    after: (u64, Vec<u8>),
}

impl Sink {
    /// The rows that follow are of this table.
    pub(super) fn table(&mut self, resource: &str, shape: Value) -> Result<(), Fault> {
        self.flush()?;
        self.send(Item::Table(resource.to_owned(), shape))
    }

    /// One record. Blocks come in pairs, before and after of the same records, so that who reads them in their order
    /// need never look for the other half.
    pub(super) fn record(&mut self, before: Option<&[u8]>, after: Option<&[u8]>) -> Result<(), Fault> {
        let longest = before.map_or(0, <[u8]>::len).max(after.map_or(0, <[u8]>::len));
        // A block with a very long record holds that alone: a frame has room for one of them.
        if longest > BLOCK_BYTES {
            self.flush()?;
        }
        for (row, buffer) in [(before, &mut self.before), (after, &mut self.after)] {
            if let Some(row) = row {
                buffer.0 += 1;
                buffer.1.extend_from_slice(row);
            }
        }
        if self.before.1.len().max(self.after.1.len()) >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    /// All of it has been sent: what the system needs to know of the whole, and whether there are
    /// after-images of everything.
    pub(super) fn end(mut self, system: Option<Value>, sealed: bool) -> Result<(), Fault> {
        self.flush()?;
        if let Some(system) = system {
            self.send(Item::System(system))?;
        }
        if sealed { self.send(Item::Sealed) } else { Ok(()) }
    }

    const fn buffer(&mut self, side: Side) -> &mut (u64, Vec<u8>) {
        match side {
            Side::Before => &mut self.before,
            Side::After => &mut self.after,
        }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.hand_over(Side::Before)?;
        self.hand_over(Side::After)
    }

    fn hand_over(&mut self, side: Side) -> Result<(), Fault> {
        let (rows, data) = std::mem::take(self.buffer(side));
        if rows == 0 { Ok(()) } else { self.send(Item::Rows(side, rows, data)) }
    }

    fn send(&mut self, item: Item) -> Result<(), Fault> {
        // The receiver has gone because the snapshot failed, and tells the caller itself why.
        self.to
            .blocking_send(item)
            .map_err(|_| Error::Internal("the snapshot was given up".to_owned()).into())
    }
}

/// Runs `work` on a thread that may block, and writes what it sends into `out` meanwhile.
pub(super) async fn streaming<T: Send + 'static>(
    out: &mut SnapshotWriter,
    work: impl FnOnce(Sink) -> T + Send + 'static,
) -> Result<(T, Result<(), Error>), Error> {
    let (to, from) = mpsc::channel(QUEUE);
    let sink = Sink { to, before: (0, Vec::new()), after: (0, Vec::new()) };
    let thread = tokio::task::spawn_blocking(move || work(sink));
    let written = write(out, from).await;
    let done = thread.await.map_err(|e| Error::Internal(format!("the thread for SQLite: {e}")))?;
    Ok((done, written))
}

async fn write(out: &mut SnapshotWriter, mut from: mpsc::Receiver<Item>) -> Result<(), Error> {
    let mut table = None;
    while let Some(item) = from.recv().await {
        match item {
            Item::Table(resource, shape) => table = Some(out.table(&resource, shape).await?),
            Item::Rows(side, rows, data) => {
                let table = table.ok_or_else(|| Error::Internal("rows without a table".to_owned()))?;
                out.rows(table, side, rows, &data).await?;
            }
            Item::System(value) => out.system(value),
            Item::Sealed => out.sealed(),
        }
    }
    Ok(())
}
