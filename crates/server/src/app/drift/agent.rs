//! One agent: what it normally does, its incidents and its breaker, brought up to date together.

use super::{
    Look,
    groups::{Groups, Prior},
    words,
};
use crate::config::{Drift as Config, DriftMode, DriftSettings};
use checkrein_core::{
    action::{Action, Category},
    approval::Actor,
    decision::DriftVerdict,
    drift::{
        Baseline, Channel, Finding, Incidents, Observed, Severity,
        breaker::{Admission, Breaker, BreakerChange, Cause, Change, Scope, State},
    },
    event::{Checked, Outcome, OutcomeStatus},
    name::Name,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// An agent in memory. Whoever holds it keeps it there.
pub(in crate::app) struct Agent {
    pub(super) name: Name,
    known: Mutex<Known>,
    /// When it acted last, as `Agents` counts.
    pub(super) used: AtomicU64,
    /// Counts what happened to it, and how much of that is on disk.
    changes: AtomicU64,
    kept: AtomicU64,
}

/// What is known of it.
pub(super) struct Known {
    /// None until it acts.
    pub(super) baseline: Option<Box<Baseline>>,
    /// From before its breaker opened last.
    pub(super) before: Option<Box<Baseline>>,
    pub(super) rest: Rest,
    /// What holds for it, as the configuration says that it was read from.
    own: Option<(Arc<Config>, Own)>,
}

/// What is kept of an agent beside its baselines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rest {
    pub(super) incidents: Incidents,
    /// The incidents that somebody was told of and that are not over; a bit each channel.
    pub(super) told: u8,
    /// Those that a person knew of when closing the breaker: they hold and open nothing any more.
    pub(super) excused: u8,
    /// What its outcomes showed since its last action: the score of the channel `errors`.
    errors: f32,
    pub(super) breaker: Breaker,
    /// Counts the changes of the breaker.
    pub(super) revision: u64,
    /// Why the breaker opened last, for a person.
    pub(super) why: String,
}

#[derive(Clone)]
struct Own {
    settings: DriftSettings,
    prior: Arc<Prior>,
}

/// An action, as its agent's baseline and breaker are asked about it.
pub(super) struct Act<'a> {
    pub(super) action: &'a Action,
    /// The same for equal calls only.
    pub(super) exact: &'a str,
    pub(super) at: Timestamp,
    /// The check.
    pub(super) id: &'a str,
    /// A breaker of others stops it.
    pub(super) shut: bool,
    /// A breaker of others is not closed, whether or not it stops this.
    pub(super) frozen: bool,
    pub(super) of: Of,
}

/// Whose action it is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Of {
    /// The agent's own.
    One,
    /// Of one of the agents that come with a key; whether that one is new.
    Many { is_new: bool },
}

/// What is known of an action that ended, beside its outcome.
pub(super) struct End {
    /// The most records that it was said or counted to affect.
    pub(super) declared: Option<u64>,
    /// The round that it was a probe of.
    pub(super) probe: Option<u32>,
    /// As in [`Act`].
    pub(super) frozen: bool,
    /// It is one of all agents of a key, of whom some always fail or are blocked: then only probes count, and the
    /// share of failures.
    pub(super) of_many: bool,
}

/// What brings a change of a breaker about.
#[derive(Clone, Copy, Default)]
pub(super) struct By<'a> {
    pub(super) person: Option<&'a Actor>,
    pub(super) check_id: Option<&'a str>,
}

impl Agent {
    pub(super) fn new(name: Name, known: Known) -> Self {
        Self {
            name,
            known: Mutex::new(known),
            used: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        }
    }

    /// To look at it.
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To change it.
    pub(super) fn change(&self) -> MutexGuard<'_, Known> {
        let known = self.known();
        self.changes.fetch_add(1, Ordering::Relaxed);
        known
    }

    /// Whether something of it is not on disk.
    pub(super) fn is_dirty(&self) -> bool {
        self.changes.load(Ordering::Relaxed) != self.kept.load(Ordering::Relaxed)
    }

    /// How much has happened to it; to be called while it is held.
    pub(super) fn version(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Where it is all agents of a key: the round of which a check was a probe. While its breaker is half-open, what
    /// runs is one, or a read that is exempted.
    pub(super) fn probe(&self, checked: &Checked, config: &Config) -> Option<u32> {
        let is_exempt = checked.decision.category == Category::Read
            && config.settings_of(&self.name).breaker.exempt_reads;
        if is_exempt { None } else { self.known().rest.breaker.round_of(checked.decision.logged_at) }
    }

    /// What had happened by `version` is on disk.
    pub(super) fn kept(&self, version: u64) {
        self.kept.fetch_max(version, Ordering::Relaxed);
    }
}

impl Known {
    pub(super) const fn new(
        baseline: Option<Box<Baseline>>,
        before: Option<Box<Baseline>>,
        rest: Rest,
    ) -> Self {
        Self { baseline, before, rest, own: None }
    }

