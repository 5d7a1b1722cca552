//! The journal: where an entry becomes durable, before anybody hears of it.
//!
//! Two files, used in turn. A batch of entries is one *frame*, written with one write and one sync into a file
//! that was laid out beforehand. The database follows behind, in larger transactions that need no sync of
//! their own; a file is used again only when the database holds, durably, what is in it. After a crash the
//! entries that the database has not got are read from here ([`beyond`]).
//!
//! ```text
//! frame = use u64, length u32, entries u32, before: seq u64, hash [32], after: hash [32], then each entry, then zeros:
//! entry = at i64, lengths of kind, subject, agent, body u32 each, then these texts
//! ```
//! Numbers are little-endian; `length` counts the entries' bytes and the zeros, which fill the last block of the disk. A frame holds the links of the hash chain
//! before and after it, so it proves itself: what was cut off by a crash, left from an earlier use of the
//! file, or damaged does not give the hash. Frames stand one behind the other from the file's beginning; the
//! first that is of another use of the file than the first frame ends the file.

use crate::{direct::Direct, folder::Folder};
use checkrein_core::{
    chain::{Hash, Walk, link},
    event::Entry,
    time::Timestamp,
};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    time::{SystemTime, UNIX_EPOCH},
};

/// Bytes of a frame before its entries.
const HEADER: usize = 8 + 4 + 4 + 8 + 32 + 32;
/// Bytes of an entry before its texts.
const ENTRY: usize = 8 + 4 * 4;

/// How long the files are at first. Each time that one is full the next may be twice as long: a busy server has
/// fewer occasions to bring the database to the disk, and one that records little keeps small files.
const FIRST: u64 = 16 * 1024 * 1024;

/// A frame that is being put together.
#[derive(Default)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    entries: u32,
}

impl Frame {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(HEADER, 0);
        self.entries = 0;
    }

    pub(crate) fn push(&mut self, at: Timestamp, texts: [&str; 4]) {
        self.bytes.extend_from_slice(&at.as_micros().to_le_bytes());
        for text in texts {
            // Bodies are far below 4 GiB; one that is not would not prove itself.
            self.bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
        for text in texts {
            self.bytes.extend_from_slice(text.as_bytes());
        }
        self.entries += 1;
    }

    /// How far it has come, for [`Frame::back_to`].
    pub(crate) fn mark(&self) -> (usize, u32) {
        (self.bytes.len(), self.entries)
    }

    /// Takes back what was pushed since.
    pub(crate) fn back_to(&mut self, (bytes, entries): (usize, u32)) {
        self.bytes.truncate(bytes);
        self.entries = entries;
    }

    /// At least as many bytes as a frame with entries of these texts takes.
    pub(crate) fn room_for(entries: usize, texts: usize) -> u64 {
        (HEADER + entries * ENTRY + texts) as u64
    }

    /// Fills its last block, and writes its header.
    fn seal(&mut self, block: usize, this_use: u64, before: &Walk, after: &Hash) {
        self.bytes.resize(self.bytes.len().next_multiple_of(block), 0);
        let length = u32::try_from(self.bytes.len() - HEADER).unwrap_or(u32::MAX);
        let header = this_use
            .to_le_bytes()
            .into_iter()
            .chain(length.to_le_bytes())
            .chain(self.entries.to_le_bytes())
            .chain(before.seq.to_le_bytes())
            .chain(before.hash.0)
            .chain(after.0);
        for (into, byte) in self.bytes.iter_mut().zip(header) {
            *into = byte;
        }
    }
}

/// What a failed write left behind.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: io::Error,
    /// Whether a later start could still find the frame.
    pub(crate) in_doubt: bool,
}

/// The writer's side.
pub(crate) struct Journal {
    files: [Used; 2],
    /// How long a file may become at present, and at most.
    length: u64,
    longest: u64,
    /// A failed frame may still stand where the next one goes.
    doubt: bool,
}

