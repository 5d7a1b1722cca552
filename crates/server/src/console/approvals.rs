//! Approvals: the list, and the page on which a person says yes or no.

use super::{
    Here,
    actions::{self, Line},
    agents::{self, Switch},
    deed::{self, Deed, Part},
    page::{self, Earlier, Frame},
    request::{Sent, Visitor},
    session::Session,
    text::{self, Moment, moment},
};
use crate::app::{App, ApprovalQuery, CheckQuery, Error};
use askama::{Template, filters::Safe};
use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
};
use checkrein_api::{Answer, ApprovalDecision, ApprovalView};
use checkrein_core::{
    approval::State as Standing,
    decision::{Basis, Matched},
    name::Pattern,
    time::Timestamp,
};
use checkrein_store::{ApprovalFilter, CheckFilter};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// The agent's last actions that the page shows.
const LAST: usize = 8;
/// Approvals a page.
const PAGE: usize = 50;
/// How long a page waits for records.
const PATIENCE: Duration = Duration::from_millis(700);

/// Sent by the script when it keeps an open page fresh.
const LIVE: &str = "checkrein-live";

/// An approval in a list.
pub(super) struct Waiting {
    pub(super) id: String,
    pub(super) deed: Deed,
    pub(super) reason: String,
    pub(super) state: &'static str,
    pub(super) asked: Safe<Moment>,
    /// For how long it has waited.
    pub(super) waits: String,
    /// How long an answer is still worth something.
    pub(super) left: String,
    pub(super) by: Option<String>,
    /// How many people must approve, where one is not enough, and how many have.
    pub(super) people: Option<(u8, u8)>,
}

impl Waiting {
    pub(super) fn of(approval: &ApprovalView, now: Timestamp) -> Self {
        Self {
            id: approval.id.clone(),
            deed: deed_of(approval),
            reason: approval.reason.clone(),
            state: approval.state.as_str(),
            asked: moment(approval.requested_at),
            waits: text::span(approval.requested_at, now),
            left: text::span(now, approval.expires_at),
            by: approval.decided_by.as_ref().map(|by| by.name.clone()),
            people: (approval.approvals_required > 1)
                .then_some((approval.approvals_given, approval.approvals_required)),
        }
    }
}

fn deed_of(approval: &ApprovalView) -> Deed {
    let named = (approval.agent.as_str(), approval.action.as_str(), approval.resource.as_str());
    Deed::new(named, approval.category, approval.environment, &approval.blast_radius)
}

/// The policy that asks, and why.
struct Asking {
    name: String,
    rule: String,
    reason: String,
}

/// What one of several people did.
struct Voice {
    at: Safe<Moment>,
    who: String,
    did: &'static str,
    text: Option<String>,
}

/// Some of the records, or why there are none.
struct Sample {
    tables: Vec<Table>,
    read: Safe<Moment>,
    problem: Option<String>,
}

