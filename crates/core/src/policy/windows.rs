//! What `rate_exceeds` remembers: for each policy and agent, when the last actions were.

use super::condition::{Rate, Truth};
use crate::{name::Name, time::Timestamp};
use foldhash::{HashMap, HashMapExt};
use std::collections::VecDeque;

/// Names a policy's windows: a digest of its name and of what it counts, so that a changed policy starts
/// anew and an unchanged one goes on across a swap of the set.
pub(super) type WindowKey = [u8; 16];

/// Times kept in all, at most; 8 bytes each. What one agent costs besides is counted as so many times.
const CAPACITY: usize = 8 << 20;
const AGENT_OVERHEAD: usize = 16;

/// Exact sliding windows over agents' actions. An action at `t` counts until just before `t + period`.
///
/// Time never runs backward in here: an earlier time is taken for the latest one seen, so that a clock set
/// back cannot empty a window. Memory is bounded (64 MiB): when it is full of actions that still count, the
/// rate of an agent not yet known is unknown, and unknown is decided by the policy's `on_unknown`.
#[derive(Debug)]
pub struct Windows {
    policies: HashMap<WindowKey, PolicyWindows>,
    now: i64,
    used: usize,
    /// When `used` reaches this, what has lapsed is dropped.
    sweep_at: usize,
    /// When everything is in use, from when on to look again.
    retry_at: i64,
    capacity: usize,
}

#[derive(Debug)]
struct PolicyWindows {
    period_micros: i64,
    /// The latest times of each agent, oldest first: never more than the policy's count.
    agents: HashMap<Name, VecDeque<i64>>,
}

impl Default for Windows {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Windows {
    /// Empty ones.
    pub fn new() -> Self {
        Self::default()
    }

    fn with_capacity(capacity: usize) -> Self {
        Self {
            policies: HashMap::new(),
            now: i64::MIN,
            used: 0,
            sweep_at: 4_096,
            retry_at: i64::MIN,
            capacity,
        }
    }

    /// Counts one action of `agent` at `now` and says whether the rate is exceeded, that action included.
    pub(super) fn count(&mut self, key: &WindowKey, rate: Rate, agent: &Name, now: Timestamp) -> Truth {
        self.now = self.now.max(now.as_micros());
        if self.used >= self.sweep_at || (self.used >= self.capacity && self.now >= self.retry_at) {
            self.sweep();
        }
        let period_micros = i64::from(rate.period_seconds) * 1_000_000;
        let full = self.used >= self.capacity;
        let policy = self
            .policies
            .entry(*key)
            .or_insert_with(|| PolicyWindows { period_micros, agents: HashMap::new() });
        let times = match policy.agents.get_mut(agent.as_str()) {
            Some(times) => times,
            None if full => return Truth::Unknown,
            None => {
                self.used += AGENT_OVERHEAD;
                policy.agents.entry(agent.clone()).or_default()
            }
        };
        let before = times.len();
        drop_lapsed(times, self.now, period_micros);
        self.used -= before - times.len();
        // The rate is exceeded when `count` earlier actions are still inside: this one is one more.
        let exceeded = times.len() >= usize::try_from(rate.count).unwrap_or(usize::MAX);
        if exceeded {
            // Older ones cannot matter any more: the next action only asks about the latest `count`.
            times.pop_front();
        } else if self.used >= self.capacity {
            return Truth::Unknown;
        } else {
            self.used += 1;
        }
        times.push_back(self.now);
        exceeded.into()
    }

    /// What [`Windows::count`] would say, without counting.
    pub(super) fn would(&self, key: &WindowKey, rate: Rate, agent: &Name, now: Timestamp) -> Truth {
        let now = self.now.max(now.as_micros());
        let since = now.saturating_sub(i64::from(rate.period_seconds) * 1_000_000);
        let times = self.policies.get(key).and_then(|policy| policy.agents.get(agent.as_str()));
        let inside = times.map_or(0, |times| times.iter().filter(|at| **at > since).count());
        let exceeded = inside >= usize::try_from(rate.count).unwrap_or(usize::MAX);
        if !exceeded && self.used >= self.capacity { Truth::Unknown } else { exceeded.into() }
    }

