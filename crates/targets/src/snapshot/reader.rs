//! Reads a snapshot, one frame at a time, and believes nothing that its tag does not vouch for.

use super::{
    Footer, Header, Side, SnapshotKey, Table,
    frame::{FrameKind, MAGIC, MAX_PAYLOAD, SALT_BYTES, Sealer, TAG_BYTES},
};
use crate::Error;
use serde::de::DeserializeOwned;
use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};
use tokio::sync::mpsc;

/// Blocks that are read ahead.
const AHEAD: usize = 4;

/// A snapshot that was found whole: every frame was read and its tag vouched for it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    parts: Vec<Part>,
    key: Option<SnapshotKey>,
}

#[derive(Clone, Debug)]
struct Part {
    path: PathBuf,
    salt: [u8; SALT_BYTES],
    header: Header,
    tables: Vec<Table>,
    footer: Footer,
}

/// Some records of one table, in the system's own form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Which part of the snapshot: 0, or 1 for the after-images that sealing added.
    pub part: usize,
    /// The table's number in that part.
    pub table: u32,
    /// Before or after.
    pub side: Side,
    /// How many records.
    pub rows: u64,
    /// The records.
    pub data: Vec<u8>,
}

/// The blocks of a snapshot, in the order in which they were written; read ahead on a thread.
pub struct Blocks {
    /// The last is none: a thread that died does not look like an end.
    receive: mpsc::Receiver<Result<Option<Block>, Error>>,
    ended: bool,
}

impl Blocks {
    /// The next block; `None` at the end.
    ///
    /// # Errors
    /// When the file has been damaged since it was opened.
    pub async fn next(&mut self) -> Result<Option<Block>, Error> {
        let next = if self.ended { None } else { self.receive.recv().await };
        self.heard(next)
    }

    /// The same, for threads that may wait.
    ///
    /// # Errors
    /// As [`Blocks::next`].
    pub fn next_blocking(&mut self) -> Result<Option<Block>, Error> {
        let next = if self.ended { None } else { self.receive.blocking_recv() };
        self.heard(next)
    }

    fn heard(&mut self, next: Option<Result<Option<Block>, Error>>) -> Result<Option<Block>, Error> {
        match next {
            Some(Ok(None)) => self.ended = true,
            Some(block) => return block,
            None if self.ended => {}
            None => return Err(Error::Internal("the snapshot's reader broke off".to_owned())),
        }
        Ok(None)
    }
}

impl Snapshot {
    /// Opens the files of one snapshot and reads all of them once, so that damage is found before anything
    /// is changed.
    ///
    /// # Errors
    /// When a file is missing, damaged, cut off, of another snapshot, or sealed with another key.
    pub async fn open(parts: &[PathBuf], key: Option<SnapshotKey>) -> Result<Self, Error> {
        let paths = parts.to_vec();
        let work = move || {
            let parts = paths.iter().map(|p| check(p, key.as_ref())).collect::<Result<Vec<_>, _>>()?;
            let Some(first) = parts.first() else {
                return Err(Error::Snapshot("the snapshot has no file".to_owned()));
            };
            if let Some(other) = parts.iter().find(|p| p.header.id != first.header.id) {
                return Err(Error::Snapshot(format!(
                    "{} belongs to the snapshot {}, not to {}",
                    other.path.display(),
                    other.header.id,
                    first.header.id
                )));
            }
            Ok(Self { parts, key })
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| Error::Internal(format!("reading the snapshot: {e}")))?
    }

    /// How it began.
    ///
    /// # Errors
    /// Never: an opened snapshot has a first part.
    pub fn header(&self) -> Result<&Header, Error> {
        self.part(0).map(|p| &p.header)
    }

    /// The tables of a part.
    ///
    /// # Errors
    /// When there is no such part.
    pub fn tables(&self, part: usize) -> Result<&[Table], Error> {
        self.part(part).map(|p| p.tables.as_slice())
    }

