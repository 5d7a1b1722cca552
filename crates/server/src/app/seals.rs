//! Sealing: adding to a snapshot what its action left.
//!
//! What others change between the snapshot and its seal looks like the action's own work, and a rollback would
//! overwrite it. Whoever seals chooses the moment, so the time for it is short, and the moment goes on record.

use super::{
    App, Caller, Error,
    snapshots::{no_snapshot, snapshot_lock, unusable},
    to_the_end,
};
use checkrein_api::SnapshotView;
use checkrein_core::{
    event::Event,
    snapshot::{Origin, Seal, SnapshotState},
    time::Timestamp,
};
use std::sync::Arc;

impl App {
    /// Adds after-images to a snapshot. Once is enough: again changes nothing.
    ///
    /// # Errors
    /// When there is no such snapshot for this caller, it is gone, it was taken too long ago, or the
    /// after-images cannot be read.
    pub async fn seal_snapshot(self: &Arc<Self>, caller: &Caller, id: &str) -> Result<SnapshotView, Error> {
        caller.within_limit()?;
        self.visible_snapshot(caller, id).await?;
        let (app, id, key_id) = (Arc::clone(self), id.to_owned(), caller.key_id().to_owned());
        let state = to_the_end(async move { app.seal(&id, &key_id).await }).await?;
        self.snapshot_view(state).await
    }

    async fn seal(&self, id: &str, key_id: &str) -> Result<SnapshotState, Error> {
        let _alone = self.locks.lock(&snapshot_lock(id)).await;
        let mut state = self.store.snapshot(id).await?.ok_or_else(|| no_snapshot(id))?;
        if state.record.sealed {
            return Ok(state);
        }
        let target = self.target_of(&state).map_err(Error::Conflict)?;
        let until = self.seal_until(&state);
        if self.clock.now() > until {
            return Err(Error::Conflict(format!(
                "{id} could be sealed until {until} ([snapshots] seal_within). What others have changed since \
                 it was taken would pass for the action's work, so it stays unsealed: look at the differences \
                 with `checkrein rollback {id} --dry-run`, and roll it back with on_conflict `force`"
            )));
        }
        let snapshot = self.shelf.load(id, state.parts).await.map_err(|e| unusable(&e))?;
        // Left by an attempt that could not be recorded.
        self.shelf.remove(id, 2);
        let mut writer = self.shelf.begin(id, 2, &target).map_err(|e| Error::Snapshot(e.to_string()))?;
        target.target.seal(&snapshot, &mut writer).await.map_err(Error::of_target)?;
        writer.sealed();
        let written = self.shelf.finish(id, 2, writer).await.map_err(|e| Error::Snapshot(e.to_string()))?;
        let event =
            Event::SnapshotSealed { id: id.to_owned(), bytes: written.bytes, key_id: key_id.to_owned() };
        let at = match self.store.append(vec![event], self.clock.now()).await {
            Ok(stamps) => stamps.last().map_or_else(|| self.clock.now(), |stamp| stamp.at),
            Err(error) => {
                let error = Error::from(error);
                if !matches!(error, Error::InDoubt(_)) {
                    self.shelf.remove(id, 2);
                }
                return Err(error);
            }
        };
        state.seal(written.bytes, Some(Seal { at, key_id: key_id.to_owned() }));
        Ok(state)
    }

    /// The last moment in which a snapshot can be sealed.
    pub(super) const fn seal_until(&self, state: &SnapshotState) -> Timestamp {
        state.created_at.plus_seconds(self.keeping.seal_within)
    }

    /// Adds what the action left to the snapshot that was taken before it. Without that a rollback still
    /// works, and needs a person to look at what it would overwrite.
    pub(super) async fn seal_automatic(&self, check_id: &str, key_id: &str) {
        let sealed = async {
            for snapshot in self.store.snapshots_of_check(check_id).await? {
                if snapshot.record.origin == Origin::Automatic && !snapshot.record.sealed {
                    self.seal(&snapshot.record.id, key_id).await?;
                }
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = sealed.await {
            self.metrics.snapshots.failed.inc();
            tracing::warn!(%error, check = check_id, "the snapshot of this action could not be sealed");
        }
    }
}
