//! Messages, records and clients for tests.

use checkrein_core::signal::{Notification, Severity, Signal, Status};
use checkrein_core::{chain::Hash, event::Entry, time::Timestamp};
use checkrein_signals::{
    feed,
    http::{Http, HttpConfig},
    sink::Record,
};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// Text that tries everything: line breaks, mentions, markup, separators, escapes, what cannot be seen.
pub(crate) const HOSTILE: &str =
    "x\r\nforged: yes\n<!channel> @all %%% \"]\\|=,'\u{0}\u{1b}[31m\u{202e}\u{2028} [a=\"b\"] é🚀";

pub(crate) fn http() -> Http {
    client(Duration::from_secs(5))
}

/// A client with this patience.
pub(crate) fn client(timeout: Duration) -> Http {
    Http::new(&HttpConfig { allow_private: true, timeout, ..HttpConfig::default() }).unwrap()
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
}

/// A message about a blocked action.
pub(crate) fn message() -> Notification {
    let signal: Signal = serde_json::from_value(json!({
        "id": "sig_7", "kind": "action.blocked", "severity": "warning", "status": "firing",
        "condition": "blocked:billing-bot:no_production_deletes", "at": now(),
        "summary": "delete on production.users was blocked by no_production_deletes",
        "agent": "billing-bot", "session": "run-1", "action": "delete", "category": "delete",
        "environment": "production", "resource": "production.users", "tool": "drop_user",
        "blast_radius": {"records": 10000, "systems": 1, "recipients": 0, "basis": "counted", "declared": 12,
                         "understated": true, "by_resource": []},
        "policies": ["no_production_deletes"], "check_id": "chk_1", "next": "checkrein log show 7",
    }))
    .unwrap();
    Notification {
        delivery_id: "ntf_1_1".into(),
        dedup_key: "blocked:billing-bot:no_production_deletes".into(),
        status: Status::Firing,
        severity: Severity::Warning,
        count: 38,
        first_at: signal.at.plus_seconds(-60),
        last_at: signal.at,
        signals: vec![signal],
        link: Some("https://checkrein.example/checks/chk_1".into()),
    }
}

/// A message every text of which is hostile and long.
pub(crate) fn hostile() -> Notification {
    let mut message = message();
    let long = HOSTILE.repeat(400);
    message.dedup_key = "k".repeat(255);
    message.delivery_id = "d".repeat(255);
    let signal = message.signals.first_mut().unwrap();
    signal.summary.clone_from(&long);
    for text in [&mut signal.agent, &mut signal.session, &mut signal.action, &mut signal.resource] {
        *text = Some(long.clone());
    }
    for text in [&mut signal.tool, &mut signal.by, &mut signal.next, &mut signal.check_id] {
        *text = Some(long.clone());
    }
    signal.policies = vec![long; 200];
    let signal = signal.clone();
    message.signals = vec![signal; 5];
    message
}

/// The entry of a check; `change` may change its body.
pub(crate) fn checked(seq: u64, at: Timestamp, change: impl FnOnce(&mut Value)) -> Entry {
    let mut body = json!({
        "key_id": "key_1",
        "check": {"agent": "billing-bot", "session": "run-1", "tool": "delete_user", "arguments": {"password": "hunter2"}},
        "action": {"action": "delete_user", "resource": "production.users", "payload_bytes": 22},
        "fingerprint": "f00d",
        "decision": {
            "id": format!("chk_{seq}"), "verdict": "block", "reason": "no_production_deletes: not in production",
            "policies": [
                {"name": "no_production_deletes", "rule": "block", "mode": "enforce", "reason": "r"},
                {"name": "trial", "rule": "block", "mode": "shadow", "reason": "r"},
                {"name": "lifted", "rule": "alert", "mode": "enforce", "reason": "r", "exempted_by": "ok"}],
            "category": "delete", "environment": "production",
            "blast_radius": {"records": null, "systems": 1, "recipients": 0, "basis": "declared", "declared": 3,
                             "by_resource": []},
            "logged_at": at,
        },
    });
    change(&mut body);
    entry(seq, at, "check", &body)
}

pub(crate) fn entry(seq: u64, at: Timestamp, kind: &str, body: &Value) -> Entry {
    Entry {
        seq,
        at,
        kind: kind.into(),
        subject: String::new(),
        agent: String::new(),
        body: body.to_string(),
        hash: Hash::default(),
    }
}

/// So many records of checks, one a millisecond, the last one just now.
pub(crate) fn records(count: u64) -> Vec<Record> {
    let now = now();
    let at = |seq| now.plus_micros(-1000 * i64::try_from(count - seq).unwrap());
    (1..=count).map(|seq| feed::record(&checked(seq, at(seq), |_| {})).unwrap()).collect()
}
