//! Snapshots: taking, listing and exporting them.

use super::{App, Caller, Connected, Error, checks::new_id, counts::Undoable, shelf, to_the_end};
use checkrein_api::{
    Foreseen, RollbackProgress, RollbackStanding, SnapshotPage, SnapshotRequest, SnapshotStanding,
    SnapshotView,
};
use checkrein_core::{
    action::Action,
    check::limits,
    decision::NO_SNAPSHOT,
    event::Event,
    key::Role,
    name::Name,
    snapshot::{Origin, RollbackState, RollbackStatus, SnapshotRecord, SnapshotState},
};
use checkrein_store::{AppendError, SnapshotFilter};
use checkrein_targets::{
    Captured, Kind, Selection, Statement,
    snapshot::{Block, Blocks, Side, Snapshot, SnapshotWriter},
};
use serde_json::{Map, Value};
use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Instant,
};

/// Snapshots a page.
const MAX_PAGE: usize = 500;

/// What `GET /v1/snapshots` selects.
#[derive(Clone, Debug, Default)]
pub struct SnapshotQuery {
    /// What to select.
    pub filter: SnapshotFilter,
    /// Where the page before ended.
    pub cursor: Option<u64>,
    /// How many; 50 when absent, at most 500.
    pub limit: Option<usize>,
}

/// Whose snapshot it is, and what for.
pub(super) struct Purpose {
    pub(super) resource: String,
    pub(super) agent: String,
    pub(super) session: Option<String>,
    pub(super) check_id: Option<String>,
    pub(super) origin: Origin,
    pub(super) key_id: String,
}

impl Purpose {
    /// Of a check that is about to be allowed.
    pub(super) fn of_check(id: &str, key_id: &str, action: &Action) -> Self {
        Self {
            resource: action.resource.to_string(),
            agent: action.agent.to_string(),
            session: action.session.clone(),
            check_id: Some(id.to_owned()),
            origin: Origin::Automatic,
            key_id: key_id.to_owned(),
        }
    }
}

/// A snapshot of which the file is not finished.
pub(super) struct Draft {
    pub(super) id: String,
    pub(super) writer: SnapshotWriter,
    pub(super) captured: Captured,
    pub(super) since: Instant,
}

impl App {
    /// Takes a snapshot that somebody asks for.
    ///
    /// # Errors
    /// When the request makes no sense, or the snapshot cannot be taken or recorded.
    pub async fn take_snapshot(
        self: &Arc<Self>,
        caller: &Caller,
        request: SnapshotRequest,
    ) -> Result<SnapshotView, Error> {
        caller.within_limit()?;
        let agent = caller.agent(request.agent.as_deref())?;
        let rules = self.rules();
        let resource = request.resource.clone();
        let (target, path) = rules.targets.of(&resource).ok_or_else(|| {
            Error::Invalid(format!(
                "resource: `{}` is on no target that this server is connected to; write `<target>.<path>`",
                request.resource.chars().take(128).collect::<String>().escape_debug()
            ))
        })?;
        if let Some(id) = &request.check_id {
            let row = self.visible_check(caller, id).await?;
            if row.checked.action.agent != agent {
                return Err(Error::Invalid(format!("check_id: {id} is another agent's")));
            }
        }
        if request.session.as_ref().is_some_and(|s| s.len() > limits::TOKEN_BYTES) {
            return Err(Error::Invalid(format!("session: at most {} bytes", limits::TOKEN_BYTES)));
        }
        let purpose = Purpose {
            resource: shelf::full_name(target, path),
            agent: agent.to_string(),
            session: request.session.clone(),
            check_id: request.check_id.clone(),
            origin: Origin::Requested,
            key_id: caller.key_id().to_owned(),
        };
        let selection = selection(request, path, target.kind())?;
        let target = Arc::clone(target);
        self.room_for(&purpose.agent, &purpose.key_id, 0).await?;
        let mut draft = self.capture(&target, &selection).await.map_err(Error::of_target)?;
        draft.writer.foresees_nothing();
        let app = Arc::clone(self);
        let state = to_the_end(async move {
            let record = app.finish(&target, draft, purpose).await?;
            // One after the other, so that several at once do not find the same room.
            let _alone = app.locks.lock("room for snapshots").await;
            if let Err(error) = app.room_for(&record.agent, &record.key_id, record.bytes).await {
                app.shelf.remove(&record.id, 1);
                return Err(error);
            }
            app.keep(record, |record| vec![Event::SnapshotTaken(Box::new(record))]).await
        })
        .await?;
        self.snapshot_view(state).await
    }

