//! How fast snapshots are written, read and taken of files, against the plain tools.
//!
//! ```text
//! cargo bench -p checkrein-targets --bench snapshot -- [rounds] [MiB] [files]
//! ```
//! Interleaved rounds, medians of ratios: the snapshot file against a copy with `sync` and against
//! `zstd -1` of the same bytes in one thread, and 10,000 files against `cp -a` with `sync`.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use checkrein_core::rollback::OnConflict;
use checkrein_targets::{
    Limits, Place, Selection, Target, TargetConfig, Undo, UndoOptions,
    snapshot::{Header, Side, Snapshot, SnapshotKey, SnapshotWriter},
};
use serde_json::json;
use std::{
    error::Error,
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
    sync::Arc,
    time::Instant,
};

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let number = |n: usize, default: usize| args.get(n).map_or(Ok(default), |a| a.parse::<usize>());
    let (rounds, mebibytes, files) = (number(0, 5)?, number(1, 256)?, number(2, 10_000)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        stream(rounds, mebibytes).await?;
        tree(rounds, files).await
    })
}

fn header(kind: &str) -> Header {
    Header { id: "snp_1".into(), target: "t".into(), kind: kind.into(), system: json!({}) }
}

/// A megabyte of rows as a database writes them.
fn rows(seed: usize) -> Vec<u8> {
    let mut text = String::with_capacity(1 << 20);
    let mut n = seed;
    while text.len() < (1 << 20) - 100 {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let _infallible = writeln!(
            text,
            "{}\tcustomer-{:x}@example.com\t{}.{:02}\t2026-11-{:02}\tactive",
            n >> 40,
            n >> 24,
            (n >> 20) % 10_000,
            n % 100,
            1 + n % 28
        );
    }
    text.into_bytes()
}

struct Times(Vec<(&'static str, Vec<f64>)>);

impl Times {
    fn add(&mut self, what: &'static str, since: Instant) {
        let seconds = since.elapsed().as_secs_f64();
        match self.0.iter_mut().find(|(name, _)| *name == what) {
            Some((_, times)) => times.push(seconds),
            None => self.0.push((what, vec![seconds])),
        }
    }

    /// How many times as long as `base`: the median over the rounds.
    fn print(&self, base: &str) {
        let of = self.0.iter().find(|(name, _)| *name == base).map(|(_, times)| times);
        for (what, times) in &self.0 {
            let mut ratios: Vec<f64> =
                of.into_iter().flatten().zip(times).map(|(base, time)| time / base).collect();
            ratios.sort_by(f64::total_cmp);
            println!("  {what:<36} {:>6.2}", ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN));
        }
    }
}

async fn stream(rounds: usize, mebibytes: usize) -> Fallible<()> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let blocks: Vec<Vec<u8>> = (0..16).map(rows).collect();
    let all = || (0..mebibytes).filter_map(|n| blocks.get(n % blocks.len()));
    let mut times = Times(Vec::new());
    let mut sizes = (0, 0);
    for round in 0..rounds {
        let at = |name: &str| dir.path().join(format!("{name}-{round}"));
        let since = Instant::now();
        let mut plain = File::create(at("plain"))?;
        all().try_for_each(|block| plain.write_all(block))?;
        plain.sync_all()?;
        times.add("plain write, synced", since);
        let since = Instant::now();
        let mut packed = zstd::Encoder::new(File::create(at("zstd"))?, 1)?;
        all().try_for_each(|block| packed.write_all(block))?;
        let packed = packed.finish()?;
        packed.sync_all()?;
        sizes.0 = packed.metadata()?.len();
        times.add("zstd -1, one thread, synced", since);
        for (write, read, key) in [
            ("snapshot written", "snapshot opened and read", None),
            ("encrypted snapshot written", "encrypted, opened and read", Some(SnapshotKey::new([7; 32]))),
        ] {
            let path = at(write);
            let since = Instant::now();
            let mut out = SnapshotWriter::create(&path, &header("t"), key.as_ref(), (u64::MAX, u64::MAX))?;
            let table = out.table("t", json!({})).await?;
            for block in all() {
                out.rows(table, Side::Before, 10_000, block).await?;
            }
            sizes.1 = out.finish(&path).await?.bytes;
            times.add(write, since);
            let since = Instant::now();
            let mut found = Snapshot::open(&[path], key).await?.blocks();
            while found.next().await?.is_some() {}
            times.add(read, since);
        }
        for entry in fs::read_dir(dir.path())? {
            fs::remove_file(entry?.path())?;
        }
    }
    println!("{mebibytes} MiB of rows, {rounds} rounds; times as long as zstd -1:");
    times.print("zstd -1, one thread, synced");
    println!("  size: {:.2} of that of zstd -1; {}", sizes.1 as f64 / sizes.0 as f64, peak()?);
    Ok(())
}

