//! Events as the server makes them.
#![expect(clippy::unwrap_used, reason = "tests")]

use checkrein_core::{
    action::{Action, Category, Count, Domains, Effect, Environment},
    approval::{Actor, Answer, Approval, State, Transition, Via},
    check::Check,
    decision::{Basis, BlastRadius, Decision, Matched, ResourceCount, Verdict},
    event::{Checked, Event, Outcome, OutcomeStatus},
    fingerprint::Fingerprint,
    grant::{self, Grant},
    key::{KeyRecord, Role},
    name::{Name, Pattern},
    policy::{Mode, Rule},
    snapshot::{Held, Origin, SnapshotRecord},
    time::Timestamp,
};
use serde_json::json;
use std::path::Path;

/// In 2033: after the real clock, which retention reads.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(2_000_000_000_000_000).plus_seconds(seconds)
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A check of about 1.5 KB.
pub(crate) fn checked(id: &str, agent: &str, key: Option<&str>) -> Checked {
    checked_with(id, agent, key, "update", "production.users", Verdict::Block)
}

pub(crate) fn checked_with(
    id: &str,
    agent: &str,
    key: Option<&str>,
    verb: &str,
    resource: &str,
    verdict: Verdict,
) -> Checked {
    let check = Check {
        session: Some("run-2026-11-22-0042".into()),
        action: Some(verb.into()),
        resource: Some(resource.into()),
        payload: Some(json!({
            "record_count": 10_000, "filter": {"plan": "trial", "created_before": "2026-01-01"},
            "set": {"status": "archived", "note": "clean-up of stale trial accounts, ticket OPS-4711"},
        })),
        statement: Some(
            "UPDATE users SET status = 'archived' WHERE plan = 'trial' AND created_at < '2026-01-01'".into(),
        ),
        idempotency_key: key.map(Into::into),
        ..Check::default()
    };
    let agent = name(agent);
    let blast_radius = BlastRadius {
        records: Count::Known(10_000),
        systems: Count::Known(1),
        recipients: Count::Known(0),
        basis: Basis::Declared,
        declared: Some(10_000),
        declared_ids: false,
        understated: false,
        by_resource: vec![ResourceCount {
            resource: name(resource),
            records: Count::Known(10_000),
            how: None,
        }],
    };
    Checked {
        key_id: "key_019aa5c2b1d07e3f9c41".into(),
        fingerprint: Fingerprint::of(&check, &agent, None),
        action: Action {
            agent,
            session: check.session.clone(),
            action: name(verb),
            tool: None,
            resource: name(resource),
            category: Category::Write,
            environment: Environment::Production,
            effects: [Effect {
                names: [name(verb)].into_iter().collect(),
                category: Category::Write,
                resource: name(resource),
                environment: Environment::Production,
            }]
            .into_iter()
            .collect(),
            records: Count::Known(10_000),
            declared: Some(10_000),
            declared_ids: false,
            systems: Count::Known(1),
            recipients: Count::Known(0),
            domains: Domains::default(),
            payload_bytes: 180,
        },
        check,
        decision: Decision {
            id: id.into(),
            verdict,
            reason: format!("blast_radius_limit: {verb} on {resource} touches 10000 records, over 25"),
            policies: vec![Matched {
                name: "blast_radius_limit".into(),
                rule: Rule::Block,
                mode: Mode::Enforce,
                reason: format!("{verb} on {resource} touches 10000 records, over 25"),
                exempted_by: None,
            }],
            category: Category::Write,
            environment: Environment::Production,
            blast_radius,
            drift: None,
            breaker: checkrein_core::drift::breaker::State::Closed,
            approval_id: None,
            snapshot_id: None,
            logged_at: at(0),
        },
        execution: None,
        probe: None,
    }
}

pub(crate) fn check(id: &str) -> Event {
    Event::Check(Box::new(checked(id, "billing-bot", None)))
}

pub(crate) fn check_with_key(id: &str, key: &str) -> Event {
    Event::Check(Box::new(checked(id, "billing-bot", Some(key))))
}

pub(crate) fn outcome(check_id: &str) -> Event {
    Event::Outcome(Outcome {
        check_id: check_id.into(),
        status: OutcomeStatus::Ok,
        records: Some(12),
        error: None,
        key_id: "key_1".into(),
    })
}

