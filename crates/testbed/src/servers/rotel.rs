//! Throw-away rotel, a collector of OpenTelemetry that says in detail what it received.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Error, Folder, Stop, command, find, start};

/// A running collector. Dropped: stopped and removed.
#[derive(Debug)]
pub struct Rotel {
    folder: Folder,
    port: u16,
    server: Mutex<Option<Child>>,
}

impl Rotel {
    /// One that takes OTLP over HTTP.
    ///
    /// # Errors
    /// If it is not installed, or does not start; with what it said.
    pub fn start() -> Result<Self, Error> {
        let folder = Folder::new("checkrein-rotel-", Stop::Crash)?;
        let program =
            find("rotel-agent", packages()).ok_or("rotel is not installed: run `scripts/setup test`")?;
        // It must be able to run as somebody else.
        let own = folder.path().join("rotel-agent");
        std::fs::copy(program, &own)?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let server = |port: u16| {
            let mut server = command(&own, folder.path());
            // The other protocol, which nobody uses here, wants a port as well.
            let grpc = port.checked_add(1).unwrap_or(port.saturating_sub(1));
            server.arg("start").args(["--exporter", "blackhole", "--batch-timeout", "50ms"]);
            server.args(["--debug-log", "traces", "--debug-log", "metrics", "--debug-log", "logs"]);
            server.args(["--debug-log-verbosity", "detailed"]);
            server.arg("--otlp-http-endpoint").arg(format!("127.0.0.1:{port}"));
            server.arg("--otlp-grpc-endpoint").arg(format!("127.0.0.1:{grpc}"));
            server.arg("--pid-file").arg(path("pid")).arg("--log-file").arg(path("log-file"));
            server
        };
        let ready =
            |port| TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(1)).is_ok();
        let (child, port) = start(&folder.path().join("log"), None, server, ready)?;
        Ok(Self { folder, port, server: Mutex::new(Some(child)) })
    }

    /// `http://127.0.0.1:…`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it says that it received, once that holds all of `expected`, or after a while.
    pub fn said(&self, expected: &[&str]) -> String {
        let began = Instant::now();
        loop {
            let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let complete = expected.iter().all(|part| text.contains(part));
            if complete || began.elapsed() > Duration::from_secs(20) {
                return text;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _stopped = self.folder.stop(Stop::Crash);
        if let Some(mut server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ended = server.wait();
        }
    }
}

/// Where Python packages of this tree are.
fn packages() -> Vec<PathBuf> {
    let lib = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv/lib"));
    let versions = std::fs::read_dir(lib).into_iter().flatten().flatten();
    versions.map(|version| version.path().join("site-packages/rotel")).collect()
}
