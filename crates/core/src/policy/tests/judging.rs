//! Precedence, exceptions, shadows, rates, reasons.

use super::*;
use crate::{
    decision::Verdict,
    policy::{MAX_MATCHED, Mode},
};

#[test]
fn the_three_policies_of_the_article() {
    let set = set(&json!([
        {"name": "blast_radius_limit", "rule": "block", "condition": {"action": "update", "record_count_exceeds": 25}},
        {"name": "no_production_deletes", "rule": "block", "condition": {"action": "delete", "resource_pattern": "production.*"}},
        {"name": "email_volume_alert", "rule": "alert", "condition": {"action": "send_email", "recipient_count_exceeds": 50}},
    ]));
    let said = |a: &Action| {
        let j = judge(&set, a);
        (j.verdict, j.reason)
    };
    assert_eq!(
        said(&action("update", "users.accounts", Count::Known(10_000))),
        (
            Verdict::Block,
            "Blocked by blast_radius_limit: update on users.accounts touches 10000 records, over 25.".into()
        )
    );
    assert_eq!(
        said(&action("update", "users.accounts", Count::Known(25))),
        (Verdict::Allow, "Allowed; no policy objects to it.".into())
    );
    assert_eq!(
        said(&action("update", "users.accounts", Count::Unknown)),
        (
            Verdict::Block,
            "Blocked by blast_radius_limit: update on users.accounts touches an unknown number of records \
             (treated as too many), over 25."
                .into()
        )
    );
    assert_eq!(
        said(&action("delete", "Production.users", Count::Known(1))),
        (
            Verdict::Block,
            "Blocked by no_production_deletes: delete on production.users matches `production.*`.".into()
        )
    );
    assert_eq!(said(&action("delete", "staging.users", Count::Known(1))).0, Verdict::Allow);
    let mut mail = action("send_email", "mail", Count::Known(0));
    mail.recipients = Count::Known(51);
    let judged = judge(&set, &mail);
    assert_eq!(judged.verdict, Verdict::Allow);
    assert_eq!(
        judged.reason,
        "Allowed with an alert from email_volume_alert: send_email on mail goes to 51 recipients, over 50."
    );
    assert_eq!(judged.matched.len(), 1);
    mail.recipients = Count::Unknown;
    assert!(judge(&set, &mail).matched.is_empty(), "an alert does not match on what is unknown");
}

#[test]
fn block_over_approval_over_alert_over_allow() {
    let all = json!([
        {"name": "a_allow", "rule": "allow", "condition": {}},
        {"name": "b_alert", "rule": "alert", "condition": {}},
        {"name": "c_hold", "rule": "require_approval", "condition": {}},
        {"name": "d_block", "rule": "block", "condition": {}},
    ]);
    for (count, verdict, reason, order) in [
        (
            4,
            Verdict::Block,
            "Blocked by d_block: update_user on production.users is covered by this policy.",
            vec!["d_block", "c_hold", "b_alert", "a_allow"],
        ),
        (
            3,
            Verdict::Hold,
            "Held by c_hold: update_user on production.users is covered by this policy. A person must approve it.",
            vec!["c_hold", "b_alert", "a_allow"],
        ),
        (
            2,
            Verdict::Allow,
            "Allowed with an alert from b_alert: update_user on production.users is covered by this policy.",
            vec!["b_alert", "a_allow"],
        ),
        (1, Verdict::Allow, "Allowed; no policy objects to it.", vec!["a_allow"]),
    ] {
        let judged = judge(&set(&all.as_array().unwrap()[..count].iter().cloned().collect()), &update());
        assert_eq!((judged.verdict, judged.reason.as_str()), (verdict, reason));
        assert_eq!(judged.matched.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), order);
    }
}

