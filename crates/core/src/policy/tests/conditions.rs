//! Each condition, true, false and unknown; and what is refused.

use super::*;
use crate::decision::Verdict;

/// Whether `condition` makes each rule match: (block, alert). True is (true, true), false (false, false),
/// unknown and error (true, false).
fn holds(condition: &Value, action: &Action) -> (bool, bool) {
    let of = |rule: &str| {
        let set = set(&json!([{"name": "p", "rule": rule, "condition": condition}]));
        !judge(&set, action).matched.is_empty()
    };
    (of("block"), of("alert"))
}

const YES: (bool, bool) = (true, true);
const NO: (bool, bool) = (false, false);
const UNKNOWN: (bool, bool) = (true, false);

#[test]
fn of_the_action_itself() {
    let raw = Action { tool: Some(name("crm.update")), ..update() };
    for (condition, expected) in [
        (json!({}), YES),
        (json!({"action": "update"}), YES),
        (json!({"action": "UPDATE_user"}), YES),
        (json!({"action": "delete"}), NO),
        (json!({"action": ["delete", "upd*"]}), YES),
        (json!({"action": "update", "environment": "staging"}), NO),
        (json!({"category": "write"}), YES),
        (json!({"category": ["read", "delete"]}), NO),
        (json!({"resource_pattern": "production.*"}), YES),
        (json!({"resource_pattern": "production.users"}), YES),
        (json!({"resource_pattern": "production"}), NO),
        (json!({"resource_pattern": ["staging.*", "*.users"]}), YES),
        (json!({"environment": ["staging", "production"]}), YES),
        (json!({"agent": "Billing-*"}), YES),
        (json!({"agent": "billing"}), NO),
        (json!({"tool": "crm.*"}), YES),
        (json!({"tool": "mail"}), NO),
        (json!({"payload_bytes_exceeds": 99}), YES),
        (json!({"payload_bytes_exceeds": 100}), NO),
    ] {
        assert_eq!(holds(&condition, &raw), expected, "{condition}");
    }
    assert_eq!(holds(&json!({"tool": "*"}), &update()), NO, "no tool at all");
}

#[test]
fn of_a_resource_that_is_left_open() {
    let open = action("delete", "shop.*", Count::Known(1));
    for (pattern, expected) in [
        (json!("shop.*"), YES),
        (json!("*"), YES),
        (json!("shop.orders"), UNKNOWN),
        (json!("shop.public.orders"), UNKNOWN),
        (json!("*.orders"), UNKNOWN),
        (json!("shop.o*"), UNKNOWN),
        (json!(["mail.*", "SHOP.orders"]), UNKNOWN),
        (json!("shop"), NO),
        (json!("shopping.orders"), NO),
        (json!("mail.*"), NO),
        (json!("https://shop.example/*"), NO),
    ] {
        assert_eq!(holds(&json!({"resource_pattern": pattern}), &open), expected, "{pattern}");
    }
    assert_eq!(holds(&json!({"not": {"resource_pattern": "shop.orders"}}), &open), UNKNOWN);
    assert_eq!(holds(&json!({"not": {"resource_pattern": "mail.*"}}), &open), YES);
    let set =
        set(&json!([{"name": "keep", "rule": "block", "condition": {"resource_pattern": "shop.orders"}}]));
    assert_eq!(judge(&set, &open).reason, "Blocked by keep: delete on shop.* may touch `shop.orders`.");
}

#[test]
fn of_counts() {
    for (key, set_count) in [
        ("record_count_exceeds", (|a, c| a.records = c) as fn(&mut Action, Count)),
        ("system_count_exceeds", |a, c| a.systems = c),
        ("recipient_count_exceeds", |a, c| a.recipients = c),
    ] {
        for (count, limit, expected) in [
            (Count::Known(26), 25, YES),
            (Count::Known(25), 25, NO),
            (Count::Known(0), 0, NO),
            (Count::Known(u64::MAX), u64::MAX - 1, YES),
            (Count::Known(u64::MAX), u64::MAX, NO),
            (Count::Unknown, 25, UNKNOWN),
            (Count::Unknown, u64::MAX, UNKNOWN),
        ] {
            let mut a = update();
            set_count(&mut a, count);
            assert_eq!(holds(&json!({ key: limit }), &a), expected, "{key} {count:?} {limit}");
        }
    }
}

