//! One request of a client: read, judged if it calls a tool, and passed on.

use super::{
    Answer, Body, Front,
    content::{self, Content},
    full, json_answer,
    pass::{self, Open, Request},
    sse,
};
use crate::{
    gate::Ticket,
    mcp::{
        Asks, Fate,
        message::{self, Call, Id, Incoming, Kind, Message, PARSE_ERROR},
        words,
    },
};
use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use checkrein_core::trace::Traceparent;
use futures_util::{StreamExt as _, future::join_all, stream};
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    body::Frame,
    header::{self, HeaderValue},
};
use serde_json::value::RawValue;
use std::sync::Arc;
use tokio::{sync::mpsc, task::AbortHandle};

/// MCP: header and body contradict each other.
const HEADER_MISMATCH: i32 = -32_020;
const SESSION: &str = "mcp-session-id";
/// Pieces of an answer that wait for a slow client.
const QUEUE: usize = 16;

pub(super) async fn exchange(front: Arc<Front>, request: hyper::Request<hyper::body::Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let max = front.gateway.options.max_message;
    let Ok(body) = Limited::new(body, max).collect().await else {
        let message = format!("the body broke off, or is larger than {max} bytes");
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, words::error(None, PARSE_ERROR, &message));
    };
    let session = parts.headers.get(SESSION).and_then(|id| id.to_str().ok()).map(str::to_owned);
    let request = Request {
        method: parts.method,
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        body: body.to_bytes(),
    };
    if request.method == Method::POST {
        return post(&front, request, session).await;
    }
    // No message goes to the server by any other method.
    if !request.body.is_empty() {
        return refuse(StatusCode::BAD_REQUEST, words::error(None, PARSE_ERROR, "only a POST has a body"));
    }
    if request.method == Method::DELETE
        && let Some(session) = &session
    {
        front.sessions.over(session);
    }
    pass::pass(&front, request, Open::none(session)).await
}

fn refuse(status: StatusCode, message: String) -> Answer {
    json_answer(status, message)
}

async fn post(front: &Arc<Front>, request: Request, session: Option<String>) -> Answer {
    if let Err(problem) = plain(&request.headers) {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, words::error(None, PARSE_ERROR, problem));
    }
    let bytes = request.body.clone();
    let incoming = match message::read(&bytes) {
        Ok(incoming) => incoming,
        Err(refused) => {
            tracing::warn!("{}", refused.message.escape_debug());
            let body = words::error(refused.id.as_ref(), refused.code, &refused.message);
            return refuse(StatusCode::BAD_REQUEST, body);
        }
    };
    if let Err((id, problem)) = agree(&request.headers, &incoming) {
        return refuse(StatusCode::BAD_REQUEST, words::error(id.as_ref(), HEADER_MISMATCH, &problem));
    }
    match incoming {
        Incoming::One(Message { kind: Kind::Call(mut call), .. }) => {
            // A request's header says it of its call, where the call does not say it itself.
            call.trace = call.trace.or_else(|| trace(&request.headers));
            called(front, request, session, *call).await
        }
        Incoming::One(message) => other(front, request, session, &message.kind).await,
        Incoming::Batch(messages) => batch(front, request, session, messages).await,
    }
}

/// The caller's place in its own trace. Of two, none can be believed.
fn trace(headers: &HeaderMap) -> Option<Traceparent> {
    let mut said = headers.get_all("traceparent").iter();
    said.next().filter(|_| said.next().is_none())?.to_str().ok().and_then(Traceparent::parse)
}

/// A body that everybody reads as the same text.
fn plain(headers: &HeaderMap) -> Result<(), &'static str> {
    if content::coded(headers) {
        return Err("the body must not be compressed");
    }
    match content::kind(headers) {
        Ok(Some(Content::Json)) => Ok(()),
        _ => Err("a request has one Content-Type, application/json, in UTF-8"),
    }
}

