//! Killed while people answer and agents use what they were answered: nothing that was said is lost, and what was
//! approved runs once.

use crate::{
    database::Kind,
    shop::{Answer, Shop, text},
};
use serde_json::{Value, json};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Kills of each test.
const ROUNDS: u32 = 12;

fn policy(condition: &Value, approvals: u8) -> Value {
    json!({"name": "ask", "rule": "require_approval", "approvals": approvals, "condition": condition})
}

fn status(answer: &Answer) -> Option<u16> {
    answer.as_ref().map(|(status, _)| *status)
}

struct People {
    shop: Shop,
    keys: [String; 2],
}

impl People {
    fn new() -> Self {
        let shop = Shop::open(Kind::Sqlite);
        let (status, made) = shop.post("/v1/policies", &policy(&json!({"action": "update"}), 2)).unwrap();
        assert_eq!(status, 201, "{made}");
        let keys = ["ann", "bob"].map(|name| {
            let key = shop.post("/v1/keys", &json!({"role": "operator", "name": name})).unwrap().1;
            text(&key["key"]).to_owned()
        });
        Self { shop, keys }
    }

    /// The statement, sent anew: it runs only if a hold of it has been approved.
    fn increment() -> Value {
        json!({"target": "shop", "statement": "UPDATE t SET n = n + 1", "agent": "billing-bot"})
    }

    fn ask(&self) -> String {
        let held = self.shop.post("/v1/executions", &Self::increment()).unwrap().1;
        assert_eq!(held["verdict"], "hold", "{held}");
        text(&held["approval_id"]).to_owned()
    }

    fn approval(&self, id: &str) -> Value {
        self.shop.get(&format!("/v1/approvals/{id}"))
    }

    fn decide(&self, who: usize, id: &str) -> Answer {
        let path = format!("/v1/approvals/{id}/decision");
        self.shop.asking_as(&self.keys[who], &path, json!({"decision": "approve"})).join().unwrap()
    }

    /// Both say yes; who did before says nothing new.
    fn approve(&self, id: &str) {
        for who in 0..2 {
            assert!(matches!(status(&self.decide(who, id)), Some(200 | 409)));
        }
        assert_eq!(self.approval(id)["state"], "approved");
    }

    fn restart(&mut self) {
        self.shop.kill();
        self.shop.start();
    }
}

#[test]
fn two_people_answered_and_the_action_ran_once() {
    let mut people = People::new();
    let began = Instant::now();
    let id = people.ask();
    people.approve(&id);
    let answering = began.elapsed() / 3;
    let began = Instant::now();
    let ran = people.shop.post("/v1/executions", &People::increment()).unwrap().1;
    assert_eq!(ran["executed"], true, "{ran}");
    let running = began.elapsed();
    let (mut kept, mut ran_before) = (0, 0);
    for round in 1..=ROUNDS {
        let before = people.shop.database.n();
        assert_eq!(before, u64::from(round), "one more for each approval");
        let id = people.ask();
        assert_eq!(status(&people.decide(0, &id)), Some(200));
        // Killed while the second person answers.
        let path = format!("/v1/approvals/{id}/decision");
        let asking = people.shop.asking_as(&people.keys[1], &path, json!({"decision": "approve"}));
        thread::sleep(answering * 2 * round / ROUNDS);
        people.restart();
        let answer = asking.join().unwrap();
        let stands = people.approval(&id);
        assert_eq!(stands["given"][0]["by"]["name"], "ann", "an answer that was acknowledged: {stands}");
        if status(&answer) == Some(200) {
            assert_eq!(stands["state"], "approved", "{stands}");
        }
        kept += u32::from(stands["state"] == "approved");
        assert!(stands.get("used_by").is_none(), "{stands}");
        people.approve(&id);
        // Killed while the agent uses it.
        let asking = people.shop.asking("/v1/executions", People::increment());
        thread::sleep(running * 2 * round / ROUNDS);
        people.restart();
        let answer = asking.join().unwrap();
        let now = people.shop.database.n();
        assert!(now == before || now == before + 1, "{before} {now}");
        if let Some((200, answer)) = answer {
            assert_eq!((&answer["executed"], now), (&json!(true), before + 1), "{answer}");
        }
        ran_before += u32::from(now > before);
        // Asked again it runs if it did not; what is used up asks people anew.
        let again = people.shop.post("/v1/executions", &People::increment()).unwrap().1;
        if now > before {
            assert_eq!(again["verdict"], "hold", "it ran already: {again}");
            assert_eq!(people.shop.database.n(), now, "twice");
            let new = text(&again["approval_id"]);
            assert_ne!(new, id, "{again}");
            let path = format!("/v1/approvals/{new}/decision");
            assert_eq!(status(&people.shop.post(&path, &json!({"decision": "deny"}))), Some(200));
        } else if again["verdict"] == "hold" {
            people.approve(text(&again["approval_id"]));
            let ran = people.shop.post("/v1/executions", &People::increment()).unwrap().1;
            assert_eq!(ran["executed"], true, "{ran}");
        } else {
            assert_eq!(again["executed"], true, "{again}");
        }
        people.shop.consistent();
    }
    println!("{kept} of {ROUNDS} answers, {ran_before} executions were recorded before the kill");
}

#[test]
fn a_grant_is_not_used_more_often_than_it_says() {
    let mut people = People::new();
    let shop = &people.shop;
    let changed = policy(&json!({"action": "refund"}), 1);
    assert_eq!(shop.put("/v1/policies", &json!({"policies": [changed]})).unwrap().0, 200);
    let most = 40;
    let grant = json!({"agent": "shop-bot", "action": "refund", "resource": "shop.orders", "max_records": 1000,
        "max_uses": most, "accept_declared": true, "for": "1h", "reason": "faulty batch"});
    let (status, grant) = shop.post("/v1/grants", &grant).unwrap();
    assert_eq!(status, 201, "{grant}");
    let path = format!("/v1/grants/{}", text(&grant["id"]));
    let (mut sent, mut allowed) = (0_u64, 0_u64);
    for round in 1..=ROUNDS {
        let refund = |n: u32| {
            json!({"agent": "shop-bot", "action": "refund", "resource": "shop.orders",
                "payload": {"record_count": 1, "order": round * 100 + n}})
        };
        let asking: Vec<_> = (0..8).map(|n| people.shop.asking("/v1/checks", refund(n))).collect();
        thread::sleep(Duration::from_millis(u64::from(round)));
        people.restart();
        for answer in asking {
            sent += 1;
            if let Some((200, answer)) = answer.join().unwrap() {
                allowed += u64::from(answer["verdict"] == "allow");
            }
        }
        let stands = people.shop.get(&path);
        let uses = stands["uses"].as_u64().unwrap();
        assert!(uses >= allowed, "{allowed} were let through: {stands}");
        assert!(uses <= sent.min(most) && stands["records_used"] == uses, "{stands}");
    }
    // What is left of it is used, and not more.
    for n in 0..=most {
        let refund = json!({"agent": "shop-bot", "action": "refund", "resource": "shop.orders",
            "payload": {"record_count": 1, "order": 100_000 + n}});
        people.shop.post("/v1/checks", &refund).unwrap();
    }
    let stands = people.shop.get(&path);
    assert_eq!((&stands["uses"], &stands["state"]), (&json!(most), &json!("used_up")), "{stands}");
    let log = people.shop.get("/v1/checks?limit=500&verdict=allow");
    assert_eq!(log["checks"].as_array().unwrap().len() as u64, most, "each use is one check");
    people.shop.consistent();
}
