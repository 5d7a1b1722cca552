//! What a server answers, as far as the gateway has to know: whose answer it is, and how the call went.
//!
//! These bytes go to the client as they are. Only a message that two readers could read differently is not
//! passed on, since it could hide a tool's new description from the gateway.

use super::message::Id;
use checkrein_api::OutcomeStatus;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

/// A message of a server.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    /// Whose answer it is; none for requests and notifications.
    pub(crate) id: Option<Id>,
    /// The tools that it lists.
    pub(crate) tools: Option<&'a RawValue>,
    /// Of an answer to a call: how it went.
    pub(crate) status: OutcomeStatus,
    /// What is said about it.
    pub(crate) error: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<ErrorObject>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorObject {
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResultObject<'a> {
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(rename = "isError", deserialize_with = "truth")]
    is_error: bool,
    #[serde(rename = "resultType", borrow)]
    result_type: Option<std::borrow::Cow<'a, str>>,
    task: Option<serde::de::IgnoredAny>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    text: Option<String>,
}

fn truth<'de, D: Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    Option::<bool>::deserialize(d).map(Option::unwrap_or_default)
}

/// Reads what a server sent; several messages of a batch one by one.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Reply<'_>>, serde_json::Error> {
    let text = std::str::from_utf8(bytes).map_err(serde_json::Error::custom)?;
    if text.trim_start().starts_with('[') {
        let parts: Vec<&RawValue> = serde_json::from_str(text)?;
        return parts.into_iter().map(|part| one(part.get())).collect();
    }
    one(text).map(|reply| vec![reply])
}

fn one(text: &str) -> Result<Reply<'_>, serde_json::Error> {
    let envelope: Envelope<'_> = serde_json::from_str(text)?;
    let id = match envelope.method {
        Some(_) => None,
        None => envelope.id.and_then(canonical),
    };
    let nothing = Reply { id, tools: None, status: OutcomeStatus::Ok, error: None };
    if let Some(error) = envelope.error {
        return Ok(Reply { status: OutcomeStatus::Error, error: Some(error.message), ..nothing });
    }
    let Some(result) = envelope.result.filter(|result| result.get().starts_with('{')) else {
        return Ok(nothing);
    };
    let result: ResultObject<'_> = serde_json::from_str(result.get())?;
    let (status, error) = match result.result_type.as_deref() {
        _ if result.is_error => (OutcomeStatus::Error, result.content.and_then(first_text)),
        Some("input_required") => (OutcomeStatus::Unknown, Some("the server asks for more input".to_owned())),
        None | Some("complete") if result.task.is_none() => (OutcomeStatus::Ok, None),
        _ => (OutcomeStatus::Unknown, Some("it goes on as a task".to_owned())),
    };
    Ok(Reply { tools: result.tools, status, error, ..nothing })
}

fn canonical(raw: &RawValue) -> Option<Id> {
    let value: serde_json::Value = serde_json::from_str(raw.get()).ok()?;
    (value.is_string() || value.is_i64()).then(|| Id(value.to_string()))
}

fn first_text(content: &RawValue) -> Option<String> {
    let parts: Vec<Content> = serde_json::from_str(content.get()).ok()?;
    parts.into_iter().find_map(|part| part.text)
}

/// Whose answer a message is that could not be read for certain, as far as can be guessed.
pub(crate) fn guessed_id(bytes: &[u8]) -> Option<Id> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let id = value.get("id").filter(|_| value.get("method").is_none())?;
    (id.is_string() || id.is_i64()).then(|| Id(id.to_string()))
}
