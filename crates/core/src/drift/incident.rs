//! One alert for one incident: a runaway agent is one message, not 400.

use super::{Channel, Reading};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// An incident is over when nothing has been unusual for so long and for so many actions, or for half a day.
const QUIET: i64 = 2 * HOUR;
const QUIET_ACTIONS: u64 = 15;
const LONG_QUIET: i64 = 12 * HOUR;
const HOUR: i64 = 3_600_000_000;
/// What is less unusual than the least score by this much keeps an incident going.
const MARGIN: f32 = 1.5;

/// Which incidents of one agent are going on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incidents {
    /// The last time at which each channel was unusual, and the number of that action.
    last: [(i64, u64); 8],
    actions: u64,
}

impl Default for Incidents {
    fn default() -> Self {
        Self { last: [(i64::MIN, 0); 8], actions: 0 }
    }
}

/// Channels that tell of the same thing share an incident: a burst is a high rate too.
fn same(channel: Channel) -> &'static [Channel] {
    match channel {
        Channel::Rate | Channel::Burst => &[Channel::Rate, Channel::Burst],
        Channel::Loop => &[Channel::Loop],
        Channel::Novelty => &[Channel::Novelty],
        Channel::Sequence => &[Channel::Sequence],
        Channel::Mix => &[Channel::Mix],
        Channel::Records => &[Channel::Records],
        Channel::Errors => &[Channel::Errors],
    }
}

/// Whether what was last unusual then, at that action, is not over yet.
fn is_recent((last, action): &(i64, u64), now: i64, actions: u64) -> bool {
    let quiet = now.saturating_sub(*last);
    quiet < QUIET || (quiet < LONG_QUIET && actions.saturating_sub(*action) < QUIET_ACTIONS)
}

impl Incidents {
    /// Whether an incident of `channel`, or of one that shares its incidents, is going on at `at`.
    pub fn going_on(&self, channel: Channel, at: Timestamp) -> bool {
        let last = same(channel).iter().filter_map(|c| self.last.get(*c as usize)).max();
        last.is_some_and(|last| is_recent(last, at.as_micros(), self.actions))
    }

    /// Of what `reading` shows at `at`, the channels in which an incident begins: those that reach
    /// `least` and were not unusual already.
    pub fn begin(
        &mut self,
        reading: &Reading,
        at: Timestamp,
        least: f32,
    ) -> impl Iterator<Item = (Channel, f32)> + use<> {
        let now = at.as_micros();
        self.actions += 1;
        let actions = self.actions;
        if reading.worst().1 < least - MARGIN {
            return [None; 8].into_iter().flatten();
        }
        let mut begun = [None; 8];
        let before = self.last;
        for (place, channel) in begun.iter_mut().zip(Channel::ALL) {
            let score = reading.score(channel);
            let last = same(channel).iter().filter_map(|c| before.get(*c as usize)).max();
            let going_on = last.is_some_and(|last| is_recent(last, now, actions));
            if (score >= least || (going_on && score >= least - MARGIN))
                && let Some(own) = self.last.get_mut(channel as usize)
            {
                *own = (now, actions);
            }
            if score >= least && !going_on {
                *place = Some((channel, score));
            }
        }
        // The highest speaks for those that share an incident.
        if let [Some((_, rate)), Some((_, burst)), ..] = begun {
            let weaker = usize::from(rate >= burst);
            if let Some(place) = begun.get_mut(weaker) {
                *place = None;
            }
        }
        begun.into_iter().flatten()
    }
}
