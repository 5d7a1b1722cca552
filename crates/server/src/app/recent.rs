//! Which idempotency keys were seen lately: lets a check skip the look-up that almost never finds anything.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
};

/// Keys remembered a generation; two generations are kept.
pub(super) const CAPACITY: usize = 1 << 16;

/// A set that may forget and may take two keys for one, and need not do better: a forgotten repeat is still
/// caught when it is recorded, and a false hit only costs a look-up.
pub(super) struct RecentKeys {
    state: RandomState,
    generations: Mutex<[HashSet<u64>; 2]>,
}

impl RecentKeys {
    pub(super) fn new(known: Vec<(String, String)>) -> Self {
        let recent = Self { state: RandomState::new(), generations: Mutex::default() };
        for (key_id, key) in known {
            recent.seen(&key_id, &key);
        }
        recent
    }

    /// Whether this key may have been seen before; from now on it has.
    pub(super) fn seen(&self, key_id: &str, key: &str) -> bool {
        let hash = self.state.hash_one((key_id, key));
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *generations;
        if !young.insert(hash) {
            return true;
        }
        let before = old.contains(&hash);
        if young.len() >= CAPACITY {
            *old = std::mem::replace(young, HashSet::with_capacity(CAPACITY));
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_at_least_the_last_generation() {
        let recent = RecentKeys::new(vec![("k".into(), "old".into())]);
        assert!(recent.seen("k", "old"));
        assert!(!recent.seen("other", "old"), "bound to the key that asked");
        for i in 0..CAPACITY {
            recent.seen("k", &i.to_string());
        }
        assert!(recent.seen("k", "5"));
        let young = recent.generations.lock().unwrap()[0].len();
        assert!(young < CAPACITY, "bounded");
    }
}
