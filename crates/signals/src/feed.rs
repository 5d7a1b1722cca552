//! The stream of all actions: one entry of the action log as one flat JSON object, the same for every sink.
//!
//! Names stay. What an agent sent word for word (payload, arguments, statement) is left out: the action log has it,
//! and what never leaves needs no redaction. Texts and lists are bounded, so that a record is below 256 KiB and
//! every receiver's limit holds without cutting JSON.
//!
//! Every record has `seq`, `at`, `kind` and `summary`. The rest depends on the kind; a member that would be `null`
//! is left out, except that a count nobody can know is said by `records_unknown`, `systems_unknown` or
//! `recipients_unknown`. docs/signals/feed.md lists them all.

use crate::{
    sink::Record,
    text::{Medium, Unit, fit_in},
};
use checkrein_core::{
    action::{Action, Count},
    approval::{Actor, Approval, Transition},
    decision::{BlastRadius, Decision},
    drift::breaker::BreakerChange,
    event::{Checked, Entry, Event, Outcome, OutcomeStatus},
    grant::{self, Grant},
    policy::Mode,
    snapshot::{RollbackRecord, SnapshotRecord},
};
use serde_json::{Map, Value};

/// Bytes of one text.
const MAX_TEXT: usize = 2048;
/// Members of one list.
const MAX_LIST: usize = 50;

/// The record of an entry; `None` where the entry is older or newer than this program and cannot be read.
pub fn record(entry: &Entry) -> Option<Record> {
    let event = Event::from_parts(&entry.kind, &entry.body).ok()?;
    let mut flat = Flat(Map::new());
    flat.put("seq", entry.seq).text("at", &entry.at.to_string()).text("kind", event.kind());
    let summary = describe(&event, &mut flat);
    flat.text("summary", &summary);
    Some(Record { seq: entry.seq, at: entry.at, kind: event.kind(), body: Value::Object(flat.0) })
}