#[test]
fn of_domains() {
    let reaching = |known: &[&str], unknown: bool| Action {
        domains: Domains { known: known.iter().map(|d| name(d)).collect(), unknown },
        ..update()
    };
    let list = json!(["example.com", "*.corp.example"]);
    for (known, unknown, not_in, is_in) in [
        (&[][..], false, NO, NO),
        (&[], true, UNKNOWN, UNKNOWN),
        (&["example.com"], false, NO, YES),
        (&["example.com"], true, UNKNOWN, YES),
        (&["evil.net"], false, YES, NO),
        (&["evil.net"], true, YES, UNKNOWN),
        (&["example.com", "evil.net"], false, YES, YES),
        (&["a.corp.example"], false, NO, YES),
        (&["corp.example"], false, YES, NO),
    ] {
        let a = reaching(known, unknown);
        assert_eq!(holds(&json!({"domain_not_in": list}), &a), not_in, "not in: {known:?} {unknown}");
        assert_eq!(holds(&json!({"domain_in": list}), &a), is_in, "in: {known:?} {unknown}");
    }
}

#[test]
fn of_drift() {
    let set = set(&json!([{"name": "p", "rule": "require_approval", "condition": {"drift_at_least": 6}}]));
    for (drift, verdict) in [
        (Some(6.0), Verdict::Hold),
        (Some(5.99), Verdict::Allow),
        (Some(f64::INFINITY), Verdict::Hold),
        (Some(f64::NAN), Verdict::Hold),
        (None, Verdict::Hold),
    ] {
        let a = update();
        let facts = Facts { drift, ..Facts::of(&a, None, at(0)) };
        assert_eq!(set.evaluate(&facts, &mut Windows::new()).verdict, verdict, "{drift:?}");
    }
}

#[test]
fn joined_with_the_unknown() {
    let unknown = json!({"record_count_exceeds": 5});
    let (yes, no) = (json!({"action": "update"}), json!({"action": "delete"}));
    let a = Action { records: Count::Unknown, ..update() };
    for (condition, expected) in [
        (json!({"not": unknown}), UNKNOWN),
        (json!({"not": yes}), NO),
        (json!({"not": no}), YES),
        (json!({"not": {"not": unknown}}), UNKNOWN),
        (json!({"any_of": [no, unknown]}), UNKNOWN),
        (json!({"any_of": [unknown, yes]}), YES),
        (json!({"any_of": [no, no]}), NO),
        (json!({"all_of": [yes, unknown]}), UNKNOWN),
        (json!({"all_of": [unknown, no]}), NO),
        (json!({"all_of": [yes, yes]}), YES),
        (json!({"action": "delete", "record_count_exceeds": 5}), NO),
        (json!({"not": {"all_of": [unknown, no]}}), YES),
        (json!({"any_of": [{"all_of": [yes, {"not": no}]}, no]}), YES),
    ] {
        assert_eq!(holds(&condition, &a), expected, "{condition}");
    }
}

#[test]
fn the_unknown_can_be_decided_otherwise() {
    let a = Action { records: Count::Unknown, ..update() };
    for (rule, on_unknown, matches) in [
        ("block", "match", true),
        ("block", "no_match", false),
        ("require_approval", "no_match", false),
        ("alert", "match", true),
        ("alert", "no_match", false),
    ] {
        let set = set(
            &json!([{"name": "p", "rule": rule, "on_unknown": on_unknown, "condition": {"record_count_exceeds": 5}}]),
        );
        assert_eq!(!judge(&set, &a).matched.is_empty(), matches, "{rule} {on_unknown}");
    }
}