pub(crate) fn actor(role: Role) -> Actor {
    Actor { key_id: "key_ops".into(), name: "Olga".into(), role, via: Via::Key, made_by: None }
}

pub(crate) fn approval(id: &str, check_id: &str) -> Approval {
    let held = checked(check_id, "billing-bot", None);
    Approval {
        id: id.into(),
        check_id: check_id.into(),
        asked_by: "key_agent".into(),
        fingerprint: held.fingerprint,
        check: held.check,
        action: held.action,
        blast_radius: held.decision.blast_radius,
        policies: vec!["blast_radius_limit".into()],
        reason: "10000 records, over 25".into(),
        approvals: 1,
        state: State::Pending,
        given: Vec::new(),
        requested_at: at(0),
        expires_at: at(3600),
        decided_by: None,
        decided_at: None,
        comment: None,
        used_by: None,
        used_at: None,
        comments: Vec::new(),
    }
}

pub(crate) fn requested(id: &str, check_id: &str) -> Event {
    Event::ApprovalRequested(Box::new(approval(id, check_id)))
}

pub(crate) fn decided(id: &str, decision: Answer) -> Event {
    changed(id, Transition::Decide { decision, by: actor(Role::Operator), comment: None })
}

pub(crate) fn changed(id: &str, transition: Transition) -> Event {
    Event::ApprovalChanged { id: id.into(), transition }
}

/// For whatever `billing-bot` does, for an hour.
pub(crate) fn grant(id: &str, max_records: u64, given_at: Timestamp) -> Grant {
    let any = || Pattern::new("*").unwrap();
    Grant {
        id: id.into(),
        agent: name("billing-bot"),
        action: any(),
        resource: any(),
        max_records,
        max_uses: None,
        accept_declared: false,
        reason: "clean-up".into(),
        given_by: actor(Role::Operator),
        given_at,
        expires_at: given_at.plus_seconds(3600),
        state: grant::State::Open,
        uses: 0,
        records: 0,
        last_used_by: None,
        last_used_at: None,
        revoked_by: None,
        revoked_at: None,
    }
}

pub(crate) fn snapshot(id: &str, agent: &str, check_id: Option<&str>) -> SnapshotRecord {
    SnapshotRecord {
        id: id.into(),
        target: "shop".into(),
        resource: "shop.users".into(),
        agent: agent.into(),
        session: None,
        check_id: check_id.map(Into::into),
        origin: Origin::Execution,
        sealed: false,
        by_resource: vec![Held { resource: "shop.users".into(), records: 3 }],
        bytes: 100,
        key_id: "key_1".into(),
    }
}

pub(crate) fn policy(name: &str, limit: u64) -> Event {
    Event::PolicyPut {
        name: name.into(),
        policy: json!({"name": name, "rule": "block", "condition": {"record_count_exceeds": limit}}),
        by: actor(Role::Admin),
    }
}

pub(crate) fn policy_deleted(name: &str) -> Event {
    Event::PolicyDeleted { name: name.into(), by: actor(Role::Admin) }
}

pub(crate) fn key(id: &str) -> Event {
    Event::KeyCreated {
        key: KeyRecord {
            id: id.into(),
            role: Role::Agent,
            name: "billing".into(),
            agent: Some("billing-*".into()),
            sha256: "00".repeat(32),
        },
        by: Some(actor(Role::Admin)),
    }
}

pub(crate) fn revoked(id: &str) -> Event {
    Event::KeyRevoked { id: id.into(), by: None }
}

/// Options for tests: no 16 MiB laid out for each of hundreds of small stores.
pub(crate) fn options(dir: &Path) -> checkrein_store::Options {
    checkrein_store::Options { wal_bytes: 256 * 1024, ..checkrein_store::Options::new(dir) }
}

pub(crate) fn open(dir: &Path) -> checkrein_store::Store {
    checkrein_store::Store::open(options(dir)).unwrap()
}

/// The log verifies, and how many entries it has.
pub(crate) fn verified(dir: &Path) -> u64 {
    checkrein_store::Reader::open(dir).unwrap().verify(None, |_| {}).unwrap().entries
}
