//! The difference between two states of a table, seen through two connections.

use super::{
    connect::{Clock, Fault},
    schema::Shape,
    value,
    walk::Batch,
};
use crate::{Cell, RowWriter};
use rusqlite::{Connection, OptionalExtension as _, Rows, Statement};
use std::cmp::Ordering;

/// Records between two looks at the clock.
const TURNS: u64 = 256;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// These rowids, in order: nothing else can differ.
    Keys(Vec<i64>),
    /// Everything.
    Whole,
}

/// Finds records by their key.
pub(super) struct Finder<'c> {
    statement: Statement<'c>,
    shape: &'c Shape,
}

impl<'c> Finder<'c> {
    pub(super) fn new(connection: &'c Connection, shape: &'c Shape) -> Result<Self, Fault> {
        let statement = connection.prepare(&format!("{} WHERE {}", shape.select(None), shape.by_key()))?;
        Ok(Self { statement, shape })
    }

    /// The record with this rowid.
    pub(super) fn by_rowid(&mut self, rowid: i64) -> Result<Option<Vec<u8>>, Fault> {
        let shape = self.shape;
        Ok(self.statement.query_row([rowid], |row| shape.encode(row)).optional()?)
    }

    /// The record with exactly this key. A key that merely counts as equal (`a` and `A` under NOCASE, 1 and
    /// 1.0) is another record.
    pub(super) fn by_key(&mut self, key: &[Cell<'_>]) -> Result<Option<Vec<u8>>, Fault> {
        for (index, cell) in key.iter().enumerate() {
            value::bind_cell(&mut self.statement, index + 1, cell)?;
        }
        let mut rows = self.statement.raw_query();
        let Some(found) = rows.next()?.map(|row| self.shape.encode(row)).transpose()? else {
            return Ok(None);
        };
        let same = self.shape.key_of(&value::cells(&found)?)? == key;
        Ok(same.then_some(found))
    }
}

/// What is told of each record that differs: before and after.
pub(super) type Each<'a> = dyn FnMut(Option<&[u8]>, Option<&[u8]>) -> Result<(), Fault> + 'a;

/// Tells `each` about every record of the table that differs between `old` and `new`. Memory does not grow
/// with the table.
pub(super) fn differences(
    (old, new): (&Connection, &Connection),
    shape: &Shape,
    scan: &Scan,
    clock: &Clock,
    each: &mut Each<'_>,
) -> Result<(), Fault> {
    match (scan, shape.rowid()) {
        (Scan::Keys(keys), Some(rowid)) if dense(keys) => {
            merge((old, new), shape, rowid, ends(keys), clock, each)
        }
        (Scan::Keys(keys), _) => {
            let (mut old, mut new) = (Finder::new(old, shape)?, Finder::new(new, shape)?);
            for key in keys {
                clock.check()?;
                tell(old.by_rowid(*key)?.as_deref(), new.by_rowid(*key)?.as_deref(), each)?;
            }
            Ok(())
        }
        (Scan::Whole, Some(rowid)) => merge((old, new), shape, rowid, (i64::MIN, i64::MAX), clock, each),
        (Scan::Whole, None) => both_ways((old, new), shape, each),
    }
}

/// Whether it is quicker to walk over all records between the first key and the last than to look for each.
fn dense(keys: &[i64]) -> bool {
    let (first, last) = ends(keys);
    keys.len() > 64 && last.abs_diff(first) / 4 < keys.len() as u64
}

/// The first key and the last, of keys in order.
fn ends(keys: &[i64]) -> (i64, i64) {
    (keys.first().copied().unwrap_or(0), keys.last().copied().unwrap_or(-1))
}

fn tell(before: Option<&[u8]>, after: Option<&[u8]>, each: &mut Each<'_>) -> Result<(), Fault> {
    if before == after { Ok(()) } else { each(before, after) }
}

/// Over the records of one state, in the order of the rowid.
struct Cursor<'s> {
    rows: Rows<'s>,
    shape: &'s Shape,
    rowid: Option<i64>,
    row: RowWriter,
}

impl<'s> Cursor<'s> {
    /// At the first of `rows`, which are those of [`Shape::select`].
    fn new(rows: Rows<'s>, shape: &'s Shape) -> Result<Self, Fault> {
        let mut cursor = Self { rows, shape, rowid: None, row: RowWriter::default() };
        cursor.step()?;
        Ok(cursor)
    }

    fn step(&mut self) -> Result<(), Fault> {
        self.row.clear();
        self.rowid = match self.rows.next()? {
            Some(row) => {
                self.shape.encode_into(row, &mut self.row)?;
                Some(row.get(0)?)
            }
            None => None,
        };
        Ok(())
    }
}

