//! A map of bounded size: what is oldest is forgotten.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// At most `most` values by key.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    most: usize,
    by_key: HashMap<K, V>,
    oldest_first: VecDeque<K>,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, by_key: HashMap::new(), oldest_first: VecDeque::new() }
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.by_key.insert(key.clone(), value).is_none() {
            self.oldest_first.push_back(key);
        }
        // What was taken out meanwhile is still in line.
        while self.by_key.len() > self.most || self.oldest_first.len() > 2 * self.most {
            let Some(oldest) = self.oldest_first.pop_front() else { return };
            if self.by_key.len() > self.most || !self.by_key.contains_key(&oldest) {
                self.by_key.remove(&oldest);
            } else {
                self.oldest_first.push_back(oldest);
            }
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.by_key.get(key)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.by_key.remove(key)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.by_key.retain(|key, _| keep(key));
        self.oldest_first.retain(|key| keep(key));
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
