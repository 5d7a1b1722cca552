//! Checks beside sinks that are dead, slow or well, against checks without any: a sink must cost a check nothing.
//!
//! ```text
//! cargo bench -p checkrein-testbed --bench sinks -- [--quick]
//! ```
//! Every check is blocked, so that each is a signal, and the sinks take the stream of all actions too. The servers run
//! at once and take turns under the load; what counts are ratios within a round. docs/performance.md has the figures.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]

use checkrein_testbed::bench::{
    Error,
    load::{self, Plan},
    report::{Run, Sample},
    subject::{self, Running},
};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::ExitCode,
    thread,
};

const CONNECTIONS: [usize; 2] = [1, 64];
const NONE: &str = "checks without sinks";
/// Its ratios would be 1 on a quiet machine: how far they are from it is how far to trust the others.
const CONTROL: &str = "the same, on another server";
const DEAD: &str = "a sink that refuses connections";
const SLOW: &str = "a sink that never answers";
const WELL: &str = "a sink that takes everything at once";
const SUBJECTS: [&str; 5] = [NONE, CONTROL, DEAD, SLOW, WELL];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["load", plan] => run_load(plan),
        [] => benchmark(5, 2_000),
        ["--quick"] => benchmark(2, 700),
        _ => Err("use: cargo bench -p checkrein-testbed --bench sinks -- [--quick]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// In a child: runs the load and hands back what it saw.
fn run_load(plan: &str) -> Result<(), Error> {
    println!("{}", serde_json::to_string(&load::run(&serde_json::from_str(plan)?)?)?);
    Ok(())
}

fn benchmark(rounds: usize, measure_ms: u64) -> Result<(), Error> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).ok_or("this program is not in a target folder")?;
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(target)?;
    let mut plans = start(folder.path())?;
    let mut run = Run::default();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for connections in CONNECTIONS {
            // Nobody is always the first after the disk has rested.
            plans.rotate_left(1);
            for (subject, running) in &plans {
                let plan = Plan { connections, warm_up_ms: 300, measure_ms, ..subject::blocked(running) };
                let before = running.server.cpu()?;
                let load = load::run_child(&plan)?;
                let cpu = running.server.cpu()? - before;
                run.samples.push(Sample { round, connections, subject, load, cpu });
            }
        }
    }
    println!(
        "\nMedians over the rounds; in brackets the median of the rounds' ratios to checks without sinks.\n"
    );
    for connections in CONNECTIONS {
        println!("{}", run.table(&SUBJECTS, NONE, connections));
    }
    Ok(())
}

fn start(folder: &Path) -> Result<Vec<(&'static str, Running)>, Error> {
    let binary = subject::checkrein_binary()?;
    // Bound and released: nobody listens there.
    let dead = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let slow = TcpListener::bind("127.0.0.1:0")?;
    let well = TcpListener::bind("127.0.0.1:0")?;
    let places = [(DEAD, dead), (SLOW, slow.local_addr()?), (WELL, well.local_addr()?)];
    thread::spawn(move || {
        // Kept, so that they stay open.
        let _held: Vec<_> = slow.incoming().flatten().collect();
    });
    thread::spawn(move || {
        for stream in well.incoming().flatten() {
            thread::spawn(move || take(stream));
        }
    });
    std::fs::write(folder.join("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
    let mut all = Vec::new();
    for (number, name) in SUBJECTS.into_iter().enumerate() {
        let mut config = String::from("[drift]\nmode = \"off\"\n");
        if let Some((_, place)) = places.iter().find(|(known, _)| *known == name) {
            std::fs::write(folder.join(format!("url-{number}")), format!("http://{place}/"))?;
            config += &format!(
                "[sinks.team]\nkind = \"webhook\"\nurl = {{ file = \"url-{number}\" }}\n\
                 secret = {{ file = \"secret\" }}\nallow_private = true\nfeed = \"both\"\nbatch = 1000\n"
            );
        }
        all.push((
            name,
            subject::start_checkrein_with(&binary, folder, &format!("sinks-{number}"), &config)?,
        ));
    }
    Ok(all)
}

/// Answers every request on a connection with 204.
fn take(stream: TcpStream) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
        writer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
    }
}
