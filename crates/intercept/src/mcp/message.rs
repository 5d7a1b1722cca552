//! Reading what a client sends so that no reader after us can read it as something else.
//!
//! The gateway passes on the bytes that it got, and another program parses them again, perhaps more leniently:
//! with the first of two equal keys instead of the last, without regard to case, over line ends of another
//! kind. So a message is passed on only if there is one way to read it, and is refused otherwise. What is
//! allowed is less than JSON-RPC allows, and all that MCP uses.

use checkrein_core::{
    json::{Named, Strict},
    trace::Traceparent,
};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, value::RawValue};
use std::{collections::HashSet, fmt};

/// Messages in one batch.
const MAX_BATCH: usize = 100;
/// Bytes of a method's name and of an id.
const MAX_WORD: usize = 512;
const CALL: &str = "tools/call";
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// JSON-RPC: this is no JSON.
pub(crate) const PARSE_ERROR: i32 = -32_700;
/// JSON-RPC: this is no message.
pub(crate) const INVALID_REQUEST: i32 = -32_600;
/// JSON-RPC: the parameters cannot be understood.
pub(crate) const INVALID_PARAMS: i32 = -32_602;

/// A message's id in one form for each value: JSON, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(pub(crate) String);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message that is not passed on, and what its sender is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// The id of the request, where that is certain.
    pub(crate) id: Option<Id>,
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl Unreadable {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { id: None, code, message: message.into() }
    }

    fn of(mut self, id: Option<&Id>) -> Self {
        self.id = id.cloned();
        self
    }
}

/// What a client sends: one message, or several of protocol version 2025-03-26.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    One(Message<'a>),
    Batch(Vec<Message<'a>>),
}

/// A message and the bytes that it stands for.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) raw: &'a str,
    pub(crate) kind: Kind<'a>,
}

/// What it is.
#[derive(Debug)]
pub(crate) enum Kind<'a> {
    /// The request `tools/call`.
    Call(Box<Call>),
    /// Any other request.
    Request {
        method: String,
        params: Option<&'a RawValue>,
    },
    Notification {
        method: String,
        params: Option<&'a RawValue>,
    },
    /// An answer to a request of the server.
    Response {
        id: Id,
        result: Option<&'a RawValue>,
    },
}

/// A tool is to be called.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: Id,
    pub(crate) tool: String,
    /// An object.
    pub(crate) arguments: Value,
    /// Of protocol version 2026-07-28 or later: stateless, and every request says what its client can do.
    pub(crate) modern: bool,
    /// The request itself says that its client can ask its user something.
    pub(crate) elicits: bool,
    /// What the server, or the gateway in its place, wants to have back.
    pub(crate) state: Option<String>,
    /// What the client's user answered, by the name of the question.
    pub(crate) responses: Option<Map<String, Value>>,
    /// Where the caller stands in its own trace, as `_meta.traceparent` says.
    pub(crate) trace: Option<Traceparent>,
    /// As they came.
    params: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "there")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    error: Option<&'a RawValue>,
}

/// What is there, be it `null`; only what is left out is none.
fn there<'de, D: Deserializer<'de>>(d: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(d).map(Some)
}

/// Reads what a client sent. `bytes` are one line without its end, or the body of a request.
pub(crate) fn read(bytes: &[u8]) -> Result<Incoming<'_>, Unreadable> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Unreadable::new(PARSE_ERROR, "the message is not UTF-8; it was not passed on"))?;
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    // Some readers of lines end one here, and would find another message in what follows.
    if text.contains('\r') {
        return Err(Unreadable::new(
            PARSE_ERROR,
            "the message holds a carriage return; it was not passed on",
        ));
    }
    if !text.starts_with('[') {
        return one(text).map(Incoming::One);
    }
    let parts: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| no_json(&e))?;
    if parts.is_empty() || parts.len() > MAX_BATCH {
        let message = format!("a batch holds 1 to {MAX_BATCH} messages, this one {}", parts.len());
        return Err(Unreadable::new(INVALID_REQUEST, message));
    }
    parts.into_iter().map(|part| one(part.get())).collect::<Result<_, _>>().map(Incoming::Batch)
}

fn no_json(error: &serde_json::Error) -> Unreadable {
    Unreadable::new(PARSE_ERROR, format!("the message cannot be read, so it was not passed on: {error}"))
}

