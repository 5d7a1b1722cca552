//! Rollback: what it would change, and the change itself.
//!
//! Everything in one transaction that holds the write lock from before the first comparison to the commit, so
//! nobody can change a record between the look and the restore. Triggers and foreign-key actions are off
//! meanwhile; the foreign keys are checked afterwards.
//!
//! ```text
//! some records of the snapshot ─► as they stand (observer) ─► judge ─► write ─► read again, compare ─► own snapshot
//! ```
//! Records are written as they are judged. When that is in vain, because the last one turns out to be somebody else's
//! by now, the transaction is rolled back; what was judged is the plan.

use super::{
    connect::{Clock, Fault},
    diff::{Finder, Found, Lookup},
    evidence::Evidence,
    integrity::{self, Concern},
    load::{Loaded, ORDERED, Records, Rewind},
    schema::{Catalog, ForeignKey, foreign_keys, schema_version},
    stream::Sink,
    value,
    walk::Walk,
    write::{Writer, back},
};
use crate::{
    Affected, Conflict, Error, How, Measured, Plan, ResourcePlan, UndoOptions, snapshot::Snapshot, stay,
};
use checkrein_core::rollback::{ConflictKind, OnConflict, States, Step};
use rusqlite::{Connection, config::DbConfig};
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, sync::atomic::Ordering};

type Image<'a> = Option<&'a [u8]>;

/// Broken references that are named.
const MOST_NAMED: usize = 5;

/// What a rollback came to.
pub(super) struct Undone {
    pub(super) plan: Plan,
    /// Everything already was as it was.
    pub(super) nothing: bool,
    /// What was written, and the token; none where nothing is to be committed.
    pub(super) done: Option<(Measured, String)>,
}

/// What a rollback would do.
pub(super) fn plan(
    connection: &Connection,
    snapshot: &Snapshot,
    options: &UndoOptions,
    clock: &Clock,
) -> Result<Plan, Fault> {
    let records = Records::load(connection, snapshot, clock)?;
    let mut judge = Judge::new((connection, connection), &records, options)?;
    judge.all(None)?;
    records.rewinds(connection, &mut judge.plan.notes)?;
    Ok(judge.plan)
}

/// Does it in the open transaction of `connection`, of which `observer` sees the state before, and takes what it
/// overwrites and what it leaves into `sink`.
pub(super) fn undo(
    (observer, connection): (&Connection, &Connection),
    snapshot: &Snapshot,
    options: &UndoOptions,
    sink: Sink,
    clock: &Clock,
) -> Result<Undone, Fault> {
    let records = Records::load(connection, snapshot, clock)?;
    let mut judge = Judge::new((observer, connection), &records, options)?;
    let mut notes = Vec::new();
    let rewinds = records.rewinds(connection, &mut notes)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    // These values stood in the table before; a CHECK that they fail was off then, too.
    connection.pragma_update(None, "ignore_check_constraints", true)?;
    let mut writing = Writing { connection, sink, evidence: Evidence::default(), ordered: true };
    judge.all(Some(&mut writing))?;
    judge.plan.notes.append(&mut notes);
    if judge.in_vain() {
        return Ok(Undone { plan: judge.plan, nothing: false, done: None });
    }
    let parts = &judge.plan.by_resource;
    if rewinds.iter().all(|r| r.now == r.to) && parts.iter().all(|r| r.insert + r.update + r.delete == 0) {
        return Ok(Undone { plan: judge.plan, nothing: true, done: None });
    }
    for rewind in &rewinds {
        super::sequence::write(connection, &rewind.table, rewind.to)?;
    }
    judge.references()?;
    Ok(Undone {
        nothing: false,
        done: Some((measured(&judge.plan), writing.end(&rewinds)?)),
        plan: judge.plan,
    })
}

/// Where what is written goes.
struct Writing<'c> {
    connection: &'c Connection,
    sink: Sink,
    evidence: Evidence,
    /// Everything was written in the order of the rowid.
    ordered: bool,
}

