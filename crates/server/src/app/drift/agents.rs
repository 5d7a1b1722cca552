//! The agents in memory: as many as the operator wants there, the others are on disk.

use super::agent::Agent;
use checkrein_core::name::Name;
use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// So many locks, that two checks seldom meet at one.
const SHARDS: usize = 16;

type Shard = HashMap<Name, Arc<Agent>>;

pub(super) struct Agents {
    shards: Vec<Mutex<Shard>>,
    state: RandomState,
    /// Agents of one shard.
    most: usize,
    /// Counts the agents that came into memory: the time by which it is told who acted lately.
    now: AtomicU64,
}

/// There is no room: what is known of others must be written down first.
pub(super) struct Crowded;

impl Agents {
    pub(super) fn new(most: usize) -> Self {
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            state: RandomState::new(),
            most: most.div_ceil(SHARDS).max(2),
            now: AtomicU64::new(0),
        }
    }

    fn shard(&self, name: &Name) -> Option<MutexGuard<'_, Shard>> {
        let hash = self.state.hash_one(name);
        let at = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        self.shards.get(at).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The agent, if it is in memory.
    pub(super) fn get(&self, name: &Name) -> Option<Arc<Agent>> {
        let agent = self.shard(name)?.get(name).cloned()?;
        agent.used.store(self.now.load(Ordering::Relaxed), Ordering::Relaxed);
        Some(agent)
    }

    /// Takes an agent into memory, unless somebody was faster: then theirs.
    pub(super) fn put(&self, agent: Agent) -> Result<Arc<Agent>, Crowded> {
        let Some(mut shard) = self.shard(&agent.name) else { return Err(Crowded) };
        if let Some(there) = shard.get(&agent.name) {
            return Ok(Arc::clone(there));
        }
        if shard.len() >= self.most {
            make_room(&mut shard, self.most);
            if shard.len() >= self.most * 2 {
                return Err(Crowded);
            }
        }
        agent.used.store(self.now.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let (name, agent) = (agent.name.clone(), Arc::new(agent));
        shard.insert(name, Arc::clone(&agent));
        Ok(agent)
    }

    /// All that are in memory, a shard at a time.
    pub(super) fn each(&self, mut visit: impl FnMut(&Arc<Agent>)) {
        for shard in &self.shards {
            let agents: Vec<_> =
                shard.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            agents.iter().for_each(&mut visit);
        }
    }

    /// How many are in memory.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

/// Lets go of a quarter: of those that nobody holds and that are on disk as they are, those that have not acted
/// for longest.
fn make_room(shard: &mut Shard, most: usize) {
    let goes = |agent: &Arc<Agent>| {
        // Whose incident is going on has to be told of its end.
        Arc::strong_count(agent) == 1 && !agent.is_dirty() && agent.known().rest.told == 0
    };
    let mut idle: Vec<u64> =
        shard.values().filter(|agent| goes(agent)).map(|agent| agent.used.load(Ordering::Relaxed)).collect();
    let spare = (most / 4).max(1).min(idle.len());
    let Some(last) = spare.checked_sub(1) else { return };
    let (_, last, _) = idle.select_nth_unstable(last);
    let last = *last;
    let mut spare = spare;
    shard.retain(|_, agent| {
        let goes = spare > 0 && agent.used.load(Ordering::Relaxed) <= last && goes(agent);
        spare -= usize::from(goes);
        !goes
    });
}