fn one(raw: &str) -> Result<Message<'_>, Unreadable> {
    let wrong = |message: &str| Unreadable::new(INVALID_REQUEST, format!("{message}; it was not passed on"));
    let mut reader = serde_json::Deserializer::from_str(raw);
    let envelope = Envelope::deserialize(Named(&mut reader))
        .and_then(|envelope| reader.end().map(|()| envelope))
        .map_err(|e| {
            if e.is_data() { wrong(&format!("this is no JSON-RPC message: {e}")) } else { no_json(&e) }
        })?;
    if envelope.jsonrpc.map(RawValue::get) != Some("\"2.0\"") {
        return Err(wrong("the member jsonrpc must be \"2.0\""));
    }
    let id = match envelope.id {
        Some(raw) => Some(
            id(raw).ok_or_else(|| wrong("an id must be a whole number or a text of at most 512 bytes"))?,
        ),
        None => None,
    };
    let kind = match (envelope.method, envelope.result, envelope.error, id) {
        (Some(method), None, None, id) => {
            let method = self::method(method).map_err(|e| wrong(&e).of(id.as_ref()))?;
            let params = envelope.params;
            match id {
                Some(id) if method == CALL => {
                    let call = call(&id, params).map_err(|e| {
                        let message = format!("{e}; the tool was not called");
                        Unreadable::new(INVALID_PARAMS, message).of(Some(&id))
                    })?;
                    Kind::Call(Box::new(call))
                }
                Some(_) => Kind::Request { method, params },
                None if method == CALL => return Err(wrong("a call without an id has no answer")),
                None => Kind::Notification { method, params },
            }
        }
        (None, result, error, Some(id))
            if result.is_some() != error.is_some() && envelope.params.is_none() =>
        {
            Kind::Response { id, result }
        }
        _ => return Err(wrong("the message is neither a request nor a notification nor a response")),
    };
    Ok(Message { raw, kind })
}

fn id(raw: &RawValue) -> Option<Id> {
    let text = raw.get();
    if text.len() > MAX_WORD {
        return None;
    }
    if text.starts_with('"') {
        let text: String = serde_json::from_str(text).ok()?;
        return serde_json::to_string(&text).ok().map(Id);
    }
    // No fraction, no exponent, no minus zero.
    text.parse::<i64>().ok().filter(|n| n.to_string() == text).map(|_| Id(text.to_owned()))
}

fn method(raw: &RawValue) -> Result<String, String> {
    let method: String =
        serde_json::from_str(raw.get()).map_err(|_| "the method must be a text".to_owned())?;
    if method.is_empty() || method.len() > MAX_WORD || !method.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("a method is 1 to 512 printable ASCII characters".to_owned());
    }
    // `Tools/Call` or `tools//call` is nothing that MCP knows, and something that a server may be lenient about.
    let letters = method.bytes().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_lowercase());
    if method != CALL && letters.eq(*b"toolscall") {
        return Err(format!("the method `{method}` could be taken for {CALL}"));
    }
    Ok(method)
}

fn call(id: &Id, params: Option<&RawValue>) -> Result<Call, String> {
    let raw = params.ok_or("the call has no params")?;
    let Strict(Value::Object(mut params)) =
        serde_json::from_str(raw.get()).map_err(|e| format!("the params cannot be read: {e}"))?
    else {
        return Err("the params are no object".to_owned());
    };
    one_spelling(&params, &["name", "arguments", "_meta", "task", "requestState", "inputResponses"])?;
    let Some(Value::String(tool)) = params.remove("name") else {
        return Err("the params name no tool".to_owned());
    };
    let arguments = match params.remove("arguments") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err("the arguments are no object".to_owned()),
    };
    one_spelling(&arguments, &[])?;
    let meta_of = |key: &str| params.get("_meta").and_then(|meta| meta.get(key));
    let (modern, elicits) = (meta_of(VERSION).is_some(), meta_of(CAPABILITIES).is_some_and(elicits));
    let trace = meta_of("traceparent").and_then(Value::as_str).and_then(Traceparent::parse);
    let state = match params.remove("requestState") {
        None => None,
        Some(Value::String(state)) => Some(state),
        Some(_) => return Err("requestState is no text".to_owned()),
    };
    let responses = match params.remove("inputResponses") {
        None => None,
        Some(Value::Object(responses)) => Some(responses),
        Some(_) => return Err("inputResponses is no object".to_owned()),
    };
    Ok(Call {
        id: id.clone(),
        tool,
        arguments: Value::Object(arguments),
        modern,
        elicits,
        state,
        responses,
        trace,
        params: raw.to_owned(),
    })
}

