//! Many signals, few messages: a state machine that is given the time.
//!
//! At each sink the signals of one condition are one *group*. Its first message goes out at once; after that
//! at most one in an interval, with the count of all, unless it got worse. A group has at most one message on
//! its way: what comes meanwhile waits in the group, so that messages of a group arrive in order and a sink
//! that is down for long is not flooded when it is back. A condition that ends is *resolved* with one message.
//!
//! Conditions are many where an agent makes them, e.g. one hold after the other. An agent that opens more than
//! a handful of groups within an interval is a *flood*: from then on its signals are one group together, until it
//! has been quiet for an interval.

use super::{Notification, Place, Routing, Severity, Signal, Status, Timing};
use crate::{fingerprint::hex, time::Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// Examples that a message carries, at most.
const EXAMPLES: usize = 5;
/// All agents together may open so many times the groups of one.
const AGENTS: u32 = 10;
/// A condition of which nothing was heard for so long is forgotten, in seconds.
const FORGET: i64 = 30 * 86_400;

/// A condition at a sink, and then the sink.
type Key = (String, String);

/// The signals of one condition at one sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Of its signals, or that of a flood.
    pub condition: String,
    /// Where it is told.
    pub sink: String,
    timing: Timing,
    dedup_key: String,
    status: Status,
    severity: Severity,
    count: u64,
    /// Entries of its first and its last signal.
    entries: (u64, u64),
    first_at: Timestamp,
    last_at: Timestamp,
    signals: VecDeque<Signal>,
    /// Signals since the last message.
    unsent: u64,
    /// Messages made.
    messages: u64,
    sent_at: Timestamp,
    sent_severity: Severity,
    sent_status: Status,
    /// The message on its way.
    outstanding: Option<String>,
    /// Of a flood: signals that said that something is over.
    over: u64,
}

/// A message that is to be delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Where to.
    pub sink: String,
    /// Of its group.
    pub condition: String,
    /// Entries of the group's first and last signal.
    pub entries: (u64, u64),
    /// What.
    pub notification: Notification,
}

/// What a group wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Send,
    Resolve,
    Close,
}

/// All groups that are open.
#[derive(Debug, Default)]
pub struct Groups {
    pub(super) open: BTreeMap<Key, Group>,
    /// By delivery id.
    outstanding: HashMap<String, Key>,
    /// Groups opened in the interval that began then, by sink and agent; of all agents where that is none.
    pub(super) opened: HashMap<(String, Option<String>), (Timestamp, u32)>,
    changed: BTreeSet<Key>,
}

/// Whether a condition of this kind holds until something says that it is over.
fn lasts(kind: &str) -> bool {
    matches!(kind, "action.held" | "rollback.started" | "rollback.unknown" | "sink.failing")
        || kind.starts_with("breaker.")
        || kind.starts_with("drift.")
}

fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.plus_seconds(seconds)
}

impl Group {
    fn new(condition: &str, sink: &str, timing: Timing, place: Place, signal: &Signal) -> Self {
        let name = hex(&Sha256::digest(format!("{sink} {condition}").as_bytes()));
        Self {
            condition: condition.to_owned(),
            sink: sink.to_owned(),
            timing,
            dedup_key: format!("checkrein-{}-{}", name.get(..24).unwrap_or_default(), place.id()),
            status: signal.status,
            severity: signal.severity,
            count: 0,
            entries: (place.seq, place.seq),
            first_at: signal.at,
            last_at: signal.at,
            signals: VecDeque::new(),
            unsent: 0,
            messages: 0,
            sent_at: signal.at,
            sent_severity: Severity::Info,
            sent_status: signal.status,
            outstanding: None,
            over: 0,
        }
    }

    fn add(&mut self, place: Place, signal: &Signal) {
        self.count += 1;
        self.unsent += 1;
        self.entries.1 = self.entries.1.max(place.seq);
        self.last_at = self.last_at.max(signal.at);
        // What is over was as bad as it was; one that begins again begins anew.
        self.severity = match (self.status, signal.status) {
            (Status::Resolved, Status::Firing) => signal.severity,
            _ => self.severity.max(signal.severity),
        };
        self.status = signal.status;
        self.signals.push_front(signal.clone());
        if self.signals.len() > EXAMPLES {
            // Of those that nobody was told yet the worst stays: it must not be crowded out by what came after.
            let worst = self.signals.iter().map(|s| s.severity).max();
            let lesser = self.signals.iter().rposition(|s| Some(s.severity) < worst);
            let gone = lesser.filter(|at| *at > 0 && self.unsent > EXAMPLES as u64);
            self.signals.remove(gone.unwrap_or(EXAMPLES));
        }
    }

    fn is_flood(&self) -> bool {
        self.condition.starts_with(FLOOD)
    }

    /// Something in a flood is over.
    fn absorb(&mut self, place: Place) {
        self.over += 1;
        self.entries.1 = self.entries.1.max(place.seq);
    }

