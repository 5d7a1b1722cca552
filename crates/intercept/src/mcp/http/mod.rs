//! Servers that speak streamable HTTP, fronted on an address of our own.

mod content;
mod exchange;
mod pass;
mod sessions;
mod sse;

use super::{Gateway, words};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use reqwest::Url;
use sessions::Sessions;
use std::{collections::HashMap, convert::Infallible, io, sync::Arc, time::Duration};
use tokio::net::TcpListener;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;
type Answer = Response<Body>;

/// How long a client may take for the headers of a request.
const PATIENCE: Duration = Duration::from_secs(75);
/// How long a stop waits for answers that are under way.
const DRAIN: Duration = Duration::from_secs(5);

/// A server to front.
#[derive(Debug)]
pub struct Upstream {
    /// Judges its calls.
    pub gateway: Arc<Gateway>,
    /// Where clients find it here, e.g. `/mcp`.
    pub path: String,
    /// Where it is.
    pub url: Url,
    /// Sent to it as `Authorization`, in place of what the client sends.
    pub authorization: Option<HeaderValue>,
}

/// Why servers cannot be fronted.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The client for the server's side cannot be made.
    #[error("cannot speak HTTP: {0}")]
    Client(#[from] reqwest::Error),
}

/// One server, fronted.
#[derive(Debug)]
struct Front {
    gateway: Arc<Gateway>,
    client: reqwest::Client,
    url: Url,
    authorization: Option<HeaderValue>,
    sessions: Sessions,
}

/// All of them, and who may come.
#[derive(Debug)]
struct Fronts {
    by_path: HashMap<String, Arc<Front>>,
    /// Names that this is reached by, in lower case without a port.
    hosts: Vec<String>,
}

/// Serves until `stop` is ready, then lets answers that are under way go on for some seconds. `hosts`: names
/// that clients may reach it by, besides those of the loopback interface and the address itself.
///
/// # Errors
/// When this cannot be set up; never later.
pub async fn serve(
    listener: TcpListener,
    upstreams: Vec<Upstream>,
    hosts: Vec<String>,
    stop: impl Future<Output = ()>,
) -> Result<(), HttpError> {
    room_for_connections();
    let mut by_path = HashMap::new();
    let mut gateways = Vec::new();
    for Upstream { gateway, path, url, authorization } in upstreams {
        gateways.push(Arc::clone(&gateway));
        let client = client(&url)?;
        let front = Front { gateway, client, url, authorization, sessions: Sessions::default() };
        by_path.insert(path, Arc::new(front));
    }
    let mut known: Vec<String> = hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect();
    known.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
    if let Ok(address) = listener.local_addr() {
        known.push(if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() });
    }
    let fronts = Arc::new(Fronts { by_path, hosts: known });

    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                continue;
            }
        };
        let _unlikely_to_fail = stream.set_nodelay(true);
        let fronts = Arc::clone(&fronts);
        let service = service_fn(move |request| answer(Arc::clone(&fronts), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), service);
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            // How a client left is its own affair.
            let _how_it_ended = watched.await;
        });
    }
    let _in_time = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    for gateway in gateways {
        gateway.finish().await;
    }
    Ok(())
}

/// A request takes two connections, and a process has by default only 1,024 of all kinds.
fn room_for_connections() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("only few connections can be open at a time: {error}");
    }
}

fn client(url: &Url) -> Result<reqwest::Client, HttpError> {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(30))
        // Many servers close a connection that is idle for five seconds, and a call that meets that is lost.
        .pool_idle_timeout(Duration::from_secs(2));
    let host = url.host_str().unwrap_or_default();
    let here = host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    Ok(if here { client.no_proxy() } else { client }.build()?)
}

async fn answer(fronts: Arc<Fronts>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    if let Err(refused) = fronts.welcome(request.headers()) {
        return Ok(json_answer(StatusCode::FORBIDDEN, words::error(None, -32_600, refused)));
    }
    let path = request.uri().path();
    let Some(front) = fronts.by_path.get(path.strip_suffix('/').unwrap_or(path)) else {
        let known: Vec<_> = fronts.by_path.keys().map(String::as_str).collect();
        let message = format!("nothing is here; there is {}", known.join(", "));
        return Ok(json_answer(StatusCode::NOT_FOUND, words::error(None, -32_600, &message)));
    };
    Ok(exchange::exchange(Arc::clone(front), request).await)
}

impl Fronts {
    /// Keeps out web pages that a browser has been talked into sending here under another name.
    fn welcome(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let known = |host: &str| self.hosts.iter().any(|known| known == host);
        let mut given = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (given.next().and_then(|host| host.to_str().ok()), given.next()) else {
            return Err("the request names no host");
        };
        if !known(&without_port(host)) {
            return Err("the gateway does not go by that Host; --allow-host adds one");
        }
        for origin in headers.get_all(header::ORIGIN) {
            let host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
            if !host.is_some_and(|host| known(&without_port(host))) {
                return Err("requests of that Origin are not taken; --allow-host adds its host");
            }
        }
        Ok(())
    }
}

fn without_port(host: &str) -> String {
    let port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let name = host.rsplit_once(':').filter(|(_, after)| port(after)).map_or(host, |(name, _)| name);
    name.to_ascii_lowercase()
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn json_answer(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(full(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_somewhere_else_is_kept_out() {
        let fronts = Fronts {
            by_path: HashMap::new(),
            hosts: vec!["localhost".into(), "[::1]".into(), "gw.example".into()],
        };
        let welcome = |host: &[&str], origin: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in host {
                headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
            }
            for origin in origin {
                headers.append(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            fronts.welcome(&headers).is_ok()
        };
        assert!(
            welcome(&["localhost:8080"], &[]) && welcome(&["[::1]:1"], &[]) && welcome(&["GW.example"], &[])
        );
        assert!(
            welcome(&["localhost"], &["http://localhost:6274"])
                && welcome(&["localhost"], &["https://gw.example"])
        );
        for (host, origin) in [
            (&[][..], &[][..]),
            (&["evil.example"], &[]),
            (&["localhost.evil.example"], &[]),
            (&["localhost", "evil.example"], &[]),
            (&["localhost"], &["http://evil.example"]),
            (&["localhost"], &["null"]),
            (&["localhost"], &["http://localhost", "http://evil.example"]),
            (&["localhost"], &["http://localhost@evil.example"]),
            (&["localhost"], &["http://localhost:80@evil.example"]),
        ] {
            assert!(!welcome(host, origin), "{host:?} {origin:?}");
        }
    }
}
