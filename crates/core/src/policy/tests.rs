//! The policies as a whole: each condition, precedence, exceptions, and the index against a plain search.

mod conditions;
mod early;
mod hostile;
mod index;
mod judging;

use super::{Facts, Judgement, Policy, PolicySet, Windows};
use crate::{
    action::{Action, Category, Count, Domains, Effect, Environment},
    name::Name,
    time::Timestamp,
};
use serde_json::{Value, json};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn effect(names: &[&str], category: Category, resource: &str, environment: Environment) -> Effect {
    Effect { names: names.iter().map(|n| name(n)).collect(), category, resource: name(resource), environment }
}

/// An update of production.users by billing-bot: ten records, one system, no recipients, no domains.
pub(super) fn update() -> Action {
    Action {
        agent: name("billing-bot"),
        session: Some("s-1".into()),
        action: name("update_user"),
        tool: None,
        resource: name("production.users"),
        category: Category::Write,
        environment: Environment::Production,
        effects: [effect(
            &["update_user", "update"],
            Category::Write,
            "production.users",
            Environment::Production,
        )]
        .into_iter()
        .collect(),
        records: Count::Known(10),
        declared: None,
        declared_ids: false,
        systems: Count::Known(1),
        recipients: Count::Known(0),
        domains: Domains::default(),
        payload_bytes: 100,
    }
}

/// An action that does one thing to one resource.
pub(super) fn action(verb: &str, resource: &str, records: Count) -> Action {
    let one = effect(&[verb], Category::Write, resource, Environment::Production);
    Action {
        action: name(verb),
        resource: name(resource),
        effects: [one].into_iter().collect(),
        records,
        ..update()
    }
}

fn policy(value: &Value) -> Policy {
    Policy::parse(value).unwrap_or_else(|e| panic!("{value}: {e:?}"))
}

pub(super) fn set(policies: &Value) -> PolicySet {
    PolicySet::compile(super::parse_list(policies).unwrap()).unwrap()
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn judge(set: &PolicySet, action: &Action) -> Judgement {
    set.evaluate(&Facts::of(action, None, at(0)), &mut Windows::new())
}

/// The messages of a policy that must be refused, as `path: message`.
fn refused(value: &Value) -> Vec<String> {
    let problems = Policy::parse(value).expect_err(&value.to_string());
    problems.into_iter().map(|p| format!("{}: {}", p.path, p.message)).collect()
}

fn block(condition: impl Into<Value>) -> Value {
    json!({"name": "p", "rule": "block", "condition": condition.into()})
}
