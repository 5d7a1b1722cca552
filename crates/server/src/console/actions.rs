//! Actions as lines of a list.

use super::text::{self, Moment, moment};
use askama::filters::Safe;
use checkrein_api::CheckView;

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
