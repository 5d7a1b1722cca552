//! Policies from JSON, with every problem found at once and named by its path.

use super::{
    Mode, OnUnknown, Policy, Problem, Rule,
    cel::When,
    condition::{Condition, Leaf, Rate},
    matcher::shown,
    read::{Reader, kind, period, unknown_key},
};
use crate::action::{Category, Environment};
use serde_json::{Map, Value};

/// Limits on one policy.
pub mod limits {
    /// Bytes of a policy as JSON.
    pub const POLICY_BYTES: usize = 64 * 1024;
    /// Conditions within conditions.
    pub const NESTING: usize = 16;
    /// Entries of a list.
    pub const LIST: usize = 10_000;
    /// Characters of a policy's name.
    pub const NAME: usize = 128;
    /// Characters of a description.
    pub const DESCRIPTION: usize = 1_000;
    /// The largest `count` of `rate_exceeds`.
    pub const RATE_COUNT: u32 = 100_000;
    /// The longest `period` of `rate_exceeds`, in seconds: 31 days.
    pub const RATE_PERIOD_SECONDS: u32 = 31 * 86_400;
    /// The most people that a policy may ask for.
    pub const APPROVALS: u8 = 5;
}

const POLICY_KEYS: &[&str] =
    &["name", "rule", "mode", "description", "condition", "on_unknown", "except", "approvals"];

const CONDITION_KEYS: &[&str] = &[
    "action",
    "agent",
    "all_of",
    "any_of",
    "category",
    "domain_in",
    "domain_not_in",
    "drift_at_least",
    "environment",
    "not",
    "payload_bytes_exceeds",
    "rate_exceeds",
    "recipient_count_exceeds",
    "record_count_exceeds",
    "resource_pattern",
    "system_count_exceeds",
    "tool",
    "when",
];

/// Reads a list of policies: a JSON list, or `{"policies": […]}`.
///
/// # Errors
/// Every problem of every policy. What only the whole set shows, [`super::PolicySet::compile`] finds.
pub fn parse_list(value: &Value) -> Result<Vec<Policy>, Vec<Problem>> {
    let fail = |path: &str, message: String| {
        Err(vec![Problem { policy: String::new(), path: path.to_owned(), message }])
    };
    let items = match value {
        Value::Array(items) => items,
        Value::Object(entries) => {
            if let Some(key) = entries.keys().find(|k| *k != "policies") {
                return fail(key, unknown_key(key, &["policies"]));
            }
            match entries.get("policies") {
                Some(Value::Array(items)) => items,
                _ => return fail("policies", "a list of policies is expected here".into()),
            }
        }
        _ => return fail("", "a list of policies, or {\"policies\": […]}, is expected".into()),
    };
    let (mut policies, mut problems) = (Vec::with_capacity(items.len()), Vec::new());
    for (i, item) in items.iter().enumerate() {
        match Policy::parse(item) {
            Ok(policy) => policies.push(policy),
            Err(found) => problems.extend(found.into_iter().map(|mut p| {
                // A policy without a usable name is told by its place.
                if p.policy.is_empty() {
                    p.policy = format!("policies[{i}]");
                }
                p
            })),
        }
    }
    if problems.is_empty() { Ok(policies) } else { Err(problems) }
}

pub(super) fn policy(value: &Value) -> Result<Policy, Vec<Problem>> {
    let mut reader = Reader::default();
    let Value::Object(entries) = value else {
        reader.problem("", format!("a policy is an object, not {}", kind(value)));
        return Err(reader.problems);
    };
    if let Some(Value::String(name)) = entries.get("name") {
        reader.policy = shown(name).into_owned();
    }
    if let Err(message) = measure(value) {
        reader.problem("", message);
        return Err(reader.problems);
    }
    let policy = reader.policy(entries);
    match policy {
        Some(policy) if reader.problems.is_empty() => Ok(policy),
        _ => Err(reader.problems),
    }
}

