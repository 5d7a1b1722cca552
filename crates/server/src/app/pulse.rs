//! How many actions there were in each of the last minutes.

use super::{App, Error};
use checkrein_core::{decision::Verdict, time::Timestamp};
use checkrein_store::CheckFilter;
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Minutes that are kept.
pub(crate) const MINUTES: i64 = 60;
/// Checks from before the start that are counted at most.
const MAX_BEFORE: usize = 2_000;

/// One minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Minute {
    /// Minutes since 1970.
    pub(crate) number: i64,
    /// Allowed, held, blocked.
    pub(crate) verdicts: [u64; 3],
}

/// The last minutes, oldest first, those without actions left out.
#[derive(Default)]
pub(crate) struct Pulse {
    minutes: Mutex<VecDeque<Minute>>,
    /// What was before the start is counted when somebody first asks.
    before: tokio::sync::OnceCell<()>,
}

impl Pulse {
    /// Counts an action.
    pub(crate) fn beat(&self, at: Timestamp, verdict: Verdict) {
        let number = at.as_micros().div_euclid(60_000_000);
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        // Answers overtake each other by little: the minute is one of the last.
        let place = minutes.iter().rposition(|minute| minute.number <= number);
        let minute = match place {
            Some(i) if minutes.get(i).is_some_and(|minute| minute.number == number) => i,
            place => {
                let i = place.map_or(0, |i| i + 1);
                minutes.insert(i, Minute { number, verdicts: [0; 3] });
                i
            }
        };
        if let Some(count) = minutes.get_mut(minute).and_then(|m| m.verdicts.get_mut(verdict as usize)) {
            *count += 1;
        }
        while i64::try_from(minutes.len()).is_ok_and(|n| n > MINUTES) {
            minutes.pop_front();
        }
    }

    fn since(&self, number: i64) -> Vec<Minute> {
        let minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        minutes.iter().filter(|minute| minute.number >= number).copied().collect()
    }
}

impl App {
    /// The last hour, minute by minute, those without actions left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn pulse(&self) -> Result<Vec<Minute>, Error> {
        let now = self.clock.now();
        let pulse = &self.metrics.pulse;
        let warm = async || {
            let since = now.plus_seconds(-MINUTES * 60);
            let filter =
                CheckFilter { since: Some(since), until: Some(self.started), ..CheckFilter::default() };
            for row in self.store.checks(filter, None, MAX_BEFORE).await?.rows {
                pulse.beat(row.at, row.checked.decision.verdict);
            }
            Ok::<_, Error>(())
        };
        pulse.before.get_or_try_init(warm).await?;
        Ok(pulse.since(now.as_micros().div_euclid(60_000_000) - MINUTES + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_minute_whatever_the_order() {
        let pulse = Pulse::default();
        let at = |minute: i64| Timestamp::from_micros(minute * 60_000_000 + 5);
        for (minute, verdict) in
            [(10, Verdict::Allow), (12, Verdict::Block), (11, Verdict::Hold), (10, Verdict::Allow)]
        {
            pulse.beat(at(minute), verdict);
        }
        let seen: Vec<_> = pulse.since(0).into_iter().map(|m| (m.number, m.verdicts)).collect();
        assert_eq!(seen, [(10, [2, 0, 0]), (11, [0, 1, 0]), (12, [0, 0, 1])]);
        for minute in 13..200 {
            pulse.beat(at(minute), Verdict::Allow);
        }
        assert_eq!(pulse.since(0).len(), 60);
    }
}