#[test]
fn an_allow_exempts_only_where_it_is_named_and_only_when_certain() {
    let rules = |allow_mode: &str, allow: Value| {
        set(&json!([
            {"name": "trusted", "rule": "allow", "mode": allow_mode, "condition": allow},
            {"name": "hold", "rule": "require_approval", "condition": {"action": "update"}, "except": ["trusted"]},
            {"name": "watch", "rule": "alert", "condition": {"action": "update"}},
        ]))
    };
    let judged = judge(&rules("enforce", json!({"agent": "billing-bot"})), &update());
    assert_eq!(judged.verdict, Verdict::Allow);
    assert_eq!(
        judged.matched.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
        ["watch", "trusted", "hold"]
    );
    assert_eq!(judged.matched[2].exempted_by.as_deref(), Some("trusted"));
    assert!(judged.reason.starts_with("Allowed with an alert from watch"), "watch names no exception");

    assert_eq!(judge(&rules("shadow", json!({"agent": "billing-bot"})), &update()).verdict, Verdict::Hold);
    assert_eq!(judge(&rules("enforce", json!({"agent": "other"})), &update()).verdict, Verdict::Hold);
    // Whether it drifts is not known, so the exception is not certain.
    assert_eq!(
        judge(&rules("enforce", json!({"not": {"drift_at_least": 5}})), &update()).verdict,
        Verdict::Hold
    );

    let only = set(&json!([
        {"name": "trusted", "rule": "allow", "condition": {"agent": "billing-*"}},
        {"name": "hold", "rule": "require_approval", "condition": {"action": "update"}, "except": ["trusted"]},
    ]));
    assert_eq!(judge(&only, &update()).reason, "Allowed; trusted exempts it from hold.");
}

#[test]
fn an_exception_must_cover_everything_that_the_action_does() {
    let set = set(&json!([
        {"name": "sandbox", "rule": "allow", "condition": {"resource_pattern": "sandbox.*"}},
        {"name": "hold", "rule": "require_approval", "condition": {"action": "update"}, "except": ["sandbox"]},
    ]));
    let mut both = update();
    both.effects = ["sandbox.a", "sandbox.b"]
        .iter()
        .map(|r| effect(&["update"], Category::Write, r, Environment::Sandbox))
        .collect();
    assert_eq!(judge(&set, &both).verdict, Verdict::Allow);
    both.effects[1].resource = name("production.b");
    assert_eq!(judge(&set, &both).verdict, Verdict::Hold);
    both.effects.swap(0, 1);
    assert_eq!(judge(&set, &both).verdict, Verdict::Hold);
}

#[test]
fn one_effect_must_satisfy_the_whole_condition() {
    let set = set(
        &json!([{"name": "p", "rule": "block", "condition": {"action": "delete", "resource_pattern": "production.*"}}]),
    );
    let mut two = update();
    two.effects = [
        effect(&["delete"], Category::Delete, "sandbox.a", Environment::Sandbox),
        effect(&["update"], Category::Write, "production.a", Environment::Production),
    ]
    .into_iter()
    .collect();
    assert_eq!(judge(&set, &two).verdict, Verdict::Allow, "nothing deletes in production");
    two.effects[0].resource = name("production.b");
    let judged = judge(&set, &two);
    assert_eq!(judged.verdict, Verdict::Block);
    assert_eq!(judged.reason, "Blocked by p: delete on production.b matches `production.*`.");
}

#[test]
fn an_action_that_lists_no_effect_is_judged_as_a_whole() {
    let set = set(
        &json!([{"name": "p", "rule": "block", "condition": {"action": "update_user", "environment": "production"}}]),
    );
    let mut bare = update();
    bare.effects.clear();
    assert_eq!(judge(&set, &bare).verdict, Verdict::Block);
}

#[test]
fn a_shadow_is_reported_and_does_nothing() {
    let set = set(&json!([
        {"name": "a", "rule": "block", "mode": "shadow", "condition": {}},
        {"name": "b", "rule": "alert", "condition": {}},
    ]));
    let judged = judge(&set, &update());
    assert_eq!(judged.verdict, Verdict::Allow);
    assert_eq!(
        judged.matched.iter().map(|m| (m.name.as_str(), m.mode)).collect::<Vec<_>>(),
        [("b", Mode::Enforce), ("a", Mode::Shadow)]
    );
}

