//! Many agents: those that do not act take no memory, and come back from the disk as they were.
//!
//! `CHECKREIN_AGENTS=1000000 cargo test -p checkrein-server --lib many -- --nocapture` is the figure of
//! docs/drift.md.

use super::*;
use checkrein_core::{fingerprint::Fingerprint, name::Name};

/// Agents in memory, of which there may be twice as many for a moment.
const IN_MEMORY: u64 = 4_096;
/// Between two writes to the disk.
const BATCH: u64 = 2_048;

/// An agent acts, as far as drift goes: no log, no policies.
async fn look(world: &World, n: u64) {
    let check = json!({"agent": format!("agent-{n}"), "action": "update", "resource": format!("t/{n}")});
    let check: Check = serde_json::from_value(check).unwrap();
    let name = Name::new(&format!("agent-{n}")).unwrap();
    let rules = world.app.rules();
    let understood = rules.catalogue.understand(&check, name.clone()).unwrap();
    let acting = world.app.acting("key_1", &name).await.unwrap();
    let exact = Fingerprint::of(&check, &name, None);
    let now = world.app.clock.now();
    world.app.drift.look(&rules.drift, &acting, (&understood.action, &exact), &check, ("chk_1", now));
}

/// Memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

#[tokio::test]
async fn agents_that_do_not_act_are_on_the_disk_alone() {
    let agents: u64 = std::env::var("CHECKREIN_AGENTS").map_or(20_000, |n| n.parse().unwrap());
    let mut world = World::new(&format!("[drift]\nagents_in_memory = {IN_MEMORY}\n")).await;
    let started = std::time::Instant::now();
    let mut full = 0;
    for n in 0..agents {
        look(&world, n).await;
        if n % BATCH == BATCH - 1 {
            world.app.keep_all().await.unwrap();
            assert!(world.app.drift.agents.len() as u64 <= 2 * IN_MEMORY);
        }
        if n == 3 * IN_MEMORY {
            full = resident();
        }
    }
    world.app.keep_all().await.unwrap();
    let grown = resident().saturating_sub(full);
    assert_eq!(world.app.drift.baselines.count().unwrap(), agents);
    let file = std::fs::metadata(world.dir.path().join("data/drift.db")).unwrap().len();
    println!(
        "{agents} agents: {:.1} MiB in use with {} of them in memory, {:.1} bytes more for each further one; \
         {} bytes each on disk; {:.0} s",
        resident() as f64 / 1_048_576.0,
        world.app.drift.agents.len(),
        grown as f64 / (agents - 3 * IN_MEMORY) as f64,
        file / agents,
        started.elapsed().as_secs_f64()
    );
    // Other tests run beside a small one.
    assert!(agents < 200_000 || grown < agents * 64, "{grown} bytes more");

    // One of the first, long gone from memory, acts again: it is known, and goes on from there.
    let first = Name::new("agent-0").unwrap();
    assert!(world.app.drift.agents.get(&first).is_none(), "still in memory");
    let before = world.app.drift.baselines.agent(&first).unwrap().unwrap().baseline.unwrap();
    assert_eq!(world.act("agent-0", "update").await["verdict"], "allow");
    {
        let agent = world.app.agent(&first).await.unwrap();
        let known = agent.known();
        let baseline = known.baseline.as_ref().unwrap();
        assert_ne!(baseline.save(), before, "it learns");
        let restored = checkrein_core::drift::Baseline::restore(&before).unwrap();
        assert_eq!(baseline.span().0, restored.span().0, "it was there before");
    }
    // A start reads none of them.
    world.restart(false).await;
    assert_eq!(world.app.drift.agents.len(), 0);
    assert_eq!(world.act("agent-1", "update").await["verdict"], "allow");
}