/// Refuses what is too large before anything looks into it.
fn measure(value: &Value) -> Result<(), String> {
    fn size(value: &Value, depth: usize, left: &mut usize) -> Result<(), String> {
        // Each condition in `any_of` takes two levels of JSON.
        if depth > limits::NESTING * 2 + 4 {
            return Err(format!("nested too deep; conditions nest at most {} levels", limits::NESTING));
        }
        let mut spend = |bytes: usize| match left.checked_sub(bytes) {
            Some(rest) => {
                *left = rest;
                Ok(())
            }
            None => Err(format!("a policy has at most {} KiB", limits::POLICY_BYTES / 1024)),
        };
        match value {
            Value::Array(items) => {
                spend(items.len() + 2)?;
                items.iter().try_for_each(|v| size(v, depth + 1, left))
            }
            Value::Object(entries) => entries.iter().try_for_each(|(key, v)| {
                let bytes = key.len() + 4;
                *left = left
                    .checked_sub(bytes)
                    .ok_or_else(|| format!("a policy has at most {} KiB", limits::POLICY_BYTES / 1024))?;
                size(v, depth + 1, left)
            }),
            Value::String(text) => spend(text.len() + 2),
            _ => spend(4),
        }
    }
    size(value, 0, &mut { limits::POLICY_BYTES })
}

/// Where in the conditions the reader is.
#[derive(Clone, Copy)]
struct Place {
    depth: usize,
    /// An enclosing condition names an action.
    under_action: bool,
}

impl Reader {
    fn policy(&mut self, entries: &Map<String, Value>) -> Option<Policy> {
        for key in entries.keys().filter(|k| !POLICY_KEYS.contains(&k.as_str())) {
            // A condition's key one level too high is the likeliest slip.
            let message = if CONDITION_KEYS.contains(&key.as_str()) {
                format!("`{key}` belongs inside `condition`")
            } else {
                unknown_key(key, POLICY_KEYS)
            };
            self.problem(&shown(key), message);
        }
        let name = self.name(entries.get("name"));
        let rule = match entries.get("rule") {
            None => {
                self.problem("rule", "missing; one of block, require_approval, alert, allow".into());
                None
            }
            Some(v) => self.word::<Rule>(v, "rule", &["block", "require_approval", "alert", "allow"]),
        };
        let mode = match entries.get("mode") {
            None => Some(Mode::Enforce),
            Some(v) => self.word::<Mode>(v, "mode", &["enforce", "shadow"]),
        };
        let on_unknown = match entries.get("on_unknown") {
            None => rule.map(OnUnknown::default_for),
            Some(v) => self.word::<OnUnknown>(v, "on_unknown", &["match", "no_match"]),
        };
        let description = match entries.get("description") {
            None => None,
            Some(Value::String(text)) => {
                if text.chars().count() > limits::DESCRIPTION {
                    self.problem("description", format!("at most {} characters", limits::DESCRIPTION));
                } else if let Some(c) =
                    text.chars().find(|c| crate::name::is_invisible(*c) && !matches!(c, '\n' | '\t'))
                {
                    self.problem(
                        "description",
                        format!("holds the invisible character U+{:04X}", u32::from(c)),
                    );
                }
                Some(text.clone())
            }
            Some(v) => {
                self.problem("description", format!("a text is expected, not {}", kind(v)));
                None
            }
        };
        let except = self.except(entries.get("except"));
        let approvals = self.approvals(entries.get("approvals"), rule);
        let condition = match entries.get("condition") {
            None => {
                self.problem("condition", "missing; write `{}` to cover every action".into());
                None
            }
            Some(v) => self.condition(v, "condition", Place { depth: 1, under_action: false }),
        };
        if rule == Some(Rule::Allow) {
            if on_unknown == Some(OnUnknown::Match) {
                self.problem(
                    "on_unknown",
                    "an allow policy cannot match on what is unknown: it would exempt an action that nobody has measured".into(),
                );
            }
            if condition.as_ref().is_some_and(|c| c.rate.is_some()) {
                self.problem(
                    "condition.rate_exceeds",
                    "an allow policy cannot depend on a rate; set it on the policy that it exempts from"
                        .into(),
                );
            }
        }
        if rule == Some(Rule::Allow) && condition.as_ref().is_some_and(asks_for_some_domain) {
            self.problem(
                "condition",
                "an allow policy with `domain_in` would cover an action that reaches other domains as well; \
                 write `\"not\": {\"domain_not_in\": […]}`"
                    .into(),
            );
        }
        if !except.is_empty() {
            match rule {
                Some(Rule::Block) => self
                    .problem("except", "a block has no exceptions; narrow its condition with `not`".into()),
                Some(Rule::Allow) => self.problem(
                    "except",
                    "an allow policy takes nothing away that could be excepted; remove `except`".into(),
                ),
                _ => {}
            }
        }
        Some(Policy {
            name: name?,
            rule: rule?,
            mode: mode?,
            description,
            condition: condition?,
            on_unknown: on_unknown?,
            except,
            approvals: approvals?,
        })
    }