#[test]
fn of_cel() {
    let mut a = Action { tool: Some(name("crm")), ..update() };
    a.domains.known = vec![name("example.com")];
    let payload =
        json!({"amount": 70.5, "currency": "EUR", "tags": ["a", "b"], "nested": {"n": 3}, "big": u64::MAX});
    let judged = |when: &str, rule: &str, a: &Action| {
        let set = set(
            &json!([{"name": "p", "rule": rule, "on_unknown": "no_match", "condition": {"action": "update", "when": when}}]),
        );
        !set.evaluate(&Facts::of(a, Some(&payload), at(0)), &mut Windows::new()).matched.is_empty()
    };
    let holds = |when: &str, a: &Action| (judged(when, "block", a), judged(when, "alert", a));
    for (when, expected) in [
        ("records > 5", YES),
        ("records == 10 && systems <= 1 && recipients == 0", YES),
        ("records * 2 + 1 > 30", NO),
        ("agent == 'billing-bot' && action == \"update_user\"", YES),
        ("resource.startsWith('production.')", YES),
        ("resource.endsWith('accounts') || resource.contains('nope')", NO),
        ("category == 'write' && environment == 'production'", YES),
        ("tool == 'crm' && session == 's-1'", YES),
        ("payload.amount > 50.0 && payload.currency in ['EUR', 'USD']", YES),
        ("payload.amount > 50", YES),
        ("payload.nested.n - 1 == 2 && -payload.nested.n == -3", YES),
        ("'b' in payload.tags && size(payload.tags) == 2", YES),
        ("payload.tags[1] == 'b'", YES),
        ("payload['currency'] == 'EUR'", YES),
        ("has(payload.amount) && !has(payload.refund)", YES),
        ("has(payload.refund) && payload.refund > 5", NO),
        ("payload.big > 5", YES),
        ("payload_bytes < 1000 ? true : false", YES),
        ("'example.com' in domains", YES),
        ("int('7') == 7 && string(1) == '1' && double(1) == 1.0", YES),
        // Errors stop what a block stops, whatever `on_unknown` says.
        ("payload.refund > 5", UNKNOWN),
        ("payload.currency > 5", UNKNOWN),
        ("1 / 0 == 1", UNKNOWN),
        ("records", UNKNOWN),
        ("payload.tags[9] == 'b'", UNKNOWN),
        ("9223372036854775807 + records > 0", UNKNOWN),
        ("int('seven') == 7", UNKNOWN),
        ("drift > 5.0", UNKNOWN),
        // What does not matter does no harm.
        ("true || payload.refund > 5", YES),
        ("false && payload.refund > 5", NO),
    ] {
        assert_eq!(holds(when, &a), expected, "{when}");
    }
    a.records = Count::Unknown;
    a.domains.unknown = true;
    for when in
        ["records > 5", "records != 5", "!(records > 5)", "records == null", "'example.com' in domains"]
    {
        assert_eq!(holds(when, &a), UNKNOWN, "{when}");
    }
    a.payload_bytes = 10 << 20;
    assert_eq!(holds("payload.amount > 50.0", &a), UNKNOWN, "too large to be looked into");
    let none = Action { session: None, tool: None, ..update() };
    assert_eq!(holds("tool == null && session == null", &none), YES);
    let set = set(
        &json!([{"name": "p", "rule": "block", "condition": {"action": "update", "when": "payload.refund > 5"}}]),
    );
    let facts = update();
    let reason = set.evaluate(&Facts::of(&facts, Some(&payload), at(0)), &mut Windows::new()).reason;
    assert!(reason.contains("cannot be judged by `payload.refund > 5` (No such key"), "{reason}");
}

#[test]
fn reads_and_writes_the_same_policy() {
    for value in [
        json!({"name": "a", "rule": "block", "condition": {}}),
        json!({"name": "b", "rule": "alert", "mode": "shadow", "description": "why", "on_unknown": "match", "except": ["x", "y"],
               "condition": {"action": "update", "category": ["read", "write"], "resource_pattern": ["a.b", "a.*"], "environment": "staging",
                 "agent": "a*", "tool": "t", "record_count_exceeds": 0, "system_count_exceeds": 1, "recipient_count_exceeds": u64::MAX,
                 "payload_bytes_exceeds": 5, "domain_not_in": ["example.com", "*.example.com"], "domain_in": ["[::1]"],
                 "rate_exceeds": {"count": 30, "period": "1h"}, "drift_at_least": 6.5, "when": "records > 5",
                 "any_of": [{"action": "a"}, {"not": {"action": "b"}}], "all_of": [{"action": "c"}], "not": {"tool": "x"}}}),
    ] {
        let read = policy(&value);
        assert_eq!(read.to_value(), value);
        assert_eq!(Policy::parse(&read.to_value()).unwrap(), read);
    }
}

