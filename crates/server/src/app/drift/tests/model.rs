//! Whatever happens in whatever order, no breaker is closed while it should be open.

use super::*;
use checkrein_api::{Answer, ApprovalDecision};
use checkrein_core::time::Timestamp;
use std::{collections::HashMap, time::Duration};

const AGENTS: [&str; 3] = ["support-1", "support-2", "other"];
const SCOPES: [&str; 5] = ["agent:support-1", "agent:support-2", "agent:other", "group:support", "all"];
const PROBES: u32 = 2;
const COOL_DOWN: i64 = 60;
const TOML: &str = "
    [drift]
    cool_down = '60s'
    longest_cool_down = '4m'
    probes = 2
    open_at_blocks = 2
    [drift.groups.support]
    agents = ['support-*']
    [[policies]]
    name = 'never'
    rule = 'block'
    condition = { action = 'delete' }
    [[policies]]
    name = 'ask'
    rule = 'require_approval'
    condition = { action = 'refund' }
";

/// What must hold, told from what was seen and done.
#[derive(Default)]
struct Model {
    /// People hold these open.
    held: HashMap<&'static str, bool>,
    /// It tripped, and nothing may run before this time.
    not_before: HashMap<&'static str, Timestamp>,
    /// Since it tripped: probes let through, how many of them are known to have gone well, and when the first was.
    probes: HashMap<&'static str, (u32, u32, Timestamp)>,
}