    fn own(&mut self, name: &Name, config: &Arc<Config>, groups: &Groups) -> Own {
        match &self.own {
            Some((from, own)) if Arc::ptr_eq(from, config) => own.clone(),
            _ => {
                let own = Own {
                    settings: config.settings_of(name).clone(),
                    prior: groups.prior(config.group_of(name).map(|group| group.name.as_str())),
                };
                self.own = Some((Arc::clone(config), own.clone()));
                own
            }
        }
    }

    /// The agent acts: how unusual is it, and what of it?
    pub(super) fn look(&mut self, name: &Name, act: &Act<'_>, world: (&Arc<Config>, &Groups, u64)) -> Look {
        let (config, groups, salt) = world;
        let Act { action, at, id, shut, .. } = *act;
        let Own { settings, prior } = self.own(name, config, groups);
        let mut look = Look { is_read: action.category == Category::Read, ..Look::default() };
        if settings.mode != DriftMode::Off {
            let frozen = act.frozen || self.rest.breaker.state() != State::Closed;
            look.is_new = self.baseline.is_none();
            self.observe(name, act, (&settings, &prior), (salt, frozen), &mut look);
        }
        let by = By { person: None, check_id: Some(id) };
        if !shut {
            let (admission, change) = self.rest.breaker.admit(at, look.is_read, &settings.breaker);
            look.changes.extend(change.map(|change| self.changed(name, change, None, by)));
            match admission {
                Admission::Run => {}
                Admission::Probe(round) => look.probe = Some(round),
                Admission::Refused(until) => {
                    let scope = Scope::agent(name);
                    look.blocks =
                        Some(words::refused(&scope, self.rest.breaker.since(), &self.rest.why, until));
                }
            }
        }
        look.breaker = self.rest.breaker.state();
        look
    }

    fn observe(
        &mut self,
        name: &Name,
        act: &Act<'_>,
        (settings, prior): (&DriftSettings, &Prior),
        (salt, frozen): (u64, bool),
        look: &mut Look,
    ) {
        let Act { action, at, .. } = *act;
        let observed = Observed {
            at,
            action: &action.action,
            resource: &action.resource,
            tool: action.tool.as_deref().unwrap_or_default(),
            exact: act.exact,
            records: action.records.known(),
            payload_bytes: Some(action.payload_bytes),
        };
        let baseline = self.baseline.get_or_insert_with(|| Box::new(Baseline::new(salt, at)));
        baseline.freeze(frozen);
        let mut reading = match act.of {
            Of::One => prior.with(|group| baseline.observe(&observed, group)),
            Of::Many { is_new } => baseline.observe_one_of_many(&observed, is_new),
        };
        reading.raise(Channel::Errors, std::mem::take(&mut self.rest.errors));
        let (channel, score) = reading.worst();
        look.score = Some(words::tenths(score));
        let rest = &mut self.rest;
        for _begun in rest.incidents.begin(&reading, at, settings.notice_at) {}
        if rest.excused != 0 {
            for channel in Channel::ALL {
                if !rest.incidents.going_on(channel, at) {
                    rest.excused &= !bit(channel);
                }
            }
        }
        if score < settings.notice_at {
            return;
        }
        rest.told |= bit(channel.incident());
        let mut finding = baseline.explain(channel, score, &observed);
        if act.of != Of::One {
            finding.sentence = words::of_all(name, &finding.sentence);
        }
        let is_new = settings.first_week == DriftMode::Alert && baseline.is_new();
        look.verdict = Some(Box::new(verdict(&finding, (act.of != Of::One).then_some(name))));
        if settings.mode != DriftMode::Enforce {
            return;
        }
        // Whoever is new and reads the same again and again may be waiting for something; and among many, that
        // they all do the same may be what they are for.
        let loops = act.of == Of::One && !look.is_read;
        let early = |channel: Channel| !is_new || (channel == Channel::Loop && loops);
        let acts = |channel: Channel| rest.excused & bit(channel) == 0 && early(channel);
        let score_of_loop = reading.score(Channel::Loop);
        let mut tripped = None;
        if acts(channel) {
            tripped = rest.breaker.drifted(at, channel, score, &settings.breaker);
        }
        if tripped.is_none() && channel != Channel::Loop && acts(Channel::Loop) {
            tripped = rest.breaker.drifted(at, Channel::Loop, score_of_loop, &settings.breaker);
        }
        let holds = score >= settings.hold_at
            && acts(channel)
            && (!look.is_read || matches!(channel, Channel::Novelty | Channel::Records));
        if let Some(change) = tripped {
            let by = By { person: None, check_id: Some(act.id) };
            look.changes.push(self.changed(name, change, Some(finding.sentence), by));
        } else if holds {
            look.holds = Some(finding.sentence);
        }
    }

    /// A policy blocked an action of it.
    pub(super) fn blocked(
        &mut self,
        name: &Name,
        at: Timestamp,
        check_id: &str,
        world: (&Arc<Config>, &Groups),
    ) -> Option<BreakerChange> {
        let Own { settings, .. } = self.own(name, world.0, world.1);
        if settings.mode != DriftMode::Enforce {
            return None;
        }
        let change = self.rest.breaker.blocked(at, &settings.breaker)?;
        Some(self.changed(name, change, None, By { person: None, check_id: Some(check_id) }))
    }

