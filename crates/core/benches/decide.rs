//! How long a decision takes in process, and what a set of policies costs: `cargo bench -p checkrein-core`.
//!
//! Rounds of all set sizes are interleaved, and medians compared, so that a busy neighbour does not decide.

use checkrein_core::{
    action::{Action, Category, Count, Domains, Effect, Environment},
    name::{Name, NameError},
    policy::{Facts, Policy, PolicySet, Windows, parse_list},
    time::Timestamp,
};
use serde_json::{Value, json};
use std::{
    error::Error,
    hint::black_box,
    io::Write as _,
    time::{Duration, Instant},
};

const SIZES: [u64; 3] = [3, 1_000, 10_000];
const ROUNDS: usize = 401;
/// Few, so that most rounds fit between two interruptions by other work.
const DECISIONS: u32 = 1_000;

/// Policies, and the actions that meet them.
struct Scene {
    name: &'static str,
    /// The policies of a set of so many.
    policies: fn(u64) -> Value,
    /// Actions that such a set judges.
    actions: fn(u64) -> Result<Vec<Action>, NameError>,
}

const SCENES: [Scene; 4] = [
    Scene {
        name: "spread over resources, nothing matches",
        policies: spread,
        actions: |n| {
            each(|i| action("update", &format!("system{}.users.accounts", i * 7 % n), Count::Known(12)))
        },
    },
    Scene {
        name: "spread over resources, one blocks",
        policies: spread,
        actions: |n| {
            each(|i| action("update", &format!("system{}.users.accounts", i * 7 % n), Count::Known(26)))
        },
    },
    Scene {
        name: "one prefix, many thresholds, nothing matches",
        policies: dense,
        actions: |_| each(|i| action("update", &format!("production.users.t{i}"), Count::Known(99))),
    },
    Scene {
        name: "one prefix, many thresholds, two block",
        policies: dense,
        actions: |_| each(|i| action("update", &format!("production.users.t{i}"), Count::Known(102))),
    },
];

fn spread(n: u64) -> Value {
    let one = |i| {
        json!({"name": format!("limit-{i}"), "rule": "block", "condition": {
            "action": "update", "resource_pattern": format!("system{i}.users.*"), "record_count_exceeds": 25}})
    };
    (0..n).map(one).collect()
}

fn dense(n: u64) -> Value {
    let one = |i| {
        json!({"name": format!("limit-{i}"), "rule": "block", "condition": {
            "action": "update", "resource_pattern": "production.*", "record_count_exceeds": 100 + i}})
    };
    (0..n).map(one).collect()
}

fn each(make: impl Fn(u64) -> Result<Action, NameError>) -> Result<Vec<Action>, NameError> {
    (0..64).map(make).collect()
}

fn action(verb: &str, resource: &str, records: Count) -> Result<Action, NameError> {
    let effect = Effect {
        names: [Name::new("update_user")?, Name::new(verb)?].into_iter().collect(),
        category: Category::Write,
        resource: Name::new(resource)?,
        environment: Environment::Production,
    };
    Ok(Action {
        agent: Name::new("billing-bot")?,
        session: None,
        action: Name::new("update_user")?,
        tool: None,
        resource: effect.resource.clone(),
        category: effect.category,
        environment: effect.environment,
        effects: [effect].into_iter().collect(),
        records,
        declared: None,
        declared_ids: false,
        systems: Count::Known(1),
        recipients: Count::Known(0),
        domains: Domains::default(),
        payload_bytes: 40,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    // Before anything else has left memory behind that could be used again.
    let (bytes, _kept) = bytes_of_a_set(&spread(10_000))?;
    writeln!(out, "a set of 10,000 policies: about {:.2} MiB", bytes / 1_048_576.0)?;
    for scene in SCENES {
        writeln!(out, "\n{}", scene.name)?;
        let mut sets = Vec::new();
        for size in SIZES {
            let value = (scene.policies)(size);
            let (reading, policies) = timed(|| read(&value));
            let (compiling, set) = timed(|| compile(policies?));
            let set = set?;
            writeln!(
                out,
                "  {size:>6} policies: read {:>6.2} ms, compile {:>6.2} ms",
                millis(reading),
                millis(compiling),
            )?;
            sets.push((size, set, (scene.actions)(size)?, Vec::new()));
        }
        for _ in 0..ROUNDS {
            for (_, set, actions, nanos) in &mut sets {
                let mut windows = Windows::new();
                let (took, ()) = timed(|| {
                    for action in
                        actions.iter().cycle().take(usize::try_from(DECISIONS).unwrap_or(usize::MAX))
                    {
                        let facts = Facts::of(action, None, Timestamp::from_micros(1));
                        black_box(set.evaluate(black_box(&facts), &mut windows));
                    }
                });
                nanos.push(took.as_secs_f64() * 1e9 / f64::from(DECISIONS));
            }
        }
        let medians: Vec<f64> = sets.iter_mut().map(|(_, _, _, nanos)| median(nanos)).collect();
        for ((size, ..), nanos) in sets.iter().zip(&medians) {
            writeln!(out, "  {size:>6} policies: {nanos:>7.0} ns a decision")?;
        }
        if let (Some(few), Some(many)) = (medians.first(), medians.last()) {
            writeln!(out, "  10,000 to 3: {:.2}", many / few)?;
        }
    }
    let set = compile(read(&dense(10_000))?)?;
    let unknown = action("update", "production.users", Count::Unknown)?;
    let facts = Facts::of(&unknown, None, Timestamp::from_micros(1));
    let mut nanos: Vec<f64> = (0..101)
        .map(|_| timed(|| black_box(set.evaluate(&facts, &mut Windows::new()))).0.as_secs_f64() * 1e9)
        .collect();
    writeln!(out, "\n10,000 policies that all match an unknown count: {:.0} us", median(&mut nanos) / 1e3)?;
    Ok(())
}

fn read(value: &Value) -> Result<Vec<Policy>, Box<dyn Error>> {
    parse_list(value).map_err(|problems| format!("{problems:?}").into())
}

/// What one more set of these policies takes, told from the growth of the process (Linux). Rough.
fn bytes_of_a_set(value: &Value) -> Result<(f64, Vec<PolicySet>), Box<dyn Error>> {
    const MORE: u32 = 8;
    // The first one leaves behind the scratch memory that the others use again.
    let mut kept = vec![compile(read(value)?)?];
    let before = resident_bytes()?;
    for _ in 0..MORE {
        kept.push(compile(read(value)?)?);
    }
    Ok(((resident_bytes()? - before) / f64::from(MORE), kept))
}

fn resident_bytes() -> Result<f64, Box<dyn Error>> {
    const PAGE: f64 = 4_096.0;
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    Ok(statm.split_whitespace().nth(1).ok_or("no resident size")?.parse::<f64>()? * PAGE)
}

fn compile(policies: Vec<Policy>) -> Result<PolicySet, Box<dyn Error>> {
    PolicySet::compile(policies).map_err(|problems| format!("{problems:?}").into())
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed(), done)
}

fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