    fn lasting(&self) -> bool {
        !self.is_flood() && self.signals.front().is_some_and(|newest| lasts(&newest.kind))
    }

    /// What it wants to do next, and when.
    fn next(&self, routing: &Routing, now: Timestamp) -> Option<(Timestamp, Next)> {
        if self.outstanding.is_some() {
            return None;
        }
        let timing = self.timing;
        // Silent is what all that is new in it is: one that may be told is told, whatever came after it.
        let silent = || {
            let new = usize::try_from(self.unsent).unwrap_or(usize::MAX).max(1);
            self.signals.iter().take(new).map(|signal| routing.silent_until(signal, now)).min().flatten()
        };
        if self.unsent > 0 {
            let urgent = self.messages == 0
                || self.severity > self.sent_severity
                || (self.status == Status::Resolved) != (self.sent_status == Status::Resolved);
            let at = if urgent { self.last_at } else { after(self.sent_at, timing.interval) };
            return Some(match (silent(), self.status, self.messages) {
                (None, ..) => (at, Next::Send),
                // What began and ended in silence is not told; that it is over is, to whom it was told that it began.
                (Some(_), Status::Resolved, 0) => (at, Next::Close),
                (Some(_), Status::Resolved, _) => (at, Next::Send),
                (Some(until), Status::Firing, _) => (at.max(until), Next::Send),
            });
        }
        if self.status == Status::Resolved {
            return Some((self.last_at, Next::Close));
        }
        if self.lasting() {
            let forget = after(self.last_at, FORGET);
            let repeat = after(self.sent_at, timing.repeat);
            let repeat = silent().map_or(repeat, |until| repeat.max(until));
            return Some(if forget <= repeat { (forget, Next::Close) } else { (repeat, Next::Send) });
        }
        if let Some(quiet) = timing.resolve_after {
            return Some((after(self.last_at, quiet), Next::Resolve));
        }
        let quiet = if self.is_flood() { timing.interval } else { timing.repeat };
        Some((after(self.last_at.max(self.sent_at), quiet), Next::Close))
    }

    /// The next message.
    fn message(&mut self, now: Timestamp) -> Outgoing {
        self.messages += 1;
        (self.unsent, self.sent_at) = (0, now);
        (self.sent_severity, self.sent_status) = (self.severity, self.status);
        let delivery_id = format!("{}-{}", self.dedup_key, self.messages);
        self.outstanding = Some(delivery_id.clone());
        Outgoing {
            sink: self.sink.clone(),
            condition: self.condition.clone(),
            entries: self.entries,
            notification: Notification {
                delivery_id,
                dedup_key: self.dedup_key.clone(),
                status: self.status,
                severity: self.severity,
                count: self.count,
                first_at: self.first_at,
                last_at: self.last_at,
                signals: self.signals.iter().cloned().collect(),
                link: None,
            },
        }
    }
}

/// How the condition of a flood begins.
const FLOOD: &str = "flood/";

/// The condition of the flood of an agent, or of all agents.
fn flood(agent: Option<&str>) -> String {
    match agent {
        // Agents' names may hold anything that can be seen; a condition is plain ASCII.
        Some(agent) => {
            let digest = hex(&Sha256::digest(agent.as_bytes()));
            format!("{FLOOD}{}", digest.get(..32).unwrap_or_default())
        }
        None => format!("{FLOOD}all"),
    }
}

/// The conditions of the groups of which a message may speak for `signal`.
pub fn speak_for(signal: &Signal) -> Vec<String> {
    let mut conditions = vec![signal.condition.clone()];
    if floods(signal) {
        conditions.extend([flood(None), flood(signal.agent.as_deref())]);
    }
    conditions
}

/// Whether `signal` may be part of a flood. Breakers are few whatever an agent does, and that one is open is not
/// to be drowned by the agent that it stopped.
fn floods(signal: &Signal) -> bool {
    signal.agent.is_some() && !signal.kind.starts_with("breaker.")
}

impl Groups {
    /// Those that were kept.
    pub fn load(groups: Vec<Group>) -> Self {
        let mut all = Self::default();
        for group in groups {
            let key = (group.condition.clone(), group.sink.clone());
            if let Some(id) = &group.outstanding {
                all.outstanding.insert(id.clone(), key.clone());
            }
            all.open.insert(key, group);
        }
        all
    }

    /// Takes a signal.
    pub fn take(&mut self, place: Place, signal: &Signal, routing: &Routing, now: Timestamp) {
        if signal.status == Status::Resolved {
            self.end(place, signal);
        }
        for (sink, timing) in routing.to(signal) {
            let key = (signal.condition.clone(), sink.to_owned());
            if let Some(group) = self.open.get_mut(&key) {
                // What resolves was told to the group already.
                if signal.status == Status::Firing {
                    group.timing = timing;
                    group.add(place, signal);
                    self.changed.insert(key);
                }
                continue;
            }
            // A thing that is over as it happens is not told later, either.
            let passing = signal.status == Status::Resolved || !lasts(&signal.kind);
            if passing && routing.silent_until(signal, now).is_some() {
                continue;
            }
            self.begin(place, signal, sink, timing, now);
        }
    }

