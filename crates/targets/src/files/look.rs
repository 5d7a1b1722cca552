//! Reads what stands at a path: metadata, content, extended attributes.

use super::{
    object::{Attributes, Body, Content, Meta, Object},
    path::RelPath,
    root::{Root, Spot, problem, stat},
    work::Stop,
};
use crate::Error;
use rustix::{
    fs::{SeekFrom, Statx, fgetxattr, flistxattr, lgetxattr, llistxattr, readlinkat, seek},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use std::{fs::File, os::unix::fs::FileExt as _};

/// Bytes of a file that are handled at once.
pub(super) const CHUNK: usize = 1 << 20;
/// How often a file that changes while it is read is read again.
const TRIES: usize = 3;

/// By which a later look tells that nobody has written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Witness {
    pub(super) ino: u64,
    pub(super) links: u32,
    pub(super) size: u64,
    pub(super) mode: u16,
    pub(super) mtime: (i64, u32),
    pub(super) ctime: (i64, u32),
}

impl Witness {
    pub(super) const fn of(found: &Statx) -> Self {
        Self {
            ino: found.stx_ino,
            links: found.stx_nlink,
            size: found.stx_size,
            mode: found.stx_mode,
            mtime: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
            ctime: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
        }
    }

    pub(super) const fn is_folder(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// The same file with the same content, though it may have been moved.
    /// Nobody has written to it, as far as that can be told. Of a folder, the time changes with every name.
    pub(super) fn same(&self, other: &Self) -> bool {
        if self.is_folder() { (self.ino, self.mode) == (other.ino, other.mode) } else { self == other }
    }

    /// A folder is the same as long as it is there: its time changes with what is done in it.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        if self.is_folder() && other.is_folder() {
            return self.ino == other.ino;
        }
        (self.ino, self.size, self.mode, self.mtime) == (other.ino, other.size, other.mode, other.mtime)
    }
}

/// Where the bytes of a file go. `begin` is called first, and again when the file must be read once more.
pub(super) trait Bytes {
    fn begin(&mut self, size: u64);
    fn chunk(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error>;
}

/// Looks at content only to know its hash.
pub(super) struct Unkept;

impl Bytes for Unkept {
    fn begin(&mut self, _size: u64) {}

