//! Examples: actions with the verdict that a set of policies must give them.

use super::{Facts, PolicySet, Windows, matcher::nearest};
use crate::{action::Action, check::Check, decision::Verdict, name::Name, time::Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A check, and what must come of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// What it shows, for the report.
    #[serde(default)]
    pub name: Option<String>,
    /// The check, as it would be sent.
    pub check: Check,
    /// Who acts; else the check's `agent`, else `default`.
    #[serde(default)]
    pub agent: Option<Name>,
    /// The verdict that must come of it.
    pub expect: Verdict,
    /// Policies that must be among those that match.
    #[serde(default)]
    pub policies: Vec<String>,
    /// When it happens. Examples with a time form one history, in the order in which they stand, so that
    /// rates can be tried; an example without a time stands alone.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// The drift score to assume; without it drift is not known.
    #[serde(default)]
    pub drift: Option<f64>,
}

/// What came of an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleResult {
    /// The example's name, or its place (`example 3`).
    pub name: String,
    /// Whether everything was as expected.
    pub passed: bool,
    /// The verdict that was expected.
    pub expected: Verdict,
    /// The verdict that was given; none when the check could not be classified.
    pub got: Option<Verdict>,
    /// Why, for a person.
    pub reason: String,
    /// The policies that matched.
    pub matched: Vec<String>,
    /// What was not as expected, a sentence each. Empty when it passed.
    pub differences: Vec<String>,
}

/// Reads examples: a JSON list, or `{"examples": […]}`.
///
/// # Errors
/// A sentence for each example that is wrong.
pub fn parse_examples(value: &Value) -> Result<Vec<Example>, Vec<String>> {
    let items = match value {
        Value::Array(items) => items,
        Value::Object(entries) => match (entries.len(), entries.get("examples")) {
            (1, Some(Value::Array(items))) => items,
            _ => return Err(vec!["a list of examples, or {\"examples\": […]}, is expected".into()]),
        },
        _ => return Err(vec!["a list of examples, or {\"examples\": […]}, is expected".into()]),
    };
    let (mut examples, mut problems) = (Vec::with_capacity(items.len()), Vec::new());
    for (i, item) in items.iter().enumerate() {
        match Example::deserialize(item) {
            Ok(example) => examples.push(example),
            Err(e) => problems.push(format!("examples[{i}]: {e}")),
        }
    }
    if problems.is_empty() { Ok(examples) } else { Err(problems) }
}

/// Judges every example with `set`. `classify` turns a check by an agent into an action, or says why it
/// cannot.
pub fn run_examples(
    set: &PolicySet,
    examples: &[Example],
    mut classify: impl FnMut(&Check, Name) -> Result<Action, String>,
) -> Vec<ExampleResult> {
    let mut history = Windows::new();
    let mut results = Vec::with_capacity(examples.len());
    for (i, example) in examples.iter().enumerate() {
        let agent = match (&example.agent, &example.check.agent) {
            (Some(name), _) => Ok(name.clone()),
            (None, Some(text)) => Name::new(text).map_err(|e| format!("agent: {e}")),
            (None, None) => Ok(Name::default_agent()),
        };
        let mut result = ExampleResult {
            name: example.name.clone().unwrap_or_else(|| format!("example {}", i + 1)),
            passed: false,
            expected: example.expect,
            got: None,
            reason: String::new(),
            matched: Vec::new(),
            differences: Vec::new(),
        };
        match agent.and_then(|agent| classify(&example.check, agent)) {
            Ok(action) => judge(set, example, &action, &mut history, &mut result),
            Err(error) => result.differences.push(format!("the check cannot be classified: {error}")),
        }
        result.passed = result.differences.is_empty();
        results.push(result);
    }
    results
}

