//! What is known of clients between their requests.

use super::super::{message::Id, recent::Recent};
use crate::gate::Ticket;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, oneshot};

/// Sessions whose abilities are remembered; of one that is forgotten nothing is asked.
const SESSIONS: usize = 10_000;
/// Calls whose stream ended before their answer came, in sessions that can fetch it later.
const ORPHANS: usize = 1_000;

/// A call of a session (before 2026-07-28).
pub(super) type Key = (String, Id);

/// Everything of one server's clients that outlives a request.
#[derive(Debug)]
pub(super) struct Sessions(Mutex<Known>);

#[derive(Debug)]
struct Known {
    elicits: Recent<String, bool>,
    waiting: HashMap<Key, Arc<Notify>>,
    orphans: Recent<Key, Ticket>,
    asked: HashMap<Id, oneshot::Sender<bool>>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self(Mutex::new(Known {
            elicits: Recent::new(SESSIONS),
            waiting: HashMap::new(),
            orphans: Recent::new(ORPHANS),
            asked: HashMap::new(),
        }))
    }
}

impl Sessions {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session has begun.
    pub(super) fn begun(&self, session: &str, elicits: bool) {
        self.known().elicits.insert(session.to_owned(), elicits);
    }

    /// The session is over.
    pub(super) fn over(&self, session: &str) {
        let mut known = self.known();
        known.elicits.remove(&session.to_owned());
        known.orphans.retain(|(of, _)| of != session);
    }

    pub(super) fn elicits(&self, session: &str) -> bool {
        self.known().elicits.get(&session.to_owned()).copied().unwrap_or_default()
    }

    /// A call is being judged: until the guard is dropped it can be cancelled.
    pub(super) fn waits(&self, key: Key) -> Waiting<'_> {
        let cancelled = Arc::new(Notify::new());
        self.known().waiting.insert(key.clone(), Arc::clone(&cancelled));
        Waiting { sessions: self, key, cancelled }
    }

    /// Whether a call was waiting, and now is no more.
    pub(super) fn cancel(&self, key: &Key) -> bool {
        let waiting = self.known().waiting.remove(key);
        waiting.inspect(|cancelled| cancelled.notify_one()).is_some()
    }

    pub(super) fn orphan(&self, key: Key, ticket: Ticket) {
        self.known().orphans.insert(key, ticket);
    }

    pub(super) fn found(&self, key: &Key) -> Option<Ticket> {
        self.known().orphans.remove(key)
    }

    pub(super) fn ask(&self, id: Id) -> oneshot::Receiver<bool> {
        let (answer, answered) = oneshot::channel();
        self.known().asked.insert(id, answer);
        answered
    }

    pub(super) fn asked(&self, id: &Id) -> Option<oneshot::Sender<bool>> {
        self.known().asked.remove(id)
    }
}

/// A call that is being judged.
pub(super) struct Waiting<'a> {
    sessions: &'a Sessions,
    key: Key,
    pub(super) cancelled: Arc<Notify>,
}

impl Waiting<'_> {
    /// Whether nobody cancelled it; from now on nobody can.
    pub(super) fn goes_on(&self) -> bool {
        let mut known = self.sessions.known();
        // Another call may have taken its id meanwhile.
        let own = known.waiting.get(&self.key).is_some_and(|other| Arc::ptr_eq(other, &self.cancelled));
        if own {
            known.waiting.remove(&self.key);
        }
        own
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.goes_on();
    }
}
