//! The server's clock: never goes back, whatever the machine's clock does.

use checkrein_core::time::Timestamp;
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// The time of day, held at the latest time that was ever told. When the machine's clock is set back, time
/// stands still until it has caught up: windows, expiry and the log never see yesterday again.
#[derive(Debug)]
pub(crate) struct Clock(AtomicI64);

impl Clock {
    /// A clock that starts no earlier than `last`, the end of the log.
    pub(crate) const fn not_before(last: Timestamp) -> Self {
        Self(AtomicI64::new(last.as_micros()))
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        let machine = Self::machine();
        Timestamp::from_micros(self.0.fetch_max(machine, Ordering::Relaxed).max(machine))
    }

    /// The machine's clock jumps ahead, and back at once: time stands still until it has caught up.
    #[cfg(test)]
    pub(crate) fn jump(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    /// How many seconds time is held ahead of the machine's clock, because that was once ahead itself.
    pub(crate) fn ahead_seconds(&self) -> i64 {
        (self.0.load(Ordering::Relaxed) - Self::machine()).max(0) / 1_000_000
    }

    /// What the machine's clock says, in microseconds since 1970.
    fn machine() -> i64 {
        let machine = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
        i64::try_from(machine).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_back() {
        let future = Timestamp::from_micros(4_000_000_000_000_000);
        assert_eq!(Clock::not_before(future).now(), future);
        let clock = Clock::not_before(Timestamp::default());
        let first = clock.now();
        assert!(first.as_micros() > 1_700_000_000_000_000);
        assert!(clock.now() >= first);
        assert_eq!(clock.ahead_seconds(), 0);
        assert!(Clock::not_before(future).ahead_seconds() > 1_000_000);
    }
}
