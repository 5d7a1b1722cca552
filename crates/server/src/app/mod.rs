//! The application, without HTTP.

mod approvals;
mod audit;
mod checks;
mod commit;
mod counts;
mod drift;
mod error;
mod executions;
mod grants;
mod holds;
mod hooks;
mod keys;
mod life;
mod links;
mod locks;
pub(crate) mod oidc;
mod outbox;
mod policies;
pub(crate) mod pulse;
mod recent;
mod recovery;
mod results;
mod retention;
mod rollbacks;
mod rules;
mod samples;
mod seals;
mod shelf;
mod signals;
mod slack;
mod snapshots;
mod statements;
mod targets;
mod upkeep;
mod withdrawals;

pub use approvals::ApprovalQuery;
pub(crate) use audit::Audit;
pub use checks::{Answer, CheckQuery};
pub use error::{Error, Item};
pub use grants::GrantQuery;
pub use keys::{Caller, ENV_KEY_ID};
pub(crate) use life::{Life, Step};
pub use policies::Put;
pub use rules::Rules;
pub use signals::SignalQuery;
pub(crate) use slack::standing as in_words;
pub use snapshots::{Export, SnapshotQuery};
pub use targets::{Connected, Targets};

use crate::{
    clock::Clock,
    config::Config,
    metrics::{Format, Metrics},
};
use checkrein_core::{event::Event, policy::Windows, time::Timestamp};
use checkrein_signals::Dispatcher;
use checkrein_store::{EntryFilter, Options, Store};
use checkrein_targets::Progress;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, RwLock, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// Everything that the server knows and does.
pub struct App {
    store: Store,
    clock: Arc<Clock>,
    metrics: Metrics,
    /// Catalogue and policies in force: read on every check, swapped whole.
    rules: RwLock<Arc<Rules>>,
    /// What `rate_exceeds` counts. Locked only when a policy in force reads a rate.
    windows: Mutex<Windows>,
    /// What agents normally do, and their breakers.
    drift: Arc<drift::Drift>,
    keys: keys::Keys,
    recent: recent::RecentKeys,
    /// Calls of hooks that have had their answer.
    calls: hooks::Calls,
    /// Policy changes happen one after the other; each is built upon the one before.
    changing: tokio::sync::Mutex<()>,
    /// A change of policies may or may not be on record: what is in force must be read again.
    policies_in_doubt: AtomicBool,
    /// Holds are settled one after the other, so that one action never waits for two approvals.
    holding: tokio::sync::Mutex<()>,
    /// Counts changes to approvals, so that whoever waits for one looks again.
    approvals_changed: watch::Sender<u64>,
    /// True once the server is to stop: waits and streams end.
    stopping: watch::Sender<bool>,
    /// Where people reach this server, if somebody has said so.
    public_url: Option<String>,
    body_limit: usize,
    body_timeout: Duration,
    approval_life_seconds: i64,
    /// Makes and knows signed links.
    links: links::Signer,
    /// Slack's buttons, where they are set up.
    slack: Option<slack::Slack>,
    /// The provider that people sign in with, where there is one.
    oidc: RwLock<Option<Arc<oidc::Oidc>>>,
    /// Whether this server does TLS itself.
    over_tls: bool,
    keep_log_seconds: Option<i64>,
    /// The files of snapshots.
    shelf: shelf::Shelf,
    /// How long snapshots are kept.
    keeping: retention::Keeping,
    /// What happens once or one after the other: executions, changes of a snapshot, idempotency keys.
    locks: locks::Locks,
    /// How far rollbacks are, by snapshot.
    rolling: Mutex<HashMap<String, (String, Arc<Progress>)>>,
    /// Shows records that a held action would touch.
    samples: samples::Samples,
    /// The verification of the log.
    auditing: audit::Auditing,
    /// When this server began.
    started: Timestamp,
    /// Something may have to be settled by asking a target.
    look_again: Notify,
    /// Where signals and the stream of all actions leave.
    way_out: signals::WayOut,
    /// Delivers them.
    dispatching: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl App {
    /// Opens the store and puts the policies of `config` and of the store into force.
    ///
    /// # Errors
    /// When the store cannot be opened or the policies, taken together, do not compile.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        Self::on(Store::open(Options::new(&config.data))?, config).await
    }

