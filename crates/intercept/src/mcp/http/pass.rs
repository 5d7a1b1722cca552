//! Passing requests on to a server, and its answers back, as they come.

use super::{
    Answer, Body, Front,
    content::{self, Content},
    json_answer,
    sessions::Key,
    sse::{self, Scan},
};
use crate::{
    gate::Ticket,
    mcp::{message::Id, words},
};
use bytes::Bytes;
use checkrein_api::OutcomeStatus;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    body::Frame,
    header::{self, HeaderName, HeaderValue},
};
use std::sync::Arc;
use tokio::sync::mpsc;

/// JSON-RPC: something went wrong inside.
const INTERNAL_ERROR: i32 = -32_603;
/// What belongs to one connection, or is this program's own affair. Answers must not be compressed, because
/// they are looked at.
const NOT_PASSED: [HeaderName; 11] = [
    header::CONNECTION,
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::ACCEPT_ENCODING,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
];

/// A request on its way.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Calls that the server has got and not answered yet.
pub(super) struct Open {
    pub(super) session: Option<String>,
    pub(super) calls: Vec<(Id, Ticket)>,
}

impl Open {
    pub(super) fn none(session: Option<String>) -> Self {
        Self { session, calls: Vec::new() }
    }

    fn ended(&mut self, front: &Front, id: &Id, status: OutcomeStatus, error: Option<String>) {
        let own = self.calls.iter().position(|(call, _)| call == id).map(|at| self.calls.swap_remove(at).1);
        let elsewhere = || front.sessions.found(&(self.session.clone()?, id.clone()));
        if let Some(ticket) = own.or_else(elsewhere) {
            ticket.ended(status, error);
        }
    }

    fn all_ended(&mut self, status: OutcomeStatus, error: &str) {
        for (_, ticket) in self.calls.drain(..) {
            ticket.ended(status, Some(error.to_owned()));
        }
    }

    /// No more will come on this stream; in a session another one may bring the rest.
    fn left(&mut self, front: &Front) {
        if let Some(session) = &self.session {
            for (id, ticket) in self.calls.drain(..) {
                let key: Key = (session.clone(), id);
                front.sessions.orphan(key, ticket);
            }
        }
    }
}

