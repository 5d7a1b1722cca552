//! Snapshots: what was kept, what a rollback would do, what stands against it, and rolling back.

use super::{
    Here,
    page::{self, Earlier, Frame},
    request::{self, Sent, Visitor},
    session::Session,
    text::{self, Moment, moment},
};
use crate::app::{App, Error, SnapshotQuery};
use askama::{Template, filters::Safe};
use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use checkrein_api::{
    ConflictKind, OnConflict, RollbackConflict, RollbackOutcome, RollbackPlan, RollbackProgress,
    RollbackRequest, SnapshotStanding, SnapshotView,
};
use checkrein_core::snapshot::RollbackState;
use checkrein_store::SnapshotFilter;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{collections::BTreeSet, sync::Arc};

/// Snapshots a page.
const PAGE: usize = 50;
/// Conflicts that a page shows; the API has more.
const SHOWN: usize = 50;
/// Characters of a value that a page shows.
const VALUE_CHARS: usize = 200;

struct Line {
    id: String,
    at: Safe<Moment>,
    agent: String,
    resource: String,
    records: String,
    size: String,
    origin: &'static str,
    sealed: bool,
    live: bool,
    removed_because: String,
    check_id: Option<String>,
    rollback: Option<Progress>,
}

impl Line {
    /// Whoever has rolled it back once hardly wants it again.
    fn rolled_back(&self) -> bool {
        self.rollback.as_ref().is_some_and(|rollback| rollback.state == "done")
    }
}

struct Progress {
    state: &'static str,
    text: String,
    running: bool,
    done: u64,
    total: u64,
}

