//! Writes a file back from the pieces in a snapshot, and checks that they are what was captured.

use super::{look::zeros, object::Content, plan::Item, work::Stop};
use crate::Error;
use rustix::io::Errno;
use std::{fs::File, os::unix::fs::FileExt as _};

/// Whose fault it is: that of the disk, or of the snapshot.
pub(super) enum Trouble {
    System(Errno),
    Ours(Error),
}

impl From<Error> for Trouble {
    fn from(e: Error) -> Self {
        Self::Ours(e)
    }
}

pub(super) fn errno(e: &std::io::Error) -> Errno {
    Errno::from_io_error(e).unwrap_or(Errno::IO)
}

/// A file that is being written from pieces that come in order: with data and holes where the record has
/// them, whatever the file looked like that the pieces are from.
pub(super) struct Writing<'a> {
    pub(super) number: u64,
    file: File,
    content: &'a Content,
    hasher: blake3::Hasher,
    at: u64,
}

impl<'a> Writing<'a> {
    pub(super) fn new(number: u64, file: File, content: &'a Content) -> Self {
        Self { number, file, content, hasher: blake3::Hasher::new(), at: 0 }
    }

    pub(super) fn chunk(&mut self, at: u64, bytes: &[u8], stop: &Stop) -> Result<(), Trouble> {
        self.zeros(at, stop)?;
        self.hasher.update(bytes);
        let end = at + bytes.len() as u64;
        for (from, to) in within(self.content, at, end) {
            let part = usize::try_from(from - at).ok().zip(usize::try_from(to - at).ok());
            if let Some(part) = part.and_then(|(from, to)| bytes.get(from..to)) {
                self.file.write_all_at(part, from).map_err(|e| Trouble::System(errno(&e)))?;
            }
        }
        self.at = end;
        Ok(())
    }

    /// Up to `to` there are zeros: a hole, or data that is not in the snapshot because it is a hole elsewhere.
    fn zeros(&mut self, to: u64, stop: &Stop) -> Result<(), Trouble> {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        let Some(len) = to.checked_sub(self.at) else {
            return Err(Error::Snapshot("the pieces of a file are out of order".to_owned()).into());
        };
        zeros(&mut self.hasher, len, stop)?;
        for (from, to) in within(self.content, self.at, to) {
            let mut at = from;
            while at < to {
                let len = usize::try_from(to - at).unwrap_or(ZEROS.len()).min(ZEROS.len());
                let part = ZEROS.get(..len).unwrap_or_default();
                self.file.write_all_at(part, at).map_err(|e| Trouble::System(errno(&e)))?;
                at += len as u64;
            }
        }
        self.at = to;
        Ok(())
    }

    pub(super) fn finish(mut self, item: &Item, stop: &Stop) -> Result<File, Trouble> {
        self.zeros(self.content.size.max(self.at), stop)?;
        if self.at != self.content.size || *self.hasher.finalize().as_bytes() != self.content.hash {
            return Err(Error::Snapshot(format!(
                "the content of {} in the snapshot is not what its hash says; nothing was changed",
                item.path.show()
            ))
            .into());
        }
        self.file.set_len(self.content.size).map_err(|e| Trouble::System(errno(&e)))?;
        Ok(self.file)
    }
}

/// The parts of `from..to` that are data.
fn within(content: &Content, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
    let parts = content.data.iter().map(move |(at, len)| (from.max(*at), to.min(at + len)));
    parts.filter(|(from, to)| from < to)
}