/// Whether capabilities of a client say that it can show its user a form. An empty object means forms.
fn elicits(capabilities: &Value) -> bool {
    match capabilities.get("elicitation") {
        Some(Value::Object(modes)) => modes.is_empty() || modes.contains_key("form"),
        _ => false,
    }
}

/// A key to a reader without regard to case.
fn fold(key: &str) -> String {
    // Upper case first: `ſ` is an `S` to such readers, and the Kelvin sign a `K`.
    key.to_uppercase().to_lowercase()
}

/// Refuses keys that a reader without regard to case would take for one another, or for one of `known`.
pub(crate) fn one_spelling(object: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    let mut seen: HashSet<String> = HashSet::new();
    for key in object.keys() {
        let folded = fold(key);
        let other = known.iter().any(|known| *known != key && fold(known) == folded);
        if other || !seen.insert(folded) {
            return Err(format!("the key `{}` is spelt in two ways", key.escape_debug()));
        }
    }
    Ok(())
}

impl Call {
    /// The same call as the server would have got it, had the gateway not asked in between: without what it
    /// wanted to have back, with what the server does (`state`, `responses`: JSON).
    pub(crate) fn without_detour(&self, state: Option<&str>, responses: Option<&str>) -> Option<String> {
        let params: RawMembers<'_> = serde_json::from_str(self.params.get()).ok()?;
        let own = |key: &str| key == "requestState" || key == "inputResponses";
        let kept =
            params.0.iter().filter(|(key, _)| !own(key)).map(|(key, value)| (key.as_str(), value.get()));
        let given = [("inputResponses", responses), ("requestState", state)];
        let mut out = format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"{CALL}\",\"params\":{{", self.id);
        for (i, (key, value)) in
            kept.chain(given.into_iter().filter_map(|(key, value)| Some((key, value?)))).enumerate()
        {
            out.push_str(if i == 0 { "" } else { "," });
            out.push_str(&serde_json::to_string(key).ok()?);
            out.push(':');
            out.push_str(value);
        }
        out.push_str("}}");
        Some(out)
    }
}

/// The members of an object in their order, each value as it was written.
pub(crate) struct RawMembers<'a>(Vec<(String, &'a RawValue)>);

impl<'a> RawMembers<'a> {
    /// The value of each of `known`. Refused if one is there twice, or also in another spelling.
    pub(crate) fn pick<const N: usize>(
        &self,
        known: [&str; N],
    ) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
        let mut found = [None; N];
        for (key, value) in &self.0 {
            let same = |known: &str| {
                known == key
                    || (known.eq_ignore_ascii_case(key) || !key.is_ascii()) && fold(known) == fold(key)
            };
            for (known, place) in known.iter().zip(&mut found).filter(|(known, _)| same(known)) {
                if known != key || place.is_some() {
                    let message =
                        format!("the key `{}` is spelt in two ways, or there twice", key.escape_debug());
                    return Err(serde::de::Error::custom(message));
                }
                *place = Some(*value);
            }
        }
        Ok(found)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = RawMembers<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(RawMembers(members))
            }
        }
        d.deserialize_map(Members)
    }
}

/// The request that `notifications/cancelled` cancels.
pub(crate) fn cancelled(method: &str, params: Option<&RawValue>) -> Option<Id> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow, rename = "requestId")]
        request: &'a RawValue,
    }
    let params = params.filter(|_| method == "notifications/cancelled")?;
    serde_json::from_str::<Params<'_>>(params.get()).ok().and_then(|params| id(params.request))
}

/// Whether an `initialize` request says that its client can ask its user something.
pub(crate) fn can_elicit(method: &str, params: Option<&RawValue>) -> Option<bool> {
    let params = params.filter(|_| method == "initialize")?;
    let params: Strict = serde_json::from_str(params.get()).unwrap_or_default();
    Some(params.0.get("capabilities").is_some_and(elicits))
}

/// What a client's user answered to a question of the gateway.
pub(crate) fn accepted(answer: Option<&Value>) -> bool {
    answer.and_then(|answer| answer.get("action")).and_then(Value::as_str) == Some("accept")
}

#[cfg(test)]
mod tests;
