//! Drift and breakers: what each agent normally does, and who may not act at all.
//!
//! ```text
//! check ─► look ─► policies (they read the score) ─► settle ─► record: the check and every change of a breaker
//! outcome ─► ended ─► record                               keep: what was learnt, behind all this
//! ```
//! An agent is looked up once a check; its lock is held for the look alone. What stops an agent is in the log
//! before anybody hears of it. What was learnt is written behind, and can be learnt again from the log.

mod acting;
mod agent;
mod agents;
mod groups;
mod history;
mod hours;
mod keep;
mod people;
#[cfg(test)]
mod tests;
mod view;
mod words;

pub(super) use acting::Acting;
use agent::Agent;

use super::{App, Error, Rules};
use crate::config::Drift as Config;
use agent::{By, End, Known, Rest};
use agents::Agents;
use checkrein_core::{
    action::Action,
    check::Check,
    decision::{Basis, DriftVerdict, Verdict},
    drift::breaker::{Breaker, BreakerChange, Cause, Change, Scope, State},
    event::{Checked, Event, Outcome},
    fingerprint::Fingerprint,
    name::Name,
    policy::{Facts, Judgement, Windows},
    time::Timestamp,
};
use checkrein_store::{Baselines, BreakerRow, Store};
use groups::{Groups, Shared};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How long a change of a breaker may be on its way into the log before it is sent there again.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// Revisions of a breaker whose own cannot be read: beyond any that it can have had.
const UNREADABLE: u64 = 1 << 40;

/// What drift and breakers say of an action.
#[derive(Clone, Default)]
pub(super) struct Look {
    /// For policies; `None` when it is not known.
    score: Option<f64>,
    /// For whoever asks, from notice on.
    pub(super) verdict: Option<Box<DriftVerdict>>,
    /// Where the breaker stands that concerns it.
    pub(super) breaker: State,
    /// It is let through as a probe, of that round.
    pub(super) probe: Option<u32>,
    /// It changes nothing.
    is_read: bool,
    /// Nothing was known of the agent before.
    is_new: bool,
    /// Why a person should look first.
    holds: Option<String>,
    /// Why a breaker stops it.
    blocks: Option<String>,
    /// Changes of breakers, to be recorded with it.
    changes: Vec<BreakerChange>,
}

impl Look {
    /// Whether a person should look first, whatever the policies say.
    pub(super) const fn wants_a_person(&self) -> bool {
        self.holds.is_some()
    }

    /// With what is said of all agents of its key.
    fn add(&mut self, all: Self) {
        if all.score > self.score {
            self.score = all.score;
        }
        let told = |look: &Self| look.verdict.as_ref().map(|verdict| verdict.score);
        if told(&all) > told(self) {
            self.verdict = all.verdict;
        }
        if self.breaker == State::Closed || all.breaker == State::Open {
            self.breaker = all.breaker;
        }
        self.holds = self.holds.take().or(all.holds);
        self.blocks = self.blocks.take().or(all.blocks);
        self.changes.extend(all.changes);
    }

    /// Makes the judgement of the policies as strict as drift and breakers ask for.
    fn settle(&self, judgement: &mut Judgement) {
        if let Some(reason) = &self.blocks {
            judgement.verdict = Verdict::Block;
            judgement.reason.clone_from(reason);
        } else if let (Some(sentence), Verdict::Allow) = (&self.holds, judgement.verdict) {
            judgement.verdict = Verdict::Hold;
            judgement.reason = words::held(sentence);
        }
    }

    /// What is to be recorded beside the check.
    pub(super) fn events(&mut self) -> impl Iterator<Item = Event> + use<> {
        std::mem::take(&mut self.changes).into_iter().map(|change| Event::BreakerChanged(Box::new(change)))
    }
}

