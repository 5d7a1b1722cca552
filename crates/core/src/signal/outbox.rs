//! What the dispatcher keeps between its steps.

use super::{Delivery, Group, Place};
use std::collections::BTreeMap;

/// What the dispatcher goes on from.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The last signal that was routed.
    pub routed: Place,
    /// The groups that are open.
    pub groups: Vec<Group>,
    /// The messages that wait, in order.
    pub queued: Vec<Delivery>,
    /// The number of the last message there was.
    pub last_no: u64,
    /// What else it keeps, by name: JSON.
    pub marks: BTreeMap<String, String>,
}

/// One step of the dispatcher: all of it is kept, or nothing.
#[derive(Debug, Default)]
pub struct OutboxChanges {
    /// Signals up to there are routed.
    pub routed: Option<Place>,
    /// By condition and sink; none for those that are closed.
    pub groups: Vec<((String, String), Option<Group>)>,
    /// New ones, and those that stand otherwise now.
    pub deliveries: Vec<Delivery>,
    /// By name.
    pub marks: BTreeMap<String, String>,
    /// Remove what is beyond this.
    pub prune: Option<OutboxLimits>,
}

impl OutboxChanges {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.routed.is_none()
            && self.groups.is_empty()
            && self.deliveries.is_empty()
            && self.marks.is_empty()
            && self.prune.is_none()
    }
}

/// How much is kept of what is done with. Rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Signals that were routed.
    pub signals: u32,
    /// Messages that were delivered.
    pub delivered: u32,
    /// Messages that were given up.
    pub dead: u32,
}
