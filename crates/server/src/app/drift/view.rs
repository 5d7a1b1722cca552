//! Agents, as people see them.

use super::{agent, people};
use crate::{
    app::{App, Error},
    config::DriftMode,
};
use checkrein_api::{AgentHour, AgentPage, AgentRate, AgentSummary, AgentView, MixShare, Timestamp};
use checkrein_core::{
    drift::breaker::{Scope, State},
    name::{Name, Pattern},
};
use checkrein_store::CheckFilter;
use std::{collections::HashMap, sync::Arc};

/// Microseconds in an hour.
const HOUR: i64 = 3_600_000_000;
/// Agents a page.
const MAX_PAGE: usize = 500;
/// The last actions that are shown, and those that the mix is of.
const RECENT: usize = 10;
const MIXED: usize = 500;
/// Seconds after which an action is on record, and more.
const ON_RECORD: i64 = 60;
/// The longest past that is drawn, in hours: two weeks.
pub(crate) const MAX_HOURS: u16 = 336;

impl App {
    /// A page of the agents that are known, by name.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn list_agents(
        &self,
        pattern: Option<Pattern>,
        after: Option<String>,
        limit: Option<usize>,
    ) -> Result<AgentPage, Error> {
        // What acted in the last moments is to be there, too.
        self.keep_all().await?;
        let limit = limit.unwrap_or(50).clamp(1, MAX_PAGE);
        let drift = Arc::clone(&self.drift);
        let page = tokio::task::spawn_blocking(move || {
            drift.baselines.page(&after.unwrap_or_default(), limit + 1, pattern.as_ref())
        });
        let mut page = page.await.map_err(|_| Error::Stopping)??;
        let more = page.len() > limit;
        page.truncate(limit);
        let config = Arc::clone(&self.rules().drift);
        let last = self.drift.last();
        let agents: Vec<_> = page
            .into_iter()
            .map(|known| {
                let name = Name::new(&known.agent).unwrap_or_else(|_| Name::default_agent());
                AgentSummary {
                    group: config.group_of(&name).map(|group| group.name.clone()),
                    breaker: last.get(&name).map_or(State::Closed, |change| change.breaker.state()),
                    agent: known.agent,
                    last_seen: known.seen,
                }
            })
            .collect();
        let next_cursor = agents.last().filter(|_| more).map(|agent| agent.agent.clone());
        Ok(AgentPage { agents, next_cursor })
    }

    /// A time by which an agent's last action was on record, as far as is known: the log has no index by agent,
    /// which every check would pay for, so this says where to look for one that acts seldom. Actions of the
    /// moments before a crash, and what it did while drift was off, it does not know.
    pub(crate) async fn acted_until(&self, name: &Name) -> Result<Option<Timestamp>, Error> {
        let agent = self.agent(name).await?;
        let known = agent.known();
        Ok(known.baseline.as_ref().map(|baseline| baseline.span().1.plus_seconds(ON_RECORD)))
    }

    /// What is known of an agent, with the last `hours` hours.
    ///
    /// # Errors
    /// When nothing is known of it, or it cannot be read.
    pub async fn view_agent(&self, agent: &str, hours: u16) -> Result<AgentView, Error> {
        let name = self.known_agent(agent).await?;
        let agent = self.agent(&name).await?;
        let now = self.clock.now();
        let hour = now.as_micros().div_euclid(HOUR);
        let first = hour - i64::from(hours.clamp(1, MAX_HOURS)) + 1;
        let whose = Pattern::from(name.clone());
        let counted = self.actions_by_hour(&name, first, now).await?;
        let (first, seen) = (first.max(counted.whole_from), counted.hours);
        let mut filter = CheckFilter { agent: Some(whose), ..CheckFilter::default() };
        let mut page = self.store.checks(filter.clone(), None, MIXED).await?;
        if page.rows.is_empty() && page.next.is_some() {
            filter.until = self.acted_until(&name).await?;
            page = self.store.checks(filter, page.next, MIXED).await?;
        }
        let last = page.rows;
        let mut mix: HashMap<(String, Option<String>), u64> = HashMap::new();
        for row in &last {
            let action = &row.checked.action;
            let tool = action.tool.as_ref().map(ToString::to_string);
            *mix.entry((action.action.to_string(), tool)).or_default() += 1;
        }
        let total = last.len().max(1) as f64;
        let mut mix: Vec<_> = mix
            .into_iter()
            .map(|((action, tool), n)| MixShare { action, tool, share: n as f64 / total })
            .collect();
        mix.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.action.cmp(&b.action)));
        mix.truncate(20);

        let config = Arc::clone(&self.rules().drift);
        let settings = config.settings_of(&name);
        let known = agent.known();
        let band = |hour: i64| {
            let at = Timestamp::from_micros(hour.saturating_mul(HOUR));
            known.baseline.as_ref().map_or((0.0, 0.0), |baseline| baseline.band(at))
        };
        let rate = |hour: i64| {
            let (expected, high) = band(hour);
            let seen = seen.iter().find(|(at, _)| *at == hour).map_or(0, |(_, n)| *n);
            AgentRate { expected, high, seen }
        };
        // Monday 00:00 at or before now; hour 96 of 1970 was one.
        let monday = hour - (hour - 96).rem_euclid(168);
        let span = known.baseline.as_ref().map(|baseline| baseline.span());
        let hours = (first..=hour).map(|hour| AgentHour {
            at: Timestamp::from_micros(hour.saturating_mul(HOUR)),
            rate: rate(hour),
        });
        Ok(AgentView {
            agent: name.to_string(),
            group: config.group_of(&name).map(|group| group.name.clone()),
            mode: match settings.mode {
                DriftMode::Enforce => "enforce",
                DriftMode::Alert => "alert",
                DriftMode::Off => "off",
            }
            .to_owned(),
            learning: known.baseline.as_ref().is_none_or(|baseline| baseline.is_new()),
            first_seen: span.map(|span| span.0),
            last_seen: span.map(|span| span.1),
            breaker: people::view(&Scope::agent(&name), &known.rest.breaker, &known.rest.why),
            incidents: agent::going_on(known.rest.told).collect(),
            rate: rate(hour),
            hours: hours.collect(),
            expected_by_hour_of_week: (0..168).map(|at| band(monday + at).0).collect(),
            mix,
            recent: last.into_iter().take(RECENT).map(crate::app::checks::view).collect(),
        })
    }
}
