//! Writes a snapshot: compression, sealing and disk on a thread of their own, so that the connection to the
//! system never waits for them longer than it must.

use super::{
    Footer, Header, Side, SnapshotKey, Table, Totals,
    frame::{FrameKind, MAGIC, SALT_BYTES, Sealer},
};
use crate::Error;
use serde_json::Value;
use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};
use tokio::sync::{mpsc, oneshot};

/// Frames that may wait for the disk.
const QUEUE: usize = 8;
/// What a system should gather before it hands a block over, in bytes.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;

enum Work {
    Frame(FrameKind, Vec<u8>),
    Again,
    Finish(oneshot::Sender<Result<Linked, Error>>),
}

/// A snapshot that is being written. Dropped before [`SnapshotWriter::finish`]: removed.
pub struct SnapshotWriter {
    work: mpsc::Sender<Work>,
    failed: oneshot::Receiver<Error>,
    _file: Unfinished,
    head: Vec<u8>,
    footer: Footer,
    limits: (u64, u64),
    rows: u64,
    bytes: u64,
    /// What was refused: without it the file would be a lie, so it is never finished.
    refused: Option<Error>,
}

/// A snapshot that is durably on the disk, under its final name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// Its size, in bytes.
    pub bytes: u64,
    /// What it holds.
    pub footer: Footer,
}

