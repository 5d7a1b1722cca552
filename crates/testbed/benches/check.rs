//! `make bench`: a durable check against a no-op handler of the same HTTP stack, and against a peer.
//!
//! All servers run at once, each in its own process, and take turns under the load: every round measures each
//! of them at each number of connections, in a different order, so that a busy neighbour or a slow disk hits
//! them alike. docs/performance.md says what the figures mean.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use checkrein_testbed::bench::load::{self, Plan};
use checkrein_testbed::bench::report::{Figure, Run, Sample, median};
use checkrein_testbed::bench::subject::{self, Running};
use checkrein_testbed::bench::{Error, noop, sync};

const CONNECTIONS: [usize; 3] = [1, 16, 64];
const POLICIES: [usize; 3] = [3, 1_000, 10_000];

const NOOP: &str = "no-op";
/// Its ratios would be 1 on a quiet machine: how far they are from it is how far to trust the others.
const CONTROL: &str = "no-op, once more";
const KEYED: &str = "check, 3 policies, with idempotency key";
const CHECKS: [&str; 3] = ["check, 3 policies", "check, 1,000 policies", "check, 10,000 policies"];
/// With `--drift`, instead of the others.
const WITHOUT_DRIFT: &str = "check, 3 policies, without drift";
const CERBOS: &str = "Cerbos, 3 policies, decision log";
const SUBJECTS: [&str; 8] = [NOOP, CONTROL, CHECKS[0], WITHOUT_DRIFT, KEYED, CHECKS[1], CHECKS[2], CERBOS];

/// What a check with drift is compared in with one without.
const DRIFT: [(&str, Figure); 3] = [
    ("throughput", |sample| sample.load.per_second),
    ("p50", |sample| sample.load.p50),
    ("CPU per request", Sample::cpu_per_request),
];

const USAGE: &str = "use: make bench [BENCH='--quick --without-checkrein --drift --data DIR']
  --quick              1 round of 0.7 seconds each: whether it works, not how fast it is
  --without-checkrein  only the no-op handler and the peer
  --drift              only the no-op handler, and checks with and without drift
  --data DIR           put the data there, to measure another disk (default: the target folder)";