/// A `SELECT` of the records between two rowids, in their order.
fn between(shape: &Shape, rowid: &str) -> String {
    format!("{} WHERE {rowid} BETWEEN ?1 AND ?2 ORDER BY {rowid}", shape.select(None))
}

/// Two cursors in the order of the rowid, from the first to the last.
fn merge(
    (old, new): (&Connection, &Connection),
    shape: &Shape,
    rowid: &str,
    ends: (i64, i64),
    clock: &Clock,
    each: &mut Each<'_>,
) -> Result<(), Fault> {
    let sql = between(shape, rowid);
    let (mut old, mut new) = (old.prepare(&sql)?, new.prepare(&sql)?);
    let (mut before, mut after) =
        (Cursor::new(old.query(ends)?, shape)?, Cursor::new(new.query(ends)?, shape)?);
    for turn in 0_u64.. {
        if turn % TURNS == 0 {
            clock.check()?;
        }
        let order = match (before.rowid, after.rowid) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.cmp(&b),
        };
        tell(order.is_le().then(|| before.row.bytes()), order.is_ge().then(|| after.row.bytes()), each)?;
        if order.is_le() {
            before.step()?;
        }
        if order.is_ge() {
            after.step()?;
        }
    }
    Ok(())
}

/// Rows of which some are not there, in one piece of memory.
#[derive(Default)]
pub(super) struct Found {
    rows: RowWriter,
    /// Whether it is there, and where it ends.
    ends: Vec<(bool, usize)>,
}

impl Found {
    /// The row at this place.
    pub(super) fn get(&self, at: usize) -> Option<&[u8]> {
        let begin = at.checked_sub(1).map_or(Some(0), |last| self.ends.get(last).map(|(_, end)| *end))?;
        let (there, end) = self.ends.get(at)?;
        there.then(|| self.rows.bytes().get(begin..*end))?
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.ends.clear();
    }

    fn end(&mut self, there: bool) {
        self.ends.push((there, self.rows.len()));
    }
}

/// Looks up many records at once.
pub(super) struct Lookup<'c> {
    one: Finder<'c>,
    /// Where there is a rowid.
    range: Option<Statement<'c>>,
}

impl<'c> Lookup<'c> {
    pub(super) fn new(connection: &'c Connection, shape: &'c Shape) -> Result<Self, Fault> {
        let range = shape.rowid().map(|rowid| connection.prepare(&between(shape, rowid))).transpose()?;
        Ok(Self { one: Finder::new(connection, shape)?, range })
    }

    /// Puts the records of a batch, as they stand, into `found`; `then` is the shape of what the batch holds.
    pub(super) fn fetch(&mut self, batch: &Batch, then: &Shape, found: &mut Found) -> Result<(), Fault> {
        found.clear();
        let keys = batch.rowids();
        let shape = self.one.shape;
        match &mut self.range {
            Some(range) if dense(keys) => {
                let mut cursor = Cursor::new(range.query(ends(keys))?, shape)?;
                for key in keys {
                    while cursor.rowid.is_some_and(|rowid| rowid < *key) {
                        cursor.step()?;
                    }
                    let there = cursor.rowid == Some(*key);
                    if there {
                        found.rows.append(cursor.row.bytes());
                    }
                    found.end(there);
                }
            }
            _ => {
                for (before, after) in batch.images() {
                    let known = before.or(after).unwrap_or_default();
                    let row = self.one.by_key(&then.key_of(&value::cells(known)?)?)?;
                    found.rows.append(row.as_deref().unwrap_or_default());
                    found.end(row.is_some());
                }
            }
        }
        Ok(())
    }
}

/// Without a rowid the order of keys is the collation's business: each state is walked, and the other asked.
fn both_ways(
    (old, new): (&Connection, &Connection),
    shape: &Shape,
    each: &mut Each<'_>,
) -> Result<(), Fault> {
    let walk =
        |from: &Connection, there: &Connection, forward: bool, each: &mut Each<'_>| -> Result<(), Fault> {
            let mut finder = Finder::new(there, shape)?;
            let mut all = from.prepare(&shape.select(None))?;
            let mut rows = all.query([])?;
            while let Some(row) = rows.next()? {
                let here = shape.encode(row)?;
                let other = finder.by_key(&shape.key_of(&value::cells(&here)?)?)?;
                match (forward, other) {
                    (true, other) => tell(Some(&here), other.as_deref(), each)?,
                    (false, None) => each(None, Some(&here))?,
                    (false, Some(_)) => {}
                }
            }
            Ok(())
        };
    walk(old, new, true, each)?;
    walk(new, old, false, each)
}
