//! Splunk's HTTP Event Collector, as its documentation has it: no receiver of others could be found.

use super::scripted::{Receiver, Reply, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The token that it takes.
pub const TOKEN: &str = "11111111-2222-3333-4444-555555555555";

/// How it is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Indexer acknowledgement: an `ackId` for each request, and how often it is asked for before it says `true`.
    pub acknowledges_after: Option<u32>,
    /// `max_content_length`: bytes of a request, decompressed.
    pub max_content_length: usize,
}

/// A running collector.
pub struct Hec {
    /// What it is made of: the script and the requests.
    pub receiver: Receiver,
    indexed: Arc<Mutex<Vec<Value>>>,
}

impl Hec {
    /// Starts one.
    pub fn start(setup: Setup) -> Self {
        let indexed = Arc::new(Mutex::new(Vec::new()));
        let open = Mutex::new(BTreeMap::new());
        let index = Arc::clone(&indexed);
        let receiver = Receiver::start(move |request| answer(request, setup, &open, &index));
        Self { receiver, indexed }
    }

    /// The events that are indexed since the last call, in order.
    pub fn indexed(&self) -> Vec<Value> {
        std::mem::take(&mut *self.indexed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Requests that are not acknowledged yet: how often each was asked for, and its events.
type Open = BTreeMap<u64, (u32, Vec<Value>)>;

/// An answer as Splunk writes it.
pub fn said(status: u16, code: i64, text: &str) -> Reply {
    Reply::new(status, json!({"text": text, "code": code}).to_string())
}

fn answer(request: &Request, setup: Setup, open: &Mutex<Open>, indexed: &Mutex<Vec<Value>>) -> Reply {
    if request.method != "POST" {
        return Reply::new(405, "");
    }
    let authorization = request.header("authorization").unwrap_or_default();
    let Some(token) = authorization.strip_prefix("Splunk ") else {
        return said(401, if authorization.is_empty() { 2 } else { 3 }, "Invalid authorization");
    };
    if token != TOKEN {
        return said(403, 4, "Invalid token");
    }
    let channel = request.header("x-splunk-request-channel").unwrap_or_default();
    let is_channel = channel.len() == 36 && channel.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
    if setup.acknowledges_after.is_some() && channel.is_empty() {
        return said(400, 10, "Data channel is missing");
    }
    if !channel.is_empty() && !is_channel {
        return said(400, 11, "Invalid data channel");
    }
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    let mut indexed = indexed.lock().unwrap_or_else(PoisonError::into_inner);
    match (request.path.as_str(), setup.acknowledges_after) {
        ("/services/collector/event", ask) => match events(request, setup) {
            Err(refused) => refused,
            Ok(events) if ask.is_none() => {
                indexed.extend(events);
                said(200, 0, "Success")
            }
            Ok(events) => {
                let id = open.len() as u64;
                open.insert(id, (0, events));
                Reply::new(200, json!({"text": "Success", "code": 0, "ackId": id}).to_string())
            }
        },
        ("/services/collector/ack", None) => said(400, 14, "ACK is disabled"),
        ("/services/collector/ack", Some(after)) => {
            let asked = serde_json::from_slice::<Value>(&request.body).unwrap_or_default();
            let Some(ids) = asked.get("acks").and_then(Value::as_array) else {
                return said(400, 6, "Invalid data format");
            };
            let mut acks = serde_json::Map::new();
            for id in ids.iter().filter_map(Value::as_u64) {
                let known = open.get_mut(&id).is_some_and(|(asked, events)| {
                    *asked += 1;
                    if *asked > after {
                        indexed.append(events);
                    }
                    *asked > after
                });
                acks.insert(id.to_string(), known.into());
            }
            Reply::new(200, json!({"acks": acks}).to_string())
        }
        _ => Reply::new(404, json!({"text": "The requested URL was not found on this server."}).to_string()),
    }
}

/// JSON objects one after another, each with what an event needs.
fn events(request: &Request, setup: Setup) -> Result<Vec<Value>, Reply> {
    if request.body.len() > setup.max_content_length {
        let max = setup.max_content_length;
        return Err(Reply::new(413, format!("Content-Length too large (maximum is {max})")));
    }
    if request.body.is_empty() {
        return Err(said(400, 5, "No data"));
    }
    let mut events = Vec::new();
    for event in serde_json::Deserializer::from_slice(&request.body).into_iter::<Value>() {
        let event = event.map_err(|_| said(400, 6, "Invalid data format"))?;
        let known = ["time", "host", "source", "sourcetype", "index", "event", "fields"];
        let is_event = event.as_object().is_some_and(|e| e.keys().all(|key| known.contains(&key.as_str())));
        if !is_event || !event.get("time").is_some_and(Value::is_number) {
            return Err(said(400, 6, "Invalid data format"));
        }
        match event.get("event") {
            None | Some(Value::Null) => return Err(said(400, 12, "Event field is required")),
            Some(Value::String(text)) if text.is_empty() => {
                return Err(said(400, 13, "Event field cannot be blank"));
            }
            Some(_) => events.push(event),
        }
    }
    Ok(events)
}
