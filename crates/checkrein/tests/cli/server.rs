//! Commands against a real server: the same binary, on a free port, on a folder of its own.

use crate::common::{Ran, Run, repository};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) cli: Run,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_in(Run::new())
    }

    pub(crate) fn start_in(run: Run) -> Self {
        let mut child = run
            .command(&["serve", "--listen", "127.0.0.1:0", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let url = ready["listening"].as_str().unwrap();
        assert!(url.starts_with("http://127.0.0.1:") && !url.ends_with(":0"), "{url}");
        let key = ready["admin_key"].as_str().expect("the first start shows the key");
        let cli = run.env("CHECKREIN_URL", url).env("CHECKREIN_API_KEY", key);
        Self { child, cli }
    }

    #[track_caller]
    pub(crate) fn expect(&self, code: i32, args: &[&str]) -> Ran {
        self.cli.expect(code, args)
    }

    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        self.cli.expect(0, &[args, &["--json"]].concat()).json()
    }

    /// Asks it to stop, and expects that it does so in order.
    pub(crate) fn stop(mut self) -> Run {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        std::mem::replace(&mut self.cli, Run::new())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn verdicts_are_exit_codes() {
    let server = Server::start();
    let policies = repository("examples/policies.toml");
    let changes = server.json(&["policy", "apply", &policies]);
    assert_eq!(changes["created"].as_array().unwrap().len(), 7);
    assert!(server.expect(0, &["policy", "apply", &policies]).stdout.contains("7 unchanged"));
    assert!(server.expect(0, &["policy", "list"]).stdout.contains("blast_radius_limit"));

    let ran = server
        .expect(0, &["check", "--action", "update", "--resource", "shop.users", "--record-count", "25"]);
    assert!(ran.stdout.starts_with("allow"), "{}", ran.stdout);
    let ran = server
        .expect(3, &["check", "--action", "update", "--resource", "shop.users", "--record-count", "10000"]);
    assert!(ran.stdout.starts_with("block") && ran.stdout.contains("10,000 records"), "{}", ran.stdout);
    server.expect(
        3,
        &["check", "--tool", "run_sql", "--arguments", r#"{"sql":"DELETE FROM production.users"}"#],
    );
    server.expect(
        4,
        &["check", r#"{"action":"refund","resource":"stripe","payload":{"amount":100,"record_count":1}}"#],
    );

    server.expect(0, &["policy", "delete", "blast_radius_limit"]);
    server.expect(1, &["policy", "delete", "blast_radius_limit"]);
    let ran = server.expect(0, &["policy", "replay", &policies]);
    assert!(
        ran.stdout.contains("of 4 recorded checks, 0 would have been answered differently"),
        "{}",
        ran.stdout
    );
    let report =
        server.cli.expect(0, &["policy", "replay", &policies, "--until", "2020-01-01T00:00:00Z", "--json"]);
    assert_eq!(report.json()["checked"], 0);
}

#[test]
fn a_new_server_says_that_it_holds_nothing_back_yet() {
    let server = Server::start();
    let check = ["check", "--action", "delete", "--resource", "production.users", "--record-count", "10000"];
    let unguarded = server.expect(0, &check).stdout;
    assert!(unguarded.contains("no policies are in force yet. Put some into force with"), "{unguarded}");
    server.expect(0, &["policy", "apply", &repository("examples/policies.toml")]);
    server.expect(3, &check);
}

#[test]
fn a_script_runs_what_is_allowed_and_nothing_else() {
    let mut server = Server::start();
    server.expect(0, &["policy", "apply", &repository("examples/policies.toml")]);
    let check = ["check", "--tool", "refund", "--arguments", "-"];
    for (arguments, code) in [
        (r#"{"amount": 12, "record_count": 1}"#, 0),
        (r#"{"amount": 120, "record_count": 1}"#, 4),
        (r#"{"amount": 12}"#, 3),
        ("", 2),
        ("{", 2),
        (r#"{"amount": 1, "amount": 2}"#, 2),
        (r#"{"amount": 1e300}"#, 2),
        ("[12]", 1),
    ] {
        server.cli = std::mem::replace(&mut server.cli, Run::new()).input(arguments);
        server.expect(code, &check);
    }
    server.cli =
        std::mem::replace(&mut server.cli, Run::new()).input(r#"{"sql": "DELETE FROM production.users"}"#);
    server.expect(3, &["check", "--tool", "run_sql", "--arguments", "-"]);

    // Somebody answers while the script waits.
    let held = r#"{"amount": 500, "record_count": 1}"#;
    for (answer, code) in [("approve", 0), ("deny", 3)] {
        let waiting = server
            .cli
            .command(&["check", "--tool", "refund", "--arguments", held, "--wait", "30"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let asked = loop {
            let pending = server.json(&["approvals", "list"]);
            let mut ids = pending["approvals"].as_array().unwrap().iter();
            let ours = ids.find(|a| a["check"]["arguments"]["amount"] == 500);
            if let Some(id) = ours.and_then(|a| a["id"].as_str()) {
                break id.to_owned();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        server.expect(0, &["approvals", answer, &asked]);
        assert_eq!(waiting.wait_with_output().unwrap().status.code(), Some(code));
    }
    let run = server.stop();
    run.expect(5, &["check", "--tool", "refund", "--arguments", "{}"]);
    run.env("CHECKREIN_API_KEY", "").expect(6, &["check", "--tool", "refund"]);
}

#[test]
fn a_hold_is_answered_by_a_person() {
    let server = Server::start();
    server.expect(0, &["policy", "apply", &repository("examples/policies.toml")]);
    let refund = r#"{"action":"refund","resource":"stripe","payload":{"amount":100,"record_count":1,"note":"\u001b[2J\u202e"}}"#;
    let ran = server.expect(4, &["check", refund]);
    let id =
        ran.stderr.split_whitespace().find(|word| word.starts_with("apr_")).expect(&ran.stderr).to_owned();
    assert!(server.expect(0, &["approvals", "list"]).stdout.contains(&id));
    assert!(server.expect(0, &["approvals", "show", &id]).stdout.contains("pending"));
    let ran = server.expect(0, &["approvals", "approve", &id, "--comment", "fine"]);
    assert!(ran.stdout.starts_with("approved apr_"), "{}", ran.stdout);
    let shown = server.expect(0, &["approvals", "show", &id]).stdout;
    assert!(shown.contains("fine") && shown.contains("approved"), "{shown}");
    assert!(shown.contains("\\u001b[2J\\u202e") && !shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    assert!(server.expect(0, &["approvals", "list"]).stdout.is_empty());
    server.expect(1, &["approvals", "deny", &id]);
    server.expect(1, &["approvals", "show", "apr_nothing"]);
}

#[test]
fn keys_have_roles() {
    let server = Server::start();
    let made =
        server.json(&["keys", "create", "--role", "agent", "--name", "billing", "--agent", "billing-bot"]);
    assert!(server.expect(0, &["keys", "list"]).stdout.contains("billing-bot"));
    let file = server.cli.dir.path().join("agent.key");
    std::fs::write(&file, format!("{}\n", made["key"].as_str().unwrap())).unwrap();
    let as_agent = ["--api-key-file", file.to_str().unwrap()];
    let ask = |args: &[&'static str]| [args, &as_agent[..]].concat();
    server.expect(0, &ask(&["check", "--action", "read", "--resource", "x"]));
    server.expect(6, &ask(&["policy", "list"]));
    server.expect(6, &ask(&["check", "--action", "read", "--resource", "x", "--agent", "other"]));
    server.expect(0, &["keys", "revoke", made["id"].as_str().unwrap()]);
    server.expect(6, &ask(&["check", "--action", "read", "--resource", "x"]));
}

#[test]
fn the_log_tells_it_and_proves_it() {
    let server = Server::start();
    for n in 0..3 {
        let resource = format!("shop.t{n}");
        server.expect(0, &["check", "--action", "read", "--resource", &resource]);
    }
    let tail = server.expect(0, &["log", "tail", "-n", "1"]).stdout;
    assert!(tail.contains("allow read on shop.t2") && tail.lines().count() == 1, "{tail}");
    let check = tail.split_whitespace().find(|word| word.starts_with("chk_")).unwrap().to_owned();
    assert!(server.expect(0, &["log", "show", &check]).stdout.contains("\"resource\": \"shop.t2\""));
    server.expect(1, &["log", "show", "chk_nothing"]);

    let run = server.stop();
    let ran = run.expect(0, &["log", "verify"]);
    assert!(ran.stdout.starts_with("the action log is whole"), "{}", ran.stdout);
    let anchor = ran.stdout.lines().find_map(|line| line.strip_prefix("anchor ")).unwrap().to_owned();
    run.expect(0, &["log", "verify", "--anchor", &anchor]);
    let export = run.expect(0, &["log", "export"]).stdout;
    let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs: Vec<_> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "{seqs:?}");
    assert_eq!(lines.iter().filter(|line| line["kind"] == "check").count(), 3);
    let checks = run.expect(0, &["log", "tail", "-n", "2", "--kind", "check", "--json"]).stdout;
    assert_eq!(checks.lines().count(), 2);
    let forged = format!("1:{}", "0".repeat(64));
    let ran = run.expect(1, &["log", "verify", "--anchor", &forged, "--json"]);
    assert_eq!(ran.json()["ok"], json!(false));
}

#[test]
fn the_description_of_the_api_is_the_committed_one() {
    let printed: Value = Run::new().expect(0, &["openapi"]).json();
    let committed = std::fs::read_to_string(repository("openapi.json")).unwrap();
    assert_eq!(printed, serde_json::from_str::<Value>(&committed).unwrap());
}
