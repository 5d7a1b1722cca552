//! A server that speaks over its standard input and output, with the client on ours.

mod lines;
mod process;

pub use process::{StdioError, run};

use super::{
    Asks, Fate, Gateway,
    message::{self, Call, Id, Incoming, Kind, Message},
    reply, words,
};
use crate::gate::Ticket;
use async_trait::async_trait;
use bytes::Bytes;
use checkrein_api::OutcomeStatus;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

/// Messages that one side may be ahead of the other.
const QUEUE: usize = 64;
/// JSON-RPC: something went wrong inside.
const INTERNAL_ERROR: i32 = -32_603;

/// A line to be written; none closes the pipe.
type Outgoing = Option<Bytes>;

/// One client and one server.
struct Session {
    gateway: Arc<Gateway>,
    /// The session on record.
    name: String,
    to_client: mpsc::Sender<Outgoing>,
    to_server: mpsc::Sender<Outgoing>,
    calls: Mutex<HashMap<Id, InFlight>>,
    /// Questions of the gateway to the client's user.
    asked: Mutex<HashMap<Id, oneshot::Sender<bool>>>,
    /// The client can ask its user.
    elicits: AtomicBool,
}

/// A call that has no answer yet.
enum InFlight {
    /// It is being judged; the server knows nothing of it.
    Waiting(AbortHandle),
    /// The server has it.
    Running(Ticket),
}

/// Something went away that the session cannot be without.
#[derive(Debug)]
struct Gone;

impl<T> From<mpsc::error::SendError<T>> for Gone {
    fn from(_: mpsc::error::SendError<T>) -> Self {
        Self
    }
}

