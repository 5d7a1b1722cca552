//! When a breaker opens, and how it comes back.

use serde::{Deserialize, Serialize};

/// What the operator sets, for an agent, a group or everything. All counts are at least 1 to mean anything;
/// see [`Rules::check`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Reads run while it is open.
    pub exempt_reads: bool,
    /// A drift score that opens it.
    pub open_at_drift: f32,
    /// A score of the channel `loop` that opens it.
    pub open_at_loop: f32,
    /// So many blocks within so many seconds open it.
    pub blocks: u8,
    /// The seconds for [`Rules::blocks`].
    pub blocks_within_seconds: u32,
    /// So many failures among the last 20 outcomes open it.
    pub errors_of_20: u8,
    /// An outcome of more than so many times the declared records opens it …
    pub understated_times: u32,
    /// … when it is more than so many records.
    pub understated_least: u64,
    /// Seconds that it stays open the first time; each further trip doubles them.
    pub cool_down_seconds: u32,
    /// It stays open for at most so many seconds.
    pub longest_cool_down_seconds: u32,
    /// Good probes that close it.
    pub probes: u8,
    /// After so many seconds closed, earlier trips are forgotten.
    pub forget_after_seconds: i64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            exempt_reads: false,
            open_at_drift: 7.0,
            open_at_loop: 5.0,
            blocks: 10,
            blocks_within_seconds: 300,
            errors_of_20: 15,
            understated_times: 10,
            understated_least: 100,
            cool_down_seconds: 300,
            longest_cool_down_seconds: 6 * 3_600,
            probes: 3,
            forget_after_seconds: 24 * 3_600,
        }
    }
}

impl Rules {
    /// The seconds that it stays open after so many trips in a row.
    pub(super) fn cool_down(&self, trips: u8) -> i64 {
        let doubled = i64::from(self.cool_down_seconds) << trips.saturating_sub(1).min(20);
        doubled.min(i64::from(self.longest_cool_down_seconds.max(self.cool_down_seconds)))
    }

    /// What is wrong with them, for a person.
    ///
    /// # Errors
    /// With the name of the first value that would make a breaker that never opens or never closes.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{what}; leave it out for the default"));
        match self {
            r if r.probes == 0 => wrong("probes must be at least 1"),
            r if r.cool_down_seconds == 0 => wrong("cool_down_seconds must be at least 1"),
            r if r.blocks == 0 || r.blocks > 100 => wrong("blocks must be 1 to 100"),
            r if r.blocks_within_seconds == 0 => wrong("blocks_within_seconds must be at least 1"),
            r if !(1..=20).contains(&r.errors_of_20) => wrong("errors_of_20 must be 1 to 20"),
            r if !(1.0..=12.0).contains(&r.open_at_drift) => wrong("open_at_drift must be 1 to 12"),
            r if !(1.0..=12.0).contains(&r.open_at_loop) => wrong("open_at_loop must be 1 to 12"),
            r if r.understated_times == 0 => wrong("understated_times must be at least 1"),
            r if r.forget_after_seconds < 0 => wrong("forget_after_seconds cannot be negative"),
            _ => Ok(()),
        }
    }
}
