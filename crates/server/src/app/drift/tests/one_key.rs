//! A key that stands for several agents: what comes with it is judged as one, whatever name it comes under.

use super::*;
use checkrein_api::{AcceptRequest, Answer, ApprovalDecision, NewKey, RebuildRequest};
use checkrein_core::{decision::Verdict, fingerprint::hex, key::Role, name::Name};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

const ALL: &str = "worker-*";

/// A key for all workers.
async fn key(world: &World) -> Arc<Caller> {
    world.app.caller(&secret(world).await).unwrap()
}

async fn secret(world: &World) -> String {
    let new = NewKey { role: Role::Agent, name: "workers".to_owned(), agent: Some(ALL.to_owned()) };
    world.app.create_key(&world.admin, new).await.unwrap().key
}

async fn act(world: &mut World, key: &Arc<Caller>, agent: &str, action: &str) -> Value {
    world.checks += 1;
    let resource = format!("t/{}", world.checks);
    let check =
        json!({"agent": agent, "action": action, "resource": resource, "payload": {"record_count": 1}});
    let answer = world.app.check(key, serde_json::from_value(check).unwrap()).await.unwrap();
    serde_json::from_str(&answer.json).unwrap()
}

/// Working days of sessions, each under a name of its own: about eight actions an hour, five a session.
async fn live(world: &mut World, key: &Arc<Caller>, days: u32) {
    let mut session = world.checks;
    for day in 0..days {
        for hour in 0..24 {
            let works = day % 7 < 5 && (8..18).contains(&hour);
            let count = if works { 6 + (hour + day * 3) % 5 } else { 0 };
            for n in 0..count {
                if n.is_multiple_of(5) {
                    session += 1;
                }
                let action = ["read", "update", "reply", "search"][(n % 4) as usize];
                let answer = act(world, key, &format!("worker-{session}"), action).await;
                assert_eq!(answer["verdict"], "allow", "day {day}, {hour}:00: {answer}");
                world.app.clock.jump(i64::from(3_600 / (count + 1)));
            }
            world.app.clock.jump(if count == 0 { 3_600 } else { i64::from(3_600 / (count + 1)) });
        }
    }
}

async fn saved(world: &World, agent: &str) -> String {
    let agent = world.app.agent(&Name::new(agent).unwrap()).await.unwrap();
    let known = agent.known();
    hex(&Sha256::digest(known.baseline.as_ref().unwrap().save()))
}

#[tokio::test]
async fn a_new_name_for_each_action_evades_nothing() {
    let mut world = World::new("[drift]\nprobes = 2\n").await;
    let secret = secret(&world).await;
    let key = world.app.caller(&secret).unwrap();
    live(&mut world, &key, 15).await;
    world.app.clock.jump(10 * 3_600);
    let usual = act(&mut world, &key, "worker-usual", "update").await;
    assert_eq!((&usual["verdict"], usual.get("drift")), (&json!("allow"), None), "{usual}");

    // 400 an hour, and no two by the same agent.
    let mut stopped = None;
    for n in 1..40_u64 {
        let answer = act(&mut world, &key, &format!("worker-new-{n}"), "update").await;
        if answer["breaker"] == "open" {
            stopped = Some((n, answer));
            break;
        }
        world.app.clock.jump(9);
    }
    let (ran, stopped) = stopped.expect("it goes on under ever new names");
    assert!((5..=25).contains(&ran), "{ran}");
    assert_eq!(
        (&stopped["verdict"], &stopped["drift"]["agents"]),
        (&json!("block"), &json!(ALL)),
        "{stopped}"
    );
    let reason = stopped["reason"].as_str().unwrap();
    for part in ["the breaker of worker-* is open", "all agents of the key", "close --agent 'worker-*'"] {
        assert!(reason.contains(part), "{reason}");
    }
    let view = world.app.view_agent(ALL, 24).await.unwrap();
    assert!(!view.incidents.is_empty(), "it is told as something of all of them");
    // Whoever comes with such a key; nobody else, and it stays so.
    assert_eq!(act(&mut world, &key, "worker-usual", "update").await["verdict"], "block");
    assert_eq!(world.act("worker-usual", "update").await["verdict"], "allow", "an operator's own word");
    world.restart(true).await;
    let key = world.app.caller(&secret).unwrap();
    assert_eq!(act(&mut world, &key, "worker-other", "update").await["verdict"], "block");

    // Probes, under whatever name, close it again.
    world.app.clock.jump(301);
    let first = act(&mut world, &key, "worker-a", "update").await;
    let second = act(&mut world, &key, "worker-b", "update").await;
    for probe in [&first, &second] {
        assert_eq!((&probe["verdict"], &probe["breaker"]), (&json!("allow"), &json!("half_open")), "{probe}");
    }
    assert_eq!(act(&mut world, &key, "worker-c", "update").await["verdict"], "block", "two are out");
    world.ended(&first["id"], OutcomeStatus::Ok, 1).await;
    world.ended(&second["id"], OutcomeStatus::Ok, 1).await;
    let after = act(&mut world, &key, "worker-c", "update").await;
    assert_eq!((&after["verdict"], after.get("breaker")), (&json!("allow"), None), "{after}");

    // Shown as one agent.
    let view = world.app.view_agent(ALL, 24).await.unwrap();
    assert!(view.hours.iter().map(|hour| hour.rate.seen).sum::<u64>() > ran, "{:?}", view.hours);
    assert!(view.recent.iter().any(|check| check.agent == "worker-c"));
}

