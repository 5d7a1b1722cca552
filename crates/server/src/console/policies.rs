//! Policies: what is in force, what a change would have done to the past, and changing it.

use super::{
    Here,
    page::{self, Frame},
    request::{Sent, Visitor},
    session::Session,
    text::{self, Moment, moment},
};
use crate::app::{App, Error, Item};
use askama::{Template, filters::Safe};
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use checkrein_api::ReplayRequest;
use checkrein_core::{
    fingerprint::hex, json::Strict, key::Role, policy::replay::ReplayReport, time::Timestamp,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// What a new policy begins as.
const EXAMPLE: &str = r#"{
  "name": "refunds_need_a_person",
  "rule": "require_approval",
  "mode": "shadow",
  "condition": {"action": "refund"}
}"#;
/// Changes of a replay that a page shows.
const SHOWN: usize = 20;
/// How far back a replay can look: the word in the form, and seconds.
const PERIODS: &[(&str, Option<i64>)] =
    &[("hour", Some(3_600)), ("day", Some(86_400)), ("week", Some(604_800)), ("everything", None)];

struct Line {
    name: String,
    rule: String,
    rule_tag: &'static str,
    shadow: bool,
    description: String,
    source: String,
}

#[derive(Template)]
#[template(path = "policies.html")]
struct ListPage {
    frame: Frame,
    lines: Vec<Line>,
}

pub(super) async fn list(State(here): State<Here>, Visitor(session): Visitor) -> Response {
    let list = here.app.list_policies();
    let word =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let line = |value: &Value| {
        let (name, rule) = (word(value, "name"), word(value, "rule"));
        Line {
            source: list.sources.get(&name).cloned().unwrap_or_default(),
            rule_tag: match rule.as_str() {
                "block" => "block",
                "require_approval" => "hold",
                "allow" => "allow",
                _ => "",
            },
            rule: rule.replace('_', " "),
            shadow: word(value, "mode") == "shadow",
            description: word(value, "description"),
            name,
        }
    };
    let lines = list.policies.iter().map(line).collect();
    page::send(&ListPage { frame: Frame::of(&session, "policies", "Policies"), lines })
}

/// What a replay found.
struct Found {
    checked: String,
    matched: String,
    changed: String,
    by_change: Vec<(String, String)>,
    changes: Vec<Change>,
    more: bool,
    notes: Vec<String>,
    span: Option<(Safe<Moment>, Safe<Moment>)>,
}

struct Change {
    id: String,
    at: Safe<Moment>,
    agent: String,
    action: String,
    resource: String,
    was: &'static str,
    would_be: &'static str,
    reason: String,
}

fn found(report: ReplayReport, name: &str) -> Found {
    Found {
        checked: text::number(report.checked),
        matched: text::number(report.by_policy.get(name).copied().unwrap_or_default()),
        changed: text::number(report.changed),
        by_change: report.by_change.into_iter().map(|(change, n)| (change, text::number(n))).collect(),
        more: report.changed > SHOWN as u64,
        changes: report
            .changes
            .into_iter()
            .take(SHOWN)
            .map(|change| Change {
                at: moment(change.at),
                was: change.was.as_str(),
                would_be: change.would_be.as_str(),
                id: change.check_id,
                agent: change.agent,
                action: change.action,
                resource: change.resource,
                reason: change.reason,
            })
            .collect(),
        notes: report.notes,
        span: report.from.zip(report.to).map(|(from, to)| (moment(from), moment(to))),
    }
}

#[derive(Template)]
#[template(path = "policy.html")]
struct PolicyPage {
    frame: Frame,
    /// The name that it is in force under; empty for a new one.
    name: String,
    text: String,
    /// Names the content that was edited, so that nobody overwrites what they have not seen.
    was: String,
    /// The file that it comes from, if it is read-only here.
    file: Option<String>,
    editable: bool,
    shadow: bool,
    period: String,
    problems: Vec<Item>,
    said: Option<(&'static str, String)>,
    found: Option<Found>,
}

impl PolicyPage {
    fn periods(&self) -> impl Iterator<Item = (&'static str, bool)> {
        PERIODS.iter().map(|(word, _)| (*word, *word == self.period))
    }

