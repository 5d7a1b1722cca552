//! The stream of all actions: for each sink that takes it, a place in the log that moves on as records arrive.
//!
//! The log is the queue: nothing is stored twice, and a sink that is down for long costs no room. What retention
//! removes before it was sent is counted, and said.

use crate::{
    dispatcher::{Dispatcher, chance},
    ledger::{Ledger, LedgerError},
    queue::{PUT_OFF, Pace},
    sink::{Failure, Record, Retry, Sink},
};
use checkrein_core::{
    event::{Entry, SinkHealth},
    signal::OutboxChanges,
};
use std::{sync::Arc, time::Duration};

/// Makes the record of an entry; none for entries that are nobody's business outside.
pub type ToRecord = fn(&Entry) -> Option<Record>;

/// Failures in a row after which the sink counts as failing.
const FAILURES: u32 = 5;
/// The least time between two looks at the log.
const GATHER: Duration = Duration::from_millis(200);
/// The longest time for one batch.
const PATIENCE: Duration = Duration::from_secs(120);

/// The feed of one sink.
pub(crate) struct Feed {
    pub(crate) name: String,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) pace: Pace,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) record: ToRecord,
    pub(crate) dispatcher: Dispatcher,
    /// It was away for long: it begins with what is new.
    pub(crate) anew: bool,
}

/// How far the feed `sink` is.
fn mark(sink: &str) -> String {
    format!("{FED}{sink}")
}

const FED: &str = "fed/";

/// The sink whose place a mark is.
pub(crate) fn of_mark(mark: &str) -> Option<&str> {
    mark.strip_prefix(FED)
}

/// Since when a sink is not fed any more; empty where it is.
pub(crate) fn left_mark(sink: &str) -> String {
    format!("left/{sink}")
}

impl Feed {
    /// Runs until it is aborted. That is safe at any point: what was sent and not noted is sent again.
    pub(crate) async fn run(self) {
        let mut head = self.ledger.head();
        let now = *head.borrow_and_update();
        let mut done = self.begin(now).await;
        loop {
            match self.ledger.entries(done, self.sink.feed_batch().max(1)).await {
                Ok((_, entries)) if entries.is_empty() => {
                    if head.changed().await.is_err() {
                        return;
                    }
                    tokio::time::sleep(GATHER).await;
                }
                Ok((base, entries)) => done = self.pass(done, base, &entries).await,
                Err(error) => self.trouble(&error).await,
            }
        }
    }

    /// Where it goes on; a new one begins with what is new.
    async fn begin(&self, head: u64) -> u64 {
        loop {
            match self.ledger.load().await {
                Ok(outbox) => {
                    let done = outbox.marks.get(&mark(&self.name)).and_then(|text| text.parse().ok());
                    let done = done.filter(|_| !self.anew).unwrap_or(head);
                    self.note(done).await;
                    return done;
                }
                Err(error) => self.trouble(&error).await,
            }
        }
    }

    async fn trouble(&self, error: &LedgerError) {
        tracing::error!(%error, sink = self.name, "the log cannot be read for this sink; trying again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// Sends entries, until they have arrived or were refused for good. The last one that is done with.
    async fn pass(&self, done: u64, base: u64, entries: &[Entry]) -> u64 {
        if base > done {
            let lost = base - done;
            self.dispatcher.reports().change(&self.name, |report| report.lost += lost);
            let reason =
                format!("retention removed {lost} entries before they were sent; raise log.keep_for");
            self.dispatcher.fed(&self.name, SinkHealth::Gap, reason);
        }
        let mut records: Vec<Record> = entries.iter().filter_map(self.record).collect();
        records.iter_mut().for_each(|record| self.ledger.prepare_record(record));
        let last = entries.last().map_or(done, |entry| entry.seq);
        let mut todo = vec![records];
        while let Some(mut records) = todo.pop() {
            let Some(reason) = self.deliver(&records).await else { continue };
            if records.len() > 1 {
                // One of them is to blame; the others are to arrive.
                let rest = records.split_off(records.len() / 2);
                todo.extend([rest, records]);
                continue;
            }
            self.dispatcher.reports().change(&self.name, |report| report.lost += 1);
            let seq = records.first().map(|record| record.seq).unwrap_or_default();
            let reason = format!("it refused entry {seq} of the log for good: {reason}");
            self.dispatcher.fed(&self.name, SinkHealth::Failing, reason);
        }
        self.note(last).await;
        last
    }

    /// Sends a batch until it has arrived; why, where it was refused for good.
    async fn deliver(&self, records: &[Record]) -> Option<String> {
        if records.is_empty() {
            return None;
        }
        let mut failures = 0_u32;
        let began = self.ledger.now();
        loop {
            let late = || Failure {
                retry: Retry::Later,
                reason: format!("no answer within {} s", PATIENCE.as_secs()),
            };
            let sent = tokio::time::timeout(PATIENCE, self.sink.feed(records)).await;
            let now = self.ledger.now();
            let failure = match sent.unwrap_or_else(|_| Err(late())) {
                Ok(()) => {
                    self.dispatcher.reports().change(&self.name, |report| {
                        report.records += records.len() as u64;
                        report.last_delivered_at = Some(now);
                    });
                    self.dispatcher.fed(&self.name, SinkHealth::Recovered, String::new());
                    return None;
                }
                Err(failure) => failure,
            };
            self.dispatcher.reports().change(&self.name, |report| {
                report.failed += 1;
                report.last_error = Some((now, failure.reason.clone()));
            });
            let pause = match failure.retry {
                Retry::Never => return Some(failure.reason),
                Retry::After(pause) => {
                    if began.plus_seconds(PUT_OFF) <= now {
                        self.dispatcher.fed(&self.name, SinkHealth::Failing, failure.reason);
                    }
                    pause.min(Duration::from_secs(3600))
                }
                Retry::Later | Retry::Refused => {
                    failures = failures.saturating_add(1);
                    if failures == FAILURES {
                        self.dispatcher.fed(&self.name, SinkHealth::Failing, failure.reason);
                    }
                    let doubled = 2_u32.saturating_pow((failures - 1).min(30));
                    let whole = self.pace.first_pause.saturating_mul(doubled).min(self.pace.longest_pause);
                    whole.mul_f64(0.5 + chance() / 2.0)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn note(&self, done: u64) {
        let changes = OutboxChanges {
            // Both at once: after a crash, too, it is either away or has its place.
            marks: [(mark(&self.name), done.to_string()), (left_mark(&self.name), String::new())].into(),
            ..OutboxChanges::default()
        };
        match self.ledger.keep(changes).await {
            Ok(()) => self.dispatcher.reports().change(&self.name, |report| report.fed = Some(done)),
            Err(error) => self.trouble(&error).await,
        }
    }
}
