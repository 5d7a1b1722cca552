//! Checkrein is killed: at each step, and in the middle of a commit. The file is then old or new, never
//! between, and `resolve` says which.
//!
//! This test binary runs itself as the process that is killed.

use super::harness::{Fixture, Undone, limits, open, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{
    Settled, Target, Undo, UndoOptions,
    snapshot::{Header, Snapshot, SnapshotWriter},
};
use serde_json::json;
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

const FOLDER: &str = "CHECKREIN_TEST_CRASH_FOLDER";
const WHAT: &str = "CHECKREIN_TEST_CRASH_WHAT";
const UPDATE: &str = "UPDATE t SET a = a || '!' WHERE id % 2 = 0";

/// Says that a step has been reached, and waits to be killed or sent on.
fn step(name: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "\nstep {name}").unwrap();
    out.flush().unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

fn writer(path: &Path) -> SnapshotWriter {
    let header = Header { id: "snp".into(), target: "shop".into(), kind: "sqlite".into(), system: json!({}) };
    SnapshotWriter::create(path, &header, None, (10_000_000, 1 << 34)).unwrap()
}

/// The process that is killed; does nothing in an ordinary run.
#[tokio::test]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let target: Arc<dyn Target> = open(&folder.join("shop.db"), limits());
    let mut pending = if std::env::var(WHAT).unwrap() == "execute" {
        let mut pending = target.execute(&[statement(UPDATE)]).await.unwrap();
        step("executed");
        let mut out = writer(&folder.join("a"));
        pending.capture(&mut out).await.unwrap();
        step("captured");
        out.finish(&folder.join("a")).await.unwrap();
        pending
    } else {
        let snapshot = Snapshot::open(&[folder.join("a")], None).await.unwrap();
        let mut out = writer(&folder.join("b"));
        let Undo::Ready(_, pending) =
            target.rollback(&snapshot, &UndoOptions::default(), &mut out).await.unwrap()
        else {
            panic!("nothing to do")
        };
        step("restored");
        out.finish(&folder.join("b")).await.unwrap();
        pending
    };
    std::fs::write(folder.join("token"), pending.token()).unwrap();
    step("recorded");
    // Taken by itself so that the commit is all that remains.
    let _results = pending.results();
    let _measured = pending.measured();
    let _same = &mut pending;
    println!("\nstep committing");
    std::io::stdout().flush().unwrap();
    pending.commit().await.unwrap();
    step("committed");
}

/// How long a process may take from one step to the next.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that is to be killed, and what it says. Dropped: killed.
struct Victim(std::process::Child, std::sync::mpsc::Receiver<String>);

impl Drop for Victim {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.0.kill();
        self.0.wait().unwrap();
    }
}

impl Victim {
    fn start(folder: &Path, what: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::crash::child", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .env(WHAT, what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (say, heard) = std::sync::mpsc::channel();
        // Ends with the process.
        std::thread::spawn(move || out.lines().map_while(Result::ok).all(|line| say.send(line).is_ok()));
        Self(child, heard)
    }

    /// Runs up to a step.
    fn until(&mut self, name: &str) {
        loop {
            let line = self.1.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("waiting for {name}: {e}"));
            let Some(step) = line.trim().strip_prefix("step ") else { continue };
            if step == name {
                return;
            }
            if step != "committing" {
                self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            }
        }
    }
}

fn table(rows: usize) -> String {
    format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, pad BLOB);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO t SELECT i, 'text ' || i, zeroblob(50) FROM n;"
    )
}

/// Kills a child and looks: was it done, and does `resolve` say so?
async fn kill_at(mode: &str, what: &str, at: &str, rows: usize, wait: Duration) -> bool {
    let file = Fixture::new(mode, &table(rows));
    let old = file.dump();
    let folder = file.folder.path();
    if what == "rollback" {
        let mut victim = Victim::start(folder, "execute");
        victim.until("committed");
        drop(victim);
        assert_ne!(file.dump(), old);
        std::fs::remove_file(folder.join("token")).unwrap();
    }
    let before = file.dump();
    let mut victim = Victim::start(folder, what);
    victim.until(at);
    std::thread::sleep(wait);
    drop(victim);
    let now = file.dump();
    let done = now != before;
    let snapshot = folder.join(if what == "execute" { "a" } else { "b" });
    if done {
        let expected: i64 =
            file.other().query_row("SELECT count(*) FROM t WHERE a LIKE '%!'", [], |row| row.get(0)).unwrap();
        let all = if what == "execute" { rows / 2 } else { 0 };
        assert_eq!(usize::try_from(expected).unwrap(), all, "all of it or nothing");
    }
    let Ok(token) = std::fs::read_to_string(folder.join("token")) else {
        assert!(!done, "nothing is committed before its token is on record");
        return done;
    };
    let snapshot = Snapshot::open(&[snapshot], None).await.unwrap();
    let settled = file.target.resolve(&token, &snapshot).await.unwrap();
    assert_eq!(settled, if done { Settled::Committed } else { Settled::NotCommitted }, "{mode} {what} {at}");
    // What was committed can be undone, what was not can be done again.
    if done {
        file.undo(&snapshot).await;
        assert_eq!(file.dump(), before);
    } else {
        let (undone, _) = file.try_undo(&snapshot, OnConflict::Refuse).await.unwrap();
        assert_eq!(undone, Undone::Nothing);
    }
    done
}

#[tokio::test]
async fn killed_at_any_step_the_file_is_old_or_new() {
    for mode in ["wal", "delete"] {
        for (what, at, done) in [
            ("execute", "executed", false),
            ("execute", "captured", false),
            ("execute", "recorded", false),
            ("execute", "committed", true),
            ("rollback", "restored", false),
            ("rollback", "recorded", false),
            ("rollback", "committed", true),
        ] {
            assert_eq!(kill_at(mode, what, at, 200, Duration::ZERO).await, done, "{mode} {what} {at}");
        }
    }
}

#[tokio::test]
async fn killed_during_the_commit_the_file_is_old_or_new() {
    let soak = std::env::var("CHECKREIN_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(1_u32);
    for mode in ["wal", "delete"] {
        for what in ["execute", "rollback"] {
            // Waits longer and longer until the commit is through, then closes in on the moment.
            let mut wait = Duration::from_micros(300);
            while !kill_at(mode, what, "committing", 4_000, wait).await {
                wait *= 2;
                assert!(wait < Duration::from_secs(60), "it never commits");
            }
            let (mut not_yet, mut done) = (wait / 2, wait);
            for _ in 0..4 * soak {
                let middle = not_yet + (done - not_yet) / 2;
                match kill_at(mode, what, "committing", 4_000, middle).await {
                    true => done = middle,
                    false => not_yet = middle,
                }
            }
        }
    }
}
