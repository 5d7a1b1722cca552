//! Beyond all before, by a margin.
//!
//! The n-th of a row of random values is their highest once in n rows, whatever their distribution; one that
//! is so by a margin is rarer still. Nothing else finds as much at as few false alarms.

/// The margin, as a share of all that has been seen.
const MARGIN: f64 = 0.05;
/// Decades of rarity of a record, and of one that doubles what has been seen.
const LEAST: f64 = 9.0;
const MOST: f64 = 24.0;

/// The range of a statistic so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record {
    range: Option<(f64, f64)>,
}

impl Record {
    /// Decades of rarity of `value`, which is then part of the range; 0 within the margin. A range is never
    /// taken for less than `least`.
    pub(super) fn rarity(&mut self, value: f64, least: f64) -> f64 {
        let (lowest, highest) = self.range.unwrap_or((value, value));
        self.range = Some((lowest.min(value), highest.max(value)));
        let beyond = (value - highest).max(lowest - value) / (highest - lowest).max(least);
        if beyond > MARGIN { LEAST + (MOST - LEAST) * beyond.min(1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_of_what_lies_beyond_all_before() {
        let mut record = Record::default();
        let mut rarity = |value| record.rarity(value, 1.0);
        assert_eq!([7.0, 17.0, 17.4, 12.0, 6.6].map(&mut rarity), [0.0, MOST, 0.0, 0.0, 0.0]);
        assert!(rarity(18.0) > LEAST && rarity(18.0) == 0.0);
        assert!(rarity(1.0) > rarity(-1.0), "the range is wider by then");
    }
}
