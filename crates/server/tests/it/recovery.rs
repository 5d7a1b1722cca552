//! Settling after a crash, on a system that keeps no record of transactions: its records are compared.

use super::{common::Server, shop};
use checkrein_core::event::Event;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ID: &str = "chk_of_a_process_that_died";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

/// An execution that took place, and the same once more as a process leaves it that dies in the commit. Gives
/// its snapshot.
async fn died() -> (Server, String) {
    let server = shop::server("").await;
    let run = server.execute("UPDATE users SET plan = 'x'").await;
    let store = server.app.store();
    let row = store.check(text(&run["id"])).await.unwrap().unwrap();
    let mut checked = row.checked.clone();
    checked.decision.id = ID.to_owned();
    store.append(vec![Event::Check(Box::new(checked))], row.at).await.unwrap();
    (server, text(&run["snapshot_id"]).to_owned())
}

async fn until<T>(otherwise: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{otherwise}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn started(dir: tempfile::TempDir) -> Server {
    let toml = shop::config(dir.path(), "");
    Server::on(dir, &toml).await
}

async fn outcome(server: &Server) -> Value {
    until("never settled", async || Some(server.outcome(ID).await).filter(|o| !o.is_null())).await
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_for_a_while_is_read_again() {
    let (server, snapshot) = died().await;
    let dir = server.stop().await;
    // What cannot be read as a file, although it is there.
    let file = dir.path().join(format!("data/snapshots/{snapshot}.1.snapshot"));
    let aside = dir.path().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    let server = started(dir).await;
    until("nobody looked", async || {
        let metrics = server.get("/metrics").await.body;
        metrics.lines().any(|line| line == "checkrein_unsettled 1").then_some(())
    })
    .await;
    assert_eq!(server.outcome(ID).await, Value::Null, "nothing is claimed yet");
    let early = server.rollback(&snapshot, json!({})).await;
    assert_eq!(early.status, 503, "it may be readable again: {early:?}");
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    assert_eq!(outcome(&server).await["status"], "ok");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn a_snapshot_that_is_gone_says_nothing() {
    let (server, snapshot) = died().await;
    let dir = server.stop().await;
    std::fs::remove_file(dir.path().join(format!("data/snapshots/{snapshot}.1.snapshot"))).unwrap();
    shop::meddle(dir.path(), "UPDATE users SET plan = 'else'");
    let server = started(dir).await;
    assert_eq!(outcome(&server).await["status"], "unknown");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn records_that_look_as_before_do_not_cost_the_snapshot() {
    let (server, snapshot) = died().await;
    let dir = server.stop().await;
    // Committed, and then somebody has put all of it back: nobody can tell that from never committed.
    shop::meddle(dir.path(), "UPDATE users SET plan = iif(id <= 40, 'trial', 'paid')");
    let server = started(dir).await;
    let outcome = outcome(&server).await;
    assert_eq!(outcome["status"], "error", "{outcome}");
    assert!(text(&outcome["error"]).contains("snapshot is kept"), "{outcome}");
    let shown = server.get(&format!("/v1/snapshots/{snapshot}")).await.json();
    assert_eq!(shown["state"], "live", "{shown}");
    assert_eq!(server.rollback(&snapshot, json!({})).await.json()["status"], "nothing");
    server.stop_and_verify().await;
}
