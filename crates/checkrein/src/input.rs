//! What a command reads besides its command line.

use crate::failure::{Failure, Result};
use checkrein_core::{check::Check, json::Strict};
use serde_json::{Map, Value};
use std::io::{self, Read as _};

/// The most that is read from stdin, in bytes.
const MAX_STDIN: u64 = 64 * 1024 * 1024;

/// All of stdin.
pub(crate) fn stdin() -> Result<String> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_STDIN + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::failed(format!("cannot read from stdin: {e}")))?;
    if bytes.len() as u64 > MAX_STDIN {
        return Err(Failure::usage("stdin is larger than 64 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| Failure::usage("stdin is not UTF-8 text"))
}

/// A check as JSON, from the command line or, for `-`, from stdin.
pub(crate) fn check(text: &str) -> Result<Check> {
    let text = if text == "-" { &stdin()? } else { text };
    serde_json::from_str(text).map_err(|e| {
        Failure::usage(format!(
            "this is not a check: {e}. Write {{\"tool\": …, \"arguments\": …}} or {{\"action\": …, \"resource\": …}}"
        ))
    })
}

/// A JSON value of a flag.
pub(crate) fn value(text: &str) -> std::result::Result<Value, String> {
    serde_json::from_str::<Strict>(text).map(|Strict(value)| value).map_err(|e| format!("not JSON: {e}"))
}

/// A JSON object of a flag.
pub(crate) fn object(text: &str) -> std::result::Result<Map<String, Value>, String> {
    match value(text)? {
        Value::Object(object) => Ok(object),
        _ => Err("not a JSON object; write {\"column\": value}".to_owned()),
    }
}
