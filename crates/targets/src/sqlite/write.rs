//! Gives records of one table their old content back.
//!
//! In place, record by record, and only the columns that differ, so that an index over others is not touched. A unique
//! value may still be held by a record whose turn comes later: then this one is removed and put back in the end, when
//! all others are what they were. A conflict clause of the table's own (`ON CONFLICT REPLACE`) is overruled: it would
//! remove what others have put there since.

use super::{
    connect::Fault,
    load::{Key, Loaded, blob},
    value,
};
use crate::{Cell, Error};
use checkrein_core::rollback::Step;
use rusqlite::{Connection, ErrorCode, Statement};

/// UPDATEs of different columns that are kept ready.
const MOST_READY: usize = 16;

type Image<'a> = Option<&'a [u8]>;

/// See the module.
pub(super) struct Writer<'c> {
    connection: &'c Connection,
    table: &'c Loaded,
    /// By the cells that they change.
    updates: Vec<(Vec<usize>, Statement<'c>)>,
    /// By how many cells are known.
    insert: Option<(usize, Statement<'c>)>,
    delete: Statement<'c>,
    /// Takes the records that are put back in the end; made when there is the first.
    later: Option<Statement<'c>>,
    /// Takes the rowids of those that were put back.
    back: Option<Statement<'c>>,
}

/// The temporary table with the rowids (`k`) of the records of a table that were put back.
pub(super) fn back(table: &Loaded) -> String {
    format!("checkrein_back_{}", table.at)
}

impl<'c> Writer<'c> {
    /// Writes into `table`; `names` that the rowids of what was put back are wanted.
    pub(super) fn new(connection: &'c Connection, table: &'c Loaded, names: bool) -> Result<Self, Fault> {
        let delete = format!("DELETE FROM main.{} WHERE {}", table.now.quoted(), table.now.by_key());
        let names = names && table.now.rowid().is_some();
        if names {
            connection
                .execute_batch(&format!("CREATE TEMP TABLE {} (k INTEGER PRIMARY KEY)", back(table)))?;
        }
        let back = names.then(|| format!("INSERT INTO temp.{} VALUES (?1)", back(table)));
        Ok(Self {
            connection,
            table,
            updates: Vec::new(),
            insert: None,
            delete: connection.prepare(&delete)?,
            later: None,
            back: back.map(|sql| connection.prepare(&sql)).transpose()?,
        })
    }

    /// Does it with one record: what it was, what it is, and of that the recorded cells. False when it can only be
    /// done in the end.
    pub(super) fn step(
        &mut self,
        step: Step,
        before: Image<'_>,
        (present, now): (Image<'_>, Image<'_>),
    ) -> Result<bool, Fault> {
        let done = match (step, before, present, now) {
            (Step::Delete, _, Some(present), _) => {
                self.delete(present)?;
                return Ok(true);
            }
            (Step::Insert, Some(before), ..) => self.insert(before, None)?,
            (Step::Update, Some(before), Some(present), Some(now)) => {
                let done = self.update(before, now)?;
                if done.is_some() {
                    self.delete(present)?;
                }
                done
            }
            _ => return Ok(true),
        };
        let Some(before) = before else { return Ok(true) };
        if let Some(back) = &mut self.back {
            back.execute([self.table.then.rowid_of(&value::cells(before)?)?])?;
        }
        if done.is_some() {
            self.postpone(before, present)?;
        }
        Ok(done.is_none())
    }

    /// Puts back what could not be before. Tells each of these records: before, and as it stood.
    pub(super) fn finish(
        &mut self,
        mut tell: impl FnMut(&[u8], Image<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.later.take().is_none() {
            return Ok(());
        }
        let select = format!("SELECT before, present FROM temp.{} ORDER BY k", self.waiting());
        let mut list = self.connection.prepare(&select)?;
        let mut rows = list.query([])?;
        while let Some(row) = rows.next()? {
            let (Some(before), present) = (blob(row, 0)?, blob(row, 1)?) else { continue };
            if let Some(taken) = self.insert(before, present)? {
                return Err(Error::Irreversible(format!(
                    "a record of {} cannot be put back, because a later one has taken its place ({taken}); change that record first, then roll back again",
                    self.table.now.name
                ))
                .into());
            }
        }
        drop(rows);
        let mut rows = list.query([])?;
        while let Some(row) = rows.next()? {
            let (Some(before), present) = (blob(row, 0)?, blob(row, 1)?) else { continue };
            tell(before, present)?;
        }
        Ok(())
    }

    fn waiting(&self) -> String {
        format!("checkrein_later_{}", self.table.at)
    }

    fn postpone(&mut self, before: &[u8], present: Image<'_>) -> Result<(), Fault> {
        let key = Key::of(&self.table.then, &value::cells(before)?)?;
        let name = self.waiting();
        let later = match &mut self.later {
            Some(later) => later,
            none => {
                self.connection.execute_batch(&format!(
                    "CREATE TEMP TABLE {name} (k PRIMARY KEY, before BLOB, present BLOB) WITHOUT ROWID"
                ))?;
                none.insert(self.connection.prepare(&format!("INSERT INTO temp.{name} VALUES (?1, ?2, ?3)"))?)
            }
        };
        later.execute((key, before, present))?;
        Ok(())
    }

    fn delete(&mut self, present: &[u8]) -> Result<(), Fault> {
        let key = self.table.now.key_of(&value::cells(present)?)?;
        for (index, cell) in key.iter().enumerate() {
            value::bind_cell(&mut self.delete, index + 1, cell)?;
        }
        self.delete.raw_execute()?;
        Ok(())
    }

    /// What stands against it, if anything does.
    fn insert(&mut self, before: &[u8], present: Image<'_>) -> Result<Option<rusqlite::Error>, Fault> {
        let before = value::cells(before)?;
        let present = present.map(value::cells).transpose()?;
        let cells = self.table.rebuild(&before, present.as_deref());
        let known = cells.iter().flatten().count();
        let statement = match &mut self.insert {
            Some((n, statement)) if *n == known => statement,
            slot => {
                let sql = insert_of(self.table, &cells);
                &mut slot.insert((known, self.connection.prepare(&sql)?)).1
            }
        };
        for (index, cell) in cells.iter().flatten().enumerate() {
            value::bind_cell(statement, index + 1, cell)?;
        }
        taken(statement.raw_execute())
    }

    fn update(&mut self, before: &[u8], now: &[u8]) -> Result<Option<rusqlite::Error>, Fault> {
        let (before, now) = (value::cells(before)?, value::cells(now)?);
        let shape = &self.table.then;
        let differ: Vec<usize> = (0..before.len()).filter(|c| before.get(*c) != now.get(*c)).collect();
        let ready = match self.updates.iter().position(|(cells, _)| *cells == differ) {
            Some(ready) => ready,
            None => {
                let names = shape.sql_names();
                let set: Vec<_> = differ
                    .iter()
                    .filter_map(|c| names.get(*c))
                    .enumerate()
                    .map(|(n, name)| format!("{name} = ?{}", shape.key.len() + n + 1))
                    .collect();
                let sql = format!(
                    "UPDATE OR ABORT main.{} SET {} WHERE {}",
                    self.table.now.quoted(),
                    set.join(", "),
                    self.table.now.by_key()
                );
                let statement = self.connection.prepare(&sql)?;
                self.updates.truncate(MOST_READY);
                self.updates.insert(0, (differ.clone(), statement));
                0
            }
        };
        let Some((_, statement)) = self.updates.get_mut(ready) else {
            return Err(Error::Internal("a statement was lost".to_owned()).into());
        };
        let key = shape.key_of(&before)?;
        let values = differ.iter().filter_map(|c| before.get(*c));
        for (index, cell) in key.iter().chain(values).enumerate() {
            value::bind_cell(statement, index + 1, cell)?;
        }
        taken(statement.raw_execute())
    }
}

fn taken(done: rusqlite::Result<usize>) -> Result<Option<rusqlite::Error>, Fault> {
    match done {
        Ok(_) => Ok(None),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Ok(Some(error)),
        Err(error) => Err(error.into()),
    }
}

fn insert_of(table: &Loaded, cells: &[Option<Cell<'_>>]) -> String {
    let names = table.now.sql_names();
    let there: Vec<&str> =
        names.iter().zip(cells).filter(|(_, cell)| cell.is_some()).map(|(name, _)| name.as_str()).collect();
    let marks = vec!["?"; there.len()].join(", ");
    format!("INSERT OR ABORT INTO main.{} ({}) VALUES ({marks})", table.now.quoted(), there.join(", "))
}
