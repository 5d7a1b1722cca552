//! How a check is written into the action log: as JSON that says each thing once.
//!
//! What was asked (`check`) and what was answered (`decision`) are kept word for word. Of the action between
//! them only that is written which neither of the two says already, and of its effects only what is not the
//! action's own. A member that is left out means: the same as there.
//!
//! | left out | then it is |
//! |---|---|
//! | `action.agent`, `session`, `tool`, `resource` | that member of `check` |
//! | `action.action` | `check.action`, or in the raw form `check.tool` |
//! | `action.category`, `environment` | that member of `decision` |
//! | `action.records`, `systems`, `recipients`, `declared` | that member of `decision.blast_radius` |
//! | `action.domains` | no host |
//! | `action.effects` | one effect, of which nothing is written |
//! | an effect's `names` | `action.action`, alone |
//! | an effect's `category`, `environment`, `resource` | that of the action |

use crate::{
    action::{Action, Category, Count, Domains, Effect, Environment},
    check::Check,
    decision::Decision,
    event::Checked,
    fingerprint::Fingerprint,
    name::Name,
    snapshot::Execution,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use smallvec::{SmallVec, smallvec};

#[derive(Serialize)]
struct Written<'a> {
    key_id: &'a str,
    check: &'a Check,
    action: WrittenAction<'a>,
    fingerprint: &'a Fingerprint,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution: Option<&'a Execution>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a Decision>,
}

#[derive(Serialize)]
struct WrittenAction<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<Category>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<Environment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effects: Option<SmallVec<[WrittenEffect<'a>; 1]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    declared: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    systems: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipients: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domains: Option<&'a Domains>,
    payload_bytes: u64,
}

#[derive(Default, PartialEq, Serialize)]
struct WrittenEffect<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<&'a [Name]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<Category>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<Environment>,
}

impl Serialize for Checked {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Written { decision: Some(&self.decision), ..self.without_decision() }.serialize(s)
    }
}

impl Checked {
    /// Its JSON, where that of the decision, `answer`, is there already: what is sent is what is recorded.
    ///
    /// # Errors
    /// Never for checks that came from JSON.
    pub fn body_with(&self, answer: &str) -> Result<String, serde_json::Error> {
        let mut body = Vec::with_capacity(answer.len() + 512);
        serde_json::to_writer(&mut body, &self.without_decision())?;
        // The decision is the last member: instead of the closing brace comes the rest.
        body.pop();
        for part in [",\"decision\":", answer, "}"] {
            body.extend_from_slice(part.as_bytes());
        }
        String::from_utf8(body).map_err(serde::ser::Error::custom)
    }

    fn without_decision(&self) -> Written<'_> {
        let Self { key_id, check, action, fingerprint, decision, execution, probe } = self;
        let action = write_action(action, check, decision);
        let (execution, probe) = (execution.as_ref(), *probe);
        Written { key_id, check, action, fingerprint, execution, probe, decision: None }
    }
}

fn write_action<'a>(action: &'a Action, check: &'a Check, decision: &Decision) -> WrittenAction<'a> {
    let blast = &decision.blast_radius;
    let effects: SmallVec<_> = action.effects.iter().map(|effect| write_effect(effect, action)).collect();
    let plain = matches!(effects.as_slice(), [only] if *only == WrittenEffect::default());
    WrittenAction {
        agent: other(&action.agent, check.agent.as_deref()),
        session: unless(action.session.as_deref(), check.session.as_deref()),
        action: other(&action.action, check.action.as_deref().or(check.tool.as_deref())),
        tool: unless(action.tool.as_deref(), check.tool.as_deref()),
        resource: other(&action.resource, check.resource.as_deref()),
        category: unless(action.category, decision.category),
        environment: unless(action.environment, decision.environment),
        effects: (!plain).then_some(effects),
        records: unless(action.records, blast.records),
        declared: unless(action.declared, blast.declared),
        systems: unless(action.systems, blast.systems),
        recipients: unless(action.recipients, blast.recipients),
        domains: (action.domains != Domains::default()).then_some(&action.domains),
        payload_bytes: action.payload_bytes,
    }
}

fn write_effect<'a>(effect: &'a Effect, action: &Action) -> WrittenEffect<'a> {
    let own = matches!(effect.names.as_slice(), [only] if *only == action.action);
    WrittenEffect {
        names: (!own).then_some(effect.names.as_slice()),
        category: unless(effect.category, action.category),
        resource: other(&effect.resource, Some(&action.resource)),
        environment: unless(effect.environment, action.environment),
    }
}