    /// Forgets what counts no more.
    fn sweep(&mut self) {
        let (now, mut used) = (self.now, 0);
        self.policies.retain(|_, policy| {
            policy.agents.retain(|_, times| {
                drop_lapsed(times, now, policy.period_micros);
                times.shrink_to(times.len() * 2);
                !times.is_empty()
            });
            policy.agents.shrink_to(policy.agents.len() * 2);
            used += policy.agents.values().map(|t| t.len() + AGENT_OVERHEAD).sum::<usize>();
            !policy.agents.is_empty()
        });
        self.used = used;
        // Sweeping costs what is kept, so the next one waits until as much has been added again, or, when
        // there is no room for that, for a second.
        self.sweep_at = (used * 2).max(4_096);
        self.retry_at = now.saturating_add(1_000_000);
    }
}

fn drop_lapsed(times: &mut VecDeque<i64>, now: i64, period_micros: i64) {
    let since = now.saturating_sub(period_micros);
    while times.front().is_some_and(|oldest| *oldest <= since) {
        times.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn exact_at_both_edges() {
        let (mut w, rate, a) =
            (Windows::new(), Rate { count: 2, period_seconds: 10 }, Name::new("a").unwrap());
        let mut count = |t: i64| w.count(&[1; 16], rate, &a, at(t));
        assert_eq!(count(0), Truth::False);
        assert_eq!(count(0), Truth::False);
        assert_eq!(count(10 * SECOND - 1), Truth::True, "the third within ten seconds");
        // The two at 0 have just left; the one before and this one remain.
        assert_eq!(count(10 * SECOND), Truth::False);
        assert_eq!(count(20 * SECOND - 2), Truth::True);
        assert_eq!(count(40 * SECOND), Truth::False);
    }

    #[test]
    fn agents_and_policies_are_apart() {
        let (mut w, rate) = (Windows::new(), Rate { count: 1, period_seconds: 10 });
        let (a, b) = (Name::new("a").unwrap(), Name::new("b").unwrap());
        assert_eq!(w.count(&[1; 16], rate, &a, at(0)), Truth::False);
        assert_eq!(w.count(&[1; 16], rate, &b, at(0)), Truth::False);
        assert_eq!(w.count(&[2; 16], rate, &a, at(0)), Truth::False);
        assert_eq!(w.count(&[1; 16], rate, &a, at(1)), Truth::True);
    }

    #[test]
    fn a_clock_set_back_empties_nothing() {
        let (mut w, rate, a) =
            (Windows::new(), Rate { count: 1, period_seconds: 10 }, Name::new("a").unwrap());
        assert_eq!(w.count(&[1; 16], rate, &a, at(100 * SECOND)), Truth::False);
        assert_eq!(w.count(&[1; 16], rate, &a, at(0)), Truth::True);
        assert_eq!(w.count(&[1; 16], rate, &a, at(i64::MIN)), Truth::True);
        assert_eq!(w.count(&[1; 16], rate, &a, at(i64::MAX)), Truth::False);
        assert_eq!(w.count(&[1; 16], rate, &a, at(0)), Truth::True);
    }

    #[test]
    fn memory_is_bounded_and_a_full_one_admits_that_it_does_not_know() {
        let mut w = Windows::with_capacity(10_000);
        let rate = Rate { count: 3, period_seconds: 10 };
        let agent = |i: i64| Name::new(&format!("agent-{i}")).unwrap();
        let mut unknown = 0;
        for i in 0..5_000 {
            unknown += i64::from(w.count(&[1; 16], rate, &agent(i), at(i)) == Truth::Unknown);
            assert!(w.used <= 10_000 + AGENT_OVERHEAD + 1);
        }
        assert!(unknown > 4_000, "{unknown}");
        assert_eq!(w.count(&[1; 16], rate, &agent(0), at(1)), Truth::Unknown, "no room for its second");
        // Once those have lapsed there is room again.
        let late = 100 * SECOND;
        for i in 0..2_000 {
            w.count(&[1; 16], rate, &agent(10_000 + i), at(late + i * 20 * SECOND));
        }
        assert_eq!(w.count(&[1; 16], rate, &agent(99_999), at(late + 50_000 * SECOND)), Truth::False);
    }

    #[test]
    fn what_lapsed_is_forgotten() {
        let (mut w, rate) = (Windows::new(), Rate { count: 5, period_seconds: 1 });
        for i in 0..200_000_i64 {
            w.count(&[1; 16], rate, &Name::new(&format!("a{i}")).unwrap(), at(i * SECOND));
        }
        assert!(w.used < 10_000, "{}", w.used);
        assert!(w.policies[&[1; 16]].agents.len() < 1_000);
    }
}
