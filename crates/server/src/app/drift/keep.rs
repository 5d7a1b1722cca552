//! What runs behind the checks: writing down what was learnt, and telling when an incident is over.

use super::{Agent, agent};
use crate::app::{App, Error};
use checkrein_core::{event::Event, name::Name, time::Timestamp};
use checkrein_store::SavedAgent;
use std::{sync::Arc, time::Duration};

/// How often what was learnt is written down: where many agents act, less often, so that it takes at most a
/// tenth of the time, and an agent that acts all the while is written once for more of its actions.
const KEEP: Duration = Duration::from_secs(2);
const KEEP_AT_LEAST: Duration = Duration::from_secs(10);
/// Agents written at a time, about 2 MiB.
const BATCH: usize = 512;
/// How often it is looked whether an incident is over, and breakers are recorded that should be by now.
const LOOK: Duration = Duration::from_secs(1);
/// Agents with something to look after that are taken into memory at the start.
const WATCHED: usize = 10_000;

impl App {
    /// Runs until the server stops.
    pub(in crate::app) async fn keep_drift(&self) {
        if let Err(error) = self.fetch_watched().await {
            tracing::error!(%error, "agents with unusual actions could not be read; they are once they act again");
        }
        let (mut kept, mut keep) = (tokio::time::Instant::now(), KEEP);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(kept + keep) => {
                    let begun = tokio::time::Instant::now();
                    self.keep_or_tell().await;
                    kept = tokio::time::Instant::now();
                    keep = ((kept - begun) * 9).clamp(KEEP, KEEP_AT_LEAST);
                }
                () = self.drift.crowded.notified() => self.keep_or_tell().await,
                _ = look.tick() => {
                    if let Err(error) = self.record_breakers().await {
                        tracing::error!(%error, "a breaker's change is not on record yet");
                    }
                    if let Err(error) = self.end_incidents().await {
                        tracing::error!(%error, "the end of an incident is not on record yet");
                    }
                }
                () = self.stopped() => return,
            }
        }
    }

    async fn keep_or_tell(&self) {
        if let Err(error) = self.keep_all().await {
            tracing::error!(%error, "what agents normally do could not be written down; trying again");
        }
    }

    /// Writes down all that was learnt and is not on the disk yet.
    ///
    /// # Errors
    /// When the file cannot be written. What is not there stays in memory.
    pub(in crate::app) async fn keep_all(&self) -> Result<(), Error> {
        let mut dirty = Vec::new();
        self.drift.agents.each(|agent| {
            if agent.is_dirty() {
                dirty.push(Arc::clone(agent));
            }
        });
        for agents in dirty.chunks(BATCH) {
            self.keep_some(agents.to_vec()).await?;
        }
        if dirty.is_empty() { self.keep_some(dirty).await } else { Ok(()) }
    }

    async fn keep_some(&self, agents: Vec<Arc<Agent>>) -> Result<(), Error> {
        let drift = Arc::clone(&self.drift);
        let kept = tokio::task::spawn_blocking(move || {
            let mut versions = Vec::with_capacity(agents.len());
            let mut saved = Vec::with_capacity(agents.len());
            for agent in &agents {
                let known = agent.known();
                versions.push(agent.version());
                saved.push(written(&agent.name, &known));
            }
            let groups = drift.groups.to_keep();
            if saved.is_empty() && groups.is_empty() {
                return Ok(());
            }
            if let Err(error) = drift.baselines.keep(&saved, &groups) {
                drift.groups.not_kept(&groups);
                return Err(error);
            }
            for (agent, version) in agents.iter().zip(versions) {
                agent.kept(version);
            }
            Ok(())
        });
        kept.await.map_err(|_| Error::Stopping)??;
        self.drift.kept.notify_waiters();
        Ok(())
    }

    /// Those that were in the middle of something when the server stopped.
    async fn fetch_watched(&self) -> Result<(), Error> {
        let drift = Arc::clone(&self.drift);
        let watched = tokio::task::spawn_blocking(move || drift.baselines.watched(WATCHED)).await;
        for agent in watched.map_err(|_| Error::Stopping)?? {
            if let Ok(name) = Name::new(&agent) {
                self.agent(&name).await?;
            }
        }
        Ok(())
    }

    async fn end_incidents(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let mut ended = Vec::new();
        self.drift.agents.each(|agent| {
            if agent.known().rest.told != 0 {
                let over = agent.change().over(now);
                ended.extend(
                    over.into_iter().map(|channel| Event::DriftEnded { agent: agent.name.clone(), channel }),
                );
            }
        });
        if ended.is_empty() { Ok(()) } else { self.append(ended).await }
    }
}

fn written(name: &Name, known: &agent::Known) -> SavedAgent {
    let baseline = known.baseline.as_ref();
    SavedAgent {
        agent: name.to_string(),
        seen: baseline.map_or(Timestamp::default(), |baseline| baseline.span().1),
        watched: known.rest.told != 0,
        baseline: baseline.map(|baseline| baseline.save()),
        before: known.before.as_ref().map(|before| before.save()),
        rest: serde_json::to_string(&known.rest).unwrap_or_default(),
    }
}
