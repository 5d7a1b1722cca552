//! The task itself: what it owns, and its rounds.

use super::{Dispatcher, Request, Setup, chance, example, stopped};
use crate::{
    feeder::{self, ToRecord},
    ledger::{Ledger, LedgerError},
    queue::{Effects, Queue},
    sink::{Failure, Retry},
};
use checkrein_core::{
    event::SinkHealth,
    signal::{Delivery, Groups, Outbox, OutboxChanges, Outgoing, Place, Signal, Standing},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

/// Signals that one round takes.
const BATCH: usize = 500;
/// The least time between two looks at what is new.
const GATHER: Duration = Duration::from_millis(50);
/// The longest time for one message. Sinks have shorter ones of their own.
const PATIENCE: Duration = Duration::from_secs(120);
/// What waits for a sink that is not set up, and the place of its feed, are kept so long: in seconds.
const ABSENT: i64 = 72 * 3600;
/// How often old rows are removed.
const TIDY: Duration = Duration::from_secs(60);

/// A message that was answered.
type Answered = (String, u64, Result<(), Failure>);

pub(super) struct Worker {
    ledger: Arc<dyn Ledger>,
    own: Dispatcher,
    record: ToRecord,
    setup: Setup,
    groups: Groups,
    queues: BTreeMap<String, Queue>,
    /// Messages of sinks that are not set up: they wait for one of that name.
    stranded: BTreeMap<String, Vec<Delivery>>,
    /// Sinks whose feed fails.
    feeds_failing: HashSet<String>,
    feeds: BTreeMap<String, tokio::task::AbortHandle>,
    feed_tasks: JoinSet<()>,
    routed: Place,
    last_no: u64,
    marks: BTreeMap<String, String>,
    /// Sinks whose feed has a place in the log, those that were removed a moment ago included.
    fed: HashSet<String>,
    /// What is still to be kept.
    pending: OutboxChanges,
    /// What is to go on record about sinks.
    news: VecDeque<(String, SinkHealth, String)>,
    flying: JoinSet<Answered>,
}

impl Worker {
    pub(super) fn new(ledger: Arc<dyn Ledger>, outbox: Outbox, own: Dispatcher, record: ToRecord) -> Self {
        let queued: HashSet<&str> =
            outbox.queued.iter().map(|d| d.notification.delivery_id.as_str()).collect();
        let mut groups = Groups::load(outbox.groups);
        groups.forget_unless(&queued);
        let mut stranded: BTreeMap<String, Vec<Delivery>> = BTreeMap::new();
        for delivery in outbox.queued {
            stranded.entry(delivery.sink.clone()).or_default().push(delivery);
        }
        let left = |name: &str| outbox.marks.get(&feeder::left_mark(name)).is_some_and(|at| !at.is_empty());
        let fed = outbox.marks.keys().filter_map(|mark| feeder::of_mark(mark)).filter(|name| !left(name));
        let fed = fed.map(str::to_owned).collect();
        Self {
            ledger,
            own,
            record,
            fed,
            setup: Setup::default(),
            groups,
            queues: BTreeMap::new(),
            stranded,
            feeds_failing: HashSet::new(),
            feeds: BTreeMap::new(),
            feed_tasks: JoinSet::new(),
            routed: outbox.routed,
            last_no: outbox.last_no,
            marks: outbox.marks,
            pending: OutboxChanges::default(),
            news: VecDeque::new(),
            flying: JoinSet::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        setup: Setup,
        mut requests: mpsc::UnboundedReceiver<Request>,
        mut stopping: watch::Receiver<bool>,
    ) {
        self.set_up(setup);
        let mut head = self.ledger.head();
        head.mark_changed();
        let mut tidy = tokio::time::interval(TIDY);
        tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut more = true;
        loop {
            // Before signals are read: a silence holds for whatever comes after it was answered.
            while let Ok(request) = requests.try_recv() {
                self.asked(request);
            }
            let now = self.ledger.now();
            if more {
                more = self.take_signals(now).await;
            }
            let wake = self.advance(now);
            let kept = self.keep().await;
            if kept {
                self.send(now);
            }
            self.report(now);
            let wait = match (kept, wake) {
                (false, _) => Duration::from_secs(1),
                (true, Some(at)) => until(now, at),
                (true, None) => TIDY,
            };
            tokio::select! {
                () = stopped(&mut stopping) => break,
                changed = head.changed(), if !more => {
                    if changed.is_err() {
                        break;
                    }
                    // What comes together is looked at together.
                    tokio::time::sleep(GATHER).await;
                    more = true;
                }
                Some(answered) = self.flying.join_next() => {
                    if let Ok(answered) = answered {
                        self.answered(answered);
                    }
                    while let Some(answered) = self.flying.try_join_next() {
                        if let Ok(answered) = answered {
                            self.answered(answered);
                        }
                    }
                }
                Some(request) = requests.recv() => self.asked(request),
                _ = tidy.tick() => {
                    self.pending.prune = self.setup.keep;
                    self.give_up_stranded(self.ledger.now());
                }
                () = tokio::time::sleep(wait), if !more => {}
                () = std::future::ready(()), if more => {}
            }
        }
        // Messages on their way are awaited for a moment: each that is noted is one that is not repeated.
        let landing = async {
            while let Some(answered) = self.flying.join_next().await {
                if let Ok(answered) = answered {
                    self.answered(answered);
                }
            }
        };
        let _late = tokio::time::timeout(Duration::from_secs(2), landing).await.is_err();
        self.keep().await;
    }

    /// Takes over a setup, at the start and when the configuration is read again.
    fn set_up(&mut self, mut setup: Setup) {
        setup.routing.sinks =
            setup.outlets.iter().filter(|(_, outlet)| outlet.signals).map(|(name, _)| name.clone()).collect();
        let gone: Vec<String> =
            self.queues.keys().filter(|name| !setup.outlets.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(queue) = self.queues.remove(&name) {
                if queue.failing() {
                    self.news.push_back((name.clone(), SinkHealth::Recovered, "it was removed".to_owned()));
                }
                self.stranded.insert(name, queue.into_waiting());
            }
        }
        let now = self.ledger.now();
        for (name, outlet) in &setup.outlets {
            match self.queues.get_mut(name) {
                Some(queue) => queue.set_pace(outlet.pace),
                None => {
                    let waiting = self.stranded.remove(name).unwrap_or_default();
                    let failing = self.marks.get(&failing_mark(name)).is_some_and(|mark| mark == "true");
                    self.queues.insert(name.clone(), Queue::new(outlet.pace, waiting, failing));
                }
            }
        }
        self.own.reports.retain(setup.outlets.keys());
        self.setup = setup;
        for (_, feed) in std::mem::take(&mut self.feeds) {
            feed.abort();
        }
        let mut gone = self.fed.clone();
        for (name, outlet) in &self.setup.outlets {
            if !outlet.actions || outlet.sink.feed_batch() == 0 {
                continue;
            }
            gone.remove(name);
            let left = self.marks.get(&feeder::left_mark(name)).and_then(|text| Timestamp::parse(text).ok());
            let feed = feeder::Feed {
                name: name.clone(),
                sink: Arc::clone(&outlet.sink),
                pace: outlet.pace,
                ledger: Arc::clone(&self.ledger),
                record: self.record,
                dispatcher: self.own.clone(),
                anew: left.is_some_and(|left| left.plus_seconds(ABSENT) <= now),
            };
            self.feeds.insert(name.clone(), self.feed_tasks.spawn(feed.run()));
            self.fed.insert(name.clone());
            self.marks.remove(&feeder::left_mark(name));
        }
        for name in gone {
            self.fed.remove(&name);
            self.own.reports.change(&name, |report| report.fed = None);
            self.mark(feeder::left_mark(&name), now.to_string());
        }
        while self.feed_tasks.try_join_next().is_some() {}
    }

    fn mark(&mut self, name: String, body: String) {
        self.marks.insert(name.clone(), body.clone());
        self.pending.marks.insert(name, body);
    }

    /// Gives up what waits for sinks that have not been set up for long.
    fn give_up_stranded(&mut self, now: Timestamp) {
        let mut given_up = Vec::new();
        for waiting in self.stranded.values_mut() {
            given_up.extend(waiting.extract_if(.., |d| d.queued_at.plus_seconds(ABSENT) <= now));
        }
        self.stranded.retain(|_, waiting| !waiting.is_empty());
        for mut delivery in given_up {
            (delivery.standing, delivery.settled_at) = (Standing::Dead, Some(now));
            delivery.error = Some(format!("no sink `{}` is set up any more", delivery.sink));
            let sink = delivery.sink.clone();
            self.affected(&sink, Effects { changed: vec![delivery], health: None });
        }
    }

    /// Routes what is new. Whether there may be more.
    async fn take_signals(&mut self, now: Timestamp) -> bool {
        match self.ledger.signals(self.routed, BATCH).await {
            Ok(found) => {
                for (place, signal) in &found {
                    self.groups.take(*place, signal, &self.setup.routing, now);
                    self.routed = *place;
                    self.pending.routed = Some(*place);
                }
                found.len() == BATCH
            }
            Err(error) => {
                tracing::error!(%error, "new signals cannot be read; trying again");
                false
            }
        }
    }

    /// Lets time pass: what is due goes into its queue. When to come back at the latest.
    fn advance(&mut self, now: Timestamp) -> Option<Timestamp> {
        let (due, wake) = self.groups.due(&self.setup.routing, now);
        for message in due {
            self.enqueue(message, now);
        }
        let queues = self.queues.values().filter_map(|queue| queue.wake(now));
        queues.chain(wake).min()
    }

    fn enqueue(&mut self, message: Outgoing, now: Timestamp) {
        let Outgoing { sink, condition, entries, mut notification } = message;
        self.ledger.prepare(&mut notification);
        self.last_no += 1;
        let delivery = Delivery {
            no: self.last_no,
            sink,
            standing: Standing::Queued,
            condition,
            entries,
            queued_at: now,
            attempts: 0,
            next_at: now,
            settled_at: None,
            error: None,
            notification,
        };
        self.push(delivery, now);
    }

    fn push(&mut self, delivery: Delivery, now: Timestamp) {
        let sink = delivery.sink.clone();
        match self.queues.get_mut(&sink) {
            Some(queue) => {
                let effects = queue.push(delivery, now);
                self.affected(&sink, effects);
            }
            None => {
                self.pending.deliveries.push(delivery.clone());
                self.stranded.entry(sink).or_default().push(delivery);
            }
        }
    }

    fn affected(&mut self, sink: &str, effects: Effects) {
        for delivery in effects.changed {
            if delivery.standing != Standing::Queued {
                self.groups.settled(&delivery.notification.delivery_id);
            }
            if delivery.standing == Standing::Dead {
                let why = delivery.error.as_deref().unwrap_or_default();
                tracing::error!(
                    sink,
                    id = delivery.notification.delivery_id,
                    "a message was given up: {why}"
                );
                self.own.reports.change(sink, |report| report.dead += 1);
            }
            self.pending.deliveries.push(delivery);
        }
        if let Some((health, reason)) = effects.health {
            self.news(sink, health, reason);
        }
    }

    /// Says how a sink is, unless its other half says otherwise.
    fn news(&mut self, sink: &str, health: SinkHealth, reason: String) {
        let failing = self.queues.get(sink).is_some_and(Queue::failing) || self.feeds_failing.contains(sink);
        if health == SinkHealth::Recovered && failing {
            return;
        }
        self.mark(failing_mark(sink), failing.to_string());
        if health == SinkHealth::Recovered {
            tracing::info!(sink, "the sink takes messages again");
        } else {
            tracing::warn!(sink, reason, ?health, "the sink has trouble");
        }
        self.news.push_back((sink.to_owned(), health, reason));
    }

    fn answered(&mut self, (sink, no, answer): Answered) {
        let now = self.ledger.now();
        self.own.reports.change(&sink, |report| match &answer {
            Ok(()) => {
                report.delivered += 1;
                report.last_delivered_at = Some(now);
            }
            Err(failure) => {
                report.failed += 1;
                report.last_error = Some((now, failure.reason.clone()));
            }
        });
        let Some(queue) = self.queues.get_mut(&sink) else { return };
        let effects = queue.answer(no, answer, now, chance());
        self.affected(&sink, effects);
    }

    fn asked(&mut self, request: Request) {
        match request {
            Request::Setup(setup) => self.set_up(*setup),
            Request::Silences(silences) => self.setup.routing.silences = silences,
            Request::Fed { sink, health, reason } => {
                // A feed says how it is with every batch; only a change is news.
                let changed = match health {
                    SinkHealth::Recovered => self.feeds_failing.remove(&sink),
                    SinkHealth::Failing => self.feeds_failing.insert(sink.clone()),
                    SinkHealth::Full | SinkHealth::Gap => true,
                };
                if changed {
                    self.news(&sink, health, reason);
                }
            }
            Request::Replay { dead, signal, sinks } => {
                let now = self.ledger.now();
                for mut delivery in dead {
                    (delivery.standing, delivery.settled_at, delivery.attempts) = (Standing::Queued, None, 0);
                    (delivery.queued_at, delivery.next_at) = (now, now);
                    self.push(delivery, now);
                }
                let (place, signal) = *signal;
                for sink in sinks {
                    let message = alone(place, &signal, sink, self.last_no + 1);
                    self.enqueue(message, now);
                }
            }
        }
    }

    /// Keeps what changed. Whether all of it is kept; what is not is tried again.
    async fn keep(&mut self) -> bool {
        while let Some((sink, health, reason)) = self.news.front() {
            match self.ledger.sink_changed(sink, *health, reason).await {
                Ok(()) => drop(self.news.pop_front()),
                Err(error) => return trouble(&error),
            }
        }
        self.pending.groups.extend(self.groups.changes());
        if self.pending.is_empty() {
            return true;
        }
        let changes = OutboxChanges {
            routed: self.pending.routed,
            groups: self.pending.groups.clone(),
            deliveries: self.pending.deliveries.clone(),
            marks: self.pending.marks.clone(),
            prune: self.pending.prune,
        };
        match self.ledger.keep(changes).await {
            Ok(()) => {
                self.pending = OutboxChanges::default();
                true
            }
            Err(error) => trouble(&error),
        }
    }

    /// Starts what can be started. All of it is in the outbox.
    fn send(&mut self, now: Timestamp) {
        let mut effects = Vec::new();
        for (name, queue) in &mut self.queues {
            let Some(outlet) = self.setup.outlets.get(name) else { continue };
            loop {
                let (next, changed) = queue.start(now);
                effects.push((name.clone(), changed));
                let Some(delivery) = next else { break };
                let (name, sink) = (name.clone(), Arc::clone(&outlet.sink));
                self.flying.spawn(async move {
                    let answer = tokio::time::timeout(PATIENCE, sink.notify(&delivery.notification)).await;
                    let late = |_| {
                        let reason = format!("no answer within {} s", PATIENCE.as_secs());
                        Err(Failure { retry: Retry::Later, reason })
                    };
                    (name, delivery.no, answer.unwrap_or_else(late))
                });
            }
        }
        for (name, effects) in effects {
            self.affected(&name, effects);
        }
    }

    fn report(&self, now: Timestamp) {
        for (name, queue) in &self.queues {
            self.own.reports.change(name, |report| {
                report.queued = queue.len() as u64;
                report.circuit = queue.circuit(now);
                report.failing = queue.failing() || self.feeds_failing.contains(name);
            });
        }
    }
}

fn trouble(error: &LedgerError) -> bool {
    tracing::error!(%error, "the outbox cannot be written; messages wait until it can");
    false
}

fn failing_mark(sink: &str) -> String {
    format!("failing/{sink}")
}

fn until(now: Timestamp, at: Timestamp) -> Duration {
    let micros = at.as_micros().saturating_sub(now.as_micros());
    // Not in a busy loop when the clock stands still, and not beyond what a timer takes.
    Duration::from_micros(u64::try_from(micros).unwrap_or(0)).clamp(Duration::from_millis(1), TIDY)
}

/// A message about one signal, outside of any group.
fn alone(place: Place, signal: &Signal, sink: String, no: u64) -> Outgoing {
    let key = format!("checkrein-replay-{}-{no}", place.id());
    Outgoing {
        sink,
        condition: signal.condition.clone(),
        entries: (place.seq, place.seq),
        notification: example(key.clone(), key, signal.clone()),
    }
}