/// What headers say of the message must be what it says itself (2026-07-28): somebody may go by them alone.
fn agree(headers: &HeaderMap, incoming: &Incoming<'_>) -> Result<(), (Option<Id>, String)> {
    let (method, name, id) = match incoming {
        Incoming::One(message) => match &message.kind {
            Kind::Call(call) => ("tools/call", Some(call.tool.as_str()), Some(call.id.clone())),
            Kind::Request { method, .. } | Kind::Notification { method, .. } => (method.as_str(), None, None),
            Kind::Response { .. } => ("", None, None),
        },
        Incoming::Batch(_) => ("", None, None),
    };
    for value in headers.get_all("mcp-method") {
        if value.as_bytes() != method.as_bytes() {
            return Err((id, "the header Mcp-Method is not the method of the message".to_owned()));
        }
    }
    let Some(name) = name else { return Ok(()) };
    for value in headers.get_all("mcp-name") {
        let encoded = value.to_str().ok().and_then(|v| v.strip_prefix("=?base64?")?.strip_suffix("?="));
        let decoded = encoded.and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
        if value.as_bytes() != name.as_bytes() && decoded.as_deref() != Some(name.as_bytes()) {
            return Err((id, "the header Mcp-Name is not the name of the tool".to_owned()));
        }
    }
    Ok(())
}

/// A message that calls no tool.
async fn other(front: &Arc<Front>, request: Request, session: Option<String>, kind: &Kind<'_>) -> Answer {
    let mut begins = None;
    match kind {
        Kind::Request { method, params } => begins = message::can_elicit(method, *params),
        Kind::Notification { method, params } => {
            let cancelled = message::cancelled(method, *params).zip(session.clone());
            if cancelled.is_some_and(|(id, session)| front.sessions.cancel(&(session, id))) {
                return accepted();
            }
        }
        Kind::Response { id, result } => {
            if let Some(asked) = front.sessions.asked(id) {
                let answer = result.and_then(|result| serde_json::from_str(result.get()).ok());
                // Nobody waits for it any more: it was approved or given up meanwhile.
                let _late = asked.send(message::accepted(answer.as_ref()));
                return accepted();
            }
        }
        Kind::Call(_) => {}
    }
    let answer = pass::pass(front, request, Open::none(session)).await;
    let begun = answer.headers().get(SESSION).and_then(|id| id.to_str().ok());
    if let Some((elicits, session)) = begins.zip(begun) {
        front.sessions.begun(session, elicits);
    }
    answer
}

fn accepted() -> Answer {
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = StatusCode::ACCEPTED;
    answer
}

async fn called(front: &Arc<Front>, request: Request, session: Option<String>, call: Call) -> Answer {
    let streams = request.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let streams = streams.is_some_and(|accept| accept.contains("text/event-stream"));
    let elicits = !call.modern && session.as_ref().is_some_and(|session| front.sessions.elicits(session));
    if streams && elicits {
        return asking(front, request, session, call).await;
    }
    judged(front, request, session, call, None).await
}

/// A call from judgement to answer.
async fn judged(
    front: &Arc<Front>,
    mut request: Request,
    session: Option<String>,
    call: Call,
    asks: Option<&dyn Asks>,
) -> Answer {
    let name = session.as_deref().map(on_record);
    let judge = front.gateway.judge(&call, name.as_deref(), asks);
    let fate = match session.clone() {
        None => judge.await,
        Some(session) => {
            let waiting = front.sessions.waits((session, call.id.clone()));
            let cancelled = Arc::clone(&waiting.cancelled);
            let fate = tokio::select! {
                fate = judge => fate,
                () = cancelled.notified() => return accepted(),
            };
            if !waiting.goes_on() {
                return accepted();
            }
            fate
        }
    };
    match fate {
        Fate::Answer(text) => json_answer(StatusCode::OK, text),
        Fate::Run(ticket, message) => {
            if let Some(message) = message {
                request.body = message.into();
            }
            pass::pass(front, request, Open { session, calls: vec![(call.id, ticket)] }).await
        }
    }
}

/// A session's name on record: its id is a secret to those who are in it.
fn on_record(session: &str) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = checkrein_core::fingerprint::hex(&Sha256::digest(session));
    format!("mcp-{}", digest.get(..16).unwrap_or_default())
}

