//! What the dispatcher of signals stands on here: the store and the clock.

use crate::{
    clock::Clock,
    config::{Config, SinkSettings},
};
use async_trait::async_trait;
use checkrein_core::{
    event::{Entry, Event, SinkHealth},
    redact::Redactor,
    signal::{Notification, Outbox, OutboxChanges, Place, Signal, Silence},
    time::Timestamp,
};
use checkrein_signals::{Ledger, LedgerError, Outlet, Setup, sink::Record};
use checkrein_store::Store;
use std::sync::Arc;
use tokio::sync::watch;

/// The store, as the dispatcher uses it.
pub(super) struct Books {
    pub(super) store: Store,
    pub(super) clock: Arc<Clock>,
    pub(super) public_url: Option<String>,
    pub(super) redactor: Arc<Redactor>,
}

fn failed(error: &impl std::fmt::Display) -> LedgerError {
    LedgerError(error.to_string())
}

#[async_trait]
impl Ledger for Books {
    async fn load(&self) -> Result<Outbox, LedgerError> {
        self.store.outbox().await.map_err(|e| failed(&e))
    }

    async fn signals(&self, after: Place, limit: usize) -> Result<Vec<(Place, Signal)>, LedgerError> {
        self.store.signals_after(after, limit).await.map_err(|e| failed(&e))
    }

    async fn entries(&self, after: u64, limit: usize) -> Result<(u64, Vec<Entry>), LedgerError> {
        self.store.entries_behind(after, limit).await.map_err(|e| failed(&e))
    }

    async fn keep(&self, changes: OutboxChanges) -> Result<(), LedgerError> {
        self.store.keep_outbox(changes).await.map_err(|e| failed(&e))
    }

    async fn sink_changed(&self, sink: &str, health: SinkHealth, reason: &str) -> Result<(), LedgerError> {
        let event = Event::SinkChanged { sink: sink.to_owned(), health, reason: reason.to_owned() };
        self.store.append(vec![event], self.clock.now()).await.map(drop).map_err(|e| failed(&e))
    }

    fn prepare(&self, message: &mut Notification) {
        message.link = self.public_url.as_ref().map(|base| format!("{base}{}", page(message)));
        self.redactor.notification(message);
    }

    fn prepare_record(&self, record: &mut Record) {
        self.redactor.value(&mut record.body);
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.store.subscribe_shown()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// What the configuration and the silences on record say.
pub(super) fn setup(config: &Config, silences: Vec<Silence>) -> Setup {
    let mut routing = config.routing.clone();
    routing.silences.extend(silences);
    let outlet = |settings: &SinkSettings| Outlet {
        sink: Arc::clone(&settings.sink),
        signals: settings.signals,
        actions: settings.actions,
        pace: settings.pace,
    };
    Setup {
        routing,
        outlets: config.sinks.iter().map(|sink| (sink.name.clone(), outlet(sink))).collect(),
        keep: Some(config.outbox),
    }
}

/// The page of the console on which a person sees more of what a message is about. Ids are ours, and plain.
fn page(message: &Notification) -> String {
    let Some(signal) = message.signals.first() else { return String::new() };
    let place = |folder: &str, id: &Option<String>| id.as_ref().map(|id| format!("/{folder}/{id}"));
    place("approvals", &signal.approval_id)
        .or_else(|| place("snapshots", &signal.snapshot_id).filter(|_| signal.rollback_id.is_some()))
        .or_else(|| place("actions", &signal.check_id))
        .or_else(|| place("snapshots", &signal.snapshot_id))
        .unwrap_or_default()
}