    /// Something is over: every sink that was told of it hears so, whatever its routes say now.
    fn end(&mut self, place: Place, signal: &Signal) {
        let from = (signal.condition.clone(), String::new());
        let keys: Vec<Key> = self
            .open
            .range(from..)
            .take_while(|((condition, _), _)| *condition == signal.condition)
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            if let Some(group) = self.open.get_mut(&key)
                && group.status == Status::Firing
            {
                group.add(place, signal);
                self.changed.insert(key);
            }
        }
    }

    /// A condition that has no group at this sink.
    fn begin(&mut self, place: Place, signal: &Signal, sink: &str, timing: Timing, now: Timestamp) {
        let agent = signal.agent.as_deref().filter(|_| floods(signal));
        for whose in [agent, None] {
            // One flood at a time: what an agent's flood takes is no concern of the one of all.
            if whose.is_none() && agent.is_none() {
                continue;
            }
            let key = (flood(whose), sink.to_owned());
            if let Some(group) = self.open.get_mut(&key) {
                match signal.status {
                    Status::Firing => group.add(place, signal),
                    Status::Resolved => group.absorb(place),
                }
                self.changed.insert(key);
                return;
            }
        }
        let flooding = agent.and_then(|agent| {
            let own = self.count(sink, Some(agent), timing.interval, now) > timing.burst;
            let all = self.count(sink, None, timing.interval, now) > timing.burst.saturating_mul(AGENTS);
            if own { Some(flood(Some(agent))) } else { all.then(|| flood(None)) }
        });
        let condition = flooding.unwrap_or_else(|| signal.condition.clone());
        let mut group = Group::new(&condition, sink, timing, place, signal);
        group.add(place, signal);
        if group.is_flood() {
            group.status = Status::Firing;
        }
        let key = (condition, sink.to_owned());
        self.changed.insert(key.clone());
        self.open.insert(key, group);
    }

    /// Counts one more group, and gives how many there were in this interval.
    fn count(&mut self, sink: &str, agent: Option<&str>, interval: i64, now: Timestamp) -> u32 {
        if self.opened.len() > 10_000 {
            self.opened.retain(|_, (began, _)| now < after(*began, interval));
        }
        let entry = self.opened.entry((sink.to_owned(), agent.map(str::to_owned))).or_insert((now, 0));
        if now >= after(entry.0, interval) {
            *entry = (now, 0);
        }
        entry.1 += 1;
        entry.1
    }

    /// The messages that are to go out at `now`, oldest condition first, and when to ask again at the latest.
    pub fn due(&mut self, routing: &Routing, now: Timestamp) -> (Vec<Outgoing>, Option<Timestamp>) {
        let (mut out, mut wake, mut closed) = (Vec::new(), None::<Timestamp>, Vec::new());
        for (key, group) in &mut self.open {
            let Some((at, next)) = group.next(routing, now) else { continue };
            if at > now {
                wake = Some(wake.map_or(at, |wake| wake.min(at)));
                continue;
            }
            self.changed.insert(key.clone());
            match next {
                Next::Close => {
                    closed.push(key.clone());
                    continue;
                }
                Next::Resolve => group.status = Status::Resolved,
                Next::Send => {}
            }
            let message = group.message(now);
            self.outstanding.insert(message.notification.delivery_id.clone(), key.clone());
            out.push(message);
        }
        for key in closed {
            self.open.remove(&key);
        }
        out.sort_by_key(|message| message.entries.1);
        (out, wake)
    }

    /// The message `delivery_id` has arrived, or nobody tries any more.
    pub fn settled(&mut self, delivery_id: &str) {
        let Some(key) = self.outstanding.remove(delivery_id) else { return };
        let Some(group) = self.open.get_mut(&key) else { return };
        group.outstanding = None;
        if group.status == Status::Resolved && group.unsent == 0 {
            self.open.remove(&key);
        }
        self.changed.insert(key);
    }

    /// Lets go of messages that are in no queue, after a restart: their groups go on.
    pub fn forget_unless(&mut self, queued: &HashSet<&str>) {
        let lost: Vec<String> =
            self.outstanding.keys().filter(|id| !queued.contains(id.as_str())).cloned().collect();
        for id in lost {
            self.settled(&id);
        }
    }

    /// What changed since the last call: condition and sink, and the group unless it is closed.
    pub fn changes(&mut self) -> Vec<(Key, Option<Group>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|key| (key.clone(), self.open.get(&key).cloned())).collect()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
