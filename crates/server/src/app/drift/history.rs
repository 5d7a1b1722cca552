//! Learning from the action log: what was accepted, and everything anew.

use super::Agent;
use crate::{
    app::{App, Caller, Error, to_the_end},
    config::Drift as Config,
};
use checkrein_api::{AcceptRequest, RebuildReport, RebuildRequest};
use checkrein_core::{
    drift::{
        Baseline, Group, Observed,
        breaker::{Scope, State},
    },
    event::{Checked, Entry, Event, OutcomeStatus},
    fingerprint::Fingerprint,
    key::Role,
    name::{Name, Pattern, is_invisible},
    time::Timestamp,
};
use checkrein_store::EntryFilter;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

/// Entries read at a time.
const PAGE: usize = 2_000;
/// Checks whose outcomes may still come, when the past is learnt from.
const AWAITED: usize = 50_000;
/// Longest reason, in bytes.
const MAX_REASON: usize = 1024;

/// Learns from entries of the log, in their order.
struct Lesson {
    config: Arc<Config>,
    salt: u64,
    agents: HashMap<Name, Box<Baseline>>,
    groups: HashMap<String, Group>,
    /// The patterns of the keys that stand for several agents, by the key's id; and the agents that acted, as hashes.
    patterns: HashMap<String, Name>,
    acted: HashSet<u64>,
    state: RandomState,
    /// Breakers that are open at this point of the log; while one is, its agents teach nothing.
    open: HashSet<Scope>,
    /// What people accepted: whose actions, from when, and until when.
    accepted: Vec<(Name, Timestamp, Timestamp)>,
    /// Whose the checks are: an agent, and all agents of its key.
    awaited: HashMap<String, [Option<Name>; 2]>,
    oldest: VecDeque<String>,
    actions: u64,
}

impl Lesson {
    fn new(config: Arc<Config>, salt: u64, patterns: HashMap<String, Name>) -> Self {
        Self {
            config,
            salt,
            agents: HashMap::new(),
            groups: HashMap::new(),
            patterns,
            acted: HashSet::new(),
            state: RandomState::new(),
            open: HashSet::new(),
            accepted: Vec::new(),
            awaited: HashMap::new(),
            oldest: VecDeque::new(),
            actions: 0,
        }
    }