/// `value`, unless it is what stands elsewhere.
fn unless<T: PartialEq + Copy>(value: T, elsewhere: T) -> Option<T> {
    (value != elsewhere).then_some(value)
}

fn other<'a>(value: &'a str, elsewhere: Option<&str>) -> Option<&'a str> {
    (elsewhere != Some(value)).then_some(value)
}

#[derive(Deserialize)]
struct Read {
    key_id: String,
    check: Check,
    action: ReadAction,
    fingerprint: Fingerprint,
    execution: Option<Execution>,
    probe: Option<u32>,
    decision: Decision,
}

#[derive(Deserialize)]
struct ReadAction {
    agent: Option<Name>,
    #[serde(default, deserialize_with = "there")]
    session: Option<Option<String>>,
    action: Option<Name>,
    #[serde(default, deserialize_with = "there")]
    tool: Option<Option<Name>>,
    resource: Option<Name>,
    category: Option<Category>,
    environment: Option<Environment>,
    effects: Option<SmallVec<[ReadEffect; 1]>>,
    #[serde(default, deserialize_with = "there")]
    records: Option<Count>,
    #[serde(default, deserialize_with = "there")]
    declared: Option<Option<u64>>,
    #[serde(default, deserialize_with = "there")]
    systems: Option<Count>,
    #[serde(default, deserialize_with = "there")]
    recipients: Option<Count>,
    #[serde(default)]
    domains: Domains,
    payload_bytes: u64,
}

#[derive(Default, Deserialize)]
struct ReadEffect {
    names: Option<SmallVec<[Name; 3]>>,
    category: Option<Category>,
    resource: Option<Name>,
    environment: Option<Environment>,
}

/// What is there, be it `null`; only what is left out is none.
fn there<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let Read { key_id, check, action, fingerprint, execution, probe, decision } = Read::deserialize(d)?;
        let action = read_action(action, &check, &decision).map_err(D::Error::custom)?;
        Ok(Self { key_id, check, action, fingerprint, decision, execution, probe })
    }
}

