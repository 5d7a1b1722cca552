//! How many actions each hour had, for people who look: read from the log once, then only what came since.
//!
//! The log has no index by agent, which every check would pay for, and two days of it can be a hundred thousand entries. What
//! an hour had that is over does not change any more.

use crate::app::{App, Error};
use checkrein_core::{
    name::{Name, Pattern},
    time::Timestamp,
};
use checkrein_store::ChecksByHour;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Microseconds in an hour.
const HOUR: i64 = 3_600_000_000;
/// The newest entries of the log, of all agents, that are looked at.
const MOST: u64 = 100_000;
/// Seconds after which an action is on record, and more.
const ON_RECORD: i64 = 60;
/// Agents whose hours are remembered; beyond that everything is forgotten and read again.
const AGENTS: usize = 1_000;

/// What is remembered, by agent.
#[derive(Default)]
pub(in crate::app) struct Hours(Mutex<HashMap<Name, Over>>);

/// Hours that are over.
#[derive(Clone)]
struct Over {
    /// From which hour on they were asked for.
    asked: i64,
    /// The first hour that is not among them.
    until: i64,
    counted: ChecksByHour,
}

impl Hours {
    fn map(&self) -> MutexGuard<'_, HashMap<Name, Over>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, name: &Name, first: i64) -> Option<Over> {
        self.map().get(name).filter(|over| over.asked <= first).cloned()
    }

    fn keep(&self, name: &Name, over: Over) {
        let mut map = self.map();
        if map.len() >= AGENTS && !map.contains_key(name) {
            map.clear();
        }
        map.insert(name.clone(), over);
    }
}

impl App {
    /// How many actions an agent took in each hour from `first`, in hours since 1970.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) async fn actions_by_hour(
        &self,
        name: &Name,
        first: i64,
        now: Timestamp,
    ) -> Result<ChecksByHour, Error> {
        // The name may be a key's pattern: then of all that fit it.
        let whose = Pattern::from(name.clone());
        let known = self.drift.hours.of(name, first);
        let since = known.as_ref().map_or(first, |over| over.until.max(first));
        let since = Timestamp::from_micros(since.saturating_mul(HOUR));
        let fresh = self.store.checks_by_hour(&whose, since, MOST).await?;
        let counted = match known {
            Some(over) => joined(over, fresh),
            None => fresh,
        };
        let until = now.plus_seconds(-ON_RECORD).as_micros().div_euclid(HOUR);
        let mut over = counted.clone();
        over.hours.retain(|(hour, _)| (first..until).contains(hour));
        self.drift.hours.keep(name, Over { asked: first, until, counted: over });
        Ok(counted)
    }
}

/// Hours that are over, and what was read from the end of those on.
fn joined(over: Over, fresh: ChecksByHour) -> ChecksByHour {
    if fresh.whole_from > over.until {
        // More came since than is looked at: nothing before that is known to be whole.
        return fresh;
    }
    let before = over.counted.hours.into_iter().filter(|(hour, _)| *hour < over.until);
    ChecksByHour { whole_from: over.counted.whole_from, hours: before.chain(fresh.hours).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(until: i64) -> Over {
        let counted = ChecksByHour { whole_from: 2, hours: vec![(3, 30), (5, 50)] };
        Over { asked: 1, until, counted }
    }

    #[test]
    fn what_is_over_stands_and_the_rest_is_read() {
        let fresh = ChecksByHour { whole_from: 6, hours: vec![(6, 60), (7, 70)] };
        let all = joined(over(6), fresh.clone());
        assert_eq!((all.whole_from, all.hours), (2, vec![(3, 30), (5, 50), (6, 60), (7, 70)]));
        let gap = ChecksByHour { whole_from: 7, ..fresh };
        assert_eq!(joined(over(6), gap.clone()), gap);
    }

    #[test]
    fn a_longer_past_is_read_anew_and_memory_is_bounded() {
        let hours = Hours::default();
        let name = |n: usize| Name::new(&format!("bot-{n}")).unwrap();
        hours.keep(&name(0), over(6));
        assert!(hours.of(&name(0), 1).is_some() && hours.of(&name(0), 4).is_some());
        assert!(hours.of(&name(0), 0).is_none(), "asked for longer ago than it was read");
        for n in 0..3 * AGENTS {
            hours.keep(&name(n), over(6));
            assert!(hours.map().len() <= AGENTS);
        }
    }
}
