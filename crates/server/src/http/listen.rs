//! Accepting connections: limits, TLS, and a stop that answers what is under way.

use super::places::{Place, Places};
use axum::{
    body::{Body, HttpBody as _},
    response::Response,
};
use hyper::{Request, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use std::{
    convert::Infallible,
    io,
    path::PathBuf,
    pin::{Pin, pin},
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Sleep,
};
use tokio_rustls::TlsAcceptor;

/// How long a client may take for the TLS handshake.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take for the headers of a request, and so how long a connection may be idle. Longer
/// than clients keep idle connections, so that it is they who close and no request meets a closing connection.
const IDLE: Duration = Duration::from_secs(75);
/// How long an idle connection may take to end where its place is wanted.
const LEAVE: Duration = Duration::from_secs(1);
/// How long a stop waits for answers that are under way.
const DRAIN: Duration = Duration::from_secs(10);

/// A certificate that can be exchanged while the server runs.
#[derive(Clone)]
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    current: Arc<RwLock<TlsAcceptor>>,
}

impl Tls {
    /// Reads the certificate chain and key, both PEM.
    ///
    /// # Errors
    /// When they cannot be read or do not fit each other.
    pub fn load(cert: PathBuf, key: PathBuf) -> Result<Self, String> {
        let acceptor = acceptor(&cert, &key)?;
        Ok(Self { cert, key, current: Arc::new(RwLock::new(acceptor)) })
    }

