//! Killed while a COMMIT is on its way: before the database has heard of it, and after it has done it.

use crate::{
    database::Kind,
    shop::{Shop, rollback},
};
use checkrein_testbed::servers::proxy::Stuck;
use serde_json::{Value, json};

/// What becomes of the COMMIT that the killed process has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The network loses it, and the database hears that nobody is there any more.
    Lost,
    /// It arrives late, after the next start.
    Late,
    /// The database had done it before the kill.
    Done,
}

const FATES: [Fate; 3] = [Fate::Lost, Fate::Late, Fate::Done];

impl Fate {
    const fn stuck(self) -> Stuck {
        match self {
            Self::Lost | Self::Late => Stuck::Before,
            Self::Done => Stuck::After,
        }
    }
}

/// Asks, kills the process when its COMMIT is stuck, starts it again, and lets the COMMIT go its way.
/// `open` is looked at while nobody can know yet.
fn killed_in_commit(shop: &mut Shop, path: &str, body: Value, fate: Fate, open: impl Fn(&Shop)) {
    shop.database.proxy().catch(fate.stuck());
    let asking = shop.asking(path, body);
    assert!(shop.database.proxy().is_stuck(), "no COMMIT was sent");
    shop.kill();
    assert!(asking.join().unwrap().is_none(), "answered before the commit was");
    shop.start();
    if fate.stuck() == Stuck::Before {
        // The database has not noticed that its client is gone: the transaction is open.
        shop.in_doubt();
        open(shop);
    }
    match fate {
        Fate::Late => shop.database.proxy().deliver().unwrap(),
        Fate::Lost | Fate::Done => shop.database.proxy().cut(),
    }
}

fn executions(kind: Kind) {
    let mut shop = Shop::open(kind);
    for (n, fate) in (1..).zip(FATES) {
        let before = shop.database.n();
        let body = shop.update(n);
        killed_in_commit(&mut shop, "/v1/executions", body, fate, |shop| {
            let last = shop.checks().pop().unwrap();
            assert_eq!(last.get("outcome"), None, "{fate:?}: settled too early");
            assert!(shop.has_file(&last["snapshot_id"]), "{fate:?}: needed to undo it");
            assert_eq!(shop.database.n(), before);
            let (status, again) = shop.post("/v1/executions", &shop.update(n)).unwrap();
            assert_eq!(status, 503, "{fate:?}: {again}");
        });
        let last = shop.settled().pop().unwrap();
        assert_eq!(last["check"]["params"], json!([n]), "{fate:?}");
        let (status, now) = if fate == Fate::Lost { ("error", before) } else { ("ok", n) };
        assert_eq!(
            (&last["outcome"]["status"], shop.database.n()),
            (&json!(status), now),
            "{fate:?}: {last}"
        );
        // The same request again tells it, and does not run again.
        let (code, again) = shop.post("/v1/executions", &shop.update(n)).unwrap();
        assert_eq!((code, shop.database.n()), (if status == "ok" { 200 } else { 422 }, now), "{again}");
        shop.consistent();
        if status == "ok" {
            let (_, done) = shop.post(&rollback(&last["snapshot_id"]), &json!({})).unwrap();
            assert_eq!((&done["status"], shop.database.n()), (&json!("done"), before), "{fate:?}: {done}");
        }
    }
}

fn rollbacks(kind: Kind) {
    let mut shop = Shop::open(kind);
    for (n, fate) in (1..).zip(FATES) {
        let before = shop.database.n();
        let run = shop.post("/v1/executions", &shop.update(n)).unwrap().1;
        let id = &run["snapshot_id"];
        killed_in_commit(&mut shop, &rollback(id), json!({}), fate, |shop| {
            assert_eq!((shop.rollback_of(id), shop.database.n()), (json!("running"), n), "{fate:?}");
            let (status, again) = shop.post(&rollback(id), &json!({})).unwrap();
            assert_eq!(status, 409, "{fate:?}: {again}");
        });
        let (standing, now) = if fate == Fate::Lost { ("not_done", n) } else { ("done", before) };
        assert_eq!((shop.rolled_back(id), shop.database.n()), (json!(standing), now), "{fate:?}");
        shop.consistent();
        let (_, again) = shop.post(&rollback(id), &json!({})).unwrap();
        let expected = if standing == "done" { "nothing" } else { "done" };
        assert_eq!((&again["status"], shop.database.n()), (&json!(expected), before), "{fate:?}: {again}");
    }
}

#[test]
fn an_execution_in_its_commit_on_postgresql() {
    executions(Kind::Postgres);
}

#[test]
fn an_execution_in_its_commit_on_mariadb() {
    executions(Kind::Mariadb);
}

#[test]
fn a_rollback_in_its_commit_on_postgresql() {
    rollbacks(Kind::Postgres);
}

#[test]
fn a_rollback_in_its_commit_on_mariadb() {
    rollbacks(Kind::Mariadb);
}