/// Whoever stops `worker*` in a hurry must not think that somebody is stopped.
#[tokio::test]
async fn the_breaker_of_a_pattern_that_no_key_has_is_not_opened() {
    let mut world = World::new("").await;
    let key = key(&world).await;
    act(&mut world, &key, "worker-1", "update").await;
    world.act("odd*one", "update").await;
    let request = |state| BreakerRequest { state, reason: "stop".to_owned() };
    for pattern in ["worker*", "*", "worker-1*", "worker-**"] {
        let scope = world.app.breaker_scope(&format!("agent:{pattern}")).unwrap();
        let refused = world.app.set_breaker(&world.admin, &scope, request(BreakerWanted::Open)).await;
        let why = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(why.contains("would stop nobody; those of keys are `worker-*`"), "{pattern}: {why}");
        world.app.set_breaker(&world.admin, &scope, request(BreakerWanted::Closed)).await.unwrap();
    }
    for name in ["Worker-*", "worker-9", "odd*one"] {
        world.set(&format!("agent:{name}"), BreakerWanted::Open).await;
    }
    assert_eq!(act(&mut world, &key, "worker-1", "update").await["verdict"], "block");
    assert_eq!(world.act("odd*one", "update").await["verdict"], "block");
}

#[tokio::test]
async fn no_probe_passes_beside_the_agents_own_breaker() {
    let mut world = World::new("[drift]\nprobes = 1\ncool_down = '60s'\n").await;
    let key = key(&world).await;
    for scope in ["agent:worker-*", "agent:worker-1"] {
        assert_eq!(act(&mut world, &key, "worker-1", "read").await["verdict"], "allow");
        world.set(scope, BreakerWanted::Open).await;
        let answer = act(&mut world, &key, "worker-1", "read").await;
        assert_eq!((&answer["verdict"], &answer["breaker"]), (&json!("block"), &json!("open")), "{scope}");
        let colleague = act(&mut world, &key, "worker-2", "read").await["verdict"].clone();
        assert_eq!(colleague, if scope == "agent:worker-1" { "allow" } else { "block" }, "{scope}");
        world.set(scope, BreakerWanted::Closed).await;
    }
    // Both are open; one has cooled down.
    trip(&world, ALL).await;
    world.set("agent:worker-1", BreakerWanted::Open).await;
    world.app.clock.jump(61);
    for _ in 0..3 {
        assert_eq!(act(&mut world, &key, "worker-1", "read").await["verdict"], "block");
    }
    let probe = act(&mut world, &key, "worker-2", "read").await;
    assert_eq!((&probe["verdict"], &probe["breaker"]), (&json!("allow"), &json!("half_open")), "{probe}");
    // What was allowed before is not to be had again while it stands so, but the probe itself is.
    world.ended(&probe["id"], OutcomeStatus::Error, 1).await;
    assert_eq!(act(&mut world, &key, "worker-2", "read").await["verdict"], "block", "the probe went wrong");
}

/// As drift would.
async fn trip(world: &World, agent: &str) {
    let agent = world.app.agent(&Name::new(agent).unwrap()).await.unwrap();
    let (now, mut known) = (world.app.clock.now(), agent.change());
    let rules = world.app.rules().drift.settings.breaker.clone();
    let cause = checkrein_core::drift::breaker::Cause::Errors;
    assert!(known.rest.breaker.trip(now, cause, &rules).is_some());
    known.rest.revision += 1;
}

