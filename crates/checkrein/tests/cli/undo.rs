//! Executing, looking at snapshots and rolling back, from the command line.

use crate::{common::Run, server::Server};
use rusqlite::Connection;
use serde_json::Value;

fn server() -> Server {
    let run = Run::new();
    let file = run.dir.path().join("shop.db");
    Connection::open(&file)
        .unwrap()
        .execute_batch(
            "CREATE TABLE users (id INTEGER PRIMARY KEY, plan TEXT);
             INSERT INTO users VALUES (1, 'trial'), (2, 'trial'), (3, 'paid')",
        )
        .unwrap();
    let config = format!(
        "[targets.shop]\nkind = \"sqlite\"\npath = \"{}\"\nenvironment = \"sandbox\"\n",
        file.display()
    );
    Server::start_in(run.file("checkrein.toml", config))
}

fn meddle(server: &Server, sql: &str) {
    Connection::open(server.cli.dir.path().join("shop.db")).unwrap().execute_batch(sql).unwrap();
}

fn id(view: &Value, key: &str) -> String {
    view[key].as_str().unwrap_or_else(|| panic!("{view}")).to_owned()
}

#[test]
fn what_ran_is_seen_and_put_back() {
    let server = server();
    let ran =
        server.expect(0, &["execute", "shop", "SELECT id, plan FROM users WHERE id = ?", "--param", "3"]);
    assert!(ran.stdout.contains("id=3 plan=\"paid\""), "{}", ran.stdout);
    let ran = server.expect(0, &["execute", "shop", "UPDATE users SET plan = 'gone'", "--record-count", "1"]);
    assert!(ran.stdout.contains("3 records changed") && ran.stdout.contains("stated 1"), "{}", ran.stdout);
    assert!(ran.stderr.contains("checkrein rollback snp_"), "{}", ran.stderr);
    let listed = server.json(&["snapshot", "list"]);
    let snapshot = id(&listed["snapshots"][0], "id");
    let shown = server.expect(0, &["snapshot", "show", &snapshot]);
    assert!(shown.stdout.contains("sealed") && shown.stdout.contains("3 records"), "{}", shown.stdout);
    let exported = server.expect(0, &["snapshot", "export", &snapshot]);
    assert_eq!(exported.stdout.lines().count(), 6, "before and after: {}", exported.stdout);

    let planned = server.expect(0, &["rollback", &snapshot, "--dry-run"]);
    assert!(planned.stdout.contains("would change 3 records"), "{}", planned.stdout);
    assert!(planned.stderr.contains("do it with"), "{}", planned.stderr);
    meddle(&server, "UPDATE users SET plan = 'theirs\u{1b}[2J' WHERE id = 2");
    let refused = server.expect(3, &["rollback", &snapshot]);
    assert!(refused.stdout.contains("changed") && refused.stdout.contains("theirs"), "{}", refused.stdout);
    assert!(!refused.stdout.contains('\u{1b}'), "escaped");
    assert!(refused.stderr.contains("--on-conflict skip"), "{}", refused.stderr);
    let done = server.json(&["rollback", &snapshot, "--on-conflict", "skip"]);
    assert_eq!((&done["status"], &done["restored"]), (&"done".into(), &2.into()), "{done}");
    let nothing = server.expect(0, &["rollback", &snapshot, "--on-conflict", "skip"]);
    assert!(nothing.stdout.contains("nothing to do"), "{}", nothing.stdout);
    let tail = server.expect(0, &["log", "tail", "-n", "50"]);
    for kind in ["snapshot.taken", "rollback.started", "rollback.finished"] {
        assert!(tail.stdout.contains(kind), "{kind}: {}", tail.stdout);
    }
}

#[test]
fn exit_codes_say_whether_it_ran() {
    let server = server();
    server.expect(1, &["execute", "shop", "UPDATE nowhere SET x = 1"]);
    server.expect(1, &["execute", "elsewhere", "SELECT 1"]);
    server.expect(2, &["execute", "shop", "SELECT 1", "SELECT 2", "--param", "1"]);
    server.expect(
        0,
        &["execute", "shop", "UPDATE users SET plan = 'a' WHERE id = 1", "DELETE FROM users WHERE id = 3"],
    );
    let run = server.cli.dir.path();
    let policies = "[[policies]]\nname = \"no\"\nrule = \"block\"\ncondition = { action = \"delete\" }\n\
         [[policies]]\nname = \"ask\"\nrule = \"require_approval\"\ncondition = { action = \"update\" }\n";
    std::fs::write(run.join("policies.toml"), policies).unwrap();
    server.expect(0, &["policy", "apply", "policies.toml"]);
    server.expect(3, &["execute", "shop", "DELETE FROM users"]);
    let held = server.expect(4, &["execute", "shop", "UPDATE users SET plan = 'x'"]);
    assert!(held.stderr.contains("approvals approve apr_"), "{}", held.stderr);
    server.expect(1, &["rollback", "snp_nowhere"]);
    server.expect(2, &["snapshot", "take", "shop.users"]);
    let taken = server.json(&["snapshot", "take", "shop.users", "--id", "1"]);
    assert_eq!((&taken["records"], &taken["sealed"]), (&1.into(), &false.into()), "{taken}");
    let shown = server.expect(0, &["snapshot", "show", &id(&taken, "id")]);
    assert!(shown.stdout.contains("possible until"), "{}", shown.stdout);
    let sealed = server.json(&["snapshot", "seal", &id(&taken, "id")]);
    assert_eq!(sealed["sealed"], true);
    let shown = server.expect(0, &["snapshot", "show", &id(&taken, "id")]);
    for part in [" by key_", "s later: what others changed in between", "1 record of shop.users"] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
}

#[test]
fn an_approval_shows_what_it_would_touch() {
    let server = server();
    meddle(
        &server,
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, user INTEGER REFERENCES users ON DELETE CASCADE);
         INSERT INTO orders (user) VALUES (1), (1), (2)",
    );
    let rule = r#"[{"name": "ask", "rule": "require_approval", "condition": {"action": "delete"}}]"#;
    std::fs::write(server.cli.dir.path().join("ask.json"), rule).unwrap();
    server.expect(0, &["policy", "apply", "ask.json"]);
    let held = server.expect(4, &["execute", "shop", "DELETE FROM users WHERE id = 1", "--json"]).json();
    let shown = server.expect(0, &["approvals", "show", &id(&held, "approval_id")]).stdout;
    for part in ["3 records (measured)", "shop.users: 1 delete", "shop.orders: 2 cascade"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
