//! What people do: open and close breakers.

use super::{Agent, agent::By, words};
use crate::app::{App, Caller, Error};
use checkrein_api::{BreakerList, BreakerRequest, BreakerView, BreakerWanted};
use checkrein_core::{
    drift::breaker::{Breaker, BreakerChange, Cause, Change, Scope, State},
    event::Event,
    key::Role,
    name::{Name, is_invisible},
};

/// Breakers that are listed at most.
const MAX_LISTED: usize = 1000;
/// Longest reason, in bytes.
const MAX_REASON: usize = 1024;

impl App {
    /// The scope that `text` names: `all`, `group:NAME` or `agent:NAME`.
    ///
    /// # Errors
    /// When there is no such group, or it is no name.
    pub fn breaker_scope(&self, text: &str) -> Result<Scope, Error> {
        let shown = || text.chars().take(64).collect::<String>();
        if text == "all" {
            return Ok(Scope::all());
        }
        if let Some(agent) = text.strip_prefix("agent:") {
            return Name::new(agent)
                .map(|name| Scope::agent(&name))
                .map_err(|e| Error::Invalid(format!("agent: {e}")));
        }
        let Some(group) = text.strip_prefix("group:") else {
            return Err(Error::Invalid(format!(
                "`{}` names no breaker; write `all`, `group:NAME` or `agent:NAME`",
                shown().escape_debug()
            )));
        };
        let rules = self.rules();
        match rules.drift.groups.iter().find(|known| known.name == group) {
            Some(known) => Ok(Scope::group(&known.name)),
            // One that is open and no longer configured must be closable.
            None if self.drift.groups.get(&Scope::group(group)).revision > 0 => Ok(Scope::group(group)),
            None => Err(Error::NotFound("group in [drift.groups]", shown())),
        }
    }

    /// Opens or closes a breaker by a person's word. It holds from the next check on.
    ///
    /// # Errors
    /// When the caller may not, or it could not be recorded: then it stands as it stood, or open.
    pub async fn set_breaker(
        &self,
        caller: &Caller,
        scope: &Scope,
        request: BreakerRequest,
    ) -> Result<BreakerView, Error> {
        caller.require(Role::Operator)?;
        let reason = request.reason.trim();
        if reason.is_empty() || reason.len() > MAX_REASON || reason.chars().any(is_invisible) {
            return Err(Error::Invalid(format!(
                "reason: say why, in 1 to {MAX_REASON} bytes without invisible characters; it goes on record"
            )));
        }
        let by = caller.actor();
        let opens = request.state == BreakerWanted::Open;
        let now = self.clock.now();
        let cause = Cause::Person { by: by.name.clone(), reason: reason.to_owned() };
        let change = |breaker: &mut Breaker, rules: &_| -> Option<Change> {
            if opens { breaker.trip(now, cause.clone(), rules) } else { breaker.close(now) }
        };
        let person = By { person: Some(&by), check_id: None };
        let changed = match scope.agent_name().map(Name::new) {
            Some(Ok(name)) => {
                let agent = self.agent(&name).await?;
                if opens {
                    self.is_somebody(&agent)?;
                }
                let rules = self.rules();
                let mut known = agent.change();
                let change = change(&mut known.rest.breaker, &rules.drift.settings_of(&name).breaker);
                let said = if opens { cause.sentence() } else { reason.to_owned() };
                let changed = change.map(|change| {
                    let changed = known.changed(&name, change, Some(said.clone()), person);
                    BreakerChange { reason: reason.to_owned(), ..changed }
                });
                if opens {
                    known.rest.why = said;
                } else {
                    known.closed(now);
                }
                changed
            }
            Some(Err(e)) => return Err(Error::Invalid(format!("agent: {e}"))),
            None => {
                let rules = self.rules();
                let why = if opens { cause.sentence() } else { reason.to_owned() };
                self.drift
                    .groups
                    .change(scope, &why, person, |breaker| change(breaker, &rules.drift.settings.breaker))
                    .map(|changed| BreakerChange { reason: reason.to_owned(), ..changed })
            }
        };
        if let Some(changed) = changed {
            self.drift.note([&changed]);
            self.append(vec![Event::BreakerChanged(Box::new(changed))]).await?;
        }
        self.breaker(scope).await
    }