    fn new(app: &App, session: &Session, name: &str) -> Result<Self, Error> {
        let now = Some(name).filter(|n| !n.is_empty()).map(|name| app.policy(name)).transpose()?;
        let file = app.list_policies().sources.get(name).filter(|source| *source != "api").cloned();
        let title = if name.is_empty() { "New policy".to_owned() } else { name.to_owned() };
        Ok(Self {
            frame: Frame::of(session, "policies", title),
            name: name.to_owned(),
            text: now.as_ref().map_or_else(|| EXAMPLE.to_owned(), text::json),
            was: digest(now.as_ref()),
            shadow: now.as_ref().and_then(|p| p.get("mode")).is_some_and(|mode| mode == "shadow"),
            editable: file.is_none() && session.caller.require(Role::Admin).is_ok(),
            file,
            period: "day".to_owned(),
            problems: Vec::new(),
            said: None,
            found: None,
        })
    }
}

fn digest(policy: Option<&Value>) -> String {
    policy.map_or_else(String::new, |policy| hex(&Sha256::digest(policy.to_string())))
}

pub(super) async fn new(State(here): State<Here>, Visitor(session): Visitor) -> Result<Response, Error> {
    PolicyPage::new(&here.app, &session, "").map(|page| page::send(&page))
}

pub(super) async fn show(
    State(here): State<Here>,
    Visitor(session): Visitor,
    Path(name): Path<String>,
) -> Result<Response, Error> {
    PolicyPage::new(&here.app, &session, &name).map(|page| page::send(&page))
}

pub(super) async fn create(State(here): State<Here>, sent: Sent) -> Result<Response, Error> {
    act(&here, String::new(), sent).await
}

pub(super) async fn change(
    State(here): State<Here>,
    Path(name): Path<String>,
    sent: Sent,
) -> Result<Response, Error> {
    act(&here, name, sent).await
}

/// Replays, saves, enforces or deletes; what is wrong is shown beside what was written.
async fn act(here: &Here, name: String, Sent { by, form }: Sent) -> Result<Response, Error> {
    let app = &here.app;
    let mut page = PolicyPage::new(app, &by, &name)?;
    let in_force = std::mem::replace(&mut page.text, form.get("text").replace("\r\n", "\n"));
    form.get("period").clone_into(&mut page.period);
    let done = match form.get("do") {
        "replay" => replay(app, &mut page).await.map(|()| None),
        word @ ("save" | "enforce" | "delete") => {
            by.caller.require(Role::Admin)?;
            if form.get("was") == page.was {
                save(app, &by, &page, word).await.map(Some)
            } else {
                page.said = Some((
                    "bad",
                    format!(
                        "Somebody changed it since you opened this page; nothing was saved. It now reads: {in_force}"
                    ),
                ));
                page.was.clear();
                return Ok(page::send_with(StatusCode::CONFLICT, &page));
            }
        }
        _ => return Err(Error::Invalid("do: replay, save, enforce or delete".to_owned())),
    };
    match done {
        Ok(Some(path)) => Ok(Redirect::to(&path).into_response()),
        Ok(None) => Ok(page::send(&page)),
        Err(Error::Policies(items)) => {
            page.problems = items;
            Ok(page::send_with(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
        Err(error @ (Error::Invalid(_) | Error::Conflict(_))) => {
            page.said = Some(("bad", error.to_string()));
            Ok(page::send_with(StatusCode::CONFLICT, &page))
        }
        Err(error) => Err(error),
    }
}

fn read(text: &str) -> Result<Value, Error> {
    serde_json::from_str::<Strict>(text)
        .map(|strict| strict.0)
        .map_err(|e| Error::Invalid(format!("This is not JSON: {e}.")))
}

/// Takes the policy out of the shadow.
fn enforced(mut policy: Value) -> Value {
    if let Some(entries) = policy.as_object_mut() {
        entries.remove("mode");
    }
    policy
}

async fn save(app: &App, by: &Session, page: &PolicyPage, word: &str) -> Result<String, Error> {
    if word == "delete" {
        app.delete_policy(&by.caller, &page.name).await?;
        return Ok("/policies".to_owned());
    }
    let policy = read(&page.text)?;
    let policy = if word == "enforce" { enforced(policy) } else { policy };
    if page.name.is_empty() {
        app.create_policy(&by.caller, &policy).await?;
    } else {
        app.replace_policy(&by.caller, &page.name, &policy).await?;
    }
    let name = policy.get("name").and_then(Value::as_str).unwrap_or_default();
    Ok(format!("/policies/{name}"))
}

/// What the set in force, with this policy in it and enforced, would have made of the past.
async fn replay(app: &App, page: &mut PolicyPage) -> Result<(), Error> {
    let policy = enforced(read(&page.text)?);
    let name = policy.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut policies = app.list_policies().policies;
    policies.retain(|other| {
        other.get("name").and_then(Value::as_str).is_none_or(|n| n != name && n != page.name)
    });
    policies.push(policy);
    let back = PERIODS.iter().find(|(word, _)| *word == page.period).and_then(|(_, seconds)| *seconds);
    let since = back.map(|seconds| app.now().plus_seconds(-seconds));
    let request = ReplayRequest { policies: Some(policies), since: since.or(None::<Timestamp>), until: None };
    page.found = Some(found(app.replay(request).await?, &name));
    Ok(())
}
