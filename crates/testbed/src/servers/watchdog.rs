//! A folder for a server, and a shell that outlives the test process just long enough to stop what runs in
//! it and to remove it.
//!
//! The shell waits for the end of a pipe that only the test process holds. The kernel closes that pipe however
//! the process ends, `kill -9` included. Whatever then works inside the folder is stopped: that finds a server
//! that was started a moment ago as well as one that was started again.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{Error, NOBODY, is_root};

/// `$1` the folder, `$2` the signal. Prints nothing. Waits until nothing works in the folder any more, and
/// insists with KILL after ten seconds.
const STOP: &str = r#"
stop() {
  tries=0
  while :; do
    pids=
    for process in /proc/[0-9]*; do
      case "$(readlink "$process/cwd" 2>/dev/null)" in "$1"|"$1"/*) pids="$pids ${process#/proc/}";; esac
    done
    [ -n "$pids" ] || return 0
    [ "$tries" -lt 200 ] || set -- "$1" KILL
    # Once, then now and again: an impatient server takes a second signal for an order to drop everything.
    [ $((tries % 40)) -ne 0 ] || kill -s "$2" $pids 2>/dev/null
    tries=$((tries + 1))
    sleep 0.05
  done
}
"#;

/// How a server is to be stopped.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// It has time to put everything in order.
    Orderly,
    /// At once, but it may free what the system holds for it.
    Quick,
    /// `kill -9`, of everything at the same moment.
    Crash,
}

impl Stop {
    const fn signal(self) -> &'static str {
        match self {
            Self::Orderly => "TERM",
            Self::Quick => "QUIT",
            Self::Crash => "KILL",
        }
    }
}

/// A folder that belongs to one server. Dropped, or left behind by a process that died: whatever works in it
/// is stopped, and it is removed.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    pipe: Option<ChildStdin>,
    shell: Child,
}

impl Folder {
    /// Makes one below the system's folder for temporary files. `stop` is how its server ends with it.
    ///
    /// # Errors
    /// If the folder or the shell cannot be made.
    pub fn new(prefix: &str, stop: Stop) -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir()?;
        let script = format!(
            "{STOP}exec 3<&0; trap '' HUP INT TERM; read -r never <&3; stop \"$1\" \"$2\"; rm -rf \"$1\""
        );
        let path = folder.path().canonicalize()?;
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "watchdog"]).arg(&path).arg(stop.signal());
        // Not in the folder itself, and out of the reach of an interrupt on the keyboard.
        shell.current_dir("/").process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = shell.spawn()?;
        let pipe = shell.stdin.take();
        // From here on the shell removes it.
        let _path = folder.keep();
        if is_root() {
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY))?;
        }
        Ok(Self { path, pipe, shell })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stops whatever works in it, and returns when that is gone. The folder stays.
    ///
    /// # Errors
    /// If the shell that does it cannot be started.
    pub fn stop(&self, how: Stop) -> Result<(), Error> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{STOP}stop \"$1\" \"$2\""), "stop"]).arg(&self.path).arg(how.signal());
        let status = shell
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if status.success() { Ok(()) } else { Err(format!("stopping a server ended with {status}").into()) }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // It ends at the end of the pipe; a line does as well, should somebody else hold the pipe by mistake.
            let _gone = pipe.write_all(b"\n");
        }
        let _ended = self.shell.wait();
    }
}
