//! The same again: answers that are asked for twice, and loops that outlive the person who closed the breaker.

use super::*;
use checkrein_api::AcceptRequest;

#[tokio::test]
async fn an_answer_given_again_does_not_outlive_the_breaker() {
    let world = World::new("").await;
    let ask = async |key: &str| {
        let check = json!({"agent": "one", "action": "update", "resource": key, "idempotency_key": key});
        world.ask(check).await
    };
    let (first, ended) = (ask("a").await, ask("b").await);
    assert_eq!((&first["verdict"], &ended["verdict"]), (&json!("allow"), &json!("allow")));
    assert_eq!(ask("a").await, first);
    world.ended(&ended["id"], OutcomeStatus::Ok, 1).await;

    for scope in ["agent:one", "all"] {
        world.set(scope, BreakerWanted::Open).await;
        let again = ask("a").await;
        assert_eq!((&again["verdict"], &again["id"]), (&json!("block"), &first["id"]), "{again}");
        let reason = again["reason"].as_str().unwrap();
        assert!(reason.contains("a test") && reason.contains("new idempotency key"), "{reason}");
        assert_eq!(ask("b").await, ended, "it is over, and only asked about");
        world.set(scope, BreakerWanted::Closed).await;
        assert_eq!(ask("a").await, first);
    }
    assert_eq!(world.app.list_checks(&world.admin, Default::default()).await.unwrap().checks.len(), 2);
}

#[tokio::test]
async fn a_loop_that_goes_on_after_the_breaker_was_closed_opens_it_again() {
    let world = World::new("").await;
    let repeat = async || {
        for n in 0..60 {
            let call = json!({"agent": "one", "action": "update", "resource": "tickets/1"});
            if world.ask(call).await["verdict"] == "block" {
                return Some(n);
            }
        }
        None
    };
    let first = repeat().await.expect("a loop");
    assert!((3..=10).contains(&first), "{first}");
    for _ in 0..3 {
        world.set("agent:one", BreakerWanted::Closed).await;
        let more = repeat().await.expect("a loop that goes on");
        assert!((3..=first + 3).contains(&more), "{first} at first, then {more}");
    }
    let accepted = AcceptRequest { reason: "it waits for the ticket".to_owned() };
    world.app.accept(&world.admin, "one", accepted).await.unwrap();
    world.set("agent:one", BreakerWanted::Closed).await;
    assert_eq!(repeat().await, None, "a person said that this is normal");
}
