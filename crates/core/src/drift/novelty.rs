//! Novelty: an action, tool or resource that this agent has never used.
//!
//! How surprising that is follows from how many things it has used only once (Good and Turing): an agent
//! that tries something new all day does so again. Ids within a resource are not new resources.

use super::{codec::packed, math::log10};

/// Words of each of the two filters; 2,048 bits.
const WORDS: usize = 32;
/// Bits set at which a filter tells too little apart and is emptied.
const FULL: u16 = 1_000;
/// After that, and at the start, so many calls are only learnt from.
const SETTLING: u32 = 12;

/// Evidence does not gather beyond this.
const MOST: f32 = 12.0;

/// What can be new, in this order: action, tool, action with tool, resource, action on resource.
pub(super) const FACETS: usize = 5;
const WEIGHTS: [f32; FACETS] = [1.0, 0.5, 0.5, 0.6, 0.35];

packed! {
    /// What has been used once, and what more often.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Novelty {
        once: [u64; WORDS],
        twice: [u64; WORDS],
        bits: u16,
        singles: [u32; FACETS],
        calls: u32,
        settling: u32,
        /// New actions and tools of the last calls, and new resources.
        calls_sum: f32,
        resources_sum: f32,
        /// Which facets of the last call were new, one bit each.
        pub new: u8,
    }
}

/// Sets both bits of `key`; how many were not set.
fn insert(filter: &mut [u64; WORDS], key: u64) -> u16 {
    let mut fresh = 0;
    for bits in [key, key >> 20] {
        let place = usize::try_from((bits >> 6) % WORDS as u64).unwrap_or(0);
        if let Some(word) = filter.get_mut(place) {
            let bit = 1 << (bits & 63);
            fresh += u16::from(*word & bit == 0);
            *word |= bit;
        }
    }
    fresh
}

fn contains(filter: &[u64; WORDS], key: u64) -> bool {
    [key, key >> 20].into_iter().all(|bits| {
        let place = usize::try_from((bits >> 6) % WORDS as u64).unwrap_or(0);
        filter.get(place).is_some_and(|word| *word & (1 << (bits & 63)) != 0)
    })
}

impl Novelty {
    pub(super) fn new() -> Self {
        Self { settling: SETTLING, ..Self::default() }
    }

    /// A call with these facets (`None`: not stated). Evidence in decades that it is a new call, and that it
    /// is a known one on something new, which is a lesser thing; `stranger` is added when its
    /// action is new, for what the agent's group says of it. On its `first_day` everything is new.
    pub(super) fn observe(
        &mut self,
        facets: &[Option<u64>; FACETS],
        stranger: impl FnOnce() -> f32,
        first_day: bool,
        repeated: bool,
        learn: bool,
    ) -> (f32, f32) {
        self.new = 0;
        let mut surprise = 0.0;
        let calls = self.calls as f32;
        for (at, (facet, weight)) in facets.iter().zip(WEIGHTS).enumerate() {
            let Some(key) = facet.map(|key| key.rotate_left(11 * u32::try_from(at).unwrap_or(0))) else {
                continue;
            };
            let Some(singles) = self.singles.get_mut(at) else { continue };
            if contains(&self.once, key) {
                if learn && insert(&mut self.twice, key) > 0 {
                    *singles = singles.saturating_sub(1);
                }
                continue;
            }
            // The pairs say nothing more when one of their parts is new.
            let implied = (at == 2 && self.new & 0b11 != 0) || (at == 4 && self.new & 0b1001 != 0);
            if !implied {
                self.new |= 1 << at;
                surprise += weight * log10((calls + 1.0) / (*singles as f32 + 0.5)).max(0.0);
            }
            if learn {
                self.bits += insert(&mut self.once, key);
                *singles += 1;
            }
        }
        if self.new & 1 != 0 {
            surprise += stranger();
        }
        if learn {
            // A call again and again is no new chance for something else.
            self.calls = self.calls.saturating_add(u32::from(!repeated)).min(1_000_000);
            if self.bits > FULL {
                *self = Self { calls: self.calls / 4, settling: 200, ..Self::default() };
            }
        }
        if self.settling > 0 || first_day {
            self.settling = self.settling.saturating_sub(u32::from(learn));
            (self.calls_sum, self.resources_sum, self.new) = (0.0, 0.0, 0);
            return (0.0, 0.0);
        }
        // Several new things within a few calls are more than one.
        let is_call = self.new & 0b111 != 0;
        let (call, resource) = if is_call { (surprise, 0.0) } else { (0.0, surprise) };
        self.calls_sum = self.calls_sum.min(MOST) * 0.9 + call;
        self.resources_sum = self.resources_sum.min(MOST) * 0.9 + resource;
        let shown = |yes: bool, sum: f32| if yes { sum } else { 0.0 };
        (shown(is_call, self.calls_sum), shown(!is_call && self.new != 0, self.resources_sum))
    }
}
