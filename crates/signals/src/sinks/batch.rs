//! What sinks that take many records at once share: bodies within a receiver's limits, and their compression.

use crate::{
    sink::{Failure, Retry},
    text::{Medium, Unit, fit_in},
};
use checkrein_core::{signal::Signal, time::Timestamp};
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use std::{io::Write as _, time::SystemTime};

/// One request's worth of texts, each already encoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// The texts, in order; never empty.
    pub(super) items: Vec<String>,
}

impl Batch {
    /// `before`, the texts with `between` them, `after`.
    pub(super) fn body(&self, before: &str, between: &str, after: &str) -> Vec<u8> {
        [before, &self.items.join(between), after].concat().into_bytes()
    }

    /// Its two halves; `None` when it cannot be divided.
    pub(super) fn halves(mut self) -> Option<(Self, Self)> {
        let second = self.items.split_off(self.items.len() / 2);
        (!self.items.is_empty()).then_some((self, Self { items: second }))
    }
}

/// Divides texts, in order, so that no batch has more than `count` of them, nor more than `bytes` with one byte
/// between two and two around all. A text that is larger by itself goes alone.
pub(super) fn batches(items: impl IntoIterator<Item = String>, count: usize, bytes: usize) -> Vec<Batch> {
    let (mut all, mut open, mut size) = (Vec::new(), Batch::default(), 2_usize);
    for item in items {
        let grown = size.saturating_add(item.len()).saturating_add(1);
        if !open.items.is_empty() && (open.items.len() >= count || grown > bytes) {
            all.push(std::mem::take(&mut open));
            size = 2;
        }
        size = size.saturating_add(item.len()).saturating_add(1);
        open.items.push(item);
    }
    if !open.items.is_empty() {
        all.push(open);
    }
    all
}

/// The signals as JSON whose size is bounded, at most about 300 KiB: texts of 1 KiB, lists of 20.
pub(super) fn bounded(signals: &[Signal]) -> Value {
    let mut whole = serde_json::to_value(signals.get(..5).unwrap_or(signals)).unwrap_or_default();
    cut(&mut whole);
    whole
}

fn cut(value: &mut Value) {
    match value {
        Value::String(text) => *text = fit_in(text, Medium::Plain, Unit::Bytes, 1024),
        Value::Array(items) => {
            items.truncate(20);
            items.iter_mut().for_each(cut);
        }
        Value::Object(members) => members.values_mut().for_each(cut),
        _ => {}
    }
}

/// This machine's time.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The bytes, compressed.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    // Writing into memory has no way to fail that a person could mend.
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(|e| Failure { retry: Retry::Later, reason: format!("compressing the request failed: {e}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(items: &[usize], count: usize, bytes: usize) -> Vec<Vec<usize>> {
        let items = items.iter().map(|n| "x".repeat(*n));
        let found = batches(items, count, bytes);
        found.iter().map(|batch| batch.items.iter().map(String::len).collect()).collect()
    }

    #[test]
    fn a_batch_is_within_both_limits() {
        assert_eq!(sizes(&[], 3, 100), Vec::<Vec<usize>>::new());
        assert_eq!(sizes(&[1, 1, 1, 1], 3, 100), [vec![1, 1, 1], vec![1]]);
        assert_eq!(sizes(&[40, 40, 40], 9, 84), [vec![40, 40], vec![40]]);
        assert_eq!(sizes(&[40, 40, 40], 9, 83), [vec![40], vec![40], vec![40]]);
        assert_eq!(sizes(&[1, 500, 1], 9, 100), [vec![1], vec![500], vec![1]]);
        for batch in batches((1..60).map(|n| "x".repeat(n)), 7, 128) {
            assert!(batch.body("[", ",", "]").len() <= 128);
        }
    }

    #[test]
    fn halves_lose_nothing() {
        let batch = Batch { items: ["a", "b", "c"].map(str::to_owned).into() };
        let (first, second) = batch.halves().unwrap();
        assert_eq!((first.items.len(), second.items.len()), (1, 2));
        assert_eq!(first.halves(), None);
    }
}
