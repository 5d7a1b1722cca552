//! Writing past the page cache, where the file system lets us.
//!
//! A frame of some kilobytes is on the disk in half the time, for less than half the CPU: no pages have to be found,
//! marked, written back and waited for one by one. What is written starts and ends at multiples of a block, and comes
//! from memory that does. A file system that takes no such writes, or does not say so, is written to as usual.

use rustix::fs::{AtFlags, OFlags, StatxFlags};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

/// The largest block that is worth padding to, in bytes.
const BLOCK: usize = 4096;
/// Bytes handed over at once, a multiple of every block.
const CHUNK: usize = 64 * BLOCK;

/// A file that is written in whole blocks.
pub(crate) struct Direct {
    pub(crate) file: File,
    /// What the offset and length of a write must be multiples of; 1 where the page cache takes it.
    block: usize,
    /// Room for a chunk that begins at a multiple of [`BLOCK`].
    memory: Vec<u8>,
}

impl Direct {
    /// Opens a file for writing and creates it where there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let open = |flags: OFlags| {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            options.custom_flags(flags.bits().cast_signed()).open(path)
        };
        let usual = open(OFlags::empty())?;
        let direct = block_of(&usual).and_then(|block| Some((open(OFlags::DIRECT).ok()?, block)));
        Ok(match direct {
            Some((file, block)) => Self { file, block, memory: vec![0; CHUNK + BLOCK] },
            None => Self::through_the_cache(usual),
        })
    }

    /// Writes a file as usual.
    pub(crate) const fn through_the_cache(file: File) -> Self {
        Self { file, block: 1, memory: Vec::new() }
    }

    /// What the offset and length of each write must be multiples of, in bytes.
    pub(crate) const fn block(&self) -> usize {
        self.block
    }

    /// Writes whole blocks. They are on the disk after [`Direct::sync`].
    pub(crate) fn write(&mut self, bytes: &[u8], mut at: u64) -> io::Result<()> {
        if self.block == 1 {
            return self.file.write_all_at(bytes, at);
        }
        let start = self.memory.as_ptr().align_offset(BLOCK);
        for chunk in bytes.chunks(CHUNK) {
            let room = self.memory.get_mut(start..).and_then(|room| room.get_mut(..chunk.len()));
            let room = room.ok_or_else(|| io::Error::other("memory that is not where it was asked for"))?;
            room.copy_from_slice(chunk);
            self.file.write_all_at(room, at)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }

    /// Waits until what was written is on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The blocks of a file that can be written past the page cache. Kernels say so since 6.1.
fn block_of(file: &File) -> Option<usize> {
    let said = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let said = StatxFlags::from_bits_retain(said.stx_mask).contains(StatxFlags::DIOALIGN).then_some(said)?;
    let block = usize::try_from(said.stx_dio_offset_align.max(said.stx_dio_mem_align)).ok()?;
    (said.stx_dio_offset_align > 0 && block.is_power_of_two() && block <= BLOCK).then_some(block)
}