    /// Refuses a pattern that no key stands for: whoever opened its breaker would think that it stops something.
    fn is_somebody(&self, agent: &Agent) -> Result<(), Error> {
        let name = &agent.name;
        let keys = self.keys.patterns();
        if !name.contains('*') || keys.values().any(|key| key == name) || agent.known().baseline.is_some() {
            return Ok(());
        }
        let mut patterns: Vec<_> = keys.values().map(|pattern| format!("`{pattern}`")).collect();
        patterns.sort();
        patterns.dedup();
        patterns.truncate(10);
        let there = if patterns.is_empty() {
            "no key stands for several agents".to_owned()
        } else {
            format!("those of keys are {}", patterns.join(", "))
        };
        Err(Error::Invalid(format!(
            "agent: no key stands for `{name}`, so its breaker would stop nobody; {there}. Name an agent, a group or \
             `all`"
        )))
    }

    /// How a breaker stands.
    ///
    /// # Errors
    /// When what is known of the agent cannot be read.
    pub async fn breaker(&self, scope: &Scope) -> Result<BreakerView, Error> {
        let (breaker, why) = match scope.agent_name().map(Name::new) {
            Some(Ok(name)) => {
                let agent = self.agent(&name).await?;
                let known = agent.known();
                (known.rest.breaker.clone(), known.rest.why.clone())
            }
            _ => {
                let shared = self.drift.groups.get(scope);
                (shared.breaker, shared.why)
            }
        };
        Ok(view(scope, &breaker, &why))
    }

    /// The breakers that are in the way of a held action: that of everything, and those of its agent's group, of its agent,
    /// and of all agents of the key that asked, where they are not closed.
    ///
    /// # Errors
    /// When what is known of the agent cannot be read.
    pub(crate) async fn in_the_way(&self, approval_id: &str) -> Result<Vec<BreakerView>, Error> {
        let Some(held) = self.store.approval(approval_id).await? else { return Ok(Vec::new()) };
        let agent = &held.action.agent;
        let group = self.rules().drift.group_of(agent).map(|group| Scope::group(&group.name));
        let of_key = self.keys.pattern(&held.asked_by).filter(|pattern| pattern != agent);
        let agents = of_key.iter().chain([agent]).map(Scope::agent);
        let mut found = Vec::new();
        for scope in std::iter::once(Scope::all()).chain(group).chain(agents) {
            let breaker = self.breaker(&scope).await?;
            if breaker.state != State::Closed {
                found.push(breaker);
            }
        }
        Ok(found)
    }

    /// The breakers that are not closed, at most 1,000.
    pub fn open_breakers(&self) -> BreakerList {
        let mut breakers: Vec<_> = self
            .drift
            .groups
            .not_closed()
            .into_iter()
            .map(|(scope, shared)| view(&scope, &shared.breaker, &shared.why))
            .collect();
        let mut agents: Vec<_> = self
            .drift
            .last()
            .values()
            .filter(|change| change.breaker.state() != State::Closed)
            .map(|change| view(&change.scope, &change.breaker, &change.reason))
            .collect();
        breakers.sort_by(|a, b| a.scope.cmp(&b.scope));
        agents.sort_by(|a, b| a.scope.cmp(&b.scope));
        breakers.extend(agents);
        breakers.truncate(MAX_LISTED);
        BreakerList { breakers }
    }
}

pub(super) fn view(scope: &Scope, breaker: &Breaker, why: &str) -> BreakerView {
    let is_open = breaker.cause().is_some();
    BreakerView {
        scope: scope.as_str().to_owned(),
        state: breaker.state(),
        since: is_open.then(|| breaker.since()),
        until: breaker.until(),
        reason: is_open.then(|| why.to_owned()),
        cause: breaker.cause().cloned(),
        next: is_open.then(|| words::close(scope)),
    }
}