struct Used {
    file: Direct,
    /// Tells this use of the file from those before.
    number: u64,
    /// Where the next frame goes.
    end: u64,
    /// The last entry in it.
    last: u64,
}

impl Journal {
    /// Opens the files and creates them where there are none. What they hold is taken for done with.
    pub(crate) fn open(folder: &Folder, longest: u64) -> io::Result<Self> {
        let open = |file| Used { file, number: number(), end: 0, last: 0 };
        let [first, second] = &folder.journals;
        let files = [open(Direct::open(first)?), open(Direct::open(second)?)];
        let mut length = FIRST;
        for used in &files {
            length = length.max(used.length()?);
        }
        Ok(Self { files, length: length.min(longest), longest, doubt: false })
    }

    /// Whether `bytes` more fit into the file in use. One that is empty takes a frame of any size.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        let [current, _] = &self.files;
        current.end == 0 || current.end + bytes + current.file.block() as u64 <= self.length
    }

    /// The last entry in the file that is used next: it may be overwritten once the database holds that one.
    pub(crate) fn last_in_next(&self) -> u64 {
        let [_, next] = &self.files;
        next.last
    }

    /// How long each file is to be laid out on the disk.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Goes on in the other file.
    pub(crate) fn turn(&mut self) {
        self.length = self.length.saturating_mul(2).min(self.longest);
        let [current, next] = &mut self.files;
        (next.end, next.number) = (0, number());
        std::mem::swap(current, next);
    }

    /// Writes `frame`, which leads from `before` to `after`. It is on the disk when this returns.
    pub(crate) fn write(&mut self, frame: &mut Frame, before: &Walk, after: &Walk) -> Result<(), Failed> {
        let [current, _] = &mut self.files;
        frame.seal(current.file.block(), current.number, before, &after.hash);
        match current.file.write(&frame.bytes, current.end).and_then(|()| current.file.sync()) {
            Ok(()) => {
                current.end += frame.bytes.len() as u64;
                current.last = after.seq;
                Ok(())
            }
            Err(error) => {
                // Nobody will be told that it is on record, so a later start must not find it.
                self.doubt = true;
                Err(Failed { error, in_doubt: self.settle().is_err() })
            }
        }
    }

    /// Makes sure that no later start finds a frame whose write failed. Until then nothing may be recorded,
    /// in the other file or in the database alone: it would claim the numbers of the entries that are.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        if self.doubt {
            let [current, _] = &mut self.files;
            current.end_here()?;
            self.doubt = false;
        }
        Ok(())
    }

    /// Begins anew: everything that the files hold is in the database, durably.
    pub(crate) fn forget(&mut self) -> io::Result<()> {
        for used in &mut self.files {
            (used.end, used.last, used.number) = (0, 0, number());
            if used.length()? > 0 {
                used.end_here()?;
            }
        }
        Ok(())
    }
}

impl Used {
    fn length(&self) -> io::Result<u64> {
        self.file.file.metadata().map(|file| file.len())
    }

    /// Makes sure that no frame is found where the next one goes.
    fn end_here(&mut self) -> io::Result<()> {
        self.file.write(&vec![0; HEADER.next_multiple_of(self.file.block())], self.end)?;
        self.file.sync()
    }
}

/// A number that no earlier use of a file had.
fn number() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    u64::try_from(now).unwrap_or(u64::MAX)
}

/// The entries of the journal that come after `head`.
pub(crate) struct Beyond {
    /// Those that continue the log, in order.
    pub(crate) entries: Vec<Entry>,
    /// An entry after those that does not connect: something between is missing.
    pub(crate) stray: Option<u64>,
}