impl Writing<'_> {
    /// A record that was written: as it stood, as it should be, as it is.
    fn written(
        &mut self,
        table: &Loaded,
        present: Image<'_>,
        before: Image<'_>,
        now: Image<'_>,
    ) -> Result<(), Fault> {
        let same = match (now, before) {
            (Some(now), Some(before)) => *table.project(now)? == *before,
            (now, before) => now.is_none() && before.is_none(),
        };
        if !same {
            return Err(Error::Irreversible(format!(
                "a record of {} did not come back as it was, so nothing was changed; report this with the table's definition",
                table.now.name
            ))
            .into());
        }
        self.sink.record(present, now)?;
        self.evidence.add(&table.now, present, now)
    }

    fn end(self, rewinds: &[Rewind]) -> Result<String, Fault> {
        let moved: Vec<_> =
            rewinds.iter().filter(|r| r.now != r.to).map(|r| (&r.table, r.now, r.to)).collect();
        let version = schema_version(self.connection)?;
        let system = json!({ "sequences": moved, "schema_version": version, ORDERED: self.ordered });
        self.sink.end(Some(system), true)?;
        Ok(self.evidence.token()?)
    }
}

/// Compares a snapshot with the present, and writes what is to be written.
struct Judge<'c> {
    records: &'c Records<'c>,
    /// Sees the state before.
    observer: &'c Connection,
    writer: &'c Connection,
    keys: Vec<ForeignKey>,
    sealed: bool,
    options: UndoOptions,
    plan: Plan,
    /// The numbers of tables in which a value goes that others may refer to.
    lost: BTreeSet<usize>,
}

impl<'c> Judge<'c> {
    fn new(
        (observer, writer): (&'c Connection, &'c Connection),
        records: &'c Records<'c>,
        options: &UndoOptions,
    ) -> Result<Self, Fault> {
        options.progress.total.store(records.total(), Ordering::Relaxed);
        records.same_rowids(observer, &records.snapshot)?;
        Ok(Self {
            records,
            observer,
            writer,
            keys: foreign_keys(observer, &Catalog::load(observer)?)?,
            sealed: records.snapshot.is_sealed(),
            options: options.clone(),
            plan: Plan::default(),
            lost: BTreeSet::new(),
        })
    }

    /// Whether nothing is to be done, because of what stands against it.
    fn in_vain(&self) -> bool {
        self.plan.conflict_count > 0 && self.options.on_conflict == OnConflict::Refuse
    }

    fn all(&mut self, mut writing: Option<&mut Writing<'c>>) -> Result<(), Fault> {
        let mut walk = Walk::new(self.records);
        for table in &self.records.tables {
            let part = self.table(table, &mut walk, writing.as_deref_mut())?;
            self.plan.by_resource.push(part);
            if table.now.cells() > table.then.cells() {
                self.plan.notes.push(format!(
                    "{} has columns that were added since; they keep their present values, and get their defaults in records that are put back",
                    table.then.name
                ));
            }
        }
        let parts = &self.plan.by_resource;
        let total = parts.iter().map(|p| p.insert + p.update + p.delete + p.keep + p.conflicts).sum();
        self.options.progress.total.store(total, Ordering::Relaxed);
        Ok(())
    }

    fn table(
        &mut self,
        table: &'c Loaded,
        walk: &mut Walk<'_>,
        mut writing: Option<&mut Writing<'c>>,
    ) -> Result<ResourcePlan, Fault> {
        let name = &table.then.name;
        let mut part = ResourcePlan { resource: name.clone(), ..ResourcePlan::default() };
        let (referred, mut gone) = (referred(table, &self.keys), false);
        let child = self.is_child(table);
        let mut old = Lookup::new(self.observer, &table.now)?;
        let mut new = Lookup::new(self.writer, &table.now)?;
        let mut writer = match &mut writing {
            Some(writing) => {
                writing.sink.table(&table.now.name, table.now.to_json()?)?;
                Some(Writer::new(self.writer, table, child)?)
            }
            None => None,
        };
        let (mut found, mut left, mut written) = (Found::default(), Found::default(), Vec::new());
        while let Some(batch) = walk.next(table)? {
            old.fetch(&batch, &table.then, &mut found)?;
            written.clear();
            for (at, (before, after)) in batch.images().enumerate() {
                let present = found.get(at);
                let now = present.map(|row| table.project(row)).transpose()?;
                let states = States { before, after: self.sealed.then_some(after), now: now.as_deref() };
                let (step, conflict) = self.judge(table, &states, &mut part)?;
                gone |= conflict && states.now.is_none();
                if let (Some(now), Step::Update | Step::Delete) = (states.now, step)
                    && loses(referred.as_deref(), before, now)?
                {
                    self.lost.insert(table.at);
                }
                let now = match (&mut writer, self.in_vain()) {
                    (Some(writer), false) => writer.step(step, before, (present, states.now))?,
                    _ => false,
                };
                written.push(now && matches!(step, Step::Insert | Step::Update | Step::Delete));
            }
            let (Some(writing), false) = (&mut writing, self.in_vain()) else { continue };
            new.fetch(&batch, &table.then, &mut left)?;
            for (at, (before, _)) in batch.images().enumerate() {
                if written.get(at) == Some(&true) {
                    writing.written(table, found.get(at), before, left.get(at))?;
                }
            }
        }
        self.plan.notes.extend((gone && self.records.snapshot.stays(name)).then(|| stay::note(name)));
        if let (Some(writing), Some(writer), false) = (writing, &mut writer, self.in_vain()) {
            let mut finder = Finder::new(self.writer, &table.now)?;
            writer.finish(|before, present| {
                writing.ordered = false;
                let now = finder.by_key(&table.then.key_of(&value::cells(before)?)?)?;
                writing.written(table, present, Some(before), now.as_deref())
            })?;
        }
        Ok(part)
    }

