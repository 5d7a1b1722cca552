//! A snapshot beside the file: its tables as they were and as they are, and records that are not in an order of which
//! use can be made in temporary tables of the connection, by key.

use super::{
    connect::{Clock, Fault},
    execute::Moved,
    schema::{Catalog, Shape, schema_version},
    sequence, value,
};
use crate::{
    Cell, Error, RowReader,
    snapshot::{Block, Side, Snapshot},
};
use rusqlite::{
    Connection, Row, ToSql,
    types::{ToSqlOutput, ValueRef},
};
use std::{borrow::Cow, collections::HashMap};

/// Under which name a snapshot says that the records of tables with a rowid come in its order, their images in pairs of
/// blocks.
pub(super) const ORDERED: &str = "ordered";

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
        match shape.rowid() {
            Some(_) => Ok(Self::Rowid(shape.rowid_of(row)?)),
            None => Ok(Self::Cells(value::join(shape.key_of(row)?.into_iter()))),
        }
    }
}

/// A table of the snapshot, and the same table as it is today.
pub(super) struct Loaded {
    /// Its number.
    pub(super) at: usize,
    /// The temporary table; none where the records are taken from the snapshot as they come.
    pub(super) temp: Option<String>,
    /// How many before- and after-images there are.
    pub(super) images: (u64, u64),
    /// As the snapshot describes it.
    pub(super) then: Shape,
    /// As it is.
    pub(super) now: Shape,
    /// For each cell of `then`, its place in `now`.
    places: Vec<usize>,
}

impl Loaded {
    /// The recorded cells of a record as it is today.
    pub(super) fn project<'r>(&self, row: &'r [u8]) -> Result<Cow<'r, [u8]>, Fault> {
        if self.places.len() == self.now.cells() && self.places.iter().enumerate().all(|(a, b)| a == *b) {
            return Ok(Cow::Borrowed(row));
        }
        let cells = value::cells(row)?;
        let some: Vec<Cell<'_>> = self.places.iter().filter_map(|p| cells.get(*p).copied()).collect();
        Ok(Cow::Owned(value::join(some.into_iter())))
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

    fn new(at: usize, then: Shape, now: Shape) -> Result<Self, Error> {
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
        Ok(Self { at, temp: None, images: (0, 0), then, now, places })
    }
}

/// The whole snapshot.
pub(super) struct Records<'c> {
    pub(super) tables: Vec<Loaded>,
    pub(super) sequences: Vec<Moved>,
    pub(super) snapshot: Snapshot,
    /// Has the temporary tables.
    pub(super) holder: &'c Connection,
    pub(super) clock: &'c Clock,
    /// By part and number there, the number of the table here.
    places: HashMap<(usize, u32), usize>,
}

impl<'c> Records<'c> {
    /// Looks what `snapshot` holds, and makes its records ready for [`Walk`].
    pub(super) fn load(holder: &'c Connection, snapshot: &Snapshot, clock: &'c Clock) -> Result<Self, Fault> {
        let header = snapshot.header()?;
        if header.kind != "sqlite" {
            return Err(Error::Snapshot(format!("this is a snapshot of a {} target", header.kind)).into());
        }
        let catalog = Catalog::load(holder)?;
        let mut records = Self {
            tables: Vec::new(),
            sequences: Vec::new(),
            snapshot: snapshot.clone(),
            holder,
            clock,
            places: HashMap::new(),
        };
        let mut known: HashMap<String, usize> = HashMap::new();
        for part in 0..snapshot.parts() {
            let footer = snapshot.footer(part)?;
            for (table, totals) in snapshot.tables(part)?.iter().zip(&footer.tables) {
                let at = match known.get(&table.resource) {
                    Some(at) => *at,
                    None => {
                        let at = records.tables.len();
                        records.tables.push(announce(holder, &catalog, at, &table.shape)?);
                        known.insert(table.resource.clone(), at);
                        at
                    }
                };
                records.places.insert((part, table.index), at);
                if let Some(table) = records.tables.get_mut(at) {
                    table.images = (table.images.0 + totals.before, table.images.1 + totals.after);
                }
            }
            if let Some(list) = footer.system.get("sequences") {
                let list: Vec<Moved> = serde_json::from_value(list.clone())
                    .map_err(|_| Error::Snapshot("the counters in the snapshot make no sense".to_owned()))?;
                records.sequences.extend(list);
            }
        }
        let ordered = snapshot.parts() == 1 && snapshot.footer(0)?.system.get(ORDERED) == Some(&true.into());
        records.keep(ordered)?;
        Ok(records)
    }

    /// Puts the records into temporary tables, but for those with a rowid where all are `ordered`.
    fn keep(&mut self, ordered: bool) -> Result<(), Fault> {
        let mut any = false;
        for table in &mut self.tables {
            if !ordered || table.then.rowid().is_none() {
                any = true;
                let key = if table.then.rowid().is_some() { "INTEGER" } else { "BLOB" };
                let temp = format!("checkrein_record_{}", table.at);
                self.holder.execute_batch(&format!(
                    "CREATE TEMP TABLE {temp} (k {key} PRIMARY KEY, before BLOB, after BLOB)"
                ))?;
                table.temp = Some(temp);
            }
        }
        if !any {
            return Ok(());
        }
        let mut blocks = self.snapshot.blocks();
        let mut read = 0;
        while let Some(block) = blocks.next_blocking()? {
            self.clock.check()?;
            read += block.rows;
            let table = self.tables.get(self.at(&block)?);
            table.map_or(Ok(()), |table| table.insert(self.holder, block.side, &block.data))?;
        }
        if read != self.tables.iter().map(|table| table.images.0 + table.images.1).sum::<u64>() {
            return Err(Error::Snapshot("the snapshot could not be read to its end".to_owned()).into());
        }
        Ok(())
    }

    /// The number of the table that a block is of.
    pub(super) fn at(&self, block: &Block) -> Result<usize, Error> {
        let at = self.places.get(&(block.part, block.table));
        at.copied().ok_or_else(|| Error::Snapshot("rows of no table".to_owned()))
    }

    /// How many records there are, about.
    pub(super) fn total(&self) -> u64 {
        self.tables.iter().map(|table| table.images.0.max(table.images.1)).sum()
    }
}

impl Records<'_> {
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
    fn insert(&self, connection: &Connection, side: Side, data: &[u8]) -> Result<(), Fault> {
        let Some(temp) = &self.temp else { return Ok(()) };
        let column = match side {
            Side::Before => "before",
            Side::After => "after",
        };
        let mut insert = connection.prepare(&format!(
            "INSERT INTO temp.{temp} (k, {column}) VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET {column} = ?2"
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
    Ok(Loaded::new(at, then, now)?)
}

/// A counter, as it should be after the rollback.
pub(super) struct Rewind {
    pub(super) table: String,
    /// As it is now.
    pub(super) now: Option<i64>,
    /// As it should be.
    pub(super) to: Option<i64>,
}

impl Records<'_> {
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
