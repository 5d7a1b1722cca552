//! Killed while it delivers signals: each arrives, and is repeated at most as often as docs/signals.md says.

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

const ADMIN: &str = "ck_admin_0123456789abcdef0123456789abcdef";
const KILLS: u64 = 100;

/// A receiver that takes its time, so that many kills meet a message on its way.
struct Receiver {
    addr: SocketAddr,
    got: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&got);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let got = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &got));
            }
        });
        Self { addr, got }
    }

    fn got(&self) -> Vec<(String, Value)> {
        self.got.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, got: &Mutex<Vec<(String, Value)>>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let (mut id, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            match name.to_ascii_lowercase().as_str() {
                "webhook-id" => id = value.trim().to_owned(),
                "content-length" => length = value.trim().parse().unwrap(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        // Seen now; a sender that is killed before the answer does not know.
        let count = {
            let mut got = got.lock().unwrap();
            got.push((id, serde_json::from_slice(&body).unwrap()));
            got.len()
        };
        thread::sleep(Duration::from_millis(count as u64 % 4 * 8));
        if writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(dir: &std::path::Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_checkrein"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(dir.join("data"))
            .arg("--config")
            .arg(dir.join("checkrein.toml"))
            .env("CHECKREIN_ADMIN_KEY", ADMIN)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.split("http://").nth(1).unwrap();
        let addr = addr.split(|c: char| c == ',' || c.is_whitespace()).next().unwrap().parse().unwrap();
        Self { child, addr }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.addr).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[test]
fn every_signal_arrives_and_few_twice() {
    let receiver = Receiver::start();
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    std::fs::write(dir.path().join("url"), format!("http://{}/", receiver.addr)).unwrap();
    std::fs::write(
        dir.path().join("checkrein.toml"),
        r#"
        [[policies]]
        name = "nothing_is_deleted"
        rule = "block"
        condition = { action = "delete" }
        [sinks.team]
        kind = "webhook"
        url = { file = "url" }
        secret = { file = "secret" }
        allow_private = true
        first_pause = "50ms"
        [[routes]]
        sinks = ["team"]
        burst = 1000
        "#,
    )
    .unwrap();
    let mut answered = BTreeSet::new();
    let mut random = 7_u64;
    for round in 0..KILLS {
        let server = Server::start(dir.path());
        for n in 0..4 {
            // Each agent is a condition of its own, and so a message of its own.
            let body =
                json!({"agent": format!("bot-{round}-{n}"), "action": "delete", "resource": "shop.users"});
            if let Some(answer) = server.ask("POST", "/v1/checks", &body.to_string()) {
                assert_eq!(answer["verdict"], "block", "{answer}");
                answered.insert(answer["id"].as_str().unwrap().to_owned());
            }
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        thread::sleep(Duration::from_millis((random >> 33) % 110));
        drop(server);
    }
    assert_eq!(answered.len() as u64, KILLS * 4, "checks were answered before each kill");
    let server = Server::start(dir.path());
    let seen = || -> BTreeSet<String> {
        let of = |(_, body): (String, Value)| {
            let signals = body["data"]["signals"].as_array().or(body["signals"].as_array()).unwrap().clone();
            signals.into_iter().map(|s| s["check_id"].as_str().unwrap().to_owned())
        };
        receiver.got().into_iter().flat_map(of).collect()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while seen().len() < answered.len() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    let lost: Vec<_> = answered.difference(&seen()).cloned().collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let mut copies: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (id, body) in receiver.got() {
        copies.entry(id).or_default().push(body);
    }
    let repeats: usize = copies.values().map(|all| all.len() - 1).sum();
    let most = copies.values().map(Vec::len).max().unwrap_or_default();
    println!("{} messages, {repeats} repeats in {KILLS} kills; one arrived {most} times", copies.len());
    // One message is on its way at a time: that one is what a kill can repeat.
    assert!(repeats as u64 <= KILLS, "{repeats} repeats");
    assert!(repeats > 0, "no kill met a message on its way: this test looks at nothing");
    for (id, all) in &copies {
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{id} is not the same again: {all:?}");
    }
    let of_one: BTreeSet<_> = copies
        .values()
        .map(|all| all[0]["data"]["signals"][0]["id"].clone())
        .map(|id| id.to_string())
        .collect();
    assert_eq!(of_one.len(), copies.len(), "a signal was told in two messages");
    let conditions: BTreeSet<_> = copies.keys().map(|id| id.rsplit_once('-').unwrap().0).collect();
    assert_eq!(conditions.len(), answered.len(), "one key a condition, whatever was killed");
    // The receiver has the last message a moment before the store knows that it was taken.
    let queued = || server.ask("GET", "/v1/signals?status=queued", "").unwrap();
    while queued()["signals"] != json!([]) {
        assert!(Instant::now() < deadline, "still queued: {}", queued());
        thread::sleep(Duration::from_millis(20));
    }
}
