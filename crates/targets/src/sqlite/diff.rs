//! The difference between two states of a table, seen through two connections.

use super::{
    connect::{Clock, Fault},
    schema::Shape,
    value,
};
use crate::Cell;
use rusqlite::{Connection, OptionalExtension as _, Row, Statement};

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

/// Two cursors in the order of the rowid, from the first to the last.
fn merge(
    (old, new): (&Connection, &Connection),
    shape: &Shape,
    rowid: &str,
    ends: (i64, i64),
    clock: &Clock,
    each: &mut Each<'_>,
) -> Result<(), Fault> {
    let sql = format!("{} WHERE {rowid} BETWEEN ?1 AND ?2 ORDER BY {rowid}", shape.select(None));
    let (mut old, mut new) = (old.prepare(&sql)?, new.prepare(&sql)?);
    let (mut olds, mut news) = (old.query(ends)?, new.query(ends)?);
    let read = |row: Option<&Row<'_>>| -> Result<Option<(i64, Vec<u8>)>, Fault> {
        Ok(row.map(|row| Ok::<_, rusqlite::Error>((row.get(0)?, shape.encode(row)?))).transpose()?)
    };
    let (mut before, mut after) = (read(olds.next()?)?, read(news.next()?)?);
    loop {
        clock.check()?;
        let order = match (&before, &after) {
            (None, None) => return Ok(()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let gone = before.take_if(|_| order.is_le());
        let come = after.take_if(|_| order.is_ge());
        tell(
            gone.as_ref().map(|(_, row)| row.as_slice()),
            come.as_ref().map(|(_, row)| row.as_slice()),
            each,
        )?;
        if gone.is_some() {
            before = read(olds.next()?)?;
        }
        if come.is_some() {
            after = read(news.next()?)?;
        }
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