    fn name(&mut self, value: Option<&Value>) -> Option<String> {
        let expected = format!("1 to {} of the characters A-Z a-z 0-9 _ . -", limits::NAME);
        match value {
            None => self.problem("name", format!("missing; {expected}")),
            Some(Value::String(name)) => {
                let fits = (1..=limits::NAME).contains(&name.len())
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
                if fits {
                    return Some(name.clone());
                }
                self.problem("name", format!("`{}` is no name; {expected}", shown(name)));
            }
            Some(v) => self.problem("name", format!("a text is expected, not {}; {expected}", kind(v))),
        }
        None
    }

    fn approvals(&mut self, value: Option<&Value>, rule: Option<Rule>) -> Option<u8> {
        let Some(value) = value else { return Some(1) };
        if rule.is_some_and(|rule| rule != Rule::RequireApproval) {
            self.problem(
                "approvals",
                "only a require_approval policy asks people; remove `approvals` or change the rule".into(),
            );
            return None;
        }
        let number = value.as_u64().and_then(|n| u8::try_from(n).ok());
        let number = number.filter(|n| (1..=limits::APPROVALS).contains(n));
        if number.is_none() {
            self.problem(
                "approvals",
                format!(
                    "how many people must approve: a whole number from 1 to {} is expected, not {}",
                    limits::APPROVALS,
                    kind(value)
                ),
            );
        }
        number
    }

