//! Signals on their way out of a real server, to receivers that answer as they are told.

use crate::common::{Server, config};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// A webhook that answers with `status`; 0: not at all.
pub(crate) struct Receiver {
    addr: SocketAddr,
    status: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (status, got) = (Arc::new(AtomicU16::new(200)), Arc::new(Mutex::new(Vec::new())));
        let shared = (Arc::clone(&status), Arc::clone(&got));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (status, got) = shared.clone();
                tokio::spawn(async move { answer(stream, &status, &got).await });
            }
        });
        Self { addr, status, got }
    }

    pub(crate) fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// What it has taken.
    pub(crate) fn got(&self) -> Vec<Value> {
        self.got.lock().unwrap().clone()
    }

    pub(crate) async fn has(&self, count: usize) -> Vec<Value> {
        within(&format!("{count} messages, not {:?}", self.kinds()), || async {
            Some(self.got()).filter(|got| got.len() >= count)
        })
        .await
    }

    fn kinds(&self) -> Vec<String> {
        let kind = |m: &Value| {
            format!("{} {}", m["signals"][0]["kind"].as_str().unwrap(), m["status"].as_str().unwrap())
        };
        self.got().iter().map(kind).collect()
    }
}

async fn answer(stream: TcpStream, status: &AtomicU16, got: &Mutex<Vec<Value>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let said = status.load(Ordering::SeqCst);
        if said == 0 {
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        if said == 200 {
            let body: Value = serde_json::from_slice(&body).unwrap();
            got.lock().unwrap().push(body["data"].clone());
        }
        stream.write_all(format!("HTTP/1.1 {said} X\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.ok()?;
    }
}

pub(crate) async fn within<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    for _ in 0..600 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

const POLICIES: &str = r#"
[[policies]]
name = "no_deletes"
rule = "block"
condition = { action = "delete" }
[[policies]]
name = "ask_before_mail"
rule = "require_approval"
condition = { action = "send_email" }
"#;

/// A sink for `receiver`, of which the secrets are in `dir`.
pub(crate) fn sink(dir: &Path, name: &str, receiver: &Receiver) -> String {
    std::fs::write(dir.join(format!("{name}.url")), format!("http://{}/", receiver.addr)).unwrap();
    std::fs::write(dir.join("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    format!(
        r#"
        [sinks.{name}]
        kind = "webhook"
        url = {{ file = "{name}.url" }}
        secret = {{ file = "secret" }}
        allow_private = true
        first_pause = "20ms"
        longest_pause = "200ms"
        "#
    )
}

pub(crate) fn delete(agent: &str) -> Value {
    json!({"agent": agent, "action": "delete", "resource": "shop.users"})
}

fn mail(agent: &str, n: usize) -> Value {
    json!({"agent": agent, "action": "send_email", "resource": "mail", "payload": {"to": format!("x{n}@example.com")}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_told_and_resolved() {
    let (dir, team) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let toml = format!("{POLICIES}{}", sink(dir.path(), "team", &team));
    let server = Server::on(dir, &toml).await;
    let held = server.check(mail("bot", 1)).await;
    let told = team.has(1).await;
    assert_eq!(told[0]["signals"][0]["approval_id"], held["approval_id"]);
    assert_eq!(
        told[0]["signals"][0]["next"],
        format!("checkrein approvals show {}", held["approval_id"].as_str().unwrap())
    );
    // An action that is allowed is no news.
    server.check(json!({"agent": "bot", "action": "read", "resource": "shop.users"})).await;
    let path = format!("/v1/approvals/{}/decision", held["approval_id"].as_str().unwrap());
    assert_eq!(server.post(&path, json!({"decision": "deny"})).await.status, 200);
    let told = team.has(2).await;
    assert_eq!(team.kinds(), ["action.held firing", "approval.denied resolved"]);
    assert_eq!(told[0]["dedup_key"], told[1]["dedup_key"]);
    assert_ne!(told[0]["delivery_id"], told[1]["delivery_id"]);
    assert_eq!(told[1]["signals"][0]["by"], "CHECKREIN_ADMIN_KEY");

    let page = within("both delivered", || async {
        let page = server.get("/v1/signals").await.json();
        let done = |s: &Value| s["deliveries"].as_array().unwrap().iter().all(|d| d["status"] == "delivered");
        page["signals"].as_array().unwrap().iter().all(done).then_some(page)
    })
    .await;
    let kinds: Vec<_> =
        page["signals"].as_array().unwrap().iter().map(|s| s["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["approval.denied", "action.held"], "newest first");
    let metrics = server.get("/metrics").await.body;
    assert!(metrics.contains("checkrein_sink_delivered_total{sink=\"team\"} 2"), "{metrics}");
    // The same page by page, and by what is asked for.
    let first = server.get("/v1/signals?limit=1").await.json();
    let rest =
        server.get(&format!("/v1/signals?cursor={}", first["next_cursor"].as_str().unwrap())).await.json();
    assert_eq!([&first["signals"][0], &rest["signals"][0]], [&page["signals"][0], &page["signals"][1]]);
    for (query, count) in [
        ("kind=approval.*", 1),
        ("severity=warning", 1),
        ("agent=other", 0),
        ("sink=team", 2),
        ("status=dead", 0),
    ] {
        let found = server.get(&format!("/v1/signals?{query}")).await.json();
        assert_eq!(found["signals"].as_array().unwrap().len(), count, "{query}");
    }
    assert_eq!(server.get("/v1/signals?status=lost").await.status, 400);
    let agent = server.key("agent", Some("bot")).await;
    for (method, path) in [
        ("GET", "/v1/signals"),
        ("GET", "/v1/sinks"),
        ("POST", "/v1/sinks/team/test"),
        ("GET", "/v1/silences"),
    ] {
        assert_eq!(server.send(method, path, &agent, "").await.status, 403, "{path}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runaway_agent_is_a_handful_of_messages() {
    let (dir, team) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let toml = format!("{POLICIES}{}", sink(dir.path(), "team", &team));
    let server = Server::on(dir, &toml).await;
    for n in 0..150 {
        server.check(mail("runaway", n)).await;
        server.check(delete("runaway")).await;
    }
    server.check(delete("quiet")).await;
    within("the last is told", || async {
        team.got().iter().any(|m| m["signals"][0]["agent"] == "quiet").then_some(())
    })
    .await;
    let told = team.got().len();
    assert!((3..=8).contains(&told), "{:?}", team.kinds());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_dead_holds_up_nobody_and_gets_all_later() {
    let (dir, team, other) = (tempfile::tempdir().unwrap(), Receiver::start().await, Receiver::start().await);
    team.answers(0);
    let toml = format!(
        "{POLICIES}{}{}",
        sink(dir.path(), "team", &team).replace("20ms", "20ms\"\n timeout = \"200ms"),
        sink(dir.path(), "other", &other)
    );
    let server = Server::on(dir, &toml).await;
    for n in 0..4 {
        server.check(delete(&format!("bot-{n}"))).await;
    }
    // The failure of the one is told to the other; it is over in five attempts of 200 ms.
    let told = other.has(5).await;
    assert_eq!(told[4]["signals"][0]["kind"], "sink.failing", "{told:?}");
    assert_eq!(told[4]["signals"][0]["condition"], "sink/team");
    let sinks = server.get("/v1/sinks").await.json();
    let of =
        |name: &str| sinks["sinks"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap().clone();
    assert_eq!((&of("team")["failing"], &of("other")["failing"]), (&json!(true), &json!(false)), "{sinks}");
    assert_ne!(of("team")["circuit"], "closed");
    assert!(of("team")["last_error"].as_str().unwrap().len() > 5);
    // Over a restart.
    let dir = server.stop().await;
    team.answers(200);
    let server = Server::on(dir, &toml).await;
    let told = team.has(4).await;
    let order: Vec<_> = told.iter().map(|m| m["signals"][0]["agent"].as_str().unwrap()).collect();
    assert_eq!(order, ["bot-0", "bot-1", "bot-2", "bot-3"]);
    let told = other.has(6).await;
    assert_eq!((&told[5]["status"], &told[5]["dedup_key"]), (&json!("resolved"), &told[4]["dedup_key"]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_good_can_be_sent_again() {
    let (dir, team) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    team.answers(400);
    let toml = format!("{POLICIES}{}", sink(dir.path(), "team", &team));
    let server = Server::on(dir, &toml).await;
    server.check(delete("bot")).await;
    let dead = within("a dead letter", || async {
        let page = server.get("/v1/signals?status=dead").await.json();
        page["signals"].as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!(dead["deliveries"][0]["attempts"], 1);
    assert!(dead["deliveries"][0]["error"].as_str().unwrap().contains("400"), "{dead}");
    team.answers(200);
    let path = format!("/v1/signals/{}/replay", dead["id"].as_str().unwrap());
    let replayed = server.post(&path, json!({})).await;
    assert_eq!((replayed.status, &replayed.json()["tried_again"]), (202, &json!(1)));
    let told = team.has(1).await;
    assert_eq!(told[0]["delivery_id"], dead["deliveries"][0]["id"]);
    // One that has arrived goes to where the routes lead, or to a sink that is named.
    within("delivered", || async {
        let page = server.get("/v1/signals?status=delivered").await.json();
        (!page["signals"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    assert_eq!(server.post(&path, json!({"sink": "team"})).await.json()["sent_to"], json!(["team"]));
    let told = team.has(2).await;
    assert_ne!(told[1]["delivery_id"], told[0]["delivery_id"]);
    assert_eq!(told[1]["signals"][0]["id"], dead["id"]);
    assert_eq!(server.post(&path, json!({"sink": "none"})).await.problem(), "not-found");
    assert_eq!(server.post("/v1/signals/sig_999/replay", json!({})).await.problem(), "not-found");
    assert_eq!(server.post("/v1/signals/x/replay", json!({})).await.problem(), "not-found");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_has_an_owner_and_an_end_and_is_on_record() {
    let (dir, team) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let toml = format!("{POLICIES}{}", sink(dir.path(), "team", &team));
    let server = Server::on(dir, &toml).await;
    let time = |seconds: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let at = now.cast_signed() + seconds;
        checkrein_core::time::Timestamp::from_micros(at * 1_000_000).to_string()
    };
    let silence = |seconds, comment: &str| json!({"matcher": {"agent": "bot"}, "until": time(seconds), "comment": comment});
    for bad in [
        silence(-1, "x"),
        silence(40 * 86_400, "x"),
        silence(60, " "),
        json!({"until": time(60), "comment": "x", "owner": "me"}),
    ] {
        assert_eq!(server.post("/v1/silences", bad).await.status, 400);
    }
    let operator = server.key("operator", None).await;
    let made = server.send("POST", "/v1/silences", &operator, &silence(3600, "migration").to_string()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    assert_eq!(made["owner"], "test operator");
    server.check(delete("bot")).await;
    let held = server.check(mail("bot", 1)).await;
    server.check(delete("other")).await;
    let told = team.has(1).await;
    assert_eq!(told[0]["signals"][0]["agent"], "other", "the silenced one came first");
    // Over a restart.
    let dir = server.stop().await;
    let server = Server::on(dir, &toml).await;
    assert_eq!(server.get("/v1/silences").await.json()["silences"][0]["id"], made["id"]);
    let path = format!("/v1/silences/{}", made["id"].as_str().unwrap());
    assert_eq!(server.send("DELETE", &path, &operator, "").await.status, 204);
    assert_eq!(server.send("DELETE", &path, &operator, "").await.problem(), "not-found");
    // What still waits for an answer is told now.
    let told = team.has(2).await;
    assert_eq!(told[1]["signals"][0]["approval_id"], held["approval_id"], "{:?}", team.kinds());
    assert_eq!(server.get("/v1/silences").await.json()["silences"], json!([]));
    let entries = server.app.store().entries(0, 100, checkrein_store::EntryFilter::default()).await.unwrap();
    let kinds: Vec<_> =
        entries.iter().map(|e| e.kind.as_str()).filter(|k| k.starts_with("silence")).collect();
    assert_eq!(kinds, ["silence.created", "silence.ended"]);
    let dir = server.stop().await;
    checkrein_store::Reader::open(&dir.path().join("data")).unwrap().verify(None, |_| {}).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_and_routes_change_while_it_runs() {
    let (dir, one, two) = (tempfile::tempdir().unwrap(), Receiver::start().await, Receiver::start().await);
    let both = format!("{}{}", sink(dir.path(), "one", &one), sink(dir.path(), "two", &two));
    let route =
        |to: &str| format!("{POLICIES}{both}\n[[routes]]\nkinds = [\"action.*\"]\nsinks = [\"{to}\"]\n");
    let server = Server::on(dir, &route("one")).await;
    server.check(delete("first")).await;
    one.has(1).await;
    server.app.reload(&config(server.dir.path(), &route("two"))).await.unwrap();
    server.check(delete("second")).await;
    two.has(1).await;
    assert_eq!((one.got().len(), two.got().len()), (1, 1));

    let report = server.post("/v1/sinks/one/test", json!({})).await.json();
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(one.got().len(), 1 + report["examples"].as_array().unwrap().len());
    one.answers(500);
    let report = server.post("/v1/sinks/one/test", json!({})).await.json();
    assert_eq!((&report["ok"], report["examples"].as_array().unwrap().len()), (&json!(false), 1), "{report}");
    assert!(report["examples"][0]["error"].as_str().unwrap().contains("500"), "{report}");
    assert_eq!(server.post("/v1/sinks/none/test", json!({})).await.problem(), "not-found");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_that_is_taken_out_of_the_configuration_is_over() {
    let (dir, team) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let open = format!("{POLICIES}{}", sink(dir.path(), "team", &team));
    let silent =
        format!("{open}\n[[silences]]\nowner = \"eve\"\nuntil = \"2100-01-01T00:00:00Z\"\nagent = \"bot\"\n");
    let server = Server::on(dir, &silent).await;
    server.check(delete("bot")).await;
    server.check(delete("other")).await;
    assert_eq!(team.has(1).await[0]["signals"][0]["agent"], "other");
    server.app.reload(&config(server.dir.path(), &open)).await.unwrap();
    server.check(delete("bot")).await;
    assert_eq!(team.has(2).await[1]["signals"][0]["agent"], "bot");
    server.stop().await;
}

#[test]
fn what_cannot_be_understood_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let load = |toml: &str| {
        let file = dir.path().join("checkrein.toml");
        std::fs::write(&file, toml).unwrap();
        std::fs::write(dir.path().join("key"), "0123456789abcdef0123456789abcdef").unwrap();
        let overrides = checkrein_server::config::Overrides { config: Some(file), ..Default::default() };
        checkrein_server::config::Config::load(&overrides, &|_| None)
    };
    let pager = "[sinks.oncall]\nkind = \"pagerduty\"\nrouting_key = { file = \"key\" }\n";
    let good = load(&format!("{pager}[[routes]]\nsinks = [\"oncall\"]\n")).unwrap();
    assert_eq!((good.sinks.len(), good.routing.routes.len()), (1, 1));
    for (toml, cause) in [
        ("[sinks.x]\n".to_owned(), "kind"),
        ("[sinks.x]\nkind = \"pager\"\n".to_owned(), "no kind of sink"),
        ("[sinks.X]\nkind = \"slack\"\n".to_owned(), "a-z"),
        ("[sinks.x]\nkind = \"slack\"\n".to_owned(), "webhook_url"),
        (
            "[sinks.x]\nkind = \"slack\"\nwebhook_url = \"https://hooks.slack.com/services/T/B/x\"\n"
                .to_owned(),
            "env",
        ),
        ("[sinks.x]\nkind = \"pagerduty\"\n".to_owned(), "routing_key"),
        (format!("{pager}routing_keys = 1\n"), "did you mean `routing_key`"),
        (format!("{pager}feed = \"actions\"\n"), "signals only"),
        (format!("{pager}concurrency = 0\n"), "1 to 64"),
        (format!("{pager}[[routes]]\nsinks = [\"none\"]\n"), "there is no [sinks.none]"),
        (format!("{pager}[[routes]]\nkinds = [\"x\"]\n"), "name the sinks"),
        (format!("{pager}[[routes]]\nsinks = [\"oncall\"]\nkind = [\"x\"]\n"), "did you mean `kinds`"),
        (format!("{pager}[[routes]]\nsinks = [\"oncall\"]\nseverity_at_least = \"bad\"\n"), "info, notice"),
        ("[[silences]]\nuntil = \"2026-01-01T00:00:00Z\"\n".to_owned(), "owner"),
        ("[[silences]]\nowner = \"a\"\n".to_owned(), "until"),
        ("[[silences]]\nowner = \"a\"\nfrom = \"25:00\"\nto = \"06:00\"\n".to_owned(), "time of day"),
        (
            "[[silences]]\nowner = \"a\"\ndays = [\"monday\"]\nfrom = \"20:00\"\nto = \"06:00\"\n".to_owned(),
            "no day",
        ),
        ("[outbox]\nkeep_dead = 5\n".to_owned(), "keep_dead"),
    ] {
        let error = load(&toml).unwrap_err().to_string();
        assert!(error.contains(cause), "{toml}: {error}");
    }
}
