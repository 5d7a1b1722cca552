//! What drift costs an event, and an agent: `cargo bench -p checkrein-core --bench drift`.
//!
//! Measured beside one SHA-256 of a key, which every check pays, in interleaved rounds whose medians are
//! compared, so that a busy neighbour does not decide.

use checkrein_core::{
    drift::{Baseline, Group, Incidents, Observed},
    time::Timestamp,
};
use sha2::{Digest as _, Sha256};
use std::{
    hint::black_box,
    io::Write as _,
    time::{Duration, Instant},
};

const ROUNDS: usize = 201;
const EVENTS: usize = 5_000;
/// More agents than fit the caches of a core, as in a real fleet.
const AGENTS: usize = 1_000;
/// 2026-03-02, in microseconds.
const START: i64 = 1_772_409_600_000_000;

fn main() -> std::io::Result<()> {
    // Few enough to stay in the cache: a check has just read them.
    let names: Vec<[String; 3]> = (0..256)
        .map(|i| {
            [
                format!("update_ticket_{}", i % 7),
                format!("shop.tickets/{}", i * 7_919),
                format!("crm{}", i % 3),
            ]
        })
        .collect();
    let mut few = Fleet::new(1);
    let mut many = Fleet::new(AGENTS);
    let mut digests = Vec::new();
    let (mut one, mut fleet) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        one.push(few.round(&names));
        fleet.push(many.round(&names));
        let start = Instant::now();
        for (i, [action, ..]) in names.iter().enumerate() {
            black_box(Sha256::digest(black_box(format!("ck_agent_{i:040}{action}").as_bytes())));
        }
        digests.push(nanos(start.elapsed(), names.len()));
    }
    let (one, fleet, digest) = (median(&mut one), median(&mut fleet), median(&mut digests));
    let mut out = std::io::stdout().lock();
    writeln!(out, "one agent              {one:6.0} ns an event, {:.2} of a key's digest", one / digest)?;
    writeln!(
        out,
        "{AGENTS} agents in turn   {fleet:6.0} ns an event, {:.2} of a key's digest",
        fleet / digest
    )?;
    writeln!(out, "an agent takes {} bytes, {} saved", size_of::<Baseline>(), few.saved())
}

struct Fleet {
    agents: Vec<(Baseline, Incidents)>,
    group: Group,
    now: i64,
    next: usize,
}

impl Fleet {
    fn new(agents: usize) -> Self {
        let agent = (Baseline::new(7, Timestamp::from_micros(START)), Incidents::default());
        Self { agents: vec![agent; agents], group: Group::new(), now: START, next: 0 }
    }

    /// Actions with their outcomes; nanoseconds each.
    fn round(&mut self, names: &[[String; 3]]) -> f64 {
        // Twenty an hour from each.
        let pause = 180_000_000 / i64::try_from(self.agents.len()).unwrap_or(1);
        let agents = self.agents.len();
        let start = Instant::now();
        for i in 0..EVENTS {
            self.now += pause;
            self.next = self.next.wrapping_add(1);
            let at = Timestamp::from_micros(self.now);
            let name = names.get(self.next.wrapping_mul(2_654_435_761) % names.len());
            let agent = self.agents.get_mut(self.next % agents);
            let (Some([action, resource, tool]), Some((baseline, incidents))) = (name, agent) else {
                continue;
            };
            let records = Some((self.next % 17) as u64);
            let action = Observed { at, action, resource, tool, exact: "", records, payload_bytes: None };
            let mut reading = baseline.observe(black_box(&action), &mut self.group);
            reading.merge(&baseline.outcome(i % 50 == 0));
            black_box(incidents.begin(&reading, at, 5.0).count());
        }
        nanos(start.elapsed(), EVENTS)
    }

    fn saved(&self) -> usize {
        self.agents.first().map_or(0, |(baseline, _)| baseline.save().len())
    }
}

fn nanos(elapsed: Duration, events: usize) -> f64 {
    elapsed.as_secs_f64() * 1e9 / events as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