    /// How a part ends.
    ///
    /// # Errors
    /// When there is no such part.
    pub fn footer(&self, part: usize) -> Result<&Footer, Error> {
        self.part(part).map(|p| &p.footer)
    }

    /// Whether the action was to change records of `resource` and to remove none.
    pub(crate) fn stays(&self, resource: &str) -> bool {
        self.part(0).is_ok_and(|part| part.footer.stay.iter().any(|one| one == resource))
    }

    /// How many parts it has: 1, or 2 once it has been sealed later.
    pub const fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Whether it holds after-images.
    pub fn is_sealed(&self) -> bool {
        self.parts.iter().any(|p| p.footer.sealed)
    }

    /// Its blocks, from the beginning. A thread reads ahead.
    pub fn blocks(&self) -> Blocks {
        let (send, receive) = mpsc::channel(AHEAD);
        let snapshot = self.clone();
        let read = move || {
            for (number, part) in snapshot.parts.iter().enumerate() {
                let result = frames(&part.path, snapshot.key.as_ref(), Some(&part.salt), |kind, payload| {
                    if kind != FrameKind::Rows {
                        return Ok(true);
                    }
                    let block =
                        block(number, &payload).ok_or_else(|| damaged(&part.path, "a block of rows"))?;
                    // False once nobody reads any more.
                    Ok(send.blocking_send(Ok(Some(block))).is_ok())
                });
                if let Err(error) = result {
                    let _unheard = send.blocking_send(Err(error));
                    return;
                }
            }
            let _unheard = send.blocking_send(Ok(None));
        };
        // Without a thread nothing is sent, and that is noticed as a reader that broke off.
        let _thread = std::thread::Builder::new().name("checkrein-snapshot".into()).spawn(read);
        Blocks { receive, ended: false }
    }

    fn part(&self, part: usize) -> Result<&Part, Error> {
        self.parts.get(part).ok_or_else(|| Error::Snapshot(format!("the snapshot has no part {part}")))
    }
}

fn block(part: usize, payload: &[u8]) -> Option<Block> {
    let (table, rest) = payload.split_first_chunk::<4>()?;
    let (side, rest) = rest.split_first()?;
    let (rows, data) = rest.split_first_chunk::<8>()?;
    let side = match side {
        0 => Side::Before,
        1 => Side::After,
        _ => return None,
    };
    let (table, rows) = (u32::from_le_bytes(*table), u64::from_le_bytes(*rows));
    Some(Block { part, table, side, rows, data: data.to_vec() })
}

/// Reads a whole file once.
fn check(path: &Path, key: Option<&SnapshotKey>) -> Result<Part, Error> {
    let (mut header, mut tables, mut footer) = (None, Vec::<Table>::new(), None);
    let mut counted = Footer::default();
    let salt = frames(path, key, None, |kind, payload| {
        match kind {
            FrameKind::Header if header.is_none() => header = Some(json(path, &payload)?),
            _ if header.is_none() => return Err(damaged(path, "its beginning")),
            FrameKind::Header => return Err(damaged(path, "a second beginning")),
            FrameKind::Table => {
                let table: Table = json(path, &payload)?;
                if usize::try_from(table.index) != Ok(tables.len()) {
                    return Err(damaged(path, "the order of its tables"));
                }
                tables.push(table);
                counted.tables.push(super::Totals::default());
            }
            FrameKind::Rows => {
                let block = block(0, &payload).ok_or_else(|| damaged(path, "a block of rows"))?;
                let totals = usize::try_from(block.table).ok().and_then(|t| counted.tables.get_mut(t));
                let totals = totals.ok_or_else(|| damaged(path, "rows of no table"))?;
                match block.side {
                    Side::Before => totals.before += block.rows,
                    Side::After => totals.after += block.rows,
                }
            }
            FrameKind::Footer => footer = Some(json::<Footer>(path, &payload)?),
        }
        Ok(true)
    })?;
    match (header, footer) {
        (Some(header), Some(footer)) if footer.tables == counted.tables => {
            Ok(Part { path: path.to_owned(), salt, header, tables, footer })
        }
        (Some(_), Some(_)) => Err(damaged(path, "the number of its records")),
        _ => Err(damaged(path, "its end")),
    }
}

