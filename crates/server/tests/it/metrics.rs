//! What `/metrics` says: to Prometheus's own tool, and to the dashboard and the alert rules in `deploy/`.

use crate::{
    common::{ADMIN, Server, config},
    signals::{Receiver, delete, sink, within},
};
use checkrein_testbed::servers::{find, unpacked};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Stdio},
};

const RULES: &str = r#"
[[policies]]
name = "no_deletes"
rule = "block"
condition = { action = "delete" }
"#;

/// Everything that is told as a metric in a text: `checkrein_…`.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("checkrein_")).map(str::to_owned).collect()
}

/// The expressions of a dashboard, wherever they are in it.
fn expressions(of: &Value, found: &mut String) {
    match of {
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) if name == "expr" => *found += &format!("{text}\n"),
                    other => expressions(other, found),
                }
            }
        }
        _ => {}
    }
}

fn deployed(file: &str) -> String {
    std::fs::read_to_string(format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_dashboard_and_the_rules_ask_for_is_there() {
    let (dir, team, bad) = (tempfile::tempdir().unwrap(), Receiver::start().await, Receiver::start().await);
    bad.answers(400);
    let toml = format!(
        "{RULES}{}feed = \"both\"\n{}",
        sink(dir.path(), "team", &team),
        sink(dir.path(), "bad", &bad)
    );
    let server = Server::on(dir, &toml).await;
    for n in 0..3 {
        server.check(delete(&format!("bot-{n}"))).await;
    }
    let open = json!({"state": "open", "reason": "a test"}).to_string();
    let opened = server.send("PUT", "/v1/agents/bot-1/breaker", ADMIN, &open).await;
    assert_eq!(opened.status, 200, "{opened:?}");
    let metrics = within("messages delivered and given up", || async {
        let text = server.get("/metrics").await.body;
        let has = |line: &str| text.lines().any(|l| l == line);
        let all = has(r#"checkrein_sink_failing{sink="bad"} 1"#)
            && has(r#"checkrein_sink_failing{sink="team"} 0"#)
            && has(r#"checkrein_sink_records_behind{sink="team"} 0"#)
            && !has(r#"checkrein_sink_delivered_total{sink="team"} 0"#)
            && !has(r#"checkrein_sink_dead_total{sink="bad"} 0"#);
        all.then_some(text)
    })
    .await;
    let has = |line: &str| assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
    has(r#"checkrein_breakers{scope="agent",state="open"} 1"#);
    has(r#"checkrein_breakers{scope="all",state="open"} 0"#);
    has(r#"checkrein_drift_checks_total{severity="critical",channel="loop"} 0"#);
    assert!(!metrics.contains("bot-"), "labels name no agent");

    let samples: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let mut asked = String::new();
    let dashboard: Value = serde_json::from_str(&deployed("deploy/grafana/checkrein.json")).unwrap();
    expressions(&dashboard, &mut asked);
    for (file, text) in [
        ("the dashboard", asked),
        ("the alert rules", deployed("deploy/prometheus/alerts.yml")),
        ("the tests of the alert rules", deployed("deploy/prometheus/alerts.test.yml")),
        ("docs/signals/prometheus.md", deployed("docs/signals/prometheus.md")),
        ("docs/signals.md", deployed("docs/signals.md")),
        ("docs/operations.md", deployed("docs/operations.md")),
    ] {
        let named = named(&text);
        assert!(!named.is_empty() || file == "docs/operations.md", "{file} names none");
        let is_there =
            |name: &&String| samples.contains(name.as_str()) || samples.contains(&*format!("{name}_bucket"));
        let missing: Vec<_> = named.iter().filter(|name| !is_there(name)).collect();
        assert!(missing.is_empty(), "{file} asks for {missing:?}, which /metrics does not have");
    }

    // A sink that is gone leaves nothing behind that would be failing for ever.
    let without = format!("{RULES}{}", sink(server.dir.path(), "team", &team));
    server.app.reload(&config(server.dir.path(), &without)).await.unwrap();
    within("forgotten", || async {
        (!server.get("/metrics").await.body.contains(r#"sink="bad""#)).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_own_tool_finds_no_fault_with_them() {
    let program = find("promtool", [unpacked("usr/bin")]).expect("promtool: run `scripts/setup test`");
    let (dir, team) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let toml = format!("{RULES}{}", sink(dir.path(), "team", &team));
    let server = Server::on(dir, &toml).await;
    server.check(delete("bot")).await;
    team.has(1).await;
    let asking = |accept: &str| {
        format!("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: {accept}\r\n\r\n")
    };
    // As Prometheus 2 and 3 ask.
    let open = server
        .raw(asking("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5").as_bytes())
        .await;
    assert!(open.headers.contains("application/openmetrics-text; version=1.0.0"), "{}", open.headers);
    assert!(open.body.ends_with("# EOF\n") && open.body.contains("# TYPE checkrein_checks counter"));
    let plain = server.raw(asking("*/*").as_bytes()).await;
    assert!(plain.headers.contains("text/plain; version=0.0.4"), "{}", plain.headers);
    let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(samples(&open.body), samples(&plain.body));
    let mut tool = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(plain.body.as_bytes()).unwrap();
    let said = tool.wait_with_output().unwrap();
    let text = [said.stdout, said.stderr].concat();
    assert!(said.status.success() && text.is_empty(), "{}\n{}", String::from_utf8_lossy(&text), plain.body);
    server.stop().await;
}
