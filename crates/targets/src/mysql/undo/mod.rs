//! Rollback: locked, compared, restored, checked, verified; one transaction, in bounded memory.
//!
//! The snapshot is read several times, a chunk at a time. First each record is judged, and kept as it is now;
//! that is a byte a record, and the only thing that grows. Then what must go goes, and only then comes back what must come
//! back: so unique values can swap. Foreign keys are switched off meanwhile (nothing cascades) and checked
//! afterwards, in both directions. Triggers cannot be switched off: what they do to other records is undone
//! as well, and if that does not settle, the rollback is refused. A trigger can spare itself all of that by
//! asking for `@checkrein_rollback`, which is 1 in such a session.

mod apply;
mod judge;
mod keys;

use super::{
    blocks::ChunkWriter,
    compare::{Outside, Record, by_key},
    connect::{Db, Purpose, Session},
    footprint::{Footprint, Rows, fetch},
    identity,
    open::{Open, Proof},
    schema::{Schema, Table},
    value::Image,
};
use crate::{
    Affected, Error, How, Measured, Plan, Undo, UndoOptions,
    snapshot::{Snapshot, SnapshotWriter},
};
use apply::Work;
use checkrein_core::rollback::OnConflict;
use judge::{Judged, Kept, judge};
use keys::Gone;
use std::{collections::BTreeMap, sync::Arc};

/// The tables of a snapshot as they are today.
type Today = BTreeMap<(String, String), Arc<Table>>;

/// What a rollback would do.
pub(super) async fn plan(db: &Db, snapshot: &Snapshot, options: &UndoOptions) -> Result<Plan, Error> {
    db.within(Purpose::Snapshot, async {
        let mut session = db.begin(Purpose::Snapshot).await?;
        let mut schema = Schema::default();
        let today = today(db, &mut session, &mut schema, snapshot, options.on_conflict).await?;
        Ok(judge(db, &mut session, snapshot, &today, options, None).await?.plan)
    })
    .await
}

/// Does it, up to the commit.
pub(super) async fn rollback(
    db: &Arc<Db>,
    snapshot: &Snapshot,
    options: &UndoOptions,
    out: &mut SnapshotWriter,
) -> Result<Undo, Error> {
    db.within(Purpose::Undo, async {
        let mut session = db.begin(Purpose::Undo).await?;
        let mut schema = Schema::default();
        let today = today(db, &mut session, &mut schema, snapshot, options.on_conflict).await?;
        for (of, name) in today.keys() {
            session.grants.may_change(&db.target, of, name)?;
        }
        let mut kept = Kept { chunks: ChunkWriter::new(out, true), gone: Gone::default(), schema: &schema };
        let judged = judge(db, &mut session, snapshot, &today, options, Some(&mut kept)).await?;
        let Kept { mut chunks, gone, .. } = kept;
        if judged.plan.conflict_count > 0 && options.on_conflict == OnConflict::Refuse {
            return Ok(Undo::Conflicts(judged.plan));
        }
        if !judged.changes() {
            return Ok(Undo::Nothing(judged.plan));
        }
        chunks.finish().await?;
        chunks.identify(&mut session).await?;
        let Judged { plan, steps, events } = judged;
        let progress = &options.progress;
        let mut work = Work { db, session, schema, snapshot, today: &today, steps, events, gone, progress };
        work.run().await?;
        out.sealed();
        let session = work.session;
        let measured = Measured { affected: affected(&plan), exact: true };
        let proof = Proof { rows: 0, surplus: 0, spelled: 0 };
        let open =
            Open::new(Arc::clone(db), session, Footprint::default(), proof, measured, Vec::new(), Vec::new());
        Ok(Undo::Ready(plan, Box::new(open)))
    })
    .await
    .map_err(for_now)
}

/// What may be over the next time does not make it impossible.
fn for_now(error: Error) -> Error {
    match error {
        Error::Statement { message, .. }
            if ["1205", "1213"].iter().any(|n| message.contains(&format!("(error {n})"))) =>
        {
            Error::Unreachable(message)
        }
        other => other,
    }
}

fn affected(plan: &Plan) -> Vec<Affected> {
    let of = |resource: &str, how, records| Affected { resource: resource.to_owned(), how, records };
    let all = plan.by_resource.iter().flat_map(|r| {
        [
            of(&r.resource, How::Insert, r.insert),
            of(&r.resource, How::Update, r.update),
            of(&r.resource, How::Delete, r.delete),
        ]
    });
    all.filter(|a| a.records > 0).collect()
}

