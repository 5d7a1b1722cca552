//! What a closed breaker counts: blocks within a time, failures among the last outcomes.

use super::Rules;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Bounded: at most 100 times, and 20 outcomes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counts {
    /// When the last actions were blocked, oldest first.
    blocks: VecDeque<Timestamp>,
    /// The last 20 outcomes, one bit each; set: failed.
    outcomes: u32,
}

impl Counts {
    /// One more block: whether there have been too many.
    pub(super) fn block(&mut self, now: Timestamp, rules: &Rules) -> bool {
        let most = usize::from(rules.blocks.clamp(1, 100));
        self.blocks.push_back(now);
        while self.blocks.len() > most {
            self.blocks.pop_front();
        }
        let within = i64::from(rules.blocks_within_seconds);
        self.blocks.len() == most
            && self.blocks.front().is_some_and(|oldest| now < oldest.plus_seconds(within))
    }

    /// One more outcome: whether too many failed.
    pub(super) fn end(&mut self, failed: bool, rules: &Rules) -> bool {
        self.outcomes = ((self.outcomes << 1) | u32::from(failed)) & 0xF_FFFF;
        failed && self.outcomes.count_ones() >= u32::from(rules.errors_of_20.clamp(1, 20))
    }
}
