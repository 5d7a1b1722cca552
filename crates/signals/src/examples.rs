//! Harmless examples of every kind of signal, to try a sink with.

use crate::{dispatcher::example, sink::Record};
use checkrein_core::{
    action::{Category, Environment},
    signal::{Notification, Severity, Signal, Status},
    time::Timestamp,
};
use serde_json::json;

/// Each kind, how bad its example is, and whether it says that something is over.
const KINDS: [(&str, Severity, Status); 12] = [
    ("action.blocked", Severity::Warning, Status::Firing),
    ("action.held", Severity::Warning, Status::Firing),
    ("approval.approved", Severity::Info, Status::Resolved),
    ("approval.denied", Severity::Info, Status::Resolved),
    ("approval.expired", Severity::Notice, Status::Resolved),
    ("policy.alert", Severity::Warning, Status::Firing),
    ("blast_radius.understated", Severity::Warning, Status::Firing),
    ("snapshot.failed", Severity::Critical, Status::Firing),
    ("rollback.done", Severity::Notice, Status::Resolved),
    ("rollback.failed", Severity::Warning, Status::Firing),
    ("sink.failing", Severity::Critical, Status::Firing),
    ("sink.failing", Severity::Info, Status::Resolved),
];

/// One message of each kind. `number` tells this set from others. What fires is resolved right after, so that
/// nothing stays open at a receiver that keeps incidents.
pub fn messages(now: Timestamp, number: &str) -> Vec<Notification> {
    let mut found = Vec::new();
    for (n, (kind, severity, status)) in (1..).zip(KINDS) {
        let key = format!("checkrein-test-{number}-{n}");
        let signal = signal(now, kind, severity, status, &key);
        found.push(example(format!("{key}-1"), key.clone(), signal.clone()));
        if status == Status::Firing {
            let over = Signal {
                status: Status::Resolved,
                summary: "Test: this example is over".to_owned(),
                ..signal
            };
            found.push(example(format!("{key}-2"), key, over));
        }
    }
    found
}

/// One record of the stream of all actions.
pub fn record(now: Timestamp) -> Record {
    let body = json!({
        "test": true, "at": now, "agent": "example-agent", "action": "update", "resource": "example.users",
        "verdict": "allow", "message": "A test of Checkrein: nothing happened",
    });
    Record { seq: 0, at: now, kind: "check", body }
}

fn signal(now: Timestamp, kind: &str, severity: Severity, status: Status, key: &str) -> Signal {
    Signal {
        id: "sig_0".to_owned(),
        kind: kind.to_owned(),
        severity,
        status,
        condition: key.to_owned(),
        at: now,
        summary: format!("Test of Checkrein, nothing happened: an example of {kind}"),
        agent: Some("example-agent".to_owned()),
        session: None,
        action: Some("update".to_owned()),
        category: Some(Category::Write),
        environment: Some(Environment::Sandbox),
        resource: Some("example.users".to_owned()),
        tool: None,
        blast_radius: None,
        policies: vec!["example_policy".to_owned()],
        check_id: None,
        approval_id: None,
        snapshot_id: None,
        rollback_id: None,
        by: None,
        next: Some("checkrein signal list".to_owned()),
    }
}