/// Writes what is particular to the event, and says it in one sentence.
fn describe(event: &Event, flat: &mut Flat) -> String {
    match event {
        Event::Check(checked) => check(checked, flat),
        Event::Outcome(reported) => outcome(reported, flat),
        Event::ApprovalRequested(approval) => requested(approval, flat),
        Event::ApprovalChanged { id, transition } => changed(id, transition, flat),
        Event::ApprovalSampled { id, target, records, by } => {
            flat.text("approval_id", id).text("target", target).put("records", *records).by(by);
            format!("{} looked at records that {id} is about", by.name)
        }
        Event::SnapshotTaken(taken) => snapshot(taken, flat),
        Event::SnapshotSealed { id, bytes, key_id } => {
            flat.text("snapshot_id", id).put("bytes", *bytes).text("key_id", key_id);
            format!("Snapshot {id} sealed")
        }
        Event::SnapshotRemoved { id, reason } => {
            flat.text("snapshot_id", id).text("reason", reason);
            format!("Snapshot {id} removed: {reason}")
        }
        Event::RollbackStarted(begun) => rollback(begun, flat),
        Event::RollbackFinished { id, status, reason } => {
            flat.text("rollback_id", id).text("status", status.as_str()).maybe("reason", reason.as_deref());
            format!("Rollback {id}: {}", status.as_str())
        }
        Event::BreakerChanged(change) => breaker(change, flat),
        Event::DriftAccepted { agent, since, by, reason } => {
            flat.text("agent", agent).text("since", &since.to_string()).text("reason", reason).by(by);
            format!("What {agent} does since {since} is normal, {} says", by.name)
        }
        Event::DriftEnded { agent, channel } => {
            flat.text("agent", agent).text("drift_channel", channel.as_str());
            format!("{agent}: no drift of the kind {} any more", channel.as_str())
        }
        Event::GrantGiven(grant) => granted(grant, flat),
        Event::GrantChanged { id, transition } => {
            flat.text("grant_id", id);
            match transition {
                grant::Transition::Use { check_id, records } => {
                    flat.text("grant_state", "used").text("check_id", check_id).put("records", *records);
                    format!("Grant {id} used by {check_id}")
                }
                grant::Transition::Revoke { by } => {
                    flat.text("grant_state", "revoked").by(by);
                    format!("Grant {id} revoked by {}", by.name)
                }
                grant::Transition::Expire => {
                    flat.text("grant_state", "expired");
                    format!("Grant {id} expired")
                }
            }
        }
        Event::PolicyPut { name, by, .. } => {
            flat.text("policy", name).by(by);
            format!("Policy {name} written by {}", by.name)
        }
        Event::PolicyDeleted { name, by } => {
            flat.text("policy", name).by(by);
            format!("Policy {name} deleted by {}", by.name)
        }
        Event::PoliciesLoaded { policies, files } => {
            flat.put("policies_loaded", policies.len()).list("files", files.iter().map(String::as_str));
            format!("{} policies loaded", policies.len())
        }
        Event::KeyCreated { key, by } => {
            flat.text("subject_key_id", &key.id)
                .text("subject_key_name", &key.name)
                .text("role", key.role.as_str())
                .maybe("agent", key.agent.as_deref());
            by.iter().for_each(|by| {
                flat.by(by);
            });
            format!("Key {} ({}) created", key.name, key.role.as_str())
        }
        Event::KeyRevoked { id, by } => {
            flat.text("subject_key_id", id);
            by.iter().for_each(|by| {
                flat.by(by);
            });
            format!("Key {id} revoked")
        }
        Event::SilenceCreated { silence, by } => {
            flat.text("silence_id", &silence.id).text("comment", &silence.comment);
            flat.text("since", &silence.from.to_string()).text("until", &silence.until.to_string()).by(by);
            format!("{} silences signals until {}", by.name, silence.until)
        }
        Event::SilenceEnded { id, by } => {
            flat.text("silence_id", id).by(by);
            format!("{} ends the silence {id}", by.name)
        }
        Event::SinkChanged { sink, health, reason } => {
            let health = serde_json::to_value(health).unwrap_or_default();
            flat.text("sink", sink)
                .text("health", health.as_str().unwrap_or_default())
                .text("reason", reason);
            format!("Sink {sink}: {reason}")
        }
        Event::ServerStarted { version } => {
            flat.text("version", version);
            format!("Checkrein {version} started")
        }
        Event::ServerStopped {} => "Checkrein stopped".to_owned(),
        Event::LogPruned { through, removed, .. } => {
            flat.put("through", *through).put("removed", *removed);
            format!("{removed} entries of the action log removed, up to {through}")
        }
    }
}

fn check(checked: &Checked, flat: &mut Flat) -> String {
    let Checked { key_id, action, fingerprint, decision, execution, .. } = checked;
    flat.text("check_id", &decision.id).text("verdict", decision.verdict.as_str());
    flat.text("reason", &decision.reason);
    flat.action(action).blast(&decision.blast_radius).policies(decision);
    flat.maybe("approval_id", decision.approval_id.as_deref());
    flat.maybe("snapshot_id", decision.snapshot_id.as_deref());
    if let Some(drift) = &decision.drift {
        flat.put("drift_score", drift.score).text("drift_severity", drift.severity.as_str());
        flat.text("drift_channel", drift.channel.as_str()).text("drift_reason", &drift.reason);
    }
    flat.text("breaker", decision.breaker.as_str());
    if let Some(trace) = &checked.check.traceparent {
        flat.text("trace_id", &trace.trace_id()).text("parent_span_id", &trace.span_id());
        flat.put("trace_sampled", trace.sampled());
    }
    flat.text("key_id", key_id).text("fingerprint", &fingerprint.0);
    if let Some(execution) = execution {
        flat.text("executed_on", &execution.target);
    }
    format!(
        "{}: {} wants {} on {}",
        decision.verdict.as_str(),
        action.agent.as_str(),
        action.action.as_str(),
        action.resource.as_str()
    )
}

