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
    /// Of `check` made by `agent`. Session, idempotency key, timestamp and traceparent do not take part: the same action
    /// asked for again is the same action. `rows` is the digest of the counted rows, where there is one.
    pub fn of(check: &Check, agent: &Name, rows: Option<&str>) -> Self {
        let text = |t: Option<&str>, out: &mut Vec<u8>| match t {
            Some(text) => json::write_canonical_text(text, out),
            None => json::write_canonical(&Value::Null, out),
        };
        let any = |v: &Option<Value>, out: &mut Vec<u8>| {
            json::write_canonical(v.as_ref().unwrap_or(&Value::Null), out);
        };
        // A list, not a map: no part can pose as another one.
        let mut list = Vec::with_capacity(512);
        let out = &mut list;
        out.extend_from_slice(b"[\"checkrein.action.v1\"");
        for part in
            [Some(agent.as_str()), check.action.as_deref(), check.resource.as_deref(), check.tool.as_deref()]
        {
            out.push(b',');
            text(part, out);
        }
        for part in [&check.payload, &check.arguments] {
            out.push(b',');
            any(part, out);
        }
        out.push(b',');
        text(check.statement.as_deref(), out);
        out.push(b',');
        any(&check.params, out);
        out.push(b',');
        match &check.record_ids {
            Some(ids) => json::write_canonical_list(ids, out),
            None => text(None, out),
        }
        out.push(b',');
        text(rows, out);
        // Last, and only where there is one: without it the fingerprint is what it was before there was any.
        if let Some(filter) = &check.filter {
            out.push(b',');
            json::write_canonical(&Value::Object(filter.clone()), out);
        }
        out.push(b']');
        Self(hex(&Sha256::digest(&list)))
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| n + if n < 10 { b'0' } else { b'a' - 10 };
    let mut digits = vec![0; bytes.len() * 2];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    // Digits are ASCII.
    String::from_utf8(digits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    #[test]
    fn is_the_hash_of_the_canonical_list() {
        let check: Check = serde_json::from_value(json!({
            "action": "up\"date", "resource": "r", "payload": {"b": [1, null], "a": "\u{e9}"}, "record_ids": [2, "x"],
        }))
        .unwrap();
        let list = r#"["checkrein.action.v1","bot","up\"date","r",null,{"a":"é","b":[1,null]},null,null,null,[2,"x"],"rows"]"#;
        let agent = Name::new("bot").unwrap();
        let of = Fingerprint::of(&check, &agent, Some("rows"));
        assert_eq!(of.0, hex(&Sha256::digest(list.as_bytes())));
    }

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
