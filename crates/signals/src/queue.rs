//! The messages that wait for one sink: order, pauses, the circuit, and when to give up. Pure: it is given the time.
//!
//! ```text
//! closed ── 5 failures in a row ──► open ── its pause is over ──► probing ── it worked ──► closed, all at once
//!                                    ▲                                │
//!                                    └───────── it failed ────────────┘
//! ```
//! Messages go out in the order in which they came, but one that failed alone does not keep the others waiting.
//! While the circuit is open only the oldest is tried, so that after an outage all follow in order.

#[cfg(test)]
mod tests;

use crate::sink::{Failure, Retry};
use checkrein_core::{
    event::SinkHealth,
    signal::{Delivery, Standing},
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Failures in a row that open the circuit.
const FAILURES: u32 = 5;
/// A sink that says for so long that it wants no more yet counts as failing, however politely: in seconds.
pub(crate) const PUT_OFF: i64 = 900;

/// Attempts after which a message behind an open circuit is suspected to be the cause, and another one is tried
/// first: about an hour and a half of them.
const SUSPECT: u32 = 24;

/// How a sink is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Messages on their way at a time. With one, they arrive in order.
    pub concurrency: usize,
    /// The pause after a first failure; twice as long after each further one.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// A message is given up when it is this old.
    pub give_up_after: Duration,
    /// Messages that wait, at most.
    pub queue: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            concurrency: 1,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(300),
            give_up_after: Duration::from_secs(72 * 3600),
            queue: 2_000,
        }
    }
}

/// Whether a sink is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Circuit {
    /// As usual.
    #[default]
    Closed,
    /// Not before its pause is over.
    Open,
    /// With one message.
    Probing,
}

impl Circuit {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probing => "probing",
        }
    }
}

/// What an answer, or a new message, means for others.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    /// Messages that stand otherwise now.
    pub changed: Vec<Delivery>,
    /// The sink is otherwise now, and why.
    pub health: Option<(SinkHealth, String)>,
}

/// The queue of one sink.
#[derive(Debug, Default)]
pub struct Queue {
    pace: Pace,
    waiting: BTreeMap<u64, Delivery>,
    flying: BTreeSet<u64>,
    failures: u32,
    /// Refusals in a row. They do not open the circuit: one message that a firewall dislikes keeps no other from its way.
    refusals: u32,
    /// Nothing is tried before this.
    paused_until: Option<Timestamp>,
    /// Since when it only says that it wants no more yet.
    put_off_since: Option<Timestamp>,
    /// The sink counts as failing.
    failing: bool,
    /// Messages were given up for want of room, and none was delivered since.
    full: bool,
}

impl Queue {
    /// With what waited when the server stopped.
    pub fn new(pace: Pace, waiting: Vec<Delivery>, failing: bool) -> Self {
        let waiting = waiting.into_iter().map(|delivery| (delivery.no, delivery)).collect();
        // One that failed before is tried with one message first, the oldest, so that the order stays.
        let failures = if failing { FAILURES } else { 0 };
        Self { pace, waiting, failing, failures, ..Self::default() }
    }

