//! Which signals an entry of the log causes. Most cause none: a check that is allowed is no news.

use super::{Place, Severity, Signal, Status};
use crate::{
    action::Environment,
    approval::{self, Answer, Approval, Transition},
    decision::{BlastRadius, Matched, NO_SNAPSHOT, Verdict},
    drift::{
        self, Channel,
        breaker::{BreakerChange, State},
    },
    event::{Checked, Event, SinkHealth},
    fingerprint::hex,
    policy::{Mode, Rule},
    snapshot::{RollbackState, RollbackStatus},
    time::Timestamp,
};
use sha2::{Digest as _, Sha256};

/// Bytes of a text in a signal, at most: what agents name can be long.
const TEXT: usize = 512;
/// Resources of a blast radius, at most.
const RESOURCES: usize = 5;

/// What an event is about, where it names only its id.
#[derive(Clone, Copy, Debug)]
pub enum About<'a> {
    /// It says all of it itself.
    Nothing,
    /// The approval, after the event.
    Approval(&'a Approval),
    /// The rollback, after the event.
    Rollback(&'a RollbackState),
}

/// The signals of the entry `seq`, written at `at`.
pub fn derive(seq: u64, at: Timestamp, event: &Event, about: About<'_>) -> Vec<Signal> {
    let mut found = match (event, about) {
        (Event::Check(checked), _) => check(checked, at),
        (Event::ApprovalChanged { transition, .. }, About::Approval(approval)) => {
            settled(approval, transition, at).into_iter().collect()
        }
        (Event::RollbackStarted(_) | Event::RollbackFinished { .. }, About::Rollback(state)) => {
            vec![rollback(state, at)]
        }
        (Event::BreakerChanged(changed), _) => vec![breaker(changed, at)],
        (Event::DriftEnded { agent, channel }, _) => vec![drift_ended(agent, *channel, at)],
        (Event::SinkChanged { sink, health, reason }, _) => vec![self::sink(sink, *health, reason, at)],
        _ => Vec::new(),
    };
    for (n, signal) in (0..).zip(&mut found) {
        signal.id = Place { seq, n }.id();
    }
    found
}

/// One with what every kind has.
fn signal(kind: &str, severity: Severity, condition: &[&str], at: Timestamp, summary: &str) -> Signal {
    Signal {
        id: String::new(),
        kind: kind.to_owned(),
        severity,
        status: Status::Firing,
        condition: condition.iter().map(|part| token(part)).collect::<Vec<_>>().join("/"),
        at,
        summary: cut(summary),
        agent: None,
        session: None,
        action: None,
        category: None,
        environment: None,
        resource: None,
        tool: None,
        blast_radius: None,
        policies: Vec::new(),
        check_id: None,
        approval_id: None,
        snapshot_id: None,
        rollback_id: None,
        by: None,
        next: None,
    }
}

fn check(checked: &Checked, at: Timestamp) -> Vec<Signal> {
    let (action, decision) = (&checked.action, &checked.decision);
    let plain = decision.verdict == Verdict::Allow && decision.policies.is_empty();
    if plain && decision.drift.is_none() && !decision.blast_radius.understated {
        return Vec::new();
    }
    let enforced = |m: &&Matched| m.mode == Mode::Enforce && m.exempted_by.is_none();
    let alerts = || decision.policies.iter().filter(enforced).filter(|m| m.rule == Rule::Alert);
    let what = format!("{} on {} by {}", &*action.action, &*action.resource, &*action.agent);
    let worse = |bad, elsewhere| if action.environment == Environment::Production { bad } else { elsewhere };
    let agent = action.agent.as_str();
    let first = decision.policies.iter().find(enforced).map_or("", |m| m.name.as_str());
    let mut found = Vec::new();
    match decision.verdict {
        Verdict::Block if decision.reason.starts_with(NO_SNAPSHOT) => {
            let target = action.resource.split('.').next().unwrap_or_default();
            let severity = worse(Severity::Critical, Severity::Warning);
            found.push(signal(
                "snapshot.failed",
                severity,
                &["snapshot", target],
                at,
                &format!("{what}: {}", decision.reason),
            ));
        }
        Verdict::Block => {
            let severity = worse(Severity::Warning, Severity::Notice);
            let condition = ["blocked", agent, first];
            found.push(signal(
                "action.blocked",
                severity,
                &condition,
                at,
                &format!("{what}: {}", decision.reason),
            ));
        }
        Verdict::Hold => {
            let approval = decision.approval_id.as_deref().unwrap_or(&decision.id);
            let summary = format!("{what}: {}", decision.reason);
            found.push(signal("action.held", Severity::Warning, &["approval", approval], at, &summary));
        }
        Verdict::Allow => {
            if let Some(alert) = alerts().next() {
                let condition = ["alert", agent, &alert.name];
                found.push(signal(
                    "policy.alert",
                    Severity::Warning,
                    &condition,
                    at,
                    &format!("{what}: {}", alert.reason),
                ));
            }
        }
    }
    if decision.blast_radius.understated {
        let radius = &decision.blast_radius;
        let summary = format!(
            "{what}: the agent said {} records, it is {}",
            radius.declared.unwrap_or_default(),
            radius.records.known().map_or_else(|| "an unknown number".to_owned(), |n| n.to_string()),
        );
        found.push(signal(
            "blast_radius.understated",
            Severity::Warning,
            &["understated", agent],
            at,
            &summary,
        ));
    }
    if let Some(drift) = &decision.drift {
        let severity = match drift.severity {
            drift::Severity::Notice => Severity::Notice,
            drift::Severity::Warning => Severity::Warning,
            drift::Severity::Critical => Severity::Critical,
        };
        let kind = format!("drift.{}", drift.channel.as_str());
        // One incident, whichever of the key's agents it was seen at.
        let whose = drift.agents.as_deref().unwrap_or(agent);
        let condition = ["drift", whose, drift.channel.incident().as_str()];
        found.push(signal(&kind, severity, &condition, at, &format!("{whose}: {}", drift.reason)));
    }
    for signal in &mut found {
        of_action(signal, &checked.action, &decision.blast_radius);
        signal.policies = decision.policies.iter().filter(enforced).map(|m| m.name.clone()).collect();
        signal.check_id = Some(decision.id.clone());
        signal.approval_id.clone_from(&decision.approval_id);
        signal.snapshot_id.clone_from(&decision.snapshot_id);
        signal.next = Some(match &decision.approval_id {
            Some(id) => format!("checkrein approvals show {id}"),
            None => format!("checkrein log show {}", decision.id),
        });
    }
    found
}

fn of_action(signal: &mut Signal, action: &crate::action::Action, radius: &BlastRadius) {
    signal.agent = Some(cut(&action.agent));
    signal.session = action.session.as_deref().map(cut);
    signal.action = Some(cut(&action.action));
    signal.category = Some(action.category);
    signal.environment = Some(action.environment);
    signal.resource = Some(cut(&action.resource));
    signal.tool = action.tool.as_deref().map(cut);
    let mut radius = radius.clone();
    radius.by_resource.truncate(RESOURCES);
    signal.blast_radius = Some(radius);
}

fn breaker(changed: &BreakerChange, at: Timestamp) -> Signal {
    let (kind, severity, status, how) = match changed.change.to {
        State::Open => ("breaker.opened", Severity::Critical, Status::Firing, "is open"),
        State::HalfOpen => {
            ("breaker.half_open", Severity::Notice, Status::Firing, "lets some actions through, to see")
        }
        State::Closed => ("breaker.closed", Severity::Info, Status::Resolved, "is closed"),
    };
    let why = if changed.reason.is_empty() { String::new() } else { format!(": {}", changed.reason) };
    let summary = format!("The breaker of {} {how}{why}", changed.scope);
    let mut signal = signal(kind, severity, &["breaker", changed.scope.as_str()], at, &summary);
    signal.status = status;
    signal.agent = changed.scope.agent_name().map(cut);
    signal.check_id.clone_from(&changed.check_id);
    signal.by = changed.by.as_ref().map(|by| by.name.clone());
    signal.next = changed.check_id.as_ref().map(|id| format!("checkrein log show {id}"));
    signal
}

fn drift_ended(agent: &str, channel: Channel, at: Timestamp) -> Signal {
    let channel = channel.incident().as_str();
    let summary = format!("{agent} is back to what it normally does ({channel})");
    let mut signal = signal("drift.ended", Severity::Info, &["drift", agent, channel], at, &summary);
    signal.status = Status::Resolved;
    signal.agent = Some(cut(agent));
    signal
}

/// An approval is settled, and with it the hold that waited for it.
fn settled(approval: &Approval, transition: &Transition, at: Timestamp) -> Option<Signal> {
    let action = &approval.action;
    let what = format!("{} on {} by {}", &*action.action, &*action.resource, &*action.agent);
    if approval.state == approval::State::Pending {
        // The first of two people.
        return None;
    }
    let (kind, severity, how) = match transition {
        Transition::Decide { decision: Answer::Approve, by, .. } => {
            ("approval.approved", Severity::Info, format!("approved by {}", by.name))
        }
        Transition::Decide { decision: Answer::Deny, by, .. } => {
            ("approval.denied", Severity::Info, format!("denied by {}", by.name))
        }
        Transition::Expire if approval.decided_at.is_some() => {
            ("approval.expired", Severity::Info, "approved, but not used in time".to_owned())
        }
        Transition::Expire => ("approval.expired", Severity::Notice, "nobody answered in time".to_owned()),
        Transition::Withdraw { .. } => {
            ("approval.withdrawn", Severity::Info, "the agent no longer waits".to_owned())
        }
        Transition::Use { .. } | Transition::Comment { .. } | Transition::Link { .. } => return None,
    };
    let mut signal = signal(kind, severity, &["approval", &approval.id], at, &format!("{what}: {how}"));
    signal.status = Status::Resolved;
    of_action(&mut signal, action, &approval.blast_radius);
    signal.policies.clone_from(&approval.policies);
    signal.check_id = Some(approval.check_id.clone());
    signal.approval_id = Some(approval.id.clone());
    signal.by = match approval.state {
        approval::State::Approved | approval::State::Denied => {
            approval.decided_by.as_ref().map(|by| by.name.clone())
        }
        _ => None,
    };
    signal.next = Some(format!("checkrein approvals show {}", approval.id));
    Some(signal)
}

fn rollback(state: &RollbackState, at: Timestamp) -> Signal {
    let record = &state.record;
    let (kind, severity, status, how) = match state.status {
        None => ("rollback.started", Severity::Notice, Status::Firing, "was begun"),
        Some(RollbackStatus::Done) => ("rollback.done", Severity::Notice, Status::Resolved, "is done"),
        Some(RollbackStatus::NotDone) => {
            ("rollback.failed", Severity::Warning, Status::Firing, "did not take place; nothing was changed")
        }
        Some(RollbackStatus::Unknown) => {
            ("rollback.unknown", Severity::Critical, Status::Firing, "may or may not have taken place")
        }
    };
    let why = state.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let summary = format!(
        "The rollback of {} on {} by {} {how}{why}",
        record.snapshot_id, record.target, record.by.name
    );
    let mut signal = signal(kind, severity, &["rollback", &record.id], at, &summary);
    signal.status = status;
    signal.resource = Some(cut(&record.target));
    signal.snapshot_id = Some(record.snapshot_id.clone());
    signal.rollback_id = Some(record.id.clone());
    signal.by = Some(record.by.name.clone());
    signal.next = Some(format!("checkrein snapshot show {}", record.snapshot_id));
    signal
}

fn sink(name: &str, health: SinkHealth, reason: &str, at: Timestamp) -> Signal {
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let (kind, severity, status, how) = match health {
        SinkHealth::Failing => ("sink.failing", Severity::Critical, Status::Firing, "takes no messages"),
        SinkHealth::Recovered => ("sink.failing", Severity::Info, Status::Resolved, "takes messages again"),
        SinkHealth::Full => {
            ("outbox.full", Severity::Critical, Status::Firing, "has more waiting than there is room for")
        }
        SinkHealth::Gap => {
            ("outbox.full", Severity::Critical, Status::Firing, "lags behind what the log keeps")
        }
    };
    // `outbox.full` is over with `sink.failing`: both are one condition.
    let mut signal = signal(kind, severity, &["sink", name], at, &format!("The sink {name} {how}{why}"));
    signal.status = status;
    signal.next = Some("checkrein signal sinks".to_owned());
    signal
}

/// `text` as a part of a condition: at most 64 bytes of printable ASCII without `/`, different for different
/// texts.
fn token(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_graphic() && !b"/~".contains(&b);
    if text.len() <= 64 && text.bytes().all(plain) {
        return text.to_owned();
    }
    let start: String = text.chars().filter(|c| u8::try_from(*c).is_ok_and(plain)).take(40).collect();
    let digest = hex(&Sha256::digest(text.as_bytes()));
    format!("{start}~{}", digest.get(..16).unwrap_or_default())
}

fn cut(text: &str) -> String {
    if text.len() <= TEXT {
        return text.to_owned();
    }
    let start = text.get(..text.floor_char_boundary(TEXT - 3)).unwrap_or_default();
    // Not within a word: half a secret does not look like one, and would leave.
    let whole = start.rfind(char::is_whitespace).and_then(|end| start.get(..end)).unwrap_or(start);
    format!("{whole}…")
}
