//! Who acts: an agent, and all agents of its key together where the key stands for several.
//!
//! A name that an agent gives itself proves nothing; the key does. Whoever holds a key with a pattern could be a new
//! agent at each action, and no agent's baseline would ever know it. So what comes with such a key is one
//! more agent, called by the pattern, with a baseline and a breaker.

use super::{
    Agent, Config, Drift, Look, State,
    agent::{Act, Of},
    words,
};
use crate::app::{App, Error};
use checkrein_core::{
    action::{Action, Category},
    check::Check,
    drift::breaker::{Admission, Scope},
    event::Checked,
    fingerprint::Fingerprint,
    name::Name,
    time::Timestamp,
};
use std::sync::Arc;

/// Who acts.
pub(in crate::app) struct Acting {
    pub(super) agent: Arc<Agent>,
    /// All agents of the key, where it stands for several.
    pub(super) all: Option<Arc<Agent>>,
}

impl App {
    /// Who acts with a key, in the name of `agent`; from the disk if need be.
    ///
    /// # Errors
    /// As [`App::agent`].
    pub(in crate::app) async fn acting(&self, key_id: &str, agent: &Name) -> Result<Acting, Error> {
        let all = match self.keys.pattern(key_id).filter(|pattern| pattern != agent) {
            Some(pattern) => Some(self.agent(&pattern).await?),
            None => None,
        };
        Ok(Acting { agent: self.agent(agent).await?, all })
    }
}

impl Drift {
    /// What drift and breakers say of an action. Counts it, and learns from it.
    pub(super) fn look(
        &self,
        config: &Arc<Config>,
        acting: &Acting,
        (action, exact): (&Action, &Fingerprint),
        check: &Check,
        (id, at): (&str, Timestamp),
    ) -> Look {
        let is_read = action.category == Category::Read;
        let Acting { agent, all } = acting;
        let world = (config, &self.groups, self.salt);
        let shut = self.shut(config, &agent.name, is_read);
        // No probe is taken from one breaker where another refuses.
        let all_refuse = || all.as_ref().and_then(|all| refusal(config, all, (is_read, true), at));
        let refused = shut.clone().or_else(all_refuse);
        // As the log tells it later: while one of the breakers is not closed, none of them learns.
        let frozen = self.is_any_open(config, acting);
        let act = Act { action, exact: &exact.0, at, id, shut: refused.is_some(), frozen, of: Of::One };
        let mut look = agent.change().look(&agent.name, &act, world);
        if let Some(all) = all {
            // Equal calls are equal whoever makes them.
            let exact = Fingerprint::of(check, &all.name, None);
            let of = Of::Many { is_new: look.is_new };
            let shut = shut.is_some() || look.blocks.is_some();
            let act = Act { action, exact: &exact.0, at, id, shut, frozen, of };
            look.add(all.change().look(&all.name, &act, world));
        }
        if shut.is_some() {
            (look.blocks, look.breaker) = (None, State::Open);
        }
        // Whatever they say by now: its own breaker was not asked.
        look.blocks = look.blocks.or(refused);
        self.note(&look.changes);
        look
    }

    /// Whether a breaker that concerns it is not closed, but for its own, where it is the only other one.
    pub(super) fn is_any_open(&self, config: &Config, acting: &Acting) -> bool {
        let is_open = |agent: &Arc<Agent>| agent.known().rest.breaker.state() != State::Closed;
        let group = || config.group_of(&acting.agent.name).map(|group| group.name.as_str());
        self.groups.any_open(group)
            || acting.all.as_ref().is_some_and(|all| is_open(all) || is_open(&acting.agent))
    }

    /// Why no action of it would be let through now. Takes no probe; `probes`: whether one counts as let through.
    pub(in crate::app) fn refuses(
        &self,
        config: &Config,
        acting: &Acting,
        (is_read, probes): (bool, bool),
        at: Timestamp,
    ) -> Option<String> {
        let refusal = |agent: &Arc<Agent>| refusal(config, agent, (is_read, probes), at);
        self.shut(config, &acting.agent.name, is_read)
            .or_else(|| refusal(&acting.agent))
            .or_else(|| acting.all.as_ref().and_then(refusal))
    }

    /// Why what this check allowed before is not to be allowed again: a breaker opened since.
    pub(in crate::app) fn outlived(
        &self,
        config: &Config,
        acting: &Acting,
        checked: &Checked,
        at: Timestamp,
    ) -> Option<String> {
        let is_read = checked.decision.category == Category::Read;
        let refusal = |agent: &Arc<Agent>, is_probe: bool| {
            let round = agent.known().rest.breaker.round_of(checked.decision.logged_at);
            if is_probe && round.is_some() { None } else { refusal(config, agent, (is_read, false), at) }
        };
        self.shut(config, &acting.agent.name, is_read)
            .or_else(|| refusal(&acting.agent, checked.probe.is_some()))
            .or_else(|| acting.all.as_ref().and_then(|all| refusal(all, true)))
    }
}

/// Why the breaker of one of them would not let an action through now.
fn refusal(
    config: &Config,
    agent: &Arc<Agent>,
    (is_read, probes): (bool, bool),
    at: Timestamp,
) -> Option<String> {
    let known = agent.known();
    let breaker = &known.rest.breaker;
    if breaker.state() == State::Closed {
        return None;
    }
    let (scope, since) = (Scope::agent(&agent.name), breaker.since());
    match breaker.would_admit(at, is_read, &config.settings_of(&agent.name).breaker) {
        Admission::Refused(until) => Some(words::refused(&scope, since, &known.rest.why, until)),
        // Probes are counted when they are asked for: approvals in stock must not pass beside them.
        Admission::Probe(_) if !probes => Some(words::probing(&scope, since, &known.rest.why)),
        Admission::Run | Admission::Probe(_) => None,
    }
}
