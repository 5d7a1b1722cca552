//! Policies as canonical JSON.

use super::condition::{Condition, Leaf};
use serde_json::{Map, Value};

/// A period as a person writes it, in the largest unit that divides it.
pub(super) fn period_text(seconds: u32) -> String {
    [(86_400, 'd'), (3_600, 'h'), (60, 'm')]
        .into_iter()
        .find(|(unit, _)| seconds.is_multiple_of(*unit))
        .map_or_else(|| format!("{seconds}s"), |(unit, letter)| format!("{}{letter}", seconds / unit))
}

impl Condition {
    /// Canonical JSON: equal conditions give equal values.
    pub(super) fn to_value(&self) -> Value {
        let mut entries: Map<String, Value> =
            self.leaves.iter().map(|l| (l.key().to_owned(), l.to_value())).collect();
        if let Some(rate) = self.rate {
            entries.insert(
                "rate_exceeds".into(),
                serde_json::json!({"count": rate.count, "period": period_text(rate.period_seconds)}),
            );
        }
        Value::Object(entries)
    }
}

impl Leaf {
    pub(super) const fn key(&self) -> &'static str {
        match self {
            Self::Category(_) => "category",
            Self::Environment(_) => "environment",
            Self::Records(_) => "record_count_exceeds",
            Self::Systems(_) => "system_count_exceeds",
            Self::Recipients(_) => "recipient_count_exceeds",
            Self::PayloadBytes(_) => "payload_bytes_exceeds",
            Self::Drift(_) => "drift_at_least",
            Self::Agent(_) => "agent",
            Self::Tool(_) => "tool",
            Self::Action(_) => "action",
            Self::Resource(_) => "resource_pattern",
            Self::DomainIn(_) => "domain_in",
            Self::DomainNotIn(_) => "domain_not_in",
            Self::Not(_) => "not",
            Self::AllOf(_) => "all_of",
            Self::AnyOf(_) => "any_of",
            Self::When(_) => "when",
        }
    }

    fn to_value(&self) -> Value {
        fn one_or_list<T: Into<Value>>(items: impl Iterator<Item = T>) -> Value {
            let mut items: Vec<Value> = items.map(Into::into).collect();
            match items.pop() {
                Some(only) if items.is_empty() => only,
                last => {
                    items.extend(last);
                    Value::Array(items)
                }
            }
        }
        match self {
            Self::Category(list) => one_or_list(list.iter().map(|c| c.as_str())),
            Self::Environment(list) => one_or_list(list.iter().map(|e| e.as_str())),
            Self::Records(n) | Self::Systems(n) | Self::Recipients(n) | Self::PayloadBytes(n) => (*n).into(),
            // A whole number and its decimal form are the same score.
            Self::Drift(score) => Value::from(*score),
            Self::Agent(p) | Self::Tool(p) | Self::Action(p) | Self::Resource(p) => one_or_list(p.texts()),
            Self::DomainIn(hosts) | Self::DomainNotIn(hosts) => hosts.texts().map(Value::from).collect(),
            Self::Not(c) => c.to_value(),
            Self::AllOf(list) | Self::AnyOf(list) => list.iter().map(Condition::to_value).collect(),
            Self::When(when) => when.source().into(),
        }
    }
}
