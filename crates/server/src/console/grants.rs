//! Grants: what was said yes to beforehand, saying it, and taking it back.

use super::{
    Here,
    page::{self, Earlier, Frame},
    request::{self, Form, Sent, Visitor},
    session::Session,
    text::{self, Moment, moment},
};
use crate::app::{App, Error, GrantQuery};
use askama::{Template, filters::Safe};
use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use checkrein_api::{GrantView, NewGrant};
use checkrein_core::grant;
use checkrein_store::GrantFilter;
use serde::Deserialize;

/// Grants a page.
const PAGE: usize = 50;

struct Line {
    id: String,
    agent: String,
    action: String,
    resource: String,
    records: String,
    uses: String,
    open: bool,
    state: &'static str,
    given_by: String,
    expires: Safe<Moment>,
    reason: String,
    last_used_by: Option<String>,
    accept_declared: bool,
}

fn line(grant: GrantView) -> Line {
    let of = |used: u64, most: Option<u64>| match most {
        Some(most) => format!("{} of {}", text::number(used), text::number(most)),
        None => text::number(used),
    };
    Line {
        records: of(grant.records_used, Some(grant.max_records)),
        uses: of(grant.uses, grant.max_uses),
        open: grant.state == grant::State::Open,
        state: match grant.state {
            grant::State::UsedUp => "used up",
            other => other.as_str(),
        },
        given_by: grant.given_by.name,
        expires: moment(grant.expires_at),
        id: grant.id,
        agent: grant.agent,
        action: grant.action,
        resource: grant.resource,
        reason: grant.reason,
        last_used_by: grant.last_used_by,
        accept_declared: grant.accept_declared,
    }
}

/// What the page shows, and what its form begins with.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Params {
    agent: String,
    action: String,
    resource: String,
    all: String,
    cursor: String,
}

/// The fields of the form, as they were sent.
#[derive(Default)]
struct Wanted {
    agent: String,
    action: String,
    resource: String,
    max_records: String,
    max_uses: String,
    lasting: String,
    reason: String,
    accept_declared: bool,
}

impl Wanted {
    fn of(form: &Form) -> Self {
        let field = |name: &str| form.get(name).trim().to_owned();
        Self {
            agent: field("agent"),
            action: field("action"),
            resource: field("resource"),
            max_records: field("max_records"),
            max_uses: field("max_uses"),
            lasting: field("for"),
            reason: field("reason"),
            accept_declared: !form.get("accept_declared").is_empty(),
        }
    }

    fn grant(&self) -> Result<NewGrant, Error> {
        let number = |field: &str, text: &str| {
            text.parse::<u64>().map_err(|_| Error::Invalid(format!("{field}: a whole number")))
        };
        let max_uses = Some(self.max_uses.as_str()).filter(|text| !text.is_empty());
        Ok(NewGrant {
            agent: self.agent.clone(),
            action: self.action.clone(),
            resource: self.resource.clone(),
            max_records: number("records", &self.max_records)?,
            lasting: self.lasting.clone(),
            max_uses: max_uses.map(|text| number("uses", text)).transpose()?,
            accept_declared: self.accept_declared,
            reason: self.reason.clone(),
        })
    }
}

#[derive(Template)]
#[template(path = "grants.html")]
struct GrantsPage {
    frame: Frame,
    params: Params,
    lines: Vec<Line>,
    next: Option<Earlier>,
    wanted: Wanted,
    /// Why what was just asked for was not done.
    problem: Option<String>,
}

async fn one(
    app: &App,
    session: &Session,
    params: Params,
    wanted: Wanted,
    problem: Option<(StatusCode, String)>,
) -> Result<Response, Error> {
    let all = !params.all.is_empty();
    let filter =
        GrantFilter { agent: request::pattern("agent", &params.agent)?, open: (!all).then_some(true) };
    let cursor = request::cursor(Some(&params.cursor))?;
    let page = app.list_grants(GrantQuery { filter, cursor, limit: Some(PAGE) }).await?;
    let status = problem.as_ref().map_or(StatusCode::OK, |(status, _)| *status);
    let link =
        |next: &str| request::query(&[("agent", &params.agent), ("all", &params.all), ("cursor", next)]);
    let next = Earlier::of(app, page.next_cursor, (page.grants.len(), PAGE), link).await?;
    let page = GrantsPage {
        frame: Frame::of(session, "approvals", "Grants"),
        lines: page.grants.into_iter().map(line).collect(),
        next,
        params,
        wanted,
        problem: problem.map(|(_, why)| why),
    };
    Ok(page::send_with(status, &page))
}

pub(super) async fn list(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Query(params): Query<Params>,
) -> Result<Response, Error> {
    let wanted = Wanted {
        agent: params.agent.clone(),
        action: params.action.clone(),
        resource: params.resource.clone(),
        lasting: "1h".to_owned(),
        ..Wanted::default()
    };
    one(&here.app, &session, params, wanted, None).await
}

/// Gives a grant.
pub(super) async fn give(State(here): State<Here>, Sent { by, form }: Sent) -> Result<Response, Error> {
    let wanted = Wanted::of(&form);
    let given = match wanted.grant() {
        Ok(grant) => here.app.give_grant(&by.caller, grant).await,
        Err(error) => Err(error),
    };
    match given {
        Ok(_) => Ok(Redirect::to("/grants").into_response()),
        Err(error @ Error::Invalid(_)) => {
            let problem = Some((StatusCode::BAD_REQUEST, error.to_string()));
            one(&here.app, &by, Params::default(), wanted, problem).await
        }
        Err(error) => Err(error),
    }
}

/// Takes one back.
pub(super) async fn revoke(
    State(here): State<Here>,
    Path(id): Path<String>,
    Sent { by, .. }: Sent,
) -> Result<Response, Error> {
    match here.app.revoke_grant(&by.caller, &id).await {
        Ok(_) => Ok(Redirect::to("/grants").into_response()),
        Err(error @ Error::Grant(_)) => {
            let problem = Some((StatusCode::CONFLICT, format!("Nothing was done: {error}.")));
            one(&here.app, &by, Params::default(), Wanted::default(), problem).await
        }
        Err(error) => Err(error),
    }
}
