//! A folder as a target, through the API.

use super::common::Server;
use serde_json::{Value, json};
use std::{fs, path::Path};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

async fn folder() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let docs = dir.path().join("docs");
    fs::create_dir_all(docs.join("2026")).unwrap();
    for (name, content) in [("a.txt", "one"), ("b.txt", "two"), ("2026/c.txt", "three"), ("d.bin", "four")] {
        fs::write(docs.join(name), content).unwrap();
    }
    let toml = "[targets.docs]\nkind = 'files'\npath = 'docs'\nenvironment = 'production'\n";
    Server::on(dir, toml).await
}

/// Every file with its content.
fn tree(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![dir.join("docs")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_check_is_counted_and_what_it_allowed_is_put_back() {
    let server = folder().await;
    let dir = server.dir.path().to_owned();
    let before = tree(&dir);
    let limit = json!({"name": "limit", "rule": "block", "condition": {"record_count_exceeds": 3}});
    server.policy(limit).await;
    let all = server.check(json!({"action": "delete", "resource": "docs", "where": {"glob": "**/*"}})).await;
    assert_eq!(all["verdict"], "block", "{all}");
    assert_eq!(all["blast_radius"]["basis"], "counted", "{all}");
    let some = json!({"action": "delete", "resource": "docs", "where": {"glob": "**/*.txt"}});
    let decision = server.check(some).await;
    let radius = &decision["blast_radius"];
    assert_eq!((&decision["verdict"], &radius["records"]), (&json!("allow"), &json!(3)), "{decision}");
    for name in ["a.txt", "b.txt", "2026/c.txt"] {
        fs::remove_file(dir.join("docs").join(name)).unwrap();
    }
    let report = format!("/v1/checks/{}/outcome", text(&decision["id"]));
    assert_eq!(server.post(&report, json!({"status": "ok", "records": 3})).await.status, 200);
    let done = server.rollback(text(&decision["snapshot_id"]), json!({})).await.json();
    assert_eq!((&done["status"], tree(&dir)), (&json!("done"), before), "{done}");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn what_a_check_accepts_a_snapshot_takes() {
    let server = folder().await;
    let dir = server.dir.path().to_owned();
    let before = tree(&dir);
    for (resource, records) in [
        (json!({"resource": "docs", "record_ids": ["a.txt", "2026/c.txt"]}), 2),
        (json!({"resource": "docs", "where": {"glob": "*.txt"}}), 2),
        (json!({"resource": "docs.2026", "record_ids": ["c.txt"]}), 1),
    ] {
        let mut check = resource.clone();
        check["action"] = json!("update");
        let decision = server.check(check).await;
        assert_eq!(decision["blast_radius"]["records"], records, "{resource}: {decision}");
        let reply = server.post("/v1/snapshots", resource.clone()).await;
        assert_eq!((reply.status, &reply.json()["records"]), (201, &json!(records)), "{resource}: {reply:?}");
    }
    let body = json!({"resource": "docs", "record_ids": ["a.txt", "b.txt", "new.txt"]});
    let taken = server.post("/v1/snapshots", body).await.json();
    let id = text(&taken["id"]);
    fs::write(dir.join("docs/a.txt"), "changed").unwrap();
    fs::remove_file(dir.join("docs/b.txt")).unwrap();
    fs::write(dir.join("docs/new.txt"), "new").unwrap();
    let sealed = server.post(&format!("/v1/snapshots/{id}/seal"), json!({})).await;
    assert_eq!(sealed.json()["sealed"], true, "{sealed:?}");
    let export = server.get(&format!("/v1/snapshots/{id}/export")).await;
    assert!(export.body.contains("a.txt"), "{export:?}");
    let done = server.rollback(id, json!({})).await.json();
    assert_eq!((&done["status"], &done["restored"]), (&json!("done"), &json!(3)), "{done}");
    assert_eq!(tree(&dir), before);
    let undone = server.rollback(text(&done["undo_snapshot_id"]), json!({})).await.json();
    assert_eq!(undone["status"], "done", "{undone}");
    assert_eq!(fs::read_to_string(dir.join("docs/new.txt")).unwrap(), "new");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn what_a_folder_cannot_do_is_refused() {
    let server = folder().await;
    let before = tree(server.dir.path());
    let run = server.post("/v1/executions", json!({"target": "docs", "statement": "DELETE FROM a"})).await;
    assert!(run.status == 422 || run.json()["verdict"] == "block", "{run:?}");
    for body in [
        json!({"resource": "docs", "statement": "DELETE FROM a"}),
        json!({"resource": "docs", "record_ids": ["../checkrein.toml"]}),
        json!({"resource": "docs", "record_ids": ["/etc/passwd"]}),
    ] {
        let reply = server.post("/v1/snapshots", body.clone()).await;
        assert!([400, 422].contains(&reply.status), "{body}: {reply:?}");
    }
    assert_eq!(tree(server.dir.path()), before);
}

#[tokio::test]
async fn of_many_conflicts_each_counts() {
    let server = folder().await;
    let docs = server.dir.path().join("docs");
    let write = |n: usize, content: &str| fs::write(docs.join(format!("{n}.txt")), content).unwrap();
    (100..400).for_each(|n| write(n, "one"));
    let taken =
        server.post("/v1/snapshots", json!({"resource": "docs", "where": {"glob": "*.txt"}})).await.json();
    let id = text(&taken["id"]);
    (100..400).for_each(|n| write(n, "two"));
    assert_eq!(server.post(&format!("/v1/snapshots/{id}/seal"), json!({})).await.status, 200);
    (100..400).for_each(|n| write(n, "three"));
    let plan = async || server.rollback(id, json!({"dry_run": true})).await.json()["plan"].clone();
    let seen = plan().await;
    let shown: Vec<_> =
        seen["conflicts"].as_array().unwrap().iter().map(|c| c["key"]["path"].clone()).collect();
    assert_eq!((shown.len(), &seen["conflict_count"]), (200, &json!(300)), "{seen}");
    assert_eq!(plan().await["digest"], seen["digest"], "nothing has changed");
    let unseen = (100..400).find(|n| !shown.contains(&json!(format!("{n}.txt")))).unwrap();
    write(unseen, "four");
    let old = json!({"on_conflict": "force", "plan_digest": seen["digest"]});
    let refused = server.rollback(id, old).await;
    assert_eq!((refused.status, refused.problem().as_str()), (409, "rollback-conflicts"), "{refused:?}");
    assert_eq!(fs::read_to_string(docs.join("100.txt")).unwrap(), "three", "nothing was rolled back");
    let now = json!({"on_conflict": "force", "plan_digest": plan().await["digest"]});
    let done = server.rollback(id, now).await.json();
    assert_eq!((&done["status"], &done["restored"]), (&json!("done"), &json!(300)), "{done}");
    server.stop_and_verify().await;
}