struct Table {
    resource: String,
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

/// What the target says now. Whoever is asked does not wait long for it, and can answer without.
async fn sample(app: &App, session: &Session, approval: &ApprovalView) -> Option<Sample> {
    if approval.state != Standing::Pending || approval.blast_radius.basis == Basis::Declared {
        return None;
    }
    let read = app.sample_approval(&session.caller, &approval.id, PATIENCE).await;
    let cell = |value: Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    let (resources, problem) = match read {
        Ok(view) => (view.resources, None),
        // Answered meanwhile.
        Err(Error::Conflict(_)) => return None,
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let tables = resources.into_iter().map(|sampled| Table {
        resource: sampled.resource,
        columns: sampled.columns,
        rows: sampled.rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect(),
    });
    Some(Sample { tables: tables.collect(), read: moment(app.now()), problem })
}

#[derive(Template)]
#[template(path = "approval.html")]
struct ApprovalPage {
    frame: Frame,
    approval: Waiting,
    check_id: String,
    expires: Safe<Moment>,
    decided: Option<Safe<Moment>>,
    comment: Option<String>,
    used_by: Option<String>,
    asking: Vec<Asking>,
    /// What people said besides the last answer.
    voices: Vec<Voice>,
    /// What is unusual about it, in a sentence.
    drift: Option<String>,
    switch: Switch,
    /// What keeps the agent from running, whatever is answered.
    stopped: Vec<Switch>,
    here: String,
    /// The beginning of the statement: what becomes of the records.
    gist: Option<String>,
    parts: Vec<Part>,
    session: Option<String>,
    last: Vec<Line>,
    /// Some of the records that it would touch now.
    sample: Option<Sample>,
    /// Why the answer that was just given does not count.
    problem: Option<String>,
    /// What was said with it, so that it is not lost.
    said: String,
}

pub(super) async fn show(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let looks = if headers.contains_key(LIVE) { Looks::Again } else { Looks::First };
    one(&here.app, &session, &id, looks, None, "").await
}

/// Who reads a page.
#[derive(PartialEq, Eq)]
enum Looks {
    /// A person, to whom records are shown.
    First,
    /// The script of a page that is open, which leaves the records there as they are.
    Again,
}

async fn one(
    app: &App,
    session: &Session,
    id: &str,
    looks: Looks,
    problem: Option<(StatusCode, String)>,
    said: &str,
) -> Result<Response, Error> {
    let caller = &session.caller;
    let approval = app.view_approval(caller, id).await?;
    let agent = Pattern::new(&approval.agent).ok();
    let filter = CheckFilter { agent, ..CheckFilter::default() };
    let query = CheckQuery { filter, limit: Some(LAST), ..CheckQuery::default() };
    let last = app.list_checks(caller, query).await?.checks;
    // Retention may have taken the check; the approval says itself what it is about.
    let (matched, drift) = match app.peek_check(caller, &approval.check_id).await {
        Ok(check) => (check.decision.policies, check.decision.drift.map(|drift| drift.reason)),
        Err(_) => (Vec::new(), None),
    };
    let breaker = app.breaker(&app.breaker_scope(&format!("agent:{}", approval.agent))?).await?;
    let stopped = app.in_the_way(&approval.id).await?;
    let waiting = Waiting::of(&approval, app.now());
    let title = format!("{}: {} {} {}", waiting.state, approval.agent, approval.action, approval.resource);
    let page = ApprovalPage {
        frame: Frame::of(session, "approvals", title),
        check_id: approval.check_id.clone(),
        expires: moment(approval.expires_at),
        decided: approval.decided_at.map(moment),
        comment: approval.comment.clone(),
        used_by: approval.used_by.clone(),
        asking: asking(&approval.policies, &matched),
        voices: voices(&approval),
        drift,
        switch: agents::switch(&breaker),
        stopped: stopped.iter().map(agents::switch).collect(),
        here: format!("/approvals/{}", approval.id),
        gist: approval.check.statement.as_deref().map(deed::gist),
        parts: deed::parts(&approval.check),
        sample: match looks {
            Looks::First => sample(app, session, &approval).await,
            Looks::Again => None,
        },
        session: approval.check.session.clone(),
        last: last.iter().map(actions::line).collect(),
        problem: problem.as_ref().map(|(_, why)| why.clone()),
        said: said.to_owned(),
        approval: waiting,
    };
    Ok(page::send_with(problem.map_or(StatusCode::OK, |(status, _)| status), &page))
}

fn voices(approval: &ApprovalView) -> Vec<Voice> {
    let given = approval.given.iter().map(|given| (given.at, "approved", &given.by, given.comment.as_ref()));
    let said = approval.comments.iter().map(|said| (said.at, "said", &said.by, Some(&said.text)));
    let mut all: Vec<_> = given.chain(said).collect();
    all.sort_by_key(|(at, ..)| *at);
    all.into_iter()
        .map(|(at, did, by, text)| Voice { at: moment(at), who: by.name.clone(), did, text: text.cloned() })
        .collect()
}

fn asking(names: &[String], matched: &[Matched]) -> Vec<Asking> {
    names
        .iter()
        .map(|name| {
            let found = matched.iter().find(|m| m.name == *name);
            Asking {
                name: name.clone(),
                rule: found.map_or("require_approval", |m| m.rule.as_str()).replace('_', " "),
                reason: found.map(|m| m.reason.clone()).unwrap_or_default(),
            }
        })
        .collect()
}

pub(super) async fn decide(
    State(here): State<Here>,
    Path(id): Path<String>,
    Sent { by, form }: Sent,
) -> Result<Response, Error> {
    let decision = match form.get("decision") {
        "approve" => Answer::Approve,
        "deny" => Answer::Deny,
        _ => return Err(Error::Invalid("decision: approve or deny".to_owned())),
    };
    // Browsers end the lines of a text with both characters.
    let said = form.get("comment").replace("\r\n", "\n");
    let comment = Some(said.trim().to_owned()).filter(|comment| !comment.is_empty());
    let answered = here.app.decide_approval(&by.caller, &id, ApprovalDecision { decision, comment }).await;
    let (status, why) = match answered {
        Ok(_) => return Ok(Redirect::to(&format!("/approvals/{id}")).into_response()),
        Err(error @ Error::Approval(_)) => {
            (StatusCode::CONFLICT, format!("Your answer does not count: {error}."))
        }
        Err(error @ Error::Invalid(_)) => (StatusCode::BAD_REQUEST, error.to_string()),
        Err(error) => return Err(error),
    };
    one(&here.app, &by, &id, Looks::First, Some((status, why)), &said).await
}

/// Says something without answering.
pub(super) async fn comment(
    State(here): State<Here>,
    Path(id): Path<String>,
    Sent { by, form }: Sent,
) -> Result<Response, Error> {
    let text = form.get("text").replace("\r\n", "\n").trim().to_owned();
    here.app.comment_approval(&by.caller, &id, text).await?;
    Ok(Redirect::to(&format!("/approvals/{id}")).into_response())
}

/// The whole of what was asked, for what a page cannot show.
pub(super) async fn download(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let approval = here.app.view_approval(&session.caller, &id).await?;
    Ok(attachment(&approval.id, &approval.check))
}

/// `content` as a file that no browser takes for a page.
pub(super) fn attachment(id: &str, content: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec_pretty(content).unwrap_or_default();
    let name: String = id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.json\"")),
    ];
    (headers, body).into_response()
}