#[test]
fn a_long_list_is_cut_and_says_so() {
    let many: Vec<Value> = (0..100)
        .map(|i| json!({"name": format!("alert-{i:03}"), "rule": "alert", "condition": {}}))
        .chain([json!({"name": "z-block", "rule": "block", "condition": {"action": "update"}})])
        .collect();
    let judged = judge(&set(&many.into()), &update());
    assert_eq!((judged.matched.len(), judged.unlisted), (MAX_MATCHED, 101 - MAX_MATCHED));
    assert_eq!(judged.matched[0].name, "z-block");
    assert!(judged.reason.ends_with("69 more matching policies are not listed."), "{}", judged.reason);
}

#[test]
fn the_order_of_policies_does_not_matter() {
    let all = vec![
        json!({"name": "b", "rule": "block", "condition": {}}),
        json!({"name": "a", "rule": "block", "condition": {}}),
        json!({"name": "c", "rule": "alert", "condition": {}}),
    ];
    let forward = judge(&set(&all.clone().into()), &update());
    let backward = judge(&set(&all.into_iter().rev().collect()), &update());
    assert_eq!(forward, backward);
    assert!(forward.reason.starts_with("Blocked by a:"));
}

#[test]
fn long_names_are_cut_in_sentences() {
    let set = set(&json!([{"name": "p", "rule": "block", "condition": {}}]));
    let long = action(&"v".repeat(500), &"r".repeat(500), Count::Known(1));
    let reason = judge(&set, &long).reason;
    assert!(reason.len() < 300, "{}", reason.len());
    assert!(reason.contains("vvv… on rrr"));
}

#[test]
fn a_rate_counts_the_actions_for_which_the_rest_holds() {
    let set = set(&json!([{"name": "burst", "rule": "block", "condition": {
        "action": "update", "rate_exceeds": {"count": 2, "period": "10s"}}}]));
    let mut windows = Windows::new();
    let mut verdict = |a: &Action, t: i64| set.evaluate(&Facts::of(a, None, at(t)), &mut windows).verdict;
    let other = action("read", "production.users", Count::Known(0));
    assert_eq!(verdict(&update(), 0), Verdict::Allow);
    for _ in 0..10 {
        assert_eq!(verdict(&other, 0), Verdict::Allow);
    }
    assert_eq!(verdict(&update(), 1), Verdict::Allow);
    assert_eq!(verdict(&update(), 2), Verdict::Block, "the third within ten seconds");
    assert_eq!(
        verdict(&Action { agent: name("other"), ..update() }, 2),
        Verdict::Allow,
        "each agent by itself"
    );
    assert_eq!(verdict(&update(), 12), Verdict::Allow, "what was blocked counts too, but has just left");
    assert_eq!(verdict(&update(), 5), Verdict::Allow, "the clock goes back: taken for 12, the second there");
    assert_eq!(verdict(&update(), 5), Verdict::Block);
    let reason = set.evaluate(&Facts::of(&update(), None, at(12)), &mut windows).reason;
    assert_eq!(reason, "Blocked by burst: update_user on production.users is one more than 2 within 10s.");
}

#[test]
fn a_rate_counts_an_action_once_however_many_effects_it_has() {
    let set = set(&json!([{"name": "burst", "rule": "block", "condition": {
        "action": ["update", "insert", "update_user"], "rate_exceeds": {"count": 1, "period": "10s"}}}]));
    let mut many = update();
    many.effects = (0..5)
        .map(|i| effect(&["update", "insert"], Category::Write, &format!("t.{i}"), Environment::Sandbox))
        .collect();
    assert_eq!(judge(&set, &many).verdict, Verdict::Allow);
}

#[test]
fn a_rate_survives_a_swap_and_is_warmed_from_the_past() {
    let burst = |count: u32, rule: &str, mode: &str| {
        set(&json!([
            {"name": "burst", "rule": rule, "mode": mode, "condition": {"action": "update", "rate_exceeds": {"count": count, "period": "1h"}}},
            {"name": format!("other-{count}-{mode}"), "rule": "alert", "condition": {}},
        ]))
    };
    let mut windows = Windows::new();
    let facts = update();
    burst(1, "block", "shadow").observe(&Facts::of(&facts, None, at(0)), &mut windows);
    assert_eq!(
        burst(1, "block", "enforce").evaluate(&Facts::of(&facts, None, at(1)), &mut windows).verdict,
        Verdict::Block
    );
    assert_eq!(
        burst(2, "block", "enforce").evaluate(&Facts::of(&facts, None, at(2)), &mut windows).verdict,
        Verdict::Allow,
        "another content starts anew"
    );
}