/// The tables of the snapshot, if they are still what they were.
async fn today(
    db: &Db,
    session: &mut Session,
    schema: &mut Schema,
    snapshot: &Snapshot,
    on_conflict: OnConflict,
) -> Result<Today, Error> {
    let mut today = Today::new();
    for described in snapshot.tables(0)? {
        let then = super::blocks::shape(described)?;
        let name = &then.resource;
        let now = schema.table(db, session, &then.schema, &then.name).await.map_err(|e| match e {
            Error::Invalid(_) => Error::Irreversible(format!(
                "the table {name} is gone; its records have nowhere to go back to"
            )),
            Error::Unmeasurable(why) => Error::Irreversible(why),
            other => other,
        })?;
        if let Some(difference) = difference(&then, &now) {
            return Err(Error::Irreversible(format!(
                "{name} has changed its shape since the snapshot: {difference}. Export the snapshot and have a person put the records back"
            )));
        }
        today.insert(then.id(), now);
    }
    // Looked at and locked by now, so that they stay what they are.
    let numbers = identity::of(session, today.keys()).await?;
    let other = today.values().find(|table| {
        let then = snapshot.footer(0).ok().and_then(|footer| footer.system.get("tables")?.get(table.sql()));
        then.is_some_and(|then| Some(then) != numbers.get(&table.sql()))
    });
    match other {
        Some(table) if on_conflict != OnConflict::Force => Err(Error::Irreversible(format!(
            "{} was made anew or rebuilt since the snapshot (DROP and CREATE, RENAME, TRUNCATE, OPTIMIZE, some kinds of ALTER): whether it \
             holds the same records cannot be told. If you know that it does, force the rollback",
            table.resource
        ))),
        _ => Ok(today),
    }
}

fn difference(then: &Table, now: &Table) -> Option<String> {
    for column in &then.columns {
        match now.column(&column.name) {
            None => return Some(format!("the column {} is gone", column.name)),
            Some(today) if today != column => {
                return Some(format!(
                    "the column {} was {} and is {}",
                    column.name, column.declared, today.declared
                ));
            }
            Some(_) => {}
        }
    }
    let added = now.columns.iter().find(|c| then.column(&c.name).is_none());
    if let Some(added) = added {
        return Some(format!("the column {} is new", added.name));
    }
    if then.columns != now.columns {
        return Some("its columns stand in another order".to_owned());
    }
    (then.key != now.key || then.keyed != now.keyed).then(|| "its key is another one".to_owned())
}

/// The records of one chunk with their three states. Each state is the image and how often it is there.
struct States {
    key: Image,
    before: Option<(Image, u64)>,
    after: Option<Option<(Image, u64)>>,
    now: Option<(Image, u64)>,
}

/// How the present state of records is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Not at all: [`States::now`] is absent.
    Not,
    Plain,
    /// And nobody can change it afterwards.
    Lock,
    /// From outside: this transaction holds them.
    Held,
}

/// All records of a chunk, in an order that is the same each time it is read.
async fn states(
    session: &mut Session,
    outside: &mut Outside<'_>,
    table: &Table,
    before: Vec<Image>,
    after: Option<Vec<Image>>,
    look: Look,
) -> Result<Vec<States>, Error> {
    let mut before = by_key(table, before)?;
    let mut after = after.map(|rows| by_key(table, rows)).transpose()?;
    let added = after.iter().flat_map(Rows::keys).filter(|key| !before.contains_key(*key));
    let keys: Vec<Image> = before.keys().chain(added).cloned().collect();
    let mut now = match look {
        Look::Not => Rows::default(),
        Look::Plain => fetch(session, table, &keys, false).await?,
        Look::Lock => fetch(session, table, &keys, true).await?,
        Look::Held => outside.latest(table, &keys).await?,
    };
    let all = keys.into_iter().map(|key| States {
        before: before.swap_remove(&key),
        after: after.as_mut().map(|a| a.swap_remove(&key)),
        now: now.swap_remove(&key),
        key,
    });
    Ok(all.collect())
}

impl States {
    /// As the record of a snapshot of this rollback: from what is there now to what it puts there.
    fn undone(&self) -> Record {
        let count = |state: &Option<(Image, u64)>| state.as_ref().map_or(0, |(_, n)| *n);
        Record {
            key: self.key.clone(),
            before: self.now.as_ref().map(|(image, _)| image.clone()),
            after: self.before.as_ref().map(|(image, _)| image.clone()),
            counts: (count(&self.now), count(&self.before)),
            how: How::Update,
        }
    }
}

/// What an error of the server means while records are put back.
fn irreversible(error: Error) -> Error {
    match error {
        Error::Statement { code, message } if code.starts_with("23") || code.starts_with("22") => {
            Error::Irreversible(format!(
                "the server refuses a record that would be put back: {message}; free what stands in its way, or export the snapshot"
            ))
        }
        Error::Unmeasurable(why) => Error::Irreversible(why),
        other => other,
    }
}
