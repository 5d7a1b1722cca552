//! Keys that stand for several agents: `--keys`. What is seen of all of them together, as a server does it.
//!
//! With each key come 2 to 15 agents of one or two kinds. Of the keys a third are fleets (agents that stay, one joins
//! now and then), a third sessions (a new name every few actions), a third runs (a new name every hour). At random busy hours from the third week
//! on, beside what goes on anyway, somebody acts under ever new names.

use crate::{START, WEEKS, fleet::Event, fleet::NORMAL, fleet::Source, rng::Rng, source};
use checkrein_core::{
    drift::{Baseline, Channel, Incidents, Observed},
    time::Timestamp,
};
use std::collections::{BTreeMap, HashSet};

const INJECTIONS: [&str; 4] = ["400/h, a name each", "400/h, ten a name", "loop, a name each", "novelty"];
const KINDS: [&str; 3] = ["fleet", "sessions", "runs"];

#[derive(Clone)]
struct Known {
    baseline: Option<Baseline>,
    incidents: Incidents,
    names: HashSet<u64>,
}

impl Known {
    /// The incidents that begin.
    fn see(&mut self, name: u64, event: &Event) -> Vec<(String, Channel, f32)> {
        let at = Timestamp::from_micros((event.t * 1e6) as i64);
        let baseline = self.baseline.get_or_insert_with(|| Baseline::new(7, at));
        let observed = Observed {
            at,
            action: &event.action,
            resource: &event.resource,
            tool: &event.tool,
            exact: "",
            records: event.records,
            payload_bytes: None,
        };
        let mut reading = baseline.observe_one_of_many(&observed, self.names.insert(name));
        reading.merge(&baseline.outcome(event.failed));
        let told = |(channel, score)| (baseline.explain(channel, score, &observed).sentence, channel, score);
        self.incidents.begin(&reading, at, 5.0).map(told).collect()
    }
}

/// What comes with one key.
struct Key {
    kind: &'static str,
    sources: Vec<(u64, Box<dyn Source>)>,
    next: u64,
    rng: Rng,
}