async fn ask(world: &World, key: &Arc<Caller>, check: Value) -> Value {
    let answer = world.app.check(key, serde_json::from_value(check).unwrap()).await.unwrap();
    serde_json::from_str(&answer.json).unwrap()
}

/// An answer given again and a person's yes do not outlive the breaker of all of them.
#[tokio::test]
async fn what_was_allowed_before_is_not_while_the_breaker_of_all_is_open() {
    let policy = "[[policies]]\nname = 'ask'\nrule = 'require_approval'\ncondition = { action = 'delete' }\n";
    let world = World::new(policy).await;
    let key = key(&world).await;
    let once = json!({"agent": "worker-1", "action": "update", "resource": "t", "idempotency_key": "a"});
    let first = ask(&world, &key, once.clone()).await;
    assert_eq!(first["verdict"], "allow", "{first}");
    let held = ask(&world, &key, json!({"agent": "worker-2", "action": "delete", "resource": "t"})).await;
    let yes = ApprovalDecision { decision: Answer::Approve, comment: None };
    let approval = held["approval_id"].as_str().unwrap();
    world.app.decide_approval(&world.admin, approval, yes).await.unwrap();

    world.set("agent:worker-*", BreakerWanted::Open).await;
    let again = ask(&world, &key, once.clone()).await;
    assert_eq!((&again["verdict"], &again["id"]), (&json!("block"), &first["id"]), "{again}");
    let used = world.app.view_check(&key, held["id"].as_str().unwrap(), Duration::ZERO).await.unwrap();
    assert_eq!(used.decision.verdict, Verdict::Block, "{used:?}");
    assert!(
        used.decision.reason.contains("It no longer holds: Blocked: the breaker of worker-*"),
        "{used:?}"
    );

    world.set("agent:worker-*", BreakerWanted::Closed).await;
    assert_eq!(ask(&world, &key, once).await, first);
    let used = world.app.view_check(&key, held["id"].as_str().unwrap(), Duration::ZERO).await.unwrap();
    assert_eq!(used.decision.verdict, Verdict::Allow, "{used:?}");
}

/// What did not run shows nothing, and nor does a read that runs whatever stands open.
#[tokio::test]
async fn only_probes_that_ran_close_the_breaker_of_all() {
    let toml = "[drift]\nprobes = 2\ncool_down = '60s'\nexempt_reads = true\n\
        [[policies]]\nname = 'ask'\nrule = 'require_approval'\ncondition = { action = 'delete' }\n";
    let mut world = World::new(toml).await;
    let key = key(&world).await;
    act(&mut world, &key, "worker-1", "read").await;
    trip(&world, ALL).await;
    world.app.clock.jump(61);
    let held = act(&mut world, &key, "worker-1", "delete").await;
    assert_eq!((&held["verdict"], &held["breaker"]), (&json!("hold"), &json!("half_open")), "{held}");
    world.ended(&held["id"], OutcomeStatus::Ok, 1).await;
    for n in 0..3 {
        let read = act(&mut world, &key, &format!("worker-{n}"), "read").await;
        assert_eq!((&read["verdict"], &read["breaker"]), (&json!("allow"), &json!("half_open")), "{read}");
        world.ended(&read["id"], OutcomeStatus::Ok, 1).await;
    }
    let probe = act(&mut world, &key, "worker-2", "update").await;
    world.ended(&probe["id"], OutcomeStatus::Ok, 1).await;
    let other = act(&mut world, &key, "worker-3", "update").await;
    assert_eq!(other["verdict"], "block", "one of two that were let out has shown nothing: {other}");
}

/// That many do the same may be what they are for: in the first week it is only told.
#[tokio::test]
async fn a_loop_among_many_opens_nothing_in_the_first_week() {
    let world = World::new("").await;
    let key = key(&world).await;
    let mut told = false;
    for n in 0..30 {
        let same = json!({"agent": format!("worker-{n}"), "action": "update", "resource": "tickets/1"});
        let answer = ask(&world, &key, same).await;
        assert_eq!(answer["verdict"], "allow", "{n}: {answer}");
        told |= answer["drift"]["agents"] == ALL;
    }
    assert!(told, "whatever their names, it is one loop");
}

