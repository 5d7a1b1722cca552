//! Throw-away MariaDB, or MySQL in its place.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::{Error, Folder, Stop, command, find, run, start};

/// The superuser of every server; without a password.
pub const SUPERUSER: &str = "root";

/// Settings that every server has; those of a test come after them.
const SETTINGS: &[(&str, &str)] = &[
    ("bind-address", "127.0.0.1"),
    // Nothing here outlives the machine: a kill of the server loses nothing that it has written.
    ("innodb-flush-log-at-trx-commit", "2"),
    ("innodb-flush-method", "nosync"),
    ("innodb-buffer-pool-size", "64M"),
    ("innodb-log-file-size", "32M"),
    ("max-connections", "300"),
    ("max-allowed-packet", "64M"),
    ("character-set-server", "utf8mb4"),
];

/// What MariaDB has besides.
const MARIADB: &[(&str, &str)] = &[("skip-name-resolve", "1"), ("sync-frm", "0")];

/// What MySQL has besides. It keeps its binary log, as it does wherever nobody has switched that off.
const MYSQL: &[(&str, &str)] = &[
    ("mysqlx", "0"),
    ("sync-binlog", "0"),
    ("secure-file-priv", "NULL"),
    ("log-bin-trust-function-creators", "1"),
];

/// A running server. Dropped: stopped and removed.
#[derive(Debug)]
pub struct Mariadb {
    folder: Folder,
    settings: Vec<(String, String)>,
    port: u16,
    server: Mutex<Option<Child>>,
    databases: AtomicU64,
}

impl Mariadb {
    /// The server that all tests of this process share. Started by the first that asks.
    ///
    /// # Panics
    /// If it cannot be had: a test that needs it cannot pass.
    #[expect(clippy::panic, reason = "a test that needs the server cannot pass without it")]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Mariadb> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]).unwrap_or_else(|error| panic!("MariaDB for tests: {error}")))
    }

    /// A server of its own, for a test that stops it or sets it up differently.
    ///
    /// # Errors
    /// If MariaDB is not installed, or does not start; with what it said.
    pub fn start(settings: &[(&str, &str)]) -> Result<Self, Error> {
        // An immediate end is as good as an orderly one: the folder goes with it.
        let folder = Folder::new("checkrein-mariadb-", Stop::Crash)?;
        let path = |name: &str| format!("--{name}={}", folder.path().join(name).display());
        let (install, own) = if is_mysql() {
            let mut install = Program::of_tests()?.command(folder.path());
            install.args(["--initialize-insecure", "--innodb-flush-method=nosync"]).arg(path("datadir"));
            (install, MYSQL)
        } else {
            let mut install = command(program("mariadb-install-db")?, folder.path());
            install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
            install.arg(path("datadir")).arg(format!("--tmpdir={}", folder.path().display()));
            (install, MARIADB)
        };
        run(install)?;
        let settings = SETTINGS.iter().chain(own).chain(settings);
        let settings = settings.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let databases = AtomicU64::new(0);
        let mut new = Self { folder, settings, port: 0, server: Mutex::new(None), databases };
        let (server, port) = new.launch(None)?;
        new.port = port;
        *new.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(new)
    }

    fn launch(&self, port: Option<u16>) -> Result<(Child, u16), Error> {
        let folder = self.folder.path();
        let program = Program::of_tests()?;
        let server = |port: u16| {
            let mut server = program.command(folder);
            for (name, file) in
                [("datadir", "datadir"), ("tmpdir", ""), ("socket", "socket"), ("pid-file", "pid")]
            {
                server.arg(format!("--{name}={}", folder.join(file).display()));
            }
            server.arg(format!("--port={port}"));
            for (name, value) in &self.settings {
                server.arg(format!("--{name}={value}"));
            }
            server
        };
        // It writes its process id and then greets whoever connects.
        let ready = |port| folder.join("pid").exists() && greets(port);
        start(&folder.join("log"), port, server, ready)
    }

    /// The port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The address of a database for one of its users; no password is asked for.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("mysql://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// A name for a database that nobody has had yet.
    pub fn name(&self) -> String {
        format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed))
    }

    /// `kill -9` of the server. Its data stays as it left it.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill(&self) -> Result<(), Error> {
        self.folder.stop(Stop::Crash)?;
        if let Some(mut server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            server.wait()?;
        }
        Ok(())
    }

    /// Starts it again on the same data and the same port, after [`Mariadb::kill`].
    ///
    /// # Errors
    /// If it does not start; with what it said.
    pub fn restart(&self) -> Result<(), Error> {
        let pid = self.folder.path().join("pid");
        if std::fs::exists(&pid)? {
            // Of the server that was killed.
            std::fs::remove_file(&pid)?;
        }
        let (server, _) = self.launch(Some(self.port))?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(())
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        // Reaped here, or the process would stay in the table as a zombie.
        let _stopped = self.folder.stop(Stop::Crash);
        if let Some(mut server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ended = server.wait();
        }
    }
}

/// Whether tests run on MySQL in its place; see docs/targets.md.
pub fn is_mysql() -> bool {
    mysql().is_some()
}

/// The folder into which MySQL's packages are unpacked, with the libraries that it needs, if tests are to run on it.
fn mysql() -> Option<PathBuf> {
    std::env::var_os("CHECKREIN_TEST_MYSQL").map(PathBuf::from)
}

/// The server that tests run on.
enum Program {
    Mariadb(PathBuf),
    Mysql(PathBuf),
}

impl Program {
    fn of_tests() -> Result<Self, Error> {
        mysql().map_or_else(|| Ok(Self::Mariadb(program("mariadbd")?)), |root| Ok(Self::Mysql(root)))
    }

    /// The command that starts it, without what it is to do.
    fn command(&self, folder: &Path) -> Command {
        let root = match self {
            Self::Mysql(root) => root,
            Self::Mariadb(program) => {
                let mut server = command(program, folder);
                server.arg("--no-defaults");
                return server;
            }
        };
        let mut server = command(root.join("usr/sbin/mysqld"), folder);
        let libraries = ["usr/lib", "lib"].map(|lib| root.join(lib).join("x86_64-linux-gnu"));
        server.env("LD_LIBRARY_PATH", libraries.map(|folder| folder.display().to_string()).join(":"));
        let shared = root.join("usr/share/mysql");
        server.arg("--no-defaults").arg(format!("--basedir={}", root.join("usr").display()));
        server.arg(format!("--lc-messages-dir={}", shared.display()));
        server.arg(format!("--character-sets-dir={}", shared.join("charsets").display()));
        server
    }
}

/// Whether a server greets those who connect.
fn greets(port: u16) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let connected = TcpStream::connect_timeout(&address, Duration::from_secs(1));
    connected.is_ok_and(|mut stream| {
        let patience = stream.set_read_timeout(Some(Duration::from_secs(2)));
        patience.is_ok() && stream.read_exact(&mut [0; 5]).is_ok()
    })
}

fn program(name: &str) -> Result<PathBuf, Error> {
    find(name, ["/usr/sbin", "/usr/bin", "/usr/local/bin"].map(PathBuf::from)).ok_or_else(|| {
        format!("{name} is not installed: run `scripts/setup test`, or install `mariadb-server-core`").into()
    })
}
