//! What the operator says of a target.

use secrecy::SecretString;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// A family of systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
    /// An SQLite file.
    Sqlite,
    /// A folder.
    Files,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Postgres, Self::Mysql, Self::Sqlite, Self::Files];

    /// The word for it, as in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Sqlite => "sqlite",
            Self::Files => "files",
        }
    }
}

/// Where a target is.
#[derive(Clone, Debug)]
pub enum Place {
    /// `postgres://user:password@host:port/database?sslmode=…`; the password is the reason that it is secret.
    Postgres(SecretString),
    /// `mysql://user:password@host:port/database?…`.
    Mysql(SecretString),
    /// The file.
    Sqlite(PathBuf),
    /// The folder. Nothing outside it is ever touched.
    Files(PathBuf),
}

impl Place {
    /// What kind of system is there.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Postgres(_) => Kind::Postgres,
            Self::Mysql(_) => Kind::Mysql,
            Self::Sqlite(_) => Kind::Sqlite,
            Self::Files(_) => Kind::Files,
        }
    }
}

impl Place {
    /// The file or folder, if it is not there.
    pub fn missing(&self) -> Option<&Path> {
        match self {
            Self::Postgres(_) | Self::Mysql(_) => None,
            Self::Sqlite(path) | Self::Files(path) => Some(path.as_path()).filter(|path| !path.exists()),
        }
    }
}

/// What one use of a target may take. Beyond it the use fails, and nothing runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// To connect, or to wait for a free connection.
    pub connect: Duration,
    /// To wait for a lock that somebody else holds.
    pub lock: Duration,
    /// To count before an action. Longer: the count is unknown.
    pub count: Duration,
    /// For one guarded execution, from BEGIN to the answer before COMMIT.
    pub execute: Duration,
    /// For taking, sealing or rolling back one snapshot.
    pub snapshot: Duration,
    /// Records in one snapshot.
    pub snapshot_rows: u64,
    /// Bytes in one snapshot, before compression.
    pub snapshot_bytes: u64,
    /// Rows that one execution may return.
    pub result_rows: u64,
    /// Bytes that one execution may return.
    pub result_bytes: u64,
    /// Connections at once.
    pub connections: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            lock: Duration::from_secs(2),
            count: Duration::from_secs(2),
            execute: Duration::from_secs(30),
            snapshot: Duration::from_secs(600),
            snapshot_rows: 10_000_000,
            snapshot_bytes: 16 << 30,
            result_rows: 10_000,
            result_bytes: 8 << 20,
            connections: 8,
        }
    }
}

/// A target, as the operator describes it.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// The first part of its resources' names.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// What one use may take.
    pub limits: Limits,
}
