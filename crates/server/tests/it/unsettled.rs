//! Commits that nobody answered, and what becomes of them: on real servers, behind a proxy that loses what
//! it is told to lose.

use super::{common::Server, databases};
use checkrein_testbed::servers::{
    mariadb::{self, Mariadb},
    postgres::Postgres,
    proxy::{Proxy, Stuck},
};
use mysql_async::prelude::Queryable as _;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

const UPDATE: &str = "UPDATE users SET country = 'FR' WHERE country = 'DE'";

/// The shop behind a proxy.
struct Far {
    server: Server,
    proxy: Proxy,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

/// Looks until something is found.
async fn until<T>(otherwise: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{otherwise}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Far {
    async fn postgres() -> Self {
        let database = Postgres::shared();
        let url = database.database().unwrap();
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(databases::SHOP).await.unwrap();
        Self::at("postgres", &url, database.port()).await
    }

    async fn mariadb() -> Self {
        let database = Mariadb::shared();
        let url = database.url(mariadb::SUPERUSER, &database.name());
        let mut client =
            mysql_async::Conn::from_url(database.url(mariadb::SUPERUSER, "mysql")).await.unwrap();
        let name = url.rsplit('/').next().unwrap();
        client.query_drop(format!("CREATE DATABASE {name}")).await.unwrap();
        client.query_drop(format!("USE {name}")).await.unwrap();
        for statement in databases::SHOP.split(';').filter(|s| !s.trim().is_empty()) {
            client.query_drop(statement).await.unwrap();
        }
        Self::at("mysql", &url, database.port()).await
    }

    async fn at(kind: &str, url: &str, port: u16) -> Self {
        let proxy = Proxy::to(port).unwrap();
        let url = url.replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
        Self { server: databases::server(kind, &url).await, proxy }
    }

    async fn stuck(&self) {
        until("no COMMIT was sent", async || self.proxy.is_stuck_now().then_some(())).await;
    }

    /// How many users live in France.
    async fn french(&self) -> u64 {
        let run = self.server.execute("SELECT id FROM users WHERE country = 'FR'").await;
        run["rows"].as_array().unwrap().len().try_into().unwrap()
    }

    async fn settled(&self, check_id: &str) -> Value {
        until("never settled", async || Some(self.server.outcome(check_id).await).filter(|o| !o.is_null()))
            .await
    }

    /// What a broken connection leaves of an execution.
    async fn execution(&self, stuck: Stuck) {
        let body = json!({"statement": UPDATE, "idempotency_key": format!("{stuck:?}")});
        self.proxy.catch(stuck);
        let cut = async {
            self.stuck().await;
            // For a while nobody can ask what became of it either.
            self.proxy.block(true);
        };
        let (reply, ()) = tokio::join!(self.server.try_execute(body.clone()), cut);
        assert_eq!((reply.status, reply.problem().as_str()), (503, "execution-unknown"), "{reply:?}");
        let id = text(&reply.json()["check_id"]).to_owned();
        assert!(reply.json()["detail"].as_str().unwrap().contains("Do not send it again"), "{reply:?}");
        until("it is not known to be open", async || {
            let metrics = self.server.get("/metrics").await.body;
            metrics.lines().any(|line| line == "checkrein_unsettled 1").then_some(())
        })
        .await;
        assert_eq!(self.server.outcome(&id).await, Value::Null, "{stuck:?}: nobody can know yet");
        let again = self.server.try_execute(body.clone()).await;
        assert_eq!(again.problem(), "execution-unknown", "{again:?}");
        let snapshot = self.server.get(&format!("/v1/checks/{id}")).await.json()["snapshot_id"].clone();
        let snapshot = format!("/v1/snapshots/{}", text(&snapshot));
        assert_eq!(self.server.get(&snapshot).await.json()["state"], "live", "{stuck:?}");
        let early = self.server.post(&format!("{snapshot}/rollback"), json!({})).await;
        assert_eq!(early.status, 409, "what may not have happened is not undone: {early:?}");

        self.proxy.block(false);
        let outcome = self.settled(&id).await;
        let (status, french) = if stuck == Stuck::After { ("ok", 2) } else { ("error", 0) };
        assert_eq!((&outcome["status"], self.french().await), (&json!(status), french), "{outcome}");
        let again = self.server.try_execute(body).await;
        assert_eq!(again.status, if status == "ok" { 200 } else { 422 }, "{again:?}");
        assert_eq!(self.french().await, french, "ran twice");
        if status == "ok" {
            let done = self.server.post(&format!("{snapshot}/rollback"), json!({})).await.json();
            assert_eq!((&done["status"], self.french().await), (&json!("done"), 0), "{done}");
        }
    }

    /// What it leaves of a rollback.
    async fn rollback(&self, stuck: Stuck) {
        let run = self.server.execute(UPDATE).await;
        let snapshot = text(&run["snapshot_id"]);
        self.proxy.catch(stuck);
        let cut = async {
            self.stuck().await;
            self.proxy.cut();
        };
        let (reply, ()) = tokio::join!(self.server.rollback(snapshot, json!({})), cut);
        assert_eq!((reply.status, reply.problem().as_str()), (503, "rollback-unknown"), "{reply:?}");
        let standing = until("the rollback never settled", async || {
            let shown = self.server.get(&format!("/v1/snapshots/{snapshot}")).await.json();
            Some(shown["rollback"]["state"].clone()).filter(|state| state != "running")
        })
        .await;
        let (expected, french) = if stuck == Stuck::After { ("done", 0) } else { ("not_done", 2) };
        assert_eq!((standing, self.french().await), (json!(expected), french), "{stuck:?}");
        let done = self.server.rollback(snapshot, json!({})).await.json();
        let expected = if stuck == Stuck::After { "nothing" } else { "done" };
        assert_eq!((&done["status"], self.french().await), (&json!(expected), 0), "{done}");
    }

    async fn broken(self) {
        for stuck in Stuck::BOTH {
            self.execution(stuck).await;
            self.rollback(stuck).await;
        }
        self.server.stop_and_verify().await;
    }

    /// The client leaves while its COMMIT is on the way: it is committed and recorded all the same.
    async fn left(self) {
        self.proxy.catch(Stuck::Before);
        let client = leave_after(&self.server, UPDATE).await;
        self.stuck().await;
        drop(client);
        // The server has noticed by the time that it has answered others.
        for _ in 0..3 {
            assert_eq!(self.french().await, 0);
        }
        self.proxy.deliver().unwrap();
        let check = self.last_check().await;
        let outcome = self.settled(text(&check["id"])).await;
        assert_eq!(outcome, json!({"status": "ok", "records": 2}));
        assert_eq!(self.french().await, 2);
        let done = self.server.rollback(text(&check["snapshot_id"]), json!({})).await.json();
        assert_eq!((&done["status"], self.french().await), (&json!("done"), 0), "{done}");
        self.server.stop_and_verify().await;
    }

    async fn last_check(&self) -> Value {
        let page = self.server.get("/v1/checks?limit=20").await.json();
        let checks = page["checks"].as_array().unwrap();
        checks.iter().find(|c| c["category"] != "read").cloned().unwrap_or_default()
    }
}

/// Sends an execution and does not wait for the answer.
async fn leave_after(server: &Server, sql: &str) -> TcpStream {
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    let body = json!({"target": "shop", "statement": sql}).to_string();
    let head = format!(
        "POST /v1/executions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
        super::common::ADMIN,
        body.len()
    );
    client.write_all((head + &body).as_bytes()).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_in_the_commit_on_postgresql() {
    Far::postgres().await.broken().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_in_the_commit_on_mariadb() {
    Far::mariadb().await.broken().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_in_the_commit_on_postgresql() {
    Far::postgres().await.left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_in_the_commit_on_mariadb() {
    Far::mariadb().await.left().await;
}

/// One that leaves before anything is on record takes it back; one that leaves a read is answered on record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_its_statement_runs() {
    let far = Far::postgres().await;
    far.server.execute("SELECT 1").await;
    let running = async |what: &str| {
        let sql = format!(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{what}%' AND pid <> pg_backend_pid()"
        );
        far.server.execute(&sql).await["rows"][0]["n"].to_string().trim_matches('"') != "0"
    };
    let client =
        leave_after(&far.server, "UPDATE users SET country = 'XX' WHERE pg_sleep(30) IS NOT NULL /* left */")
            .await;
    until("it never ran", async || running("/* left").await.then_some(())).await;
    drop(client);
    until("it runs on", async || (!running("/* left").await).then_some(())).await;
    assert_eq!(far.last_check().await, Value::Null, "nothing is on record of what never was");
    // No lock is left, and nothing was changed.
    assert_eq!(far.server.execute(UPDATE).await["affected"], 2);

    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000) \
                SELECT max(i) FROM n /* read on */";
    let client = leave_after(&far.server, slow).await;
    until("it never ran", async || running("/* read on").await.then_some(())).await;
    drop(client);
    let check = until("it is not on record", async || {
        let page = far.server.get("/v1/checks?limit=100").await.json();
        let mine =
            |c: &&Value| c["check"]["statement"].as_str().is_some_and(|s| s.ends_with("/* read on */"));
        page["checks"].as_array().unwrap().iter().find(mine).cloned()
    })
    .await;
    assert_eq!(far.settled(text(&check["id"])).await["status"], "ok", "{check}");
    far.server.stop_and_verify().await;
}

/// More than are read at a time are settled in one go, and one target that does not answer keeps no other
/// waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_not_settled_is_asked_about() {
    use checkrein_core::event::Event;
    let far = Far::postgres().await;
    let done = far.server.execute(UPDATE).await;
    let store = far.server.app.store();
    let row = store.check(text(&done["id"])).await.unwrap().unwrap();
    let far_away = Proxy::to(1).unwrap();
    let record = async |i: u32, target: &str| {
        let mut checked = row.checked.clone();
        checked.decision.id = format!("chk_{target}_{i}");
        checked.check.idempotency_key = None;
        checked.decision.snapshot_id = None;
        let execution = checked.execution.as_mut().unwrap();
        (execution.target, execution.snapshot_id) = (target.to_owned(), None);
        let id = checked.decision.id.clone();
        store.append(vec![Event::Check(Box::new(checked))], row.at).await.unwrap();
        id
    };
    for i in 0..150 {
        record(i, "silent").await;
    }
    let mut last = String::new();
    for i in 0..150 {
        last = record(i, "shop").await;
    }
    let dir = far.server.stop().await;
    let toml = std::fs::read_to_string(dir.path().join("checkrein.toml")).unwrap();
    std::fs::write(dir.path().join("silent.url"), format!("postgres://x@127.0.0.1:{}/x", far_away.port()))
        .unwrap();
    let silent =
        "[targets.silent]\nkind = 'postgres'\nurl = { file = 'silent.url' }\nenvironment = 'staging'\n";
    let server = Server::on(dir, &format!("{toml}\n{silent}")).await;
    let began = Instant::now();
    let outcome =
        until("never settled", async || Some(server.outcome(&last).await).filter(|o| !o.is_null())).await;
    assert_eq!(outcome["status"], "ok", "the transaction that it names took place");
    until("the others are still open", async || {
        let metrics = server.get("/metrics").await.body;
        metrics.lines().any(|line| line == "checkrein_unsettled 150").then_some(())
    })
    .await;
    println!("settled after {:?}", began.elapsed());
    server.stop_and_verify().await;
}