    fn chunk(&mut self, _at: u64, _bytes: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}

/// What stands at `path`. A way that leads through a link or something that is no folder leads to nothing.
pub(super) fn look(
    root: &Root,
    path: &RelPath,
    stop: &Stop,
    keep: &mut dyn Bytes,
) -> Result<Option<(Object, Witness)>, Error> {
    let fail = |e| problem("read", path, e);
    let spot = match root.spot(path) {
        Ok(spot) => spot,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(e) => return Err(fail(e)),
    };
    for _ in 0..TRIES {
        stop.check()?;
        let found = match spot.stat() {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(fail(e)),
        };
        if !root.holds(&found) {
            return Err(fail(Errno::XDEV));
        }
        match object(&spot, &found, stop, keep) {
            Ok(Some(object)) => return Ok(Some((object, Witness::of(&found)))),
            // It changed under our eyes.
            Ok(None) | Err(Trouble::System(Errno::NOENT | Errno::LOOP | Errno::NXIO)) => {}
            Err(Trouble::System(e)) => return Err(fail(e)),
            Err(Trouble::Ours(e)) => return Err(e),
        }
    }
    Err(Error::Statement {
        code: "busy".to_owned(),
        message: format!(
            "{} was written to each time that it was read; stop what writes it, then try again",
            path.show()
        ),
    })
}

enum Trouble {
    System(Errno),
    Ours(Error),
}

impl From<Errno> for Trouble {
    fn from(e: Errno) -> Self {
        Self::System(e)
    }
}

impl From<Error> for Trouble {
    fn from(e: Error) -> Self {
        Self::Ours(e)
    }
}

/// None when it was not the same at the end as at the beginning.
fn object(spot: &Spot, found: &Statx, stop: &Stop, keep: &mut dyn Bytes) -> Result<Option<Object>, Trouble> {
    let kind = found.stx_mode & 0o170_000;
    let (body, attributes, after) = match kind {
        0o100_000 => {
            let file = spot.read()?;
            if Witness::of(&stat_open(&file)?) != Witness::of(found) {
                return Ok(None);
            }
            keep.begin(found.stx_size);
            let Some(content) = content(&file, found.stx_size, stop, keep)? else { return Ok(None) };
            let attributes =
                xattrs(|list| flistxattr(&file, list), |name, value| fgetxattr(&file, name, value))?;
            (Body::File { content, shared: None, elsewhere: 0 }, attributes, stat_open(&file)?)
        }
        kind => {
            let body = match kind {
                0o040_000 => Body::Folder,
                0o120_000 => {
                    Body::Link(readlinkat(&spot.dir, spot.name.as_slice(), Vec::new())?.into_bytes())
                }
                kind => Body::Special(kind),
            };
            (body, spot_xattrs(spot)?, spot.stat()?)
        }
    };
    if !Witness::of(&after).same(&Witness::of(found)) {
        return Ok(None);
    }
    let meta = Meta {
        mode: found.stx_mode & 0o7777,
        uid: found.stx_uid,
        gid: found.stx_gid,
        mtime: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
        xattrs: attributes,
    };
    Ok(Some(Object { meta, body }))
}

fn stat_open(file: &File) -> Result<Statx, Errno> {
    use rustix::fs::{AtFlags, StatxFlags};
    rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
}

/// Reads the content; none when it is shorter than it said.
fn content(file: &File, size: u64, stop: &Stop, keep: &mut dyn Bytes) -> Result<Option<Content>, Trouble> {
    let mut hasher = blake3::Hasher::new();
    let data = segments(file, size)?;
    let longest = data.iter().map(|(_, len)| *len).max().unwrap_or_default();
    let mut buffer = vec![0_u8; CHUNK.min(usize::try_from(longest).unwrap_or(CHUNK))];
    let mut at = 0;
    for (start, len) in &data {
        zeros(&mut hasher, start - at, stop)?;
        at = *start;
        let end = start + len;
        while at < end {
            stop.check()?;
            let want = buffer.len().min(usize::try_from(end - at).unwrap_or(CHUNK));
            let Some(part) = buffer.get_mut(..want) else { return Ok(None) };
            if let Err(e) = file.read_exact_at(part, at) {
                return match e.kind() {
                    std::io::ErrorKind::UnexpectedEof => Ok(None),
                    _ => Err(Errno::from_io_error(&e).unwrap_or(Errno::IO).into()),
                };
            }
            hasher.update(part);
            keep.chunk(at, part)?;
            at += want as u64;
        }
    }
    zeros(&mut hasher, size - at, stop)?;
    Ok(Some(Content { size, hash: *hasher.finalize().as_bytes(), data, stored: None }))
}

/// Hashes a hole.
pub(super) fn zeros(hasher: &mut blake3::Hasher, mut len: u64, stop: &Stop) -> Result<(), Error> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    while len > 0 {
        let part = usize::try_from(len).unwrap_or(ZEROS.len()).min(ZEROS.len());
        hasher.update(ZEROS.get(..part).unwrap_or_default());
        len -= part as u64;
        if len.is_multiple_of(1 << 24) {
            stop.check()?;
        }
    }
    Ok(())
}

/// Where a file has data. A file system that does not know says: everywhere.
fn segments(file: &File, size: u64) -> Result<Vec<(u64, u64)>, Errno> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start.max(at),
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) if at == 0 => return Ok(vec![(0, size)]),
            Err(e) => return Err(e),
        };
        let end = seek(file, SeekFrom::Hole(start))?.min(size);
        if end <= start {
            break;
        }
        found.push((start, end - start));
        at = end;
    }
    Ok(found)
}

/// Extended attributes of what stands at `spot`, which is not followed.
pub(super) fn spot_xattrs(spot: &Spot) -> Result<Attributes, Errno> {
    let path = spot.proc_path();
    xattrs(|list| llistxattr(&path, list), |name, value| lgetxattr(&path, name, value))
}

fn xattrs(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Attributes, Errno> {
    let names = match whole(&list) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        match whole(|value| get(name, value)) {
            Ok(value) => found.push((name.to_vec(), value)),
            // Gone meanwhile.
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e),
        }
    }
    found.sort();
    Ok(found)
}

/// Linux bounds a list of names and a value to 64 KiB each.
fn whole(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0_u8; 256];
    match read(&mut small) {
        Ok(len) => Ok(small.get(..len).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0_u8; 1 << 16];
            let len = read(&mut large)?;
            large.truncate(len);
            Ok(large)
        }
        Err(e) => Err(e),
    }
}

/// The witness of a name in an open folder; none when nothing is there.
pub(super) fn witness(dir: &rustix::fd::OwnedFd, name: &[u8]) -> Result<Option<Witness>, Errno> {
    match stat(dir, name) {
        Ok(found) => Ok(Some(Witness::of(&found))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}
