//! The records of a snapshot, some at a time, so that memory does not grow with them.
//!
//! Where the snapshot holds them in the order of the rowid, with both images side by side, they are taken straight from
//! it; else from a temporary table of the connection, into which they were put by their keys.

use super::{
    connect::Fault,
    load::{Loaded, Records, blob},
    schema::Shape,
};
use crate::{
    Error, RowReader,
    snapshot::{Block, Blocks, Side},
};
use rusqlite::types::Value;
use std::ops::Range;

/// Records of a batch from a temporary table, at most.
const MOST_RECORDS: usize = 4_096;
/// Bytes of a batch from a temporary table, about.
const MOST_BYTES: usize = 1 << 20;

/// Where an image is, if there is one.
type Place = Option<Range<usize>>;

/// Some records of one table: what they were before, and after.
#[derive(Default)]
pub(super) struct Batch {
    before: Vec<u8>,
    after: Vec<u8>,
    /// In order, of tables with a rowid.
    rowids: Vec<i64>,
    places: Vec<(Place, Place)>,
}

impl Batch {
    /// The rowids, in order; none of tables without.
    pub(super) fn rowids(&self) -> &[i64] {
        &self.rowids
    }

    /// Before and after.
    pub(super) fn images(&self) -> impl Iterator<Item = (Option<&[u8]>, Option<&[u8]>)> {
        let of = |place: &Place, bytes| -> Option<&[u8]> {
            place.clone().and_then(|range| <[u8]>::get(bytes, range))
        };
        self.places.iter().map(move |(before, after)| (of(before, &self.before), of(after, &self.after)))
    }

    /// Both images of the same records, in the order of the rowid, which goes on after `last`.
    fn pair(then: &Shape, before: Vec<u8>, after: Vec<u8>, last: &mut Option<i64>) -> Result<Self, Error> {
        let (mut rowids, mut places) = (Vec::new(), Vec::new());
        let (mut befores, mut afters) = (Head::new(then, &before)?, Head::new(then, &after)?);
        while let Some(rowid) = befores.rowid.into_iter().chain(afters.rowid).min() {
            if last.is_some_and(|last| last >= rowid) {
                return Err(Error::Snapshot(format!("the records of {} are out of order", then.name)));
            }
            *last = Some(rowid);
            rowids.push(rowid);
            places.push((befores.take(rowid)?, afters.take(rowid)?));
        }
        Ok(Self { before, after, rowids, places })
    }
}

/// The next row of a block.
struct Head<'b> {
    rows: RowReader<'b>,
    cells: Vec<crate::Cell<'b>>,
    then: &'b Shape,
    rowid: Option<i64>,
    place: Range<usize>,
}

impl<'b> Head<'b> {
    fn new(then: &'b Shape, block: &'b [u8]) -> Result<Self, Error> {
        let mut head =
            Self { rows: RowReader::new(block), cells: Vec::new(), then, rowid: None, place: 0..0 };
        head.step()?;
        Ok(head)
    }

    fn step(&mut self) -> Result<(), Error> {
        let Some(row) = self.rows.next_into(&mut self.cells).transpose()? else {
            self.rowid = None;
            return Ok(());
        };
        self.place = self.place.end..self.place.end + row.len();
        self.rowid = Some(self.then.rowid_of(&self.cells)?);
        Ok(())
    }

    /// Where it is, if it is this one, and goes on then.
    fn take(&mut self, rowid: i64) -> Result<Option<Range<usize>>, Error> {
        if self.rowid != Some(rowid) {
            return Ok(None);
        }
        let place = self.place.clone();
        self.step()?;
        Ok(Some(place))
    }
}

/// Goes over all tables, one after the other.
pub(super) struct Walk<'r> {
    records: &'r Records<'r>,
    /// The rest of the snapshot, where some table is taken from it.
    blocks: Option<Blocks>,
    /// What was read too early.
    ahead: Option<Block>,
    /// The table that was asked for last.
    at: usize,
    /// The last record of that.
    last: Option<i64>,
    last_key: Option<Value>,
    /// Images of that.
    read: (u64, u64),
}