    /// Reads the before-images of what is meant into a file that is not finished yet.
    pub(super) async fn capture(
        &self,
        target: &Connected,
        selection: &Selection,
    ) -> Result<Draft, checkrein_targets::Error> {
        let since = Instant::now();
        let id = new_id("snp");
        let mut writer = self.shelf.begin(&id, 1, target)?;
        let captured = target.target.capture(selection, &mut writer).await?;
        Ok(Draft { id, writer, captured, since })
    }

    /// Makes a snapshot's file durable.
    pub(super) async fn finish(
        &self,
        target: &Connected,
        draft: Draft,
        purpose: Purpose,
    ) -> Result<SnapshotRecord, Error> {
        let Draft { id, writer, captured, since } = draft;
        let written = self.shelf.finish(&id, 1, writer).await.map_err(|error| {
            self.metrics.snapshots.failed.inc();
            Error::Snapshot(error.to_string())
        })?;
        self.metrics.snapshots.taken(written.bytes, since.elapsed());
        Ok(SnapshotRecord {
            id,
            target: target.name.to_string(),
            resource: purpose.resource,
            agent: purpose.agent,
            session: purpose.session,
            check_id: purpose.check_id,
            origin: purpose.origin,
            sealed: written.footer.sealed,
            by_resource: shelf::held(target, &captured.affected),
            bytes: written.bytes,
            key_id: purpose.key_id,
        })
    }

    /// Takes the snapshot that an allowed action leaves, if it leaves one. Its file is finished and not on
    /// record.
    ///
    /// # Errors
    /// Why the action must not run.
    pub(super) async fn automatic(
        &self,
        undoable: Option<Undoable>,
        purpose: Purpose,
    ) -> Result<Option<SnapshotRecord>, String> {
        let Some(Undoable { target, selection, records }) = undoable else { return Ok(None) };
        // What nobody could count is more than any number.
        if !target.snapshot_when.wants(records.unwrap_or(u64::MAX)) {
            return Ok(None);
        }
        let failed = |why: &dyn std::fmt::Display| {
            format!(
                "{NO_SNAPSHOT}: {why}. \
                 `snapshot_when` in [targets.{}] says which actions need one",
                target.name
            )
        };
        let draft = self.capture(&target, &selection).await.map_err(|error| {
            self.metrics.snapshots.failed.inc();
            failed(&error)
        })?;
        self.finish(&target, draft, purpose).await.map(Some).map_err(|error| failed(&error))
    }

    /// Puts `events`, which say that `record` was taken, on record. If they are not, the file goes again.
    pub(super) async fn keep(
        &self,
        record: SnapshotRecord,
        events: impl FnOnce(SnapshotRecord) -> Vec<Event>,
    ) -> Result<SnapshotState, Error> {
        let now = self.clock.now();
        match self.store.append(events(record.clone()), now).await {
            Ok(stamps) => Ok(SnapshotState::taken(record, stamps.last().map_or(now, |stamp| stamp.at))),
            Err(error) => {
                self.discard(&record.id, &error);
                Err(error.into())
            }
        }
    }

    /// Removes the file of a snapshot that is not on record. One that may yet be is left to the next start.
    pub(super) fn discard(&self, id: &str, why: &AppendError) {
        if !matches!(why, AppendError::Unknown(_) | AppendError::Doubt(_)) {
            self.shelf.remove(id, 1);
        }
    }

    /// The target of a snapshot that is there.
    pub(super) fn target_of(&self, state: &SnapshotState) -> Result<Arc<Connected>, String> {
        if let Some(reason) = &state.removed {
            return Err(format!("the snapshot {} is gone: {reason}", state.record.id));
        }
        self.rules().targets.get(&state.record.target).cloned().ok_or_else(|| {
            format!(
                "the target `{}` of this snapshot is not configured any more; add it again to [targets]",
                state.record.target
            )
        })
    }