impl Session {
    fn calls(&self) -> MutexGuard<'_, HashMap<Id, InFlight>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<Id, oneshot::Sender<bool>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell_client(&self, message: String) -> Result<(), Gone> {
        Ok(self.to_client.send(Some(Bytes::from(message))).await?)
    }

    /// A line from the client.
    async fn client_says(self: &Arc<Self>, line: &[u8]) -> Result<(), Gone> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        match message::read(line) {
            Err(refused) => {
                tracing::warn!("{}", refused.message.escape_debug());
                self.tell_client(words::error(refused.id.as_ref(), refused.code, &refused.message)).await
            }
            Ok(Incoming::One(message)) => self.take(message).await,
            Ok(Incoming::Batch(messages)) => {
                if !messages.iter().any(|message| self.concerns(&message.kind)) {
                    return self.pass_on(line.trim_ascii()).await;
                }
                // The parts that are judged go their own ways, so the others do too.
                for message in messages {
                    self.take(message).await?;
                }
                Ok(())
            }
        }
    }

    async fn pass_on(&self, bytes: &[u8]) -> Result<(), Gone> {
        Ok(self.to_server.send(Some(Bytes::copy_from_slice(bytes))).await?)
    }

    /// Whether the gateway has to do something about a message.
    fn concerns(&self, kind: &Kind<'_>) -> bool {
        match kind {
            Kind::Call(_) => true,
            Kind::Request { .. } => false,
            Kind::Notification { method, params } => message::cancelled(method, *params).is_some(),
            Kind::Response { id, .. } => self.asked().contains_key(id),
        }
    }

    async fn take(self: &Arc<Self>, message: Message<'_>) -> Result<(), Gone> {
        match message.kind {
            Kind::Call(call) => return self.start(*call, message.raw).await,
            Kind::Request { method, params } => {
                if let Some(elicits) = message::can_elicit(&method, params) {
                    self.elicits.store(elicits, Ordering::Relaxed);
                }
            }
            Kind::Notification { method, params } => {
                if message::cancelled(&method, params).is_some_and(|id| self.cancel(&id)) {
                    return Ok(());
                }
            }
            Kind::Response { id, result } => {
                if let Some(asked) = self.asked().remove(&id) {
                    let answer = result.and_then(|result| serde_json::from_str(result.get()).ok());
                    // Nobody waits for it any more: it was approved or given up meanwhile.
                    let _late = asked.send(message::accepted(answer.as_ref()));
                    return Ok(());
                }
            }
        }
        self.pass_on(message.raw.as_bytes()).await
    }

    /// Whether the server knows nothing of the request that the client cancels.
    fn cancel(&self, id: &Id) -> bool {
        match self.calls().remove(id) {
            Some(InFlight::Waiting(judging)) => {
                judging.abort();
                true
            }
            // It may have run already. Nobody will say, so the ticket reports that it is unknown.
            Some(InFlight::Running(_)) | None => false,
        }
    }

    async fn start(self: &Arc<Self>, call: Call, raw: &str) -> Result<(), Gone> {
        let id = call.id.clone();
        let taken = {
            let mut calls = self.calls();
            let taken = calls.contains_key(&id);
            if !taken {
                let (session, raw) = (Arc::clone(self), Bytes::copy_from_slice(raw.as_bytes()));
                let judging = tokio::spawn(async move { session.judge(call, raw).await });
                calls.insert(id.clone(), InFlight::Waiting(judging.abort_handle()));
            }
            taken
        };
        if taken {
            // Under its own id the answer would be taken for that of the other call.
            let message = format!("a call with the id {id} is under way; this one was not passed on");
            return self.tell_client(words::error(None, message::INVALID_REQUEST, &message)).await;
        }
        Ok(())
    }

    async fn judge(self: Arc<Self>, call: Call, raw: Bytes) {
        let user = User(&self);
        let asks: Option<&dyn Asks> = if self.elicits.load(Ordering::Relaxed) { Some(&user) } else { None };
        match self.gateway.judge(&call, Some(&self.name), asks).await {
            Fate::Answer(text) => {
                if self.calls().remove(&call.id).is_some() {
                    let _client_left = self.tell_client(text).await;
                }
            }
            Fate::Run(mut ticket, message) => {
                // Room first: then nothing can come between marking it as running and sending it.
                let Ok(room) = self.to_server.reserve().await else { return };
                let mut calls = self.calls();
                if let Some(call @ InFlight::Waiting(_)) = calls.get_mut(&call.id) {
                    ticket.sent();
                    *call = InFlight::Running(ticket);
                    room.send(Some(message.map_or(raw, Bytes::from)));
                }
            }
        }
    }

    /// A line from the server.
    async fn server_says(&self, line: &[u8]) -> Result<(), Gone> {
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        let heard = if text.contains(&b'\r') {
            // Some readers of lines end one here.
            Err("a message of the server holds a carriage return".to_owned())
        } else {
            self.gateway.heard(text)
        };
        match heard {
            Ok(replies) => {
                for reply in replies {
                    let Some(id) = reply.id else { continue };
                    self.ended(&id, reply.status, reply.error);
                }
            }
            Err(problem) => {
                tracing::error!("{problem}; it was not passed on");
                let Some(id) = reply::guessed_id(text) else { return Ok(()) };
                self.ended(&id, OutcomeStatus::Unknown, Some(problem.clone()));
                return self.tell_client(words::error(Some(&id), INTERNAL_ERROR, &problem)).await;
            }
        }
        Ok(self.to_client.send(Some(Bytes::copy_from_slice(line))).await?)
    }

    fn ended(&self, id: &Id, status: OutcomeStatus, error: Option<String>) {
        let mut calls = self.calls();
        if let Some(InFlight::Running(_)) = calls.get(id)
            && let Some(InFlight::Running(ticket)) = calls.remove(id)
        {
            ticket.ended(status, error);
        }
    }

    /// The server is gone: every call that is open gets an answer all the same.
    async fn server_gone(&self) {
        let open: Vec<(Id, InFlight)> = self.calls().drain().collect();
        for (id, call) in open {
            let text = match call {
                InFlight::Waiting(judging) => {
                    judging.abort();
                    "NOT RUN: the MCP server ended before the call was passed on."
                }
                InFlight::Running(_) => {
                    "The MCP server ended before it answered. Whether the call took effect is unknown: look \
                     before you make it again."
                }
            };
            let _client_left = self.tell_client(words::result(&id, text, false)).await;
        }
    }

    /// The client is gone: what waits never runs.
    fn client_gone(&self) {
        self.calls().retain(|_, call| match call {
            InFlight::Waiting(judging) => {
                judging.abort();
                false
            }
            InFlight::Running(_) => true,
        });
    }
}

/// The user of the client.
struct User<'a>(&'a Session);

#[async_trait]
impl Asks for User<'_> {
    async fn ask(&self, question: &str) -> Option<bool> {
        let id = Id(format!("\"checkrein-{}\"", uuid::Uuid::now_v7().simple()));
        let (answer, answered) = oneshot::channel();
        self.0.asked().insert(id.clone(), answer);
        let mut open = Question { session: self.0, id: &id, answered: false };
        self.0.tell_client(words::elicitation(&id, question)).await.ok()?;
        let goes_on = answered.await.ok();
        open.answered = true;
        goes_on
    }
}

/// A question that is withdrawn when nobody waits for its answer any more.
struct Question<'a> {
    session: &'a Session,
    id: &'a Id,
    answered: bool,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.session.asked().remove(self.id);
        if !self.answered {
            // A client that is that far behind sees the question once too often.
            let _full = self.session.to_client.try_send(Some(Bytes::from(words::never_mind(self.id))));
        }
    }
}
