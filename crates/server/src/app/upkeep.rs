//! What the server does by itself: expiring approvals, retention, settling what was interrupted.

use super::App;
use std::{sync::Arc, time::Duration};

/// How often approvals are looked at.
const EXPIRY: Duration = Duration::from_secs(1);
/// How often old entries of the log are removed.
const RETENTION: Duration = Duration::from_secs(600);

/// How soon targets are asked again about what is not settled; twice as long each time, up to the last.
const SETTLE_FIRST: Duration = Duration::from_millis(500);
const SETTLE_LAST: Duration = Duration::from_secs(30);

/// How far time may be held ahead of the machine's clock before somebody must be told.
const TOLERATED_AHEAD_SECONDS: i64 = 60;

impl App {
    /// Runs until the server stops.
    pub async fn upkeep(self: Arc<Self>) {
        // A target that does not answer keeps nothing else waiting.
        tokio::join!(self.keep_settling(), self.keep_tidy(), self.keep_drift());
    }

    /// Waits until the server is to stop, which it may be already.
    pub(super) async fn stopped(&self) {
        // An error means that nobody is left to say it, which is a stop as well.
        let _told = self.stopping().wait_for(|stop| *stop).await.is_ok();
    }

    /// Asks what became of things that are not settled, at the start and whenever there is a reason to.
    async fn keep_settling(&self) {
        let mut wait = SETTLE_FIRST;
        loop {
            let settled = tokio::select! {
                settled = self.settle_all() => settled,
                () = self.stopped() => return,
            };
            wait = if settled { SETTLE_LAST } else { wait.saturating_mul(2).min(SETTLE_LAST) };
            tokio::select! {
                () = self.look_again.notified() => wait = SETTLE_FIRST,
                () = tokio::time::sleep(wait) => {}
                () = self.stopped() => return,
            }
        }
    }

    async fn keep_tidy(&self) {
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
                    if let Err(error) = self.expire_grants().await {
                        tracing::error!(%error, "expired grants could not be recorded");
                    }
                }
                _ = retention.tick() => self.retain().await,
                () = self.stopped() => return,
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
        if let Err(error) = self.retain_snapshots().await {
            tracing::error!(%error, "old snapshots could not be removed");
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
