//! What the account may do, and what it must be allowed to.

use super::connect::{Db, Purpose, Session};
use crate::{Error, Privilege, Report};
use mysql_async::Row;
use std::time::{Duration, Instant};

/// How long an answer about triggers is believed.
const BELIEVED: Duration = Duration::from_secs(60);

/// What was granted, as far as it can be read.
struct Grants(Vec<(String, String)>);

impl Grants {
    async fn read(session: &mut Session) -> Result<Self, Error> {
        let rows: Vec<Row> = session.rows("SHOW GRANTS", ()).await?;
        let lines = rows.iter().filter_map(|r| r.get_opt::<String, usize>(0).and_then(Result::ok));
        let parsed = lines.filter_map(|line| {
            let (privileges, rest) = line.strip_prefix("GRANT ")?.split_once(" ON ")?;
            let (scope, _) = rest.split_once(" TO ")?;
            Some((privileges.to_uppercase(), scope.replace("\\_", "_").replace('`', "")))
        });
        Ok(Self(parsed.collect()))
    }

    /// Whether `privilege` was granted on all of a database.
    fn on(&self, privilege: &str, database: &str) -> bool {
        self.0.iter().any(|(privileges, scope)| {
            (scope == "*.*" || *scope == format!("{database}.*"))
                && privileges.split(", ").any(|p| p == privilege || p == "ALL PRIVILEGES")
        })
    }

    fn globally(&self, privilege: &str) -> bool {
        self.0.iter().any(|(privileges, scope)| {
            scope == "*.*" && privileges.split(", ").any(|p| p == privilege || p == "ALL PRIVILEGES")
        })
    }
}

/// Refuses when triggers could be there unseen: a trigger may write where no rollback reaches.
///
/// # Errors
/// [`Error::Forbidden`] with the GRANT that is missing.
pub(super) async fn sees_triggers(db: &Db, session: &mut Session, schema: &str) -> Result<(), Error> {
    if db.triggers_seen.lock().await.get(schema).is_some_and(|at| at.elapsed() < BELIEVED) {
        return Ok(());
    }
    if !Grants::read(session).await?.on("TRIGGER", schema) {
        return Err(Error::Forbidden(format!(
            "{}: without the privilege TRIGGER this account cannot see which triggers there are: GRANT TRIGGER ON `{schema}`.* TO it",
            db.target
        )));
    }
    db.triggers_seen.lock().await.insert(schema.to_owned(), Instant::now());
    Ok(())
}

/// Looks whether everything is there.
pub(super) async fn test(db: &Db) -> Result<Report, Error> {
    db.within(Purpose::Execute, async {
        let mut session = db.begin(Purpose::Count).await?;
        let version: String = session.first("SELECT VERSION()", ()).await?.unwrap_or_default();
        let system = if session.mariadb {
            format!("MariaDB {}", version.split('-').next().unwrap_or_default())
        } else {
            format!("MySQL {version}")
        };
        let grants = Grants::read(&mut session).await?;
        let mut privileges = Vec::new();
        let mut look = |needed_for: &str, ok: bool, found: &str, missing: String| {
            let message = if ok { found.to_owned() } else { missing };
            privileges.push(Privilege { needed_for: needed_for.to_owned(), ok, message });
        };
        let database = &db.database;
        for (privilege, purpose) in [
            ("SELECT", "count"),
            ("INSERT", "execute"),
            ("UPDATE", "execute"),
            ("DELETE", "execute"),
            ("TRIGGER", "execute"),
        ] {
            look(
                purpose,
                grants.on(privilege, database),
                &format!("{privilege} on {database}.*"),
                format!("{privilege} is not granted on all of {database}: GRANT {privilege} ON `{database}`.* TO this account"),
            );
        }
        look(
            "count",
            grants.globally("PROCESS"),
            "PROCESS: foreign keys, cascades and triggers are counted and measured",
            "without PROCESS no foreign keys are seen and no cascades measured, so changes are refused: GRANT PROCESS ON *.* TO this account".to_owned(),
        );
        let engine: Option<String> = session
            .first("SELECT SUPPORT FROM information_schema.ENGINES WHERE ENGINE = 'InnoDB'", ())
            .await?;
        let there = engine.is_some_and(|e| e != "NO" && e != "DISABLED");
        look("execute", there, "InnoDB is there", "InnoDB is switched off; only its tables can be rolled back".to_owned());
        look(
            "rollback",
            grants.on("INSERT", database) && grants.on("DELETE", database),
            "foreign_key_checks may be switched off by every account",
            "INSERT and DELETE are needed to put records back".to_owned(),
        );
        Ok(Report { system, privileges })
    })
    .await
}

/// The least that an account needs, as SQL.
pub(super) fn grants(db: &Db, account: &str) -> String {
    let text = |part: &str| format!("'{}'", part.replace('\\', "\\\\").replace('\'', "''"));
    let who = match account.rsplit_once('@') {
        Some((name, host)) => format!("{}@{}", text(name.trim_matches('\'')), text(host.trim_matches('\''))),
        None => format!("{}@'%'", text(account)),
    };
    let database = db.database.replace('`', "``").replace('_', "\\_");
    format!(
        "-- The account itself; choose a password.\n\
         CREATE USER IF NOT EXISTS {who} IDENTIFIED BY 'choose-a-password';\n\
         -- Counting, executing, taking snapshots and rolling back. TRIGGER only shows which triggers there are.\n\
         GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON `{database}`.* TO {who};\n\
         -- InnoDB's list of foreign keys, and the number of rows that a transaction has changed. It also shows\n\
         -- what other connections are running.\n\
         GRANT PROCESS ON *.* TO {who};\n"
    )
}
