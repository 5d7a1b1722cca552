//! How long snapshots are kept, and how much of the room agents may take.

use super::{App, Error, seconds, snapshots::snapshot_lock};
use crate::config::Snapshots;
use checkrein_core::snapshot::Origin;
use checkrein_store::LiveSnapshot;
use std::collections::BTreeMap;

/// What the operator says about keeping snapshots.
pub(super) struct Keeping {
    /// Seconds; none for ever.
    keep_for: Option<i64>,
    /// Bytes of all together.
    keep_bytes: Option<u64>,
    /// Bytes of those that one agent asked for.
    agent_bytes: Option<u64>,
    /// Seconds in which one can be sealed.
    pub(super) seal_within: i64,
}

impl Keeping {
    pub(super) fn of(config: &Snapshots) -> Self {
        Self {
            keep_for: config.keep_for.map(seconds),
            keep_bytes: config.keep_bytes,
            agent_bytes: config.agent_bytes.or_else(|| config.keep_bytes.map(|bytes| bytes / 4)),
            seal_within: seconds(config.seal_within),
        }
    }
}

impl App {
    /// Whether `agent` may ask for another snapshot of `bytes`: else it could push those of others out.
    ///
    /// # Errors
    /// When it has taken the room that it may, or the store cannot be read.
    pub(super) async fn room_for(&self, agent: &str, bytes: u64) -> Result<(), Error> {
        let Some(most) = self.keeping.agent_bytes else { return Ok(()) };
        let live = self.store.live_snapshots().await?;
        let taken = requested_by_agent(&live).get(agent).copied().unwrap_or(0);
        if taken < most && taken.saturating_add(bytes) <= most {
            return Ok(());
        }
        Err(Error::NoRoom(format!(
            "the snapshots that {agent} asked for take {taken} of the {most} bytes that they may, which leaves \
             no room for another; nothing was taken. Let the change run through POST /v1/executions, which \
             keeps what it changes, or ask an operator to raise [snapshots] agent_bytes"
        )))
    }

    /// Removes snapshots that are older than `keep_for`, and what is beyond `keep_bytes`; never one of which
    /// somebody may still need to know whether it happened.
    pub(super) async fn retain_snapshots(&self) -> Result<(), Error> {
        let mut live = self.store.live_snapshots().await?;
        let mut bytes = live.iter().fold(0_u64, |sum, one| sum.saturating_add(one.bytes));
        self.metrics.snapshots.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.snapshots.live.set(i64::try_from(live.len()).unwrap_or(i64::MAX));
        if let Some(keep) = self.keeping.keep_for {
            let oldest = self.clock.now().plus_seconds(keep.saturating_neg());
            let old: Vec<_>;
            (old, live) = live.into_iter().partition(|one| one.created_at < oldest);
            for old in old {
                if self.let_go(&old, "it was older than [snapshots] keep_for").await? {
                    bytes = bytes.saturating_sub(old.bytes);
                }
            }
        }
        if let Some(most) = self.keeping.keep_bytes.filter(|most| bytes > *most) {
            for one in in_order_of_leaving(live) {
                if bytes <= most {
                    break;
                }
                let reason = "all snapshots together were larger than [snapshots] keep_bytes";
                if self.let_go(&one, reason).await? {
                    bytes = bytes.saturating_sub(one.bytes);
                }
            }
        }
        Ok(())
    }

    /// Removes a snapshot, unless somebody is working on it or needs it.
    async fn let_go(&self, snapshot: &LiveSnapshot, reason: &str) -> Result<bool, Error> {
        let Some(_alone) = self.locks.try_lock(&snapshot_lock(&snapshot.id)) else { return Ok(false) };
        if self.store.snapshot_needed(&snapshot.id).await? {
            return Ok(false);
        }
        Ok(self.remove_snapshot(&snapshot.id, reason).await)
    }
}

fn requested_by_agent(live: &[LiveSnapshot]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::<String, u64>::new();
    for one in live.iter().filter(|one| one.origin == Origin::Requested) {
        let sum = sums.entry(one.agent.clone()).or_default();
        *sum = sum.saturating_add(one.bytes);
    }
    sums
}

/// The order in which they go when there are too many: first what agents asked for, which costs them nothing
/// and undoes nothing that is known to have happened, those of the agent with the most first; then what was
/// taken with checks; last what executions and rollbacks left. Within each the oldest first.
fn in_order_of_leaving(live: Vec<LiveSnapshot>) -> Vec<LiveSnapshot> {
    let most = requested_by_agent(&live);
    let rank = |one: &LiveSnapshot| match one.origin {
        Origin::Requested => (0, std::cmp::Reverse(most.get(&one.agent).copied())),
        Origin::Automatic => (1, std::cmp::Reverse(None)),
        Origin::Execution | Origin::Rollback => (2, std::cmp::Reverse(None)),
    };
    let mut live = live;
    // Stable: they come oldest first.
    live.sort_by_cached_key(rank);
    live
}

#[cfg(test)]
mod tests {
    use super::*;
    use checkrein_core::time::Timestamp;

    #[test]
    fn what_agents_asked_for_goes_first() {
        let one = |id: &str, agent: &str, origin, bytes| LiveSnapshot {
            id: id.to_owned(),
            agent: agent.to_owned(),
            origin,
            created_at: Timestamp::default(),
            bytes,
        };
        let order = in_order_of_leaving(vec![
            one("1", "small", Origin::Requested, 10),
            one("2", "large", Origin::Execution, 10),
            one("3", "large", Origin::Requested, 9),
            one("4", "small", Origin::Automatic, 1_000),
            one("5", "large", Origin::Requested, 9),
            one("6", "small", Origin::Rollback, 10),
            one("7", "small", Origin::Automatic, 1),
        ]);
        let order: Vec<_> = order.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(order, ["3", "5", "1", "4", "7", "2", "6"]);
    }
}