impl<'r> Walk<'r> {
    pub(super) fn new(records: &'r Records<'r>) -> Self {
        let straight = records.tables.iter().any(|table| table.temp.is_none());
        Self {
            records,
            blocks: straight.then(|| records.snapshot.blocks()),
            ahead: None,
            at: 0,
            last: None,
            last_key: None,
            read: (0, 0),
        }
    }

    /// The next records of a table; none after the last. Tables come in the order of the snapshot.
    pub(super) fn next(&mut self, table: &Loaded) -> Result<Option<Batch>, Fault> {
        if self.at != table.at {
            (self.at, self.last, self.last_key, self.read) = (table.at, None, None, (0, 0));
        }
        self.records.clock.check()?;
        match &table.temp {
            Some(temp) => self.loaded(table, temp),
            None => Ok(self.straight(table)?),
        }
    }

    fn straight(&mut self, table: &Loaded) -> Result<Option<Batch>, Error> {
        let Some(first) = self.block()? else {
            return match self.read == table.images {
                true => Ok(None),
                false => Err(Error::Snapshot("the snapshot could not be read to its end".to_owned())),
            };
        };
        let (before, after) = match first.side {
            Side::After => (Vec::new(), first.data),
            Side::Before => match self.block()? {
                Some(second) if second.side == Side::After => {
                    self.read.1 += second.rows;
                    (first.data, second.data)
                }
                other => {
                    self.ahead = other.or_else(|| self.ahead.take());
                    (first.data, Vec::new())
                }
            },
        };
        match first.side {
            Side::Before => self.read.0 += first.rows,
            Side::After => self.read.1 += first.rows,
        }
        Ok(Some(Batch::pair(&table.then, before, after, &mut self.last)?))
    }

    /// The next block of the present table.
    fn block(&mut self) -> Result<Option<Block>, Error> {
        let Some(blocks) = &mut self.blocks else { return Ok(None) };
        loop {
            let block = match self.ahead.take() {
                Some(block) => block,
                None => match blocks.next_blocking()? {
                    Some(block) => block,
                    None => return Ok(None),
                },
            };
            match self.records.at(&block)? {
                at if at == self.at => return Ok(Some(block)),
                at if at > self.at => {
                    self.ahead = Some(block);
                    return Ok(None);
                }
                // Of a table that is in a temporary one.
                _ => {}
            }
        }
    }

    fn loaded(&mut self, table: &Loaded, temp: &str) -> Result<Option<Batch>, Fault> {
        let from = if self.last_key.is_some() { "WHERE k > ?1" } else { "" };
        let mut rows = self
            .records
            .holder
            .prepare(&format!("SELECT k, before, after FROM temp.{temp} {from} ORDER BY k"))?;
        if let Some(key) = &self.last_key {
            rows.raw_bind_parameter(1, key)?;
        }
        let mut batch = Batch::default();
        let mut rows = rows.raw_query();
        while batch.places.len() < MOST_RECORDS && batch.before.len() + batch.after.len() < MOST_BYTES {
            let Some(row) = rows.next()? else { break };
            let key: Value = row.get(0)?;
            if let (&Value::Integer(rowid), Some(_)) = (&key, table.then.rowid()) {
                batch.rowids.push(rowid);
            }
            self.last_key = Some(key);
            let mut add = |image: Option<&[u8]>, to: fn(&mut Batch) -> &mut Vec<u8>| {
                let bytes = to(&mut batch);
                let begin = bytes.len();
                image.map(|image| {
                    bytes.extend_from_slice(image);
                    begin..bytes.len()
                })
            };
            let before = add(blob(row, 1)?, |batch| &mut batch.before);
            let after = add(blob(row, 2)?, |batch| &mut batch.after);
            batch.places.push((before, after));
        }
        Ok((!batch.places.is_empty()).then_some(batch))
    }
}
