//! The third generator, which is for judging alone: arrivals are a renewal process with log-normal gaps inside
//! stints of work, each stint has a pace of its own, some agents also have a batch on one morning a week;
//! actions come from a plan with branches (a grammar), never from a table of followers.

use crate::{
    fleet::{Event, Source, Tweak},
    rng::Rng,
};

#[derive(Clone, Debug)]
pub struct Stints {
    rng: Rng,
    from: i64,
    until: i64,
    weekend: bool,
    rate: f64,
    uneven: f64,
    ragged: f64,
    weekly: Option<(i64, f64)>,
    plan: Vec<Vec<usize>>,
    left: Vec<usize>,
    size: f64,
    errors: f64,
    pace: f64,
    pace_until: i64,
    kind: &'static str,
}

impl Stints {
    pub fn new(seed: u64, _start: i64) -> Self {
        let mut rng = Rng::new(seed ^ 0x7419D);
        let from = 5 + rng.below(6) as i64;
        let steps = 5 + rng.below(7);
        // Each phase offers some of the steps; a task goes through the phases.
        let plan = (0..3 + rng.below(3))
            .map(|_| (0..1 + rng.below(3)).map(|_| rng.below(steps)).collect())
            .collect();
        let weekly = rng.chance(0.25).then(|| (rng.below(5) as i64, rng.between(60.0, 300.0)));
        Self {
            from,
            until: from + 7 + rng.below(10) as i64,
            weekend: rng.chance(0.4),
            rate: rng.between(8.0, 120.0),
            uneven: rng.between(0.05, 0.35),
            ragged: rng.between(0.4, 1.4),
            plan,
            left: Vec::new(),
            size: rng.between(0.5, 3.0),
            errors: rng.between(0.002, 0.04),
            pace: 1.0,
            pace_until: 0,
            kind: if weekly.is_some() { "weekly" } else { "stints" },
            weekly,
            rng,
        }
    }
}

impl Source for Stints {
    fn times(&mut self, hour: i64, tweak: &Tweak) -> Vec<f64> {
        if hour >= self.pace_until {
            self.pace_until = hour + 1 + self.rng.below(5) as i64;
            self.pace = (self.uneven * self.rng.normal()).exp();
        }
        let mean = self.mean(hour) * self.pace * tweak.rate;
        if mean <= 0.0 {
            return Vec::new();
        }
        let (start, gap) = (hour as f64 * 3_600.0, 3_600.0 / mean);
        let mut t = start + self.rng.exp(gap);
        let mut times = Vec::new();
        while t < start + 3_600.0 {
            times.push(t);
            t += gap * (self.ragged * self.rng.normal() - self.ragged * self.ragged / 2.0).exp();
        }
        times
    }

    fn call(&mut self, t: f64, tweak: &Tweak) -> Event {
        if self.left.is_empty() {
            self.left = (0..self.plan.len()).rev().collect();
        }
        let phase = self.left.pop().unwrap_or(0);
        // A phase may be gone through again.
        if self.rng.chance(0.15) {
            self.left.push(phase);
        }
        let steps: Vec<usize> = self.plan.iter().flatten().copied().collect();
        let own = &self.plan[phase];
        let mut step = own[self.rng.below(own.len())];
        if tweak.shuffled {
            step = steps[self.rng.below(steps.len())];
        }
        if tweak.mixed && self.rng.chance(0.7) {
            let often = |s: &usize| steps.iter().filter(|own| *own == s).count();
            step = steps.iter().copied().min_by_key(|s| (often(s), *s)).unwrap_or(step);
        }
        let size = 10_f64.powf(self.size + 0.3 * self.rng.normal()) * tweak.records;
        Event {
            t,
            action: format!("op_{}", (b'a' + step as u8) as char),
            resource: format!("bucket-{}/{:08x}", (b'a' + phase as u8) as char, self.rng.next() >> 32),
            tool: "store".to_owned(),
            records: Some(size as u64),
            failed: self.rng.chance(tweak.errors.unwrap_or(self.errors)),
        }
    }

    fn redraw(&mut self, seed: u64) {
        (self.rng, self.pace_until) = (Rng::new(seed), 0);
    }

    fn mean(&self, hour: i64) -> f64 {
        let (day, at) = ((hour.div_euclid(24) + 3).rem_euclid(7), hour.rem_euclid(24));
        let batch = self.weekly.filter(|(own, _)| *own == day && at == 3).map_or(0.0, |(_, n)| n);
        let works = (self.from..self.until).contains(&at) && (day < 5 || self.weekend);
        batch + if works { self.rate } else { 0.0 }
    }

    fn copy(&self) -> Box<dyn Source> {
        Box::new(self.clone())
    }

    fn kind(&self) -> &'static str {
        self.kind
    }
}
