//! `/v1/stream`: the action log as server-sent events, resumable.

use super::{OperatorKey, Shared, body::Query};
use crate::{
    app::{Caller, Error},
    metrics::Counted,
};
use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use checkrein_api::Problem;
use checkrein_core::event::Entry;
use checkrein_store::EntryFilter;
use futures_util::{Stream, stream};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Entries read at a time.
const BATCH: usize = 256;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamParams {
    /// Start after this entry; `0` for the whole log. Absent: start with what happens from now on. The
    /// header `Last-Event-ID` comes first.
    after: Option<u64>,
    /// Only this kind of entry, e.g. `check`.
    kind: Option<String>,
}

struct Position {
    app: Shared,
    caller: Arc<Caller>,
    after: u64,
    filter: EntryFilter,
    ready: VecDeque<Entry>,
    head: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    _counted: Counted,
}

/// Follow the action log.
///
/// One event an entry: `id` its number, `event` its kind, `data` its content as JSON. A client that
/// reconnects with `Last-Event-ID` misses nothing.
#[utoipa::path(get, path = "/v1/stream", tag = "log", params(StreamParams), responses(
    (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn stream(
    State(app): State<Shared>,
    OperatorKey(caller): OperatorKey,
    headers: HeaderMap,
    Query(params): Query<StreamParams>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Error> {
    let resumed = headers
        .get("last-event-id")
        .map(|id| id.to_str().ok().and_then(|id| id.trim().parse().ok()))
        .map(|id| {
            id.ok_or_else(|| Error::Invalid("Last-Event-ID: must be the number of an entry".to_owned()))
        })
        .transpose()?;
    let after = resumed.or(params.after).unwrap_or_else(|| app.store().head().seq);
    let position = Position {
        after,
        filter: EntryFilter { kinds: params.kind.into_iter().collect(), ..EntryFilter::default() },
        ready: VecDeque::new(),
        head: app.store().subscribe(),
        stopping: app.stopping(),
        _counted: Counted::stream(app.clone()),
        caller,
        app,
    };
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Sse::new(stream::unfold(position, next)).keep_alive(keep_alive))
}

/// The next entry, once there is one. Ends the stream when the server stops, the key is revoked or the log
/// cannot be read; the client then resumes where it was.
async fn next(mut at: Position) -> Option<(Result<Event, Infallible>, Position)> {
    loop {
        if let Some(entry) = at.ready.pop_front() {
            return Some((Ok(event(&entry)), at));
        }
        if *at.stopping.borrow() {
            return None;
        }
        // Taken before reading, so that what is written in between is not slept through.
        let head = *at.head.borrow_and_update();
        if at.after < head {
            if !at.app.in_force(&at.caller) {
                return None;
            }
            let entries = at.app.store().entries(at.after, BATCH, at.filter.clone()).await.ok()?;
            at.after = match entries.last() {
                Some(last) if entries.len() == BATCH => last.seq,
                last => last.map_or(head, |e| e.seq).max(head),
            };
            at.ready.extend(entries);
            continue;
        }
        tokio::select! {
            changed = at.head.changed() => changed.ok()?,
            _ = at.stopping.changed() => return None,
        }
    }
}

#[derive(serde::Serialize)]
struct Data<'a> {
    seq: u64,
    at: checkrein_core::time::Timestamp,
    kind: &'a str,
    subject: &'a str,
    agent: &'a str,
    hash: String,
    body: Option<&'a RawValue>,
}

fn event(entry: &Entry) -> Event {
    let data = Data {
        seq: entry.seq,
        at: entry.at,
        kind: &entry.kind,
        subject: &entry.subject,
        agent: &entry.agent,
        hash: entry.hash.to_string(),
        body: serde_json::from_str(&entry.body).ok(),
    };
    // JSON has no raw line breaks, so it cannot break out of its `data:` line.
    let json = serde_json::to_string(&data).unwrap_or_default();
    Event::default().id(entry.seq.to_string()).event(&entry.kind).data(json)
}
