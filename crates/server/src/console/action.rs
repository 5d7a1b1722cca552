//! The life of one action: check, decision, approval, snapshot, outcome, rollback.

use super::{
    Here,
    approvals::attachment,
    deed::{self, Deed, Part},
    page::{self, Frame},
    request::Visitor,
    text::{self, Moment, moment},
};
use crate::app::{Error, Life, Step};
use askama::{Template, filters::Safe};
use axum::{
    extract::{Path, State},
    response::Response,
};
use checkrein_core::{
    approval::{Answer, Transition},
    event::{Event, OutcomeStatus},
    policy::Mode,
};

/// One thing that happened to it.
pub(super) struct Happened {
    seq: u64,
    at: Safe<Moment>,
    /// A class of the style sheet: good or bad news.
    tone: &'static str,
    what: String,
    said: Option<String>,
    link: Option<String>,
}

struct Matched {
    name: String,
    rule: String,
    shadow: bool,
    reason: String,
    exempted_by: Option<String>,
}

struct Kept {
    id: String,
    records: String,
    size: String,
    sealed: bool,
    live: bool,
    origin: &'static str,
}

#[derive(Template)]
#[template(path = "action.html")]
struct ActionPage {
    frame: Frame,
    id: String,
    seq: u64,
    at: Safe<Moment>,
    verdict: &'static str,
    reason: String,
    deed: Deed,
    tool: Option<String>,
    session: Option<String>,
    fingerprint: String,
    matched: Vec<Matched>,
    parts: Vec<Part>,
    steps: Vec<Happened>,
    approval: Option<(String, &'static str)>,
    snapshots: Vec<Kept>,
    /// What is unusual about it, in a sentence.
    drift: Option<String>,
}

pub(super) async fn show(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let Life { check, approval, snapshots, steps } = here.app.life(&session.caller, &id).await?;
    let decision = &check.decision;
    let named = (check.agent.as_str(), check.action.as_str(), check.resource.as_str());
    let title = format!("{} {} {}", check.agent, check.action, check.resource);
    let page = ActionPage {
        frame: Frame::of(&session, "actions", title),
        deed: Deed::new(named, decision.category, decision.environment, &decision.blast_radius),
        at: moment(decision.logged_at),
        verdict: decision.verdict.as_str(),
        reason: decision.reason.clone(),
        matched: decision.policies.iter().map(matched).collect(),
        drift: decision.drift.as_ref().map(|drift| drift.reason.clone()),
        parts: deed::parts(&check.check),
        steps: steps.iter().filter_map(happened).collect(),
        approval: approval.map(|a| (a.id, a.state.as_str())),
        snapshots: snapshots.into_iter().map(kept).collect(),
        tool: check.tool,
        session: check.session,
        fingerprint: check.fingerprint.0,
        seq: check.seq,
        id,
    };
    Ok(page::send(&page))
}

fn matched(policy: &checkrein_core::decision::Matched) -> Matched {
    Matched {
        name: policy.name.clone(),
        rule: policy.rule.as_str().replace('_', " "),
        shadow: policy.mode == Mode::Shadow,
        reason: policy.reason.clone(),
        exempted_by: policy.exempted_by.clone(),
    }
}

fn kept(view: checkrein_api::SnapshotView) -> Kept {
    Kept {
        records: text::number(view.records),
        size: text::bytes(view.bytes),
        sealed: view.sealed,
        live: view.removed_because.is_none(),
        origin: view.origin.as_str(),
        id: view.id,
    }
}

/// A step as a sentence. Of kinds that this page has no words for the log itself tells.
pub(super) fn happened(step: &Step) -> Option<Happened> {
    let (tone, what, said, link) = match &step.event {
        Event::Outcome(outcome) => {
            let records =
                outcome.records.map_or(String::new(), |n| format!(" ({} records)", text::number(n)));
            let word = match outcome.status {
                OutcomeStatus::Ok => "ok",
                OutcomeStatus::Error => "error",
                OutcomeStatus::Unknown => "unknown",
            };
            (word, format!("Outcome{records}"), outcome.error.clone(), None)
        }
        Event::ApprovalRequested(approval) => {
            ("pending", "A person was asked".to_owned(), None, Some(format!("/approvals/{}", approval.id)))
        }
        Event::ApprovalChanged { id, transition } => {
            let link = Some(format!("/approvals/{id}"));
            match transition {
                Transition::Decide { decision, by, comment } => {
                    let (tone, word) = match decision {
                        Answer::Approve => ("approved", "Approved"),
                        Answer::Deny => ("denied", "Denied"),
                    };
                    (tone, format!("{word} by {} ({})", by.name, by.role.as_str()), comment.clone(), link)
                }
                Transition::Expire => {
                    ("expired", "The approval expired; nobody said no".to_owned(), None, link)
                }
                Transition::Use { check_id, .. } => (
                    "approved",
                    "The approval was used".to_owned(),
                    None,
                    Some(format!("/actions/{check_id}")),
                ),
                Transition::Withdraw { by } => {
                    ("withdrawn", format!("{} gave up waiting", by.name), None, link)
                }
                Transition::Comment { by, text } => {
                    ("", format!("{} said", by.name), Some(text.clone()), link)
                }
                Transition::Link { person, by, .. } => {
                    ("", format!("{} made a link for {person}", by.name), None, link)
                }
            }
        }
        Event::ApprovalSampled { target, records, by, .. } => {
            ("", format!("{} looked at {} records of {target}", by.name, text::number(*records)), None, None)
        }
        Event::SnapshotTaken(record) => {
            let records = record.by_resource.iter().fold(0_u64, |sum, held| sum.saturating_add(held.records));
            let what = format!("Snapshot of {} records of {}", text::number(records), record.resource);
            ("", what, None, Some(format!("/snapshots/{}", record.id)))
        }
        Event::SnapshotSealed { id, .. } => (
            "",
            "The snapshot was sealed: it knows what the action left".to_owned(),
            None,
            Some(format!("/snapshots/{id}")),
        ),
        Event::SnapshotRemoved { id, reason } => (
            "",
            "The snapshot was removed".to_owned(),
            Some(reason.clone()),
            Some(format!("/snapshots/{id}")),
        ),
        Event::RollbackStarted(record) => {
            let what = format!("{} rolls back {} records", record.by.name, text::number(record.restored));
            ("", what, None, Some(format!("/snapshots/{}", record.snapshot_id)))
        }
        Event::RollbackFinished { status, reason, .. } => (
            status.as_str(),
            format!("Rollback: {}", status.as_str().replace('_', " ")),
            reason.clone(),
            None,
        ),
        _ => return None,
    };
    Some(Happened { seq: step.seq, at: moment(step.at), tone, what, said, link })
}

/// The whole of what was asked.
pub(super) async fn download(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let check = here.app.peek_check(&session.caller, &id).await?;
    Ok(attachment(&check.decision.id, &check.check))
}