fn json<T: DeserializeOwned>(path: &Path, payload: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(payload).map_err(|e| damaged(path, &format!("a description ({e})")))
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::Snapshot(format!(
        "the snapshot {} is damaged: {what} is missing or wrong; restore this file from a backup of the data folder",
        path.display()
    ))
}

/// Hands every frame to `each`, until that answers false. The footer ends the file.
fn frames(
    path: &Path,
    key: Option<&SnapshotKey>,
    was: Option<&[u8; SALT_BYTES]>,
    mut each: impl FnMut(FrameKind, Vec<u8>) -> Result<bool, Error>,
) -> Result<[u8; SALT_BYTES], Error> {
    // A file that is gone or cut off stays so. Another error may be over the next time.
    let unread = |e: std::io::Error| format!("the snapshot {} cannot be read: {e}", path.display());
    let file = File::open(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::Snapshot(unread(e)),
        _ => Error::Disk(unread(e)),
    })?;
    let mut file = BufReader::with_capacity(1 << 20, file);
    let cut = |e: std::io::Error| match e.kind() {
        ErrorKind::UnexpectedEof => damaged(path, "its end"),
        _ => Error::Disk(unread(e)),
    };
    let mut start = [0_u8; MAGIC.len() + SALT_BYTES + 1];
    file.read_exact(&mut start).map_err(cut)?;
    let (magic, rest) = start.split_at(MAGIC.len());
    let (salt, flags) =
        rest.split_first_chunk::<SALT_BYTES>().ok_or_else(|| damaged(path, "its beginning"))?;
    if magic != MAGIC {
        return Err(Error::Snapshot(format!("{} is not a snapshot", path.display())));
    }
    if was.is_some_and(|was| was != salt) {
        return Err(Error::Snapshot(format!("the snapshot {} was replaced by another file", path.display())));
    }
    let key = match (flags, key) {
        ([0], None) => None,
        // Else whoever can write to the folder, but has no key, could put a snapshot of their own there.
        ([0], Some(_)) => {
            return Err(Error::Snapshot(format!(
                "the snapshot {} is not encrypted although a key is configured; if it is from before the key was set, remove `encryption_key` from [snapshots] while you use it",
                path.display()
            )));
        }
        ([1], Some(key)) => Some(key),
        ([1], None) => {
            return Err(Error::Snapshot(format!(
                "the snapshot {} is encrypted and no key is configured; set `encryption_key` in [snapshots]",
                path.display()
            )));
        }
        _ => return Err(damaged(path, "its beginning")),
    };
    let mut sealer = Sealer::new(key, salt);
    loop {
        let mut head = [0_u8; 5];
        file.read_exact(&mut head).map_err(cut)?;
        let [kind, len @ ..] = head;
        let kind = FrameKind::read(kind).ok_or_else(|| damaged(path, "a frame"))?;
        let len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
        // Incompressible data grows a little.
        if len > MAX_PAYLOAD + MAX_PAYLOAD / 128 + 1024 + TAG_BYTES {
            return Err(damaged(path, "a frame's length"));
        }
        let mut sealed = Vec::new();
        let read = (&mut file).take(len as u64).read_to_end(&mut sealed).map_err(cut)?;
        let payload = (read == len).then(|| sealer.open(kind, &sealed)).flatten();
        let payload = payload.ok_or_else(|| match key {
            Some(_) => Error::Snapshot(format!(
                "the snapshot {} is damaged, or was encrypted with another key than the one configured",
                path.display()
            )),
            None => damaged(path, "a frame"),
        })?;
        if !each(kind, payload)? {
            return Ok(*salt);
        }
        if kind == FrameKind::Footer {
            let mut more = [0_u8; 1];
            let after = file.read(&mut more).map_err(cut)?;
            return if after == 0 { Ok(*salt) } else { Err(damaged(path, "what follows its end")) };
        }
    }
}