    fn except(&mut self, value: Option<&Value>) -> Vec<String> {
        let mut names = Vec::new();
        // An empty list of exceptions says what none says.
        let value = value.filter(|v| v.as_array().is_none_or(|items| !items.is_empty()));
        for (i, item) in value.map(|v| self.list(v, "except")).unwrap_or_default().into_iter().enumerate() {
            match item {
                Value::String(name) => names.push(name.clone()),
                other => self.problem(
                    &format!("except[{i}]"),
                    format!("the name of an allow policy is expected, not {}", kind(other)),
                ),
            }
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    fn condition(&mut self, value: &Value, path: &str, place: Place) -> Option<Condition> {
        let Value::Object(entries) = value else {
            self.problem(path, format!("a condition is an object, not {}", kind(value)));
            return None;
        };
        if place.depth > limits::NESTING {
            self.problem(path, format!("conditions nest at most {} levels", limits::NESTING));
            return None;
        }
        if entries.is_empty() && place.depth > 1 {
            self.problem(path, "an empty condition holds of everything; remove it".into());
            return None;
        }
        let under_action = place.under_action || entries.contains_key("action");
        let place = Place { depth: place.depth, under_action };
        let (mut leaves, mut rate, before) = (Vec::with_capacity(entries.len()), None, self.problems.len());
        for (key, value) in entries {
            let path = format!("{path}.{}", shown(key));
            if key == "rate_exceeds" {
                rate = self.rate(value, &path, place);
            } else if CONDITION_KEYS.contains(&key.as_str()) {
                leaves.extend(self.leaf(key, value, &path, place));
            } else {
                self.problem(&path, unknown_key(key, CONDITION_KEYS));
            }
        }
        (self.problems.len() == before).then(|| Condition::new(leaves, rate))
    }

    fn leaf(&mut self, key: &str, value: &Value, path: &str, place: Place) -> Option<Leaf> {
        let inner = Place { depth: place.depth + 1, ..place };
        Some(match key {
            "action" => Leaf::Action(self.patterns(value, path)?),
            "agent" => Leaf::Agent(self.patterns(value, path)?),
            "tool" => Leaf::Tool(self.patterns(value, path)?),
            "resource_pattern" => Leaf::Resource(self.patterns(value, path)?),
            "category" => Leaf::Category(self.words(value, path, &Category::ALL.map(Category::as_str))?),
            "environment" => Leaf::Environment(
                self.words(
                    value,
                    path,
                    &[Environment::Sandbox, Environment::Staging, Environment::Production]
                        .map(Environment::as_str),
                )?,
            ),
            "record_count_exceeds" => Leaf::Records(self.whole(value, path)?),
            "system_count_exceeds" => Leaf::Systems(self.whole(value, path)?),
            "recipient_count_exceeds" => Leaf::Recipients(self.whole(value, path)?),
            "payload_bytes_exceeds" => Leaf::PayloadBytes(self.whole(value, path)?),
            "domain_in" => Leaf::DomainIn(self.hosts(value, path)?),
            "domain_not_in" => Leaf::DomainNotIn(self.hosts(value, path)?),
            "drift_at_least" => {
                match value.as_f64().filter(|n| value.is_number() && n.is_finite() && *n >= 0.0) {
                    Some(score) => Leaf::Drift(score + 0.0), // no negative zero
                    None => {
                        self.problem(path, format!("a number of 0 or more is expected, not {}", kind(value)));
                        return None;
                    }
                }
            }
            "not" => Leaf::Not(Box::new(self.condition(value, path, inner)?)),
            "all_of" => Leaf::AllOf(self.conditions(value, path, inner)?),
            "any_of" => Leaf::AnyOf(self.conditions(value, path, inner)?),
            _ => Leaf::When(self.when(value, path, place)?),
        })
    }

    fn when(&mut self, value: &Value, path: &str, place: Place) -> Option<When> {
        let Value::String(source) = value else {
            self.problem(path, format!("a CEL expression in quotes is expected, not {}", kind(value)));
            return None;
        };
        if !place.under_action {
            self.problem(
                path,
                "`when` needs an `action` beside it, so that it runs for those actions only".into(),
            );
        }
        match When::compile(source) {
            Ok(when) => Some(when),
            Err(message) => {
                self.problem(path, message);
                None
            }
        }
    }

    fn rate(&mut self, value: &Value, path: &str, place: Place) -> Option<Rate> {
        if place.depth > 1 {
            self.problem(path, "`rate_exceeds` stands in the outermost condition only: it counts the actions for which the rest of it holds".into());
            return None;
        }
        let Value::Object(entries) = value else {
            self.problem(
                path,
                format!("expected is {{\"count\": 30, \"period\": \"1h\"}}, not {}", kind(value)),
            );
            return None;
        };
        for key in entries.keys().filter(|k| !["count", "period"].contains(&k.as_str())) {
            self.problem(&format!("{path}.{}", shown(key)), unknown_key(key, &["count", "period"]));
        }
        let count = entries
            .get("count")
            .and_then(Value::as_u64)
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| (1..=limits::RATE_COUNT).contains(n));
        if count.is_none() {
            self.problem(
                &format!("{path}.count"),
                format!("a whole number from 1 to {} is expected", limits::RATE_COUNT),
            );
        }
        let period_seconds = entries.get("period").and_then(Value::as_str).and_then(period);
        if period_seconds.is_none() {
            self.problem(
                &format!("{path}.period"),
                "a period like 30s, 5m, 1h or 7d is expected, 31d at most".into(),
            );
        }
        Some(Rate { count: count?, period_seconds: period_seconds? })
    }

    fn conditions(&mut self, value: &Value, path: &str, place: Place) -> Option<Box<[Condition]>> {
        if !value.is_array() {
            self.problem(path, format!("a list of conditions is expected, not {}", kind(value)));
            return None;
        }
        let items = self.list(value, path);
        let found: Vec<_> = items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| self.condition(item, &format!("{path}[{i}]"), place))
            .collect();
        (!items.is_empty() && found.len() == items.len()).then(|| found.into())
    }
}

/// Whether one listed domain among others would meet the condition.
fn asks_for_some_domain(condition: &Condition) -> bool {
    condition.leaves.iter().any(|leaf| match leaf {
        Leaf::DomainIn(_) => true,
        Leaf::AllOf(list) | Leaf::AnyOf(list) => list.iter().any(asks_for_some_domain),
        _ => false,
    })
}
