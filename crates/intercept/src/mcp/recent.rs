//! A map of bounded size: what is oldest is forgotten.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// At most `most` values by key.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    most: usize,
    /// Each with the number under which it stands in line.
    by_key: HashMap<K, (u64, V)>,
    /// Also those that were taken out or replaced meanwhile.
    oldest_first: VecDeque<(u64, K)>,
    next: u64,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, by_key: HashMap::new(), oldest_first: VecDeque::new(), next: 0 }
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.next += 1;
        self.by_key.insert(key.clone(), (self.next, value));
        self.oldest_first.push_back((self.next, key));
        while self.by_key.len() > self.most && self.forget_oldest().is_some() {}
        if self.oldest_first.len() > 2 * self.most {
            self.retain(|_| true);
        }
    }

    pub(super) fn forget_oldest(&mut self) -> Option<V> {
        while let Some((number, oldest)) = self.oldest_first.pop_front() {
            if self.by_key.get(&oldest).is_some_and(|(own, _)| *own == number) {
                return self.remove(&oldest);
            }
        }
        None
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.by_key.values().map(|(_, value)| value)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.by_key.get(key).map(|(_, value)| value)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.by_key.remove(key).map(|(_, value)| value)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.by_key.retain(|key, _| keep(key));
        let by_key = &self.by_key;
        self.oldest_first.retain(|(number, key)| by_key.get(key).is_some_and(|(own, _)| own == number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_is_oldest() {
        let mut recent = Recent::new(3);
        for n in 0..10 {
            recent.insert(n, n);
        }
        assert_eq!((recent.get(&6), recent.get(&7), recent.get(&9)), (None, Some(&7), Some(&9)));
        for _ in 0..100 {
            assert_eq!(recent.remove(&9), Some(9));
            recent.insert(9, 9);
        }
        assert!(recent.get(&9).is_some() && recent.by_key.len() <= 3 && recent.oldest_first.len() <= 6);
        recent.retain(|n| *n == 8);
        assert_eq!((recent.get(&8), recent.get(&9)), (Some(&8), None));
    }
}
