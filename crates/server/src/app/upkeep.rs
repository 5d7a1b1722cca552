//! What the server does by itself: expiring approvals, retention.

use super::App;
use std::{sync::Arc, time::Duration};

/// How often approvals are looked at.
const EXPIRY: Duration = Duration::from_secs(1);
/// How often old entries of the log are removed.
const RETENTION: Duration = Duration::from_secs(600);

/// How far time may be held ahead of the machine's clock before somebody must be told.
const TOLERATED_AHEAD_SECONDS: i64 = 60;

impl App {
    /// Runs until the server stops.
    pub async fn upkeep(self: Arc<Self>) {
        let mut stopping = self.stopping();
        let mut expiry = tokio::time::interval(EXPIRY);
        expiry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut retention = tokio::time::interval(RETENTION);
        retention.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = expiry.tick() => {
                    if let Err(error) = self.settle_policies().await {
                        tracing::error!(%error, "it is not known which policies are on record");
                    }
                    if let Err(error) = self.expire_approvals().await {
                        tracing::error!(%error, "expired approvals could not be recorded");
                    }
                }
                _ = retention.tick() => self.retain().await,
                _ = stopping.changed() => return,
            }
        }
    }

    async fn retain(&self) {
        let ahead = self.clock.ahead_seconds();
        if ahead > TOLERATED_AHEAD_SECONDS {
            tracing::error!(
                ahead_seconds = ahead,
                "the log has entries from the future: this machine's clock was once ahead. Until it has caught up, \
                 holds do not expire, rates do not lapse and nothing is removed from the log"
            );
            return;
        }
        let Some(keep) = self.keep_log_seconds else { return };
        let before = self.clock.now().plus_seconds(keep.saturating_neg());
        match self.store.prune(before).await {
            Ok(pruned) if pruned.removed > 0 => {
                tracing::info!(removed = pruned.removed, "old entries of the action log were removed");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "old entries of the action log could not be removed"),
        }
    }
}