/// A call whose client can be asked something meanwhile. As soon as it is, the answer is a stream of events.
async fn asking(front: &Arc<Front>, request: Request, session: Option<String>, call: Call) -> Answer {
    let (events, mut asked) = mpsc::channel::<Bytes>(QUEUE);
    let user = User { front: Arc::clone(front), events: events.clone() };
    let (front, id) = (Arc::clone(front), call.id.clone());
    let mut task = tokio::spawn(async move { judged(&front, request, session, call, Some(&user)).await });
    let abort = AbortOnDrop(task.abort_handle());
    let first = tokio::select! {
        answer = &mut task => {
            return answer.unwrap_or_else(|_| pass::failed(Some(&id), "the gateway failed"));
        }
        first = asked.recv() => first,
    };
    // From here on the rest of the answer follows the question, on the same stream.
    let rest = async move {
        let answer = task.await.unwrap_or_else(|_| pass::failed(Some(&id), "the gateway failed"));
        pass::into_events(answer, &id, &events).await;
    };
    let rest = tokio::spawn(rest);
    let guards = (abort, AbortOnDrop(rest.abort_handle()));
    let body = stream::unfold((first, asked, guards), |(first, mut asked, guards)| async {
        let piece = match first {
            Some(piece) => piece,
            None => asked.recv().await?,
        };
        Some((Ok(Frame::data(piece)), (None, asked, guards)))
    });
    let body: Body = StreamBody::new(body.boxed()).boxed_unsync();
    let mut answer = Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

/// Ends a task with whoever waits for it.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The user of a client, asked on the stream that answers a call.
struct User {
    front: Arc<Front>,
    events: mpsc::Sender<Bytes>,
}

#[async_trait]
impl Asks for User {
    async fn ask(&self, question: &str) -> Option<bool> {
        let id = Id(format!("\"checkrein-{}\"", uuid::Uuid::now_v7().simple()));
        let answered = self.front.sessions.ask(id.clone());
        let mut open = Question { user: self, id: &id, answered: false };
        self.events.send(sse::event(words::elicitation(&id, question).as_bytes())).await.ok()?;
        let goes_on = answered.await.ok();
        open.answered = true;
        goes_on
    }
}

/// A question that is withdrawn when nobody waits for its answer any more.
struct Question<'a> {
    user: &'a User,
    id: &'a Id,
    answered: bool,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        drop(self.user.front.sessions.asked(self.id));
        if !self.answered {
            // A client that is that far behind sees the question once too often.
            let _full = self.user.events.try_send(sse::event(words::never_mind(self.id).as_bytes()));
        }
    }
}

/// Several messages at once (2025-03-26): each call is judged, and what may not run is left out.
async fn batch(
    front: &Arc<Front>,
    mut request: Request,
    session: Option<String>,
    messages: Vec<Message<'_>>,
) -> Answer {
    let name = session.as_deref().map(on_record);
    let traced = trace(&request.headers);
    let fates = join_all(messages.into_iter().map(async |message| match message.kind {
        Kind::Call(mut call) => {
            call.trace = call.trace.or(traced);
            let fate = front.gateway.judge(&call, name.as_deref(), None).await;
            (message.raw, Some((call.id.clone(), fate)))
        }
        _ => (message.raw, None),
    }))
    .await;
    let (mut passed, mut answers, mut calls) = (Vec::new(), Vec::new(), Vec::<(Id, Ticket)>::new());
    for (raw, fate) in fates {
        match fate {
            None => passed.push(raw.to_owned()),
            Some((id, Fate::Run(ticket, message))) => {
                passed.push(message.unwrap_or_else(|| raw.to_owned()));
                calls.push((id, ticket));
            }
            Some((_, Fate::Answer(answer))) => answers.push(answer),
        }
    }
    let open = Open { session, calls };
    if answers.is_empty() {
        return pass::pass(front, request, open).await;
    }
    if passed.is_empty() {
        return json_answer(StatusCode::OK, format!("[{}]", answers.join(",")));
    }
    request.body = format!("[{}]", passed.join(",")).into();
    join(pass::pass(front, request, open).await, answers).await
}

/// An answer of the server together with those of the gateway.
async fn join(answer: Answer, ours: Vec<String>) -> Answer {
    let kind =
        answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.contains("event-stream") {
        let (parts, body) = answer.into_parts();
        let ours: Vec<_> = ours.iter().map(|ours| Ok(Frame::data(sse::event(ours.as_bytes())))).collect();
        let theirs = http_body_util::BodyStream::new(body);
        return Response::from_parts(
            parts,
            StreamBody::new(stream::iter(ours).chain(theirs).boxed()).boxed_unsync(),
        );
    }
    let body =
        answer.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let theirs = match serde_json::from_slice::<Vec<&RawValue>>(&body) {
        Ok(several) => several.iter().map(|one| one.get().to_owned()).collect(),
        Err(_) => serde_json::from_slice::<&RawValue>(&body)
            .map(|one| vec![one.get().to_owned()])
            .unwrap_or_default(),
    };
    let all: Vec<String> = ours.into_iter().chain(theirs).collect();
    json_answer(StatusCode::OK, format!("[{}]", all.join(",")))
}
