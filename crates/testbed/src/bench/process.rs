//! Processes that are measured: started, watched, and gone when the benchmark is.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Error;
use super::http1::{Connection, Request};

/// The unit of CPU times in `/proc`: `USER_HZ` is 100 on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// How long a server may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A command whose process the kernel kills when this program ends, however it ends. Start it from the main
/// thread: the kernel watches the thread.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
    command
}

/// A loopback address that was free a moment ago.
///
/// # Errors
/// If no port can be had.
pub fn free_address() -> Result<SocketAddr, Error> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// From its start to its first answer.
    pub ready_after: Duration,
}

impl Server {
    /// Starts a server and waits until `health` answers with 200. What it prints goes to `log`.
    ///
    /// # Errors
    /// If it cannot be started, ends, or does not answer within half a minute; with the end of its log.
    pub fn start(mut command: Command, address: SocketAddr, health: &str, log: &Path) -> Result<Self, Error> {
        let output = std::fs::File::create(log)?;
        let began = Instant::now();
        let child = command.stdout(output.try_clone()?).stderr(output).spawn()?;
        let mut server = Self { child, ready_after: Duration::ZERO };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        while !runtime.block_on(answers(address, health)) {
            let ended = server.child.try_wait()?;
            if ended.is_some() || began.elapsed() > READY_WITHIN {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<_> = said.lines().rev().take(10).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                let how = ended.map_or("does not answer".to_owned(), |status| format!("ended with {status}"));
                return Err(format!("{command:?} {how}; it said:\n{tail}").into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        server.ready_after = began.elapsed();
        Ok(server)
    }

    /// CPU time that the server has used, in user and in kernel, to 10 ms.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn cpu(&self) -> Result<Duration, Error> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        cpu_of(&stat).ok_or_else(|| format!("cannot read the CPU time in: {stat}").into())
    }

    /// Memory of the server that is in RAM, in bytes.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn memory(&self) -> Result<u64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; in both cases it is gone afterwards.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn answers(address: SocketAddr, path: &str) -> bool {
    let ask = async {
        let mut connection = Connection::open(&address.to_string()).await.ok()?;
        let response = connection.send(&Request::new("GET", path, &[], "")).await.ok()?;
        (response.status == 200).then_some(())
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), ask).await, Ok(Some(())))
}

/// The name of the program, the second field, may contain anything; it ends at the last bracket.
fn cpu_of(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let kernel: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + kernel))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_strange_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 3 0 1000 1 2 3";
        assert_eq!(cpu_of(stat), Some(Duration::from_millis(1_750)));
    }

    #[test]
    fn a_server_that_ends_is_reported_with_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command("sh");
        command.args(["-c", "echo no such disk >&2; exit 3"]);
        let error =
            Server::start(command, free_address().unwrap(), "/", &folder.path().join("log")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such disk"), "{error}");
    }
}
