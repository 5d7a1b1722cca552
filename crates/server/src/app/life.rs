//! The life of one action, from all that is on record about it. Looking changes nothing.

use super::{App, Caller, Error};
use checkrein_api::{ApprovalView, CheckView, SnapshotView};
use checkrein_core::{
    event::{Entry, Event},
    time::Timestamp,
};
use std::collections::BTreeMap;

/// Entries about one thing that are looked at.
const MAX_ENTRIES: usize = 100;

/// What is on record about an action.
pub(crate) struct Life {
    /// The check as it stands.
    pub(crate) check: CheckView,
    /// The approval that it asked for, or that let it through.
    pub(crate) approval: Option<ApprovalView>,
    /// What was kept of the records that it touched.
    pub(crate) snapshots: Vec<SnapshotView>,
    /// What happened after the check, in order.
    pub(crate) steps: Vec<Step>,
}

/// One thing that happened.
pub(crate) struct Step {
    /// Its entry in the log.
    pub(crate) seq: u64,
    /// When.
    pub(crate) at: Timestamp,
    /// What.
    pub(crate) event: Event,
}

impl App {
    /// The life of the action that the check `id` asked for.
    ///
    /// # Errors
    /// When there is no such check, or the caller may not see it.
    pub(crate) async fn life(&self, caller: &Caller, id: &str) -> Result<Life, Error> {
        let check = self.peek_check(caller, id).await?;
        let mut steps = BTreeMap::new();
        self.steps_about(id, &mut steps).await?;
        let approval = match &check.decision.approval_id {
            Some(approval) => {
                self.steps_about(approval, &mut steps).await?;
                self.view_approval(caller, approval).await.ok()
            }
            None => None,
        };
        let mut snapshots = Vec::new();
        for state in self.store.all_snapshots_of_check(id).await? {
            let view = self.snapshot_view(state).await?;
            self.steps_about(&view.id, &mut steps).await?;
            for rollback in self.store.rollbacks_of(&view.id).await? {
                self.steps_about(&rollback.record.id, &mut steps).await?;
            }
            snapshots.push(view);
        }
        Ok(Life { check, approval, snapshots, steps: steps.into_values().collect() })
    }

    async fn steps_about(&self, subject: &str, steps: &mut BTreeMap<u64, Step>) -> Result<(), Error> {
        for entry in self.store.entries_about(subject, MAX_ENTRIES).await? {
            let Entry { seq, at, kind, body, .. } = entry;
            if let Ok(event) = Event::from_parts(&kind, &body) {
                steps.insert(seq, Step { seq, at, event });
            }
        }
        Ok(())
    }
}
