//! Running the server: start, signals, stop.

use crate::{
    app::{App, Error},
    config::{Config, ConfigError},
    http::{self, Tls},
};
use secrecy::ExposeSecret as _;
use std::{net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// The server answers requests from now on.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Where.
    pub addr: SocketAddr,
    /// Whether with TLS.
    pub tls: bool,
    /// The first admin key, if it was just made: shown this once.
    pub new_admin_key: Option<String>,
    /// The data folder.
    pub data: PathBuf,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store or the policies cannot be used.
    #[error("{}", describe(.0))]
    App(Error),
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {0}: {1}; is another server running there? Choose another address with --listen"
    )]
    Listen(SocketAddr, std::io::Error),
    /// The certificate cannot be used.
    #[error("{0}")]
    Tls(String),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
}

fn describe(error: &Error) -> String {
    let Error::Policies(items) = error else { return error.to_string() };
    items.iter().fold("the policies do not compile:".to_owned(), |text, item| {
        format!("{text}\n  {}: {}: {}", item.subject, item.path, item.message)
    })
}

/// Serves until SIGTERM or SIGINT, then answers what is under way and closes the store. SIGHUP reads the
/// configuration again with `reload`; a wrong one changes nothing.
///
/// # Errors
/// When the server cannot start.
pub async fn run(
    config: Config,
    reload: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static,
    on_ready: impl FnOnce(&Ready),
) -> Result<(), RunError> {
    let tls = config.tls.clone().map(|t| Tls::load(t.cert, t.key)).transpose().map_err(RunError::Tls)?;
    let listener = TcpListener::bind(config.listen).await.map_err(|e| RunError::Listen(config.listen, e))?;
    let addr = listener.local_addr().map_err(|e| RunError::Listen(config.listen, e))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(RunError::Signals)?;

    let app = Arc::new(App::open(&config).await.map_err(RunError::App)?);
    let given = config.admin_key.as_ref().map(|key| key.expose_secret());
    let new_admin_key = app.ensure_admin_key(given).await.map_err(RunError::App)?;
    let served =
        tokio::spawn(http::serve(listener, tls.clone(), Arc::clone(&app), config.limits.connections));
    let upkeep = tokio::spawn(Arc::clone(&app).upkeep());
    on_ready(&Ready { addr, tls: tls.is_some(), new_admin_key, data: config.data.clone() });

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reconfigure(&app, &config, tls.as_ref(), &reload).await,
        }
    }
    tracing::info!("stopping: answering what is under way");
    app.stop_waiting();
    let _both_end = tokio::join!(served, upkeep);
    app.close().await;
    Ok(())
}

async fn reconfigure(
    app: &App,
    running: &Config,
    tls: Option<&Tls>,
    reload: &(impl Fn() -> Result<Config, ConfigError> + Send + Sync),
) {
    let next = match reload() {
        Ok(next) => next,
        Err(error) => {
            tracing::error!("the configuration was not reloaded, the one before stays in force: {error}");
            return;
        }
    };
    if let Err(error) = app.reload(&next).await {
        tracing::error!(
            "the configuration was not reloaded, the one before stays in force: {}",
            describe(&error)
        );
        return;
    }
    if let Some(Err(error)) = tls.map(Tls::reload) {
        tracing::error!("the certificate was not reloaded, the one before stays in use: {error}");
    }
    let settled = |c: &Config| {
        (
            c.listen,
            c.data.clone(),
            c.tls.clone(),
            c.public_url.clone(),
            c.limits.clone(),
            c.approvals.clone(),
            c.log.clone(),
        )
    };
    if settled(&next) != settled(running) {
        tracing::warn!("[server], [limits], [approvals] and [log] change only with a restart");
    }
    tracing::info!("the configuration was reloaded");
}