    /// Goes on at another pace. A sink behind an open circuit is tried at once: it may be what was mended.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
        if std::mem::take(&mut self.refusals) > 0 {
            self.paused_until = None;
            for waiting in self.waiting.values_mut() {
                waiting.next_at = waiting.queued_at;
            }
        }
        if self.failures >= FAILURES {
            self.paused_until = None;
        }
    }

    /// Messages that wait or are on their way.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What waits, also what is on its way: nobody hears how that ends.
    pub fn into_waiting(self) -> Vec<Delivery> {
        self.waiting.into_values().collect()
    }

    /// Messages on their way.
    pub fn flying(&self) -> usize {
        self.flying.len()
    }

    /// Whether the sink counts as failing.
    pub const fn failing(&self) -> bool {
        self.failing
    }

    /// Whether the sink is tried at `now`.
    pub fn circuit(&self, now: Timestamp) -> Circuit {
        match (self.failures >= FAILURES, self.paused_until) {
            (false, _) => Circuit::Closed,
            (true, Some(until)) if now < until => Circuit::Open,
            (true, _) => Circuit::Probing,
        }
    }

    /// Adds a message. Where there is no room, the least severe is given up, of those the oldest; one that is on
    /// its way stays.
    pub fn push(&mut self, delivery: Delivery, now: Timestamp) -> Effects {
        let mut effects = Effects { changed: vec![delivery.clone()], health: None };
        self.waiting.insert(delivery.no, delivery);
        while self.waiting.len() > self.pace.queue {
            let least = self
                .waiting
                .values()
                .filter(|d| !self.flying.contains(&d.no))
                .min_by_key(|d| (d.notification.severity, d.no))
                .map(|d| d.no);
            let Some(mut lost) = least.and_then(|no| self.waiting.remove(&no)) else { break };
            bury(&mut lost, now, "there was no room for it: too many messages waited for this sink");
            effects.changed.retain(|d| d.no != lost.no);
            effects.changed.push(lost);
            if !std::mem::replace(&mut self.full, true) {
                let reason = format!("over {} messages wait; the least severe are given up", self.pace.queue);
                effects.health = Some((SinkHealth::Full, reason));
            }
        }
        effects
    }

    /// The next message to send, which is then on its way; and those that became too old.
    pub fn start(&mut self, now: Timestamp) -> (Option<Delivery>, Effects) {
        let mut effects = Effects::default();
        let life = i64::try_from(self.pace.give_up_after.as_secs()).unwrap_or(i64::MAX);
        while let Some(no) = self
            .waiting
            .values()
            .find(|d| d.attempts > 0 && !self.flying.contains(&d.no) && d.queued_at.plus_seconds(life) <= now)
            .map(|d| d.no)
        {
            if let Some(mut old) = self.waiting.remove(&no) {
                let last = old.error.take().unwrap_or_default();
                bury(&mut old, now, &format!("given up as too old; the last attempt: {last}"));
                effects.changed.push(old);
            }
        }
        if self.paused_until.is_some_and(|until| now < until) || self.flying.len() >= self.most() {
            return (None, effects);
        }
        // Behind an open circuit the pause is that of the sink, not that of the message.
        let probing = self.failures >= FAILURES;
        let mut idle = self.waiting.values().filter(|d| !self.flying.contains(&d.no));
        let next = match probing {
            false => idle.find(|d| d.next_at <= now),
            // The oldest, unless it may be to blame itself.
            true => idle.min_by_key(|d| (d.attempts / SUSPECT, d.no)),
        };
        let next = next.cloned();
        self.flying.extend(next.iter().map(|d| d.no));
        (next, effects)
    }

    /// A message was answered. `chance` is a random number from 0 to 1.
    pub fn answer(&mut self, no: u64, answer: Result<(), Failure>, now: Timestamp, chance: f64) -> Effects {
        self.flying.remove(&no);
        let mut effects = Effects::default();
        let Some(mut delivery) = self.waiting.remove(&no) else { return effects };
        delivery.attempts += 1;
        match answer {
            Ok(()) => {
                (delivery.standing, delivery.settled_at, delivery.error) =
                    (Standing::Delivered, Some(now), None);
                if self.failures.max(self.refusals) >= FAILURES {
                    for waiting in self.waiting.values_mut() {
                        waiting.next_at = now;
                    }
                }
                (self.failures, self.refusals, self.paused_until, self.full) = (0, 0, None, false);
                self.put_off_since = None;
                if std::mem::take(&mut self.failing) {
                    effects.health = Some((SinkHealth::Recovered, String::new()));
                }
            }
            Err(Failure { retry: Retry::Never, reason }) => {
                bury(&mut delivery, now, &reason);
                // It answers: the others may fare better.
                (self.failures, self.paused_until) = (0, None);
                effects.health = self.fails(format!("it refused a message for good: {reason}"));
            }
            Err(Failure { retry: Retry::After(pause), reason }) => {
                // It is well and says when it wants more: no failure of the circuit.
                let until = plus(now, pause.min(Duration::from_secs(3600)));
                self.paused_until = Some(self.paused_until.map_or(until, |before| before.max(until)));
                if self.put_off_since.get_or_insert(now).plus_seconds(PUT_OFF) <= now {
                    effects.health = self.fails(reason.clone());
                }
                (delivery.next_at, delivery.error) = (until, Some(reason));
            }
            Err(Failure { retry: Retry::Refused, reason }) => {
                (self.failures, self.refusals) = (0, self.refusals.saturating_add(1));
                delivery.next_at = plus(now, self.pause(delivery.attempts, chance));
                // A receiver with a wrong setting is not to be asked for every message at once.
                self.paused_until = Some(plus(now, self.pause(1, chance)));
                if self.refusals >= FAILURES {
                    effects.health = self.fails(reason.clone());
                }
                delivery.error = Some(reason);
            }
            Err(Failure { retry: Retry::Later, reason }) => {
                self.failures = self.failures.saturating_add(1);
                delivery.next_at = plus(now, self.pause(delivery.attempts, chance));
                if self.failures >= FAILURES {
                    let beyond = self.failures - FAILURES + 1;
                    self.paused_until = Some(plus(now, self.pause(beyond.saturating_add(2), chance)));
                    effects.health = self.fails(reason.clone());
                }
                delivery.error = Some(reason);
            }
        }
        if delivery.standing == Standing::Queued {
            self.waiting.insert(no, delivery.clone());
        }
        effects.changed.push(delivery);
        effects
    }

    fn fails(&mut self, reason: String) -> Option<(SinkHealth, String)> {
        (!std::mem::replace(&mut self.failing, true)).then_some((SinkHealth::Failing, reason))
    }

    /// The pause after the `nth` failure: half of it is chance, so that many do not come back at once.
    fn pause(&self, nth: u32, chance: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(nth.saturating_sub(1).min(30));
        let whole = self.pace.first_pause.saturating_mul(doubled).min(self.pace.longest_pause);
        whole.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }

    /// Messages that may be on their way now.
    fn most(&self) -> usize {
        if self.failures >= FAILURES { 1 } else { self.pace.concurrency.max(1) }
    }

    /// When something can be started that cannot be now; none when nothing waits for the time alone.
    pub fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        let probing = self.failures >= FAILURES;
        if self.flying.len() >= self.most() {
            return None;
        }
        let waiting = self.waiting.values().filter(|d| !self.flying.contains(&d.no));
        let next = waiting.map(|d| if probing { now } else { d.next_at }).min()?;
        Some(self.paused_until.map_or(next, |until| next.max(until)))
    }
}

fn bury(delivery: &mut Delivery, now: Timestamp, reason: &str) {
    delivery.standing = Standing::Dead;
    delivery.settled_at = Some(now);
    delivery.error = Some(reason.to_owned());
}

fn plus(now: Timestamp, pause: Duration) -> Timestamp {
    now.plus_micros(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX))
}