/// Copies what is meant for the other end.
fn headers(from: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = from
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let own = |name: &HeaderName| {
        NOT_PASSED.contains(name) || name == "keep-alive" || named.iter().any(|named| named == name.as_str())
    };
    from.iter().filter(|(name, _)| !own(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Sends a request to the server and gives back its answer, whose body is passed on as it arrives.
pub(super) async fn pass(front: &Arc<Front>, request: Request, mut open: Open) -> Answer {
    let mut url = front.url.clone();
    if let Some(query) = &request.query {
        url.set_query(Some(query));
    }
    let mut passed = headers(&request.headers);
    if request.method == Method::POST {
        // It was read as that, so nobody reads it as something else.
        passed.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(authorization) = &front.authorization {
        passed.insert(header::AUTHORIZATION, authorization.clone());
    }
    for (_, ticket) in &mut open.calls {
        ticket.sent();
    }
    let sent = front.client.request(request.method, url).headers(passed).body(request.body).send().await;
    let response = match sent {
        Ok(response) => response,
        Err(error) => {
            let status = if error.is_connect() { OutcomeStatus::Error } else { OutcomeStatus::Unknown };
            tracing::error!(
                "the MCP server {} cannot be reached: {:?}",
                place(&front.url),
                error.without_url()
            );
            let first = open.calls.first().map(|(id, _)| id.clone());
            open.all_ended(status, "the server could not be reached");
            return failed(first.as_ref(), "the MCP server cannot be reached");
        }
    };
    let status = response.status();
    if status.is_redirection() {
        // Whoever followed it would leave the gateway behind.
        tracing::error!("the MCP server {} redirects, which is not followed", place(&front.url));
        open.all_ended(OutcomeStatus::Error, "the server redirects");
        return failed(
            None,
            "the MCP server redirects elsewhere; its address has to be corrected in the gateway",
        );
    }
    let kind = match content::kind(response.headers()) {
        Ok(kind) if !content::coded(response.headers()) => kind,
        _ => {
            let problem =
                "the MCP server's answer has a Content-Type or Content-Encoding that cannot be read";
            return unreadable(&mut open, problem);
        }
    };
    let mut answer = Response::builder().status(status);
    if let Some(copied) = answer.headers_mut() {
        *copied = headers(response.headers());
    }
    if kind == Some(Content::Events) {
        return answer
            .body(stream(Arc::clone(front), response, open))
            .unwrap_or_else(|_| failed(None, "no answer"));
    }
    let body = match collect(response, front.gateway.options.max_message).await {
        Ok(body) => body,
        Err(problem) => {
            open.all_ended(OutcomeStatus::Unknown, &problem);
            return failed(None, &problem);
        }
    };
    if kind == Some(Content::Json) && !body.is_empty() {
        match front.gateway.heard(&body) {
            Ok(replies) => {
                for reply in replies {
                    if let Some(id) = reply.id {
                        open.ended(front, &id, reply.status, reply.error);
                    }
                }
            }
            Err(problem) => {
                return unreadable(&mut open, &problem);
            }
        }
    } else if status.is_success() && !body.is_empty() {
        return unreadable(&mut open, "the MCP server's answer is neither JSON nor a stream of events");
    }
    if status.is_client_error() {
        open.all_ended(OutcomeStatus::Error, &format!("the server answered {status}"));
    } else if status.is_server_error() {
        open.all_ended(OutcomeStatus::Unknown, &format!("the server answered {status}"));
    }
    answer.body(super::full(body)).unwrap_or_else(|_| failed(None, "no answer"))
}

/// What cannot be looked into is not passed on.
fn unreadable(open: &mut Open, problem: &str) -> Answer {
    tracing::error!("{problem}; it was not passed on");
    open.all_ended(OutcomeStatus::Unknown, problem);
    failed(None, problem)
}

/// An address without what may be secret in it.
fn place(url: &reqwest::Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}{}", url.host_str().unwrap_or_default(), url.path())
}

pub(super) fn failed(id: Option<&Id>, message: &str) -> Answer {
    json_answer(StatusCode::BAD_GATEWAY, words::error(id, INTERNAL_ERROR, message))
}

async fn collect(mut response: reqwest::Response, max: usize) -> Result<Bytes, String> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= max => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err(format!("the MCP server's answer is larger than {max} bytes")),
            Ok(None) => return Ok(body.into()),
            Err(_) => return Err("the MCP server's answer broke off".to_owned()),
        }
    }
}

/// Passes a stream of events on, each piece as it comes, and after a look at what it completes.
fn stream(front: Arc<Front>, response: reqwest::Response, open: Open) -> Body {
    let scan = Scan::new(front.gateway.options.max_message);
    let pieces = stream::unfold(Some((front, response, open, scan)), |state| async {
        let (front, mut response, mut open, mut scan) = state?;
        match response.chunk().await {
            Ok(Some(piece)) => match look(&front, &mut open, &mut scan, &piece) {
                Ok(()) => Some((Ok(Frame::data(piece)), Some((front, response, open, scan)))),
                Err(problem) => {
                    tracing::error!("{problem}; the stream was cut");
                    open.all_ended(OutcomeStatus::Unknown, &problem);
                    Some((Err(problem.into()), None))
                }
            },
            Ok(None) => {
                open.left(&front);
                None
            }
            Err(error) => {
                open.left(&front);
                Some((Err(error.into()), None))
            }
        }
    });
    StreamBody::new(pieces.boxed()).boxed_unsync()
}

fn look(front: &Front, open: &mut Open, scan: &mut Scan, piece: &[u8]) -> Result<(), String> {
    let events = scan.feed(piece).map_err(|_| "an event of the MCP server is too long".to_owned())?;
    for data in events {
        for reply in front.gateway.heard(&data)? {
            if let Some(id) = reply.id {
                open.ended(front, &id, reply.status, reply.error);
            }
        }
    }
    Ok(())
}

/// An answer as a part of a stream of events that has begun already.
pub(super) async fn into_events(answer: Answer, id: &Id, events: &mpsc::Sender<Bytes>) {
    let streams = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.contains("event-stream"));
    let good = answer.status().is_success();
    let mut body = answer.into_body();
    if streams {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(piece) = frame.into_data()
                && events.send(piece).await.is_err()
            {
                return;
            }
        }
        return;
    }
    let whole = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let message = if good && whole.first() == Some(&b'{') {
        sse::event(&whole)
    } else {
        sse::event(words::error(Some(id), INTERNAL_ERROR, "the MCP server refused the call").as_bytes())
    };
    let _client_left = events.send(message).await;
}