    pub(super) async fn visible_snapshot(&self, caller: &Caller, id: &str) -> Result<SnapshotState, Error> {
        let state = self.store.snapshot(id).await?;
        state.filter(|s| caller.may_see(&s.record.agent)).ok_or_else(|| no_snapshot(id))
    }

    /// A snapshot. An agent's key sees its own agent's.
    ///
    /// # Errors
    /// When there is none that the caller may see.
    pub async fn view_snapshot(&self, caller: &Caller, id: &str) -> Result<SnapshotView, Error> {
        caller.within_limit()?;
        let state = self.visible_snapshot(caller, id).await?;
        self.snapshot_view(state).await
    }

    /// A page of snapshots, newest first. An agent's key sees its own agent's.
    ///
    /// # Errors
    /// When an agent's key asks for others.
    pub async fn list_snapshots(
        &self,
        caller: &Caller,
        mut query: SnapshotQuery,
    ) -> Result<SnapshotPage, Error> {
        caller.within_limit()?;
        if caller.require(Role::Operator).is_err() {
            query.filter.agent = caller.visible_agents(query.filter.agent)?;
        }
        query.filter.target =
            query.filter.target.map(|name| Name::new(&name).map_or(name, |name| name.to_string()));
        let limit = query.limit.unwrap_or(50).clamp(1, MAX_PAGE);
        let page = self.store.snapshots(query.filter, query.cursor, limit).await?;
        let mut snapshots = Vec::with_capacity(page.rows.len());
        let ids = page.rows.iter().map(|state| state.record.id.clone()).collect();
        let last = self.store.rollbacks_last_of(ids).await?;
        for (state, last) in page.rows.into_iter().zip(last) {
            snapshots.push(self.snapshot_as(state, last));
        }
        Ok(SnapshotPage { snapshots, next_cursor: page.next.map(|seq| seq.to_string()) })
    }

    /// The records of a snapshot, to be read one block after the other.
    ///
    /// # Errors
    /// When there is no such snapshot, or it is gone or damaged.
    pub async fn export_snapshot(&self, id: &str) -> Result<Export, Error> {
        let state = self.store.snapshot(id).await?.ok_or_else(|| no_snapshot(id))?;
        let target = self.target_of(&state).map_err(Error::Conflict)?;
        let snapshot = self.shelf.load(id, state.parts).await.map_err(|e| unusable(&e))?;
        let blocks = snapshot.blocks();
        Ok(Export { target, snapshot, blocks })
    }

    pub(super) async fn snapshot_view(&self, state: SnapshotState) -> Result<SnapshotView, Error> {
        let last = self.store.rollback_of(&state.record.id).await?;
        Ok(self.snapshot_as(state, last))
    }

    /// As it stands, where `last` is its last rollback.
    fn snapshot_as(&self, state: SnapshotState, last: Option<RollbackState>) -> SnapshotView {
        let id = state.record.id.clone();
        let running = {
            let running = self.rolling.lock().unwrap_or_else(PoisonError::into_inner);
            running.get(&id).map(|(rollback, progress)| RollbackStanding {
                id: rollback.clone(),
                state: RollbackProgress::Running,
                done: progress.done.load(Ordering::Relaxed),
                total: progress.total.load(Ordering::Relaxed),
            })
        };
        let rollback = match running {
            Some(running) => Some(running),
            None => last.map(|last| {
                let (standing, done) = match last.status {
                    None => (RollbackProgress::Running, 0),
                    Some(RollbackStatus::Done) => (RollbackProgress::Done, last.record.restored),
                    Some(RollbackStatus::NotDone) => (RollbackProgress::NotDone, 0),
                    Some(RollbackStatus::Unknown) => (RollbackProgress::Unknown, 0),
                };
                let total = last.record.restored;
                RollbackStanding { id: last.record.id, state: standing, done, total }
            }),
        };
        let records = state.records();
        let seal_until = Some(self.seal_until(&state)).filter(|_| state.live() && !state.record.sealed);
        let SnapshotState { record, created_at, removed, seal, parts: _ } = state;
        SnapshotView {
            id,
            target: record.target,
            resource: record.resource,
            agent: record.agent,
            session: record.session,
            check_id: record.check_id,
            origin: record.origin,
            sealed: record.sealed,
            seal,
            seal_until,
            state: if removed.is_none() { SnapshotStanding::Live } else { SnapshotStanding::Removed },
            removed_because: removed,
            records,
            by_resource: record.by_resource,
            bytes: record.bytes,
            created_at,
            rollback,
        }
    }
}

