//! A rollback from plan to commit.

use super::{
    capture::Store,
    commit::commit,
    images::Images,
    meta,
    object::{Body, Object, Record},
    path::RelPath,
    plan::{Item, plan},
    root::Root,
    stage::{Staging, is_nothing},
    walk::Tally,
    work::{Sink, Stop},
};
use crate::{
    Captured, CommitError, Error, How, Measured, Pending, Plan, ResultSet, UndoOptions,
    snapshot::{Side, Snapshot, SnapshotWriter},
};
use async_trait::async_trait;
use checkrein_core::rollback::{OnConflict, Step};
use std::{collections::BTreeSet, sync::Arc};

/// What a rollback comes to before its commit.
pub(super) enum Prepared {
    Ready(Plan, Box<Rollback>),
    Nothing(Plan),
    Conflicts(Plan),
}

/// A prepared rollback.
pub(super) struct Rollback {
    staging: Staging,
    measured: Measured,
    token: String,
}

/// Plans, prepares, and writes what it will overwrite into `sink`.
pub(super) fn prepare(
    root: Root,
    snapshot: &Snapshot,
    options: &UndoOptions,
    stop: &Stop,
    sink: &mut Sink,
) -> Result<Prepared, Error> {
    let images = Images::read(snapshot, stop)?;
    let (plan, items) = plan(&root, images, options, stop)?;
    if options.on_conflict == OnConflict::Refuse && plan.conflict_count > 0 {
        return Ok(Prepared::Conflicts(plan));
    }
    if is_nothing(&items) {
        return Ok(Prepared::Nothing(plan));
    }
    keep(&root, &items, options, stop, sink)?;
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
    let token = super::path::hex(&random);
    let mut staging = Staging::begin(Arc::new(root), &token)?;
    staging.prepare(&items, snapshot, options, stop)?;
    let measured = Measured { affected: measure(&items), exact: true };
    Ok(Prepared::Ready(plan, Box::new(Rollback { staging, measured, token })))
}

fn measure(items: &[Item]) -> Vec<crate::Affected> {
    let mut tally = Tally::new();
    for item in items {
        let how = match item.step {
            Step::Insert => How::Insert,
            Step::Update if item.way => continue,
            Step::Update => How::Update,
            Step::Delete => How::Delete,
            Step::Keep | Step::Conflict(_) => continue,
        };
        let is_folder = [&item.before, &item.now].iter().any(|o| o.as_ref().is_some_and(Object::is_folder));
        tally.add(&item.path, is_folder, how);
    }
    tally.affected().0
}

/// The snapshot of the rollback itself: what it overwrites, with content, and what it leaves.
fn keep(
    root: &Root,
    items: &[Item],
    options: &UndoOptions,
    stop: &Stop,
    sink: &mut Sink,
) -> Result<(), Error> {
    let force = options.on_conflict == OnConflict::Force;
    let changes = |item: &&Item| matches!(item.step, Step::Insert | Step::Update | Step::Delete);
    let shared = |object: &Option<Object>| match object {
        Some(Object { body: Body::File { shared, .. }, .. }) => shared.clone(),
        _ => None,
    };
    let changed: BTreeSet<&RelPath> = items.iter().filter(changes).map(|item| &item.path).collect();
    // Names of one file belong together, and so do the folders on the way.
    let files: BTreeSet<RelPath> = items
        .iter()
        .filter(changes)
        .flat_map(|item| [shared(&item.before), shared(&item.now)])
        .flatten()
        .collect();
    let ways: BTreeSet<RelPath> = changed.iter().flat_map(|path| path.ancestors()).collect();
    sink.begin(serde_json::json!({}))?;
    let mut store = Store::new(sink);
    for item in items {
        let same_file = [shared(&item.before), shared(&item.now)].iter().flatten().any(|f| files.contains(f));
        let changes = changed.contains(&item.path);
        if !changes && !same_file && !ways.contains(&item.path) {
            continue;
        }
        let way = item.way || !changes && !same_file;
        let mut now = item.now.clone();
        if changes || same_file {
            let again = store.keep(root, &item.path, stop)?;
            let same = match (&again, &item.witness) {
                (Some((_, again)), Some(seen)) => again.same(seen),
                (again, seen) => again.is_none() && seen.is_none(),
            };
            if !same {
                return Err(meta::changed(&item.path));
            }
            if let (Some(Object { body: Body::File { content, .. }, .. }), Some((again, _))) =
                (&mut now, again)
            {
                if again.content().is_none_or(|again| !again.same(content)) {
                    return Err(meta::changed(&item.path));
                }
                content.stored = again.content().and_then(|again| again.stored);
            }
        }
        let mut left = item.result().cloned();
        if let Some(left) = &mut left {
            if let Body::File { content, .. } = &mut left.body {
                content.stored = None;
            }
            // The time that a folder gets back; where it gets none back, the rollback itself changes it.
            if let (true, true, Some(before)) = (left.is_folder(), item.time_is_ours(force), &item.before) {
                left.meta.mtime = before.meta.mtime;
            }
        }
        let record = |object| Record { path: item.path.clone(), way, object };
        store.record(Side::Before, &record(now))?;
        store.record(Side::After, &record(left))?;
    }
    Ok(())
}

#[async_trait]
impl Pending for Rollback {
    fn measured(&self) -> &Measured {
        &self.measured
    }

    fn results(&self) -> &[ResultSet] {
        &[]
    }

    fn token(&self) -> &str {
        &self.token
    }

    // The transaction of a rollback: nobody captures it.
    fn bind(&mut self) {}

    async fn capture(&mut self, _out: &mut SnapshotWriter) -> Result<Captured, Error> {
        Err(Error::Unsupported("a rollback has captured already what it overwrites".to_owned()))
    }

    async fn commit(self: Box<Self>) -> Result<(), CommitError> {
        let Self { staging, .. } = *self;
        tokio::task::spawn_blocking(move || commit(staging))
            .await
            .map_err(|e| CommitError::Unknown(format!("the rollback broke off: {e}")))?
    }

    async fn rollback(self: Box<Self>) {
        let Self { staging, .. } = *self;
        // Only a panic could fail, and then the lock goes with the process.
        let _cleared = tokio::task::spawn_blocking(move || drop(staging)).await;
    }
}
