//! Agents: what each normally does, what it did last, and its breaker.

use super::{
    Here,
    actions::{self, Line, Params},
    page::{self, Earlier, Frame},
    plot,
    request::{self, Sent, Visitor},
    text::{Moment, moment},
};
use crate::app::Error;
use askama::{Template, filters::Safe};
use axum::{
    extract::{Path, Query, State},
    response::{IntoResponse as _, Redirect, Response},
};
use checkrein_api::{AgentView, BreakerRequest, BreakerState, BreakerView, BreakerWanted};
use checkrein_core::name::Name;
use serde::Deserialize;

/// Agents a page.
const PAGE: usize = 50;
/// Hours of the plot.
const HOURS: u16 = 48;
/// Kinds of action that the mix shows.
const MIX: usize = 8;

/// A breaker, and the switch for it.
pub(super) struct Switch {
    /// As the server names it: `agent:NAME`, `group:NAME`, `all`.
    pub(super) scope: String,
    /// As people do.
    pub(super) name: String,
    pub(super) link: Option<String>,
    pub(super) state: &'static str,
    pub(super) closed: bool,
    pub(super) since: Option<Safe<Moment>>,
    pub(super) until: Option<Safe<Moment>>,
    pub(super) reason: String,
}

pub(super) fn switch(view: &BreakerView) -> Switch {
    let agent = view.scope.strip_prefix("agent:");
    Switch {
        name: match (agent, view.scope.strip_prefix("group:")) {
            (Some(pattern), _) if pattern.contains('*') => format!("every agent of the key for {pattern}"),
            (Some(agent), _) => agent.to_owned(),
            (None, Some(group)) => format!("the group {group}"),
            (None, None) => "every agent".to_owned(),
        },
        link: agent.map(|agent| format!("/agents/{}", request::segment(agent))),
        scope: view.scope.clone(),
        state: view.state.as_str(),
        closed: view.state == BreakerState::Closed,
        since: view.since.map(moment),
        until: view.until.map(moment),
        reason: view.reason.clone().unwrap_or_default(),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ListParams {
    agent: String,
    cursor: String,
}

struct Known {
    name: String,
    seen: Safe<Moment>,
    breaker: &'static str,
    group: String,
}

#[derive(Template)]
#[template(path = "agents.html")]
struct ListPage {
    frame: Frame,
    params: ListParams,
    agents: Vec<Known>,
    all: Switch,
    next: Option<String>,
    here: String,
}

pub(super) async fn list(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Query(params): Query<ListParams>,
) -> Result<Response, Error> {
    let app = &here.app;
    let pattern = request::pattern("agent", &params.agent)?;
    let cursor = Some(params.cursor.clone()).filter(|cursor| !cursor.is_empty());
    let found = app.list_agents(pattern, cursor, Some(PAGE)).await?;
    let all = app.breaker(&app.breaker_scope("all")?).await?;
    let page = ListPage {
        frame: Frame::of(&session, "agents", "Agents"),
        next: found.next_cursor.map(|next| request::query(&[("agent", &params.agent), ("cursor", &next)])),
        agents: found
            .agents
            .into_iter()
            .map(|known| Known {
                name: known.agent,
                seen: moment(known.last_seen),
                breaker: known.breaker.as_str(),
                group: known.group.unwrap_or_default(),
            })
            .collect(),
        all: switch(&all),
        params,
        here: "/agents".to_owned(),
    };
    Ok(page::send(&page))
}

/// What is known of what is normal for an agent.
struct Normal {
    mode: String,
    learning: bool,
    unusual: String,
    band: String,
    /// Fewer hours than usual are known.
    short: bool,
    mix: Vec<(String, String)>,
}

fn normal(view: &AgentView) -> Normal {
    Normal {
        mode: view.mode.clone(),
        learning: view.learning,
        unusual: view.incidents.iter().map(|c| c.as_str()).collect::<Vec<_>>().join(", "),
        band: plot::band(&view.hours),
        short: view.hours.len() < usize::from(HOURS),
        mix: view
            .mix
            .iter()
            .take(MIX)
            .map(|share| {
                let tool = share.tool.as_ref().filter(|tool| **tool != share.action);
                let name =
                    tool.map_or_else(|| share.action.clone(), |tool| format!("{} ({tool})", share.action));
                (name, format!("{:.0} %", share.share * 100.0))
            })
            .collect(),
    }
}

#[derive(Template)]
#[template(path = "agent.html")]
struct AgentPage {
    frame: Frame,
    agent: String,
    switch: Option<Switch>,
    normal: Option<Normal>,
    params: Params,
    lines: Vec<Line>,
    next: Option<Earlier>,
    /// Where the search was begun further back: until when, and how to begin it where it was left.
    jumped: Option<(Safe<Moment>, String)>,
    here: String,
}

/// One agent, with its timeline.
pub(super) async fn show(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Path(agent): Path<String>,
    Query(mut params): Query<Params>,
) -> Result<Response, Error> {
    let app = &here.app;
    params.agent.clone_from(&agent);
    let mut query = params.query()?;
    let mut page = app.list_checks(&session.caller, query.clone()).await?;
    let mut jumped = None;
    if page.checks.is_empty()
        && params.cursor.is_empty()
        && let (Some(next), Ok(name)) = (&page.next_cursor, Name::new(&agent))
        && let Some(last) = app.acted_until(&name).await?
    {
        // Whoever does not trust that can look through all of it.
        jumped = Some((moment(last), params.later(next)));
        query.cursor = request::cursor(Some(next))?;
        query.filter.until = Some(query.filter.until.map_or(last, |until| until.min(last)));
        page = app.list_checks(&session.caller, query).await?;
    }
    params.agent.clear();
    let shown = (page.checks.len(), actions::PAGE);
    let next = Earlier::of(app, page.next_cursor, shown, |next| params.later(next)).await?;
    let known = match app.view_agent(&agent, HOURS).await {
        Ok(known) => Some(known),
        // One that never acted, or of which nothing was kept.
        Err(Error::NotFound(..)) => None,
        Err(error) => return Err(error),
    };
    Ok(page::send(&AgentPage {
        frame: Frame::of(&session, "agents", agent.clone()),
        switch: known.as_ref().map(|known| switch(&known.breaker)),
        normal: known.as_ref().map(normal),
        lines: page.checks.iter().map(actions::line).collect(),
        next,
        params,
        jumped,
        here: format!("/agents/{}", request::segment(&agent)),
        agent,
    }))
}

/// Opens or closes a breaker.
pub(super) async fn set(State(here): State<Here>, Sent { by, form }: Sent) -> Result<Response, Error> {
    let app = &here.app;
    let state = match form.get("state") {
        "open" => BreakerWanted::Open,
        "closed" => BreakerWanted::Closed,
        _ => return Err(Error::Invalid("state: open or closed".to_owned())),
    };
    let scope = app.breaker_scope(form.get("scope"))?;
    let request = BreakerRequest { state, reason: form.get("reason").trim().to_owned() };
    app.set_breaker(&by.caller, &scope, request).await?;
    Ok(Redirect::to(request::local(form.get("next"))).into_response())
}
