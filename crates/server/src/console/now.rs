//! Now: what waits for a person, and what has just happened.

use super::{
    Here,
    actions::{self, Line},
    agents::{self, Switch},
    approvals::Waiting,
    page::{self, Frame},
    plot,
    request::Visitor,
    sinks::{self, Told},
};
use crate::app::{ApprovalQuery, CheckQuery, Error};
use askama::Template;
use axum::{extract::State, response::Response};
use checkrein_core::approval::State as Standing;
use checkrein_store::ApprovalFilter;

/// Holds that the page shows; the rest is behind a link.
const SHOWN: usize = 50;
/// Actions that it shows.
const LAST: usize = 12;
/// Signals that it shows.
const SIGNALS: usize = 5;

#[derive(Template)]
#[template(path = "now.html")]
struct NowPage {
    frame: Frame,
    waiting: Vec<Waiting>,
    more: bool,
    /// Breakers that are not closed.
    stopped: Vec<Switch>,
    /// What the team was told last.
    signals: Vec<Told>,
    /// Actions a minute, drawn.
    strip: Option<String>,
    last: Vec<Line>,
    server: String,
}

pub(super) async fn show(State(here): State<Here>, Visitor(session): Visitor) -> Result<Response, Error> {
    let app = &here.app;
    let filter = ApprovalFilter { state: Some(Standing::Pending), open: Some(true), agent: None };
    let open = app.list_approvals(ApprovalQuery { filter, cursor: None, limit: Some(SHOWN) }).await?;
    let more = open.next_cursor.is_some();
    let waiting: Vec<_> = open
        .approvals
        .iter()
        .filter(|approval| approval.state == Standing::Pending)
        .map(|approval| Waiting::of(approval, app.now()))
        .collect();
    let query = CheckQuery { limit: Some(LAST), ..CheckQuery::default() };
    let last = app.list_checks(&session.caller, query).await?.checks;
    let pulse = app.pulse().await?;
    let title = match waiting.len() {
        0 => "Now".to_owned(),
        n => format!("({n}{}) Now", if more { "+" } else { "" }),
    };
    let page = NowPage {
        frame: Frame::of(&session, "now", title),
        waiting,
        more,
        stopped: app.open_breakers().breakers.iter().take(SHOWN).map(agents::switch).collect(),
        signals: sinks::last(app, None, SIGNALS).await?,
        strip: (!last.is_empty()).then(|| plot::strip(&pulse, app.now())),
        last: last.iter().map(actions::line).collect(),
        server: here.app.public_url().unwrap_or("http://127.0.0.1:7070").to_owned(),
    };
    Ok(page::send(&page))
}
