//! How fast checks go on record, and what that costs in CPU.
//!
//! ```text
//! cargo bench -p checkrein-store --bench append -- [rounds] [time|random|none] [entries beforehand]
//! ```
//! Interleaved rounds: a raw write-and-sync loop into a preallocated file, then 1, 16 and 64 callers, so that
//! a disk that swings swings for all of them. Medians over the rounds. The second argument says what the
//! idempotency keys look like: growing with time (as UUID version 7), random, or none.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

#[path = "../tests/it/common.rs"]
#[expect(dead_code, reason = "shared with the tests; this uses a part of it")]
mod common;

use checkrein_core::event::{Checked, Event};
use checkrein_store::{Options, Store};
use std::{
    error::Error,
    fs,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

const ROUND: Duration = Duration::from_millis(1000);

#[derive(Clone, Copy, PartialEq)]
enum Keys {
    Time,
    Random,
    None,
}

struct Source {
    template: Checked,
    keys: Keys,
    next: AtomicU64,
}

impl Source {
    fn event(&self) -> Event {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let mut checked = self.template.clone();
        // As long as a UUID, and growing as one of version 7 does.
        checked.decision.id =
            format!("chk_019aa5c2-{:04x}-7{:03x}-9c41-{n:012x}", n >> 28, (n >> 16) & 0xfff);
        checked.check.idempotency_key = match self.keys {
            Keys::None => None,
            Keys::Time => Some(format!("019aa5c2-{:04x}-7{:03x}-8d02-{n:012x}", n >> 28, (n >> 16) & 0xfff)),
            Keys::Random => {
                let mixed =
                    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                Some(format!(
                    "{:08x}-{:04x}-4{:03x}-8d02-{n:012x}",
                    mixed >> 32,
                    mixed & 0xffff,
                    (mixed >> 16) & 0xfff
                ))
            }
        };
        Event::Check(Box::new(checked))
    }
}

struct Sample {
    rate: f64,
    batch: f64,
    cpu: f64,
    writer: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let rounds: usize = args.first().map_or(Ok(5), |a| a.parse())?;
    let keys = match args.get(1).map(String::as_str) {
        None | Some("time") => Keys::Time,
        Some("random") => Keys::Random,
        Some("none") => Keys::None,
        Some(other) => return Err(format!("`{other}` is not time, random or none").into()),
    };
    let before: u64 = args.get(2).map_or(Ok(0), |a| a.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(rounds, keys, before))
}

async fn run(rounds: usize, keys: Keys, before: u64) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let store = Store::open(Options::new(dir.path().join("data")))?;
    let source = Arc::new(Source {
        template: common::checked("chk_0", "billing-bot", None),
        keys,
        next: AtomicU64::new(0),
    });
    println!("one check is {} bytes; medians of {rounds} rounds", source.event().body()?.len());
    while store.head().seq < before {
        store.append((0..500).map(|_| source.event()).collect(), common::at(0)).await?;
    }
    let mut raw = Vec::new();
    let callers = [1, 16, 64];
    let mut samples: Vec<Vec<Sample>> = callers.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        raw.push(raw_syncs(dir.path())?);
        for (n, into) in callers.iter().zip(&mut samples) {
            into.push(round(&store, &source, *n).await?);
        }
    }
    let raw_rate = median(raw.iter().copied());
    println!("raw write + fdatasync, 4 KiB: {raw_rate:.0}/s");
    println!("callers  appends/s  batch  CPU µs/append  writer µs/append  rate/raw syncs");
    for (n, of) in callers.iter().zip(&samples) {
        let ratio = median(of.iter().zip(&raw).map(|(s, raw)| s.rate / raw));
        println!(
            "{n:>7}  {:>9.0}  {:>5.1}  {:>13.1}  {:>16.1}  {ratio:>14.2}",
            median(of.iter().map(|s| s.rate)),
            median(of.iter().map(|s| s.batch)),
            median(of.iter().map(|s| s.cpu)),
            median(of.iter().map(|s| s.writer)),
        );
    }
    let files = |name: &str| fs::metadata(dir.path().join("data").join(name)).map_or(0, |m| m.len() / 1024);
    println!(
        "{} entries; database {} KiB, write-ahead log {} KiB",
        store.head().seq,
        files("checkrein.db"),
        files("checkrein.db-wal")
    );
    store.close().await;
    Ok(())
}

async fn round(store: &Store, source: &Arc<Source>, callers: usize) -> Result<Sample, Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (start, cpu, writer) = (Instant::now(), cpu(None)?, cpu(Some("checkrein-write"))?);
    let first = store.head().seq;
    let (mut commits, counted) = (store.subscribe(), Arc::new(AtomicU64::new(0)));
    let counter = tokio::spawn({
        let counted = Arc::clone(&counted);
        async move {
            // One change a commit. Seldom two are seen as one, on a busy machine.
            let mut seen = 0_u64;
            while commits.changed().await.is_ok() {
                seen += 1;
                counted.store(seen, Ordering::Relaxed);
            }
        }
    });
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (store, source, stop) = (store.clone(), Arc::clone(source), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    store.append(vec![source.event()], common::at(0)).await?;
                }
                Ok::<_, checkrein_store::AppendError>(())
            })
        })
        .collect();
    tokio::time::sleep(ROUND).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    let count = (store.head().seq - first) as f64;
    counter.abort();
    let commits = counted.load(Ordering::Relaxed) as f64;
    Ok(Sample {
        rate: count / start.elapsed().as_secs_f64(),
        batch: count / commits,
        cpu: (self::cpu(None)? - cpu) / 1000.0 / count,
        writer: (self::cpu(Some("checkrein-write"))? - writer) / 1000.0 / count,
    })
}

/// Nanoseconds of CPU that this process's threads used, or those of one name.
fn cpu(name: Option<&str>) -> Result<f64, Box<dyn Error>> {
    let mut sum = 0.0;
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if name.is_none_or(|name| fs::read_to_string(task.join("comm")).is_ok_and(|c| c.trim() == name)) {
            let stat = fs::read_to_string(task.join("schedstat"))?;
            sum += stat.split(' ').next().unwrap_or_default().parse::<f64>()?;
        }
    }
    Ok(sum)
}

fn raw_syncs(dir: &Path) -> Result<f64, Box<dyn Error>> {
    let file = fs::File::options().write(true).create(true).truncate(false).open(dir.join("raw"))?;
    if file.metadata()?.len() == 0 {
        file.write_all_at(&vec![0; 16 * 1024 * 1024], 0)?;
        file.sync_all()?;
    }
    let (start, block, mut n) = (Instant::now(), [7_u8; 4096], 0_u64);
    while start.elapsed() < ROUND / 2 {
        file.write_all_at(&block, (n % 4096) * 4096)?;
        file.sync_data()?;
        n += 1;
    }
    Ok(n as f64 / start.elapsed().as_secs_f64())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
