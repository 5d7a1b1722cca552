//! How long snapshots are kept, and how much of the room agents may take.

use super::{App, Error, seconds, snapshots::snapshot_lock};
use crate::config::Snapshots;
use checkrein_core::snapshot::Origin;
use checkrein_store::LiveSnapshot;
use std::{cmp::Reverse, collections::BTreeMap};

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
    /// Whether `agent` may ask for another snapshot of `bytes` with the key `key_id`: else it could push those of
    /// others out. Both are counted, because a key may speak for any number of agents.
    ///
    /// # Errors
    /// When one of them has taken the room that it may, or the store cannot be read.
    pub(super) async fn room_for(&self, agent: &str, key_id: &str, bytes: u64) -> Result<(), Error> {
        let Some(most) = self.keeping.agent_bytes else { return Ok(()) };
        let live = self.store.live_snapshots().await?;
        let asked = |of: &dyn Fn(&LiveSnapshot) -> bool| {
            let theirs = live.iter().filter(|one| one.origin == Origin::Requested && of(one));
            theirs.fold(0_u64, |sum, one| sum.saturating_add(one.bytes))
        };
        let (by_agent, by_key) = (asked(&|one| one.agent == agent), asked(&|one| one.key_id == key_id));
        let (taken, whose) = if by_agent >= by_key { (by_agent, agent) } else { (by_key, "this key") };
        if taken < most && taken.saturating_add(bytes) <= most {
            return Ok(());
        }
        Err(Error::NoRoom(format!(
            "the snapshots that {whose} asked for take {taken} of the {most} bytes that they may, which leaves \
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

/// The order in which they go when there are too many: first what agents asked for, which costs them nothing
/// and undoes nothing that is known to have happened; then what was taken with checks; last what executions and
/// rollbacks left. Within each those of the key that has the most first, so that nobody pushes out another's by
/// making more; then the oldest.
fn in_order_of_leaving(mut live: Vec<LiveSnapshot>) -> Vec<LiveSnapshot> {
    let rank = |one: &LiveSnapshot| match one.origin {
        Origin::Requested => 0,
        Origin::Automatic => 1,
        Origin::Execution | Origin::Rollback => 2,
    };
    let mut held = BTreeMap::<(u8, String), u64>::new();
    for one in &live {
        let sum = held.entry((rank(one), one.key_id.clone())).or_default();
        *sum = sum.saturating_add(one.bytes);
    }
    // Stable: they come oldest first.
    live.sort_by_cached_key(|one| {
        let holder = (rank(one), one.key_id.clone());
        (holder.0, Reverse(held.get(&holder).copied()))
    });
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
            key_id: format!("key_{agent}"),
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