/// A snapshot that is being read.
pub struct Export {
    target: Arc<Connected>,
    snapshot: Snapshot,
    blocks: Blocks,
}

impl Export {
    /// The next records, a JSON object a line; none at the end.
    ///
    /// # Errors
    /// When the file was damaged since it was opened.
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        let Some(block) = self.blocks.next().await.map_err(Error::of_target)? else { return Ok(None) };
        self.lines(&block).map(Some).map_err(Error::of_target)
    }

    fn lines(&self, block: &Block) -> Result<String, checkrein_targets::Error> {
        let wrong = || checkrein_targets::Error::Snapshot("a block belongs to no table".to_owned());
        let tables = self.snapshot.tables(block.part)?;
        let table = usize::try_from(block.table).ok().and_then(|t| tables.get(t)).ok_or_else(wrong)?;
        let side = match block.side {
            Side::Before => "before",
            Side::After => "after",
        };
        let resource = shelf::full_name(&self.target, &table.resource);
        let mut text = String::new();
        for record in self.target.target.decode(table, &block.data)? {
            let line: Map<String, Value> = [
                ("resource".to_owned(), Value::from(resource.as_str())),
                ("side".to_owned(), Value::from(side)),
                ("record".to_owned(), Value::Object(record)),
            ]
            .into_iter()
            .collect();
            text.push_str(&Value::Object(line).to_string());
            text.push('\n');
        }
        Ok(text)
    }
}

/// Whoever changes what becomes of a snapshot holds this.
pub(super) fn snapshot_lock(id: &str) -> String {
    format!("snapshot {id}")
}

/// A file that cannot be read, now or ever.
pub(super) fn unusable(error: &checkrein_targets::Error) -> Error {
    Error::Snapshot(error.to_string())
}

pub(super) fn no_snapshot(id: &str) -> Error {
    Error::NotFound("snapshot", id.chars().take(64).collect())
}

fn selection(request: SnapshotRequest, path: &str, kind: Kind) -> Result<Selection, Error> {
    let SnapshotRequest { record_ids, filter, statement, params, action, .. } = request;
    let delete = action == Foreseen::Delete;
    let resource = path.to_owned();
    let named = || {
        // Of a folder the target alone is all of it.
        if path.is_empty() && kind != Kind::Files {
            return Err(Error::Invalid(
                "resource: name the table, as `<target>.<path>`; the target alone is for `statement`"
                    .to_owned(),
            ));
        }
        Ok(())
    };
    if params.is_some() && statement.is_none() {
        return Err(Error::Invalid("params: they belong to a `statement`".to_owned()));
    }
    match (record_ids, filter, statement) {
        (Some(ids), None, None) => {
            named()?;
            if ids.len() > limits::RECORD_IDS {
                return Err(Error::Invalid(format!("record_ids: at most {}", limits::RECORD_IDS)));
            }
            Ok(Selection::Records { resource, ids, delete })
        }
        (None, Some(filter), None) => {
            named()?;
            Ok(Selection::Where { resource, filter, delete })
        }
        (None, None, Some(sql)) => {
            if !path.is_empty() {
                return Err(Error::Invalid(
                    "resource: with a `statement`, name the target alone; the statement names its tables"
                        .to_owned(),
                ));
            }
            if sql.len() > limits::STATEMENT_BYTES {
                return Err(Error::Invalid(format!("statement: at most {} bytes", limits::STATEMENT_BYTES)));
            }
            Ok(Selection::Statements(vec![Statement { sql, params: params.unwrap_or_default() }]))
        }
        _ => Err(Error::Invalid("give exactly one of `record_ids`, `where` and `statement`".to_owned())),
    }
}