/// All agents, as far as drift and breakers go.
pub(super) struct Drift {
    baselines: Arc<Baselines>,
    /// Keeps agents from choosing names that look like others.
    salt: u64,
    agents: Agents,
    groups: Groups,
    /// For people who look.
    hours: hours::Hours,
    /// The last change of each agent's breaker: an agent that comes from the disk is brought to it.
    last: Mutex<HashMap<Name, BreakerChange>>,
    /// Agents whose breakers were half-open when the server started, and that did not act since.
    probing: Mutex<HashSet<Name>>,
    /// Changes of which it is not known that they are on record.
    pending: Mutex<Vec<(Instant, BreakerChange)>>,
    /// Somebody waits for room in memory; and there may be some now.
    crowded: Notify,
    kept: Notify,
}

impl Drift {
    /// Takes over where every breaker stands.
    pub(super) async fn open(store: &Store, config: &Config, now: Timestamp) -> Result<Self, Error> {
        let baselines = store.baselines()?;
        let mut fresh = [0_u8; 8];
        getrandom::fill(&mut fresh)
            .map_err(|e| Error::Invalid(format!("this machine gives no random numbers: {e}")))?;
        let salt = baselines.secret(u64::from_ne_bytes(fresh))?;
        let groups = Groups::default();
        groups.restore(baselines.groups()?);
        let mut last = HashMap::new();
        for BreakerRow { scope, last: read } in store.breakers().await? {
            let change = read.unwrap_or_else(|error| {
                tracing::error!(scope = %scope.escape_debug(), %error, "where a breaker stands cannot be read: it is open until a person closes it");
                unreadable(&scope, now)
            });
            match change.scope.agent_name().map(Name::new) {
                Some(Ok(name)) => {
                    last.insert(name, change);
                }
                Some(Err(_)) => {}
                None => {
                    let BreakerChange { scope, revision, reason: why, breaker, .. } = change;
                    groups.put(scope, Shared { breaker, revision, why });
                }
            }
        }
        let is_probing = |change: &BreakerChange| change.breaker.state() == State::HalfOpen;
        let probing = last.iter().filter(|(_, change)| is_probing(change));
        let probing = probing.map(|(name, _)| name.clone()).collect();
        Ok(Self {
            probing: Mutex::new(probing),
            baselines: Arc::new(baselines),
            salt,
            agents: Agents::new(config.in_memory),
            groups,
            hours: hours::Hours::default(),
            last: Mutex::new(last),
            pending: Mutex::default(),
            crowded: Notify::new(),
            kept: Notify::new(),
        })
    }

    fn pending(&self) -> MutexGuard<'_, Vec<(Instant, BreakerChange)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> MutexGuard<'_, HashMap<Name, BreakerChange>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Breakers changed, and that is on its way into the log.
    fn note<'a>(&self, changes: impl IntoIterator<Item = &'a BreakerChange>) {
        for change in changes {
            if let Some(Ok(name)) = change.scope.agent_name().map(Name::new) {
                let mut last = self.last();
                if last.get(&name).is_none_or(|before| before.revision < change.revision) {
                    last.insert(name, change.clone());
                }
            }
            self.pending().push((Instant::now(), change.clone()));
        }
    }

    /// These are on record.
    pub(super) fn recorded(&self, changes: &[(Scope, u64)]) {
        if !changes.is_empty() {
            self.pending().retain(|(_, change)| {
                !changes
                    .iter()
                    .any(|(scope, revision)| *scope == change.scope && *revision == change.revision)
            });
        }
    }

    /// Why the breaker of its group or of everything stops an agent.
    fn shut(&self, config: &Config, agent: &Name, is_read: bool) -> Option<String> {
        if self.groups.all_closed() {
            return None;
        }
        let group = config.group_of(agent).map(|group| group.name.as_str());
        self.groups.refuse(group, is_read, &config.settings_of(agent).breaker)
    }

    /// What is kept of an agent, and whether it was damaged.
    fn restore(&self, name: &Name) -> Result<(Known, bool), Error> {
        let saved = self.baselines.agent(name)?;
        let mut damaged = false;
        let mut read = |bytes: Option<Vec<u8>>| {
            let restored = checkrein_core::drift::Baseline::restore(&bytes?);
            match restored {
                Ok(baseline) => Some(Box::new(baseline)),
                Err(error) => {
                    damaged |= error == checkrein_core::drift::RestoreError::Damaged;
                    tracing::warn!(agent = %name.escape_debug(), %error, "what an agent normally does begins anew");
                    None
                }
            }
        };
        let mut known = match saved {
            None => Known::new(None, None, Rest::default()),
            Some(saved) => {
                let (baseline, before) = (read(saved.baseline), read(saved.before));
                let rest = serde_json::from_str(&saved.rest).unwrap_or_else(|_| {
                    damaged = true;
                    Rest::default()
                });
                Known::new(baseline, before, rest)
            }
        };
        // The log knows better, unless what is kept is as new: then it has counted on since.
        if let Some(change) = self.last().get(name)
            && (change.revision, change.breaker.state()) != (known.rest.revision, known.rest.breaker.state())
            // One that opened and could not be recorded stays open.
            && (change.revision >= known.rest.revision || known.rest.breaker.state() != State::Open)
        {
            known.rest.breaker = change.breaker.clone();
            known.rest.revision = change.revision.max(known.rest.revision);
            known.rest.why.clone_from(&change.reason);
        }
        if self.probing.lock().unwrap_or_else(PoisonError::into_inner).remove(name) {
            known.rest.breaker.restarted();
        }
        Ok((known, damaged))
    }
}