fn outcome(reported: &Outcome, flat: &mut Flat) -> String {
    let word = match reported.status {
        OutcomeStatus::Ok => "ok",
        OutcomeStatus::Error => "error",
        OutcomeStatus::Unknown => "unknown",
    };
    flat.text("check_id", &reported.check_id).text("outcome", word);
    if let Some(records) = reported.records {
        flat.put("records_affected", records);
    }
    flat.maybe("error", reported.error.as_deref()).text("key_id", &reported.key_id);
    format!("{} ended: {word}", reported.check_id)
}

fn requested(approval: &Approval, flat: &mut Flat) -> String {
    flat.text("approval_id", &approval.id).text("check_id", &approval.check_id);
    flat.text("approval_state", approval.state.as_str());
    flat.text("reason", &approval.reason).text("expires_at", &approval.expires_at.to_string());
    flat.action(&approval.action).blast(&approval.blast_radius);
    flat.list("policies", approval.policies.iter().map(String::as_str));
    flat.text("fingerprint", &approval.fingerprint.0);
    let action = &approval.action;
    format!("{} asks to {} on {}", action.agent.as_str(), action.action.as_str(), action.resource.as_str())
}

fn changed(id: &str, transition: &Transition, flat: &mut Flat) -> String {
    flat.text("approval_id", id);
    match transition {
        Transition::Decide { decision, by, comment } => {
            let state = match decision {
                checkrein_core::approval::Answer::Approve => "approved",
                checkrein_core::approval::Answer::Deny => "denied",
            };
            flat.text("approval_state", state).maybe("comment", comment.as_deref()).by(by);
            format!("Approval {id} {state} by {}", by.name)
        }
        Transition::Expire => {
            flat.text("approval_state", "expired");
            format!("Approval {id} expired: nobody answered or used it in time")
        }
        Transition::Use { check_id, .. } => {
            flat.text("approval_state", "used").text("check_id", check_id);
            format!("Approval {id} used by {check_id}")
        }
        Transition::Withdraw { by } => {
            flat.text("approval_state", "withdrawn").by(by);
            format!("Approval {id} withdrawn: the agent no longer waits")
        }
        Transition::Comment { by, text } => {
            flat.text("comment", text).by(by);
            format!("{} commented on approval {id}", by.name)
        }
        Transition::Link { person, by, until } => {
            flat.text("link_for", person).text("expires_at", &until.to_string()).by(by);
            format!("{} made a link for {person} to answer approval {id}", by.name)
        }
    }
}

fn granted(grant: &Grant, flat: &mut Flat) -> String {
    flat.text("grant_id", &grant.id).text("grant_state", grant.state.as_str()).text("agent", &grant.agent);
    flat.text("action", grant.action.as_str()).text("resource", grant.resource.as_str());
    flat.put("max_records", grant.max_records);
    if let Some(uses) = grant.max_uses {
        flat.put("max_uses", uses);
    }
    flat.text("reason", &grant.reason).text("expires_at", &grant.expires_at.to_string()).by(&grant.given_by);
    format!(
        "{} may {} on {} until {}",
        grant.agent,
        grant.action.as_str(),
        grant.resource.as_str(),
        grant.expires_at
    )
}

fn breaker(changed: &BreakerChange, flat: &mut Flat) -> String {
    let BreakerChange { scope, change, reason, by, check_id, .. } = changed;
    flat.text("breaker", scope.as_str()).maybe("agent", scope.agent_name());
    flat.text("breaker_from", change.from.as_str()).text("breaker_to", change.to.as_str());
    flat.text("reason", reason).maybe("check_id", check_id.as_deref());
    if let Some(until) = change.until {
        flat.text("until", &until.to_string());
    }
    if let Some(by) = by {
        flat.by(by);
    }
    format!("The breaker of {scope} is {}", change.to.as_str())
}

