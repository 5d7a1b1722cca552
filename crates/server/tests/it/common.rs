//! A real server on a free port, in this process, with its data in a temporary folder.

use checkrein_server::{app::App, config::Config, http};
use serde_json::{Value, json};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub(crate) const ADMIN: &str = "ck_admin_0123456789abcdef0123456789abcdef";

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) app: Arc<App>,
    pub(crate) dir: tempfile::TempDir,
    tasks: Vec<JoinHandle<()>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The word of the problem's type, after checking that the document is whole.
    pub(crate) fn problem(&self) -> String {
        let doc = self.json();
        assert_eq!(doc["status"], self.status, "{self:?}");
        assert!(self.headers.contains("application/problem+json"), "{self:?}");
        assert!(self.headers.contains(doc["request_id"].as_str().unwrap()), "{self:?}");
        assert!(!doc["detail"].as_str().unwrap().is_empty());
        doc["type"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    }
}

pub(crate) fn config(dir: &Path, toml: &str) -> Config {
    let file = dir.join("checkrein.toml");
    std::fs::write(&file, format!("{toml}\n")).unwrap();
    let overrides = checkrein_server::config::Overrides {
        config: Some(file),
        data: Some(dir.join("data")),
        ..Default::default()
    };
    let env = |name: &str| (name == "CHECKREIN_ADMIN_KEY").then(|| ADMIN.to_owned());
    Config::load(&overrides, &env).unwrap_or_else(|e| panic!("{e}"))
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    pub(crate) async fn with(toml: &str) -> Self {
        Self::on(tempfile::tempdir().unwrap(), toml).await
    }

    pub(crate) async fn on(dir: tempfile::TempDir, toml: &str) -> Self {
        Self::build(dir, toml, 1000, Duration::from_secs(5)).await
    }

    /// With room for so many connections.
    pub(crate) async fn with_places(toml: &str, places: usize) -> Self {
        Self::build(tempfile::tempdir().unwrap(), toml, places, Duration::from_secs(5)).await
    }

    /// Its store gives up waiting after `timeout`.
    pub(crate) async fn impatient(timeout: Duration) -> Self {
        Self::build(tempfile::tempdir().unwrap(), "", 1000, timeout).await
    }

    async fn build(dir: tempfile::TempDir, toml: &str, places: usize, timeout: Duration) -> Self {
        let config = config(dir.path(), toml);
        let options = checkrein_store::Options { timeout, ..checkrein_store::Options::new(&config.data) };
        let store = checkrein_store::Store::open(options).unwrap();
        let app = Arc::new(App::on(store, &config).await.unwrap_or_else(|e| panic!("{e}: {e:?}")));
        app.ensure_admin_key(Some(ADMIN)).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let tasks = vec![
            tokio::spawn(http::serve(listener, None, Arc::clone(&app), places)),
            tokio::spawn(Arc::clone(&app).upkeep()),
        ];
        Self { addr, app, dir, tasks }
    }

    /// Stops in an orderly way and gives the folder back, to start again on it.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.app.stop_waiting();
        for task in self.tasks {
            task.await.unwrap();
        }
        self.app.close().await;
        self.dir
    }

    pub(crate) async fn send(&self, method: &str, path: &str, key: &str, body: &str) -> Reply {
        let auth = if key.is_empty() { String::new() } else { format!("authorization: Bearer {key}\r\n") };
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{auth}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.raw(text.as_bytes()).await
    }

    pub(crate) async fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        // The server may answer and close before it has read everything.
        let _partly = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _closed = tokio::time::timeout(Duration::from_secs(30), read).await.expect("an answer in 30 s");
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (headers, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = headers.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let body = if headers.to_lowercase().contains("transfer-encoding: chunked") {
            unchunk(body)
        } else {
            body.to_owned()
        };
        Reply { status, headers: headers.to_owned(), body }
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, ADMIN, &body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, ADMIN, "").await
    }

    pub(crate) async fn check(&self, body: Value) -> Value {
        let reply = self.post("/v1/checks", body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    pub(crate) async fn policy(&self, policy: Value) {
        let reply = self.post("/v1/policies", policy).await;
        assert_eq!(reply.status, 201, "{reply:?}");
    }

    pub(crate) async fn key(&self, role: &str, agent: Option<&str>) -> String {
        let reply = self
            .post("/v1/keys", json!({"role": role, "name": format!("test {role}"), "agent": agent}))
            .await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()["key"].as_str().unwrap().to_owned()
    }
}

fn unchunk(body: &str) -> String {
    let (mut rest, mut out) = (body, String::new());
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some((chunk, tail)) = tail.split_at_checked(size).filter(|_| size > 0) else { break };
        out.push_str(chunk);
        rest = tail.trim_start_matches("\r\n");
    }
    out
}
