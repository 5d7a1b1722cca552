//! A database, and the process that is killed.

use crate::database::{Database, Kind};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const ADMIN: &str = "ck_admin_0123456789abcdef0123456789abcdef";
const BINARY: &str = env!("CARGO_BIN_EXE_checkrein");
/// Within which everything must be settled.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Answer = Option<(u16, Value)>;

pub(crate) struct Shop {
    pub(crate) database: Database,
    dir: tempfile::TempDir,
    server: Option<(Child, SocketAddr)>,
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shop {
    /// With Checkrein running.
    pub(crate) fn open(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::new(kind, dir.path());
        std::fs::write(dir.path().join("checkrein.toml"), database.config()).unwrap();
        let mut shop = Self { database, dir, server: None };
        shop.start();
        shop
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn start(&mut self) {
        let mut child = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(self.data())
            .arg("--config")
            .arg(self.dir.path().join("checkrein.toml"))
            .env("CHECKREIN_ADMIN_KEY", ADMIN)
            .env("SHOP_URL", self.database.url())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split(|c: char| c == ',' || c.is_whitespace()).next()?.parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("no address in `{line}`"));
        self.server = Some((child, addr));
    }

    pub(crate) fn kill(&mut self) {
        if let Some((mut child, _)) = self.server.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.server.as_ref().unwrap().1, "POST", path, &body.to_string())
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Answer {
        send(self.server.as_ref().unwrap().1, "PUT", path, &body.to_string())
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        send(self.server.as_ref().unwrap().1, "GET", path, "").unwrap().1
    }

    /// Asks from another thread.
    pub(crate) fn asking(&self, path: &str, body: Value) -> JoinHandle<Answer> {
        self.asking_as(ADMIN, path, body)
    }

    /// The same with somebody's key.
    pub(crate) fn asking_as(&self, key: &str, path: &str, body: Value) -> JoinHandle<Answer> {
        let (addr, key, path) = (self.server.as_ref().unwrap().1, key.to_owned(), path.to_owned());
        thread::spawn(move || answer(&raw(addr, &key, "POST", &path, &body.to_string())?))
    }

    /// Kills the server `after` it was asked, and gives the answer, if one came.
    pub(crate) fn post_and_kill(&mut self, path: &str, body: Value, after: Duration) -> Answer {
        let asking = self.asking(path, body);
        thread::sleep(after);
        self.kill();
        asking.join().unwrap()
    }

    pub(crate) fn update(&self, n: u64) -> Value {
        let statement = format!("UPDATE t SET n = {}", self.database.param());
        json!({"target": "shop", "statement": statement, "params": [n], "idempotency_key": format!("k{n}")})
    }

    /// All executions on record, oldest first.
    pub(crate) fn checks(&self) -> Vec<Value> {
        let mut checks = self.get("/v1/checks?limit=500")["checks"].as_array().unwrap().clone();
        checks.reverse();
        checks
    }

    /// All executions on record, oldest first, once each has its outcome.
    pub(crate) fn settled(&self) -> Vec<Value> {
        let all = || Some(self.checks()).filter(|all| all.iter().all(|c| c.get("outcome").is_some()));
        until("never settled", all)
    }

    /// How the last rollback of a snapshot ended, once that is known; null when there was none.
    pub(crate) fn rolled_back(&self, snapshot: &Value) -> Value {
        let ended = || Some(self.rollback_of(snapshot)).filter(|state| state != "running");
        until("the rollback never settled", ended)
    }

    pub(crate) fn rollback_of(&self, snapshot: &Value) -> Value {
        self.get(&format!("/v1/snapshots/{}", text(snapshot)))["rollback"]["state"].clone()
    }

    /// Waits until the server has looked what became of things, and could not tell yet.
    pub(crate) fn in_doubt(&self) {
        let asked = || {
            let metrics = text_of(self.server.as_ref().unwrap().1, "/metrics");
            metrics.lines().any(|line| line == "checkrein_unsettled 1").then_some(())
        };
        until("nothing was ever in doubt", asked);
    }

    pub(crate) fn has_file(&self, snapshot: &Value) -> bool {
        self.data().join(format!("snapshots/{}.1.snapshot", text(snapshot))).exists()
    }

    /// The files in the folder are those of the snapshots that are there, and the log is whole.
    pub(crate) fn consistent(&self) {
        let page = self.get("/v1/snapshots?state=live&limit=500");
        let live = page["snapshots"].as_array().unwrap().iter();
        let mut expected: Vec<String> = live.map(|s| format!("{}.1.snapshot", text(&s["id"]))).collect();
        let mut found: Vec<String> = std::fs::read_dir(self.data().join("snapshots"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        let verify =
            Command::new(BINARY).args(["log", "verify", "--data"]).arg(self.data()).output().unwrap();
        assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    }
}

/// What `look` finds, as soon as it finds something.
fn until<T>(otherwise: &str, look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{otherwise}");
        thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

pub(crate) fn rollback(snapshot: &Value) -> String {
    format!("/v1/snapshots/{}/rollback", text(snapshot))
}

fn send(addr: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    answer(&raw(addr, ADMIN, method, path, body)?)
}

fn answer(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
}

fn text_of(addr: SocketAddr, path: &str) -> String {
    raw(addr, ADMIN, "GET", path, "").unwrap()
}

fn raw(addr: SocketAddr, key: &str, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(addr).ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
