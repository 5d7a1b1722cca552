//! The throw-away servers come, go, and leave nothing behind, even when the process that started them is
//! killed.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use checkrein_testbed::servers::postgres::Postgres;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Asks the server something.
fn ask(server: &Postgres, url: &str, sql: &str) -> Result<String, String> {
    let psql = server.programs().join("psql");
    let output = Command::new(psql).args(["-XAtqc", sql, url]).output().unwrap();
    let said = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(said(output.stdout)) } else { Err(said(output.stderr)) }
}

#[test]
fn survives_a_crash_and_is_gone_after_the_test() {
    let server = Postgres::start(&[]).unwrap();
    let url = server.database().unwrap();
    assert_ne!(url, server.database().unwrap(), "each test has a database of its own");
    ask(&server, &url, "create table t as select 7 as n").unwrap();
    server.kill().unwrap();
    assert!(ask(&server, &url, "select n from t").is_err(), "it is dead");
    server.restart().unwrap();
    assert_eq!(ask(&server, &url, "select n from t").unwrap(), "7");
    let folder = ask(&server, &url, "show data_directory").unwrap();
    let pid =
        ask(&server, &url, "select (regexp_match(pg_read_file('postmaster.pid'), '^[0-9]+'))[1]").unwrap();
    drop(server);
    assert!(!Path::new(&folder).exists(), "{folder} is left behind");
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left behind");
}

/// Run by the test below in a process of its own, which it then kills.
#[test]
fn child_that_starts_a_server() {
    if std::env::var_os("CHECKREIN_TEST_START_AND_WAIT").is_none() {
        return;
    }
    let server = Postgres::shared();
    let url = server.database().unwrap();
    eprintln!("folder {}", ask(server, &url, "show data_directory").unwrap());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_test_process_leaves_nothing() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_that_starts_a_server", "--exact", "--nocapture"])
        .env("CHECKREIN_TEST_START_AND_WAIT", "1")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let folder = lines.find_map(|line| line.strip_prefix("folder ").map(str::to_owned));
    let folder = folder.expect("the child says where its server is");
    let root = Path::new(&folder).parent().unwrap().to_owned();
    assert!(root.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let began = Instant::now();
    while root.exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "{} is left behind", root.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}
