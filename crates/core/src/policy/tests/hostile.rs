//! Policies and actions made to harm.

use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// Runs `work` on a stack of 2 MiB, as a server's threads have; returns how long it took.
fn on_a_small_stack<T: Send>(work: impl FnOnce() -> T + Send) -> (T, Duration) {
    std::thread::scope(|scope| {
        let start = Instant::now();
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn_scoped(scope, work).unwrap();
        let done = thread.join().unwrap();
        (done, start.elapsed())
    })
}

fn when(source: &str) -> Value {
    block(json!({"action": "update", "when": source}))
}

#[test]
fn cel_that_nests_chains_or_loops_is_refused_in_time() {
    let loops = "[1,2].all(a,[1,2].all(b,[1,2].all(c,[1,2].all(d,[1,2].all(e,true)))))";
    for source in [
        format!("1{}", "+1".repeat(2_048)),
        format!("1{} > 0", "+1".repeat(500)),
        format!("records{}", ".a".repeat(8_192)),
        format!("payload{} == 1", ".a".repeat(450)),
        format!("{}1{}", "(".repeat(500), ")".repeat(500)),
        format!("{}1{}", "[".repeat(33), "]".repeat(33)),
        "(".repeat(1_024),
        format!("{}true", "!".repeat(1_000)),
        format!("{}1 == 1", "-".repeat(1_000)),
        format!("{}true", "true ? true : ".repeat(70)),
        format!("1{} == 1", " in 1".repeat(190)),
        format!("payload{} == 1", "[0]".repeat(300)),
        format!("size{}", "(1)".repeat(300)),
        loops.to_owned(),
        "[1,2,3].map(x, x) == [1]".into(),
        "payload.exists(x, x == 1)".into(),
        "'aaaa'.matches('(a+)+$')".into(),
        "matches(payload.a, '(a*)*')".into(),
        "{'a': 1}.a == 1".into(),
        "Message{a: 1}.a == 1".into(),
        "payload.?a == 1".into(),
        "optional.of(1).hasValue()".into(),
        format!("size({}) > 5", vec!["payload.a"; 20].join("+")),
        format!("[{}] == 1", vec!["payload"; 20].join(",")),
        "r'(((' == ''".into(),
        "'''a''' == ''".into(),
        "\"\"\"((((\"\"\" == ''".into(),
        "true // ((((".into(),
        "`payload` == 1".into(),
        "payload.a == 'unfinished".into(),
        "payload.a == 'new\nline'".into(),
        "recrods > 5".into(),
        ".payload == 1".into(),
        "int == int".into(),
        "has(payload)".into(),
        "now > 5".into(),
        String::new(),
        "   ".into(),
        "\0".into(),
        "records >".into(),
        "records > 5; true".into(),
        "x".repeat(1_025),
    ] {
        let (problems, took) = on_a_small_stack(|| refused(&when(&source)));
        assert!(problems[0].starts_with("condition.when: "), "{problems:?}");
        assert!(took < Duration::from_secs(2), "{took:?}: {source}");
    }
    assert!(refused(&when("recrods > 5"))[0].contains("did you mean `records`"));
}

#[test]
fn cel_at_its_limits_fits_a_small_stack() {
    let a = Action { payload_bytes: 200_000, ..update() };
    let payload = json!({"a": "x".repeat(200_000), "l": vec![1; 50_000]});
    for source in [
        format!("1{} > 0", "-1".repeat(60)),
        format!("records > 0{}", " && records > 0".repeat(20)),
        format!("payload{} == 1", ".a".repeat(62)),
        format!("{}true{}", "(".repeat(32), ")".repeat(32)),
        format!("{}{}true{}", "!".repeat(32), "(".repeat(32), ")".repeat(32)),
        format!("{}true", "!".repeat(64)),
        format!("{}true", "true ? true : ".repeat(32)),
        format!("payload{} == 1", "[0]".repeat(60)),
        format!("true{}", " in [true]".repeat(60)),
        format!("{}1{} == 1", "[".repeat(31), "]".repeat(31)),
        format!("size({}) > 5", ["payload.a"; 9].join("+")),
        format!("[{}] == [1]", vec!["payload"; 16].join(",")),
        format!("{}0{} == 1", "payload[".repeat(16), "]".repeat(16)),
        format!("size(string(payload.a)){} > 5", " + size(payload.l)".repeat(8)),
        format!("'{}' == agent", "(".repeat(900)),
        format!("[{}] == [1]", ["1"; 200].join(",")),
    ] {
        let (_, took) = on_a_small_stack(|| {
            let set = set(&json!([when(&source)]));
            set.evaluate(&Facts::of(&a, Some(&payload), at(0)), &mut Windows::new())
        });
        assert!(took < Duration::from_secs(2), "{took:?}: {source}");
    }
}