#[test]
fn equal_content_compares_equal_however_it_is_spelled() {
    let a = policy(
        &json!({"name": "p", "rule": "block", "mode": "enforce", "on_unknown": "match", "except": [],
        "condition": {"action": ["UPDATE", "update "], "rate_exceeds": {"count": 1, "period": "60m"}, "drift_at_least": 5,
                      "domain_in": ["*.B.com", "a.com.", "b.com", "*.b.com"], "category": ["write", "read", "write"]}}),
    );
    let b = policy(&json!({"name": "p", "rule": "block",
        "condition": {"category": ["read", "write"], "domain_in": ["b.com", "a.com", "*.b.com"], "drift_at_least": 5.0,
                      "rate_exceeds": {"count": 1, "period": "3600s"}, "action": "update"}}));
    assert_eq!(a, b);
    assert_eq!(a.to_value(), b.to_value());
    assert_eq!(a.to_value()["condition"]["rate_exceeds"]["period"], "1h");
}

#[test]
fn names_the_nearest_key_and_every_problem_at_once() {
    assert_eq!(
        refused(&json!({"name": "p", "rule": "blok", "mod": "shadow", "action": "x", "condition": {
            "any_of": [{"action": "a"}, {"resorce_pattern": "x", "record_count_exceeds": -1}]}})),
        [
            "action: `action` belongs inside `condition`",
            "mod: unknown key `mod`; did you mean `mode`?",
            "rule: unknown `blok`; did you mean `block`? Known are block, require_approval, alert, allow",
            "condition.any_of[1].record_count_exceeds: a whole number of 0 or more is expected, not -1",
            "condition.any_of[1].resorce_pattern: unknown key `resorce_pattern`; did you mean `resource_pattern`?",
        ]
    );
}

#[test]
fn refuses_what_cannot_be_meant() {
    let rate =
        |count: Value, period: Value| block(json!({"rate_exceeds": {"count": count, "period": period}}));
    let nested = (0..16).fold(json!({"action": "x"}), |c, _| json!({"not": c}));
    for (value, said) in [
        (json!([]), "a policy is an object"),
        (json!({"rule": "block", "condition": {}}), "name: missing"),
        (json!({"name": "", "rule": "block", "condition": {}}), "is no name"),
        (json!({"name": "a b", "rule": "block", "condition": {}}), "is no name"),
        (json!({"name": "ä", "rule": "block", "condition": {}}), "is no name"),
        (json!({"name": "x".repeat(129), "rule": "block", "condition": {}}), "is no name"),
        (json!({"name": "p", "condition": {}}), "rule: missing"),
        (json!({"name": "p", "rule": "block"}), "condition: missing"),
        (json!({"name": "p", "rule": "block", "condition": null}), "a condition is an object, not null"),
        (json!({"name": "p", "rule": "block", "condition": {}, "description": 5}), "description: a text"),
        (json!({"name": "p", "rule": "block", "condition": {}, "description": "a\u{202E}b"}), "U+202E"),
        (
            json!({"name": "p", "rule": "block", "condition": {}, "except": ["a"]}),
            "a block has no exceptions",
        ),
        (json!({"name": "p", "rule": "allow", "condition": {}, "except": ["a"]}), "remove `except`"),
        (
            json!({"name": "p", "rule": "allow", "condition": {}, "on_unknown": "match"}),
            "cannot match on what is unknown",
        ),
        (
            json!({"name": "p", "rule": "allow", "condition": {"rate_exceeds": {"count": 1, "period": "1s"}}}),
            "cannot depend on a rate",
        ),
        (
            json!({"name": "p", "rule": "alert", "condition": {}, "except": [5]}),
            "except[0]: the name of an allow policy",
        ),
        (
            json!({"name": "p", "rule": "allow", "condition": {"any_of": [{"domain_in": ["a.com"]}]}}),
            "would cover an action that reaches other domains",
        ),
        (block(json!({"action": []})), "an empty list"),
        (block(json!({"action": ""})), "cannot be empty"),
        (block(json!({"action": "a\u{200B}b"})), "U+200B"),
        (block(json!({"action": ["a", 5]})), "condition.action[1]: a text is expected, not 5"),
        (block(json!({"category": "reed"})), "did you mean `read`"),
        (block(json!({"environment": "prod"})), "did you mean `production`"),
        (block(json!({"record_count_exceeds": 1.5})), "not 1.5"),
        (block(json!({"record_count_exceeds": "25"})), "not the text \"25\""),
        (block(json!({"record_count_exceeds": null})), "not null"),
        (block(json!({"record_count_exceeds": 1e30})), "a whole number"),
        (block(json!({"drift_at_least": -0.1})), "a number of 0 or more"),
        (block(json!({"drift_at_least": "5"})), "a number of 0 or more"),
        (block(json!({"domain_in": ["https://a.com"]})), "is no host"),
        (block(json!({"domain_in": "*"})), "is no host"),
        (block(json!({"not": {}})), "an empty condition holds of everything"),
        (block(json!({"any_of": []})), "an empty list"),
        (block(json!({"any_of": {"action": "x"}})), "a list of conditions"),
        (
            block(json!({"any_of": [{"rate_exceeds": {"count": 1, "period": "1s"}}]})),
            "outermost condition only",
        ),
        (block(nested), "nest at most 16"),
        (rate(json!(0), json!("1h")), "from 1 to 100000"),
        (rate(json!(100_001), json!("1h")), "from 1 to 100000"),
        (rate(json!(1), json!("32d")), "31d at most"),
        (rate(json!(1), json!("0s")), "31d at most"),
        (rate(json!(1), json!("1w")), "31d at most"),
        (rate(json!(1), json!("h")), "31d at most"),
        (rate(json!(1), json!("")), "31d at most"),
        (rate(json!(1), json!("99999999999d")), "31d at most"),
        (rate(json!(1), json!(3600)), "31d at most"),
        (rate(json!(1), json!("1é")), "31d at most"),
        (block(json!({"when": "records > 5"})), "`when` needs an `action` beside it"),
        (block(json!({"action": "x", "when": 5})), "a CEL expression"),
        (block(json!({"action": vec!["x"; 10_001]})), "a list has at most 10000"),
        (block(json!({"action": "x".repeat(70_000)})), "at most 64 KiB"),
    ] {
        let problems = refused(&value);
        assert!(problems.iter().any(|p| p.contains(said)), "{said}: {problems:?}");
    }
    let fits = (0..15).fold(json!({"action": "x"}), |c, _| json!({"any_of": [c]}));
    policy(&block(fits));
    policy(&block(json!({"action": "x", "any_of": [{"when": "records > 5"}, {"tool": "y"}]})));
    policy(&rate(json!(100_000), json!("31d")));
    policy(&json!({"name": "p", "rule": "allow", "condition": {"not": {"domain_not_in": ["a.com"]}}}));
    policy(&json!({"name": "p", "rule": "allow", "condition": {"not": {"domain_in": ["a.com"]}}}));
}

