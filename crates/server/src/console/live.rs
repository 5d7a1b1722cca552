//! Tells open pages that something has changed, as server-sent events. What has changed they read anew.

use super::{Here, request::Visitor, session::Session};
use crate::metrics::Counted;
use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use checkrein_store::EntryFilter;
use futures_util::{Stream, stream};
use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::watch;

/// How long what happens is gathered before it is told: a busy agent must not keep every open page busy.
const GATHER: Duration = Duration::from_millis(400);
/// How often a session is looked at when nothing happens.
const LOOK: Duration = Duration::from_secs(5);
/// Kinds of entries that are told by name; of checks it is only told that there were some.
const KINDS: &[&str] = &[
    "outcome",
    "approval.requested",
    "approval.changed",
    "grant.given",
    "grant.changed",
    "silence.created",
    "silence.ended",
    "snapshot.taken",
    "snapshot.sealed",
    "snapshot.removed",
    "rollback.started",
    "rollback.finished",
    "breaker.changed",
    "policy.put",
    "policy.deleted",
    "policy.loaded",
];
/// Entries read at a time.
const BATCH: usize = 1_000;

struct Position {
    here: Here,
    session: Arc<Session>,
    after: u64,
    head: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    _counted: Counted,
}

pub(super) async fn stream(
    State(here): State<Here>,
    Visitor(session): Visitor,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let app = &here.app;
    let position = Position {
        after: app.store().head().seq,
        head: app.store().subscribe(),
        stopping: app.stopping(),
        _counted: Counted::stream(Arc::clone(app)),
        session,
        here: Arc::clone(&here),
    };
    Sse::new(stream::unfold(position, next)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

/// What has happened since, once something has. Ends when the session or the server does.
async fn next(mut at: Position) -> Option<(Result<Event, Infallible>, Position)> {
    loop {
        if *at.stopping.borrow() || !at.session.holds(&at.here.app) {
            return None;
        }
        if *at.head.borrow() > at.after {
            tokio::time::sleep(GATHER).await;
            let head = *at.head.borrow_and_update();
            let filter = EntryFilter {
                kinds: KINDS.iter().map(|k| (*k).to_owned()).collect(),
                ..EntryFilter::default()
            };
            let entries = at.here.app.store().entries(at.after, BATCH, filter).await.ok()?;
            let kinds: BTreeSet<&str> = entries.iter().map(|e| e.kind.as_str()).chain(["check"]).collect();
            at.after = head;
            let data = kinds.into_iter().collect::<Vec<_>>().join(" ");
            return Some((Ok(Event::default().event("change").data(data)), at));
        }
        tokio::select! {
            changed = at.head.changed() => changed.ok()?,
            _ = at.stopping.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
