//! How well drift is detected, on simulated fleets: `cargo bench -p checkrein-core --bench detect`.
//!
//! Arguments after `--`: `fleet`, `other` or `third` (the generator), `--seed N` (the first of the fleet's seeds),
//! `--agents N`, `--verbose`, `--tails` (how often each channel came near an alarm without cause), `--oracle`
//! (what there is to be found of higher rates, which takes its time); `--keys` (so many keys of several agents
//! instead, see `keys`); `--calls FILE` (recorded calls of others, see `recorded`); or `--events FILE`, which writes an example for `checkrein drift`. Each agent lives through six weeks; what is
//! alerted then is a false alarm. At random active hours from the third week on, a copy of it goes on with
//! something injected, and what is alerted then, within the window of the injection, is a detection.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    unreachable_pub,
    reason = "a program for developers"
)]

mod fleet;
mod keys;
mod oracle;
mod other;
mod recorded;
mod rng;
mod third;

use checkrein_core::{
    drift::{Baseline, Channel, Group, Incidents, Observed, Reading},
    time::Timestamp,
};
use fleet::{Event, NORMAL, Source, Tweak};
use rng::Rng;
use std::collections::BTreeMap;

/// 2026-03-02, a Monday.
const START: i64 = 1_772_409_600 / 3_600;
const WEEKS: i64 = 6;
const INJECTIONS: [&str; 12] = [
    "rate x2",
    "rate x5",
    "rate x13",
    "25 to 400",
    "loop",
    "mix",
    "order",
    "novelty",
    "cold novelty",
    "records x20",
    "errors 50%",
    "bare novelty",
];

struct Agent {
    baseline: Baseline,
    incidents: Incidents,
    /// The highest scores since somebody last looked.
    highest: Reading,
}

impl Agent {
    fn see(&mut self, event: &Event, group: &mut Group, least: f32) -> Vec<(Channel, f32, String)> {
        self.see_exactly(event, "", group, least)
    }

    fn see_exactly(
        &mut self,
        event: &Event,
        exact: &str,
        group: &mut Group,
        least: f32,
    ) -> Vec<(Channel, f32, String)> {
        let observed = Observed {
            at: Timestamp::from_micros((event.t * 1e6) as i64),
            action: &event.action,
            resource: &event.resource,
            tool: &event.tool,
            exact,
            records: event.records,
            payload_bytes: None,
        };
        let mut reading = self.baseline.observe(&observed, group);
        reading.merge(&self.baseline.outcome(event.failed));
        self.highest.merge(&reading);
        self.incidents
            .begin(&reading, observed.at, least)
            .map(|(channel, score)| {
                (channel, score, self.baseline.explain(channel, score, &observed).sentence)
            })
            .collect()
    }
}

