//! Places for connections: when all are taken, whoever has been idle longest makes room.
//!
//! A connection costs its holder nothing, so without this anybody who reaches the port could take every place and
//! say nothing, and no check would be answered any more. What is being worked on keeps its place.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long to wait for a place before somebody else is asked to leave.
const LOOK: Duration = Duration::from_millis(100);

/// All places.
pub(super) struct Places {
    total: u32,
    free: Arc<Semaphore>,
    taken: Mutex<HashMap<u64, Arc<Guest>>>,
    /// What was done last has the highest number.
    turns: AtomicU64,
}

/// Who has a place.
#[derive(Default)]
pub(super) struct Guest {
    /// Requests that are not answered yet, and answers that go on.
    busy: AtomicUsize,
    /// When the last one was answered.
    turn: AtomicU64,
    /// Whether anything was ever asked.
    asked: AtomicBool,
    /// It has been asked to leave.
    leave: Notify,
}

/// A place that is taken until this is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    guest: Arc<Guest>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(total: usize) -> Arc<Self> {
        let total = u32::try_from(total).unwrap_or(u32::MAX).max(1);
        let most = usize::try_from(total).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            total,
            free: Arc::new(Semaphore::new(most)),
            taken: Mutex::default(),
            turns: AtomicU64::new(1),
        })
    }

    /// A place, once there is one. None when there will never be one again.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Place> {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                break permit;
            }
            self.make_room();
            // Somebody who is busy now may be idle in a moment, and would not leave unasked.
            let freed = tokio::time::timeout(LOOK, Arc::clone(&self.free).acquire_owned());
            if let Ok(freed) = freed.await {
                break freed.ok()?;
            }
        };
        let number = self.turns.fetch_add(1, Relaxed);
        let guest = Arc::new(Guest { turn: AtomicU64::new(number), ..Guest::default() });
        self.taken().insert(number, Arc::clone(&guest));
        Some(Place { places: Arc::clone(self), number, guest, _permit: permit })
    }

    /// Asks whoever has been idle longest to leave.
    fn make_room(&self) {
        let taken = self.taken();
        let idle = taken.values().filter(|guest| !guest.is_busy());
        if let Some(longest) = idle.min_by_key(|guest| guest.turn.load(Relaxed)) {
            // Asked once: what does not leave for it is not in the way of asking others.
            longest.turn.store(u64::MAX, Relaxed);
            longest.leave.notify_one();
        }
    }

    /// Waits until nobody has a place.
    pub(super) async fn all_free(&self) {
        let _closed = self.free.acquire_many(self.total).await;
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Guest>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed) > 0
    }

    /// Whether an answer to it may still be on the way.
    pub(super) fn was_heard(&self) -> bool {
        self.asked.load(Relaxed)
    }
}

impl Place {
    pub(super) fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Returns when the place is wanted for somebody else.
    pub(super) async fn wanted(&self) {
        self.guest.leave.notified().await;
    }

    /// Counts what is asked and answered over this connection.
    pub(super) fn ledger(&self) -> Ledger {
        Ledger { places: Arc::clone(&self.places), guest: Arc::clone(&self.guest) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().remove(&self.number);
    }
}

/// What is going on over one connection.
#[derive(Clone)]
pub(super) struct Ledger {
    places: Arc<Places>,
    guest: Arc<Guest>,
}

impl Ledger {
    /// A request has begun.
    pub(super) fn begin(&self) -> Task {
        self.guest.busy.fetch_add(1, Relaxed);
        self.guest.asked.store(true, Relaxed);
        Task(self.clone())
    }
}

/// A request that is being answered; it is over when this is dropped.
pub(super) struct Task(Ledger);

impl Task {
    /// The answer is a stream: the connection is in use as long as it lasts.
    pub(super) fn goes_on(self) {
        self.0.guest.busy.fetch_add(1, Relaxed);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let Ledger { places, guest } = &self.0;
        guest.turn.store(places.turns.fetch_add(1, Relaxed), Relaxed);
        guest.busy.fetch_sub(1, Relaxed);
    }
}
