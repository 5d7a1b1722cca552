//! SIGKILL at any moment: what was acknowledged is there.

use crate::common::*;
use checkrein_store::{Options, Reader, Store};
use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

#[test]
fn nothing_acknowledged_is_lost_to_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    let mut acknowledged: HashMap<u64, String> = HashMap::new();
    let (rounds, mut random) = (22, 0x2545_f491_4f6c_dd1d_u64);
    for round in 0..rounds {
        let mut child = Command::new(&exe)
            .args(["crash::appending_child", "--exact", "--nocapture"])
            .env("CHECKREIN_TEST_DIR", dir.path())
            .env("CHECKREIN_TEST_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let pause = Duration::from_micros(20_000 + (random >> 33) % 130_000);
        std::thread::scope(|s| {
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let read = s.spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
            std::thread::sleep(pause);
            child.kill().unwrap();
            child.wait().unwrap();
            for line in read.join().unwrap() {
                // `! seq id !`: the last line may be cut, and the test harness prints some of its own.
                let words: Vec<_> = line.split(' ').collect();
                if let ["!", seq, id, "!"] = words[..] {
                    assert_eq!(acknowledged.insert(seq.parse().unwrap(), id.to_owned()), None, "{seq} twice");
                }
            }
        });
        if dir.path().join("checkrein.db").exists()
            && let Ok(reader) = Reader::open(dir.path())
        {
            let last = acknowledged.keys().max().copied().unwrap_or(0);
            assert!(reader.verify(None, |_| {}).unwrap().head.seq >= last);
        }
    }
    assert!(acknowledged.len() > 100, "only {} entries were tested", acknowledged.len());
    let store = open(dir.path());
    drop(store);
    let reader = Reader::open(dir.path()).unwrap();
    reader.verify(None, |_| {}).unwrap();
    for (seq, id) in &acknowledged {
        assert_eq!(reader.entry(*seq).unwrap().unwrap().subject, *id);
    }
}

/// Not a test by itself: the process of the test above.
#[test]
fn appending_child() {
    let Some(dir) = std::env::var_os("CHECKREIN_TEST_DIR") else { return };
    let round = std::env::var("CHECKREIN_TEST_ROUND").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // A short write-ahead log, so that checkpoints happen under the knife, too.
        let options = Options { wal_bytes: 128 * 1024, ..Options::new(Path::new(&dir)) };
        let store = Store::open(options).unwrap();
        for task in 0..16 {
            let (store, round) = (store.clone(), round.clone());
            tokio::spawn(async move {
                for i in 0.. {
                    let id = format!("chk_{round}_{task}_{i}");
                    let stamps = store.append(vec![check_with_key(&id, &id)], at(0)).await.unwrap();
                    println!("\n! {} {id} !", stamps[0].seq);
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
    });
}
