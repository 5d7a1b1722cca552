//! What the MCP gateway adds to a call: the same calls to a server directly, and through `checkrein mcp` with a
//! real Checkrein server behind it, in turn.
//!
//! The server is `tee`, which says every line back and does nothing else: no real server is faster, so the ratios
//! are the worst ones. Prints the median over the rounds of each ratio within a round.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at what goes wrong"
)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

const BINARY: &str = env!("CARGO_BIN_EXE_checkrein");
const KEY: &str = "ck_admin_0123456789abcdef0123456789abcdef";
const ROUNDS: usize = 7;
const CALLS: u32 = 500;
const AT_ONCE: u32 = 64;

/// A process that is spoken with line by line; it ends with this value.
struct Pipe {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    next: u32,
}

impl Pipe {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from, next: 0 }
    }

    fn send(&mut self) {
        self.next += 1;
        let id = self.next;
        let params = r#"{"name":"get_user","arguments":{"id":7}}"#;
        writeln!(self.to, r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#)
            .unwrap();
    }

    fn wait(&mut self) {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        assert!(line.contains("tools/call"), "{line}");
    }

    /// The time of a call when each waits for the one before, and when many are under way.
    fn measure(&mut self) -> [Duration; 2] {
        let began = Instant::now();
        for _ in 0..CALLS {
            self.send();
            self.wait();
        }
        let alone = began.elapsed() / CALLS;
        let began = Instant::now();
        for n in 0..CALLS + AT_ONCE {
            if n < CALLS {
                self.send();
            }
            if n >= AT_ONCE {
                self.wait();
            }
        }
        [alone, began.elapsed() / CALLS]
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn serve(folder: &Path) -> (Pipe, String) {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--data"]).arg(folder.join("data"));
    let mut server = Pipe::start(command.env("CHECKREIN_ADMIN_KEY", KEY).stderr(Stdio::null()));
    let mut line = String::new();
    server.from.read_line(&mut line).unwrap();
    let url = line.split('"').find(|part| part.starts_with("http://")).unwrap().to_owned();
    (server, url)
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, url) = serve(folder.path());
    let mut direct = Pipe::start(Command::new("tee").arg("/dev/null"));
    let mut gateway = Command::new(BINARY);
    gateway.args(["mcp", "--name", "bench", "--timeout", "60", "--state"]).arg(folder.path().join("state"));
    gateway.args(["--", "tee", "/dev/null"]).env("CHECKREIN_URL", url).env("CHECKREIN_API_KEY", KEY);
    let mut gateway = Pipe::start(&mut gateway);
    gateway.measure();
    let rounds: Vec<_> = (0..ROUNDS).map(|_| (direct.measure(), gateway.measure())).collect();
    for (at, what) in ["one call at a time", "64 calls at a time"].into_iter().enumerate() {
        let median = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        let micros = |d: &[Duration; 2]| d.get(at).unwrap().as_secs_f64() * 1e6;
        let alone = median(rounds.iter().map(|(d, _)| micros(d)).collect());
        let through = median(rounds.iter().map(|(_, g)| micros(g)).collect());
        let ratio = median(rounds.iter().map(|(d, g)| micros(g) / micros(d)).collect());
        println!("{what}: direct {alone:.1} µs, through the gateway {through:.1} µs, {ratio:.1} times");
    }
}
