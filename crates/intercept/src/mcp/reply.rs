//! What a server answers, as far as the gateway has to know: whose answer it is, and how the call went.
//!
//! These bytes go to the client as they are. Only a message that two readers could read differently is not
//! passed on, since it could hide a tool's new description from the gateway.

use super::message::{Id, RawMembers};
use checkrein_api::OutcomeStatus;
use serde::{Deserialize, de::Error as _};
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
struct ErrorObject {
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    text: Option<String>,
}

/// What there is, but for `null`.
fn given<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Result<Option<T>, serde_json::Error> {
    raw.map_or(Ok(None), |raw| serde_json::from_str(raw.get()))
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
    let members: RawMembers<'_> = serde_json::from_str(text)?;
    let [_, id, method, _, result, error] =
        members.pick(["jsonrpc", "id", "method", "params", "result", "error"])?;
    let (result, error): (Option<&RawValue>, Option<ErrorObject>) = (given(result)?, given(error)?);
    if [result.is_some(), error.is_some(), method.is_some()].into_iter().filter(|there| *there).count() > 1 {
        return Err(serde_json::Error::custom(
            "a message is a request, a result or an error, not two of these",
        ));
    }
    let id = id.filter(|_| method.is_none()).and_then(canonical);
    let nothing = Reply { id, tools: None, status: OutcomeStatus::Ok, error: None };
    if let Some(error) = error {
        return Ok(Reply { status: OutcomeStatus::Error, error: Some(error.message), ..nothing });
    }
    let Some(result) = result.filter(|result| result.get().starts_with('{')) else {
        return Ok(nothing);
    };
    let members: RawMembers<'_> = serde_json::from_str(result.get())?;
    let [tools, is_error, result_type, task, content] =
        members.pick(["tools", "isError", "resultType", "task", "content"])?;
    let (tools, task): (Option<&RawValue>, Option<&RawValue>) = (given(tools)?, given(task)?);
    let result_type: Option<String> = given(result_type)?;
    let (status, error) = match result_type.as_deref() {
        _ if given(is_error)?.unwrap_or(false) => (OutcomeStatus::Error, content.and_then(first_text)),
        Some("input_required") => (OutcomeStatus::Unknown, Some("the server asks for more input".to_owned())),
        None | Some("complete") if task.is_none() => (OutcomeStatus::Ok, None),
        _ => (OutcomeStatus::Unknown, Some("it goes on as a task".to_owned())),
    };
    Ok(Reply { tools, status, error, ..nothing })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_read_differently_is_refused() {
        for wrong in [
            r#"{"id":1,"error":{"code":1,"message":"x"},"result":{"tools":[]}}"#,
            r#"{"id":1,"method":"x","result":{"tools":[]}}"#,
            r#"{"id":1,"Result":{"tools":[]}}"#,
            r#"{"id":1,"re\u017fult":{"tools":[]}}"#,
            r#"{"id":1,"result":{"Tools":[]}}"#,
            r#"{"id":1,"result":{"tools":[],"tools":[]}}"#,
            r#"{"id":1,"result":{},"result":{}}"#,
            "\u{feff}{}",
            "hello",
            "7",
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let good = r#"{"id":1,"error":null,"result":{"a":1,"A":2,"tools":null,"isError":null}}"#;
        let good = read(good.as_bytes()).unwrap();
        assert!(good[0].tools.is_none() && good[0].status == OutcomeStatus::Ok);
    }
}