#[test]
fn deep_json_is_refused_before_it_is_looked_into() {
    let (problems, _) = on_a_small_stack(|| {
        let deep = (0..100).fold(json!(1), |v, i| if i % 2 == 0 { json!([v]) } else { json!({"any_of": v}) });
        refused(&json!({"name": "p", "rule": "block", "condition": deep}))
            .into_iter()
            .chain(refused(&json!({"name": "p", "rule": "block", "condition": {}, "zzz": deep})))
            .collect::<Vec<_>>()
    });
    assert!(problems.iter().all(|p| p.contains("nested too deep")), "{problems:?}");
}

#[test]
fn a_hostile_pattern_costs_little() {
    let set = set(&json!([block(json!({"resource_pattern": "*a".repeat(200) + "b"}))]));
    let a = action("update", &"a".repeat(512), Count::Known(1));
    let start = Instant::now();
    for _ in 0..100 {
        assert!(judge(&set, &a).matched.is_empty());
    }
    assert!(start.elapsed() < Duration::from_secs(2));
}

proptest! {
    #[test]
    fn any_text_as_cel_is_taken_or_refused(source in "[a-z0-9().\\[\\]'\"+*/!&|?:<>={}, \\\\\n-]{0,80}|\\PC{0,60}") {
        let _either = Policy::parse(&when(&source));
    }

    #[test]
    fn cel_made_of_its_own_words_is_taken_or_refused(
        words in proptest::collection::vec(proptest::sample::select(vec![
            "payload", "records", "agent", ".", "(", ")", "[", "]", "'a'", "1", "1u", "2.5", "+", "-", "*", "/", "%", "!", "&&", "||",
            "==", "!=", "<", ">=", "?", ":", " in ", ",", "has", "size", "contains", "string", "int", "null", "true", "a", "0x1f", "1e9",
        ]), 0..40)
    ) {
        if let Ok(policy) = Policy::parse(&when(&words.concat())) {
            let set = PolicySet::compile(vec![policy]).unwrap();
            let payload = json!({"a": {"a": [1, "a", null]}});
            let _either = set.evaluate(&Facts::of(&update(), Some(&payload), at(0)), &mut Windows::new());
        }
    }
}

/// A policy, then cut, doubled and stirred.
fn stirred() -> impl Strategy<Value = Vec<u8>> {
    let text = json!([{"name": "p", "rule": "alert", "except": ["q"], "on_unknown": "match", "condition": {
        "action": ["update", "d*"], "record_count_exceeds": 25, "when": "payload.amount > 5 && has(payload.tags)",
        "any_of": [{"domain_not_in": ["*.a.com"]}, {"not": {"category": "read"}}],
        "rate_exceeds": {"count": 3, "period": "1h"}}},
        {"name": "q", "rule": "allow", "condition": {"resource_pattern": "production.*"}}])
    .to_string()
    .into_bytes();
    let len = text.len();
    proptest::collection::vec((0..len, 0..12_usize, 0..len, any::<u8>()), 0..4).prop_map(move |edits| {
        let mut bytes = text.clone();
        for (at, count, from, byte) in edits {
            let (at, from) = (at.min(bytes.len()), from.min(bytes.len()));
            let piece: Vec<u8> = bytes[from..]
                .iter()
                .take(count)
                .copied()
                .chain([byte].into_iter().filter(|_| byte > 200))
                .collect();
            bytes.splice(at..(at + count).min(bytes.len()), piece);
        }
        bytes
    })
}

proptest! {
    #[test]
    fn stirred_policies_are_taken_or_refused(bytes in stirred()) {
        prop_assert_eq!(crate::policy::fuzz::exercise(&bytes), Ok(()));
    }
}