/// The most memory that this process ever had.
fn peak() -> Fallible<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    Ok(status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown").to_owned())
}

async fn tree(rounds: usize, files: usize) -> Fallible<()> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let root = dir.path().join("root");
    let mut content = rows(1);
    for n in 0..files {
        let folder = root.join((n % 100).to_string());
        fs::create_dir_all(&folder)?;
        // From 1 to 16 KiB, each another.
        content.rotate_left(97);
        fs::write(folder.join(n.to_string()), content.get(..1024 * (1 + n % 16)).unwrap_or_default())?;
    }
    let config =
        TargetConfig { name: "t".into(), place: Place::Files(root.clone()), limits: Limits::default() };
    let target = checkrein_targets::open(config)?;
    let mut times = Times(Vec::new());
    for round in 0..rounds {
        round_of(&target, &root, dir.path(), round, &mut times).await?;
    }
    println!("{files} files, {rounds} rounds; times as long as cp -a with sync:");
    times.print("cp -a and sync -f");
    println!("  {}", peak()?);
    Ok(())
}

async fn round_of(
    target: &Arc<dyn Target>,
    root: &Path,
    dir: &Path,
    round: usize,
    times: &mut Times,
) -> Fallible<()> {
    let at = |name: &str| dir.join(format!("{name}-{round}"));
    let run = |program: &str, args: &[&Path], flag: &str| -> Fallible<()> {
        let status = Command::new(program).arg(flag).args(args).status()?;
        if status.success() { Ok(()) } else { Err(format!("{program}: {status}").into()) }
    };
    let writer = |name: &str| SnapshotWriter::create(&at(name), &header("files"), None, (u64::MAX, u64::MAX));
    let since = Instant::now();
    run("cp", &[root, &at("copy")], "-a")?;
    run("sync", &[dir], "-f")?;
    times.add("cp -a and sync -f", since);
    fs::remove_dir_all(at("copy"))?;
    let all = Selection::Where { resource: String::new(), filter: serde_json::Map::new(), delete: true };
    let since = Instant::now();
    let mut out = writer("before")?;
    target.capture(&all, &mut out).await?;
    out.finish(&at("before")).await?;
    times.add("captured", since);
    for folder in fs::read_dir(root)? {
        fs::remove_dir_all(folder?.path())?;
    }
    let since = Instant::now();
    let snapshot = Snapshot::open(&[at("before")], None).await?;
    let mut out = writer("after")?;
    target.seal(&snapshot, &mut out).await?;
    out.finish(&at("after")).await?;
    times.add("sealed, all gone", since);
    let since = Instant::now();
    let snapshot = Snapshot::open(&[at("before"), at("after")], None).await?;
    let options = UndoOptions { on_conflict: OnConflict::Refuse, ..UndoOptions::default() };
    let mut out = writer("undo")?;
    let Undo::Ready(_, pending) = target.rollback(&snapshot, &options, &mut out).await? else {
        return Err("nothing to roll back".into());
    };
    out.finish(&at("undo")).await?;
    pending.commit().await?;
    times.add("all of it rolled back and verified", since);
    Ok(())
}
