//! The action log: its entries, and whether it is whole.

use super::{
    Here,
    page::{self, Frame},
    request::{self, Sent, Visitor},
    text::{self, Cut, Moment, moment},
};
use crate::app::{Audit, Error};
use askama::{Template, filters::Safe};
use axum::{
    extract::{Path, Query, State},
    response::{IntoResponse as _, Redirect, Response},
};
use checkrein_core::{event::Entry, name::Name};
use checkrein_store::EntryFilter;
use serde::Deserialize;

/// Entries a page.
const PAGE: usize = 50;
/// Kinds that can be chosen.
const KINDS: &[&str] = &[
    "check",
    "outcome",
    "approval.requested",
    "approval.changed",
    "approval.sampled",
    "snapshot.taken",
    "snapshot.sealed",
    "snapshot.removed",
    "rollback.started",
    "rollback.finished",
    "policy.put",
    "policy.deleted",
    "policy.loaded",
    "key.created",
    "key.revoked",
    "breaker.changed",
    "drift.accepted",
    "drift.ended",
    "grant.given",
    "grant.changed",
    "server.started",
    "server.stopped",
    "log.pruned",
];

struct Row {
    seq: u64,
    at: Safe<Moment>,
    kind: String,
    subject: String,
    agent: String,
    link: Option<String>,
}

impl Row {
    fn of(entry: &Entry) -> Self {
        Self {
            seq: entry.seq,
            at: moment(entry.at),
            link: place(&entry.subject, &entry.kind),
            kind: entry.kind.clone(),
            subject: entry.subject.clone(),
            agent: entry.agent.clone(),
        }
    }
}