impl App {
    /// The agent, from the disk if need be.
    ///
    /// # Errors
    /// When what is known of it cannot be read, or there is no room for it: nothing may run then.
    pub(super) async fn agent(&self, name: &Name) -> Result<Arc<Agent>, Error> {
        match self.drift.agents.get(name) {
            Some(agent) => Ok(agent),
            None => Box::pin(self.fetch_agent(name)).await,
        }
    }

    async fn fetch_agent(&self, name: &Name) -> Result<Arc<Agent>, Error> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        loop {
            let (drift, wanted) = (Arc::clone(&self.drift), name.clone());
            let restored = tokio::task::spawn_blocking(move || drift.restore(&wanted)).await;
            let (mut known, damaged) = restored.map_err(|_| Error::Stopping)??;
            let now = self.clock.now();
            let damage = damaged
                .then(|| {
                    let mut breaker = std::mem::take(&mut known.rest.breaker);
                    let change = breaker.trip(now, Cause::Damaged, &self.rules().drift.settings.breaker);
                    known.rest.breaker = breaker;
                    change.map(|change| known.changed(name, change, None, By::default()))
                })
                .flatten();
            let kept = self.drift.kept.notified();
            match self.drift.agents.put(Agent::new(name.clone(), known)) {
                Ok(agent) => {
                    if let Some(change) = damage {
                        drop(agent.change());
                        self.drift.note([&change]);
                        self.append(vec![Event::BreakerChanged(Box::new(change))]).await?;
                    }
                    return Ok(agent);
                }
                Err(agents::Crowded) => {
                    self.drift.crowded.notify_one();
                    if tokio::time::timeout_at(deadline, kept).await.is_err() {
                        return Err(Error::NotRecorded(
                            "too many agents act for the first time at once, and what is known of others could \
                             not be written to the disk in time; ask again in a moment"
                                .to_owned(),
                        ));
                    }
                }
            }
        }
    }

    /// What policies, drift and breakers make of an action. Counts it, and learns from it: once an action.
    pub(super) fn judge(
        &self,
        rules: &Rules,
        acting: &Acting,
        (action, exact): (&Action, &Fingerprint),
        check: &Check,
        (id, now): (&str, Timestamp),
    ) -> (Judgement, Look) {
        let mut look = self.drift.look(&rules.drift, acting, (action, exact), check, (id, now));
        let facts = Facts { drift: look.score, ..Facts::of(action, check.details(), now) };
        let mut judgement = if rules.policies.needs().rate_period_seconds.is_some() {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            rules.policies.evaluate(&facts, &mut windows)
        } else {
            rules.policies.evaluate(&facts, &mut Windows::default())
        };
        if judgement.verdict == Verdict::Block {
            let world = (&rules.drift, &self.drift.groups);
            let agent = &acting.agent;
            let change = agent.change().blocked(&agent.name, now, id, world);
            self.drift.note(&change);
            look.changes.extend(change);
        }
        look.settle(&mut judgement);
        (judgement, look)
    }

    /// What follows from the outcome of a check, to be recorded with it.
    pub(super) async fn ended(&self, checked: &Checked, outcome: &Outcome) -> Result<Vec<Event>, Error> {
        if checked.decision.verdict == Verdict::Block {
            // It did not run, whatever is said of it.
            return Ok(Vec::new());
        }
        let acting = self.acting(&checked.key_id, &checked.action.agent).await?;
        let rules = self.rules();
        let frozen = self.drift.is_any_open(&rules.drift, &acting);
        let Acting { agent, all } = acting;
        // A probe shows something when it ran. What was held ran if its approval was used, and not otherwise.
        let mut probe = checked.probe;
        let mut probe_of_all = all.as_ref().and_then(|all| all.probe(checked, &rules.drift));
        if let (true, Verdict::Hold, Some(approval)) =
            (probe.or(probe_of_all).is_some(), checked.decision.verdict, &checked.decision.approval_id)
        {
            let used = self.store.approval(approval).await?.and_then(|approval| approval.used_by);
            if used.as_ref() != Some(&checked.decision.id) {
                (probe, probe_of_all) = (None, None);
            }
        }
        // Ids say nothing about what follows from them: where that was counted, that many are no surprise.
        let blast = &checked.decision.blast_radius;
        let counted = (blast.declared_ids && !blast.understated && blast.basis != Basis::Declared)
            .then(|| blast.records.known().unwrap_or(u64::MAX));
        let declared = checked.action.declared.map(|declared| counted.unwrap_or(0).max(declared));
        let now = self.clock.now();
        let world = (&rules.drift, &self.drift.groups);
        let end = End { declared, probe, frozen, of_many: false };
        let mut changes = agent.change().ended(&agent.name, now, outcome, &end, world);
        if let Some(all) = all {
            let end = End { probe: probe_of_all, of_many: true, ..end };
            changes.extend(all.change().ended(&all.name, now, outcome, &end, world));
        }
        self.drift.note(&changes);
        Ok(changes.into_iter().map(|change| Event::BreakerChanged(Box::new(change))).collect())
    }

    /// Sends those changes of breakers into the log again that should be there by now.
    pub(super) async fn record_breakers(&self) -> Result<(), Error> {
        let late: Vec<_> = {
            let pending = self.drift.pending();
            pending.iter().filter(|(at, _)| at.elapsed() > ON_ITS_WAY).map(|(_, c)| c.clone()).collect()
        };
        for change in late {
            self.append(vec![Event::BreakerChanged(Box::new(change))]).await?;
        }
        Ok(())
    }
}

/// Those events that change breakers, by scope and revision.
pub(super) fn changes<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<(Scope, u64)> {
    let changed = |event: &Event| match event {
        Event::BreakerChanged(change) => Some((change.scope.clone(), change.revision)),
        _ => None,
    };
    events.into_iter().filter_map(changed).collect()
}

/// A breaker of which is not known where it stands.
fn unreadable(scope: &str, at: Timestamp) -> BreakerChange {
    let scope = serde_json::from_value(scope.into()).unwrap_or_else(|_| Scope::all());
    let cause = Some(Cause::Damaged);
    BreakerChange {
        scope,
        revision: UNREADABLE,
        change: Change { from: State::Closed, to: State::Open, at, until: None, cause },
        reason: Cause::Damaged.sentence(),
        by: None,
        check_id: None,
        breaker: Breaker::opened(at),
    }
}
