//! What a sink is: a system of others that takes messages.

use async_trait::async_trait;
use checkrein_core::{signal::Notification, time::Timestamp};
use serde_json::Value;
use std::time::Duration;

/// One action of the second feed, the stream of all actions, as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The number of its log entry: the same however often it is sent.
    pub seq: u64,
    /// When it was put on record.
    pub at: Timestamp,
    /// `check`, `outcome`, `approval.changed`, …
    pub kind: &'static str,
    /// The entry for readers outside: flat where it can be, redacted, an object.
    pub body: Value,
}

/// When a failed delivery may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After the dispatcher's own pause.
    Later,
    /// The same, but the receiver answers: it says that a setting is wrong, or minds this message alone. The others are tried.
    Refused,
    /// Not before this time has passed: the receiver said so.
    After(Duration),
    /// Never: the receiver understood the message and refused it. It becomes a dead letter.
    Never,
}

/// A delivery that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// Whether to try again.
    pub retry: Retry,
    /// Cause and next step, for a person. Holds no secret, also where the receiver echoed one.
    pub reason: String,
}

/// A system of others that takes messages. Implementations hold no queue: who calls keeps what is not delivered.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Delivers one message. `Ok` only when the receiver has durably taken it, as far as its protocol can say.
    ///
    /// # Errors
    /// With whether to try again. A repeat carries the same `delivery_id`.
    async fn notify(&self, message: &Notification) -> Result<(), Failure>;

    /// The most [`Record`]s of one [`Sink::feed`]; 0 when it does not take the stream of all actions.
    fn feed_batch(&self) -> usize {
        0
    }

    /// Delivers records of the stream of all actions, in order; all of them or none, as far as the protocol can say.
    ///
    /// # Errors
    /// As [`Sink::notify`].
    async fn feed(&self, records: &[Record]) -> Result<(), Failure> {
        let _none = records;
        Err(Failure {
            retry: Retry::Never,
            reason: "this kind of sink takes signals only; set `feed = \"signals\"`".to_owned(),
        })
    }
}
