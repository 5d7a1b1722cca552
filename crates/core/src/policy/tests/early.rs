//! What blocks before anything is counted.

use super::*;

fn blocks(policies: &Value, action: &Action) -> bool {
    set(policies).blocks_uncounted(&Facts::of(action, None, at(0)), &Windows::new())
}

#[test]
fn only_what_blocks_whatever_the_number_blocks_early() {
    let update = update();
    let one = |condition: Value| json!([{"name": "p", "rule": "block", "condition": condition}]);
    for early in [
        json!({"action": "update"}),
        json!({"resource_pattern": "production.*", "any_of": [{"record_count_exceeds": 5}, {"category": "write"}]}),
        json!({"any_of": [{"record_count_exceeds": 5}, {"environment": "production"}]}),
        json!({"drift_at_least": 5}),
        json!({"action": "update", "when": "agent == 'billing-bot'"}),
    ] {
        assert!(blocks(&one(early.clone()), &update), "{early}");
    }
    for late in [
        json!({"action": "delete"}),
        json!({"record_count_exceeds": 5}),
        json!({"action": "update", "not": {"record_count_exceeds": 5}}),
        json!({"action": "update", "when": "records > 5"}),
        json!({"action": "update", "when": "records == 10 || true"}),
        json!({"action": "update", "rate_exceeds": {"count": 1, "period": "1m"}}),
    ] {
        assert!(!blocks(&one(late.clone()), &update), "{late}");
    }
    for harmless in ["require_approval", "alert", "allow"] {
        assert!(!blocks(&json!([{"name": "p", "rule": harmless, "condition": {}}]), &update));
    }
    let shadow = json!([{"name": "p", "rule": "block", "mode": "shadow", "condition": {}}]);
    assert!(!blocks(&shadow, &update));
}

#[test]
fn a_rate_is_looked_at_and_not_counted() {
    let busy = set(
        &json!([{"name": "p", "rule": "block", "condition": {"rate_exceeds": {"count": 2, "period": "1m"}}}]),
    );
    let (update, mut windows) = (update(), Windows::new());
    let facts = Facts::of(&update, None, at(0));
    for _ in 0..2 {
        assert!(!busy.blocks_uncounted(&facts, &windows));
        assert!(!busy.blocks_uncounted(&facts, &windows), "asking counts nothing");
        busy.evaluate(&facts, &mut windows);
    }
    assert!(busy.blocks_uncounted(&facts, &windows));
    assert!(!busy.blocks_uncounted(&Facts::of(&update, None, at(60)), &windows), "a minute later");
}
