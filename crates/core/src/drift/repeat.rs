//! Repeat loops: the same call, or the same two or three in turn, again and again.
//!
//! Every repeat adds how rare a repeat is for this agent, and how rare so short a pause is. An agent that
//! polls repeats by design, and soon a repeat of its says nothing.

use super::{codec::packed, math::log10};

/// Pauses are told apart by powers of two, from 1/16 s to days.
const PAUSES: usize = 24;
/// A call alone has this chance to be a repeat, before anything is known, and how many calls that is worth.
const CHANCE: f32 = 0.03;
const WORTH: f32 = 30.0;
/// An agent of so few calls may be one that polls; only repeats within so many seconds count then.
const COLD: f32 = 60.0;
const BRISK: f32 = 3.0;
/// Taken off each repeat, so that one who always repeats gathers nothing.
const SLACK: f32 = 0.12;
/// However seldom an agent repeats itself, one repeat proves little.
const LEAST_CHANCE: f32 = 0.04;
/// Calls after which an agent is known.
const KNOWN: f32 = 200.0;
/// Repeats of one run that teach.
const TAUGHT: u16 = 4;

packed! {
    /// What is known of an agent's repeats.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Repeats {
        last: [u32; 3],
        /// For loops of one, two and three calls: repeats seen, the run now, and its evidence.
        repeats: [f32; 3],
        run: [u16; 3],
        evidence: [f32; 3],
        calls: f32,
        pauses: [f32; PAUSES],
        paused: f32,
    }
}

fn slot(pause: f32) -> usize {
    // Exponents of 2, from 2^-4 on.
    // 122 stands for 2^-5.
    let exponent = (pause.max(0.0).to_bits() >> 23).saturating_sub(122);
    usize::try_from(exponent).unwrap_or(0).min(PAUSES - 1)
}

impl Repeats {
    /// A call with this key after `pause` seconds. The evidence of the strongest run, in decades.
    pub(super) fn observe(&mut self, key: u32, pause: f32, learn: bool, known: bool, top: f32) -> f32 {
        let slot = slot(pause);
        let brief = if self.last.contains(&key) { self.brevity(slot) } else { 0.0 };
        let mut strongest = 0.0_f32;
        let [one, two, three] = self.last;
        let calls = self.calls;
        let runs = self.repeats.iter_mut().zip(&mut self.run).zip(&mut self.evidence);
        for (((repeats, run), evidence), before) in runs.zip([one, two, three]) {
            if before != key || calls == 0.0 {
                (*run, *evidence) = (0, 0.0);
                continue;
            }
            *run = run.saturating_add(1);
            if calls < COLD && pause > BRISK {
                if learn {
                    *repeats += 1.0;
                }
                continue;
            }
            // The run itself says nothing of how usual runs are.
            let own = f32::from((*run).min(TAUGHT + 1)) - 1.0;
            let chance = ((*repeats - own).max(0.0) + CHANCE * WORTH) / ((calls - own).max(0.0) + WORTH);
            let chance = chance.max(LEAST_CHANCE);
            *evidence = (*evidence - log10(chance) - SLACK + brief).clamp(0.0, top);
            strongest = strongest.max(*evidence);
            if learn && (*run <= TAUGHT || !known) {
                *repeats += 1.0;
            }
        }
        self.last = [key, one, two];
        if learn {
            self.learn(slot, known);
        }
        strongest
    }

    /// How rare a pause as short as this is: 0.8 decades at most, and less than none when it is a usual one.
    fn brevity(&self, slot: usize) -> f32 {
        if self.paused < 20.0 {
            return 0.0;
        }
        let within: f32 = self.pauses.iter().take(slot + 1).sum();
        let share = (within + 0.5) / (self.paused + 1.0);
        (-log10(share) - 0.45).clamp(-0.3, 0.8)
    }

    fn learn(&mut self, slot: usize, known: bool) {
        // In a long run of a known agent only its start teaches.
        if known && self.run.iter().any(|run| *run > TAUGHT) {
            let share: f32 = self.repeats.iter().fold(0.0_f32, |max, n| max.max(*n)) / self.calls.max(1.0);
            if share < 0.3 {
                return;
            }
            // It repeats by design; go on learning how much.
            for (repeats, run) in self.repeats.iter_mut().zip(self.run) {
                *repeats += f32::from(u8::from(run > TAUGHT));
            }
        }
        self.calls += 1.0;
        if let Some(count) = self.pauses.get_mut(slot) {
            *count += 1.0;
        }
        self.paused += 1.0;
        if self.calls > 2_000.0 {
            self.calls *= 0.5;
            self.repeats.iter_mut().for_each(|n| *n *= 0.5);
        }
        if self.paused > 2_000.0 {
            self.paused *= 0.5;
            self.pauses.iter_mut().for_each(|n| *n *= 0.5);
        }
    }

    /// Begins to count anew, and forgets what the runs that are going on taught: a known agent's, little.
    pub(super) fn begin(&mut self) {
        let known = self.calls >= KNOWN;
        for (repeats, run) in self.repeats.iter_mut().zip(self.run) {
            let taught = if known { run.min(TAUGHT) } else { run };
            *repeats = (*repeats - f32::from(taught)).max(0.0);
        }
        (self.last, self.run, self.evidence) = ([0; 3], [0; 3], [0.0; 3]);
    }

    /// Length of the loop and how often it has come round, of the strongest run.
    pub(super) fn strongest(&self) -> (u16, u16) {
        let mut found = (1_u16, 0_u16, 0.0_f32);
        for ((length, run), evidence) in (1_u16..).zip(self.run).zip(self.evidence) {
            if evidence > found.2 {
                found = (length, run, evidence);
            }
        }
        (found.0, found.1)
    }

    /// Whether the last call was the one before it again.
    pub(super) fn repeated(&self) -> bool {
        self.run.first().is_some_and(|run| *run > 0)
    }

    /// The share of calls that repeat the one before.
    pub(super) fn usual(&self) -> f32 {
        let [one, ..] = self.repeats;
        (one + CHANCE * WORTH) / (self.calls + WORTH)
    }
}