fn line(view: &SnapshotView) -> Line {
    Line {
        id: view.id.clone(),
        at: moment(view.created_at),
        agent: view.agent.clone(),
        resource: view.resource.clone(),
        records: text::number(view.records),
        size: text::bytes(view.bytes),
        origin: view.origin.as_str(),
        sealed: view.sealed,
        live: view.state == SnapshotStanding::Live,
        removed_because: view.removed_because.clone().unwrap_or_default(),
        check_id: view.check_id.clone(),
        rollback: view.rollback.as_ref().map(|rollback| {
            let (state, text) = match rollback.state {
                RollbackProgress::Running if rollback.total == 0 => ("unknown", "rolling back".to_owned()),
                RollbackProgress::Running => (
                    "unknown",
                    format!(
                        "rolling back: {} of {}",
                        text::number(rollback.done),
                        text::number(rollback.total)
                    ),
                ),
                RollbackProgress::Done => ("done", "rolled back".to_owned()),
                RollbackProgress::NotDone => ("not_done", "not rolled back".to_owned()),
                RollbackProgress::Unknown => ("unknown", "not known whether it was rolled back".to_owned()),
            };
            let running = rollback.state == RollbackProgress::Running;
            Progress { state, text, running, done: rollback.done, total: rollback.total }
        }),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Params {
    agent: String,
    target: String,
    state: String,
    cursor: String,
}

#[derive(Template)]
#[template(path = "snapshots.html")]
struct ListPage {
    frame: Frame,
    params: Params,
    lines: Vec<Line>,
    next: Option<Earlier>,
}

pub(super) async fn list(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Query(params): Query<Params>,
) -> Result<Response, Error> {
    let filter = SnapshotFilter {
        agent: request::pattern("agent", &params.agent)?,
        target: Some(params.target.clone()).filter(|target| !target.is_empty()),
        live: match params.state.as_str() {
            "live" => Some(true),
            "removed" => Some(false),
            _ => None,
        },
    };
    let query = SnapshotQuery { filter, cursor: request::cursor(Some(&params.cursor))?, limit: Some(PAGE) };
    let found = here.app.list_snapshots(&session.caller, query).await?;
    let link = |cursor: &str| {
        request::query(&[
            ("agent", &params.agent),
            ("target", &params.target),
            ("state", &params.state),
            ("cursor", cursor),
        ])
    };
    let next = Earlier::of(&here.app, found.next_cursor, (found.snapshots.len(), PAGE), link).await?;
    let frame = Frame::of(&session, "snapshots", "Snapshots");
    Ok(page::send(&ListPage { frame, lines: found.snapshots.iter().map(line).collect(), next, params }))
}

/// A rollback that there was.
struct Rolled {
    id: String,
    at: Safe<Moment>,
    by: String,
    status: &'static str,
    restored: String,
    forced: bool,
    reason: Option<String>,
    undo: String,
}

fn rolled(state: RollbackState) -> Rolled {
    Rolled {
        at: moment(state.started_at),
        by: state.record.by.name,
        status: state.status.map_or("open", |status| status.as_str()),
        restored: text::number(state.record.restored),
        forced: state.record.on_conflict == OnConflict::Force,
        reason: state.reason,
        undo: state.record.undo_snapshot_id,
        id: state.record.id,
    }
}

/// What a rollback would do.
struct Plan {
    steps: Vec<[String; 6]>,
    notes: Vec<String>,
    conflicts: Vec<Conflict>,
    conflict_count: String,
    more: bool,
    any: bool,
    /// Names exactly these conflicts, so that nobody forces what they have not seen.
    seen: String,
}

/// A record that somebody worked on since, state beside state.
struct Conflict {
    resource: String,
    key: String,
    kind: &'static str,
    columns: Vec<Column>,
    /// Whether there was such a record before, after, and now.
    there: [&'static str; 3],
}

struct Column {
    name: String,
    differs: bool,
    values: [String; 3],
}

fn plan(plan: &RollbackPlan) -> Plan {
    Plan {
        steps: plan
            .by_resource
            .iter()
            .map(|s| {
                let [update, insert, delete, keep, conflicts] =
                    [s.update, s.insert, s.delete, s.keep, s.conflicts].map(text::number);
                [s.resource.clone(), update, insert, delete, keep, conflicts]
            })
            .collect(),
        notes: plan.notes.clone(),
        conflicts: plan.conflicts.iter().take(SHOWN).map(conflict).collect(),
        conflict_count: text::number(plan.conflict_count),
        more: plan.conflict_count > SHOWN as u64,
        any: plan.conflict_count > 0,
        seen: plan.digest.clone(),
    }
}

fn conflict(conflict: &RollbackConflict) -> Conflict {
    let states = [&conflict.before, &conflict.after, &conflict.now];
    let names: BTreeSet<&String> = states.iter().filter_map(|s| s.as_ref()).flat_map(Map::keys).collect();
    let value = |state: &Option<Map<String, Value>>, name: &str| {
        state.as_ref().and_then(|s| s.get(name)).map(short).unwrap_or_default()
    };
    let unsealed = conflict.kind == ConflictKind::Unsealed;
    Conflict {
        resource: conflict.resource.clone(),
        key: conflict
            .key
            .iter()
            .map(|(name, v)| format!("{name} {}", short(v)))
            .collect::<Vec<_>>()
            .join(", "),
        kind: match conflict.kind {
            ConflictKind::Changed => "somebody changed it since",
            ConflictKind::Removed => "somebody removed it since",
            ConflictKind::Replaced => "something else stands in its place",
            ConflictKind::Unsealed => {
                "the snapshot is not sealed: the agent's work cannot be told from others'"
            }
        },
        columns: names
            .into_iter()
            .map(|name| {
                let values = states.map(|state| value(state, name));
                let [before, after, now] = &values;
                let differs = if unsealed { before != now } else { after != now };
                Column { name: name.clone(), differs, values }
            })
            .collect(),
        there: [
            if conflict.before.is_some() { "" } else { "did not exist" },
            if unsealed {
                "not known"
            } else if conflict.after.is_some() {
                ""
            } else {
                "removed"
            },
            if conflict.now.is_some() { "" } else { "is gone" },
        ],
    }
}

fn short(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(VALUE_CHARS) {
        None => text,
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

#[derive(Template)]
#[template(path = "snapshot.html")]
struct SnapshotPage {
    frame: Frame,
    line: Line,
    held: Vec<(String, String)>,
    sealed_at: Option<Safe<Moment>>,
    rolled: Vec<Rolled>,
    plan: Option<Plan>,
    /// What was just done or refused, and how good that is.
    said: Option<(&'static str, String)>,
}

async fn one(
    app: &App,
    session: &Session,
    id: &str,
    planned: Option<&RollbackPlan>,
    said: Option<(StatusCode, &'static str, String)>,
) -> Result<Response, Error> {
    let view = app.view_snapshot(&session.caller, id).await?;
    let rolled = app.store().rollbacks_of(id).await?.into_iter().rev().map(rolled).collect();
    let status = said.as_ref().map_or(StatusCode::OK, |(status, ..)| *status);
    let page = SnapshotPage {
        frame: Frame::of(session, "snapshots", format!("Snapshot of {}", view.resource)),
        held: view
            .by_resource
            .iter()
            .map(|held| (held.resource.clone(), text::number(held.records)))
            .collect(),
        sealed_at: view.seal.as_ref().map(|seal| moment(seal.at)),
        line: line(&view),
        rolled,
        plan: planned.map(plan),
        said: said.map(|(_, tone, text)| (tone, text)),
    };
    Ok(page::send_with(status, &page))
}

pub(super) async fn show(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    one(&here.app, &session, &id, None, None).await
}

/// Plans a rollback, or does it.
pub(super) async fn act(
    State(here): State<Here>,
    Path(id): Path<String>,
    Sent { by, form }: Sent,
) -> Result<Response, Error> {
    let app = &here.app;
    let on_conflict = match form.get("on_conflict") {
        "skip" => OnConflict::Skip,
        "force" => OnConflict::Force,
        _ => OnConflict::Refuse,
    };
    if form.get("do") == "plan" {
        let dry = RollbackRequest { dry_run: true, ..RollbackRequest::default() };
        let planned = app.rollback(&by.caller, &id, dry).await?;
        return one(app, &by, &id, Some(&planned.plan), None).await;
    }
    // What is overwritten or left out is what this person has looked at.
    let plan_digest = (on_conflict != OnConflict::Refuse).then(|| form.get("seen").to_owned());
    let request = RollbackRequest { dry_run: false, on_conflict, plan_digest };
    roll_back(app, &by, &id, request).await
}

async fn roll_back(
    app: &Arc<App>,
    by: &Session,
    id: &str,
    request: RollbackRequest,
) -> Result<Response, Error> {
    match app.rollback(&by.caller, id, request).await {
        Ok(done) if done.status == RollbackOutcome::Nothing => {
            let said = "Nothing had to be done: every record already is as it was.".to_owned();
            one(app, by, id, Some(&done.plan), Some((StatusCode::OK, "good", said))).await
        }
        Ok(_) => Ok(Redirect::to(&format!("/snapshots/{id}")).into_response()),
        Err(Error::RollbackConflicts(planned)) => {
            let why = "Nothing was changed: somebody worked on these records since. Look at the difference."
                .to_owned();
            one(app, by, id, Some(&planned), Some((StatusCode::CONFLICT, "bad", why))).await
        }
        Err(Error::RollbackChanged(planned)) => {
            let why = "What stands against it has changed since you looked; nothing was done. Look again.";
            one(app, by, id, Some(&planned), Some((StatusCode::CONFLICT, "bad", why.to_owned()))).await
        }
        Err(error @ (Error::RollbackImpossible(_) | Error::RollbackUnknown(_) | Error::Conflict(_))) => {
            one(app, by, id, None, Some((StatusCode::CONFLICT, "bad", error.to_string()))).await
        }
        Err(error) => Err(error),
    }
}
