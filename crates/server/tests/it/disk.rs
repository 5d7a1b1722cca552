//! A disk that is really full: nothing risky runs, nothing that was acknowledged is lost, and all goes on once
//! there is room again.

use super::{common::Server, shop};
use checkrein_testbed::disk::Disk;
use serde_json::{Value, json};
use std::path::Path;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

/// A shop on the usual disk, with `folder` of it on a small one.
async fn on_a_small_disk(folder: &str, size: &str) -> (Disk, Server) {
    let dir = tempfile::tempdir().unwrap();
    shop::make(dir.path());
    let disk = Disk::on(&dir.path().join(folder), size).unwrap();
    let toml = shop::config(dir.path(), "");
    (disk, Server::on(dir, &toml).await)
}

fn files(dir: &Path) -> Vec<String> {
    let mut files = shop::snapshot_files(dir);
    files.retain(|name| name != "full");
    files
}

#[tokio::test]
async fn without_room_for_snapshots_nothing_runs_and_nothing_is_rolled_back() {
    let (disk, server) = on_a_small_disk("data/snapshots", "4m").await;
    let dir = server.dir.path().to_owned();
    let ran = server.execute("UPDATE users SET plan = 'x'").await;
    let open = server.post("/v1/snapshots", json!({"resource": "shop.users", "record_ids": [1]})).await;
    let open = text(&open.json()["id"]).to_owned();
    let (before, kept) = (shop::dump(&dir), files(&dir));

    let full = disk.fill().unwrap();
    let run = server.execute("UPDATE users SET plan = 'y'").await;
    assert_eq!((&run["verdict"], &run["executed"]), (&json!("block"), &json!(false)), "{run}");
    assert!(text(&run["reason"]).contains("No space left on device"), "{run}");
    let check = json!({"action": "update", "resource": "shop.users", "record_ids": [1, 2]});
    let decision = server.check(check.clone()).await;
    assert_eq!(decision["verdict"], "block", "{decision}");
    for (path, body) in [
        ("/v1/snapshots".to_owned(), json!({"resource": "shop.users", "record_ids": [1, 2]})),
        (format!("/v1/snapshots/{open}/seal"), json!({})),
        (format!("/v1/snapshots/{}/rollback", text(&ran["snapshot_id"])), json!({})),
    ] {
        let reply = server.post(&path, body).await;
        assert_eq!((reply.status, reply.problem().as_str()), (503, "snapshot-failed"), "{path}: {reply:?}");
        assert!(reply.json()["detail"].as_str().unwrap().contains("No space left on device"), "{reply:?}");
    }
    assert_eq!((shop::dump(&dir), files(&dir)), (before.clone(), kept), "nothing has changed");

    drop(full);
    assert_eq!(server.check(check).await["verdict"], "allow");
    assert_eq!(server.post(&format!("/v1/snapshots/{open}/seal"), json!({})).await.status, 200);
    let run = server.execute("UPDATE users SET plan = 'y'").await;
    assert_eq!(run["executed"], true, "{run}");
    let done = server.rollback(text(&run["snapshot_id"]), json!({})).await.json();
    assert_eq!((&done["status"], shop::dump(&dir)), (&json!("done"), before), "{done}");
    // On the small disk, the folder must outlive it.
    let dir = server.stop_and_verify().await;
    drop(disk);
    drop(dir);
}

#[tokio::test]
async fn without_room_for_the_log_nothing_runs_and_nothing_acknowledged_is_lost() {
    let (disk, server) = on_a_small_disk("data", "48m").await;
    let dir = server.dir.path().to_owned();
    let before = shop::dump(&dir);
    let note = |i: u32| json!({"action": "update", "resource": "elsewhere", "payload": {"n": i, "pad": "x".repeat(9_000)}});
    let mut acknowledged = vec![text(&server.check(note(0)).await["id"]).to_owned()];
    let full = disk.fill().unwrap();
    // What was set aside for the log is used up first.
    let mut refused = None;
    for i in 1..5_000 {
        let reply = server.post("/v1/checks", note(i)).await;
        if reply.status != 200 {
            refused = Some(reply);
            break;
        }
        acknowledged.push(text(&reply.json()["id"]).to_owned());
    }
    let refused = refused.expect("a full disk holds no more");
    assert_eq!((refused.status, refused.problem().as_str()), (503, "not-recorded"), "{refused:?}");
    let detail = refused.json()["detail"].clone();
    assert!(text(&detail).contains("nothing may run"), "{detail}");
    let run = server.try_execute(json!({"statement": "UPDATE users SET plan = 'x'"})).await;
    assert!(run.status == 503 || run.json()["executed"] == false, "{run:?}");
    assert_eq!(shop::dump(&dir), before, "it did not run");

    drop(full);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let run = loop {
        let run = server.try_execute(json!({"statement": "UPDATE users SET plan = 'x'"})).await;
        if run.status == 200 && run.json()["executed"] == true {
            break run.json();
        }
        assert!(std::time::Instant::now() < deadline, "never again: {run:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let done = server.rollback(text(&run["snapshot_id"]), json!({})).await.json();
    assert_eq!((&done["status"], shop::dump(&dir)), (&json!("done"), before), "{done}");
    for id in &acknowledged {
        assert_eq!(server.get(&format!("/v1/checks/{id}")).await.status, 200, "{id} was acknowledged");
    }
    println!("{} were acknowledged", acknowledged.len());
    let dir = server.stop_and_verify().await;
    drop(disk);
    drop(dir);
}
