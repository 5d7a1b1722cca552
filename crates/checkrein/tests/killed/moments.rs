//! Killed at moments all along an execution and a rollback.

use crate::{
    database::{Kind, ROWS},
    shop::{Shop, rollback},
};
use serde_json::json;
use std::time::{Duration, Instant};

/// When to kill: now somewhere along the work, now as close to its commit as is known, on a machine that is
/// sometimes faster and sometimes slower.
struct Moments {
    rounds: u32,
    round: u32,
    /// From the request to the commit, as far as is known.
    commit: Duration,
}

impl Moments {
    /// `whole` is what the work took. Fewer where the network knows the moment of the commit exactly.
    fn new(kind: Kind, whole: Duration) -> Self {
        Self { rounds: if kind == Kind::Sqlite { 24 } else { 12 }, round: 0, commit: whole }
    }

    fn next(&mut self) -> Option<Duration> {
        self.round += 1;
        let along = self.commit * self.round / self.rounds;
        (self.round <= self.rounds).then_some(if self.round.is_multiple_of(2) { self.commit } else { along })
    }

    /// Whether the work killed last took place.
    fn took_place(&mut self, took_place: bool) {
        if self.round.is_multiple_of(2) {
            self.commit = if took_place { self.commit * 9 / 10 } else { self.commit * 4 / 3 };
        }
    }
}

fn executions(kind: Kind) {
    let mut shop = Shop::open(kind);
    // Each is the first of its process, which has to connect.
    let began = Instant::now();
    let (status, run) = shop.post("/v1/executions", &shop.update(1)).unwrap();
    assert_eq!((status, &run["executed"]), (200, &json!(true)), "{run}");
    let whole = began.elapsed();
    shop.kill();
    shop.start();
    let (mut committed, mut answered, mut undone) = (0, 0, 0);
    let (mut n, mut moments) = (1, Moments::new(kind, whole));
    while let Some(after) = moments.next() {
        n += 1;
        let before = shop.database.n();
        let answer = shop.post_and_kill("/v1/executions", shop.update(n), after);
        shop.start();
        let checks = shop.settled();
        let now = shop.database.n();
        let last = checks.last().unwrap();
        let mine = last["check"]["params"] == json!([n]);
        let ok = mine && last["outcome"]["status"] == "ok";
        moments.took_place(ok);
        assert_eq!(now, if ok { n } else { before }, "killed after {after:?}: {last}");
        if ok {
            committed += 1;
            assert_eq!(last["outcome"]["records"], ROWS);
            assert!(shop.has_file(&last["snapshot_id"]), "no snapshot of {last}");
        } else if mine {
            undone += 1;
            assert_eq!(last["outcome"]["status"], "error", "{last}");
        }
        if let Some((200, answer)) = answer {
            answered += 1;
            assert!(ok && answer["executed"] == true, "answered and not there: {answer}");
        }
        // The same request again tells what happened, and never runs twice.
        let (status, again) = shop.post("/v1/executions", &shop.update(n)).unwrap();
        if mine && !ok {
            assert_eq!(status, 422, "{again}");
        } else {
            assert_eq!((status, &again["executed"]), (200, &json!(true)), "{again}");
        }
        if mine {
            assert_eq!(shop.database.n(), now, "ran twice: {again}");
        }
        shop.consistent();
        shop.kill();
        shop.start();
    }
    println!("{kind:?}: {committed} committed, {undone} on record and not committed, {answered} answered");
    assert!(committed > 0, "every kill came too early to mean anything");
}

fn rollbacks(kind: Kind) {
    let mut shop = Shop::open(kind);
    let run = shop.post("/v1/executions", &shop.update(1)).unwrap().1;
    let began = Instant::now();
    let (status, done) = shop.post(&rollback(&run["snapshot_id"]), &json!({})).unwrap();
    assert_eq!((status, &done["status"]), (200, &json!("done")), "{done}");
    let whole = began.elapsed();
    let mut count = [0, 0];
    let (mut n, mut moments) = (1, Moments::new(kind, whole));
    while let Some(after) = moments.next() {
        n += 1;
        let before = shop.database.n();
        let run = shop.post("/v1/executions", &shop.update(n)).unwrap().1;
        assert_eq!(run["executed"], true, "{run}");
        let id = &run["snapshot_id"];
        shop.post_and_kill(&rollback(id), json!({}), after);
        shop.start();
        let standing = shop.rolled_back(id);
        let now = shop.database.n();
        assert_eq!(now, if standing == "done" { before } else { n }, "killed after {after:?}: {standing}");
        count[usize::from(standing == "done")] += 1;
        moments.took_place(standing == "done");
        shop.consistent();
        // What did not take place can be done now, and what did is nothing to do.
        let (status, again) = shop.post(&rollback(id), &json!({})).unwrap();
        let expected = if standing == "done" { "nothing" } else { "done" };
        assert_eq!((status, &again["status"]), (200, &json!(expected)), "{again}");
        assert_eq!(shop.database.n(), before);
    }
    println!("{kind:?}: {} not done, {} done", count[0], count[1]);
    assert!(count[0] > 0 && count[1] > 0, "the kills came all too early or all too late: {count:?}");
}

#[test]
fn an_execution_took_place_or_did_not_and_the_log_says_which() {
    executions(Kind::Sqlite);
}

#[test]
fn an_execution_on_postgresql_took_place_or_did_not() {
    executions(Kind::Postgres);
}

#[test]
fn an_execution_on_mariadb_took_place_or_did_not() {
    executions(Kind::Mariadb);
}

#[test]
fn a_rollback_took_place_or_did_not_and_the_log_says_which() {
    rollbacks(Kind::Sqlite);
}

#[test]
fn a_rollback_on_postgresql_took_place_or_did_not() {
    rollbacks(Kind::Postgres);
}

#[test]
fn a_rollback_on_mariadb_took_place_or_did_not() {
    rollbacks(Kind::Mariadb);
}
