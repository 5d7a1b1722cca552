//! Actions as lines of a list, of all agents or of one.

use super::{
    Here,
    page::{self, Earlier, Frame},
    request::{self, Visitor},
    text::{self, Moment, moment},
};
use crate::app::{CheckQuery, Error};
use askama::{Template, filters::Safe};
use axum::{
    extract::{Query, State},
    response::Response,
};
use checkrein_api::CheckView;
use checkrein_core::{action::Category, decision::Verdict, time::Timestamp};
use checkrein_store::CheckFilter;
use serde::Deserialize;

/// Actions a page.
pub(super) const PAGE: usize = 50;
const VERDICTS: [Verdict; 3] = [Verdict::Allow, Verdict::Hold, Verdict::Block];

/// A check in a list.
pub(super) struct Line {
    pub(super) id: String,
    pub(super) at: Safe<Moment>,
    pub(super) verdict: &'static str,
    pub(super) agent: String,
    pub(super) action: String,
    pub(super) resource: String,
    pub(super) records: String,
    pub(super) reason: String,
}

pub(super) fn line(view: &CheckView) -> Line {
    Line {
        id: view.decision.id.clone(),
        at: moment(view.decision.logged_at),
        verdict: view.decision.verdict.as_str(),
        agent: view.agent.clone(),
        action: view.action.clone(),
        resource: view.resource.clone(),
        records: text::count(view.decision.blast_radius.records),
        reason: view.decision.reason.clone(),
    }
}

/// What is shown, from the address.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Params {
    pub(super) agent: String,
    pub(super) verdict: String,
    pub(super) category: String,
    pub(super) action: String,
    pub(super) resource: String,
    pub(super) until: String,
    pub(super) cursor: String,
}

impl Params {
    pub(super) fn query(&self) -> Result<CheckQuery, Error> {
        let until = Some(self.until.as_str()).filter(|until| !until.is_empty());
        Ok(CheckQuery {
            filter: CheckFilter {
                agent: request::pattern("agent", &self.agent)?,
                verdict: VERDICTS.into_iter().find(|v| v.as_str() == self.verdict),
                category: Category::ALL.into_iter().find(|c| c.as_str() == self.category),
                action: request::pattern("action", &self.action)?,
                resource: request::pattern("resource", &self.resource)?,
                since: None,
                until: until
                    .map(Timestamp::parse)
                    .transpose()
                    .map_err(|e| Error::Invalid(format!("until: {e}")))?,
            },
            cursor: request::cursor(Some(&self.cursor))?,
            limit: Some(PAGE),
        })
    }

    pub(super) fn later(&self, cursor: &str) -> String {
        request::query(&[
            ("agent", &self.agent),
            ("verdict", &self.verdict),
            ("category", &self.category),
            ("action", &self.action),
            ("resource", &self.resource),
            ("until", &self.until),
            ("cursor", cursor),
        ])
    }

    pub(super) fn verdicts(&self) -> impl Iterator<Item = (&'static str, bool)> {
        VERDICTS.iter().map(|v| (v.as_str(), v.as_str() == self.verdict))
    }

    pub(super) fn categories(&self) -> impl Iterator<Item = (&'static str, bool)> {
        Category::ALL.iter().map(|c| (c.as_str(), c.as_str() == self.category))
    }

    pub(super) fn filtered(&self) -> bool {
        self.later("") != "?"
    }
}

#[derive(Template)]
#[template(path = "actions.html")]
struct ListPage {
    frame: Frame,
    params: Params,
    lines: Vec<Line>,
    /// The next page; there can be one though this one is not full.
    next: Option<Earlier>,
}

pub(super) async fn list(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Query(params): Query<Params>,
) -> Result<Response, Error> {
    let page = here.app.list_checks(&session.caller, params.query()?).await?;
    let shown = (page.checks.len(), PAGE);
    let next = Earlier::of(&here.app, page.next_cursor, shown, |next| params.later(next)).await?;
    Ok(page::send(&ListPage {
        frame: Frame::of(&session, "actions", "Actions"),
        lines: page.checks.iter().map(line).collect(),
        next,
        params,
    }))
}
