//! Arguments that select records by something else than their ids.
//!
//! What a tool does with a filter beside an id nobody here knows: it may well take the filter and leave the
//! id. So one id, or a number that the model wrote, says nothing about how many records a filter selects.

use super::{
    Refused,
    keys::{self, Id},
    kind,
};
use crate::check::{Check, limits};
use serde_json::{Map, Value};

/// Arguments that only wrap others, as far down as they are followed.
const MAX_WRAPS: usize = 4;

/// Whether some argument selects records, and not by their ids alone.
pub(super) fn in_bulk(details: &Value) -> bool {
    details.as_object().is_some_and(|entries| among(entries, 0))
}

/// Looks whether the `where` of a check is one, and the only thing that names records.
pub(super) fn of_check(check: &Check, filter: &Map<String, Value>) -> Result<(), Refused> {
    for (sent, field) in
        [(check.record_ids.is_some(), "record_ids"), (check.statement.is_some(), "statement")]
    {
        if sent {
            return Err(Refused::NamedTwice(field));
        }
    }
    if filter.len() > limits::WHERE_COLUMNS {
        return Err(Refused::TooManyColumns(filter.len()));
    }
    let mut values = 0;
    for (column, value) in filter {
        let bad = |found| {
            Err(Refused::BadValue {
                column: column.chars().take(64).flat_map(char::escape_debug).collect(),
                found,
            })
        };
        let nested = |value: &&Value| value.is_array() || value.is_object();
        match value {
            Value::Object(_) => return bad(kind(value)),
            Value::Array(items) => {
                if let Some(inner) = items.iter().find(nested) {
                    return bad(kind(inner));
                }
                values += items.len();
            }
            _ => values += 1,
        }
    }
    if values > limits::RECORD_IDS { Err(Refused::TooManyValues(values)) } else { Ok(()) }
}

fn among(entries: &Map<String, Value>, wraps: usize) -> bool {
    entries.iter().any(|(name, value)| match keys::selects(name) {
        keys::Selects::Records => sweeps(value),
        keys::Selects::Wrapped if wraps < MAX_WRAPS => {
            value.as_object().is_some_and(|inner| among(inner, wraps + 1))
        }
        keys::Selects::Wrapped | keys::Selects::Nothing => false,
    })
}

/// An empty object is a filter that everything passes; the other empty values are arguments left out.
fn sweeps(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => items.iter().any(sweeps),
        Value::Object(entries) => {
            entries.is_empty() || entries.iter().any(|(name, value)| !is_plain_id(name, value))
        }
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// An id or a list of them, which are counted where they stand. `{"$gt": 0}` is none.
fn is_plain_id(name: &str, value: &Value) -> bool {
    let scalar = |value: &Value| matches!(value, Value::String(_) | Value::Number(_));
    keys::key(name).id != Id::No
        && match value {
            Value::Array(items) => items.iter().all(scalar),
            other => scalar(other),
        }
}