    /// The same on a store that is open already.
    ///
    /// # Errors
    /// When the store cannot be read or the policies, taken together, do not compile.
    pub async fn on(store: Store, config: &Config) -> Result<Self, Error> {
        let head = store.head();
        let last = match head.seq {
            0 => Timestamp::default(),
            seq => store.entry(seq).await?.map(|e| e.at).unwrap_or_default(),
        };
        let clock = Arc::new(Clock::not_before(last));
        let rules = Rules::load(config, store.policies().await?)?;
        let keys = keys::Keys::load(store.keys().await?, config.limits.agent_checks_per_second)?;
        let recent = recent::RecentKeys::new(store.recent_idempotency_keys(recent::CAPACITY).await?);
        let started = clock.now();
        let drift = Arc::new(drift::Drift::open(&store, &config.drift, started).await?);
        let stopping = watch::Sender::new(false);
        let books = outbox::Books {
            store: store.clone(),
            clock: Arc::clone(&clock),
            public_url: config.public_url.clone(),
            redactor: Arc::clone(&config.redactor),
        };
        let setup = outbox::setup(config, store.silences(clock.now()).await?);
        let (dispatcher, dispatching) =
            Dispatcher::start(Arc::new(books), setup, checkrein_signals::feed::record, stopping.subscribe());
        let app = Self {
            drift,
            store,
            clock,
            metrics: Metrics::new(),
            rules: RwLock::new(Arc::new(rules)),
            windows: Mutex::default(),
            keys,
            recent,
            calls: hooks::Calls::default(),
            changing: tokio::sync::Mutex::default(),
            policies_in_doubt: AtomicBool::new(false),
            holding: tokio::sync::Mutex::default(),
            approvals_changed: watch::Sender::new(0),
            stopping,
            public_url: config.public_url.clone(),
            body_limit: config.limits.body_bytes,
            body_timeout: config.limits.request_timeout,
            approval_life_seconds: seconds(config.approvals.expire_after),
            links: links::Signer::open(&config.data)?,
            slack: config.approvals.slack.clone().map(slack::Slack::new).transpose()?,
            oidc: RwLock::new(oidc::open(config.oidc.as_ref())),
            over_tls: config.tls.is_some(),
            keep_log_seconds: config.log.keep_for.map(seconds),
            shelf: shelf::Shelf::open(&config.data, config.snapshots.encryption_key.clone())?,
            keeping: retention::Keeping::of(&config.snapshots),
            locks: locks::Locks::default(),
            rolling: Mutex::default(),
            samples: samples::Samples::new(Arc::clone(&config.redactor)),
            auditing: audit::Auditing::default(),
            started,
            look_again: Notify::new(),
            way_out: signals::WayOut::new(dispatcher, config),
            dispatching: Mutex::new(Some(dispatching)),
        };
        app.tidy_snapshots().await?;
        app.append(vec![
            Event::ServerStarted { version: env!("CARGO_PKG_VERSION").to_owned() },
            app.rules().loaded_event(),
        ])
        .await?;
        app.count_policies();
        app.warm_windows().await?;
        Ok(app)
    }

    /// Ends waits and streams; checks still under way are answered.
    pub fn stop_waiting(&self) {
        self.stopping.send_replace(true);
    }

    /// Turns true when the server is to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Puts the stop on record and closes the store. Nothing can be recorded afterwards.
    pub async fn close(&self) {
        self.land().await;
        let dispatching = self.dispatching.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(dispatching) = dispatching {
            self.stop_waiting();
            // A panic in it was reported by the runtime already.
            let _ended = dispatching.await;
        }
        if let Err(error) = self.keep_all().await {
            tracing::error!(%error, "what agents did last is not part of what they normally do");
        }
        if let Err(error) = self.append(vec![Event::ServerStopped {}]).await {
            tracing::error!(%error, "the stop could not be recorded");
        }
        self.store.close().await;
    }

    /// The action log and what derives from it.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Where people reach this server, if somebody has said so.
    pub(crate) fn public_url(&self) -> Option<&str> {
        self.public_url.as_deref()
    }

    /// Whether this server does TLS itself.
    pub(crate) const fn over_tls(&self) -> bool {
        self.over_tls
    }

    /// The time that decisions are made at.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The largest body of a request, in bytes.
    pub(crate) const fn body_limit(&self) -> usize {
        self.body_limit
    }

    /// How long a request's body may take to arrive.
    pub(crate) const fn body_timeout(&self) -> Duration {
        self.body_timeout
    }

    /// What the server counts about itself.
    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The metrics as text.
    pub(crate) fn metrics_text(&self, format: Format) -> String {
        let head = self.store.head().seq;
        self.metrics.sinks.update(&self.way_out.dispatcher.reports().all(), head);
        self.metrics.drift.update(&self.open_breakers().breakers);
        self.metrics.text(format, head, self.clock.ahead_seconds())
    }

    /// Whether a check could be recorded now.
    ///
    /// # Errors
    /// When the store cannot be read or written, or the server is stopping.
    pub async fn ready(&self) -> Result<(), Error> {
        if *self.stopping.borrow() {
            return Err(Error::Stopping);
        }
        self.store.entries(self.store.head().seq, 1, EntryFilter::default()).await?;
        Ok(self.store.writable()?)
    }

    /// The systems that it is connected to, as the configuration in force lists them.
    pub fn targets(&self) -> Arc<Targets> {
        Arc::clone(&self.rules().targets)
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn put_in_force(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(rules);
        self.count_policies();
    }

    fn count_policies(&self) {
        let in_force = self.rules().policies.policies().len();
        self.metrics.policies.set(i64::try_from(in_force).unwrap_or(i64::MAX));
    }

    /// Puts `events` on record, durably, all or none.
    async fn append(&self, events: Vec<Event>) -> Result<(), Error> {
        let touches_approvals =
            events.iter().any(|e| matches!(e, Event::ApprovalRequested(_) | Event::ApprovalChanged { .. }));
        let changes = drift::changes(&events);
        self.store.append(events, self.clock.now()).await?;
        self.drift.recorded(&changes);
        if touches_approvals {
            self.approvals_changed.send_modify(|n| *n += 1);
        }
        Ok(())
    }
}

/// Runs `work` to its end even if whoever asked for it leaves, which drops the request wherever it waits:
/// what is on record must also happen.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    // Only a panic in `work` ends it early.
    tokio::spawn(work)
        .await
        .map_err(|_| Error::NotRecorded("the server failed on this request".to_owned()))?
}

/// 256 random bits, in hexadecimal.
pub(crate) fn random() -> Result<String, Error> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| {
        Error::NotRecorded(format!("this machine gives no random numbers for a session: {e}"))
    })?;
    Ok(checkrein_core::fingerprint::hex(&bytes))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
