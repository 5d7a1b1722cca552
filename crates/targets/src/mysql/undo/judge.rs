//! What is to be done to each record.

use super::{Look, States, Today, keys::Gone, states};
use crate::{
    Conflict, Error, Plan, ResourcePlan, UndoOptions,
    mysql::{
        blocks::{ChunkReader, ChunkWriter},
        compare::Outside,
        connect::{Db, Session},
        schema::{Column, Schema, Table},
        value::{Image, record},
    },
    snapshot::Snapshot,
    stay,
};
use checkrein_core::rollback::{self, ConflictKind, OnConflict, Step as CoreStep};
use serde_json::{Map, Value as Json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

/// What is done to one record; a byte, because there is one for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    Keep,
    Insert,
    Update,
    Delete,
    /// Removed and inserted again, because a unique value of it may be another's by then. Records that are
    /// alike: some are removed or inserted.
    Move,
}

/// A plan, and a step for each record in the order of the snapshot.
pub(super) struct Judged {
    pub(super) plan: Plan,
    pub(super) steps: Vec<Step>,
    /// Which triggers of a table would fire.
    pub(super) events: Events,
}

/// By table: `INSERT`, `UPDATE`, `DELETE`.
pub(super) type Events = BTreeMap<(String, String), BTreeSet<&'static str>>;

impl Judged {
    pub(super) fn changes(&self) -> bool {
        self.steps.iter().any(|s| *s != Step::Keep)
    }
}

/// What a rollback that is really done keeps of what it is going to change.
pub(super) struct Kept<'a> {
    pub(super) chunks: ChunkWriter<'a>,
    pub(super) gone: Gone,
    pub(super) schema: &'a Schema,
}

/// Compares every record. With `kept`, nobody can change them afterwards.
pub(super) async fn judge(
    db: &Db,
    session: &mut Session,
    snapshot: &Snapshot,
    today: &Today,
    options: &UndoOptions,
    mut kept: Option<&mut Kept<'_>>,
) -> Result<Judged, Error> {
    let look = if kept.is_some() { Look::Lock } else { Look::Plain };
    let total = snapshot.footer(0)?.tables.iter().map(|t| t.before.max(t.after)).sum();
    options.progress.total.store(total, Ordering::Relaxed);
    let (mut plan, mut steps, mut events) = (Plan::default(), Vec::new(), Events::new());
    let mut resources: BTreeMap<String, ResourcePlan> = BTreeMap::new();
    let mut auto = false;
    let mut outside = Outside::of(db, session);
    let refuses = options.on_conflict == OnConflict::Refuse;
    let alone = match options.on_conflict {
        OnConflict::Skip => left_alone(session, &mut outside, snapshot, today, look).await?,
        OnConflict::Refuse | OnConflict::Force => Today::new(),
    };
    plan.notes.extend(alone.values().map(|table| stay::left_alone(&table.resource)));
    let mut reader = ChunkReader::new(snapshot)?;
    while let Some(chunk) = reader.next().await? {
        let table = today
            .get(&chunk.table.id())
            .ok_or_else(|| Error::Snapshot("the snapshot has rows of no table".to_owned()))?;
        let part = resources
            .entry(table.resource.clone())
            .or_insert_with(|| ResourcePlan { resource: table.resource.clone(), ..ResourcePlan::default() });
        let stays = snapshot.stays(&chunk.table.resource);
        let mut gone = false;
        let mut due = Vec::new();
        for state in states(session, &mut outside, table, chunk.before, chunk.after, look).await? {
            let (mut step, kind) = step(&state, stays);
            if let Some(kind) = kind {
                gone |= stays && state.now.is_none();
                part.conflicts += 1;
                if stands_against(&mut plan, table, &state) {
                    plan.conflicts.push(conflict(table, &state, kind)?);
                }
                if options.on_conflict != OnConflict::Force {
                    steps.push(Step::Keep);
                    continue;
                }
                step = core(&state).overwrite();
            } else if alone.contains_key(&table.id()) {
                part.keep += 1;
                steps.push(Step::Keep);
                continue;
            }
            let records = if table.keyed { 1 } else { loose(&state) };
            match step {
                CoreStep::Insert => part.insert += records,
                CoreStep::Delete => part.delete += records,
                CoreStep::Update => match state.now.as_ref().map_or(0, |n| n.1) {
                    now if table.keyed || now == 0 => part.update += records,
                    now if now > state.before.as_ref().map_or(0, |b| b.1) => part.delete += records,
                    _ => part.insert += records,
                },
                CoreStep::Keep | CoreStep::Conflict(_) => part.keep += 1,
            }
            auto |= step == CoreStep::Delete && table.key_columns().any(|c| c.auto);
            let step = match step {
                CoreStep::Insert => Step::Insert,
                CoreStep::Delete => Step::Delete,
                CoreStep::Update if !table.keyed || moves(table, &state)? => Step::Move,
                CoreStep::Update => Step::Update,
                CoreStep::Keep | CoreStep::Conflict(_) => Step::Keep,
            };
            let fires: &[&str] = match step {
                Step::Keep => &[],
                // Records that are alike are removed and added, not changed.
                _ if !table.keyed => &["DELETE", "INSERT"],
                Step::Insert => &["INSERT"],
                Step::Delete => &["DELETE"],
                Step::Update => &["UPDATE"],
                Step::Move => &["DELETE", "INSERT"],
            };
            if !fires.is_empty() {
                events.entry(table.id()).or_default().extend(fires);
            }
            steps.push(step);
            if let Some(kept) = kept.as_mut().filter(|_| step != Step::Keep) {
                kept.gone.note(kept.schema, table, &state)?;
                due.push(state.undone());
            }
        }
        if gone && !plan.notes.contains(&stay::note(&table.resource)) {
            plan.notes.push(stay::note(&table.resource));
        }
        // A rollback that is refused leaves no snapshot.
        if let Some(kept) = kept.as_mut().filter(|_| plan.conflict_count == 0 || !refuses) {
            kept.chunks.add(table, &due).await?;
        }
    }
    if auto {
        plan.notes
            .push("AUTO_INCREMENT is not set back: numbers that were given are not given again".to_owned());
    }
    plan.by_resource = resources.into_values().collect();
    Ok(Judged { plan, steps, events })
}

