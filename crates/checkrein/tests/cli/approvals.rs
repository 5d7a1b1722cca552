//! What people say about holds and beforehand, from the command line, and what agents make them read.

use crate::{common::Run, server::Server};
use serde_json::{Value, json};
use std::fs;

const CONFIG: &str = "
[limits]
body = \"8MiB\"
[[policies]]
name = \"refunds_need_a_person\"
rule = \"require_approval\"
condition = { action = \"refund\" }
[[policies]]
name = \"payouts_need_two\"
rule = \"require_approval\"
approvals = 2
condition = { action = \"payout\" }
";

fn server() -> Server {
    Server::start_in(Run::new().file("checkrein.toml", CONFIG))
}

fn held(server: &Server, action: &str) -> String {
    let asked = ["check", "--action", action, "--resource", "shop.orders", "--record-count", "1"];
    let held = server.cli.expect(4, &[asked.as_slice(), &["--agent", "shop-bot", "--json"]].concat()).json();
    held["approval_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_grant_is_given_listed_and_taken_back() {
    let server = server();
    let grant = |more: &[&'static str]| {
        let what =
            ["approvals", "grant", "--agent", "shop-bot", "--action", "refund", "--resource", "shop.orders"];
        [what.as_slice(), more].concat()
    };
    let asked = [
        "check",
        "--action",
        "refund",
        "--resource",
        "shop.orders",
        "--record-count",
        "2",
        "--agent",
        "shop-bot",
    ];
    assert!(server.expect(0, &["approvals", "grants"]).stderr.contains("no grant is open"));
    server.expect(2, &grant(&["--max-records", "0", "--for", "1h", "--reason", "x"]));
    for (wrong, why) in [
        (["--max-records", "5", "--for", "8d", "--reason", "x"], "7d"),
        (["--max-records", "5", "--for", "1h", "--reason", " "], "reason"),
        (["--max-records", "5", "--for", "1h", "--reason", "a\u{202e}b"], "invisible"),
    ] {
        let refused = server.expect(1, &grant(&wrong));
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
    let more = ["--max-records", "5", "--for", "1h", "--accept-declared", "--reason", "batch 7"];
    let given = server.expect(0, &grant(&more));
    assert!(
        given.stdout.contains("5 records in all") && given.stderr.contains("revoke grt_"),
        "{}",
        given.stderr
    );
    server.expect(0, &asked);
    server.expect(0, &asked);
    server.expect(4, &asked);
    let listed = server.expect(0, &["approvals", "grants"]).stdout;
    assert!(listed.contains("4 of 5") && listed.contains("shop-bot"), "{listed}");
    let id = server.json(&["approvals", "grants"])["grants"][0]["id"].as_str().unwrap().to_owned();
    assert!(server.expect(0, &["approvals", "revoke", &id]).stdout.contains(&id));
    server.expect(1, &["approvals", "revoke", &id]);
    server.expect(1, &["approvals", "revoke", "grt_nothing"]);
    let all = server.expect(0, &["approvals", "grants", "--all", "--agent", "shop-*"]).stdout;
    assert!(all.contains("revoked"), "{all}");
    assert!(server.expect(0, &["approvals", "grants", "--all", "--agent", "other"]).stdout.is_empty());
    let tail = server.expect(0, &["log", "tail", "-n", "50"]).stdout;
    assert!(tail.contains("grant.given") && tail.contains("grant.changed"), "{tail}");
}

#[test]
fn two_people_comment_and_answer() {
    let server = server();
    let id = held(&server, "payout");
    let made = server.json(&["keys", "create", "--role", "operator", "--name", "ann"]);
    let bob = server.json(&["keys", "create", "--role", "operator", "--name", "bob"]);
    let as_key = |made: &Value, code: i32, args: &[&str]| {
        let output = server
            .cli
            .command(args)
            .env("CHECKREIN_API_KEY", made["key"].as_str().unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    };
    assert!(as_key(&made, 0, &["approvals", "comment", &id, "waiting for finance"]).contains("noted"));
    as_key(&made, 1, &["approvals", "comment", &id, " "]);
    assert!(as_key(&made, 0, &["approvals", "approve", &id]).contains("pending, 1 of 2"));
    as_key(&made, 1, &["approvals", "approve", &id]);
    assert!(server.expect(0, &["approvals", "list"]).stdout.contains("pending, 1 of 2"));
    assert!(as_key(&bob, 0, &["approvals", "approve", &id, "--comment", "paid"]).starts_with("approved"));
    let shown = server.expect(0, &["approvals", "show", &id]).stdout;
    for said in ["waiting for finance", "by ann", "by bob", "paid"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    let waits = held(&server, "refund");
    let url = server.expect(0, &["approvals", "link", &waits, "--for", "alice"]);
    assert!(url.stdout.contains("/approve/"), "{}", url.stdout);
}

#[test]
fn some_records_are_looked_at_and_the_look_is_on_record() {
    let toml = "[targets.shop]\nkind = \"sqlite\"\npath = \"shop.db\"\nenvironment = \"production\"\n\
         [[policies]]\nname = \"ask\"\nrule = \"require_approval\"\ncondition = { action = \"delete\" }\n";
    let run = Run::new().file("checkrein.toml", toml);
    let db = rusqlite::Connection::open(run.dir.path().join("shop.db")).unwrap();
    db.execute_batch("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, password TEXT)").unwrap();
    db.execute("INSERT INTO users VALUES (7, ?1, 'geheim')", ["a\u{1b}[2J"]).unwrap();
    let server = Server::start_in(run);
    let held = server.cli.expect(4, &["execute", "shop", "DELETE FROM users", "--json"]).json();
    let id = held["approval_id"].as_str().unwrap().to_owned();
    let seen = server.expect(0, &["approvals", "sample", &id]);
    assert_eq!(
        seen.stdout, "shop.users\n{\"id\":7,\"name\":\"a\\u001b[2J\",\"password\":\"[redacted]\"}\n",
        "{}",
        seen.stderr
    );
    assert!(seen.stderr.starts_with("1 record as of "), "{}", seen.stderr);
    let json = server.json(&["approvals", "sample", &id]);
    assert_eq!(json["resources"][0]["rows"], json!([[7, "a\u{1b}[2J", "[redacted]"]]));
    let shown = server.expect(0, &["log", "show", &id]).stdout;
    assert_eq!(shown.matches("looked at 1 record of shop").count(), 2, "{shown}");
    assert!(!shown.contains("geheim") && !shown.contains("[2J"), "what was seen is not: {shown}");
    assert!(server.expect(1, &["approvals", "sample", "apr_none"]).stderr.contains("no approval"));
    server.expect(0, &["approvals", "deny", &id]);
    assert!(server.expect(1, &["approvals", "sample", &id]).stderr.contains("nobody is asked"));
}

#[test]
fn what_was_asked_is_withdrawn_with_the_key_that_asked() {
    let server = server();
    let id = held(&server, "refund");
    let ann = server.json(&["keys", "create", "--role", "operator", "--name", "ann"]);
    let other = server
        .cli
        .command(&["approvals", "withdraw", &id])
        .env("CHECKREIN_API_KEY", ann["key"].as_str().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8(other.stderr).unwrap();
    assert!(!other.status.success() && said.contains("another key made"), "{said}");
    assert_eq!(
        server.expect(0, &["approvals", "withdraw", &id]).stdout,
        "withdrawn: refund on shop.orders by shop-bot\n"
    );
    assert!(server.expect(0, &["approvals", "list", "--all"]).stdout.contains("withdrawn"));
    let again = held(&server, "refund");
    let check = server.json(&["approvals", "show", &again])["check_id"].as_str().unwrap().to_owned();
    assert_eq!(server.json(&["approvals", "withdraw", &check])["verdict"], "block");
    assert!(server.expect(1, &["approvals", "withdraw", "chk_none"]).stderr.contains("no check"));
}

/// What is too large is refused by name; what is not is shown whole, in a terminal that it cannot take over.
#[test]
fn five_megabytes_and_what_terminals_obey() {
    let nasty = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}gnp.exe **bold** [x](javascript:alert(1)) <img src=x onerror=alert(1)>";
    let body = |bytes: usize| {
        let payload = json!({"record_count": 1, "note": nasty, "text": "x".repeat(bytes)});
        json!({"action": "refund", "resource": "shop.orders", "agent": "shop-bot", "payload": payload})
            .to_string()
    };
    let mut small = Server::start();
    let file = small.cli.dir.path().join("large.json");
    fs::write(&file, body(5 << 20)).unwrap();
    let send = |server: &mut Server, code: i32| {
        let text = fs::read_to_string(&file).unwrap();
        server.cli = std::mem::replace(&mut server.cli, Run::new()).input(&text);
        let ran = server.expect(code, &["check", "-", "--json"]);
        server.cli = std::mem::replace(&mut server.cli, Run::new()).input("");
        ran
    };
    let refused = send(&mut small, 1);
    assert!(refused.stderr.contains("[limits] body"), "{}", refused.stderr);

    let mut server = server();
    let held = send(&mut server, 4);
    let approval = held.json()["approval_id"].as_str().unwrap().to_owned();
    for args in [vec!["approvals", "show", &approval], vec!["approvals", "list"], vec!["log", "tail"]] {
        let shown = server.expect(0, &args).stdout;
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{args:?}");
        if args[1] == "show" {
            assert!(shown.len() > 5 << 20 && shown.contains("\\u001b]0;owned"), "{}", shown.len());
        } else {
            assert!(shown.len() < 4_096, "{args:?}: {}", shown.len());
        }
    }
    server.expect(0, &["approvals", "approve", &approval]);
    let signals = server.json(&["signal", "list"]);
    let text = signals.to_string();
    assert!(text.len() < 20_000, "{}", text.len());
}