    /// Takes in an entry; checks only of agents that are `wanted`.
    fn take(&mut self, entry: &Entry, wanted: impl Fn(&Name) -> bool) -> Result<(), Error> {
        if entry.kind == "check" {
            return match Name::new(&entry.agent) {
                Ok(name) => self.check(entry, &name, wanted),
                Err(_) => Ok(()),
            };
        }
        if !matches!(&*entry.kind, "outcome" | "breaker.changed" | "drift.accepted" | "key.created") {
            return Ok(());
        }
        match Event::from_parts(&entry.kind, &entry.body).map_err(|e| unclear(entry, &e))? {
            Event::Outcome(outcome) => {
                let failed = match outcome.status {
                    OutcomeStatus::Ok => false,
                    OutcomeStatus::Error => true,
                    OutcomeStatus::Unknown => return Ok(()),
                };
                let whose = self.awaited.remove(&outcome.check_id).unwrap_or_default();
                let frozen = whose.iter().flatten().any(|name| self.is_frozen(name, entry.at));
                for name in whose.iter().flatten() {
                    if let Some(baseline) = self.agents.get_mut(name) {
                        baseline.freeze(frozen);
                        baseline.outcome(failed);
                    }
                }
            }
            // Revoked since, perhaps: then nobody but the log knows what it stood for.
            Event::KeyCreated { key, .. } => {
                let pattern = key.agent.and_then(|agent| Pattern::new(&agent).ok());
                if let Some(pattern) = pattern.filter(|pattern| pattern.literal().is_none()) {
                    self.patterns.insert(key.id, pattern.name().clone());
                }
            }
            Event::BreakerChanged(change) if change.change.to == State::Closed => {
                self.open.remove(&change.scope);
                let agent = change.by.as_ref().and_then(|_| change.scope.agent_name());
                if let Some(baseline) = agent.and_then(|agent| self.agents.get_mut(agent)) {
                    baseline.recount_loop();
                }
            }
            Event::BreakerChanged(change) => {
                self.open.insert(change.scope);
            }
            Event::DriftAccepted { agent, .. } => {
                if let Some(baseline) = self.agents.get_mut(&agent) {
                    baseline.accept();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check(&mut self, entry: &Entry, name: &Name, wanted: impl Fn(&Name) -> bool) -> Result<(), Error> {
        let own = wanted(name).then(|| name.clone());
        if own.is_none() && !self.patterns.values().any(&wanted) {
            return Ok(());
        }
        let checked: Checked = serde_json::from_str(&entry.body).map_err(|e| unclear(entry, &e))?;
        let pattern = self.patterns.get(&checked.key_id).filter(|pattern| *pattern != name).cloned();
        let is_new = !self.patterns.is_empty() && self.acted.insert(self.state.hash_one(name));
        let frozen =
            [Some(name), pattern.as_ref()].into_iter().flatten().any(|n| self.is_frozen(n, entry.at));
        let all = pattern.clone().filter(&wanted);
        if own.is_none() && all.is_none() {
            return Ok(());
        }
        let action = &checked.action;
        let exact = Fingerprint::of(&checked.check, &action.agent, None);
        let observed = Observed {
            at: entry.at,
            action: &action.action,
            resource: &action.resource,
            tool: action.tool.as_deref().unwrap_or_default(),
            exact: &exact.0,
            records: action.records.known(),
            payload_bytes: Some(action.payload_bytes),
        };
        let (salt, config) = (self.salt, &self.config);
        let start = || Box::new(Baseline::new(salt, entry.at));
        if let Some(name) = &own {
            let group = config.group_of(name).map_or("", |group| &group.name);
            let group = self.groups.entry(group.to_owned()).or_default();
            let baseline = self.agents.entry(name.clone()).or_insert_with(start);
            baseline.freeze(frozen);
            baseline.observe(&observed, group);
        }
        if let Some(pattern) = &all {
            let exact = Fingerprint::of(&checked.check, pattern, None);
            let baseline = self.agents.entry(pattern.clone()).or_insert_with(start);
            baseline.freeze(frozen);
            baseline.observe_one_of_many(&Observed { exact: &exact.0, ..observed }, is_new);
        }
        self.actions += 1;
        self.oldest.push_back(entry.subject.clone());
        self.awaited.insert(entry.subject.clone(), [Some(name.clone()), pattern]);
        if self.oldest.len() > AWAITED
            && let Some(forgotten) = self.oldest.pop_front()
        {
            self.awaited.remove(&forgotten);
        }
        Ok(())
    }

    fn is_frozen(&self, name: &Name, at: Timestamp) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let group = self.config.group_of(name).map(|group| Scope::group(&group.name));
        let shut = [Some(Scope::all()), Some(Scope::agent(name)), group];
        shut.iter().flatten().any(|scope| self.open.contains(scope))
            && !self.accepted.iter().any(|(who, since, until)| who == name && (*since..=*until).contains(&at))
    }
}

impl App {
    /// Takes what an agent did for normal: what stood out while its breaker was open is learnt, its growth is
    /// accepted, and what is going on holds and opens nothing any more. Does not close the breaker.
    ///
    /// # Errors
    /// When nothing is known of the agent, the caller may not, or it cannot be recorded.
    pub async fn accept(&self, caller: &Caller, agent: &str, request: AcceptRequest) -> Result<(), Error> {
        caller.require(Role::Operator)?;
        let reason = request.reason.trim();
        if reason.is_empty() || reason.len() > MAX_REASON || reason.chars().any(is_invisible) {
            return Err(Error::Invalid(format!(
                "reason: say why, in 1 to {MAX_REASON} bytes without invisible characters; it goes on record"
            )));
        }
        let name = self.known_agent(agent).await?;
        let agent = self.agent(&name).await?;
        let before = agent.known().before.clone();
        let now = self.clock.now();
        let since = before.as_ref().map_or(now, |before| before.span().1);
        let (by, reason) = (caller.actor(), reason.to_owned());
        self.append(vec![Event::DriftAccepted { agent: name.clone(), since, by, reason }]).await?;
        let learnt = match before {
            None => None,
            Some(before) => {
                // Of a key's agents each is new once more in it: who came before is not known here.
                let config = Arc::clone(&self.rules().drift);
                let mut lesson = Lesson::new(config, self.drift.salt, self.keys.patterns());
                if Pattern::from(name.clone()).literal().is_none() {
                    let keys =
                        EntryFilter { kinds: vec!["key.created".to_owned()], ..EntryFilter::default() };
                    self.teach(&mut lesson, keys, |_| false, |_| true).await?;
                }
                lesson.agents.insert(name.clone(), before);
                lesson.accepted.push((name.clone(), since, self.clock.now()));
                let filter = EntryFilter { since: Some(since), ..EntryFilter::default() };
                self.teach(&mut lesson, filter, |other| *other == name, |entry| entry.at > since).await?;
                lesson.agents.remove(&name)
            }
        };
        let mut known = agent.change();
        if let Some(learnt) = learnt {
            known.baseline = Some(learnt);
        }
        known.before = None;
        if let Some(baseline) = &mut known.baseline {
            baseline.accept();
        }
        known.excuse(now);
        Ok(())
    }

    /// Learns anew, from the log as far as it reaches, what one agent or all normally do.
    ///
    /// # Errors
    /// When the caller may not, it is being done already, or the log cannot be read.
    pub async fn rebuild(
        self: &Arc<Self>,
        caller: &Caller,
        request: RebuildRequest,
    ) -> Result<RebuildReport, Error> {
        caller.require(Role::Operator)?;
        let only = match &request.agent {
            Some(agent) => Some(self.known_agent(agent).await?),
            None => None,
        };
        let app = Arc::clone(self);
        to_the_end(async move { app.rebuild_now(only).await }).await
    }

    async fn rebuild_now(&self, only: Option<Name>) -> Result<RebuildReport, Error> {
        let Some(_alone) = self.locks.try_lock("rebuild of baselines") else {
            return Err(Error::Conflict(
                "baselines are being rebuilt already; wait for it to end".to_owned(),
            ));
        };
        let config = Arc::clone(&self.rules().drift);
        let accepted = self.accepted().await?;
        self.keep_all().await?;
        let drift = Arc::clone(&self.drift);
        let known = tokio::task::spawn_blocking(move || drift.baselines.count()).await;
        let known = usize::try_from(known.map_err(|_| Error::Stopping)??).unwrap_or(usize::MAX);
        // As many agents at a time as the operator wants in memory.
        let passes = if only.is_some() { 1 } else { known.div_ceil(config.in_memory.max(1)).max(1) as u64 };
        let (state, mut report) = (RandomState::new(), RebuildReport::default());
        let mut groups = HashMap::new();
        for pass in 0..passes {
            let mut lesson = Lesson::new(Arc::clone(&config), self.drift.salt, self.keys.patterns());
            lesson.accepted.clone_from(&accepted);
            let wanted = |name: &Name| match &only {
                Some(only) => only == name,
                None => passes == 1 || state.hash_one(name) % passes == pass,
            };
            self.teach(&mut lesson, EntryFilter::default(), wanted, |_| true).await?;
            report.actions += lesson.actions;
            report.agents += lesson.agents.len() as u64;
            // Written down long before there is no room for the next.
            let few = (config.in_memory / 4).max(1);
            for (done, (name, baseline)) in (1..).zip(lesson.agents) {
                let agent: Arc<Agent> = self.agent(&name).await?;
                agent.change().baseline = Some(baseline);
                if done % few == 0 {
                    self.keep_all().await?;
                }
            }
            groups = lesson.groups;
            self.keep_all().await?;
        }
        if only.is_none() && passes == 1 {
            self.drift.groups.replace(groups);
        }
        Ok(report)
    }

    /// Shows entries of the log to `lesson`, up to its end.
    async fn teach(
        &self,
        lesson: &mut Lesson,
        filter: EntryFilter,
        wanted: impl Fn(&Name) -> bool,
        counts: impl Fn(&Entry) -> bool,
    ) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let entries = self.store.entries(after, PAGE, filter.clone()).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = last.seq;
            for entry in entries.iter().filter(|entry| counts(entry)) {
                lesson.take(entry, &wanted)?;
            }
        }
    }

    async fn accepted(&self) -> Result<Vec<(Name, Timestamp, Timestamp)>, Error> {
        let filter = EntryFilter { kinds: vec!["drift.accepted".to_owned()], ..EntryFilter::default() };
        let (mut accepted, mut after) = (Vec::new(), 0);
        loop {
            let entries = self.store.entries(after, PAGE, filter.clone()).await?;
            let Some(last) = entries.last() else { return Ok(accepted) };
            after = last.seq;
            for entry in &entries {
                let event = Event::from_parts(&entry.kind, &entry.body).map_err(|e| unclear(entry, &e))?;
                if let Event::DriftAccepted { agent, since, .. } = event {
                    accepted.push((agent, since, entry.at));
                }
            }
        }
    }

    /// The agent called so, if anything is known of it.
    pub(super) async fn known_agent(&self, agent: &str) -> Result<Name, Error> {
        let name = Name::new(agent).map_err(|e| Error::Invalid(format!("agent: {e}")))?;
        let found = self.agent(&name).await?;
        let known = found.known();
        if known.baseline.is_none() && known.rest.revision == 0 {
            return Err(Error::NotFound("agent", agent.chars().take(64).collect()));
        }
        Ok(name)
    }
}

fn unclear(entry: &Entry, error: &serde_json::Error) -> Error {
    checkrein_store::StoreError::Entry { seq: entry.seq, cause: error.to_string() }.into()
}