#[test]
fn a_list_is_refused_as_a_whole() {
    use crate::policy::parse_list;
    let good = json!({"name": "g", "rule": "block", "condition": {}});
    assert_eq!(parse_list(&json!({"policies": [good]})).unwrap(), parse_list(&json!([good])).unwrap());
    let problems =
        parse_list(&json!([good, {"rule": "block"}, {"name": "x", "rule": "block", "condition": 1}]))
            .unwrap_err();
    let places: Vec<_> = problems.iter().map(|p| (p.policy.as_str(), p.path.as_str())).collect();
    assert_eq!(places, [("policies[1]", "name"), ("policies[1]", "condition"), ("x", "condition")]);
    for (bad, said) in [
        (json!("x"), "a list of policies"),
        (json!({"policy": []}), "did you mean `policies`"),
        (json!({}), "a list of policies"),
    ] {
        assert!(parse_list(&bad).unwrap_err()[0].message.contains(said), "{bad}");
    }
}

#[test]
fn a_set_is_compiled_as_a_whole() {
    let of = |value: Value| {
        let problems = PolicySet::compile(crate::policy::parse_list(&value).unwrap()).unwrap_err();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        of(json!([
            {"name": "twice", "rule": "block", "condition": {}},
            {"name": "twice", "rule": "block", "condition": {}},
            {"name": "trusted", "rule": "allow", "condition": {}},
            {"name": "hold", "rule": "require_approval", "condition": {}, "except": ["trustd", "twice", "hold"]},
        ])),
        [
            "twice: name: 2 policies have this name; rename all but one",
            "hold: except[0]: `hold` is a require_approval policy; an exception must be an allow policy",
            "hold: except[1]: there is no allow policy `trustd`; did you mean `trusted`?",
            "hold: except[2]: `twice` is a block policy; an exception must be an allow policy",
        ]
    );
}