impl Key {
    fn name(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn join(&mut self) {
        let name = self.name();
        let mut source = self.sources[self.rng.below(self.sources.len())].1.copy();
        source.redraw(self.rng.next());
        self.sources.push((name, source));
    }

    fn hour(&mut self, hour: i64) -> Vec<(u64, Event)> {
        if self.kind == "fleet" && self.rng.chance(1.0 / 500.0) {
            self.join();
        }
        let mut sources = std::mem::take(&mut self.sources);
        let mut events = Vec::new();
        for (name, source) in &mut sources {
            if self.kind == "runs" {
                *name = self.name();
            }
            for event in source.hour(hour, &NORMAL) {
                events.push((*name, event));
                if self.kind == "sessions" && self.rng.chance(0.07) {
                    *name = self.name();
                }
            }
        }
        self.sources = sources;
        events.sort_by(|a, b| a.1.t.total_cmp(&b.1.t));
        events
    }
}

pub fn run(generator: &str, seed: u64, keys: u64, verbose: bool) {
    let mut alarms: BTreeMap<(&str, &str), [u32; 3]> = BTreeMap::new();
    let mut found: BTreeMap<(&str, &str), (u32, Vec<u32>)> = BTreeMap::new();
    for at in 0..keys {
        let own = seed * 10_000 + at;
        let mut rng = Rng::new(own ^ 0x5EED);
        let kind = KINDS[(at % 3) as usize];
        let sources = (0..1 + at % 2).map(|n| (n, source(generator, own + n, own * 10 + n))).collect();
        let mut key = Key { kind, sources, next: 2, rng: Rng::new(own) };
        for _ in 0..rng.between(1.0, 14.0) as usize {
            key.join();
        }
        let mut known = Known { baseline: None, incidents: Incidents::default(), names: HashSet::new() };
        let end = START + WEEKS * 168;
        let due: HashSet<i64> =
            (0..6).map(|_| START + 15 * 24 + rng.below((end - START - 17 * 24) as usize) as i64).collect();
        for hour in START..end {
            let events = key.hour(hour);
            if due.contains(&hour) && events.len() >= 10 {
                for what in INJECTIONS {
                    let told = inject(what, known.clone(), &events, &mut rng);
                    let cell = found.entry((kind, what)).or_default();
                    cell.0 += 1;
                    cell.1.extend(told);
                }
            }
            for (name, event) in events {
                for (sentence, channel, score) in known.see(name, &event) {
                    if verbose {
                        println!("false  {kind:8} day {:2} {score:5.1} {sentence}", (hour - START) / 24);
                    }
                    let cell = alarms.entry((kind, channel.as_str())).or_default();
                    cell[0] += u32::from(hour < START + 168);
                    cell[1] += u32::from(hour >= START + 168);
                    cell[2] += u32::from(hour >= START + 168 && score >= 7.0);
                }
            }
        }
    }
    report(generator, seed, keys, &alarms, &found);
}

/// The injected actions until somebody is told.
fn inject(what: &str, mut known: Known, events: &[(u64, Event)], rng: &mut Rng) -> Option<u32> {
    let base = events[rng.below(events.len())].1.clone();
    let mut t = base.t;
    let (pace, most, each) = match what {
        "400/h, a name each" => (9.0, 100, 1),
        "400/h, ten a name" => (9.0, 100, 10),
        "loop, a name each" => (5.0, 40, 1),
        _ => (30.0, 3, 3),
    };
    let mut all: Vec<(u64, bool, Event)> =
        events.iter().map(|(name, event)| (*name, false, event.clone())).collect();
    for n in 0..most {
        t += rng.exp(pace);
        let mut event = Event { t, ..base.clone() };
        match what {
            "novelty" => event.action = "export_all".into(),
            "loop, a name each" => {}
            _ => event = events[rng.below(events.len())].1.clone(),
        }
        all.push((u64::MAX - n / each, true, Event { t, ..event }));
    }
    all.sort_by(|a, b| a.2.t.total_cmp(&b.2.t));
    let mut count = 0;
    for (name, injected, event) in all {
        count += u32::from(injected);
        if !known.see(name, &event).is_empty() && count > 0 {
            return Some(count);
        }
    }
    None
}

fn report(
    generator: &str,
    seed: u64,
    keys: u64,
    alarms: &BTreeMap<(&str, &str), [u32; 3]>,
    found: &BTreeMap<(&str, &str), (u32, Vec<u32>)>,
) {
    println!("\n{generator}: {keys} keys of several agents from seed {seed}, {WEEKS} weeks");
    for kind in KINDS {
        let keys = (keys as f64 / KINDS.len() as f64).max(1.0);
        let sum = |at: usize| {
            alarms.iter().filter(|((k, _), _)| *k == kind).map(|(_, n)| f64::from(n[at])).sum::<f64>()
        };
        let later = keys * (WEEKS - 1) as f64;
        println!(
            "{kind}: false alarms per key-week: {:.3} in the first week, {:.4} after it, {:.4} of 7 and more",
            sum(0) / keys,
            sum(1) / later,
            sum(2) / later
        );
        for ((_, channel), [first, later, high]) in alarms.iter().filter(|((k, _), _)| *k == kind) {
            println!("    {channel}: {first} in the first week, {later} after it, {high} of 7 and more");
        }
        for what in INJECTIONS {
            let Some((tried, delays)) = found.get(&(kind, what)) else { continue };
            let mut delays = delays.clone();
            delays.sort_unstable();
            let quantile = |q: f64| delays.get((delays.len() as f64 * q) as usize).copied().unwrap_or(0);
            println!(
                "    {what:20} {tried:5} {:6.1}% {:6} {:6}",
                100.0 * delays.len() as f64 / f64::from((*tried).max(1)),
                quantile(0.5),
                quantile(0.9)
            );
        }
    }
}
