//! Sinks that leave the configuration and come back under the same name.

use crate::{
    common::{Server, config},
    signals::{Receiver, delete, sink, within},
};
use serde_json::{Value, json};

const RULES: &str =
    "[[policies]]\nname = \"no_deletes\"\nrule = \"block\"\ncondition = { action = \"delete\" }\n";

/// The agents of the messages that arrived, and those of the records of the stream of all actions.
fn agents(team: &Receiver) -> (Vec<String>, Vec<String>) {
    let (mut told, mut fed) = (Vec::new(), Vec::new());
    for body in team.got() {
        let text = |agent: &Value| agent.as_str().map(str::to_owned);
        told.extend(text(&body["signals"][0]["agent"]));
        for record in body["records"].as_array().into_iter().flatten().filter(|r| r["kind"] == "check") {
            fed.extend(text(&record["body"]["agent"]));
        }
    }
    (told, fed)
}

async fn settled(server: &Server, standing: &str, count: usize) -> Vec<Value> {
    let mut page = Value::Null;
    for _ in 0..600 {
        page = server.get(&format!("/v1/signals?status={standing}")).await.json();
        let found = page["signals"].as_array().unwrap();
        if found.len() == count {
            return found.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("never {standing}: {page}; {}", server.get("/v1/signals").await.body)
}

/// A sink that took one message, still has one to take, and was then taken out of the configuration; with the
/// configuration that has it.
async fn taken_away() -> (Server, Receiver, String) {
    let (dir, team) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let with = format!("{RULES}{}feed = \"both\"\n", sink(dir.path(), "team", &team));
    let server = Server::on(dir, &with).await;
    server.check(delete("first")).await;
    within("both feeds", || async {
        (agents(&team) == (vec!["first".into()], vec!["first".into()])).then_some(())
    })
    .await;
    // What its receiver has taken is noted a moment later.
    settled(&server, "delivered", 1).await;
    team.answers(503);
    server.check(delete("waits")).await;
    settled(&server, "queued", 1).await;
    server.app.reload(&config(server.dir.path(), RULES)).await.unwrap();
    server.check(delete("meanwhile")).await;
    (server, team, with)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_back_soon_goes_on_where_it_stopped() {
    let (server, team, with) = taken_away().await;
    assert_eq!(server.get("/v1/sinks").await.json()["sinks"], json!([]));
    team.answers(200);
    // Over a restart without it, and one with it.
    let dir = server.stop().await;
    let server = Server::on(dir, RULES).await;
    assert_eq!(settled(&server, "queued", 1).await[0]["agent"], "waits");
    let dir = server.stop().await;
    let server = Server::on(dir, &with).await;
    server.check(delete("after")).await;
    // What happened while no sink was set up was routed nowhere; the stream has all of it.
    let told = ["first", "waits", "after"].map(str::to_owned).to_vec();
    let fed = ["first", "waits", "meanwhile", "after"].map(str::to_owned).to_vec();
    within("the rest", || async { (agents(&team) == (told.clone(), fed.clone())).then_some(()) }).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_back_late_begins_with_what_is_new() {
    let (server, team, with) = taken_away().await;
    let dir = server.stop().await;
    team.answers(200);
    // Four days pass.
    let db = rusqlite::Connection::open(dir.path().join("data/checkrein.db")).unwrap();
    let left: String =
        db.query_row("SELECT body FROM outbox WHERE name = 'left/team'", [], |r| r.get(0)).unwrap();
    let before = |time: &str| {
        let time = checkrein_core::time::Timestamp::parse(time).unwrap();
        time.plus_seconds(-4 * 86_400).to_string()
    };
    db.execute("UPDATE outbox SET body = ?1 WHERE name = 'left/team'", [before(&left)]).unwrap();
    db.execute(
        "UPDATE deliveries SET body = json_set(body, '$.queued_at', ?1) WHERE standing = 'queued'",
        [before(&left)],
    )
    .unwrap();
    drop(db);
    let server = Server::on(dir, RULES).await;
    let dead = settled(&server, "dead", 1).await;
    let error = dead[0]["deliveries"][0]["error"].as_str().unwrap();
    assert!(dead[0]["agent"] == "waits" && error.contains("no sink `team` is set up"), "{dead:?}");
    // There is nowhere to send it to, and nobody pretends that there is.
    let path = format!("/v1/signals/{}/replay", dead[0]["id"].as_str().unwrap());
    assert_eq!(server.post(&path, json!({})).await.problem(), "conflict");
    let dir = server.stop().await;
    let server = Server::on(dir, &with).await;
    // A new feed begins at the end of the log; which is there before it is asked for.
    within("fed", || async { server.get("/v1/sinks").await.json()["sinks"][0]["records_behind"].as_u64() })
        .await;
    server.check(delete("after")).await;
    let both = || ["first", "after"].map(str::to_owned).to_vec();
    within("what is new", || async { (agents(&team) == (both(), both())).then_some(()) }).await;
    // The dead letter can be sent again now.
    assert_eq!(server.post(&path, json!({})).await.json()["tried_again"], 1);
    within("the dead letter", || async { agents(&team).0.contains(&"waits".to_owned()).then_some(()) }).await;
    // It goes on from there, over another restart.
    let dir = server.stop().await;
    let server = Server::on(dir, &with).await;
    server.check(delete("last")).await;
    within("the last", || async { (agents(&team).1 == ["first", "after", "last"]).then_some(()) }).await;
    server.stop().await;
}

/// A key that was changed at the receiver: nothing is lost, and what waits follows as soon as the setting is mended.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_setting_costs_no_signal() {
    let (dir, team) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    // The pauses are soon longer than anybody waits: reading the configuration again ends them.
    let paced = sink(dir.path(), "team", &team).replace("\"200ms\"", "\"1h\"");
    let toml = format!("{RULES}{paced}feed = \"both\"\n");
    let server = Server::on(dir, &toml).await;
    for status in [401, 403, 404] {
        let before = agents(&team);
        team.answers(status);
        for n in 0..6 {
            server.check(delete(&format!("bot-{status}-{n}"))).await;
        }
        let failing = || async {
            let sink = server.get("/v1/sinks").await.json()["sinks"][0].clone();
            (sink["failing"] == true).then_some(sink)
        };
        let sink = within("failing", failing).await;
        assert_eq!((&sink["dead"], &sink["records_lost"]), (&json!(0), &json!(0)), "{status}: {sink}");
        team.answers(200);
        server.app.reload(&config(server.dir.path(), &toml)).await.unwrap();
        within("what waited", || async {
            let now = agents(&team);
            (now.0.len() == before.0.len() + 6 && now.1.len() == before.1.len() + 6).then_some(())
        })
        .await;
    }
    server.stop().await;
}
