//! Throw-away PostgreSQL.

use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::{Error, Folder, Stop, command, find, run, start};

/// The superuser of every server.
pub const SUPERUSER: &str = "postgres";

/// Settings that every server has; those of a test come after them.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    // Nothing here outlives the machine: a kill of the server loses nothing that it has written.
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_connections", "200"),
    ("max_locks_per_transaction", "256"),
    ("shared_buffers", "64MB"),
    ("log_min_messages", "warning"),
];

/// A running server. Dropped: stopped and removed.
#[derive(Debug)]
pub struct Postgres {
    folder: Folder,
    programs: PathBuf,
    settings: Vec<(String, String)>,
    port: u16,
    server: Mutex<Option<Child>>,
    databases: AtomicU64,
}

impl Postgres {
    /// The server that all tests of this process share. Started by the first that asks.
    ///
    /// # Panics
    /// If it cannot be had: a test that needs it cannot pass.
    #[expect(clippy::panic, reason = "a test that needs the server cannot pass without it")]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start(&[]).unwrap_or_else(|error| panic!("PostgreSQL for tests: {error}")))
    }

    /// A server of its own, for a test that stops it or sets it up differently.
    ///
    /// # Errors
    /// If PostgreSQL is not installed, or does not start; with what it said.
    pub fn start(settings: &[(&str, &str)]) -> Result<Self, Error> {
        let programs = programs()?;
        let folder = Folder::new("checkrein-postgres-", Stop::Quick)?;
        let mut initdb = command(programs.join("initdb"), folder.path());
        initdb.args([
            "--auth=trust",
            "--no-sync",
            "--locale=C.UTF-8",
            "--encoding=UTF8",
            "--username",
            SUPERUSER,
            "-D",
            "data",
        ]);
        run(initdb)?;
        let settings =
            SETTINGS.iter().chain(settings).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let databases = AtomicU64::new(0);
        let mut new = Self { folder, programs, settings, port: 0, server: Mutex::new(None), databases };
        let (server, port) = new.launch(None)?;
        new.port = port;
        *new.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(new)
    }

    fn launch(&self, port: Option<u16>) -> Result<(Child, u16), Error> {
        let pid_file = self.folder.path().join("data/postmaster.pid");
        let server = |port: u16| {
            let mut server = command(self.programs.join("postgres"), self.folder.path());
            server.args(["-D", "data", "-p", &port.to_string()]);
            for (name, value) in &self.settings {
                server.arg("-c").arg(format!("{name}={value}"));
            }
            server
        };
        // Written anew by each start, and the eighth line last.
        let ready = |_| {
            std::fs::read_to_string(&pid_file)
                .is_ok_and(|text| text.lines().nth(7).is_some_and(|line| line.trim() == "ready"))
        };
        start(&self.folder.path().join("log"), port, server, ready)
    }

    /// The port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Where the programs of this PostgreSQL are: `pg_dump`, `psql`.
    pub fn programs(&self) -> &std::path::Path {
        &self.programs
    }

    /// The address of a database for one of its users; no password is asked for.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database and returns its address for the superuser.
    ///
    /// # Errors
    /// If the server does not make it.
    pub fn database(&self) -> Result<String, Error> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut createdb = command(self.programs.join("createdb"), self.folder.path());
        createdb.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", SUPERUSER, &name]);
        run(createdb)?;
        Ok(self.url(SUPERUSER, &name))
    }

    /// `kill -9` of the server and all its processes at once. Its data stays as they left it.
    ///
    /// # Errors
    /// If they cannot be killed.
    pub fn kill(&self) -> Result<(), Error> {
        self.folder.stop(Stop::Crash)?;
        if let Some(mut server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            server.wait()?;
        }
        Ok(())
    }

    /// Starts it again on the same data and the same port, after [`Postgres::kill`].
    ///
    /// # Errors
    /// If it does not start; with what it said.
    pub fn restart(&self) -> Result<(), Error> {
        let pid_file = self.folder.path().join("data/postmaster.pid");
        if std::fs::exists(&pid_file)? {
            // It says `ready` of the server that was killed.
            std::fs::remove_file(&pid_file)?;
        }
        let (server, _) = self.launch(Some(self.port))?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Reaped here, or the process would stay in the table as a zombie.
        let _stopped = self.folder.stop(Stop::Quick);
        if let Some(mut server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ended = server.wait();
        }
    }
}

/// Where `postgres` and `initdb` are: Debian's folders, the newest version first, then PATH.
fn programs() -> Result<PathBuf, Error> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    find("postgres", versions.into_iter().rev().map(|(_, folder)| folder))
        .and_then(|program| Some(program.parent()?.to_owned()))
        .ok_or_else(|| {
            "PostgreSQL is not installed: run `scripts/setup test`, or install the package `postgresql`"
                .into()
        })
}