    /// An action of it ended.
    pub(super) fn ended(
        &mut self,
        name: &Name,
        at: Timestamp,
        outcome: &Outcome,
        end: &End,
        world: (&Arc<Config>, &Groups),
    ) -> Vec<BreakerChange> {
        let Own { settings, .. } = self.own(name, world.0, world.1);
        let failed = match outcome.status {
            OutcomeStatus::Ok => false,
            OutcomeStatus::Error => true,
            OutcomeStatus::Unknown => return Vec::new(),
        };
        if settings.mode != DriftMode::Off
            && let Some(baseline) = &mut self.baseline
        {
            baseline.freeze(end.frozen || self.rest.breaker.state() != State::Closed);
            // Told with its next action.
            self.rest.errors = self.rest.errors.max(baseline.outcome(failed).score(Channel::Errors));
        }
        let breaker = &mut self.rest.breaker;
        let enforces = settings.mode == DriftMode::Enforce && !end.of_many;
        let mut changes = Vec::new();
        if enforces || end.probe.is_some() {
            changes.extend(breaker.ended(at, end.probe, failed, &settings.breaker));
        }
        if let (Some(declared), Some(actual), true) = (end.declared, outcome.records, enforces) {
            changes.extend(breaker.measured(at, declared, actual, &settings.breaker));
        }
        let by = By { person: None, check_id: Some(&outcome.check_id) };
        changes.into_iter().map(|change| self.changed(name, change, None, by)).collect()
    }

    /// A change of its breaker, as it goes on record. `said` instead of the cause in general words.
    pub(super) fn changed(
        &mut self,
        name: &Name,
        change: Change,
        said: Option<String>,
        by: By<'_>,
    ) -> BreakerChange {
        let rest = &mut self.rest;
        rest.revision += 1;
        if change.from == State::Closed && change.to == State::Open {
            self.before.clone_from(&self.baseline);
        }
        if change.to == State::Open {
            let cause = change.cause.as_ref().map(Cause::sentence);
            // A probe that went wrong keeps the reason for which it was open before.
            if said.is_some() || change.from != State::HalfOpen || rest.why.is_empty() {
                rest.why = said.clone().or(cause).unwrap_or_default();
            }
        }
        let reason = match (said, change.to) {
            (Some(said), _) => said,
            (None, State::Open) => rest.why.clone(),
            (None, State::HalfOpen) => "its cool-down is over: a few actions run as probes".to_owned(),
            (None, State::Closed) => "its probes went well".to_owned(),
        };
        BreakerChange {
            scope: Scope::agent(name),
            revision: rest.revision,
            change,
            reason,
            by: by.person.cloned(),
            check_id: by.check_id.map(ToOwned::to_owned),
            breaker: rest.breaker.clone(),
        }
    }

    /// The incidents that somebody was told of and that are over now.
    pub(super) fn over(&mut self, at: Timestamp) -> Vec<Channel> {
        let rest = &mut self.rest;
        let over: Vec<_> = Channel::ALL
            .into_iter()
            .filter(|channel| rest.told & bit(*channel) != 0 && !rest.incidents.going_on(*channel, at))
            .collect();
        for channel in &over {
            rest.told &= !bit(*channel);
        }
        over
    }

    /// A person closed its breaker: what is going on holds and opens nothing any more. A loop does again, after
    /// as many repeats as at first: whoever closes a breaker expects it to have ended. What was accepted stays so.
    pub(super) fn closed(&mut self, at: Timestamp) {
        let accepted = self.rest.excused & bit(Channel::Loop);
        self.excuse(at);
        self.rest.excused = (self.rest.excused & !bit(Channel::Loop)) | accepted;
        if let Some(baseline) = &mut self.baseline {
            baseline.recount_loop();
        }
    }

    /// From now on, what is going on holds and opens nothing.
    pub(super) fn excuse(&mut self, at: Timestamp) {
        for channel in Channel::ALL {
            if self.rest.incidents.going_on(channel, at) {
                self.rest.excused |= bit(channel);
            }
        }
    }
}

/// The incidents that are going on.
pub(super) fn going_on(told: u8) -> impl Iterator<Item = Channel> {
    Channel::ALL.into_iter().filter(move |channel| told & bit(*channel) != 0)
}

const fn bit(channel: Channel) -> u8 {
    1 << channel as u8
}

fn verdict(finding: &Finding, all: Option<&Name>) -> DriftVerdict {
    DriftVerdict {
        score: words::tenths(finding.score),
        severity: Severity::of(finding.score).unwrap_or(Severity::Notice),
        channel: finding.channel,
        reason: finding.sentence.clone(),
        expected: words::short(finding.expected),
        seen: words::short(finding.seen),
        agents: all.map(ToString::to_string),
    }
}
