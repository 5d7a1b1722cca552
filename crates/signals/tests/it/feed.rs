//! The record of an entry: flat, bounded, without what an agent sent word for word.

use crate::samples::{HOSTILE, checked, entry, now};
use checkrein_core::time::Timestamp;
use checkrein_signals::feed::record;
use serde_json::{Value, json};

const AT: Timestamp = Timestamp::from_micros(1_795_338_605_123_456);

#[test]
fn a_check_is_flat_and_says_no_payload() {
    let record = record(&checked(7, AT, |_| {})).unwrap();
    assert_eq!((record.seq, record.at, record.kind), (7, AT, "check"));
    assert_eq!(
        record.body,
        json!({
            "seq": 7, "at": "2026-11-22T09:10:05.123456Z", "kind": "check",
            "summary": "block: billing-bot wants delete_user on production.users",
            "check_id": "chk_7", "verdict": "block", "reason": "no_production_deletes: not in production",
            "agent": "billing-bot", "session": "run-1", "action": "delete_user", "tool": "delete_user",
            "resource": "production.users", "category": "delete", "environment": "production",
            "payload_bytes": 22, "records_unknown": true, "systems": 1, "recipients": 0,
            "records_basis": "declared", "records_declared": 3, "policies": ["no_production_deletes"],
            "policies_shadow": ["trial"], "breaker": "closed", "key_id": "key_1", "fingerprint": "f00d",
        })
    );
}

#[test]
fn every_kind_of_entry_has_its_record() {
    let by = json!({"key_id": "key_2", "name": "ada", "role": "operator"});
    let approval = |transition: Value| {
        let mut body = json!({"id": "apr_1"});
        body.as_object_mut().unwrap().append(&mut transition.as_object().unwrap().clone());
        body
    };
    let kinds = [
        (
            "outcome",
            json!({"check_id": "chk_7", "status": "error", "records": 3, "error": "e", "key_id": "key_1"}),
            json!({"check_id": "chk_7", "outcome": "error", "records_affected": 3, "error": "e", "key_id": "key_1"}),
        ),
        (
            "approval.changed",
            approval(json!({"transition": "decide", "decision": "approve", "by": by, "comment": "ok"})),
            json!({"approval_id": "apr_1", "approval_state": "approved", "by": "ada", "by_role": "operator", "by_key_id": "key_2", "comment": "ok"}),
        ),
        (
            "approval.changed",
            approval(json!({"transition": "use", "check_id": "chk_8", "fingerprint": "f"})),
            json!({"approval_id": "apr_1", "approval_state": "used", "check_id": "chk_8"}),
        ),
        ("approval.changed", approval(json!({"transition": "expire"})), json!({"approval_state": "expired"})),
        (
            "approval.changed",
            approval(json!({"transition": "withdraw", "by": by})),
            json!({"approval_state": "withdrawn"}),
        ),
        (
            "approval.sampled",
            json!({"id": "apr_1", "target": "shop", "records": 3, "by": by}),
            json!({"approval_id": "apr_1", "target": "shop", "records": 3, "by": "ada", "by_role": "operator"}),
        ),
        (
            "snapshot.taken",
            json!({"id": "snp_1", "target": "shop", "resource": "shop.users", "agent": "bot",
            "origin": "automatic", "sealed": false, "by_resource": [{"resource": "a", "records": 2}, {"resource": "b", "records": 3}],
            "bytes": 9, "key_id": "key_1"}),
            json!({"snapshot_id": "snp_1", "target": "shop", "records": 5, "bytes": 9, "origin": "automatic", "sealed": false}),
        ),
        ("snapshot.sealed", json!({"id": "snp_1", "bytes": 4}), json!({"snapshot_id": "snp_1", "bytes": 4})),
        (
            "snapshot.removed",
            json!({"id": "snp_1", "reason": "old"}),
            json!({"snapshot_id": "snp_1", "reason": "old"}),
        ),
        (
            "rollback.started",
            json!({"id": "rbk_1", "snapshot_id": "snp_1", "undo_snapshot_id": "snp_2", "target": "shop",
            "token": "t", "by": by, "on_conflict": "refuse", "restored": 5, "by_resource": []}),
            json!({"rollback_id": "rbk_1", "snapshot_id": "snp_1", "records": 5, "by": "ada", "on_conflict": "refuse"}),
        ),
        (
            "rollback.finished",
            json!({"id": "rbk_1", "status": "not_done"}),
            json!({"rollback_id": "rbk_1", "status": "not_done"}),
        ),
        (
            "policy.put",
            json!({"name": "p", "policy": {"secret": 1}, "by": by}),
            json!({"policy": "p", "by": "ada"}),
        ),
        ("policy.deleted", json!({"name": "p", "by": by}), json!({"policy": "p", "by_role": "operator"})),
        (
            "policy.loaded",
            json!({"policies": [{}, {}], "files": ["a.toml"]}),
            json!({"policies_loaded": 2, "files": ["a.toml"]}),
        ),
        (
            "key.created",
            json!({"key": {"id": "key_3", "role": "agent", "name": "n", "agent": "bot", "sha256": "beef"}, "by": by}),
            json!({"subject_key_id": "key_3", "subject_key_name": "n", "role": "agent", "agent": "bot", "by": "ada"}),
        ),
        ("key.revoked", json!({"id": "key_3"}), json!({"subject_key_id": "key_3"})),
        ("server.started", json!({"version": "1"}), json!({"version": "1"})),
        ("server.stopped", json!({}), json!({})),
        (
            "log.pruned",
            json!({"through": 9, "hash": "00", "removed": 9}),
            json!({"through": 9, "removed": 9}),
        ),
    ];
    for (kind, body, expected) in kinds {
        let found = record(&entry(9, AT, kind, &body)).unwrap_or_else(|| panic!("{kind} has no record"));
        assert_eq!(found.kind, kind);
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(found.body.get(name), Some(value), "{kind}: {name} in {}", found.body);
        }
        for (name, value) in found.body.as_object().unwrap() {
            let flat = !value.is_object() && !value.is_null();
            assert!(flat, "{kind}: {name} is not flat: {value}");
        }
        let text = found.body.to_string();
        assert!(!text.contains("beef") && !text.contains("secret"), "{kind}: {text}");
        assert!(found.body["summary"].as_str().is_some_and(|s| !s.is_empty()), "{kind}");
    }
}

#[test]
fn what_cannot_be_read_has_no_record() {
    assert_eq!(record(&entry(1, AT, "from.the.future", &json!({}))), None);
    assert_eq!(record(&entry(1, AT, "check", &json!({"half": true}))), None);
}

#[test]
fn a_record_is_bounded_whatever_came_in() {
    let long = HOSTILE.repeat(2000);
    let entry = checked(1, now(), |body| {
        body["decision"]["reason"] = long.clone().into();
        body["check"]["session"] = long.clone().into();
        let policy = json!({"name": long, "rule": "block", "mode": "enforce", "reason": long});
        body["decision"]["policies"] = vec![policy; 300].into();
    });
    let text = record(&entry).unwrap().body.to_string();
    assert!(text.len() < 256 * 1024, "{}", text.len());
    assert!(!text.contains("hunter2"));
    assert!(!text.contains(['\u{202e}', '\u{1b}', '\u{2028}', '\n']));
}