fn read_action(read: ReadAction, check: &Check, decision: &Decision) -> Result<Action, String> {
    let named = |name: Option<Name>, what: &str, elsewhere: Option<&String>| match (name, elsewhere) {
        (Some(name), _) => Ok(name),
        (None, Some(text)) => Name::new(text).map_err(|e| format!("{what}: {e}")),
        (None, None) => Err(format!("the action's {what} is nowhere")),
    };
    let blast = &decision.blast_radius;
    let action = named(read.action, "action", check.action.as_ref().or(check.tool.as_ref()))?;
    let resource = named(read.resource, "resource", check.resource.as_ref())?;
    let category = read.category.unwrap_or(decision.category);
    let environment = read.environment.unwrap_or(decision.environment);
    let effect = |effect: ReadEffect| Effect {
        names: effect.names.unwrap_or_else(|| smallvec![action.clone()]),
        category: effect.category.unwrap_or(category),
        resource: effect.resource.unwrap_or_else(|| resource.clone()),
        environment: effect.environment.unwrap_or(environment),
    };
    let effects = match read.effects {
        Some(effects) => effects.into_iter().map(effect).collect(),
        None => smallvec![effect(ReadEffect::default())],
    };
    Ok(Action {
        agent: named(read.agent, "agent", check.agent.as_ref())?,
        session: read.session.unwrap_or_else(|| check.session.clone()),
        tool: match read.tool {
            Some(tool) => tool,
            None => check.tool.as_ref().map(|tool| named(None, "tool", Some(tool))).transpose()?,
        },
        category,
        environment,
        effects,
        records: read.records.unwrap_or(blast.records),
        declared: read.declared.unwrap_or(blast.declared),
        systems: read.systems.unwrap_or(blast.systems),
        recipients: read.recipients.unwrap_or(blast.recipients),
        domains: read.domains,
        payload_bytes: read.payload_bytes,
        action,
        resource,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::{Catalogue, CatalogueConfig},
        decision::{Basis, BlastRadius, DriftVerdict, Verdict},
        drift::{Channel, Severity, breaker},
        time::Timestamp,
    };
    use serde_json::{Value, json};

    fn checked(check: Value, change: impl FnOnce(&mut Checked)) -> Checked {
        let check: Check = serde_json::from_value(check).unwrap();
        let agent = check.agent.as_deref().map_or_else(Name::default_agent, |a| Name::new(a).unwrap());
        let action = Catalogue::new(&CatalogueConfig::default()).unwrap().classify(&check, agent).unwrap();
        let mut checked = Checked {
            key_id: "key_1".into(),
            fingerprint: Fingerprint::of(&check, &action.agent, None),
            decision: Decision {
                id: "chk_1".into(),
                verdict: Verdict::Allow,
                reason: "Allowed; no policy objects.".into(),
                policies: Vec::new(),
                category: action.category,
                environment: action.environment,
                blast_radius: BlastRadius {
                    records: action.records,
                    systems: action.systems,
                    recipients: action.recipients,
                    basis: Basis::Declared,
                    declared: action.declared,
                    by_resource: Vec::new(),
                    understated: false,
                },
                drift: None,
                breaker: breaker::State::Closed,
                approval_id: None,
                snapshot_id: None,
                logged_at: Timestamp::from_micros(1),
            },
            check,
            action,
            execution: None,
            probe: None,
        };
        change(&mut checked);
        checked
    }

    /// Written and read again, both ways of writing.
    fn written(checked: &Checked) -> Value {
        let body = serde_json::to_string(checked).unwrap();
        assert_eq!(serde_json::from_str::<Checked>(&body).unwrap(), *checked, "{body}");
        let answer = serde_json::to_string(&checked.decision).unwrap();
        assert_eq!(checked.body_with(&answer).unwrap(), body);
        serde_json::from_str(&body).unwrap()
    }

    #[test]
    fn says_nothing_twice() {
        let plain = json!({"action": "update", "resource": "shop.users", "payload": {"record_count": 12}});
        let body = written(&checked(plain.clone(), |_| {}));
        assert_eq!(body["action"], json!({"agent": "default", "payload_bytes": 19}));
        assert_eq!(body["check"], plain);
        assert_eq!(body["decision"]["category"], "write");

        let named = json!({"agent": "a", "session": "s", "action": "read", "resource": "shop.users"});
        assert_eq!(written(&checked(named, |_| {}))["action"], json!({"payload_bytes": 0}));
    }

    #[test]
    fn loses_nothing() {
        let checks = [
            json!({"action": "Purge_Users", "resource": "Shop.Users"}),
            json!({"action": "update", "resource": "https://api.example.com/v1?x=1"}),
            json!({"tool": "send_email", "arguments": {"to": ["a@b.example"], "n": [1.5, null, {"x": "\u{e9}\"\\"}]}}),
            json!({"tool": "run_sql", "arguments": {"sql": "DELETE FROM a.b; UPDATE c SET d = 1; SELECT 1"}}),
            json!({"action": "read", "resource": "r", "statement": "DROP TABLE users", "session": "s"}),
            json!({"agent": " Billing-Bot ", "action": "delete", "resource": "r", "record_ids": [1, "b"]}),
        ];
        for check in checks {
            written(&checked(check.clone(), |_| {}));
            // Whatever differs from what stands elsewhere, also by being nothing where that is something.
            written(&checked(check.clone(), |c| {
                c.action.session = None;
                c.action.tool = None;
                c.action.declared = None;
                c.decision.blast_radius.declared = Some(7);
                c.decision.blast_radius.records = Count::Known(u64::MAX);
                c.decision.blast_radius.systems = Count::Unknown;
                c.action.recipients = Count::Unknown;
                c.decision.category = Category::Admin;
                c.decision.environment = Environment::Sandbox;
                c.check.agent = None;
                c.check.session = Some("another".into());
                c.probe = Some(7);
                c.decision.breaker = breaker::State::HalfOpen;
                c.decision.drift = Some(Box::new(DriftVerdict {
                    score: 6.2,
                    severity: Severity::Warning,
                    channel: Channel::Burst,
                    reason: "38 actions in 5 min".into(),
                    expected: 2.0,
                    seen: 38.0,
                    agents: None,
                }));
            }));
            written(&checked(check, |c| {
                c.action.session = Some("another".into());
                c.action.tool = Some(Name::new("another").unwrap());
                c.action.action = Name::new("another").unwrap();
                c.action.effects.clear();
                c.action.domains.unknown = true;
                c.execution =
                    Some(Execution { target: "shop".into(), token: Some("7".into()), snapshot_id: None });
            }));
        }
    }

    #[test]
    fn what_is_nowhere_is_no_check() {
        let mut body = written(&checked(json!({"action": "update", "resource": "users"}), |_| {}));
        body["check"]["resource"].take();
        let error = serde_json::from_value::<Checked>(body).unwrap_err();
        assert!(error.to_string().contains("resource is nowhere"), "{error}");
    }
}
