//! What a snapshot says of files, before and after.

use super::{
    object::Record,
    path::RelPath,
    walk::Choice,
    work::{BYTES, RECORDS, Stop},
};
use crate::{
    Error, RowReader,
    snapshot::{Block, Side, Snapshot},
};
use std::collections::BTreeMap;

/// All records of a snapshot, by path.
pub(super) struct Images {
    pub(super) choice: Choice,
    pub(super) before: BTreeMap<RelPath, Record>,
    /// None: not sealed.
    pub(super) after: Option<BTreeMap<RelPath, Record>>,
}

fn holds(snapshot: &Snapshot, block: &Block, what: &str) -> Result<bool, Error> {
    let tables = snapshot.tables(block.part)?;
    let table = usize::try_from(block.table).ok().and_then(|t| tables.get(t));
    Ok(table.and_then(|t| t.shape.get("holds")).and_then(|h| h.as_str()) == Some(what))
}

impl Images {
    pub(super) fn read(snapshot: &Snapshot, stop: &Stop) -> Result<Self, Error> {
        if snapshot.header()?.kind != "files" {
            return Err(Error::Snapshot("the snapshot is not one of files".to_owned()));
        }
        let shape = snapshot.tables(0)?.first().map(|t| &t.shape);
        let choice = shape.map_or(Ok(Choice::Nothing), Choice::recorded)?;
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        let mut blocks = snapshot.blocks();
        while let Some(block) = blocks.next_blocking()? {
            stop.check()?;
            if !holds(snapshot, &block, RECORDS)? {
                continue;
            }
            let to = match block.side {
                Side::Before => &mut before,
                Side::After => &mut after,
            };
            for record in Record::read_all(&block.data) {
                let record = record?;
                to.insert(record.path.clone(), record);
            }
        }
        // A reader that died would look like a short snapshot.
        let mut promised = (0, 0);
        for part in 0..snapshot.parts() {
            for totals in &snapshot.footer(part)?.tables {
                promised = (promised.0 + totals.before, promised.1 + totals.after);
            }
        }
        if promised != (before.len() as u64, after.len() as u64) {
            return Err(Error::Snapshot("the snapshot holds fewer records than it says".to_owned()));
        }
        Ok(Self { choice, before, after: snapshot.is_sealed().then_some(after) })
    }

    /// Every path that it names, and whether it is only on the way.
    pub(super) fn paths(&self) -> BTreeMap<RelPath, bool> {
        let all = self.before.values().chain(self.after.iter().flat_map(BTreeMap::values));
        let mut paths = BTreeMap::new();
        for record in all {
            *paths.entry(record.path.clone()).or_insert(true) &= record.way;
        }
        paths
    }
}

/// Tells `each` the bytes of the before-images: number of the content, offset, bytes.
pub(super) fn contents(
    snapshot: &Snapshot,
    stop: &Stop,
    mut each: impl FnMut(u64, u64, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut blocks = snapshot.blocks();
    while let Some(block) = blocks.next_blocking()? {
        stop.check()?;
        if block.part != 0 || !holds(snapshot, &block, BYTES)? {
            continue;
        }
        for row in RowReader::new(&block.data) {
            let (number, at, bytes) = content_row(&row?)?;
            each(number, at, bytes)?;
        }
    }
    Ok(())
}

/// Number, offset and bytes of a piece of content.
pub(super) fn content_row<'a>(row: &[crate::Cell<'a>]) -> Result<(u64, u64, &'a [u8]), Error> {
    let wrong = || Error::Snapshot("the snapshot holds a piece of a file that makes no sense".to_owned());
    let [number, at, bytes] = row else { return Err(wrong()) };
    let word = |cell: &crate::Cell<'_>| cell.bytes.try_into().map(u64::from_le_bytes).map_err(|_| wrong());
    Ok((word(number)?, word(at)?, bytes.bytes))
}
