//! The whole way of a policy from foreign bytes to a judgement, for fuzzing. Not part of the interface.

use super::{Facts, MAX_MATCHED, Policy, PolicySet, Windows, parse_list};
use crate::{
    action::{Action, Category, Count, Domains, Effect, Environment},
    json::Strict,
    name::{Name, NameError},
    time::Timestamp,
};
use serde_json::json;

/// Takes `bytes` as JSON of one policy or a list of them, and judges a few actions with what comes of it.
///
/// # Errors
/// With what must never happen: a policy that does not read back, a list of matches over its limit.
pub fn exercise(bytes: &[u8]) -> Result<(), String> {
    let Ok(Strict(value)) = serde_json::from_slice::<Strict>(bytes) else { return Ok(()) };
    let policies = Policy::parse(&value).map(|one| vec![one]).or_else(|_| parse_list(&value));
    let Ok(policies) = policies else { return Ok(()) };
    for policy in &policies {
        if Policy::parse(&policy.to_value()).as_ref() != Ok(policy) {
            return Err(format!("does not read back: {}", policy.to_value()));
        }
    }
    let Ok(set) = PolicySet::compile(policies) else { return Ok(()) };
    let mut windows = Windows::new();
    let payload = json!({"amount": 70, "tags": ["a", {"b": null}]});
    for records in [Count::Known(0), Count::Known(26), Count::Unknown] {
        let action = action(records).map_err(|e| e.to_string())?;
        for payload in [None, Some(&payload), Some(&value)] {
            let facts = Facts::of(&action, payload, Timestamp::default());
            let judged = set.evaluate(&facts, &mut windows);
            if judged.matched.len() > MAX_MATCHED || judged.reason.is_empty() {
                return Err(format!("{judged:?}"));
            }
        }
    }
    Ok(())
}

fn action(records: Count) -> Result<Action, NameError> {
    let update = Name::new("update")?;
    Ok(Action {
        agent: Name::default_agent(),
        session: None,
        action: update.clone(),
        tool: Some(Name::new("sql")?),
        resource: Name::new("production.users")?,
        category: Category::Write,
        environment: Environment::Production,
        effects: [("production.users", Category::Write), ("staging.orders", Category::Delete)]
            .into_iter()
            .map(|(resource, category)| {
                Ok(Effect {
                    names: [update.clone()].into_iter().collect(),
                    category,
                    resource: Name::new(resource)?,
                    environment: Environment::Production,
                })
            })
            .collect::<Result<_, NameError>>()?,
        records,
        declared: None,
        declared_ids: false,
        systems: Count::Known(2),
        recipients: records,
        domains: Domains { known: vec![Name::new("example.com")?], unknown: true },
        payload_bytes: 64,
    })
}
