//! Delivers signals: one task that owns all groups and queues, and one short task for each message on its way.
//!
//! Each round takes what is new (signals, answers, requests), keeps the step, and only then sends: a message that a
//! receiver may have seen is in the outbox under its id, so a crash repeats it and loses nothing. The dispatcher
//! asks nothing of a check; it reads what the database shows anyway.

mod worker;

use crate::{feeder::ToRecord, ledger::Ledger, queue::Pace, report::Reports, sink::Sink};
use checkrein_core::{
    event::SinkHealth,
    signal::{Delivery, Notification, Outbox, OutboxLimits, Place, Routing, Signal, Silence, Status},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use worker::Worker;

/// A sink as the operator set it up.
#[derive(Clone)]
pub struct Outlet {
    /// Where to.
    pub sink: Arc<dyn Sink>,
    /// It takes signals.
    pub signals: bool,
    /// It takes the stream of all actions.
    pub actions: bool,
    /// How it is used.
    pub pace: Pace,
}

/// Everything that the operator can change while it runs.
#[derive(Clone, Default)]
pub struct Setup {
    /// Where signals go. Its `sinks` are overwritten with those that take signals.
    pub routing: Routing,
    /// By name.
    pub outlets: BTreeMap<String, Outlet>,
    /// What is kept of what is done with.
    pub keep: Option<OutboxLimits>,
}

/// What the dispatcher is asked for.
enum Request {
    Setup(Box<Setup>),
    Silences(Vec<Silence>),
    /// Send again: messages that were given up, and new ones.
    Replay {
        dead: Vec<Delivery>,
        signal: Box<(Place, Signal)>,
        sinks: Vec<String>,
    },
    /// The feed of a sink works, or does not.
    Fed {
        sink: String,
        health: SinkHealth,
        reason: String,
    },
}

/// The dispatcher, for everybody else. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher {
    requests: mpsc::UnboundedSender<Request>,
    reports: Reports,
}

impl Dispatcher {
    /// Goes on from where the last one stopped, until `stopping` turns true. `record` makes the records of the
    /// stream of all actions.
    pub fn start(
        ledger: Arc<dyn Ledger>,
        setup: Setup,
        record: ToRecord,
        stopping: watch::Receiver<bool>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (requests, received) = mpsc::unbounded_channel();
        let dispatcher = Self { requests, reports: Reports::default() };
        let own = dispatcher.clone();
        let task = tokio::spawn(async move {
            let Some(outbox) = load(&*ledger, stopping.clone()).await else { return };
            Worker::new(ledger, outbox, own, record).run(setup, received, stopping).await;
        });
        (dispatcher, task)
    }

    /// How each sink is.
    pub const fn reports(&self) -> &Reports {
        &self.reports
    }

    /// Goes on with another setup.
    pub fn change(&self, setup: Setup) {
        self.ask(Request::Setup(Box::new(setup)));
    }

    /// Goes on with these silences.
    pub fn silence(&self, silences: Vec<Silence>) {
        self.ask(Request::Silences(silences));
    }

    /// Sends a signal again: the `dead` messages as they are, and to each of `sinks` a message of its own.
    pub fn replay(&self, dead: Vec<Delivery>, signal: (Place, Signal), sinks: Vec<String>) {
        self.ask(Request::Replay { dead, signal: Box::new(signal), sinks });
    }

    pub(crate) fn fed(&self, sink: &str, health: SinkHealth, reason: String) {
        self.ask(Request::Fed { sink: sink.to_owned(), health, reason });
    }

    fn ask(&self, request: Request) {
        // Refused only when the server stops; what is not done then is done by nobody.
        let _stopped = self.requests.send(request);
    }
}

/// Waits until the server is to stop. An error means that nobody is left to say it, which is a stop as well.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _told = stopping.wait_for(|stop| *stop).await.is_ok();
}

async fn load(ledger: &dyn Ledger, mut stopping: watch::Receiver<bool>) -> Option<Outbox> {
    loop {
        match ledger.load().await {
            Ok(outbox) => return Some(outbox),
            Err(error) => tracing::error!(%error, "the outbox cannot be read; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stopped(&mut stopping) => return None,
        }
    }
}

/// A number from 0 to 1.
pub(crate) fn chance() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    // Seeded anew by the system for each: random enough for a pause.
    let random = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

/// A message of one signal.
pub(crate) fn example(delivery_id: String, dedup_key: String, signal: Signal) -> Notification {
    Notification {
        delivery_id,
        dedup_key,
        status: if signal.status == Status::Resolved { Status::Resolved } else { Status::Firing },
        severity: signal.severity,
        count: 1,
        first_at: signal.at,
        last_at: signal.at,
        signals: vec![signal],
        link: None,
    }
}
