//! What waits for the writer: a bounded queue between async callers and one thread.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Why something was not taken.
pub(crate) enum Refused {
    /// There was no room in time.
    Full,
    /// Nobody takes anything any more.
    Closed,
}

/// What the thread found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Something,
    /// Nothing, for as long as it was to wait.
    Nothing,
    /// Nothing, and nothing will come.
    Closed,
}

/// The queue. A push wakes the thread only when it sleeps: at a busy writer it costs no system call.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    room: Notify,
    capacity: usize,
}

struct State<T> {
    items: VecDeque<T>,
    asleep: bool,
    closed: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State { items: VecDeque::new(), asleep: false, closed: false };
        Self {
            state: Mutex::new(state),
            ready: Condvar::new(),
            room: Notify::new(),
            capacity: capacity.max(1),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `item`; gives it back where there is no room.
    pub(crate) fn try_push(&self, item: T) -> Result<(), (Refused, T)> {
        let mut state = self.state();
        if state.closed {
            return Err((Refused::Closed, item));
        }
        if state.items.len() >= self.capacity {
            return Err((Refused::Full, item));
        }
        state.items.push_back(item);
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Adds `item` once there is room, within `patience`.
    pub(crate) async fn push(&self, item: T, patience: Duration) -> Result<(), Refused> {
        let mut item = match self.try_push(item) {
            Ok(()) => return Ok(()),
            Err((Refused::Closed, _)) => return Err(Refused::Closed),
            Err((Refused::Full, item)) => item,
        };
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            // Registered before looking, so that room made in between is not slept through.
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            item = match self.try_push(item) {
                Ok(()) => return Ok(()),
                Err((Refused::Closed, _)) => return Err(Refused::Closed),
                Err((Refused::Full, item)) => item,
            };
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                return Err(Refused::Full);
            }
        }
    }

    /// Moves everything that waits into `items`; sleeps until there is something, at most for `patience`
    /// where one is given. What was pushed before [`Queue::close`] is still found.
    pub(crate) fn take(&self, items: &mut VecDeque<T>, patience: Option<Duration>) -> Found {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut state = self.state();
        while state.items.is_empty() {
            if state.closed {
                return Found::Closed;
            }
            state.asleep = true;
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    state.asleep = false;
                    return Found::Nothing;
                }
                Some(left) => self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        state.asleep = false;
        let was_full = state.items.len() >= self.capacity;
        items.append(&mut state.items);
        drop(state);
        if was_full {
            self.room.notify_waiters();
        }
        Found::Something
    }

    /// Takes nothing more.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.ready.notify_one();
        self.room.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn nothing_is_lost_and_a_full_one_makes_room() {
        let queue = Arc::new(Queue::new(2));
        let (taker, patience) = (Arc::clone(&queue), Duration::from_secs(10));
        let thread = std::thread::spawn(move || {
            let (mut all, mut items) = (Vec::new(), VecDeque::new());
            while taker.take(&mut items, Some(patience)) == Found::Something {
                assert!(items.len() <= 2);
                all.extend(items.drain(..));
                std::thread::sleep(Duration::from_millis(1));
            }
            all
        });
        for i in 0..50 {
            assert!(queue.push(i, patience).await.is_ok());
        }
        queue.close();
        assert!(matches!(queue.push(50, patience).await, Err(Refused::Closed)));
        assert_eq!(thread.join().unwrap(), (0..50).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_said() {
        let queue = Queue::new(1);
        assert!(queue.try_push(1).is_ok());
        assert!(matches!(queue.push(2, Duration::from_millis(5)).await, Err(Refused::Full)));
        let mut items = VecDeque::new();
        assert_eq!(queue.take(&mut items, None), Found::Something);
        assert_eq!(queue.take(&mut items, Some(Duration::from_millis(5))), Found::Nothing);
        queue.close();
        assert_eq!(queue.take(&mut items, None), Found::Closed);
    }
}
