//! What was learnt stays, and can be learnt anew.

use super::*;
use checkrein_api::{AcceptRequest, RebuildRequest};
use checkrein_core::{drift::breaker::Cause, fingerprint::hex, name::Name};
use sha2::{Digest as _, Sha256};

/// A digest of what an agent normally does.
async fn saved(world: &World, agent: &str) -> String {
    let agent = world.app.agent(&Name::new(agent).unwrap()).await.unwrap();
    let known = agent.known();
    hex(&Sha256::digest(known.baseline.as_ref().unwrap().save()))
}

/// Ordinary days of two agents, with outcomes.
async fn live(world: &mut World) {
    for n in 0..120_u32 {
        let agent = ["one", "two"][usize::from(n.is_multiple_of(3))];
        let action = ["read", "update", "insert", "search"][n as usize % 4];
        let answer = world.act(agent, action).await;
        let status = if n.is_multiple_of(10) { OutcomeStatus::Error } else { OutcomeStatus::Ok };
        world.ended(&answer["id"], status, 1).await;
        world.app.clock.jump(700);
    }
}

#[tokio::test]
async fn a_restart_forgets_nothing_and_the_log_teaches_the_same() {
    let mut world = World::new("").await;
    live(&mut world).await;
    world.set("agent:one", BreakerWanted::Open).await;
    for _ in 0..5 {
        assert_eq!(world.act("one", "update").await["verdict"], "block");
    }
    let before = [saved(&world, "one").await, saved(&world, "two").await];
    world.restart(false).await;
    assert_eq!([saved(&world, "one").await, saved(&world, "two").await], before);

    // Lost: begun anew, then learnt from the log, to the last bit.
    world.app.close().await;
    for file in ["drift.db", "drift.db-wal", "drift.db-shm"] {
        let _not_there = std::fs::remove_file(world.dir.path().join("data").join(file));
    }
    world.restart(true).await;
    assert_eq!(world.act("one", "update").await["verdict"], "block", "the log has the trip");
    world.act("two", "update").await;
    let report = world.app.rebuild(&world.admin, RebuildRequest::default()).await.unwrap();
    assert_eq!((report.agents, report.actions), (2, 127));
    let rebuilt = saved(&world, "one").await;
    let one = RebuildRequest { agent: Some("one".to_owned()) };
    world.app.rebuild(&world.admin, one).await.unwrap();
    assert_eq!(saved(&world, "one").await, rebuilt);
    world.restart(false).await;
    assert_eq!(saved(&world, "one").await, rebuilt);
}

#[tokio::test]
async fn the_log_teaches_what_the_checks_taught() {
    let mut world = World::new("").await;
    live(&mut world).await;
    let learnt = [saved(&world, "one").await, saved(&world, "two").await];
    world.app.rebuild(&world.admin, RebuildRequest::default()).await.unwrap();
    assert_eq!([saved(&world, "one").await, saved(&world, "two").await], learnt);
}