/// Removes the file `<path>.part`. The thread may still write to it: then into a file without a name.
struct Unfinished {
    path: PathBuf,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Finished: it has another name by now.
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// A whole file under its final name, which nobody knows of yet: removed unless somebody takes it.
struct Linked {
    path: PathBuf,
    bytes: u64,
    taken: bool,
}

impl Drop for Linked {
    fn drop(&mut self) {
        if !self.taken {
            // Nothing can be done about a failure here; what is left is cleared away at the next start.
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

impl SnapshotWriter {
    /// Begins the file `path` (which must not exist; it is written as `<path>.part` and renamed when it is
    /// whole). `limits` are rows and bytes before compression.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(
        path: &Path,
        header: &Header,
        key: Option<&SnapshotKey>,
        limits: (u64, u64),
    ) -> Result<Self, Error> {
        let part = part_of(path);
        let problem = |e: std::io::Error| disk(&part, &e);
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(problem)?;
        let unfinished = Unfinished { path: part.clone() };
        let begun = begin(file, &part, key)?;
        let (work, todo) = mpsc::channel(QUEUE);
        let (fail, failed) = oneshot::channel();
        let (to, key) = (path.to_owned(), key.cloned());
        std::thread::Builder::new()
            .name("checkrein-snapshot".into())
            .spawn(move || write(begun, key.as_ref(), (&part, &to), todo, fail))
            .map_err(|e| Error::Internal(format!("no thread for the snapshot: {e}")))?;
        let head = serde_json::to_vec(header).map_err(|e| Error::Internal(e.to_string()))?;
        work.try_send(Work::Frame(FrameKind::Header, head.clone()))
            .map_err(|_| Error::Internal("the snapshot's writer is gone".to_owned()))?;
        Ok(Self {
            work,
            failed,
            _file: unfinished,
            head,
            footer: Footer::default(),
            limits,
            rows: 0,
            bytes: 0,
            refused: None,
        })
    }

    /// Forgets everything that was written so far: another way is tried.
    ///
    /// # Errors
    /// When the disk does not allow it.
    pub(crate) async fn again(&mut self) -> Result<(), Error> {
        if self.work.send(Work::Again).await.is_err() {
            return Err(self.failure());
        }
        (self.footer, self.rows, self.bytes) = (Footer::default(), 0, 0);
        self.send(FrameKind::Header, self.head.clone()).await
    }

    /// Announces a table. Returns its number.
    ///
    /// # Errors
    /// When the disk or the limits do not allow more.
    pub async fn table(&mut self, resource: &str, shape: Value) -> Result<u32, Error> {
        let index = u32::try_from(self.footer.tables.len())
            .map_err(|_| Error::TooLarge("too many tables for one snapshot".to_owned()))?;
        let table = Table { index, resource: resource.to_owned(), shape };
        let payload = serde_json::to_vec(&table).map_err(|e| Error::Internal(e.to_string()))?;
        self.send(FrameKind::Table, payload).await?;
        self.footer.tables.push(Totals::default());
        Ok(index)
    }

    /// Adds `rows` records of a table, in the system's own form. About a megabyte at a time is best.
    ///
    /// # Errors
    /// When the disk or the limits do not allow more.
    pub async fn rows(&mut self, table: u32, side: Side, rows: u64, data: &[u8]) -> Result<(), Error> {
        if rows == 0 && data.is_empty() {
            return Ok(());
        }
        self.rows = self.rows.saturating_add(rows);
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        let (most_rows, most_bytes) = self.limits;
        // Before- and after-images both count as rows of the file, so the limit is twice that of records.
        if self.rows > most_rows.saturating_mul(2) || self.bytes > most_bytes {
            let error = Error::TooLarge(format!(
                "the snapshot would be larger than this target allows ({most_rows} records, {most_bytes} bytes); narrow the action, or raise the target's limits"
            ));
            self.refused = Some(error.clone());
            return Err(error);
        }
        let totals = usize::try_from(table).ok().and_then(|t| self.footer.tables.get_mut(t));
        let Some(totals) = totals else {
            return Err(Error::Internal("rows of a table that was not announced".to_owned()));
        };
        match side {
            Side::Before => totals.before += rows,
            Side::After => totals.after += rows,
        }
        let mut payload = Vec::with_capacity(data.len() + 13);
        payload.extend_from_slice(&table.to_le_bytes());
        payload.push(u8::from(side == Side::After));
        payload.extend_from_slice(&rows.to_le_bytes());
        payload.extend_from_slice(data);
        self.send(FrameKind::Rows, payload).await
    }

    /// Says that after-images were taken of everything.
    pub const fn sealed(&mut self) {
        self.footer.sealed = true;
    }

    /// Says what is to happen to the records, which has not happened yet.
    pub(crate) fn foresees(&mut self, affected: &[crate::Affected]) {
        self.footer.stay = crate::stay::resources(affected);
    }

    /// Says that nobody knows what will happen to the records: a snapshot that somebody asked for, who may go on to
    /// remove them, puts back what is gone.
    pub fn foresees_nothing(&mut self) {
        self.footer.stay = Vec::new();
    }

    /// What the system needs to know of the whole, for the footer.
    pub fn system(&mut self, value: Value) {
        self.footer.system = value;
    }

    /// What was written so far.
    pub const fn totals(&self) -> &Footer {
        &self.footer
    }

    /// Makes it durable under its final name: the file and its folder are synced.
    ///
    /// # Errors
    /// When the disk does not allow it; nothing is left then.
    pub async fn finish(mut self, path: &Path) -> Result<Written, Error> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        let footer = serde_json::to_vec(&self.footer).map_err(|e| Error::Internal(e.to_string()))?;
        self.send(FrameKind::Footer, footer).await?;
        let (reply, answer) = oneshot::channel();
        if self.work.send(Work::Finish(reply)).await.is_err() {
            return Err(self.failure());
        }
        let mut linked = match answer.await {
            Ok(result) => result?,
            Err(_) => return Err(self.failure()),
        };
        linked.taken = true;
        let bytes = linked.bytes;
        Ok(Written { path: path.to_owned(), bytes, footer: std::mem::take(&mut self.footer) })
    }

    async fn send(&mut self, kind: FrameKind, payload: Vec<u8>) -> Result<(), Error> {
        match self.work.send(Work::Frame(kind, payload)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure()),
        }
    }