struct Options {
    rounds: usize,
    measure_ms: u64,
    with_checkrein: bool,
    drift: bool,
    data: PathBuf,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["load", plan] => run_load(plan),
        ["noop", address] => address.parse().map_err(Error::from).and_then(noop::serve),
        _ => options(&words).and_then(|options| benchmark(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(words: &[&str]) -> Result<Options, Error> {
    let own = std::env::current_exe()?; // below target/release/deps
    let data = own.ancestors().nth(3).ok_or("this program is not in a target folder")?.to_owned();
    let mut options = Options { rounds: 5, measure_ms: 2_000, with_checkrein: true, drift: false, data };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match (*word, words.as_slice().first()) {
            ("--quick", _) => (options.rounds, options.measure_ms) = (1, 700),
            ("--without-checkrein", _) => options.with_checkrein = false,
            ("--drift", _) => options.drift = true,
            ("--data", Some(folder)) => {
                options.data = folder.into();
                words.next();
            }
            _ => return Err(format!("`{word}` is not understood\n{USAGE}").into()),
        }
    }
    Ok(options)
}

/// In a child: runs the load and hands back what it saw.
fn run_load(plan: &str) -> Result<(), Error> {
    let report = load::run(&serde_json::from_str(plan)?)?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn benchmark(options: &Options) -> Result<(), Error> {
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&options.data)?;
    let file_system = file_system(folder.path())?;
    if file_system == "tmpfs" {
        return Err(
            "the data would be in RAM, where durable costs nothing; name a folder on a disk with --data"
                .into(),
        );
    }
    let (noop, checkreins, cerbos) = start(options, folder.path())?;
    let mut plans: Vec<(&'static str, &Running, Plan)> =
        [NOOP, CONTROL].into_iter().map(|name| (name, &noop, subject::check(&noop, false))).collect();
    let names = if options.drift { [CHECKS[0], WITHOUT_DRIFT].as_slice() } else { CHECKS.as_slice() };
    for (name, running) in names.iter().copied().zip(&checkreins) {
        plans.push((name, running, subject::check(running, false)));
        if name == CHECKS[0] && !options.drift {
            plans.push((KEYED, running, subject::check(running, true)));
        }
    }
    plans.extend(cerbos.iter().map(|running| (CERBOS, running, subject::cerbos_check(running))));

    let seconds =
        options.rounds * CONNECTIONS.len() * plans.len() * usize::try_from(options.measure_ms + 400)? / 1_000;
    println!("{} rounds, about {} min; data on {file_system}", options.rounds, seconds / 60 + 1);

    let mut run = Run::default();
    let mut syncs = Vec::new();
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        syncs.push(sync::median(folder.path(), Duration::from_millis(options.measure_ms))?);
        for connections in CONNECTIONS {
            // Nobody is always the first after the disk has rested.
            plans.rotate_left(1);
            for (subject, running, plan) in &plans {
                run.samples.push(measure(options, round, connections, subject, running, plan)?);
            }
        }
    }
    report(&run, syncs);
    for (name, running) in names.iter().zip(&checkreins) {
        println!("{name}: {:.1} MB in RAM after the load", megabytes(running.server.memory()?));
    }
    Ok(())
}

/// The no-op handler; Checkrein once for each number of policies; Cerbos, if it is there.
fn start(options: &Options, folder: &Path) -> Result<(Running, Vec<Running>, Option<Running>), Error> {
    let noop = subject::start_noop(folder)?;
    let mut checkreins = Vec::new();
    if options.with_checkrein {
        let binary = subject::checkrein_binary()?;
        let kinds = if options.drift {
            vec![(POLICIES[0], true), (POLICIES[0], false)]
        } else {
            POLICIES.map(|policies| (policies, true)).to_vec()
        };
        for (policies, with_drift) in kinds {
            let running = subject::start_checkrein(&binary, folder, policies, with_drift)?;
            let (ready, memory) = (running.server.ready_after, megabytes(running.server.memory()?));
            println!(
                "Checkrein with {policies} policies: ready after {} ms, {memory:.1} MB",
                ready.as_millis()
            );
            checkreins.push(running);
        }
    }
    let cerbos = match std::env::var_os("CERBOS_BIN") {
        _ if options.drift => None,
        Some(binary) => Some(subject::start_cerbos(Path::new(&binary), folder)?),
        None => {
            println!("CERBOS_BIN is not set: without the peer");
            None
        }
    };
    Ok((noop, checkreins, cerbos))
}

fn measure(
    options: &Options,
    round: usize,
    connections: usize,
    subject: &'static str,
    running: &Running,
    plan: &Plan,
) -> Result<Sample, Error> {
    let plan = Plan { connections, warm_up_ms: 300, measure_ms: options.measure_ms, ..plan.clone() };
    let before = running.server.cpu()?;
    let load = load::run_child(&plan)?;
    let cpu = running.server.cpu()? - before;
    Ok(Sample { round, connections, subject, load, cpu })
}

fn report(run: &Run, syncs: Vec<f64>) {
    println!("\nMedians over the rounds; in brackets the median of the rounds' ratios to the no-op.\n");
    for connections in CONNECTIONS {
        println!("{}", run.table(&SUBJECTS, NOOP, connections));
    }
    let p50 = |subject| run.figures(subject, 1, |sample| sample.load.p50);
    let in_syncs: Vec<_> = p50(CHECKS[0])
        .zip(p50(NOOP))
        .zip(&syncs)
        .map(|((check, noop), sync)| (check - noop) / sync)
        .collect();
    if !in_syncs.is_empty() {
        println!("1 connection: a check takes as long as the no-op and {:.2} syncs", median(in_syncs));
    }
    for connections in CONNECTIONS {
        for (what, figure) in DRIFT {
            if let Some(ratio) = run.ratio(CHECKS[0], WITHOUT_DRIFT, connections, figure) {
                println!("{ratio:.3} times the {what} without drift, at {connections} at a time");
            }
        }
    }
    println!("One append and fdatasync, alone: {:.0} µs (median)", median(syncs) / 1e3);
    for connections in CONNECTIONS {
        if let Some(ratio) = run.ratio(CHECKS[0], CERBOS, connections, |sample| sample.load.per_second) {
            println!("{ratio:.1} times the throughput of Cerbos at {connections} at a time");
        }
        if let Some(ratio) = run.ratio(CHECKS[2], CHECKS[0], connections, |sample| sample.load.p50) {
            println!("{ratio:.3} times the p50 of 3 policies with 10,000, at {connections} at a time");
        }
    }
}

/// The kind of file system that a folder is on.
fn file_system(folder: &Path) -> Result<String, Error> {
    let folder = folder.canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let deepest = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(mount, _)| folder.starts_with(mount))
        .max_by_key(|(mount, _)| mount.len());
    Ok(deepest.map_or("an unknown file system", |(_, kind)| kind).to_owned())
}

fn megabytes(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let bytes = bytes as f64;
    bytes / 1e6
}