fn snapshot(taken: &SnapshotRecord, flat: &mut Flat) -> String {
    let records = taken.by_resource.iter().fold(0_u64, |sum, held| sum.saturating_add(held.records));
    flat.text("snapshot_id", &taken.id).text("target", &taken.target).text("resource", &taken.resource);
    flat.text("agent", &taken.agent).maybe("session", taken.session.as_deref());
    flat.maybe("check_id", taken.check_id.as_deref()).text("origin", taken.origin.as_str());
    flat.put("sealed", taken.sealed).put("records", records).put("bytes", taken.bytes);
    flat.text("key_id", &taken.key_id);
    format!("Snapshot {} of {records} records of {} taken", taken.id, taken.resource)
}

fn rollback(begun: &RollbackRecord, flat: &mut Flat) -> String {
    flat.text("rollback_id", &begun.id).text("snapshot_id", &begun.snapshot_id);
    flat.text("undo_snapshot_id", &begun.undo_snapshot_id).text("target", &begun.target);
    flat.text("on_conflict", begun.on_conflict.as_str()).put("records", begun.restored).by(&begun.by);
    format!("{} rolls back {}: {} records", begun.by.name, begun.snapshot_id, begun.restored)
}

/// An object that grows.
struct Flat(Map<String, Value>);

impl Flat {
    fn put(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    fn text(&mut self, name: &str, text: &str) -> &mut Self {
        if text.is_empty() { self } else { self.put(name, fit(text)) }
    }

    fn maybe(&mut self, name: &str, text: Option<&str>) -> &mut Self {
        self.text(name, text.unwrap_or_default())
    }

    fn list<'a>(&mut self, name: &str, items: impl Iterator<Item = &'a str>) -> &mut Self {
        let items: Vec<_> = items.take(MAX_LIST).map(fit).collect();
        if items.is_empty() { self } else { self.put(name, items) }
    }

    fn by(&mut self, actor: &Actor) -> &mut Self {
        self.text("by", &actor.name).text("by_role", actor.role.as_str()).text("by_key_id", &actor.key_id)
    }

    fn action(&mut self, action: &Action) -> &mut Self {
        self.text("agent", &action.agent).maybe("session", action.session.as_deref());
        self.text("action", &action.action).maybe("tool", action.tool.as_deref());
        self.text("resource", &action.resource).text("category", action.category.as_str());
        self.text("environment", action.environment.as_str());
        self.list("domains", action.domains.known.iter().map(|name| &**name));
        self.put("payload_bytes", action.payload_bytes)
    }

    fn blast(&mut self, blast: &BlastRadius) -> &mut Self {
        self.count("records", blast.records).count("systems", blast.systems);
        self.count("recipients", blast.recipients).put("records_basis", basis(blast));
        if let Some(declared) = blast.declared {
            self.put("records_declared", declared);
        }
        if blast.understated { self.put("understated", true) } else { self }
    }

    fn count(&mut self, name: &str, count: Count) -> &mut Self {
        match count {
            Count::Known(n) => self.put(name, n),
            Count::Unknown => self.put(&format!("{name}_unknown"), true),
        }
    }

    fn policies(&mut self, decision: &Decision) -> &mut Self {
        let of = |mode| {
            let matched = decision.policies.iter().filter(move |matched| matched.mode == mode);
            matched.filter(|matched| matched.exempted_by.is_none()).map(|matched| matched.name.as_str())
        };
        self.list("policies", of(Mode::Enforce)).list("policies_shadow", of(Mode::Shadow))
    }
}

fn basis(blast: &BlastRadius) -> &'static str {
    match blast.basis {
        checkrein_core::decision::Basis::Declared => "declared",
        checkrein_core::decision::Basis::Counted => "counted",
        checkrein_core::decision::Basis::Measured => "measured",
    }
}

fn fit(text: &str) -> String {
    fit_in(text, Medium::Plain, Unit::Bytes, MAX_TEXT)
}