#[test]
fn what_is_needed_is_told() {
    let set = set(&json!([
        {"name": "a", "rule": "block", "condition": {"any_of": [{"drift_at_least": 5}, {"not": {"record_count_exceeds": 1}}]}},
        {"name": "b", "rule": "block", "condition": {"action": "x", "when": "payload.amount > 5 && drift > 3.0"}},
        {"name": "c", "rule": "alert", "condition": {"rate_exceeds": {"count": 3, "period": "2h"}}},
        {"name": "d", "rule": "alert", "condition": {"rate_exceeds": {"count": 3, "period": "30m"}}},
    ]));
    let needs = set.needs();
    assert_eq!(needs.drift, ["a", "b"]);
    assert_eq!(needs.rate_period_seconds, Some(7_200));
    assert_eq!((needs.payload, needs.records, needs.systems, needs.recipients), (true, true, false, false));
    assert_eq!(*super::set(&json!([])).needs(), crate::policy::Needs::default());
}

#[test]
fn a_set_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<PolicySet>();
    shared::<Policy>();
}

/// Whether a policy of `rule` with `condition` matches a deletion of `resource`.
fn sees(rule: &str, condition: &Value, resource: &str) -> bool {
    let set = set(&json!([{"name": "p", "rule": rule, "condition": condition}]));
    !judge(&set, &action("delete", resource, Count::Known(1))).matched.is_empty()
}

#[test]
fn a_default_schema_hides_no_table_from_what_stops() {
    for schema in ["public", "dbo", "main"] {
        let qualified = format!("shop.{schema}.users");
        for pattern in
            [qualified.clone(), format!("shop.{schema}.*"), format!("*.{schema}.us*"), "shop.*.users".into()]
        {
            for rule in ["block", "require_approval", "alert"] {
                let condition = json!({"action": "delete", "resource_pattern": pattern});
                assert!(sees(rule, &condition, "shop.users"), "{rule} {pattern}");
                assert!(sees(rule, &json!({"all_of": [condition]}), "shop.users"), "{rule} {pattern}");
                assert!(!sees(rule, &condition, "shop.audit.orders"), "{rule} {pattern}");
                assert!(!sees(rule, &condition, "other.orders"), "{rule} {pattern}");
            }
        }
        assert!(sees("block", &json!({"resource_pattern": "shop.users"}), &qualified));
        assert!(sees("block", &json!({"resource_pattern": "shop.us*"}), &qualified));
        assert!(!sees("block", &json!({"resource_pattern": "shop.users"}), "shop.audit.users"));
        assert!(sees("block", &json!({"resource_pattern": format!("{schema}.users")}), "users"));
        // A target that is called as a schema is.
        assert!(!sees("block", &json!({"resource_pattern": format!("{schema}.*")}), "delete_contact"));
        let reason = judge(
            &set(&json!([block(json!({"resource_pattern": qualified}))])),
            &action("delete", "shop.users", Count::Known(1)),
        )
        .reason;
        assert!(reason.contains(&format!("matches `shop.{schema}.users`")), "{reason}");
    }
}

#[test]
fn a_default_schema_lets_nothing_pass() {
    let written = json!({"resource_pattern": "shop.users"});
    let qualified = json!({"resource_pattern": "shop.public.users"});
    for (condition, other) in [(&written, "shop.public.users"), (&qualified, "shop.users")] {
        assert!(!sees("allow", condition, other));
        // All but one table are protected, and which one is meant is not certain.
        assert!(sees("block", &json!({"not": condition}), other));
        assert!(!sees("allow", &json!({"not": condition}), other));
    }
    assert!(sees("allow", &written, "shop.users") && sees("allow", &qualified, "shop.public.users"));
    assert!(!sees("block", &json!({"not": written}), "shop.users"));
    assert!(!sees("block", &json!({"not": qualified}), "shop.public.users"));
    assert!(sees("block", &json!({"not": {"not": written}}), "shop.public.users"));
}
