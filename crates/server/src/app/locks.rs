//! Locks by name: what must happen once, or one after the other, for one thing of many.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::OwnedMutexGuard;

/// A lock that is held.
pub(super) type Held = OwnedMutexGuard<()>;

/// As many locks as there are names in use. None is held while a person is awaited.
#[derive(Default)]
pub(super) struct Locks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits for the lock `name`.
    pub(super) async fn lock(&self, name: &str) -> Held {
        self.entry(name).lock_owned().await
    }

    /// The lock `name`, unless somebody has it.
    pub(super) fn try_lock(&self, name: &str) -> Option<Held> {
        self.entry(name).try_lock_owned().ok()
    }

    /// Whether a lock is held whose name begins so.
    pub(super) fn any(&self, prefix: &str) -> bool {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.iter().any(|(name, lock)| name.starts_with(prefix) && Arc::strong_count(lock) > 1)
    }

    fn entry(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Only what somebody holds or waits for is worth keeping, and that is little.
        map.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(map.entry(name.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_holder_a_name_and_nothing_left_behind() {
        let locks = Locks::default();
        let held = locks.lock("a 1").await;
        assert!(locks.try_lock("a 1").is_none());
        assert!(locks.any("a ") && !locks.any("b "));
        let other = locks.try_lock("b 1").unwrap();
        drop(held);
        assert!(locks.try_lock("a 1").is_some() && !locks.any("a "));
        drop(other);
        let _last = locks.lock("c").await;
        assert_eq!(locks.0.lock().unwrap().len(), 1, "forgotten once nobody holds it");
    }
}
