//! The fingerprint of an exact action: what an approval is bound to.

use crate::{check::Check, json, name::Name};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 over the canonical form of who does what to what with which payload and statement, in
/// lower-case hexadecimal. Two checks with one fingerprint ask for the same thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Fingerprint(pub String);

impl Fingerprint {
    /// Of `check` made by `agent`. Session, idempotency key and timestamp do not take part: the same action
    /// asked for again is the same action. `rows` is the digest of the counted rows, where there is one.
    pub fn of(check: &Check, agent: &Name, rows: Option<&str>) -> Self {
        let text = |t: &Option<String>| t.as_deref().map_or(Value::Null, Value::from);
        let any = |v: &Option<Value>| v.clone().unwrap_or(Value::Null);
        // A list, not a map: no part can pose as another one.
        let mut parts = vec![
            Value::from("checkrein.action.v1"),
            Value::from(agent.as_str()),
            text(&check.action),
            text(&check.resource),
            text(&check.tool),
            any(&check.payload),
            any(&check.arguments),
            text(&check.statement),
            any(&check.params),
            check.record_ids.clone().map_or(Value::Null, Value::Array),
            rows.map_or(Value::Null, Value::from),
        ];
        // Last, and only where there is one: without it the fingerprint is what it was before there was any.
        parts.extend(check.filter.clone().map(Value::Object));
        let mut bytes = Vec::with_capacity(256);
        json::write_canonical(&Value::Array(parts), &mut bytes);
        Self(hex(&Sha256::digest(&bytes)))
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from(if n < 10 { b'0' + n } else { b'a' + n - 10 });
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    #[test]
    fn bound_to_every_part_and_to_nothing_else() {
        let agent = Name::new("billing-bot").unwrap();
        let base = Check {
            action: Some("update".into()),
            resource: Some("shop.users".into()),
            payload: Some(json!({"b": 1, "a": [1, 2]})),
            ..Check::default()
        };
        let of = |c: &Check| Fingerprint::of(c, &agent, None);
        let same = Check { session: Some("s".into()), idempotency_key: Some("k".into()), ..base.clone() };
        assert_eq!(of(&base), of(&same));
        for other in [
            Check { action: Some("delete".into()), ..base.clone() },
            Check { resource: Some("shop.user".into()), ..base.clone() },
            Check { payload: Some(json!({"b": 1, "a": [2, 1]})), ..base.clone() },
            Check { payload: None, arguments: base.payload.clone(), ..base.clone() },
            Check { statement: Some("SELECT 1".into()), ..base.clone() },
            Check { record_ids: Some(vec![json!(1)]), ..base.clone() },
            Check { filter: Some(Map::new()), ..base.clone() },
            Check { filter: json!({"id": 1}).as_object().cloned(), ..base.clone() },
        ] {
            assert_ne!(of(&base), of(&other));
        }
        assert_ne!(of(&base), Fingerprint::of(&base, &Name::new("other").unwrap(), None));
        assert_ne!(of(&base), Fingerprint::of(&base, &agent, Some("rows")));
    }
}