/// The page of what an entry is about.
fn place(subject: &str, kind: &str) -> Option<String> {
    let known = subject.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    match subject.split_once('_').map(|(prefix, _)| prefix) {
        _ if !known || subject.is_empty() => None,
        _ if kind.starts_with("policy.") => Some(format!("/policies/{subject}")),
        Some("chk") => Some(format!("/actions/{subject}")),
        Some("apr") => Some(format!("/approvals/{subject}")),
        Some("snp") => Some(format!("/snapshots/{subject}")),
        _ => None,
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Params {
    q: String,
    kind: String,
    before: String,
}

#[derive(Template)]
#[template(path = "log.html")]
struct LogPage {
    frame: Frame,
    params: Params,
    rows: Vec<Row>,
    next: Option<String>,
    entries: String,
    audit: Standing,
    /// What was looked for and not found.
    missed: Option<String>,
}

impl LogPage {
    fn kinds(&self) -> impl Iterator<Item = (&'static str, bool)> {
        KINDS.iter().map(|kind| (*kind, *kind == self.params.kind))
    }
}

/// Where the verification stands, in words.
struct Standing {
    tone: &'static str,
    text: String,
    at: Option<Safe<Moment>>,
    running: bool,
    anchor: Option<String>,
}

fn standing(audit: Audit) -> Standing {
    let plain = Standing { tone: "", text: String::new(), at: None, running: false, anchor: None };
    match audit {
        Audit::Never => Standing { text: "Not verified since the server started.".to_owned(), ..plain },
        Audit::Running { done, total } => Standing {
            text: format!("Verifying: {} of {} entries.", text::number(done), text::number(total)),
            running: true,
            ..plain
        },
        Audit::Whole { at, found } => Standing {
            tone: "good",
            text: format!(
                "Whole: {} entries, and the tables say what the log says.",
                text::number(found.entries)
            ),
            at: Some(moment(at)),
            anchor: Some(format!("{}:{}", found.head.seq, found.head.hash)),
            ..plain
        },
        Audit::Wrong { at, why } => Standing { tone: "bad", text: why, at: Some(moment(at)), ..plain },
    }
}

pub(super) async fn list(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Query(params): Query<Params>,
) -> Result<Response, Error> {
    let store = here.app.store();
    let wanted = params.q.trim().to_owned();
    let mut missed = None;
    if !wanted.is_empty() {
        if let Some(found) = find(&here, &wanted).await? {
            return Ok(Redirect::to(&found).into_response());
        }
        missed = Some(wanted);
    }
    let kinds = KINDS.iter().filter(|kind| **kind == params.kind).map(|kind| (*kind).to_owned()).collect();
    let before = request::cursor(Some(&params.before))?.unwrap_or(u64::MAX);
    let filter = EntryFilter { kinds, ..EntryFilter::default() };
    let entries = store.entries_before(before, PAGE, filter).await?;
    let next = entries
        .last()
        .filter(|last| entries.len() == PAGE && last.seq > 1)
        .map(|last| request::query(&[("kind", &params.kind), ("before", &last.seq.to_string())]));
    let audit = standing(here.app.audit());
    let running = audit.running;
    let page = LogPage {
        frame: Frame::of(&session, "log", "Log"),
        rows: entries.iter().map(Row::of).collect(),
        entries: text::number(store.head().seq),
        params,
        next,
        audit,
        missed,
    };
    let mut response = page::send(&page);
    if running {
        // How far it is, without a script, too.
        response.headers_mut().insert("refresh", axum::http::HeaderValue::from_static("2"));
    }
    Ok(response)
}

/// The page of an entry's number, an id, a policy or an agent.
async fn find(here: &Here, wanted: &str) -> Result<Option<String>, Error> {
    let store = here.app.store();
    let number = wanted.replace([',', ' ', '#'], "");
    if let Ok(seq) = number.parse::<u64>() {
        return Ok(store.entry(seq).await?.map(|entry| format!("/log/{}", entry.seq)));
    }
    if store.check(wanted).await?.is_some() {
        return Ok(place(wanted, "check"));
    }
    let about = store.entries_about(wanted, 1).await?;
    if let Some(entry) = about.first() {
        return Ok(Some(place(wanted, &entry.kind).unwrap_or_else(|| format!("/log/{}", entry.seq))));
    }
    let Some(agent) = request::pattern("q", wanted)?.filter(|agent| agent.literal().is_some()) else {
        return Ok(None);
    };
    let name = Name::new(wanted).map_err(|e| Error::Invalid(format!("q: {e}")))?;
    let acted = here.app.acted_until(&name).await?.is_some() || {
        // While drift is off nothing else is known of it.
        let filter = checkrein_store::CheckFilter { agent: Some(agent), ..Default::default() };
        !store.checks(filter, None, 1).await?.rows.is_empty()
    };
    Ok(acted.then(|| format!("/agents/{}", request::segment(wanted))))
}

#[derive(Template)]
#[template(path = "entry.html")]
struct EntryPage {
    frame: Frame,
    row: Row,
    hash: String,
    body: Cut,
    about: Vec<Row>,
}

pub(super) async fn show(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Path(seq): Path<String>,
) -> Result<Response, Error> {
    let entry = entry(&here, &seq).await?;
    let about = match entry.subject.as_str() {
        "" => Vec::new(),
        subject => here.app.store().entries_about(subject, PAGE).await?,
    };
    let body =
        serde_json::from_str(&entry.body).map_or_else(|_| Cut::of(entry.body.clone()), |v| Cut::json(&v));
    let page = EntryPage {
        frame: Frame::of(&session, "log", format!("Entry {}", entry.seq)),
        hash: entry.hash.to_string(),
        about: about.iter().filter(|other| other.seq != entry.seq).map(Row::of).collect(),
        row: Row::of(&entry),
        body,
    };
    Ok(page::send(&page))
}

async fn entry(here: &Here, seq: &str) -> Result<Entry, Error> {
    let missing = || Error::NotFound("entry", seq.chars().take(32).collect());
    let number = seq.parse().map_err(|_| missing())?;
    here.app.store().entry(number).await?.ok_or_else(missing)
}

/// The whole body of an entry, as it is kept.
pub(super) async fn download(
    State(here): State<Here>,
    Visitor(_): Visitor,
    Path(seq): Path<String>,
) -> Result<Response, Error> {
    let entry = entry(&here, &seq).await?;
    let body: Box<serde_json::value::RawValue> =
        serde_json::from_str(&entry.body).map_err(|e| Error::Invalid(format!("entry {}: {e}", entry.seq)))?;
    Ok(super::approvals::attachment(&format!("entry_{}", entry.seq), &body))
}

pub(super) async fn verify(State(here): State<Here>, Sent { by, .. }: Sent) -> Result<Response, Error> {
    here.app.begin_audit(&by.caller)?;
    Ok(Redirect::to("/log").into_response())
}