#[derive(Default)]
struct Tally {
    first: f64,
    first_weeks: f64,
    later: f64,
    later_weeks: f64,
    kinds: BTreeMap<(String, &'static str, bool), u32>,
    tried: BTreeMap<&'static str, u32>,
    delays: BTreeMap<&'static str, Vec<u32>>,
    missed: BTreeMap<(&'static str, &'static str), (u32, u32)>,
    /// Agent-days after the first week on which a channel scored at least so many halves.
    tails: BTreeMap<(&'static str, usize), u32>,
    days: u32,
    /// What an oracle finds of an injection, by the kind of agent: the sum of its chances, and injections.
    asks_oracle: bool,
    oracle: BTreeMap<(&'static str, &'static str), ([f64; 2], u32)>,
}

impl Tally {
    fn day(&mut self, highest: &Reading, counts: bool) {
        if !counts {
            return;
        }
        self.days += 1;
        for channel in Channel::ALL {
            for halves in 6..=(highest.score(channel) * 2.0) as usize {
                *self.tails.entry((channel.as_str(), halves)).or_default() += 1;
            }
        }
    }

    fn print_tails(&self) {
        println!(
            "agent-days, of {}, on which a channel reached 3, 3.5, … 7 with nothing injected",
            self.days
        );
        for channel in Channel::ALL.map(Channel::as_str) {
            let counts: Vec<String> = (6..=14)
                .map(|halves| format!("{:6}", self.tails.get(&(channel, halves)).copied().unwrap_or(0)))
                .collect();
            println!("    {channel:9}{}", counts.join(""));
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let flag =
        |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)?.parse::<u64>().ok());
    let (seed, agents) = (flag("--seed").unwrap_or(1), flag("--agents").unwrap_or(64));
    let [verbose, tails, oracle] =
        ["--verbose", "--tails", "--oracle"].map(|name| args.iter().any(|a| a == name));
    if let Some(path) = args.iter().position(|a| a == "--events").and_then(|i| args.get(i + 1)) {
        return write_example(path, seed);
    }
    if let Some(path) = args.iter().position(|a| a == "--calls").and_then(|i| args.get(i + 1)) {
        return recorded::run(path, seed);
    }
    let generators = ["fleet", "other", "third"];
    let all = !args.iter().any(|a| generators.contains(&a.as_str()));
    for generator in generators {
        if !all && !args.iter().any(|a| a == generator) {
            continue;
        }
        if args.iter().any(|a| a == "--keys") {
            keys::run(generator, seed, agents, verbose);
        } else {
            run(generator, seed, agents, (verbose, tails, oracle));
        }
    }
}

/// Three weeks of a ticket agent, on the last day of which it makes 400 updates an hour for a quarter of one.
fn write_example(path: &str, seed: u64) {
    let mut agent = fleet::Simulated::tickets(seed, START);
    let mut events: Vec<Event> =
        (START..START + 23 * 24).flat_map(|hour| agent.hour(hour, &NORMAL)).collect();
    let from = (START + 22 * 24 + 14) as f64 * 3_600.0 + 300.0;
    let base = events.iter().rev().find(|e| e.action == "update_ticket").unwrap_or(&events[0]).clone();
    events.extend((0..100).map(|i| Event { t: from + f64::from(i) * 9.0, ..base.clone() }.of_ticket(i)));
    events.sort_by(|a, b| a.t.total_cmp(&b.t));
    let mut out = String::new();
    for (seq, e) in events.iter().enumerate() {
        out += &format!(
            "{{\"seq\":{seq},\"agent\":\"ticket-bot\",\"ts\":{:.3},\"action\":\"{}\",\"resource\":\"{}\",\"tool\":\"{}\",\"record_count\":{},\"outcome\":\"{}\"}}\n",
            e.t,
            e.action,
            e.resource,
            e.tool,
            e.records.unwrap_or(0),
            if e.failed { "error" } else { "ok" }
        );
    }
    std::fs::write(path, out).unwrap();
}

fn run(generator: &str, seed: u64, agents: u64, (verbose, tails, asks_oracle): (bool, bool, bool)) {
    let mut tally = Tally { asks_oracle, ..Tally::default() };
    let mut group = Group::new();
    for at in 0..agents {
        let own = seed * 100_000 + at;
        live(
            source(generator, at, own),
            at % 4 == 3 && generator == "fleet",
            own,
            &mut group,
            &mut tally,
            verbose,
        );
    }
    report(generator, seed, agents, &tally);
    if tails {
        tally.print_tails();
    }
}

/// The `at`-th agent of a generator.
fn source(generator: &str, at: u64, seed: u64) -> Box<dyn Source> {
    match generator {
        "other" => Box::new(other::Scripted::new(seed, START)),
        "third" => Box::new(third::Stints::new(seed, START)),
        _ if at % 4 == 3 => Box::new(fleet::Simulated::tickets(seed, START)),
        _ => Box::new(fleet::Simulated::new(seed, START)),
    }
}

fn live(
    mut source: Box<dyn Source>,
    tickets: bool,
    seed: u64,
    group: &mut Group,
    tally: &mut Tally,
    verbose: bool,
) {
    let mut rng = Rng::new(seed ^ 0xABCD);
    let end = START + WEEKS * 168;
    let mut due: BTreeMap<i64, Vec<&'static str>> = BTreeMap::new();
    for what in INJECTIONS {
        if what == "25 to 400" && !tickets {
            continue;
        }
        let range =
            if what == "cold novelty" { START + 24..START + 5 * 24 } else { START + 15 * 24..end - 48 };
        for _ in 0..3 {
            for _ in 0..500 {
                let hour = range.start + rng.below((range.end - range.start) as usize) as i64;
                if source.mean(hour) >= 4.0 && (what != "25 to 400" || source.mean(hour) >= 15.0) {
                    due.entry(hour).or_default().push(what);
                    break;
                }
            }
        }
    }
    let mut agent: Option<Agent> = None;
    for hour in START..end {
        for what in due.get(&hour).into_iter().flatten() {
            let Some(agent) = &agent else { continue };
            let agent = Agent {
                baseline: agent.baseline.clone(),
                incidents: Incidents::default(),
                highest: Reading::default(),
            };
            inject(what, agent, &*source, hour, &mut group.clone(), &mut rng, tally);
        }
        for event in source.hour(hour, &NORMAL) {
            let agent = agent.get_or_insert_with(|| Agent {
                baseline: Baseline::new(7, Timestamp::from_micros((event.t * 1e6) as i64)),
                incidents: Incidents::default(),
                highest: Reading::default(),
            });
            let first = hour < START + 168;
            for (channel, score, sentence) in agent.see(&event, group, 5.0) {
                *if first { &mut tally.first } else { &mut tally.later } += 1.0;
                *tally.kinds.entry((format!("{channel:?}"), source.kind(), first)).or_default() += 1;
                if verbose {
                    println!(
                        "false  {:8} day {:2} {score:5.1} {}: {sentence}",
                        source.kind(),
                        (hour - START) / 24,
                        channel.as_str()
                    );
                }
            }
        }
        if let Some(agent) = agent.as_mut().filter(|_| hour % 24 == 23) {
            tally.day(&std::mem::take(&mut agent.highest), hour >= START + 168);
        }
    }
    tally.first_weeks += 1.0;
    tally.later_weeks += (WEEKS - 1) as f64;
}

fn inject(
    what: &'static str,
    mut agent: Agent,
    source: &dyn Source,
    hour: i64,
    group: &mut Group,
    rng: &mut Rng,
    tally: &mut Tally,
) {
    let mut source = source.copy();
    let rate = |rate: f64| Tweak { rate, ..NORMAL };
    let (tweak, hours, most) = match what {
        "rate x2" => (rate(2.0), 8, usize::MAX),
        "rate x5" => (rate(5.0), 4, usize::MAX),
        "rate x13" => (rate(13.0), 3, usize::MAX),
        "25 to 400" => (rate(400.0 / source.mean(hour)), 1, usize::MAX),
        "mix" => (Tweak { mixed: true, ..NORMAL }, 24, 100),
        "order" => (Tweak { shuffled: true, ..NORMAL }, 24, 100),
        "records x20" => (Tweak { records: 20.0, ..NORMAL }, 24, 50),
        "errors 50%" => (Tweak { errors: Some(0.5), ..NORMAL }, 24, 60),
        _ => (NORMAL, 1, 0),
    };
    // A poller's mix and order are what makes it one; nothing else of it could be told.
    if source.kind() == "poller" && matches!(what, "mix" | "order" | "loop") {
        return;
    }
    let mut events: Vec<Event> = Vec::new();
    for at in hour..hour + hours {
        events.extend(source.hour(at, &tweak));
        if events.len() >= most {
            break;
        }
    }
    events.truncate(most);
    let base = source.hour(hour, &NORMAL).into_iter().next();
    let mut t = (hour as f64 + rng.unit()) * 3_600.0;
    match (what, base) {
        ("loop", Some(base)) => {
            let pace = rng.between(1.0, 12.0);
            for _ in 0..80 {
                t += rng.exp(pace);
                events.push(Event { t, ..base.clone() });
            }
        }
        ("novelty" | "cold novelty" | "bare novelty", Some(base)) => {
            for _ in 0..3 {
                t += rng.exp(30.0);
                let event = Event { t, action: "export_all".into(), ..base.clone() };
                events.push(if what == "bare novelty" {
                    event
                } else {
                    Event { tool: "shell".into(), resource: "secrets.vault".into(), ..event }
                });
            }
        }
        _ => {}
    }
    if events.is_empty() {
        return;
    }
    *tally.tried.entry(what).or_default() += 1;
    if tally.asks_oracle && matches!(what, "rate x2" | "rate x5") {
        let chance = oracle::power(&*source, hour, hours, &tweak, hour as u64);
        let sum = tally.oracle.entry((what, source.kind())).or_default();
        *sum = ([sum.0[0] + chance[0], sum.0[1] + chance[1]], sum.1 + 1);
    }
    let found = events.iter().position(|event| !agent.see(event, group, 5.0).is_empty());
    let cell = tally.missed.entry((what, source.kind())).or_default();
    cell.0 += 1;
    match found {
        Some(at) => tally.delays.entry(what).or_default().push(at as u32 + 1),
        None => cell.1 += 1,
    }
}

fn report(generator: &str, seed: u64, agents: u64, tally: &Tally) {
    println!("\n{generator}: {agents} agents from seed {seed}, {WEEKS} weeks");
    println!(
        "false alarms per agent-week: {:.3} in the first week, {:.4} after it",
        tally.first / tally.first_weeks,
        tally.later / tally.later_weeks
    );
    for ((channel, kind, first), n) in &tally.kinds {
        println!("    {n:4} {channel} of {kind}{}", if *first { ", first week" } else { "" });
    }
    println!("{:14} {:>6} {:>8} {:>14} {:>6}", "injected", "tried", "found", "events: median", "p90");
    let (mut tried_all, mut found_all) = (0, 0);
    for what in INJECTIONS {
        let tried = tally.tried.get(what).copied().unwrap_or(0);
        let mut delays = tally.delays.get(what).cloned().unwrap_or_default();
        delays.sort_unstable();
        if what != "rate x2" {
            tried_all += tried;
            found_all += delays.len();
        }
        let quantile = |q: f64| delays.get((delays.len() as f64 * q) as usize).copied().unwrap_or(0);
        let missed: Vec<String> = tally
            .missed
            .iter()
            .filter(|((w, _), (_, missed))| *w == what && *missed > 0)
            .map(|((_, kind), (of, missed))| format!("{kind} {missed}/{of}"))
            .collect();
        println!(
            "{what:14} {tried:6} {:7.1}% {:14} {:6}   {}",
            100.0 * delays.len() as f64 / f64::from(tried.max(1)),
            quantile(0.5),
            quantile(0.9),
            missed.join(", ")
        );
    }
    for what in ["rate x2", "rate x5"].into_iter().filter(|_| tally.asks_oracle) {
        let of = || tally.oracle.iter().filter(|((w, _), _)| *w == what);
        let n: u32 = of().map(|(_, (_, n))| n).sum();
        for (at, how) in ["that is told when", "that watches all week"].into_iter().enumerate() {
            let sum: f64 = of().map(|(_, (sum, _))| sum[at]).sum();
            let all = 100.0 * sum / f64::from(n.max(1));
            let kinds: Vec<String> = of()
                .map(|((_, kind), (sum, n))| format!("{kind} {:.0}%", 100.0 * sum[at] / f64::from(*n)))
                .collect();
            println!("{what}: an oracle {how} would find {all:.1}%: {}", kinds.join(", "));
        }
    }
    println!("all but x2: {:.1}%", 100.0 * found_all as f64 / f64::from(tried_all.max(1)));
}