    fn failure(&mut self) -> Error {
        self.failed.try_recv().unwrap_or_else(|_| Error::Internal("the snapshot's writer is gone".to_owned()))
    }
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn disk(path: &Path, error: &std::io::Error) -> Error {
    Error::Disk(format!("the snapshot {} cannot be written: {error}", path.display()))
}

/// Begins a file, which may hold something already, with a salt that was never used: what is sealed with the same
/// number in it is sealed under another key.
fn begin(mut file: File, part: &Path, key: Option<&SnapshotKey>) -> Result<(BufWriter<File>, Sealer), Error> {
    let mut salt = [0_u8; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(MAGIC))
        .and_then(|()| file.write_all(&salt))
        .and_then(|()| file.write_all(&[u8::from(key.is_some())]))
        .map_err(|e| disk(part, &e))?;
    Ok((BufWriter::with_capacity(BLOCK_BYTES, file), Sealer::new(key, &salt)))
}

fn write(
    (mut file, mut sealer): (BufWriter<File>, Sealer),
    key: Option<&SnapshotKey>,
    (part, to): (&Path, &Path),
    mut todo: mpsc::Receiver<Work>,
    fail: oneshot::Sender<Error>,
) {
    while let Some(work) = todo.blocking_recv() {
        match work {
            Work::Frame(kind, payload) => {
                if let Err(error) = frame(&mut file, part, &mut sealer, kind, &payload) {
                    // Nobody listens any more when the snapshot was given up.
                    let _unheard = fail.send(error);
                    return;
                }
            }
            Work::Again => match begin(file.into_parts().0, part, key) {
                Ok(begun) => (file, sealer) = begun,
                Err(error) => {
                    let _unheard = fail.send(error);
                    return;
                }
            },
            Work::Finish(reply) => {
                let _unheard = reply.send(finish(file, part, to));
                return;
            }
        }
    }
}

fn frame(
    file: &mut BufWriter<File>,
    part: &Path,
    sealer: &mut Sealer,
    kind: FrameKind,
    payload: &[u8],
) -> Result<(), Error> {
    let sealed = sealer.seal(kind, payload)?;
    let len = u32::try_from(sealed.len()).map_err(|_| Error::TooLarge("a frame over 4 GiB".to_owned()))?;
    file.write_all(&[kind as u8])
        .and_then(|()| file.write_all(&len.to_le_bytes()))
        .and_then(|()| file.write_all(&sealed))
        .map_err(|e| disk(part, &e))
}

fn finish(file: BufWriter<File>, part: &Path, to: &Path) -> Result<Linked, Error> {
    let durable = || -> std::io::Result<Linked> {
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        // A hard link, not a rename, so that a snapshot that is there already is never replaced.
        std::fs::hard_link(part, to)?;
        let linked = Linked { path: to.to_owned(), bytes, taken: false };
        std::fs::remove_file(part)?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        Ok(linked)
    };
    durable().map_err(|e| disk(to, &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Snapshot;

    /// What was forgotten is nowhere in the file, and what came after it is sealed under another salt.
    #[tokio::test]
    async fn what_is_written_again_is_all_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let header =
            Header { id: "snp_1".into(), target: "shop".into(), kind: "k".into(), system: Value::Null };
        for key in [None, Some(SnapshotKey::new([7; 32]))] {
            let path = folder.path().join(if key.is_some() { "encrypted" } else { "plain" });
            let mut out = SnapshotWriter::create(&path, &header, key.as_ref(), (1_000, 1 << 24)).unwrap();
            let mut salts = Vec::new();
            let mut noise = vec![0; 3 * BLOCK_BYTES];
            getrandom::fill(&mut noise).unwrap();
            for (table, rows, data) in [("forgotten", 3, noise.as_slice()), ("kept", 2, b"two rows")] {
                if table == "kept" {
                    out.again().await.unwrap();
                }
                let index = out.table(table, Value::Null).await.unwrap();
                out.rows(index, Side::Before, rows, data).await.unwrap();
                // Until the thread has written the salt.
                for _ in 0..10_000 {
                    let written = std::fs::read(part_of(&path)).unwrap();
                    let salt = written.get(MAGIC.len()..MAGIC.len() + SALT_BYTES).map(<[u8]>::to_vec);
                    if let Some(salt) = salt.filter(|salt| !salts.contains(salt)) {
                        salts.push(salt);
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            }
            assert_eq!(salts.len(), 2);
            let written = out.finish(&path).await.unwrap();
            assert!(written.bytes < 1_000, "{} bytes", written.bytes);
            let snapshot = Snapshot::open(&[path], key).await.unwrap();
            let tables: Vec<_> = snapshot.tables(0).unwrap().iter().map(|t| t.resource.clone()).collect();
            assert_eq!(tables, ["kept"]);
            let mut blocks = snapshot.blocks();
            let block = blocks.next().await.unwrap().unwrap();
            assert_eq!((block.rows, block.data.as_slice()), (2, b"two rows".as_slice()));
            assert!(blocks.next().await.unwrap().is_none());
        }
    }
}
