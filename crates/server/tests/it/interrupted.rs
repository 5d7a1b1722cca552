//! Clients that leave too early, a store that cannot be written, and a stop while everything is taken.

use super::common::{ADMIN, Server};
use serde_json::json;
use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// Another program that holds the database's write lock, as a person with an SQLite shell would.
struct WriteLock(Child);

impl WriteLock {
    fn hold(server: &Server) -> Self {
        let script = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.read()";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(server.dir.path().join("data/checkrein.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n");
        Self(child)
    }

    fn release(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_on_record_is_in_force_though_the_client_left() {
    let server = Server::start().await;
    let lock = WriteLock::hold(&server);
    let body = json!({"name": "no_deletes", "rule": "block", "condition": {"action": "delete"}}).to_string();
    let mut client = TcpStream::connect(server.addr).await.unwrap();
    let head = format!(
        "POST /v1/policies HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write_all((head + &body).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(client);
    tokio::time::sleep(Duration::from_millis(200)).await;
    lock.release();
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.app.store().policies().await.unwrap().is_empty() {
        assert!(Instant::now() < deadline, "the policy should come on record");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.check(json!({"action": "delete", "resource": "x"})).await["verdict"], "block");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_could_not_be_recorded_can_be_repeated() {
    let server = Server::start().await;
    let made = server.post("/v1/keys", json!({"role": "operator", "name": "leaked"})).await.json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let path = format!("/v1/keys/{id}");

    let lock = WriteLock::hold(&server);
    let failed = server.send("DELETE", &path, ADMIN, "").await;
    assert_eq!(failed.problem(), "not-recorded");
    lock.release();
    assert_eq!(server.send("GET", "/v1/policies", key, "").await.status, 401, "dead at once all the same");

    assert_eq!(server.send("DELETE", &path, ADMIN, "").await.status, 204);
    assert_eq!(server.send("DELETE", &path, ADMIN, "").await.problem(), "not-found");
    let again = Server::on(server.stop().await, "").await;
    assert_eq!(again.send("GET", "/v1/policies", key, "").await.status, 401, "and after a restart");
}

#[tokio::test]
async fn stops_though_every_place_is_taken() {
    let server = Server::with_places("", 2).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(TcpStream::connect(server.addr).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stopped = tokio::time::timeout(Duration::from_secs(60), server.stop()).await;
    assert!(stopped.is_ok(), "the stop waits for a place");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_waited_for_as_long_as_configured() {
    let server = Server::with("[limits]\nrequest_timeout = \"200ms\"").await;
    let started = Instant::now();
    let head = format!(
        "POST /v1/checks HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {ADMIN}\r\ncontent-length: 50\r\n\r\n{{"
    );
    assert_eq!(server.raw(head.as_bytes()).await.problem(), "body-broken-off");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test]
async fn counts_the_policies_in_force_from_the_start() {
    let policies = "[[policies]]\nname = \"a\"\nrule = \"block\"\ncondition = { action = \"delete\" }";
    let server = Server::with(policies).await;
    let text = server.get("/metrics").await.body;
    assert!(text.contains("\ncheckrein_policies 1\n"), "{text}");
}

#[tokio::test]
async fn a_path_that_is_no_text_gets_a_problem_document() {
    let server = Server::start().await;
    for path in ["/v1/checks/%FF", "/v1/policies/%FF", "/v1/approvals/%FF"] {
        let reply = server.get(path).await;
        assert_eq!((reply.status, reply.problem().as_str()), (400, "invalid-request"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_change_in_doubt_is_settled_by_what_is_on_record() {
    let server = Server::impatient(Duration::from_millis(300)).await;
    let lock = WriteLock::hold(&server);
    let policy = json!({"name": "no_deletes", "rule": "block", "condition": {"action": "delete"}});
    // The store does not answer in time; the commit still happens, once it can.
    let doubtful = server.post("/v1/policies", policy).await;
    lock.release();
    assert_eq!(doubtful.problem(), "not-recorded");
    assert!(doubtful.body.contains("unknown whether"), "{doubtful:?}");
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.check(json!({"action": "delete", "resource": "x"})).await["verdict"] != "block" {
        assert!(Instant::now() < deadline, "the policy is on record and should come into force");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
