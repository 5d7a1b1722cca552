//! Throw-away PgBouncer, in front of a throw-away PostgreSQL.

use std::net::TcpStream;
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::postgres::{Postgres, SUPERUSER};
use super::{Error, Folder, Stop, command, find, hand_over, start, unpacked};

/// A running pooler. Dropped: stopped and removed.
#[derive(Debug)]
pub struct Pgbouncer {
    folder: Folder,
    port: u16,
    server: Mutex<Option<Child>>,
}

impl Pgbouncer {
    /// One that hands out connections to `before` by `mode` (`session`, `transaction`, `statement`), with more
    /// settings of its section `[pgbouncer]`.
    ///
    /// # Errors
    /// If it is not installed, or does not start; with what it said.
    pub fn start(before: &Postgres, mode: &str, settings: &[(&str, &str)]) -> Result<Self, Error> {
        let folder = Folder::new("checkrein-pgbouncer-", Stop::Crash)?;
        let program = find("pgbouncer", ["/usr/sbin".into(), unpacked("usr/sbin")])
            .ok_or("pgbouncer is not installed: run `scripts/setup test`")?;
        let conf = folder.path().join("pgbouncer.ini");
        let more: String = settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        let behind = before.port();
        let write = |port: u16| -> std::io::Result<()> {
            // Whoever asks for whatever database gets it as this user.
            let text = format!(
                "[databases]\n* = host=127.0.0.1 port={behind} user={SUPERUSER}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n{more}"
            );
            std::fs::write(&conf, text)?;
            hand_over(&conf)
        };
        let server = |port: u16| {
            // What cannot be written is missed by the server, which says so.
            let _missing_then = write(port);
            let mut server = command(&program, folder.path());
            if !program.starts_with("/usr") {
                server.env("LD_LIBRARY_PATH", unpacked("usr/lib/x86_64-linux-gnu"));
            }
            server.arg(&conf);
            server
        };
        let listens = |port: u16| {
            TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(1)).is_ok()
        };
        let (child, port) = start(&folder.path().join("log"), None, server, listens)?;
        Ok(Self { folder, port, server: Mutex::new(Some(child)) })
    }

    /// The port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        let _stopped = self.folder.stop(Stop::Crash);
        if let Some(mut server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ended = server.wait();
        }
    }
}
