//! The index finds what a plain search over every policy finds, and its cost does not grow with the set.

use super::*;
use crate::policy::{Rule, condition::Truth, schema::Spelling, set::Case};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// Every policy that matches, found by asking each one about every effect.
fn plain(set: &PolicySet, facts: &Facts<'_>) -> Vec<String> {
    let case = Case::new(facts);
    let matches = |p: &&Policy| {
        let spelling = if p.rule == Rule::Allow { Spelling::Written } else { Spelling::Any };
        let truths = case.effects().iter().map(|e| p.condition.truth(&case, e, spelling));
        match p.rule {
            Rule::Allow => truths.fold(Truth::True, Truth::and) == Truth::True,
            rule => match truths.fold(Truth::False, Truth::or) {
                Truth::True => true,
                Truth::False => false,
                Truth::Unknown => matches!(rule, Rule::Block | Rule::RequireApproval),
                Truth::Error => matches!(rule, Rule::Block | Rule::RequireApproval),
            },
        }
    };
    set.policies().iter().filter(matches).map(|p| p.name.clone()).collect()
}

fn word() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c"])
}

fn dotted() -> impl Strategy<Value = String> {
    let segment = prop_oneof![3 => word(), 1 => select(vec!["public", "dbo", "main"])];
    vec(segment, 1..5).prop_map(|w| w.join("."))
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        dotted(),
        dotted().prop_map(|d| d + ".*"),
        dotted().prop_map(|d| d + "*"),
        dotted().prop_map(|d| format!("*.{d}")),
        Just("*".to_owned())
    ]
}

fn listed<T: Into<Value> + Clone + std::fmt::Debug>(
    of: impl Strategy<Value = T>,
) -> impl Strategy<Value = Value> {
    vec(of, 1..4).prop_map(|items| items.into_iter().map(Into::into).collect())
}

fn leaf() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        listed(pattern()).prop_map(|v| ("resource_pattern", v)),
        pattern().prop_map(|v| ("resource_pattern", v.into())),
        listed(select(vec!["a", "b", "c", "a*"])).prop_map(|v| ("action", v)),
        word().prop_map(|v| ("action", v.into())),
        listed(select(vec!["read", "write", "delete"])).prop_map(|v| ("category", v)),
        select(vec!["production", "staging"]).prop_map(|v| ("environment", v.into())),
        listed(select(vec!["a", "b", "b*"])).prop_map(|v| ("agent", v)),
        listed(select(vec!["a", "b", "b*"])).prop_map(|v| ("tool", v)),
        (0_u64..6).prop_map(|v| ("record_count_exceeds", v.into())),
        (0_u64..6).prop_map(|v| ("recipient_count_exceeds", v.into())),
        (0_u64..6).prop_map(|v| ("drift_at_least", v.into())),
        listed(select(vec!["a.b", "*.b"])).prop_map(|v| ("domain_not_in", v)),
    ]
}

fn condition() -> impl Strategy<Value = Value> {
    let flat = vec(leaf(), 1..4).prop_map(|leaves| leaves.into_iter().collect::<Value>());
    flat.prop_recursive(3, 12, 3, |inner| {
        (vec(leaf(), 0..3), select(vec!["not", "any_of", "all_of"]), vec(inner, 1..3)).prop_map(
            |(leaves, key, mut inner)| {
                let nested = if key == "not" { inner.remove(0) } else { Value::Array(inner) };
                leaves.into_iter().chain([(key, nested)]).collect()
            },
        )
    })
}

fn policies() -> impl Strategy<Value = Vec<Value>> {
    vec((condition(), select(vec!["block", "require_approval", "alert", "allow"])), 0..20).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(i, (condition, rule))| json!({"name": format!("p{i:02}"), "rule": rule, "condition": condition}))
            .collect()
    })
}

fn count() -> impl Strategy<Value = Count> {
    option::of(0_u64..8).prop_map(|n| n.map_or(Count::Unknown, Count::Known))
}

fn any_effect() -> impl Strategy<Value = Effect> {
    (
        vec(word(), 1..4),
        select(vec![Category::Read, Category::Write, Category::Delete]),
        dotted(),
        select(vec![Environment::Production, Environment::Staging]),
    )
        .prop_map(|(names, category, resource, environment)| effect(&names, category, &resource, environment))
}

