//! Verifying the log while the server runs: one at a time, and how far it is.

use super::{App, Caller, Error};
use checkrein_core::{key::Role, time::Timestamp};
use checkrein_store::{Verified, VerifyError};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the last verification stands.
#[derive(Clone, Debug, Default)]
pub(crate) enum Audit {
    /// Nobody has asked since the server started.
    #[default]
    Never,
    /// Under way.
    Running {
        /// Entries walked.
        done: u64,
        /// Entries to walk.
        total: u64,
    },
    /// The log and the tables are what was written.
    Whole {
        /// When that was found.
        at: Timestamp,
        /// What was looked at.
        found: Verified,
    },
    /// They are not, or it could not be told.
    Wrong {
        /// When that was found.
        at: Timestamp,
        /// What.
        why: String,
    },
}

/// The last one.
#[derive(Default)]
pub(super) struct Auditing(Mutex<Audit>);

impl Auditing {
    fn set(&self, audit: Audit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = audit;
    }
}

impl App {
    /// Where the last verification stands.
    pub(crate) fn audit(&self) -> Audit {
        self.auditing.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins to verify the whole log, unless that is under way.
    ///
    /// # Errors
    /// When the caller is an agent.
    pub(crate) fn begin_audit(self: &Arc<Self>, caller: &Caller) -> Result<(), Error> {
        caller.require(Role::Operator)?;
        let total = self.store.head().seq;
        {
            let mut now = self.auditing.0.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*now, Audit::Running { .. }) {
                return Ok(());
            }
            *now = Audit::Running { done: 0, total };
        }
        let app = Arc::clone(self);
        let verify = move || {
            let told = |done| app.auditing.set(Audit::Running { done, total });
            let found =
                app.store.reader().map_err(VerifyError::from).and_then(|reader| reader.verify(None, told));
            let at = app.clock.now();
            app.auditing.set(match found {
                Ok(found) => Audit::Whole { at, found },
                Err(why) => Audit::Wrong { at, why: why.to_string() },
            });
        };
        // Nobody waits for it: the page asks how far it is.
        let _runs_on = tokio::task::spawn_blocking(verify);
        Ok(())
    }
}
