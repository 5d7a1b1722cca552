//! What the dispatcher stands on: somebody who keeps things durably and knows the time.

use crate::sink::Record;
use async_trait::async_trait;
use checkrein_core::{
    event::{Entry, SinkHealth},
    signal::{Notification, Outbox, OutboxChanges, Place, Signal},
    time::Timestamp,
};
use tokio::sync::watch;

/// Why something could not be kept or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LedgerError(pub String);

/// Who keeps the outbox. All of it is away from the path of a check.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// What there was when the server stopped.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn load(&self) -> Result<Outbox, LedgerError>;

    /// At most `limit` signals after `after`, in order.
    ///
    /// # Errors
    /// When they cannot be read.
    async fn signals(&self, after: Place, limit: usize) -> Result<Vec<(Place, Signal)>, LedgerError>;

    /// At most `limit` entries of the log after `after`, in order, and the last entry that retention removed.
    ///
    /// # Errors
    /// When they cannot be read.
    async fn entries(&self, after: u64, limit: usize) -> Result<(u64, Vec<Entry>), LedgerError>;

    /// Keeps a step: all of it, or nothing. It survives a kill of the process when this returns.
    ///
    /// # Errors
    /// When it could not be kept.
    async fn keep(&self, changes: OutboxChanges) -> Result<(), LedgerError>;

    /// Puts on record how a sink is.
    ///
    /// # Errors
    /// When it could not be recorded.
    async fn sink_changed(&self, sink: &str, health: SinkHealth, reason: &str) -> Result<(), LedgerError>;

    /// Makes a message fit to leave: redacts it and adds the link.
    fn prepare(&self, message: &mut Notification);

    /// Makes a record fit to leave: redacts it.
    fn prepare_record(&self, record: &mut Record);

    /// The number of the last entry of the log that the reads above can give, as it grows.
    fn head(&self) -> watch::Receiver<u64>;

    /// The time.
    fn now(&self) -> Timestamp;
}