/// Reads what the journal holds beyond `head`. A folder without a journal holds nothing.
pub(crate) fn beyond(folder: &Folder, head: &Walk) -> io::Result<Beyond> {
    let mut frames = Vec::new();
    for path in &folder.journals {
        match File::open(path) {
            Ok(file) => read(&file, head.seq, &mut frames)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    frames.sort_by_key(|frame: &Proven| frame.before.seq);
    let (mut walk, mut entries, mut stray) = (*head, Vec::new(), None);
    for frame in frames {
        for entry in frame.entries {
            if entry.seq <= walk.seq {
                continue;
            }
            let found = entry.seq;
            if stray.is_some() || walk.step(&entry).is_err() {
                stray = stray.or(Some(found));
                break;
            }
            entries.push(entry);
        }
    }
    Ok(Beyond { entries, stray })
}

/// A frame whose entries lead from `before` to the hash that it names.
struct Proven {
    before: Walk,
    entries: Vec<Entry>,
}

/// Adds the frames of `file` that reach beyond the entry `head`.
fn read(file: &File, head: u64, frames: &mut Vec<Proven>) -> io::Result<()> {
    let end = file.metadata()?.len();
    let (mut at, mut of) = (0, None);
    let mut header = [0; HEADER];
    while at + HEADER as u64 <= end {
        file.read_exact_at(&mut header, at)?;
        let Some((number, length, count, before, after)) = parse_header(&header) else { return Ok(()) };
        let next = at + HEADER as u64 + u64::from(length);
        if count == 0 || next > end || *of.get_or_insert(number) != number {
            return Ok(());
        }
        // What the database has got need not be proven again.
        if before.seq.saturating_add(u64::from(count)) > head {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, at + HEADER as u64)?;
            // One that a crash cut off is the last of its use; when more follow, it was damaged, and what follows
            // does not connect.
            frames.extend(prove(&bytes, count, before, after));
        }
        at = next;
    }
    Ok(())
}

fn parse_header(mut bytes: &[u8]) -> Option<(u64, u32, u32, Walk, Hash)> {
    let bytes = &mut bytes;
    let number = u64::from_le_bytes(part(bytes)?);
    let (length, count) = (u32::from_le_bytes(part(bytes)?), u32::from_le_bytes(part(bytes)?));
    let before = Walk { seq: u64::from_le_bytes(part(bytes)?), hash: Hash(part(bytes)?) };
    Some((number, length, count, before, Hash(part(bytes)?)))
}

fn prove(mut bytes: &[u8], count: u32, before: Walk, after: Hash) -> Option<Proven> {
    let bytes = &mut bytes;
    let mut walk = before;
    let mut entries = Vec::new();
    for _ in 0..count {
        let at = Timestamp::from_micros(i64::from_le_bytes(part(bytes)?));
        let mut lengths = [0_u32; 4];
        for length in &mut lengths {
            *length = u32::from_le_bytes(part(bytes)?);
        }
        let mut texts = lengths.into_iter().map(|length| {
            let (text, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
            *bytes = rest;
            Some(std::str::from_utf8(text).ok()?.to_owned())
        });
        let (kind, subject, agent, body) = (texts.next()??, texts.next()??, texts.next()??, texts.next()??);
        let seq = walk.seq.checked_add(1)?;
        let hash = link(&walk.hash, seq, at, &kind, &subject, &agent, &body);
        walk = Walk { seq, hash };
        entries.push(Entry { seq, at, kind, subject, agent, body, hash });
    }
    (bytes.iter().all(|byte| *byte == 0) && walk.hash == after).then_some(Proven { before, entries })
}

fn part<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (part, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(journal: &mut Journal, kind: &str, before: &Walk) -> Result<Walk, Failed> {
        let (mut frame, at) = (Frame::default(), Timestamp::from_micros(1));
        frame.clear();
        frame.push(at, [kind, "", "", ""]);
        let seq = before.seq + 1;
        let after = Walk { seq, hash: link(&before.hash, seq, at, kind, "", "", "") };
        journal.write(&mut frame, before, &after).map(|()| after)
    }

    fn kinds(folder: &Folder, head: &Walk) -> (Vec<String>, Option<u64>) {
        let Beyond { entries, stray } = beyond(folder, head).unwrap();
        (entries.into_iter().map(|entry| entry.kind).collect(), stray)
    }

    #[test]
    fn what_failed_is_not_found_in_place_of_what_was_recorded_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let mut journal = Journal::open(&folder, 1 << 20).unwrap();
        let start = Walk { seq: 0, hash: Hash([0; 32]) };
        let first = written(&mut journal, "first", &start).unwrap();
        // The write reaches the disk; the sync is reported as failed, and so is taking it back.
        let end = journal.files[0].end;
        written(&mut journal, "failed", &first).unwrap();
        journal.files[0].end = end;
        let writable =
            std::mem::replace(&mut journal.files[0].file.file, File::open(&folder.journals[0]).unwrap());
        assert!(written(&mut journal, "failed", &first).unwrap_err().in_doubt);
        assert_eq!(kinds(&folder, &start), (vec!["first".into(), "failed".into()], None));
        journal.settle().unwrap_err();
        // The disk is well again, and the next frame goes into the other file.
        journal.files[0].file.file = writable;
        journal.settle().unwrap();
        journal.turn();
        written(&mut journal, "second", &first).unwrap();
        assert_eq!(kinds(&folder, &start), (vec!["first".into(), "second".into()], None));
    }

    #[test]
    fn frames_of_any_size_come_back_past_the_cache_and_through_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let start = Walk { seq: 0, hash: Hash([0; 32]) };
        for cached in [false, true] {
            let mut journal = Journal::open(&folder, 1 << 20).unwrap();
            if cached {
                for (used, path) in journal.files.iter_mut().zip(&folder.journals) {
                    let file = File::options().write(true).open(path).unwrap();
                    used.file = Direct::through_the_cache(file);
                }
            }
            let block = journal.files[0].file.block() as u64;
            // Shorter than a block, up to its edge, over it, and longer than what is handed over at once.
            let sizes = [0, 1, 300, 391, 392, 393, 4000, 4096, 70_000, 700_000, 5];
            let (mut walk, mut texts) = (start, Vec::new());
            for (i, size) in sizes.into_iter().enumerate() {
                texts.push(format!("{cached} {i} {}", "x".repeat(size)));
                walk = written(&mut journal, &texts[i], &walk).unwrap();
                assert_eq!(journal.files[0].end % block, 0);
            }
            assert_eq!(kinds(&folder, &start), (texts.clone(), None));
            // A later use that is shorter ends where it ends, whatever stands behind it.
            let (mut later, mut first) = (Journal::open(&folder, 1 << 20).unwrap(), start);
            for text in texts.get(..3).unwrap() {
                first = written(&mut later, text, &first).unwrap();
            }
            assert_eq!(kinds(&folder, &start).0, texts.get(..3).unwrap());
            later.forget().unwrap();
            assert_eq!(kinds(&folder, &start), (Vec::new(), None));
        }
    }

    #[test]
    fn what_is_written_and_not_synced_is_not_on_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&Folder::new(dir.path()), 1 << 20).unwrap();
        // It takes every write and can sync none.
        let null = File::options().write(true).open("/dev/null").unwrap();
        journal.files[0].file = Direct::through_the_cache(null);
        let start = Walk { seq: 0, hash: Hash([0; 32]) };
        assert!(written(&mut journal, "lost", &start).unwrap_err().in_doubt);
        assert_eq!(journal.files[0].end, 0);
    }

    #[test]
    fn files_grow_with_use_and_stay_so() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let mut journal = Journal::open(&folder, 5 * FIRST).unwrap();
        let mut lengths = Vec::new();
        for _ in 0..4 {
            lengths.push(journal.length() / FIRST);
            journal.turn();
        }
        assert_eq!(lengths, [1, 2, 4, 5]);
        assert!(journal.fits(6 * FIRST), "an empty one takes a frame of any size");
        // One that was short of room does not begin small again.
        File::create(&folder.journals[1]).unwrap().set_len(3 * FIRST).unwrap();
        assert_eq!(Journal::open(&folder, 5 * FIRST).unwrap().length(), 3 * FIRST);
        assert_eq!(Journal::open(&folder, 1000).unwrap().length(), 1000);
    }
}
