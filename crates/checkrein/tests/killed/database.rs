//! The database that the killed process works on: a file, or a real server behind a proxy.

use checkrein_testbed::servers::{mariadb, mariadb::Mariadb, postgres, postgres::Postgres, proxy::Proxy};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Enough that capturing and committing take their time.
pub(crate) const ROWS: u64 = 4_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    Mariadb,
}

pub(crate) struct Database {
    pub(crate) kind: Kind,
    /// Its name, or the file.
    place: String,
    proxy: Option<Proxy>,
}

impl Database {
    /// With its table `t`, in `dir` if it is a file.
    pub(crate) fn new(kind: Kind, dir: &Path) -> Self {
        let (place, port) = match kind {
            Kind::Sqlite => (dir.join("shop.db").display().to_string(), None),
            Kind::Postgres => {
                let server = Postgres::shared();
                let url = server.database().unwrap();
                (url.rsplit('/').next().unwrap().to_owned(), Some(server.port()))
            }
            Kind::Mariadb => (Mariadb::shared().name(), Some(Mariadb::shared().port())),
        };
        let new = Self { kind, place, proxy: port.map(|port| Proxy::to(port).unwrap()) };
        if kind == Kind::Mariadb {
            new.ask_in("mysql", &format!("CREATE DATABASE {}", new.place));
        }
        new.ask("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, pad TEXT)");
        let series = match kind {
            Kind::Sqlite => {
                new.ask("PRAGMA journal_mode = WAL");
                format!(
                    "WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < {ROWS}) \
                     INSERT INTO t SELECT i, 0, hex(randomblob(50)) FROM i"
                )
            }
            Kind::Postgres => {
                format!(
                    "INSERT INTO t SELECT i, 0, repeat(md5(i::text), 3) FROM generate_series(1, {ROWS}) i"
                )
            }
            Kind::Mariadb => {
                format!("INSERT INTO t SELECT seq, 0, REPEAT(MD5(seq), 3) FROM seq_1_to_{ROWS}")
            }
        };
        new.ask(&series);
        new
    }

    /// As a target of Checkrein.
    pub(crate) fn config(&self) -> String {
        let place = &self.place;
        let (kind, address) = match self.kind {
            Kind::Sqlite => ("sqlite", format!("path = \"{place}\"")),
            Kind::Postgres => ("postgres", "url = { env = \"SHOP_URL\" }".to_owned()),
            Kind::Mariadb => ("mysql", "url = { env = \"SHOP_URL\" }".to_owned()),
        };
        format!("[targets.shop]\nkind = \"{kind}\"\n{address}\nenvironment = \"sandbox\"\n")
    }

    /// What its address is, where it has one.
    pub(crate) fn url(&self) -> String {
        let port = self.proxy.as_ref().map_or(0, Proxy::port);
        match self.kind {
            Kind::Sqlite => String::new(),
            Kind::Postgres => format!("postgres://{}@127.0.0.1:{port}/{}", postgres::SUPERUSER, self.place),
            Kind::Mariadb => format!("mysql://{}@127.0.0.1:{port}/{}", mariadb::SUPERUSER, self.place),
        }
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().unwrap()
    }

    /// How it writes the first parameter of a statement.
    pub(crate) const fn param(&self) -> &'static str {
        if matches!(self.kind, Kind::Postgres) { "$1" } else { "?" }
    }

    /// What all rows hold; they must hold the same.
    pub(crate) fn n(&self) -> u64 {
        let answer = self.ask("SELECT min(n), max(n), count(*) FROM t");
        let found: Vec<u64> = answer.split('|').map(|n| n.parse().unwrap()).collect();
        assert_eq!((found[0], found[2]), (found[1], ROWS), "all or nothing");
        found[0]
    }

    fn ask(&self, sql: &str) -> String {
        self.ask_in(&self.place, sql)
    }

    /// Past Checkrein and the proxy. The columns of the row, with `|` between them.
    fn ask_in(&self, place: &str, sql: &str) -> String {
        let mut client = match self.kind {
            Kind::Sqlite => return of_file(place, sql),
            Kind::Postgres => {
                let server = Postgres::shared();
                let mut client = Command::new(server.programs().join("psql"));
                client.args(["-XAtqc", sql, &server.url(postgres::SUPERUSER, place)]);
                client
            }
            Kind::Mariadb => {
                let port = Mariadb::shared().port().to_string();
                let mut client = Command::new("mariadb");
                client.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--port", &port]);
                client.args(["--user", mariadb::SUPERUSER, "--batch", "--skip-column-names"]);
                client.args(["--execute", sql, place]);
                client
            }
        };
        let output = client.output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().replace('\t', "|")
    }
}

fn of_file(place: &str, sql: &str) -> String {
    let db = rusqlite::Connection::open(PathBuf::from(place)).unwrap();
    let mut statement = db.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let Some(row) = rows.next().unwrap() else { return String::new() };
    let cell = |i| match row.get::<_, rusqlite::types::Value>(i).unwrap() {
        rusqlite::types::Value::Integer(n) => n.to_string(),
        other => format!("{other:?}"),
    };
    (0..columns).map(cell).collect::<Vec<_>>().join("|")
}
