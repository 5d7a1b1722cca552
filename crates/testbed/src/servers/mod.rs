//! Throw-away database servers for tests: real ones, on loopback, in a folder of their own, gone when the
//! test process is, however it ends.
//!
//! One server a test process, started when the first test asks for it, and one database a test. They run as
//! root too: the servers, which refuse that, are then started as nobody.

pub mod alertmanager;
pub mod mariadb;
pub mod pgbouncer;
pub mod postgres;
pub mod proxy;
pub mod rotel;
pub mod rsyslog;
mod watchdog;

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use watchdog::{Folder, Stop};

/// Whom servers run as when the tests run as root: nobody.
const NOBODY: u32 = 65_534;
/// How long a server may take until it is ready, on a machine that is busy with other things.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Ports that are tried: one that was free a moment ago may be taken by somebody else since.
const TRIES: u32 = 8;

/// What went wrong, for the person who runs the tests.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Whether this process is root, so that servers must not be.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A command that works in `folder` (which is how the watchdog finds it), in a process group of its own (so
/// that an interrupt on the keyboard reaches the tests alone), and not as root.
fn command(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = if is_root() {
        let id = NOBODY.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    // Nothing that the environment says may reach the server or its tools.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C.UTF-8");
    command.current_dir(folder).stdin(Stdio::null()).process_group(0);
    command
}

/// Runs a command to its end.
fn run(mut command: Command) -> Result<(), Error> {
    let output = command.output().map_err(|e| format!("{command:?} cannot be started: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{command:?} ended with {}:\n{}", output.status, String::from_utf8_lossy(&said)).into())
}

/// Starts a server on a port that is free, and waits until `ready` says so. `start` makes the command for a
/// port; it is called again with another port if the server ends before it is ready.
///
/// # Errors
/// If it does not become ready, with the end of what it wrote into `log`.
fn start(
    log: &Path,
    port: Option<u16>,
    start: impl Fn(u16) -> Command,
    ready: impl Fn(u16) -> bool,
) -> Result<(Child, u16), Error> {
    let mut how = String::new();
    for _ in 0..TRIES {
        let port = match port {
            Some(port) => port,
            // Released again at once: the server binds it next.
            None => TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
        };
        let output = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut child = start(port).stdout(output.try_clone()?).stderr(output).spawn()?;
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                how = format!("ended with {status}");
                break;
            }
            if ready(port) {
                return Ok((child, port));
            }
            if began.elapsed() > READY_WITHIN {
                child.kill()?;
                child.wait()?;
                return Err(format!("the server was not ready within {READY_WITHIN:?}{}", tail(log)).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Err(format!("the server {how}{}", tail(log)).into())
}

fn tail(log: &Path) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = said.lines().rev().take(20).collect();
    format!("; it said:\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
}

/// Gives a file to whom servers run as.
fn hand_over(file: &Path) -> std::io::Result<()> {
    if is_root() { std::os::unix::fs::chown(file, Some(NOBODY), Some(NOBODY)) } else { Ok(()) }
}

/// Where `scripts/setup` unpacks packages of Debian that are not to be installed.
pub fn unpacked(path: &str) -> PathBuf {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    root.canonicalize().unwrap_or_else(|_| root.to_owned()).join(".cache/debian").join(path)
}

/// The first of `folders` that holds `program`, then whatever PATH says.
pub fn find(program: &str, folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<_> = std::env::split_paths(&path).collect();
    folders.into_iter().chain(path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