#[derive(Deserialize)]
pub(super) struct Params {
    state: Option<String>,
    agent: Option<String>,
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "approvals.html")]
struct ListPage {
    frame: Frame,
    approvals: Vec<Waiting>,
    state: String,
    agent: String,
    next: Option<Earlier>,
}

const STATES: [Standing; 5] =
    [Standing::Pending, Standing::Approved, Standing::Denied, Standing::Expired, Standing::Withdrawn];

impl ListPage {
    fn states(&self) -> impl Iterator<Item = (&'static str, bool)> {
        STATES.iter().map(|state| (state.as_str(), state.as_str() == self.state))
    }
}

pub(super) async fn list(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Query(params): Query<Params>,
) -> Result<Response, Error> {
    let state = params.state.unwrap_or_default();
    let agent = params.agent.unwrap_or_default();
    let filter = ApprovalFilter {
        state: STATES.into_iter().find(|s| s.as_str() == state),
        open: None,
        agent: super::request::pattern("agent", &agent)?,
    };
    let cursor = super::request::cursor(params.cursor.as_deref())?;
    let page = here.app.list_approvals(ApprovalQuery { filter, cursor, limit: Some(PAGE) }).await?;
    let now = here.app.now();
    let link = |next: &str| super::request::query(&[("state", &state), ("agent", &agent), ("cursor", next)]);
    let next = Earlier::of(&here.app, page.next_cursor, (page.approvals.len(), PAGE), link).await?;
    let page = ListPage {
        frame: Frame::of(&session, "approvals", "Approvals"),
        approvals: page.approvals.iter().map(|a| Waiting::of(a, now)).collect(),
        next,
        state,
        agent,
    };
    Ok(page::send(&page))
}
