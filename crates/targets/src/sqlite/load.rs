//! A snapshot beside the file: its records in temporary tables of the connection, by key, so that memory
//! does not grow with them.

use super::{
    connect::{Clock, Fault},
    execute::Moved,
    schema::{Catalog, Shape, schema_version},
    sequence, value,
};
use crate::{
    Cell, Error, RowReader,
    snapshot::{Side, Snapshot},
};
use rusqlite::{
    Connection, Row, ToSql,
    types::{ToSqlOutput, ValueRef},
};
use std::collections::HashMap;

/// What names a record in a temporary table.
pub(super) enum Key {
    Rowid(i64),
    Cells(Vec<u8>),
}

impl ToSql for Key {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Rowid(rowid) => ValueRef::Integer(*rowid),
            Self::Cells(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl Key {
    /// The key of a record.
    pub(super) fn of(shape: &Shape, row: &[Cell<'_>]) -> Result<Self, Error> {
        let cells = shape.key_of(row)?;
        match (shape.rowid(), cells.as_slice()) {
            (Some(_), [cell]) => match value::value(cell)? {
                ValueRef::Integer(rowid) => Ok(Self::Rowid(rowid)),
                _ => Err(Error::Snapshot(format!("a record of {} has no rowid", shape.name))),
            },
            _ => Ok(Self::Cells(value::join(cells.into_iter()))),
        }
    }
}

/// A table of the snapshot, and the same table as it is today.
pub(super) struct Loaded {
    /// The temporary table.
    pub(super) temp: String,
    /// As the snapshot describes it.
    pub(super) then: Shape,
    /// As it is.
    pub(super) now: Shape,
    /// For each cell of `then`, its place in `now`.
    places: Vec<usize>,
}

impl Loaded {
    /// The recorded cells of a record as it is today.
    pub(super) fn project(&self, row: &[u8]) -> Result<Vec<u8>, Fault> {
        if self.places.len() == self.now.cells() && self.places.iter().enumerate().all(|(a, b)| a == *b) {
            return Ok(row.to_vec());
        }
        let cells = value::cells(row)?;
        let some: Vec<Cell<'_>> = self.places.iter().filter_map(|p| cells.get(*p).copied()).collect();
        Ok(value::join(some.into_iter()))
    }

    /// A record as it was, in the cells of today; what was not recorded is taken from `present`.
    pub(super) fn rebuild<'a>(
        &self,
        before: &[Cell<'a>],
        present: Option<&[Cell<'a>]>,
    ) -> Vec<Option<Cell<'a>>> {
        let mut cells: Vec<Option<Cell<'a>>> =
            (0..self.now.cells()).map(|place| present.and_then(|cells| cells.get(place).copied())).collect();
        for (cell, place) in before.iter().zip(&self.places) {
            if let Some(slot) = cells.get_mut(*place) {
                *slot = Some(*cell);
            }
        }
        cells
    }

    fn new(temp: String, then: Shape, now: Shape) -> Result<Self, Error> {
        let changed = |what: &str| {
            Err(Error::Irreversible(format!(
                "the table {} has changed its shape since the snapshot: {what}; restore its records by hand from an export of the snapshot",
                then.name
            )))
        };
        let (old, new) = (then.names(), now.names());
        let mut places = Vec::with_capacity(old.len());
        for name in &old {
            match new.iter().position(|n| n.eq_ignore_ascii_case(name)) {
                Some(place) => places.push(place),
                None => return changed(&format!("the column {name} is gone")),
            }
        }
        for column in &then.columns {
            let present = now.columns.iter().find(|c| c.name.eq_ignore_ascii_case(&column.name));
            if present.is_none_or(|c| c.sort != column.sort) {
                return changed(&format!("the column {} has another type", column.name));
            }
        }
        let moved: Vec<_> = then.key.iter().filter_map(|k| places.get(*k).copied()).collect();
        if moved != now.key || then.rowid().is_some() != now.rowid().is_some() {
            return changed("its primary key is another one");
        }
        Ok(Self { temp, then, now, places })
    }
}

/// The whole snapshot.
pub(super) struct Records {
    pub(super) tables: Vec<Loaded>,
    pub(super) sequences: Vec<Moved>,
    pub(super) total: u64,
}

impl Records {
    /// Reads `snapshot` into temporary tables.
    pub(super) fn load(connection: &Connection, snapshot: &Snapshot, clock: &Clock) -> Result<Self, Fault> {
        let header = snapshot.header()?;
        if header.kind != "sqlite" {
            return Err(Error::Snapshot(format!("this is a snapshot of a {} target", header.kind)).into());
        }
        let catalog = Catalog::load(connection)?;
        let mut records = Self { tables: Vec::new(), sequences: Vec::new(), total: 0 };
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut places: HashMap<(usize, u32), usize> = HashMap::new();
        for part in 0..snapshot.parts() {
            for table in snapshot.tables(part)? {
                let at = match known.get(&table.resource) {
                    Some(at) => *at,
                    None => {
                        let at = records.tables.len();
                        records.tables.push(announce(connection, &catalog, at, &table.shape)?);
                        known.insert(table.resource.clone(), at);
                        at
                    }
                };
                places.insert((part, table.index), at);
            }
            if let Some(list) = snapshot.footer(part)?.system.get("sequences") {
                let list: Vec<Moved> = serde_json::from_value(list.clone())
                    .map_err(|_| Error::Snapshot("the counters in the snapshot make no sense".to_owned()))?;
                records.sequences.extend(list);
            }
        }
        let mut blocks = snapshot.blocks();
        let (mut read, mut expected) = (0_u64, 0_u64);
        for part in 0..snapshot.parts() {
            expected += snapshot.footer(part)?.tables.iter().map(|t| t.before + t.after).sum::<u64>();
        }
        while let Some(block) = blocks.next_blocking()? {
            clock.check()?;
            read += block.rows;
            let table = places.get(&(block.part, block.table)).and_then(|at| records.tables.get(*at));
            let table = table.ok_or_else(|| Error::Snapshot("rows of no table".to_owned()))?;
            table.insert(connection, block.side, &block.data)?;
        }
        if read != expected {
            return Err(Error::Snapshot("the snapshot could not be read to its end".to_owned()).into());
        }
        for table in &records.tables {
            let sql = format!("SELECT count(*) FROM temp.{}", table.temp);
            let rows: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
            records.total += u64::try_from(rows).unwrap_or_default();
        }
        Ok(records)
    }
}

impl Records {
    /// Refuses what is known by nothing but its rowid, once that may be another's.
    pub(super) fn same_rowids(&self, connection: &Connection, snapshot: &Snapshot) -> Result<(), Fault> {
        let then = snapshot.footer(0)?.system.get("schema_version").and_then(serde_json::Value::as_i64);
        if then.is_none() || then == Some(schema_version(connection)?) {
            return Ok(());
        }
        for table in &self.tables {
            if table.now.is_loose(connection)? {
                return Err(Error::Irreversible(format!(
                    "the records of {} have no key, only the number that SQLite gives them (rowid), and since the snapshot the file was vacuumed \
                     or its tables were changed, so that these numbers may be others'; export the snapshot and have a person put the records back, \
                     and give the table a PRIMARY KEY",
                    table.then.name
                ))
                .into());
            }
        }
        Ok(())
    }
}

impl Loaded {
    /// Walks over the records: before, after.
    pub(super) fn each(
        &self,
        connection: &Connection,
        clock: &Clock,
        mut work: impl FnMut(Option<&[u8]>, Option<&[u8]>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut rows = connection.prepare(&format!("SELECT before, after FROM temp.{}", self.temp))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            clock.check()?;
            work(blob(row, 0)?, blob(row, 1)?)?;
        }
        Ok(())
    }

    fn insert(&self, connection: &Connection, side: Side, data: &[u8]) -> Result<(), Fault> {
        let column = match side {
            Side::Before => "before",
            Side::After => "after",
        };
        let mut insert = connection.prepare(&format!(
            "INSERT INTO temp.{} (k, {column}) VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET {column} = ?2",
            self.temp
        ))?;
        for row in RowReader::new(data) {
            let row = row?;
            if row.len() != self.then.cells() {
                return Err(
                    Error::Snapshot(format!("a record of {} has the wrong length", self.then.name)).into()
                );
            }
            let key = Key::of(&self.then, &row)?;
            insert.execute((key, value::join(row.into_iter())))?;
        }
        Ok(())
    }
}

fn announce(
    connection: &Connection,
    catalog: &Catalog,
    at: usize,
    shape: &serde_json::Value,
) -> Result<Loaded, Fault> {
    let then = Shape::from_json(shape)?;
    let now = catalog.shape(connection, &then.name).map_err(|fault| match fault {
        Fault::Other(Error::Invalid(_) | Error::Unmeasurable(_)) => Error::Irreversible(format!(
            "the table {} is gone, or is not a table any more; create it again to restore its records",
            then.name
        ))
        .into(),
        other => other,
    })?;
    let key = if then.rowid().is_some() { "INTEGER" } else { "BLOB" };
    let temp = format!("checkrein_record_{at}");
    connection
        .execute_batch(&format!("CREATE TEMP TABLE {temp} (k {key} PRIMARY KEY, before BLOB, after BLOB)"))?;
    Ok(Loaded::new(temp, then, now)?)
}

/// A counter, as it should be after the rollback.
pub(super) struct Rewind {
    pub(super) table: String,
    /// As it is now.
    pub(super) now: Option<i64>,
    /// As it should be.
    pub(super) to: Option<i64>,
}

impl Records {
    /// What becomes of the counters: back to what they were, unless somebody used them since.
    pub(super) fn rewinds(
        &self,
        connection: &Connection,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Rewind>, Fault> {
        let mut names: Vec<&str> = self.tables.iter().map(|t| t.then.name.as_str()).collect();
        // An INSERT that inserts nothing moves the counter of a table without records in the snapshot.
        names.extend(self.sequences.iter().map(|(table, ..)| table.as_str()));
        names.sort_unstable();
        names.dedup();
        let mut rewinds = Vec::new();
        for name in names {
            let now = sequence::read(connection, name)?;
            let moved = self.sequences.iter().find(|(table, ..)| table == name);
            let to = match moved {
                Some((_, before, after)) if *after == now => *before,
                Some((_, before, _)) if *before == now => now,
                Some(_) => {
                    notes.push(format!(
                        "the counter of {name} (AUTOINCREMENT) was used since, so it is not set back"
                    ));
                    now
                }
                None => now,
            };
            rewinds.push(Rewind { table: name.to_owned(), now, to });
        }
        Ok(rewinds)
    }
}

/// A blob, or nothing.
pub(super) fn blob<'a>(row: &'a Row<'_>, index: usize) -> Result<Option<&'a [u8]>, Fault> {
    Ok(row.get_ref(index)?.as_blob_or_null().map_err(|e| Error::Internal(e.to_string()))?)
}