/// Tables without a key in which somebody has changed records since: which of those that are there now were which is not
/// known, so that one of them cannot be left out and another be put back.
async fn left_alone(
    session: &mut Session,
    outside: &mut Outside<'_>,
    snapshot: &Snapshot,
    today: &Today,
    look: Look,
) -> Result<Today, Error> {
    let mut alone = Today::new();
    let mut reader = ChunkReader::new(snapshot)?;
    while let Some(chunk) = reader.next().await? {
        let id = chunk.table.id();
        let Some(table) = today.get(&id).filter(|table| !table.keyed && !alone.contains_key(&id)) else {
            continue;
        };
        let all = states(session, outside, table, chunk.before, chunk.after, look).await?;
        if all.iter().any(|state| step(state, false).1.is_some()) {
            alone.insert(id, Arc::clone(table));
        }
    }
    Ok(alone)
}

/// How many more or fewer there are of a record without a key.
fn loose(state: &States) -> u64 {
    let count = |s: &Option<_>| s.as_ref().map_or(0, |(_, n): &(Vec<u8>, u64)| *n);
    count(&state.now).abs_diff(count(&state.before))
}

fn step(state: &States, stays: bool) -> (CoreStep, Option<ConflictKind>) {
    match stay::step(&core(state), stays) {
        CoreStep::Conflict(kind) => (CoreStep::Keep, Some(kind)),
        other => (other, None),
    }
}

fn core(state: &States) -> rollback::States<&(Image, u64)> {
    rollback::States {
        before: state.before.as_ref(),
        after: state.after.as_ref().map(Option::as_ref),
        now: state.now.as_ref(),
    }
}

/// Whether a value that must be unique changes.
fn moves(table: &Table, state: &States) -> Result<bool, Error> {
    let (Some((now, _)), Some((before, _))) = (&state.now, &state.before) else { return Ok(false) };
    for places in &table.uniques {
        if crate::mysql::value::pick(now, places)? != crate::mysql::value::pick(before, places)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the conflict is one of those that are shown.
fn stands_against(plan: &mut Plan, table: &Table, state: &States) -> bool {
    fn image(state: Option<&(Image, u64)>) -> Option<&[u8]> {
        state.map(|(image, _)| image.as_slice())
    }
    let after = state.after.as_ref().and_then(Option::as_ref);
    let numbers =
        [state.before.as_ref(), after, state.now.as_ref()].map(|s| s.map_or(0, |s| s.1).to_le_bytes());
    plan.stands_against(&[
        Some(table.resource.as_bytes()),
        Some(&state.key),
        image(state.before.as_ref()),
        image(after),
        image(state.now.as_ref()),
        Some(numbers.as_flattened()),
    ])
}

fn conflict(table: &Table, state: &States, kind: ConflictKind) -> Result<Conflict, Error> {
    let columns: Vec<&Column> = table.columns.iter().collect();
    let shown = |image: Option<&(Vec<u8>, u64)>| -> Result<Option<Map<String, Json>>, Error> {
        image.map(|(image, _)| record(&columns, image)).transpose()
    };
    let keys: Vec<&Column> = table.key_columns().collect();
    Ok(Conflict {
        resource: table.resource.clone(),
        key: record(&keys, &state.key)?,
        kind,
        before: shown(state.before.as_ref())?,
        after: shown(state.after.as_ref().and_then(Option::as_ref))?,
        now: shown(state.now.as_ref())?,
    })
}
