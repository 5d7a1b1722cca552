//! The second generator, built differently so that nothing is tuned to the first alone: self-exciting
//! arrivals, tasks from scripts with optional steps, retries after failures, Zipf resources, Pareto sizes,
//! days that are busier than others as a whole, time zones.

use crate::{
    fleet::{Event, Source, Tweak},
    rng::Rng,
};

#[derive(Clone, Debug)]
pub struct Scripted {
    rng: Rng,
    start: i64,
    zone: i64,
    always_on: bool,
    rate: f64,
    peak: f64,
    excited: f64,
    scripts: Vec<Vec<(usize, f64)>>,
    queue: Vec<usize>,
    names: Vec<(String, String)>,
    tables: usize,
    errors: f64,
    tail: f64,
    noise: f64,
    growth: f64,
    luck: u64,
    retry: Option<(Event, u32)>,
    kind: &'static str,
}

impl Scripted {
    pub fn new(seed: u64, start: i64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5EED);
        let n = 5 + rng.below(8);
        let names = (0..n)
            .map(|i| (format!("step{}_{}", i, rng.below(90)), format!("svc.{}", rng.below(4))))
            .collect();
        let scripts = (0..2 + rng.below(3))
            .map(|_| {
                (0..3 + rng.below(6))
                    .map(|_| (rng.below(n), if rng.chance(0.7) { 1.0 } else { rng.between(0.3, 0.8) }))
                    .collect()
            })
            .collect();
        let always_on = rng.chance(0.4);
        Self {
            start,
            zone: rng.below(24) as i64,
            rate: rng.between(6.0, 70.0),
            peak: rng.between(11.0, 15.0),
            excited: rng.between(0.0, 0.5),
            scripts,
            queue: Vec::new(),
            names,
            tables: 2 + rng.below(25),
            errors: rng.between(0.005, 0.06),
            tail: rng.between(1.6, 3.5),
            noise: rng.between(0.05, 0.3),
            growth: rng.between(-0.03, 0.10),
            luck: 0,
            retry: None,
            kind: if always_on { "always" } else { "daily" },
            always_on,
            rng,
        }
    }
}

impl Source for Scripted {
    fn times(&mut self, hour: i64, tweak: &Tweak) -> Vec<f64> {
        let day = (hour + self.zone).div_euclid(24);
        let busy = (self.noise * Rng::new(day as u64 ^ self.zone as u64 ^ self.tables as u64 ^ self.luck).normal()).exp();
        let weeks = (hour - self.start) as f64 / 168.0;
        let mean =
            self.mean(hour) * busy * (1.0 + self.growth).powf(weeks) * tweak.rate * (1.0 - self.excited);
        let from = hour as f64 * 3_600.0;
        let mut times: Vec<f64> =
            (0..self.rng.poisson(mean)).map(|_| from + self.rng.unit() * 3_600.0).collect();
        let mut at = 0;
        while at < times.len() {
            // Each action draws further ones after it.
            for _ in 0..self.rng.poisson(self.excited) {
                let t = times[at] + self.rng.exp(40.0);
                if t < from + 3_600.0 {
                    times.push(t);
                }
            }
            at += 1;
        }
        times.sort_by(f64::total_cmp);
        times
    }

    fn call(&mut self, t: f64, tweak: &Tweak) -> Event {
        if let Some((event, left)) = self.retry.take()
            && left > 0
        {
            let failed = self.rng.chance(tweak.errors.unwrap_or(0.4));
            let again = Event { t, failed, ..event };
            self.retry = failed.then(|| (again.clone(), left - 1));
            return again;
        }
        if self.queue.is_empty() {
            let script = self.scripts[self.rng.below(self.scripts.len())].clone();
            self.queue =
                script.into_iter().rev().filter(|(_, p)| self.rng.chance(*p)).map(|(s, _)| s).collect();
        }
        let mut step = self.queue.pop().unwrap_or(0);
        if tweak.shuffled {
            let all: Vec<usize> = self.scripts.iter().flatten().map(|(s, _)| *s).collect();
            step = all[self.rng.below(all.len())];
        }
        if tweak.mixed {
            // The step that is rarest in the scripts, most of the time.
            let rare = (0..self.names.len())
                .filter(|s| self.scripts.iter().flatten().any(|(own, _)| own == s))
                .min_by_key(|s| self.scripts.iter().flatten().filter(|(own, _)| own == s).count());
            step = if self.rng.chance(0.7) { rare.unwrap_or(step) } else { step };
        }
        let (action, tool) = self.names[step].clone();
        let zipf: Vec<f64> = (0..self.tables).map(|i| 1.0 / (i + 1) as f64).collect();
        let table = self.rng.weighted(&zipf);
        let resource = match step % 3 {
            0 => format!(
                "https://api.example/v2/{}/items/{:x}",
                (b'a' + (table % 26) as u8) as char,
                self.rng.next() >> 32
            ),
            1 => format!("warehouse.{}", (b'a' + (table % 26) as u8) as char),
            _ => String::new(),
        };
        let size = (1.0 - self.rng.unit()).powf(-1.0 / self.tail) * (1.0 + step as f64 * 3.0) * tweak.records;
        let event = Event {
            t,
            action,
            resource,
            tool,
            records: (step % 4 != 3).then_some(size as u64),
            failed: self.rng.chance(tweak.errors.unwrap_or(self.errors)),
        };
        if event.failed && self.rng.chance(0.6) {
            self.retry = Some((event.clone(), 3));
        }
        event
    }

    fn redraw(&mut self, seed: u64) {
        (self.rng, self.luck) = (Rng::new(seed), seed);
    }

    fn mean(&self, hour: i64) -> f64 {
        let local = hour + self.zone;
        let (day, at) = ((local.div_euclid(24) + 3).rem_euclid(7), local.rem_euclid(24) as f64);
        let shape = (-((at - self.peak) / 3.5).powi(2)).exp();
        let weekend = if day >= 5 { 0.25 } else { 1.0 };
        if self.always_on { self.rate * (0.7 + 0.3 * shape) } else { self.rate * shape * weekend }
    }

    fn copy(&self) -> Box<dyn Source> {
        Box::new(self.clone())
    }

    fn kind(&self) -> &'static str {
        self.kind
    }
}