#[tokio::test]
async fn what_is_damaged_stops_the_agent_until_a_person_looks() {
    let mut world = World::new("").await;
    live(&mut world).await;
    world.app.close().await;
    let file = world.dir.path().join("data/drift.db");
    let db = rusqlite::Connection::open(&file).unwrap();
    let change = |agent: &str, at: usize| {
        let sql = "SELECT baseline FROM agents WHERE agent = ?1";
        let mut baseline: Vec<u8> = db.query_row(sql, [agent], |r| r.get(0)).unwrap();
        baseline[at] ^= 0x55;
        let sql = "UPDATE agents SET baseline = ?2 WHERE agent = ?1";
        assert_eq!(db.execute(sql, rusqlite::params![agent, baseline]).unwrap(), 1);
    };
    change("one", 1_000);
    // As another version would have written it: begun anew, and no reason to stop anybody.
    change("two", 0);
    drop(db);
    world.restart(true).await;
    let answer = world.act("one", "read").await;
    assert_eq!((&answer["verdict"], &answer["breaker"]), (&json!("block"), &json!("open")), "{answer}");
    assert!(answer["reason"].as_str().unwrap().contains("could not be read"), "{answer}");
    assert_eq!(world.act("two", "read").await["verdict"], "allow");
    world.restart(true).await;
    assert_eq!(world.act("one", "read").await["verdict"], "block", "it is on record");
    world.set("agent:one", BreakerWanted::Closed).await;
    assert_eq!(world.act("one", "read").await["verdict"], "allow");

    // No file of ours at all: nothing starts, and nothing is overwritten.
    world.app.close().await;
    drop(world.app);
    for more in ["-wal", "-shm"] {
        let _merged = std::fs::remove_file(format!("{}{more}", file.display()));
    }
    std::fs::write(&file, "not a database, but something that somebody may want to keep").unwrap();
    let error = Store::open(Options::new(world.dir.path().join("data"))).unwrap().baselines().err().unwrap();
    assert!(error.to_string().contains("drift rebuild"), "{error}");
}

#[tokio::test]
async fn accepted_is_normal() {
    let mut world = World::new("").await;
    live(&mut world).await;
    world.set("agent:one", BreakerWanted::Open).await;
    for _ in 0..30 {
        world.act("one", "transfer").await;
        world.app.clock.jump(60);
    }
    let frozen = saved(&world, "one").await;
    let accept = |reason: &str| AcceptRequest { reason: reason.to_owned() };
    assert!(world.app.accept(&world.admin, "one", accept("")).await.is_err());
    assert!(world.app.accept(&world.admin, "nobody", accept("x")).await.is_err());
    world.app.accept(&world.admin, "one", accept("a new job")).await.unwrap();
    let learnt = saved(&world, "one").await;
    assert_ne!(learnt, frozen, "what it did while it was stopped is learnt");
    assert_eq!(world.act("one", "transfer").await["verdict"], "block", "and it is still stopped");
    world.restart(false).await;
    assert_ne!(saved(&world, "one").await, frozen);
}

#[tokio::test]
async fn idle_agents_are_on_the_disk() {
    let mut world = World::new("[drift]\nagents_in_memory = 256\n").await;
    for n in 0..1_000 {
        world.act(&format!("agent-{n}"), "read").await;
        if n % 50 == 0 {
            world.app.keep_all().await.unwrap();
        }
    }
    assert!(world.app.drift.agents.len() <= 512, "{}", world.app.drift.agents.len());
    let first = saved(&world, "agent-0").await;
    world.app.keep_all().await.unwrap();
    let page = world.app.list_agents(None, None, Some(500)).await.unwrap();
    assert_eq!((page.agents.len(), page.next_cursor.is_some()), (500, true));
    world.restart(false).await;
    assert_eq!(saved(&world, "agent-0").await, first);
    let report = world.app.rebuild(&world.admin, RebuildRequest::default()).await.unwrap();
    assert_eq!((report.agents, report.actions), (1_000, 1_000), "in several passes");
}

#[tokio::test]
async fn a_trip_that_never_reached_the_log_outlives_a_restart() {
    let mut world = World::new("").await;
    assert_eq!(world.act("one", "update").await["verdict"], "allow");
    // So that the log says something of it.
    world.set("agent:one", BreakerWanted::Open).await;
    world.set("agent:one", BreakerWanted::Closed).await;
    {
        let agent = world.app.agent(&Name::new("one").unwrap()).await.unwrap();
        let (now, mut known) = (world.app.clock.now(), agent.change());
        let rules = world.app.rules().drift.settings.breaker.clone();
        assert!(known.rest.breaker.trip(now, Cause::Blocks, &rules).is_some());
        known.rest.revision += 1;
    }
    world.restart(false).await;
    assert_eq!(world.act("one", "update").await["verdict"], "block");
}
