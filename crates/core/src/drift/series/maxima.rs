//! How far the present stands out among the highest values of blocks before it.

/// What is assumed of block maxima at first, in decades: mean, mean distance from it, and for how many
/// blocks that counts.
const MEAN: f64 = 2.0;
const SPREAD: f64 = 0.5;
const WORTH: f64 = 3.0;
/// Blocks after which nothing is left of that.
const LASTS: f64 = 12.0;
/// The spread is never taken for less.
const LEAST_SPREAD: f64 = 0.6;
/// A block teaches at most so many spreads above the mean, and a share of at least so much.
const TAUGHT: f64 = 4.0;
const LEAST_SHARE: f64 = 0.1;

/// Rows of the blocks; none of them fits all series.
const ROWS: [u32; 3] = [120, 200, 340];

/// The maxima of blocks of several lengths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maxima {
    blocks: [Blocks; 3],
}

impl Maxima {
    pub(super) fn new() -> Self {
        Self {
            blocks: ROWS.map(|rows| Blocks {
                rows,
                row: 0,
                highest: 0.0,
                mean: 0.0,
                spread: 0.0,
                blocks: 0.0,
            }),
        }
    }

    /// By how many spreads `value` exceeds a usual maximum, on average; it is then part of its blocks.
    pub(super) fn exceeds(&mut self, value: f64) -> f64 {
        self.blocks.iter_mut().map(|blocks| blocks.exceeds(value)).sum::<f64>() / ROWS.len() as f64
    }
}

/// The maxima of blocks of so many rows.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    rows: u32,
    row: u32,
    highest: f64,
    mean: f64,
    spread: f64,
    blocks: f64,
}

impl Blocks {
    /// By how many spreads `value` exceeds a usual maximum; it is then part of its block.
    fn exceeds(&mut self, value: f64) -> f64 {
        let worth = WORTH * (1.0 - self.blocks / LASTS).max(0.0);
        let pull = |own: f64, prior: f64| (worth * prior + self.blocks * own) / (worth + self.blocks);
        let mean = pull(self.mean, MEAN);
        let spread = pull(self.spread, SPREAD).max(LEAST_SPREAD);
        self.highest = self.highest.max(value);
        self.row += 1;
        if self.row >= self.rows {
            let taught = self.highest.min(mean + TAUGHT * spread);
            let share = (1.6 / (self.blocks + 1.6)).max(LEAST_SHARE);
            let off = taught - self.mean;
            self.mean += share * off;
            if self.blocks > 0.0 {
                self.spread += share * (off.abs() - self.spread);
            }
            self.blocks += 1.0;
            (self.row, self.highest) = (0, 0.0);
        }
        ((value - mean) / spread).max(0.0)
    }
}
