//! Sinks: whether messages arrive, what was given up, and a test.

use super::{
    Here,
    page::{self, Frame},
    request::{Sent, Visitor},
    session::Session,
    text::{self, Moment, moment},
};
use crate::app::{App, Error, SignalQuery};
use askama::{Template, filters::Safe};
use axum::{
    extract::{Path, State},
    response::{IntoResponse as _, Redirect, Response},
};
use checkrein_api::{Severity, SignalReplay, SignalView, SinkReport, SinkView, Standing};
use checkrein_core::key::Role;
use checkrein_store::SignalFilter;

/// Signals that the page shows of each list.
const SHOWN: usize = 20;

/// A signal in a list.
pub(super) struct Told {
    pub(super) id: String,
    pub(super) at: Safe<Moment>,
    pub(super) kind: String,
    pub(super) tone: &'static str,
    pub(super) severity: &'static str,
    pub(super) summary: String,
    pub(super) link: Option<String>,
    /// Where it went, and how that ended.
    pub(super) sent: Vec<(String, &'static str, String)>,
}

pub(super) fn told(view: &SignalView) -> Told {
    let signal = &view.signal;
    let place = |folder: &str, id: &Option<String>| id.as_ref().map(|id| format!("/{folder}/{id}"));
    Told {
        id: signal.id.clone(),
        at: moment(signal.at),
        kind: signal.kind.clone(),
        tone: if signal.severity >= Severity::Warning { "hold" } else { "" },
        severity: signal.severity.as_str(),
        summary: signal.summary.clone(),
        link: place("approvals", &signal.approval_id)
            .or_else(|| place("actions", &signal.check_id))
            .or_else(|| place("snapshots", &signal.snapshot_id)),
        sent: view
            .deliveries
            .iter()
            .map(|sent| (sent.sink.clone(), sent.status.as_str(), sent.error.clone().unwrap_or_default()))
            .collect(),
    }
}

/// The last signals, of one standing where one is named.
pub(super) async fn last(app: &App, standing: Option<Standing>, limit: usize) -> Result<Vec<Told>, Error> {
    let filter = SignalFilter { standing, ..SignalFilter::default() };
    let page = app.list_signals(SignalQuery { filter, cursor: None, limit: Some(limit) }).await?;
    Ok(page.signals.iter().map(told).collect())
}

struct Line {
    name: String,
    kind: String,
    takes: &'static str,
    state: &'static str,
    tone: &'static str,
    queued: String,
    delivered: String,
    failed: String,
    dead: String,
    last: Option<Safe<Moment>>,
    error: String,
    error_at: Option<Safe<Moment>>,
}

fn line(sink: SinkView) -> Line {
    let (state, tone) = match (sink.failing, sink.circuit.as_str()) {
        (true, "open") => ("failing, left alone for a while", "error"),
        (true, _) => ("failing", "error"),
        (false, "open") => ("left alone for a while", "hold"),
        (false, _) if sink.last_delivered_at.is_none() && sink.last_error_at.is_none() => {
            ("not used yet", "")
        }
        (false, _) => ("fine", "ok"),
    };
    Line {
        takes: match (sink.signals, sink.actions) {
            (true, true) => "signals, all actions",
            (true, false) => "signals",
            (false, true) => "all actions",
            (false, false) => "nothing",
        },
        state,
        tone,
        queued: text::number(sink.queued),
        delivered: text::number(sink.delivered.saturating_add(sink.records)),
        failed: text::number(sink.failed),
        dead: text::number(sink.dead.saturating_add(sink.records_lost)),
        last: sink.last_delivered_at.map(moment),
        error_at: sink.last_error_at.map(moment),
        error: sink.last_error.unwrap_or_default(),
        name: sink.name,
        kind: sink.kind,
    }
}

#[derive(Template)]
#[template(path = "sinks.html")]
struct SinksPage {
    frame: Frame,
    lines: Vec<Line>,
    dead: Vec<Told>,
    last: Vec<Told>,
    /// What a test has just found.
    tested: Option<(String, SinkReport)>,
}

async fn page(app: &App, session: &Session, tested: Option<(String, SinkReport)>) -> Result<Response, Error> {
    Ok(page::send(&SinksPage {
        frame: Frame::of(session, "sinks", "Sinks"),
        lines: app.list_sinks().sinks.into_iter().map(line).collect(),
        dead: last(app, Some(Standing::Dead), SHOWN).await?,
        last: last(app, None, SHOWN).await?,
        tested,
    }))
}

pub(super) async fn list(State(here): State<Here>, Visitor(session): Visitor) -> Result<Response, Error> {
    page(&here.app, &session, None).await
}

/// Sends examples to a sink and says which arrived.
pub(super) async fn test(
    State(here): State<Here>,
    Path(name): Path<String>,
    Sent { by, .. }: Sent,
) -> Result<Response, Error> {
    by.caller.require(Role::Admin)?;
    let report = here.app.test_sink(&name).await?;
    page(&here.app, &by, Some((name, report))).await
}

/// Sends again what was given up.
pub(super) async fn replay(
    State(here): State<Here>,
    Path(id): Path<String>,
    Sent { by, .. }: Sent,
) -> Result<Response, Error> {
    by.caller.require(Role::Operator)?;
    here.app.replay_signal(&id, SignalReplay::default()).await?;
    Ok(Redirect::to("/sinks").into_response())
}
