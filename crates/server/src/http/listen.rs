//! Accepting connections: limits, TLS, and a stop that answers what is under way.

use super::{Api, Shared};
use axum::body::Body;
use hyper::{Request, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use std::{
    convert::Infallible,
    io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;

/// How long a client may take for the TLS handshake.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take for the headers of a request, and so how long a connection may be idle. Longer
/// than clients keep idle connections, so that it is they who close and no request meets a closing connection.
const IDLE: Duration = Duration::from_secs(75);
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

/// Serves `app` on at most `connections` at a time until it is stopping, then answers what is under way, for at most ten
/// seconds.
pub async fn serve(listener: TcpListener, tls: Option<Tls>, app: Shared, connections: usize) {
    let (mut stop, api) = (app.stopping(), Api::new(app));
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(connections));
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
        let (api, watcher) = (api.clone(), graceful.watcher());
        match tls.as_ref().map(Tls::acceptor) {
            None => {
                tokio::spawn(async move {
                    speak(stream, api, watcher).await;
                    drop(place);
                });
            }
            Some(acceptor) => {
                tokio::spawn(async move {
                    if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                        speak(stream, api, watcher).await;
                    }
                    drop(place);
                });
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections did not end in time and were cut off");
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    api: Api,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let answer = api.clone().answer(request.map(Body::new));
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(30)));
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    // How a client left is its own affair.
    let _how_it_ended = watcher.watch(connection).await;
}