    /// Reads the files again. New connections use what they hold now.
    ///
    /// # Errors
    /// When they cannot be read or do not fit each other; the ones before stay in use.
    pub fn reload(&self) -> Result<(), String> {
        let acceptor = acceptor(&self.cert, &self.key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
        Ok(())
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn acceptor(cert: &std::path::Path, key: &std::path::Path) -> Result<TlsAcceptor, String> {
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let say = |what: &str, path: &std::path::Path, e: &dyn std::fmt::Display| {
        format!("[server] tls: the {what} {} cannot be used: {e}", path.display())
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| say("certificate", cert, &e))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| say("key", key, &e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| say("certificate", cert, &e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Answers requests, many at once.
pub(super) trait Answer: Clone + Send + Sync + 'static {
    fn answer(self, request: axum::extract::Request) -> impl Future<Output = Response> + Send + 'static;
}

/// Serves what `answer` answers until `stop` turns true, then answers what is under way, for at most ten seconds.
pub(super) async fn serve<A: Answer>(
    listener: TcpListener,
    tls: Option<Tls>,
    answer: A,
    connections: usize,
    mut stop: watch::Receiver<bool>,
) {
    let places = Places::new(connections);
    loop {
        // Also while every place is taken: those who hold them may never leave by themselves.
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the client was gone at once. Waiting lets the first one heal.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                continue;
            }
        };
        let _unlikely_to_fail = stream.set_nodelay(true);
        let (answer, stop) = (answer.clone(), stop.clone());
        match tls.as_ref().map(Tls::acceptor) {
            None => {
                tokio::spawn(speak(stream, answer, place, stop, IDLE));
            }
            Some(acceptor) => {
                tokio::spawn(async move {
                    let encrypted = tokio::select! {
                        encrypted = tokio::time::timeout(PATIENCE, acceptor.accept(stream)) => encrypted,
                        () = place.wanted() => return,
                    };
                    if let Ok(Ok(stream)) = encrypted {
                        speak(stream, answer, place, stop, IDLE).await;
                    }
                });
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, places.all_free()).await.is_err() {
        tracing::warn!("some connections did not end in time and were cut off");
    }
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Places>) -> io::Result<(TcpStream, Place)> {
    let (stream, _) = listener.accept().await?;
    let place = places.take().await.ok_or_else(|| io::Error::other("no place is left"))?;
    Ok((stream, place))
}

/// Serves one connection until it ends, the server stops or the place is wanted while nothing is asked.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answer: impl Answer,
    place: Place,
    mut stop: watch::Receiver<bool>,
    idle: Duration,
) {
    let ledger = place.ledger();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let task = ledger.begin();
        let answer = answer.clone().answer(request.map(Body::new));
        async move {
            let answer = answer.await;
            if answer.body().size_hint().exact().is_none() {
                task.goes_on();
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(idle);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(30)));
    let stream = Prompt { stream, missing: PREFACE, patience: Box::pin(tokio::time::sleep(idle)) };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // How a client left is its own affair.
    let wanted = tokio::select! {
        _how_it_ended = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => false,
        () = place.wanted() => true,
    };
    if wanted && !place.guest().was_heard() {
        return;
    }
    connection.as_mut().graceful_shutdown();
    if wanted && tokio::time::timeout(LEAVE, connection.as_mut()).await.is_err() && !place.guest().is_busy() {
        return;
    }
    let _how_it_ended = connection.await;
}

/// Bytes by which hyper tells HTTP/2 from HTTP/1.
const PREFACE: usize = 24;

/// A connection whose first bytes come in time, or it ends. Until hyper knows which HTTP is spoken it
/// looks at no clock, and whoever said nothing would keep a place for ever.
struct Prompt<S> {
    stream: S,
    missing: usize,
    patience: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Prompt<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.missing > 0 && self.patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let came = buffer.filled().len() - before;
        self.missing = self.missing.saturating_sub(came);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prompt<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, routing::get};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tower::ServiceExt as _;

    impl Answer for Router {
        fn answer(self, request: axum::extract::Request) -> impl Future<Output = Response> + Send + 'static {
            let answer = self.oneshot(request);
            async { answer.await.unwrap() }
        }
    }

    fn router() -> Router {
        let waits = || std::future::pending::<&'static str>();
        Router::new().route("/", get(|| async { "hello" })).route("/waits", get(waits))
    }

    /// Whether the server has let go of a client that sends `bytes` and no more, after a while.
    async fn is_over(bytes: &[u8], patience: Duration) -> bool {
        let (mut client, server) = tokio::io::duplex(1_024);
        client.write_all(bytes).await.unwrap();
        let place = Places::new(1).take().await.unwrap();
        let (_running, stop) = watch::channel(false);
        let idle = Duration::from_millis(50);
        tokio::time::timeout(patience, speak(server, router(), place, stop, idle)).await.is_ok()
    }

    #[tokio::test]
    async fn who_begins_and_says_no_more_keeps_no_place() {
        for bytes in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"POST /v1/checks", b"GET / HTTP/1.1\r\nX: y"] {
            let said = String::from_utf8_lossy(bytes).into_owned();
            assert!(is_over(bytes, Duration::from_secs(60)).await, "{said:?}: still there after a minute");
        }
        assert!(!is_over(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n", Duration::from_millis(500)).await);
    }

    #[tokio::test]
    async fn who_is_idle_makes_room_and_who_waits_for_an_answer_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, None, router(), 3, stopping));
        let connect = || async { TcpStream::connect(address).await.unwrap() };
        let read = |mut stream: TcpStream| async move {
            let mut all = Vec::new();
            let _reset = stream.read_to_end(&mut all).await;
            String::from_utf8_lossy(&all).into_owned()
        };
        let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
        let mut waiting = connect().await;
        waiting.write_all(&ask("/waits")).await.unwrap();
        // Everybody after that wants one of two places: those who said nothing, half of something, or are served.
        let mut all = Vec::new();
        for round in 0..8 {
            let mut idle = connect().await;
            idle.write_all([&b"PRI"[..], b"GET / HT", b""][round % 3]).await.unwrap();
            all.push(idle);
            let mut served = connect().await;
            served.write_all(&ask("/")).await.unwrap();
            let mut first = [0; 15];
            let answered = tokio::time::timeout(Duration::from_secs(60), served.read_exact(&mut first)).await;
            assert!(answered.is_ok_and(|read| read.is_ok()), "no answer within a minute in round {round}");
            assert_eq!(&first, b"HTTP/1.1 200 OK");
            all.push(served);
        }
        assert_eq!(read(all.remove(0)).await, "");
        let mut nothing = [0; 1];
        let closed = tokio::time::timeout(Duration::from_millis(200), waiting.read(&mut nothing)).await;
        assert!(closed.is_err(), "who waits for an answer was sent away");
        drop((waiting, all));
        stop.send(true).unwrap();
        serving.await.unwrap();
    }
}
