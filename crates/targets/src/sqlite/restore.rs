//! Rollback: what it would change, and the change itself.
//!
//! Everything in one transaction that holds the write lock from before the first comparison to the commit, so
//! nobody can change a record between the look and the restore. Triggers and foreign-key actions are off
//! meanwhile; the foreign keys are checked afterwards.

use super::{
    connect::{Clock, Fault},
    diff::Finder,
    evidence::Evidence,
    integrity::{self, Concern},
    load::{Loaded, Records, Rewind, blob},
    schema::{Catalog, ForeignKey, foreign_keys, schema_version},
    stream::Sink,
    value,
};
use crate::{
    Affected, Cell, Conflict, Error, How, Measured, Plan, ResourcePlan, UndoOptions,
    snapshot::{Side, Snapshot},
    stay,
};
use checkrein_core::rollback::{ConflictKind, OnConflict, States, Step};
use rusqlite::{Connection, config::DbConfig};
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, sync::atomic::Ordering};

/// A rollback that has been thought through and not yet begun.
pub(super) struct Prepared {
    records: Records,
    rewinds: Vec<Rewind>,
    /// The temporary tables of those in which a value goes that others may refer to.
    lost: BTreeSet<String>,
    pub(super) plan: Plan,
    options: UndoOptions,
}

/// What is to be done with a record, as it is kept in the temporary table.
const INSERT: i64 = 1;
const UPDATE: i64 = 2;
const DELETE: i64 = 3;

type Image<'a> = Option<&'a [u8]>;

impl Prepared {
    /// Compares the snapshot with the present.
    pub(super) fn new(
        connection: &Connection,
        snapshot: &Snapshot,
        options: &UndoOptions,
        clock: &Clock,
    ) -> Result<Self, Fault> {
        let records = Records::load(connection, snapshot, clock)?;
        options.progress.total.store(records.total, Ordering::Relaxed);
        records.same_rowids(connection, snapshot)?;
        let keys = foreign_keys(connection, &Catalog::load(connection)?)?;
        let mut prepared = Self {
            records,
            rewinds: Vec::new(),
            lost: BTreeSet::new(),
            plan: Plan::default(),
            options: options.clone(),
        };
        for table in &prepared.records.tables {
            let (part, lost) = judge(connection, table, snapshot, &keys, options, clock, &mut prepared.plan)?;
            prepared.lost.extend(lost.then(|| table.temp.clone()));
            prepared.plan.by_resource.push(part);
            if table.now.cells() > table.then.cells() {
                prepared.plan.notes.push(format!(
                    "{} has columns that were added since; they keep their present values, and get their defaults in records that are put back",
                    table.then.name
                ));
            }
        }
        prepared.rewinds = prepared.records.rewinds(connection, &mut prepared.plan.notes)?;
        Ok(prepared)
    }

    /// Whether everything already is as it was.
    pub(super) fn is_nothing(&self) -> bool {
        self.rewinds.iter().all(|r| r.now == r.to)
            && self.plan.by_resource.iter().all(|r| r.insert + r.update + r.delete == 0)
    }