    /// What is to be done with one record, and whether somebody has worked on it since.
    fn judge(
        &mut self,
        table: &Loaded,
        states: &States<&[u8]>,
        part: &mut ResourcePlan,
    ) -> Result<(Step, bool), Fault> {
        self.options.progress.done.fetch_add(1, Ordering::Relaxed);
        let mut conflict = false;
        let step = match stay::step(states, self.records.snapshot.stays(&table.then.name)) {
            Step::Conflict(kind) => {
                conflict = true;
                part.conflicts += 1;
                let parts =
                    [Some(table.then.name.as_bytes()), states.before, states.after.flatten(), states.now];
                if self.plan.stands_against(&parts) {
                    self.plan.conflicts.push(shown(table, kind, states)?);
                }
                match self.options.on_conflict {
                    OnConflict::Force => states.overwrite(),
                    OnConflict::Skip | OnConflict::Refuse => Step::Conflict(kind),
                }
            }
            step => step,
        };
        match step {
            Step::Insert => part.insert += 1,
            Step::Update => part.update += 1,
            Step::Delete => part.delete += 1,
            Step::Keep => part.keep += 1,
            Step::Conflict(_) => {}
        }
        Ok((step, conflict))
    }

    fn is_child(&self, table: &Loaded) -> bool {
        self.keys.iter().any(|key| key.child.eq_ignore_ascii_case(&table.then.name))
    }

    /// That every reference from and to what was written still leads somewhere, or led nowhere before.
    fn references(&self) -> Result<(), Fault> {
        let tables = &self.records.tables;
        let backs: Vec<_> = tables
            .iter()
            .map(|table| (self.is_child(table) && table.now.rowid().is_some()).then(|| back(table)))
            .collect();
        let concerns: Vec<_> = tables
            .iter()
            .zip(&backs)
            .map(|(table, back)| Concern {
                table: &table.then.name,
                put_back: back.as_deref(),
                lost: self.lost.contains(&table.at),
            })
            .collect();
        let broken = integrity::new_violations((self.observer, self.writer), &concerns, MOST_NAMED)?;
        if broken.is_empty() {
            return Ok(());
        }
        Err(Error::Irreversible(format!(
            "the rollback would leave broken references, which no way of rolling back may: {}; restore those records first, or roll back the later              work that depends on them",
            broken.join("; ")
        ))
        .into())
    }
}

/// Whether a value goes that others may refer to.
fn loses(referred: Option<&[usize]>, before: Image<'_>, now: &[u8]) -> Result<bool, Fault> {
    let Some(referred) = referred else { return Ok(true) };
    if referred.is_empty() {
        return Ok(false);
    }
    let (before, now) = (before.map(value::cells).transpose()?, value::cells(now)?);
    let differs = |c: &usize| before.as_ref().and_then(|row| row.get(*c)) != now.get(*c);
    Ok(referred.iter().any(differs))
}

fn measured(plan: &Plan) -> Measured {
    let mut measured = Measured { affected: Vec::new(), exact: true };
    for part in &plan.by_resource {
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

/// The cells that others may refer to; none when it is not a cell, but a generated column.
fn referred(table: &Loaded, keys: &[ForeignKey]) -> Option<Vec<usize>> {
    let names = table.then.names();
    let keys = keys.iter().filter(|key| key.parent.eq_ignore_ascii_case(&table.then.name));
    keys.flat_map(|key| &key.columns)
        .map(|(_, to)| names.iter().position(|name| name.eq_ignore_ascii_case(to)))
        .collect()
}

fn shown(table: &Loaded, kind: ConflictKind, states: &States<&[u8]>) -> Result<Conflict, Fault> {
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