#[tokio::test]
async fn some_of_many_always_fail_or_are_blocked() {
    let policy = "[[policies]]\nname = 'never'\nrule = 'block'\ncondition = { action = 'delete' }\n";
    let mut world = World::new(policy).await;
    let key = key(&world).await;
    for n in 0..40 {
        let answer = act(&mut world, &key, &format!("worker-{n}"), "update").await;
        assert_eq!(answer["verdict"], "allow", "{n}: {answer}");
        world.ended(&answer["id"], OutcomeStatus::Error, 1).await;
        assert_eq!(act(&mut world, &key, &format!("worker-{n}"), "delete").await["verdict"], "block");
        world.app.clock.jump(7);
    }
    assert_eq!(act(&mut world, &key, "worker-x", "update").await["verdict"], "allow");
}

#[tokio::test]
async fn it_is_learnt_from_the_log_too() {
    let mut world = World::new("").await;
    let key = key(&world).await;
    live(&mut world, &key, 3).await;
    // One of them also comes by another way.
    world.act("worker-1", "read").await;
    let answer = act(&mut world, &key, "worker-1", "read").await;
    world.ended(&answer["id"], OutcomeStatus::Error, 1).await;
    let learnt = [saved(&world, ALL).await, saved(&world, "worker-1").await];
    world.app.rebuild(&world.admin, RebuildRequest::default()).await.unwrap();
    assert_eq!([saved(&world, ALL).await, saved(&world, "worker-1").await], learnt);
    let all = RebuildRequest { agent: Some(ALL.to_owned()) };
    world.app.rebuild(&world.admin, all).await.unwrap();
    assert_eq!([saved(&world, ALL).await, saved(&world, "worker-1").await], learnt);

    world.set("agent:worker-*", BreakerWanted::Open).await;
    assert_eq!(act(&mut world, &key, "worker-1", "transfer").await["verdict"], "block");
    let frozen = saved(&world, ALL).await;
    let accepted = AcceptRequest { reason: "a new job".to_owned() };
    world.app.accept(&world.admin, ALL, accepted).await.unwrap();
    assert_ne!(saved(&world, ALL).await, frozen, "what came meanwhile is learnt");
}

/// What others' breakers do to what is learnt, live and from the log; with a key that is exchanged meanwhile.
#[tokio::test]
async fn the_log_teaches_the_same_whatever_was_open_and_whichever_key_it_was() {
    let toml = "[drift]\nprobes = 2\ncool_down = '60s'\nexempt_reads = true\n[drift.groups.g]\nagents = ['worker-2']\n";
    let mut world = World::new(toml).await;
    let first = key(&world).await;
    live(&mut world, &first, 3).await;
    for scope in ["agent:worker-1", "agent:worker-*", "group:g", "all"] {
        let running = act(&mut world, &first, "worker-2", "update").await;
        world.set(scope, BreakerWanted::Open).await;
        for agent in ["worker-1", "worker-2"] {
            // Reads are let through, and teach nobody.
            let read = act(&mut world, &first, agent, "read").await;
            assert_eq!(read["verdict"], "allow", "{scope}: {read}");
            world.ended(&read["id"], OutcomeStatus::Error, 1).await;
            act(&mut world, &first, agent, "update").await;
            world.app.clock.jump(7);
        }
        world.ended(&running["id"], OutcomeStatus::Error, 1).await;
        world.set(scope, BreakerWanted::Closed).await;
    }
    // A breaker of one of them is half-open for a while.
    repeat(&world, &first, "worker-1").await;
    world.app.clock.jump(61);
    for _ in 0..2 {
        let probe = act(&mut world, &first, "worker-1", "update").await;
        assert_eq!((&probe["verdict"], &probe["breaker"]), (&json!("allow"), &json!("half_open")), "{probe}");
        world.ended(&probe["id"], OutcomeStatus::Ok, 1).await;
    }
    let again = key(&world).await;
    world.app.revoke_key(&world.admin, first.key_id()).await.unwrap();
    act(&mut world, &again, "worker-1", "update").await;
    world.restart(false).await;

    let names = [ALL, "worker-1", "worker-2"];
    let mut learnt = Vec::new();
    for name in names {
        learnt.push(saved(&world, name).await);
    }
    world.app.rebuild(&world.admin, RebuildRequest::default()).await.unwrap();
    for (name, learnt) in names.iter().zip(&learnt) {
        assert_eq!(saved(&world, name).await, *learnt, "{name}");
    }
}

/// The same call until it is blocked.
async fn repeat(world: &World, key: &Arc<Caller>, agent: &str) {
    for _ in 0..40 {
        let call = json!({"agent": agent, "action": "update", "resource": "tickets/1"});
        let answer = ask(world, key, call).await;
        if answer["verdict"] == "block" {
            return;
        }
    }
    panic!("the loop was never noticed");
}