fn judge(
    set: &PolicySet,
    example: &Example,
    action: &Action,
    history: &mut Windows,
    result: &mut ExampleResult,
) {
    let mut alone = Windows::new();
    let windows = if example.at.is_some() { history } else { &mut alone };
    let facts = Facts {
        drift: example.drift,
        ..Facts::of(action, example.check.details(), example.at.unwrap_or_default())
    };
    let mut matched = Vec::new();
    let judged = set.evaluate_each(&facts, windows, |id| {
        matched
            .extend(usize::try_from(id).ok().and_then(|at| set.policies().get(at)).map(|p| p.name.clone()));
    });
    if judged.verdict != example.expect {
        result.differences.push(format!(
            "expected {}, got {}: {}",
            example.expect.as_str(),
            judged.verdict.as_str(),
            judged.reason
        ));
    }
    for name in example.policies.iter().filter(|n| !matched.contains(n)) {
        let known: Vec<&str> = set.policies().iter().map(|p| p.name.as_str()).collect();
        result.differences.push(if known.contains(&name.as_str()) {
            format!("expected `{name}` to match, and it did not")
        } else {
            match nearest(name, &known) {
                Some(meant) => format!("there is no policy `{name}`; did you mean `{meant}`?"),
                None => format!("there is no policy `{name}`"),
            }
        });
    }
    result.got = Some(judged.verdict);
    result.reason = judged.reason;
    result.matched = matched;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        action::Count,
        policy::tests::{action, set},
    };
    use serde_json::json;

    /// As much of a catalogue as these examples need: the payload's `record_count`.
    fn classify(check: &Check, agent: Name) -> Result<Action, String> {
        let verb = check.action.as_deref().ok_or("no action")?;
        let records =
            check.details().and_then(|p| p["record_count"].as_u64()).map_or(Count::Unknown, Count::Known);
        Ok(Action { agent, ..action(verb, check.resource.as_deref().unwrap_or("r"), records) })
    }

    #[test]
    fn passes_and_tells_the_difference() {
        let set = set(&json!([
            {"name": "big", "rule": "block", "condition": {"action": "update", "record_count_exceeds": 25}},
            {"name": "busy", "rule": "require_approval", "condition": {"agent": "bot", "action": "get", "rate_exceeds": {"count": 1, "period": "1m"}}},
            {"name": "odd", "rule": "block", "condition": {"action": "fly", "drift_at_least": 5}},
        ]));
        let update =
            |n: u64| json!({"action": "update", "resource": "users", "payload": {"record_count": n}});
        let get = json!({"action": "get", "agent": "Bot"});
        let examples = parse_examples(&json!({"examples": [
            {"name": "small", "check": update(25), "expect": "allow"},
            {"check": update(26), "expect": "block", "policies": ["big"]},
            {"check": update(26), "expect": "allow"},
            {"check": update(1), "expect": "allow", "policies": ["big", "bigg"]},
            {"check": {"tool": "x"}, "expect": "allow"},
            {"check": get, "expect": "allow"},
            {"check": get, "expect": "allow"},
            {"check": get, "expect": "allow", "at": "2026-11-22T10:00:00Z"},
            {"check": get, "expect": "allow", "at": "2026-11-22T10:00:01Z", "agent": "other"},
            {"check": get, "expect": "hold", "at": "2026-11-22T10:00:59Z"},
            {"check": {"action": "fly"}, "expect": "allow", "drift": 4.5},
            {"check": {"action": "fly"}, "expect": "block"},
            {"check": {"action": "fly", "agent": "a\u{200B}b"}, "expect": "block"},
        ]}))
        .unwrap();
        let results = run_examples(&set, &examples, classify);
        let failed: Vec<_> = results
            .iter()
            .filter(|r| !r.passed)
            .map(|r| (r.name.as_str(), r.differences.join("; ")))
            .collect();
        assert_eq!(
            failed,
            [
                ("example 3", "expected allow, got block: Blocked by big: update on users touches 26 records, over 25.".to_owned()),
                ("example 4", "expected `big` to match, and it did not; there is no policy `bigg`; did you mean `big`?".to_owned()),
                ("example 5", "the check cannot be classified: no action".to_owned()),
                ("example 13", "the check cannot be classified: agent: the name holds the invisible character U+200B at character 1; remove it".to_owned()),
            ]
        );
        assert_eq!(results[0].name, "small");
        assert_eq!(results[1].matched, ["big"]);
    }

    #[test]
    fn refuses_what_is_no_example() {
        for bad in [
            json!(5),
            json!({"examples": [], "more": 1}),
            json!([{"check": {"action": "x"}}]),
            json!([{"check": {"action": "x"}, "expect": "deny"}]),
            json!([{"check": {"akshun": "x"}, "expect": "allow"}]),
            json!([{"check": {"action": "x"}, "expect": "allow", "polices": []}]),
        ] {
            assert!(parse_examples(&bad).is_err(), "{bad}");
        }
    }
}