    /// Does it, and takes what it overwrites and what it leaves into `sink`.
    pub(super) fn apply(
        &mut self,
        (observer, connection): (&Connection, &Connection),
        mut sink: Sink,
        clock: &Clock,
    ) -> Result<(Measured, String), Fault> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        // These values stood in the table before; a CHECK that they fail was off then, too.
        connection.pragma_update(None, "ignore_check_constraints", true)?;
        for table in &self.records.tables {
            remove(connection, table, clock)?;
        }
        for table in &self.records.tables {
            put_back(connection, table, clock)?;
        }
        for rewind in &self.rewinds {
            super::sequence::write(connection, &rewind.table, rewind.to)?;
        }
        let todo: Vec<String> = self.records.tables.iter().map(|t| format!("{}_todo", t.temp)).collect();
        let concerns: Vec<_> = self
            .records
            .tables
            .iter()
            .zip(&todo)
            .map(|(t, todo)| Concern {
                table: &t.then.name,
                put_back: Some(todo),
                lost: self.lost.contains(&t.temp),
            })
            .collect();
        if let Some(violation) = integrity::new_violation((observer, connection), &concerns)? {
            // Files that others write without enforcing foreign keys hold such references; a person may want
            // them back.
            if self.options.on_conflict != OnConflict::Force {
                return Err(Error::Irreversible(format!(
                    "the rollback would leave a broken reference: {violation}; restore that record first, roll back the later work that depends on it, or force the rollback"
                ))
                .into());
            }
            self.plan.notes.push(format!("a reference is broken now: {violation}"));
        }
        let mut evidence = Evidence::default();
        for table in &self.records.tables {
            self.verify(connection, table, &mut sink, &mut evidence, clock)?;
        }
        let moved: Vec<_> = self.rewinds.iter().filter(|r| r.now != r.to).collect();
        let moved: Vec<_> = moved.iter().map(|r| (&r.table, r.now, r.to)).collect();
        let version = schema_version(connection)?;
        sink.end(Some(json!({ "sequences": moved, "schema_version": version })), true)?;
        Ok((self.measured(), evidence.token()?))
    }

    /// Reads everything again that was changed.
    fn verify(
        &self,
        connection: &Connection,
        table: &Loaded,
        sink: &mut Sink,
        evidence: &mut Evidence,
        clock: &Clock,
    ) -> Result<(), Fault> {
        sink.table(&table.now.name, table.now.to_json()?)?;
        let mut finder = Finder::new(connection, &table.now)?;
        each(connection, table, "step > 0", clock, |_, before, present| {
            let key = present.map(|row| table.project(row)).transpose()?;
            let Some(row) = before.or(key.as_deref()) else { return Ok(()) };
            let now = finder.by_key(&table.then.key_of(&value::cells(row)?)?)?;
            let same = match (&now, before) {
                (Some(now), Some(before)) => table.project(now)? == before,
                (now, before) => now.is_none() && before.is_none(),
            };
            if !same {
                return Err(Error::Irreversible(format!(
                    "a record of {} did not come back as it was, so nothing was changed; report this with the table's definition",
                    table.now.name
                ))
                .into());
            }
            if let Some(present) = present {
                sink.row(Side::Before, present)?;
            }
            if let Some(now) = &now {
                sink.row(Side::After, now)?;
            }
            evidence.add(&table.now, present, now.as_deref())?;
            self.options.progress.done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    fn measured(&self) -> Measured {
        let mut measured = Measured { affected: Vec::new(), exact: true };
        for part in &self.plan.by_resource {
            for (how, records) in
                [(How::Insert, part.insert), (How::Update, part.update), (How::Delete, part.delete)]
            {
                if records > 0 {
                    measured.affected.push(Affected { resource: part.resource.clone(), how, records });
                }
            }
        }
        measured
    }
}

/// Compares one table and writes down what is to be done.
fn judge(
    connection: &Connection,
    table: &Loaded,
    snapshot: &Snapshot,
    keys: &[ForeignKey],
    options: &UndoOptions,
    clock: &Clock,
    plan: &mut Plan,
) -> Result<(ResourcePlan, bool), Fault> {
    connection.execute_batch(&format!(
        "CREATE TEMP TABLE {0}_todo (k PRIMARY KEY, now BLOB, step INTEGER) WITHOUT ROWID",
        table.temp
    ))?;
    let referred = referred(table, keys);
    let (sealed, stays) = (snapshot.is_sealed(), snapshot.stays(&table.then.name));
    let mut gone = false;
    let mut lost = false;
    let mut part = ResourcePlan { resource: table.then.name.clone(), ..ResourcePlan::default() };
    let mut finder = Finder::new(connection, &table.now)?;
    let mut note =
        connection.prepare(&format!("INSERT INTO temp.{}_todo VALUES (?1, ?2, ?3)", table.temp))?;
    let mut rows = connection.prepare(&format!("SELECT k, before, after FROM temp.{}", table.temp))?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        clock.check()?;
        let (before, after) = (blob(row, 1)?, blob(row, 2)?);
        let Some(known) = before.or(after) else { continue };
        let present = finder.by_key(&table.then.key_of(&value::cells(known)?)?)?;
        let now = present.as_deref().map(|row| table.project(row)).transpose()?;
        let states = States { before, after: sealed.then_some(after), now: now.as_deref() };
        let step = match stay::step(&states, stays) {
            Step::Conflict(kind) => {
                gone |= stays && states.now.is_none();
                part.conflicts += 1;
                let name = table.then.name.as_bytes();
                if plan.stands_against(&[Some(name), before, after, states.now]) {
                    plan.conflicts.push(conflict(table, kind, &states)?);
                }
                match options.on_conflict {
                    OnConflict::Force => states.overwrite(),
                    OnConflict::Skip | OnConflict::Refuse => Step::Conflict(kind),
                }
            }
            step => step,
        };
        if let (Some(now), Step::Update | Step::Delete) = (&now, step) {
            let then = before.map(value::cells).transpose()?;
            let now = value::cells(now)?;
            let gone = |c: &usize| then.as_ref().and_then(|row| row.get(*c)) != now.get(*c);
            lost |= referred.as_ref().is_none_or(|cells| cells.iter().any(gone));
        }
        let step = match step {
            Step::Insert => (&mut part.insert, INSERT),
            Step::Update => (&mut part.update, UPDATE),
            Step::Delete => (&mut part.delete, DELETE),
            Step::Keep => {
                part.keep += 1;
                options.progress.done.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Step::Conflict(_) => {
                options.progress.done.fetch_add(1, Ordering::Relaxed);
                continue;
            }
        };
        *step.0 += 1;
        note.execute((row.get::<_, rusqlite::types::Value>(0)?, present, step.1))?;
    }
    plan.notes.extend(gone.then(|| stay::note(&table.then.name)));
    Ok((part, lost))
}

/// The cells that others may refer to; none when it is not a cell, but a generated column.
fn referred(table: &Loaded, keys: &[ForeignKey]) -> Option<Vec<usize>> {
    let names = table.then.names();
    let keys = keys.iter().filter(|key| key.parent.eq_ignore_ascii_case(&table.then.name));
    keys.flat_map(|key| &key.columns)
        .map(|(_, to)| names.iter().position(|name| name.eq_ignore_ascii_case(to)))
        .collect()
}

fn conflict(table: &Loaded, kind: ConflictKind, states: &States<&[u8]>) -> Result<Conflict, Fault> {
    let names = table.then.names();
    let object =
        |row: Image<'_>| row.map(|row| super::decode::object(&names, &value::cells(row)?)).transpose();
    let known = states.before.or(states.after.flatten()).unwrap_or_default();
    let key: Vec<String> = table.then.key.iter().filter_map(|k| names.get(*k).cloned()).collect();
    let key: Map<String, Value> = super::decode::object(&key, &table.then.key_of(&value::cells(known)?)?)?;
    Ok(Conflict {
        resource: table.then.name.clone(),
        key,
        kind,
        before: object(states.before)?,
        after: object(states.after.flatten())?,
        now: object(states.now)?,
    })
}

/// Removes what is in the way: records to remove, and those that are put back with their old content.
fn remove(connection: &Connection, table: &Loaded, clock: &Clock) -> Result<(), Fault> {
    let mut delete = connection.prepare(&format!(
        "DELETE FROM main.{} WHERE {}",
        table.now.quoted(),
        table.now.by_key()
    ))?;
    each(connection, table, "step IN (2, 3)", clock, |_, _, present| {
        let Some(present) = present else { return Ok(()) };
        let key = table.now.key_of(&value::cells(present)?)?;
        for (index, cell) in key.iter().enumerate() {
            value::bind_cell(&mut delete, index + 1, cell)?;
        }
        delete.raw_execute()?;
        Ok(())
    })
}

fn put_back(connection: &Connection, table: &Loaded, clock: &Clock) -> Result<(), Fault> {
    let names = table.now.sql_names();
    let insert = |cells: &[Option<Cell<'_>>]| {
        let there: Vec<&str> = names
            .iter()
            .zip(cells)
            .filter(|(_, cell)| cell.is_some())
            .map(|(name, _)| name.as_str())
            .collect();
        let marks = vec!["?"; there.len()].join(", ");
        let sql = format!("INSERT INTO main.{} ({}) VALUES ({marks})", table.now.quoted(), there.join(", "));
        connection.prepare(&sql)
    };
    let mut prepared: Option<(usize, rusqlite::Statement<'_>)> = None;
    each(connection, table, "step IN (1, 2)", clock, |_, before, present| {
        let Some(before) = before else { return Ok(()) };
        let before = value::cells(before)?;
        let present = present.map(value::cells).transpose()?;
        let cells = table.rebuild(&before, present.as_deref());
        let known = cells.iter().flatten().count();
        let statement = match &mut prepared {
            Some((n, statement)) if *n == known => statement,
            slot => &mut slot.insert((known, insert(&cells)?)).1,
        };
        for (index, cell) in cells.iter().flatten().enumerate() {
            value::bind_cell(statement, index + 1, cell)?;
        }
        match statement.raw_execute() {
            Ok(_) => Ok(()),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
                Err(Error::Irreversible(format!(
                    "a record of {} cannot be put back, because a later one has taken its place ({error}); change that record first, then roll back again",
                    table.now.name
                ))
                .into())
            }
            Err(error) => Err(error.into()),
        }
    })
}

/// Walks over the records of a table for which something is to be done: step, before, now.
fn each(
    connection: &Connection,
    table: &Loaded,
    which: &str,
    clock: &Clock,
    mut work: impl FnMut(i64, Image<'_>, Image<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut rows = connection.prepare(&format!(
        "SELECT t.step, r.before, t.now FROM temp.{0}_todo t JOIN temp.{0} r ON r.k = t.k WHERE {which} ORDER BY t.k",
        table.temp
    ))?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        clock.check()?;
        work(row.get(0)?, blob(row, 1)?, blob(row, 2)?)?;
    }
    Ok(())
}