fn any_action() -> impl Strategy<Value = Action> {
    (
        vec(any_effect(), 0..4),
        count(),
        count(),
        word(),
        option::of(word()),
        vec(dotted(), 0..3),
        any::<bool>(),
    )
        .prop_map(|(effects, records, recipients, agent, tool, domains, unknown)| Action {
            effects: effects.into_iter().collect(),
            records,
            recipients,
            agent: name(agent),
            tool: tool.map(name),
            domains: Domains { known: domains.iter().map(|d| name(d)).collect(), unknown },
            ..update()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn finds_what_a_plain_search_finds(policies in policies(), action in any_action(), drift in option::of(0.0..8.0_f64)) {
        let set = set(&policies.into());
        let facts = Facts { drift, ..Facts::of(&action, None, at(0)) };
        let judged = set.evaluate(&facts, &mut Windows::new());
        let mut found: Vec<_> = judged.matched.into_iter().map(|m| m.name).collect();
        found.sort();
        prop_assert_eq!(found, plain(&set, &facts));
    }

    #[test]
    fn canonical_json_reads_back(policies in policies()) {
        for value in policies {
            let read = policy(&value);
            prop_assert_eq!(Policy::parse(&read.to_value()).unwrap(), read);
        }
    }
}

/// How many policies the index names for an action.
fn named(set: &PolicySet, action: &Action) -> usize {
    let mut named = 0;
    let facts = Facts::of(action, None, at(0));
    for effect in Case::new(&facts).effects() {
        set.candidates(action, effect, action.records, |_| named += 1);
    }
    named
}

#[test]
fn ten_thousand_policies_and_few_are_asked() {
    let spread = (0..10_000).map(|i| {
        json!({"name": format!("p{i}"), "rule": "block", "condition": {
        "action": "update", "resource_pattern": format!("system{i}.users.*"), "record_count_exceeds": 25}})
    });
    let spread = set(&spread.collect());
    assert_eq!(named(&spread, &action("update", "system77.users.accounts", Count::Known(26))), 1);
    assert_eq!(named(&spread, &action("update", "system77.users.accounts", Count::Known(25))), 0);
    assert_eq!(named(&spread, &action("update", "elsewhere.users.accounts", Count::Unknown)), 0);

    let dense = (0..10_000).map(|i| {
        json!({"name": format!("p{i}"), "rule": "block", "condition": {
        "action": "update", "resource_pattern": "production.*", "record_count_exceeds": 100 + i}})
    });
    let dense = set(&dense.collect());
    assert_eq!(named(&dense, &action("update", "production.users", Count::Known(100))), 0);
    assert_eq!(named(&dense, &action("update", "production.users", Count::Known(103))), 3);
    let all = judge(&dense, &action("update", "production.users", Count::Unknown));
    assert_eq!(all.matched.len() + all.unlisted, 10_000);

    let by_agent = (0..10_000).map(
        |i| json!({"name": format!("p{i}"), "rule": "block", "condition": {"agent": format!("agent-{i}")}}),
    );
    let by_agent = set(&by_agent.collect());
    assert_eq!(named(&by_agent, &Action { agent: name("agent-9"), ..update() }), 1);

    let by_tool = (0..10_000).map(|i| json!({"name": format!("p{i}"), "rule": "block", "condition": {"tool": format!("tool-{i}"), "category": "write"}}));
    let by_tool = set(&by_tool.collect());
    assert_eq!(named(&by_tool, &Action { tool: Some(name("tool-9")), ..update() }), 1);
}

#[test]
fn long_lists_stay_one_policy() {
    let actions: Vec<String> = (0..3_000).map(|i| format!("verb{i}")).collect();
    let agents: Vec<String> = (0..2_000).map(|i| format!("agent{i}")).collect();
    let set = set(
        &json!([{"name": "p", "rule": "block", "condition": {"action": actions, "agent": agents, "resource_pattern": "production.*"}}]),
    );
    let inside = Action { agent: name("agent1999"), ..action("verb2999", "production.x", Count::Known(1)) };
    assert_eq!(named(&set, &inside), 1);
    assert_eq!(judge(&set, &inside).matched.len(), 1);
    assert_eq!(judge(&set, &Action { agent: name("agent2000"), ..inside }).matched.len(), 0);
}

#[test]
fn resources_with_many_dots_are_found() {
    let deep = vec!["a"; 200].join(".");
    for pattern in [
        deep.clone(),
        format!("{}.*", vec!["a"; 20].join(".")),
        format!("{}*", vec!["a"; 16].join(".")),
        "a.*.a".into(),
    ] {
        let set = set(&json!([{"name": "p", "rule": "block", "condition": {"resource_pattern": pattern}}]));
        assert_eq!(judge(&set, &action("x", &deep, Count::Known(1))).matched.len(), 1, "{pattern}");
    }
}

#[test]
fn a_count_is_wanted_where_it_could_change_something() {
    let wants = |condition: Value, action: &Action| {
        set(&json!([block(condition)])).turns_on_records(&Facts::of(action, None, at(0)))
    };
    let read = action("read", "shop.users", Count::Known(0));
    assert!(wants(json!({"record_count_exceeds": 100}), &read));
    assert!(wants(json!({"resource_pattern": "shop.*", "record_count_exceeds": 100}), &read));
    assert!(wants(json!({"any_of": [{"action": "x"}, {"record_count_exceeds": 100}]}), &read));
    assert!(wants(json!({"not": {"record_count_exceeds": 100}}), &read));
    assert!(wants(json!({"action": "read", "when": "records > 100"}), &read));
    assert!(!wants(json!({"action": "read"}), &read), "reads no count");
    assert!(!wants(json!({"action": "read", "when": "recipients > 100"}), &read));
    assert!(!wants(json!({"action": "update", "record_count_exceeds": 100}), &read));
    assert!(!wants(json!({"resource_pattern": "crm.*", "record_count_exceeds": 100}), &read));
    assert!(!PolicySet::default().turns_on_records(&Facts::of(&read, None, at(0))));
}