impl Model {
    fn is_held(&self, agent: &str) -> bool {
        let held = |scope: &str| self.held.get(scope).copied().unwrap_or_default();
        held("all")
            || held(&format!("agent:{agent}"))
            || (agent.starts_with("support") && held("group:support"))
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

#[tokio::test]
async fn no_breaker_is_closed_while_it_should_be_open() {
    let mut seen = [0_u32; 5];
    for seed in 0..16 {
        run(seed, &mut seen).await;
    }
    // It would prove nothing if nothing had happened.
    assert!(seen.iter().all(|n| *n > 10), "allowed, refused, tripped, probed, approvals stopped: {seen:?}");
}

async fn run(seed: u64, seen: &mut [u32; 5]) {
    let (mut world, mut dice) = (World::new(TOML).await, Dice(seed * 7_919 + 1));
    let mut model = Model::default();
    let mut out: Vec<(&str, Value)> = Vec::new();
    let mut approved: Vec<(&str, String)> = Vec::new();
    for step in 0..150 {
        let agent = AGENTS[dice.below(3)];
        let at = format!("seed {seed}, step {step}, {agent}");
        match dice.below(26) {
            0..10 => {
                let answer = world.act(agent, ["update", "read", "insert"][dice.below(3)]).await;
                judge(&world, &mut model, agent, &answer, &at, seen).await;
                if answer["verdict"] == "allow" {
                    out.push((agent, answer));
                }
            }
            10..14 => {
                if let Some((agent, answer)) =
                    (!out.is_empty()).then(|| out.swap_remove(dice.below(out.len())))
                {
                    let (status, records) = match dice.below(6) {
                        0 => (OutcomeStatus::Error, 1),
                        1 => (OutcomeStatus::Ok, 5_000),
                        _ => (OutcomeStatus::Ok, 1),
                    };
                    let shut = is_open(&world, agent).await;
                    world.ended(&answer["id"], status, records).await;
                    look(&world, &mut model, agent).await;
                    if records == 5_000 && !shut {
                        seen[2] += 1;
                        let next = world.act(agent, "update").await;
                        assert_eq!(next["verdict"], "block", "{at}: far more than it had declared");
                        judge(&world, &mut model, agent, &next, &at, seen).await;
                    } else if let (OutcomeStatus::Ok, Some(probes)) = (status, model.probes.get_mut(agent)) {
                        probes.1 += u32::from(answer["breaker"] == "half_open");
                    }
                }
            }
            14 | 15 => {
                // One that is open already is not opened for longer: its probes may begin.
                let shut = is_open(&world, agent).await;
                for _ in 0..2 {
                    let answer = world.act(agent, "delete").await;
                    assert_eq!(answer["verdict"], "block", "{at}");
                    look(&world, &mut model, agent).await;
                }
                let next = world.act(agent, "update").await;
                assert!(shut || next["verdict"] == "block", "{at}: blocked twice: {next}");
                judge(&world, &mut model, agent, &next, &at, seen).await;
            }
            16 => {
                let scope = SCOPES[dice.below(5)];
                world.set(scope, BreakerWanted::Open).await;
                model.held.insert(scope, true);
            }
            17..20 => {
                let scope = SCOPES[dice.below(5)];
                world.set(scope, BreakerWanted::Closed).await;
                model.held.insert(scope, false);
                if let Some(agent) = AGENTS.iter().find(|agent| scope == format!("agent:{agent}")) {
                    model.not_before.remove(agent);
                    model.probes.remove(agent);
                }
            }
            20 | 21 => world.app.clock.jump([1, 20, 61, 130, 250, 100_000][dice.below(6)]),
            22 => {
                let crash = dice.below(2) == 0;
                world.restart(crash).await;
            }
            _ => {
                if let Some((agent, id)) = (dice.below(2) == 0).then(|| approved.pop()).flatten() {
                    let view = world.app.view_check(&world.admin, &id, Duration::ZERO).await.unwrap();
                    if model.is_held(agent) {
                        seen[4] += 1;
                        assert_ne!(
                            view.decision.verdict.as_str(),
                            "allow",
                            "{at}: approved, and stopped since"
                        );
                    }
                } else {
                    let answer = world.act(agent, "refund").await;
                    if let Some(approval) = answer["approval_id"].as_str() {
                        let yes = ApprovalDecision { decision: Answer::Approve, comment: None };
                        world.app.decide_approval(&world.admin, approval, yes).await.unwrap();
                        approved.push((agent, answer["id"].as_str().unwrap().to_owned()));
                    }
                }
            }
        }
    }
    world.app.close().await;
    let reader = checkrein_store::Reader::open(&world.dir.path().join("data")).unwrap();
    reader.verify(None, |_| {}).unwrap();
}

/// Compares an answer with the model.
async fn judge(
    world: &World,
    model: &mut Model,
    agent: &'static str,
    answer: &Value,
    at: &str,
    seen: &mut [u32; 5],
) {
    let now = world.app.clock.now();
    let ran = answer["verdict"] == "allow";
    seen[usize::from(!ran)] += 1;
    if model.is_held(agent) {
        assert!(!ran, "{at}: a person holds it open: {answer}");
        return;
    }
    if let Some(not_before) = model.not_before.get(agent) {
        assert!(!ran || now >= *not_before, "{at}: not before {not_before}, it is {now}: {answer}");
        if ran && answer["breaker"] == "half_open" {
            seen[3] += 1;
            let scope = world.app.breaker_scope(&format!("agent:{agent}")).unwrap();
            let since = world.app.breaker(&scope).await.unwrap().since.unwrap();
            let (probes, _, first) = model.probes.entry(agent).or_insert((0, 0, since));
            if since != *first {
                // Others may try when nothing was heard of the first ones for as long as it was open.
                assert!(since >= first.plus_seconds(COOL_DOWN), "{at}: again after too short a time");
                (*probes, *first) = (0, since);
            }
            *probes += 1;
            assert!(*probes <= PROBES, "{at}: {probes} probes");
        } else if ran {
            let (_, good, _) = model.probes.remove(agent).unwrap_or((0, 0, now));
            assert!(good >= PROBES, "{at}: closed after {good} good probes: {answer}");
            model.not_before.remove(agent);
        }
    }
}

/// Takes from the server until when it is open, whenever that was not known.
async fn look(world: &World, model: &mut Model, agent: &'static str) {
    let scope = world.app.breaker_scope(&format!("agent:{agent}")).unwrap();
    let view = world.app.breaker(&scope).await.unwrap();
    if let Some(until) = view.until
        && model.not_before.insert(agent, until) != Some(until)
    {
        model.probes.remove(agent);
    }
}

async fn is_open(world: &World, agent: &str) -> bool {
    let scope = world.app.breaker_scope(&format!("agent:{agent}")).unwrap();
    world.app.breaker(&scope).await.unwrap().state.as_str() == "open"
}
