//! A real Checkrein server, and a gateway in front of a command.

use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const ADMIN: &str = "ck_admin_0123456789abcdef0123456789abcdef";
const BINARY: &str = env!("CARGO_BIN_EXE_checkrein");
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with a key for the agent `bot`. Killed when it goes out of scope.
pub(crate) struct Server {
    child: Child,
    pub(crate) dir: TempDir,
    pub(crate) url: String,
    key: String,
}

impl Server {
    pub(crate) fn start(policies: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = command(&[])
            .args(["serve", "--listen", "127.0.0.1:0", "--json", "--data"])
            .arg(dir.path().join("data"))
            .env("CHECKREIN_ADMIN_KEY", ADMIN)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let url = ready["listening"].as_str().unwrap().to_owned();
        let mut server = Self { child, dir, url, key: String::new() };
        let file = server.dir.path().join("policies.json");
        fs::write(&file, json!({"policies": policies}).to_string()).unwrap();
        server.admin(&["policy", "apply", file.to_str().unwrap()]);
        let made = server.admin(&["keys", "create", "--role", "agent", "--name", "bot", "--agent", "bot"]);
        server.key = made["key"].as_str().unwrap().to_owned();
        server
    }

    /// What a command prints, as the admin.
    pub(crate) fn admin(&self, args: &[&str]) -> Value {
        let ran = command(&[("CHECKREIN_URL", &self.url), ("CHECKREIN_API_KEY", ADMIN)])
            .args(args)
            .arg("--json")
            .env("CHECKREIN_DATA", self.dir.path().join("data"))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice(&ran.stdout).unwrap_or_default()
    }

    /// Waits for an approval that is asked for, and gives its id.
    pub(crate) fn pending(&self) -> String {
        eventually(|| {
            let found = self.admin(&["approvals", "list"]);
            Some(found["approvals"][0]["id"].as_str()?.to_owned())
        })
    }

    /// Every entry of the log of a kind, once there are so many.
    pub(crate) fn log(&self, kind: &str, at_least: usize) -> Vec<Value> {
        eventually(|| {
            let ran = command(&[])
                .args(["log", "export", "--data"])
                .arg(self.dir.path().join("data"))
                .output()
                .unwrap();
            let text = String::from_utf8(ran.stdout).unwrap();
            let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let found: Vec<_> = entries.filter(|entry| entry["kind"] == kind).collect();
            (found.len() >= at_least).then_some(found)
        })
    }

    pub(crate) fn gateway(&self, flags: &[&str], server: &[&str]) -> Gateway {
        Gateway::start(&self.url, &self.key, self.dir.path(), flags, server)
    }

    /// A gateway that listens.
    pub(crate) fn front(&self, flags: &[&str]) -> Front {
        let mut child = command(&[("CHECKREIN_URL", &self.url), ("CHECKREIN_API_KEY", &self.key)])
            .env("CHECKREIN_MCP_STATE", self.dir.path().join("state"))
            .args(["mcp", "--json", "--listen", "127.0.0.1:0"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let url = ready["listening"][0].as_str().unwrap().to_owned();
        Front { child, addr: url.split('/').nth(2).unwrap().parse().unwrap() }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn command(env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).stdin(Stdio::null());
    command.envs(env.iter().copied());
    command
}

/// What `look` finds, as soon as it does.
#[track_caller]
pub(crate) fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it never happened");
        thread::sleep(Duration::from_millis(30));
    }
}

/// A gateway, and the client's ends of its pipes.
pub(crate) struct Gateway {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
}

impl Gateway {
    pub(crate) fn start(url: &str, key: &str, dir: &Path, flags: &[&str], server: &[&str]) -> Self {
        let mut child = command(&[("CHECKREIN_URL", url), ("CHECKREIN_API_KEY", key)])
            .env("CHECKREIN_MCP_STATE", dir.join("state"))
            .arg("mcp")
            .args(flags)
            .arg("--")
            .args(server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (to, lines) = channel();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                if to.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Self { child, input, lines }
    }

    pub(crate) fn send(&mut self, line: impl AsRef<[u8]>) {
        let input = self.input.as_mut().unwrap();
        input.write_all(&[line.as_ref(), b"\n"].concat()).unwrap();
        input.flush().unwrap();
    }

    /// The next line, without its end.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        let line = self.lines.recv_timeout(PATIENCE).expect("a line");
        String::from_utf8(line).unwrap().trim_end_matches('\n').to_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Closes its input, and gives its exit code and what it still said.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        drop(self.input.take());
        self.ended()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub(crate) fn ended(mut self) -> (Option<i32>, Vec<String>) {
        let code = eventually(|| self.child.try_wait().unwrap()).code();
        let rest = self.lines.iter().map(|line| String::from_utf8(line).unwrap()).collect();
        (code, rest)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A gateway that listens. Killed when it goes out of scope.
pub(crate) struct Front {
    child: Child,
    addr: SocketAddr,
}

impl Front {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A server that notes every line that it gets in a file, and says it back.
pub(crate) struct Echo {
    file: PathBuf,
}

impl Echo {
    pub(crate) fn within(dir: &Path) -> Self {
        Self { file: dir.join("got") }
    }

    /// `tee` writes to its output first, and this is the file: who hears the echo finds the line there.
    pub(crate) fn command(&self) -> [&str; 4] {
        ["sh", "-c", r#"exec tee /dev/fd/3 3>&1 >"$0""#, self.file.to_str().unwrap()]
    }

    pub(crate) fn got(&self) -> Vec<u8> {
        fs::read(&self.file).unwrap_or_default()
    }
}

pub(crate) fn call(id: u32, tool: &str, arguments: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
        .to_string()
}

pub(crate) const PING: &str = r#"{"jsonrpc":"2.0","id":"end","method":"ping"}"#;

/// The text of a call's result, and whether it is an error.
pub(crate) fn result(answer: &Value) -> (bool, String) {
    let result = &answer["result"];
    (result["isError"] == true, result["content"][0]["text"].as_str().unwrap_or_default().to_owned())
}
