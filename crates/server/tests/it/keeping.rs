//! How long snapshots can be sealed, how long they are kept, and whose go first.

use super::{
    common::{ADMIN, Server},
    shop,
};
use checkrein_core::{
    event::Event,
    snapshot::{Held, Origin, SnapshotRecord},
    time::Timestamp,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

async fn with(snapshots: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    shop::make(dir.path());
    let toml = format!("{}\n[snapshots]\n{snapshots}\n", shop::config(dir.path(), ""));
    Server::on(dir, &toml).await
}

async fn again(server: Server) -> Server {
    let dir = server.stop().await;
    let toml = std::fs::read_to_string(dir.path().join("checkrein.toml")).unwrap();
    Server::on(dir, &toml).await
}

async fn shown(server: &Server, id: &str) -> Value {
    server.get(&format!("/v1/snapshots/{id}")).await.json()
}

/// Retention looks at the start, and not much later.
async fn removed(server: &Server, id: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let shown = shown(server, id).await;
        if shown["state"] == "removed" {
            return shown;
        }
        assert!(Instant::now() < deadline, "{shown}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_seal_says_when_and_by_whom() {
    let server = with("").await;
    let agent = server.key("agent", Some("bot")).await;
    let body = json!({"resource": "shop.users", "record_ids": [1, 2]}).to_string();
    let taken = server.send("POST", "/v1/snapshots", &agent, &body).await.json();
    let until = text(&taken["seal_until"]).to_owned();
    assert!(until.as_str() > text(&taken["created_at"]), "{taken}");
    let path = format!("/v1/snapshots/{}", text(&taken["id"]));
    let sealed = server.send("POST", &format!("{path}/seal"), &agent, "{}").await.json();
    assert!(text(&sealed["seal"]["key_id"]).starts_with("key_"), "{sealed}");
    assert!(text(&sealed["seal"]["at"]) >= text(&taken["created_at"]), "{sealed}");
    assert_eq!(sealed.get("seal_until"), None, "{sealed}");
    assert_eq!(server.get(&path).await.json()["seal"], sealed["seal"]);
    let again = server.post(&format!("{path}/seal"), json!({})).await.json();
    assert_eq!(again["seal"], sealed["seal"], "the first one counts");
    let run = server.execute("UPDATE users SET plan = 'x'").await;
    let from_the_start = shown(&server, text(&run["snapshot_id"])).await;
    assert_eq!((from_the_start.get("seal"), from_the_start.get("seal_until")), (None, None));
    server.stop_and_verify().await;
}

#[tokio::test]
async fn what_was_kept_by_hand_comes_back_though_it_was_removed() {
    let server = with("").await;
    let before = shop::dump(server.dir.path());
    let body = json!({"resource": "shop.orders", "record_ids": [1, 2]});
    let taken = server.post("/v1/snapshots", body).await.json();
    shop::meddle(server.dir.path(), "DELETE FROM orders WHERE id IN (1, 2)");
    assert_ne!(shop::dump(server.dir.path()), before);
    let id = text(&taken["id"]);
    assert_eq!(server.post(&format!("/v1/snapshots/{id}/seal"), json!({})).await.status, 200);
    let done = server.rollback(id, json!({})).await.json();
    assert_eq!((&done["status"], shop::dump(server.dir.path())), (&json!("done"), before), "{done}");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn who_seals_late_does_not_make_the_work_of_others_its_own() {
    let server = with("seal_within = \"1s\"").await;
    let body = json!({"resource": "shop.users", "record_ids": [1, 2]});
    let taken = server.post("/v1/snapshots", body).await.json();
    let check = json!({"action": "update", "resource": "shop.users", "record_ids": [3, 4]});
    let decision = server.check(check).await;
    shop::meddle(server.dir.path(), "UPDATE users SET plan = 'agent' WHERE id IN (1, 2, 3, 4)");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    shop::meddle(server.dir.path(), "UPDATE users SET plan = 'somebody' WHERE id IN (2, 4)");
    let after = shop::dump(server.dir.path());

    let id = text(&taken["id"]);
    let late = server.post(&format!("/v1/snapshots/{id}/seal"), json!({})).await;
    assert_eq!((late.status, late.problem().as_str()), (409, "conflict"), "{late:?}");
    let detail = late.json()["detail"].clone();
    for part in [id, "seal_within", "--dry-run", "force"] {
        assert!(text(&detail).contains(part), "{part}: {detail}");
    }
    // Its outcome comes late, too: it goes on record, and seals nothing.
    let report = format!("/v1/checks/{}/outcome", text(&decision["id"]));
    assert_eq!(server.post(&report, json!({"status": "ok"})).await.status, 200);
    for id in [id, text(&decision["snapshot_id"])] {
        assert_eq!(shown(&server, id).await["sealed"], false);
        let refused = server.rollback(id, json!({})).await;
        assert_eq!(refused.problem(), "rollback-conflicts", "{refused:?}");
        assert_eq!(refused.json()["conflicts"][0]["kind"], "unsealed");
    }
    assert_eq!(shop::dump(server.dir.path()), after, "nobody's work is lost");
    let forced = server.rollback(id, json!({"on_conflict": "force"})).await.json();
    assert_eq!(forced["status"], "done", "{forced}");
    server.stop_and_verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_takes_no_more_room_than_it_may() {
    let server = with("agent_bytes = \"4KiB\"").await;
    let (greedy, other) =
        (server.key("agent", Some("greedy")).await, server.key("agent", Some("other")).await);
    let body = json!({"resource": "shop.users", "where": {}}).to_string();
    let take = async |key: &str| server.send("POST", "/v1/snapshots", key, &body).await;
    // Several at once find no more room than one after the other.
    let many = futures_util::future::join_all((0..8).map(|_| take(&greedy))).await;
    let (taken, refused): (Vec<_>, Vec<_>) = many.iter().partition(|reply| reply.status == 201);
    assert!(!taken.is_empty() && !refused.is_empty(), "{many:?}");
    let bytes: u64 = taken.iter().map(|reply| reply.json()["bytes"].as_u64().unwrap()).sum();
    assert!(bytes <= 4_096, "{bytes}");
    for reply in &refused {
        assert_eq!((reply.status, reply.problem().as_str()), (507, "no-room"), "{reply:?}");
        assert!(reply.body.contains("agent_bytes") && reply.body.contains("greedy"), "{reply:?}");
    }
    assert_eq!(shop::snapshot_files(server.dir.path()).len(), taken.len(), "what was refused left nothing");
    assert_eq!(take(&other).await.status, 201, "another agent has room of its own");
    // Nor does a key find more by speaking for one agent after the other.
    let many = server.key("agent", Some("bot-*")).await;
    let mut statuses = Vec::new();
    for n in 0..8 {
        let body = json!({"resource": "shop.users", "where": {}, "agent": format!("bot-{n}")}).to_string();
        statuses.push(server.send("POST", "/v1/snapshots", &many, &body).await.status);
    }
    assert_eq!((statuses.first(), statuses.last()), (Some(&201), Some(&507)), "{statuses:?}");
    // What Checkrein takes by itself is not what an agent asks for.
    let execution = json!({"target": "shop", "statement": "UPDATE users SET plan = 'x'"}).to_string();
    let run = server.send("POST", "/v1/executions", &greedy, &execution).await.json();
    assert_eq!(run["executed"], true, "{run}");
    let by_admin = json!({"resource": "shop.users", "where": {}, "agent": "greedy"}).to_string();
    assert_eq!(server.send("POST", "/v1/snapshots", ADMIN, &by_admin).await.status, 507, "in its name");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn what_agents_asked_for_goes_before_what_was_done() {
    let server = with("keep_bytes = \"1MiB\"\nagent_bytes = \"1MiB\"").await;
    shop::meddle(server.dir.path(), "UPDATE users SET name = hex(randomblob(10000))");
    let run = server.execute("UPDATE users SET plan = 'x' WHERE id <= 20").await;
    let body = json!({"resource": "shop.users", "record_ids": (1..=80).collect::<Vec<_>>()});
    let taken = server.post("/v1/snapshots", body).await;
    assert_eq!(taken.status, 201, "{taken:?}");
    let server = again(server).await;
    let gone = removed(&server, text(&taken.json()["id"])).await;
    assert!(text(&gone["removed_because"]).contains("keep_bytes"), "{gone}");
    let id = text(&run["snapshot_id"]);
    assert_eq!(shown(&server, id).await["state"], "live", "older, and of what was done");
    let done = server.rollback(id, json!({})).await;
    assert_eq!(done.json()["status"], "done", "{done:?}");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn what_is_older_than_it_may_be_goes() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    let now = Timestamp::from_micros(i64::try_from(now).unwrap());
    let dir = tempfile::tempdir().unwrap();
    shop::make(dir.path());
    let data = dir.path().join("data");
    std::fs::create_dir_all(data.join("snapshots")).unwrap();
    let store = checkrein_store::Store::open(checkrein_store::Options::new(&data)).unwrap();
    for (id, age, origin) in [("snp_old", 3_700, Origin::Execution), ("snp_young", 3_000, Origin::Requested)]
    {
        let record = SnapshotRecord {
            id: id.to_owned(),
            target: "shop".to_owned(),
            resource: "shop.users".to_owned(),
            agent: "bot".to_owned(),
            session: None,
            check_id: None,
            origin,
            sealed: true,
            by_resource: vec![Held { resource: "shop.users".to_owned(), records: 1 }],
            bytes: 4,
            key_id: "key_1".to_owned(),
        };
        store.append(vec![Event::SnapshotTaken(Box::new(record))], now.plus_seconds(-age)).await.unwrap();
        std::fs::write(data.join(format!("snapshots/{id}.1.snapshot")), "some").unwrap();
    }
    store.close().await;
    drop(store);
    let toml = format!("{}\n[snapshots]\nkeep_for = \"1h\"\n", shop::config(dir.path(), ""));
    let server = Server::on(dir, &toml).await;
    let gone = removed(&server, "snp_old").await;
    assert!(text(&gone["removed_because"]).contains("keep_for"), "{gone}");
    assert_eq!(shown(&server, "snp_young").await["state"], "live");
    assert_eq!(shop::snapshot_files(server.dir.path()), ["snp_young.1.snapshot"]);
    server.stop_and_verify().await;
}
