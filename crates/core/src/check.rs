//! The check: the request that asks whether an action may run.

use crate::{
    json,
    time::Timestamp,
    trace::{self, Traceparent},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Limits on a check that hold whatever the server's body limit is.
pub mod limits {
    /// Ids in `record_ids`.
    pub const RECORD_IDS: usize = 100_000;
    /// Bytes of `session`, `idempotency_key`.
    pub const TOKEN_BYTES: usize = 256;
    /// Bytes of `statement`.
    pub const STATEMENT_BYTES: usize = 256 * 1024;
    /// Columns in `where`.
    pub const WHERE_COLUMNS: usize = 64;
}

/// What a caller sends to `POST /v1/checks`.
///
/// Explicit form: `action` and `resource`. Raw form: `tool` and `arguments`, which the tool catalogue turns
/// into the explicit one. Exactly one of the two. An unknown field is refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Check {
    /// Who acts. An agent's key speaks for the agents it is bound to and for no other; an operator's or
    /// admin's key may name any agent. Absent: the agent of the key, or `default`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
    /// The run or conversation that this belongs to; at most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<String>,
    /// Explicit form: what is done, e.g. `update` or `send_email`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action: Option<String>,
    /// Explicit form: what it is done to, `<target>.<path>` or a URL.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource: Option<String>,
    /// Explicit form: anything that describes the action. `record_count` in it is the declared count.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "present")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Object>))]
    pub payload: Option<Value>,
    /// Raw form: the tool's name as the model called it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tool: Option<String>,
    /// Raw form: the tool's arguments as the model gave them.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "present")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Object>))]
    pub arguments: Option<Value>,
    /// The SQL that is about to run, one statement or several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub statement: Option<String>,
    /// Parameters of `statement`.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "present")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Vec<Object>>))]
    pub params: Option<Value>,
    /// The records affected, strings or numbers; at most 100,000.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "present_list")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Vec<Object>>))]
    pub record_ids: Option<Vec<Value>>,
    /// Explicit form, in place of `record_ids`: the records affected are those of which every named column
    /// has this value, or one of the values of a list; `null` where it has none. Empty: all of them.
    #[serde(
        rename = "where",
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "present_object"
    )]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Object>))]
    pub filter: Option<Map<String, Value>>,
    /// The same key from the same caller: the same answer, recorded once. At most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub idempotency_key: Option<String>,
    /// When the caller says that it acts. Recorded; decisions use Checkrein's own clock.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub timestamp: Option<Timestamp>,
    /// Where the caller stands in its own trace (W3C Trace Context); the header `traceparent` says the same. What is
    /// malformed is ignored.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "trace::lenient")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub traceparent: Option<Traceparent>,
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, s)
    }
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::deserialize(json::Named(d))
    }
}

fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Value>, D::Error> {
    json::strict(d).map(Some)
}

fn present_list<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<Value>>, D::Error> {
    match json::strict(d)? {
        Value::Null => Ok(None),
        Value::Array(items) => Ok(Some(items)),
        _ => Err(serde::de::Error::custom("record_ids must be a list")),
    }
}

fn present_object<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Map<String, Value>>, D::Error> {
    match json::strict(d)? {
        Value::Null => Ok(None),
        Value::Object(entries) => Ok(Some(entries)),
        _ => Err(serde::de::Error::custom("where must be an object of columns and their values")),
    }
}

impl Check {
    /// The free-form part, whichever form this is.
    pub fn details(&self) -> Option<&Value> {
        self.payload.as_ref().or(self.arguments.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_it_does_not_know() {
        let error = serde_json::from_str::<Check>(r#"{"action":"update","resorce":"users"}"#).unwrap_err();
        assert!(error.to_string().contains("resorce"));
        assert!(serde_json::from_str::<Check>(r#"{"action":"a","action":"b"}"#).is_err());
        assert!(serde_json::from_str::<Check>(r#"{"payload":{"n":1,"n":2}}"#).is_err());
        assert!(serde_json::from_str::<Check>(r#"{"record_ids":{"0":1}}"#).is_err());
        assert!(serde_json::from_str::<Check>(r#"{"where":[1]}"#).is_err());
        assert!(serde_json::from_str::<Check>(r#"{"where":{"id":1,"id":2}}"#).is_err());
        assert!(serde_json::from_str::<Check>(r#"{"filter":{"id":1}}"#).is_err());
    }

    #[test]
    fn a_malformed_trace_is_ignored() {
        let read = |trace: &str| {
            let text = format!(r#"{{"action":"a","resource":"r","traceparent":{trace}}}"#);
            serde_json::from_str::<Check>(&text)
        };
        let good = r#""00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01""#;
        let check = read(good).unwrap();
        assert!(check.traceparent.is_some());
        assert_eq!(serde_json::to_string(&check.traceparent).unwrap(), good);
        assert_eq!(read(r#""nonsense""#).unwrap().traceparent, None);
        assert_eq!(read("null").unwrap().traceparent, None);
        assert!(read("7").is_err());
        let without = Check { traceparent: None, ..check };
        assert!(!serde_json::to_string(&without).unwrap().contains("traceparent"));
    }

    #[test]
    fn takes_an_object_and_nothing_else() {
        let fields = r#"["bot", null, "update", "users"]"#;
        let error = serde_json::from_str::<Check>(fields).unwrap_err();
        assert!(error.to_string().contains("sequence"), "{error}");
        assert!(serde_json::from_value::<Check>(serde_json::json!(["bot"])).is_err());
        let mut again = serde_json::Deserializer::from_str(fields);
        assert!(<Check as Deserialize>::deserialize(json::Named(&mut again)).is_err());
        let check =
            Check { action: Some("update".into()), resource: Some("users".into()), ..Check::default() };
        let text = serde_json::to_string(&check).unwrap();
        assert_eq!(serde_json::from_str::<Check>(&text).unwrap(), check);
    }
}
