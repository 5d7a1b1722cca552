//! What the account may do, and what it must be allowed to.
//!
//! Read anew with each transaction, and compared with what was read before its connection was made: a
//! connection keeps some of what was granted when it began.

use super::{
    connect::{Db, Purpose},
    schema::get,
};
use crate::{Error, Privilege, Report};
use mysql_async::Row;
use std::sync::Arc;

/// What an account needs on each table that an execution changes, and what for.
const NEEDED: [(&str, &str); 5] = [
    ("SELECT", "read what would change"),
    ("INSERT", "put records back"),
    ("UPDATE", "give records back their content"),
    ("DELETE", "remove records that were made"),
    ("TRIGGER", "see which triggers there are"),
];

/// What was granted, as far as it can be read.
#[derive(Debug)]
pub(super) struct Grants {
    list: Vec<Grant>,
    /// What MySQL leaves out of a grant on all databases.
    revoked: Vec<Grant>,
    /// Of the texts. They hold a hash of the password, so they are not kept.
    hash: blake3::Hash,
}

impl Default for Grants {
    /// Nothing.
    fn default() -> Self {
        Self::read(&[], false)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Grant {
    /// In capitals.
    privileges: Vec<String>,
    /// `None`: on all.
    database: Option<String>,
    table: Option<String>,
}

impl Grants {
    /// From the answer to `SHOW GRANTS`. `literal`: names of databases are no patterns, as where MySQL's
    /// `partial_revokes` is on.
    pub(super) fn of(rows: &[Row], literal: bool) -> Result<Self, Error> {
        let lines = rows.iter().map(|row| get::<String>(row, 0)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::read(&lines.iter().map(String::as_str).collect::<Vec<_>>(), literal))
    }

    fn read(lines: &[&str], literal: bool) -> Self {
        let with =
            |word: &str| lines.iter().filter_map(|line| grant(line.strip_prefix(word)?, literal)).collect();
        let hash = blake3::hash(lines.join("\n").as_bytes());
        Self { list: with("GRANT "), revoked: with("REVOKE "), hash }
    }

    /// What tells it from other grants.
    pub(super) const fn hash(&self) -> blake3::Hash {
        self.hash
    }

    fn has(&self, privilege: &str, fits: impl Fn(&Grant) -> bool) -> bool {
        self.list.iter().any(|grant| fits(grant) && grant.names(privilege))
    }

    /// Whether `privilege` was granted on all of a database.
    fn on(&self, privilege: &str, database: &str) -> bool {
        self.on_table(privilege, database, None)
    }

    fn on_table(&self, privilege: &str, database: &str, table: Option<&str>) -> bool {
        let revoked = |g: &Grant| g.names(privilege) && g.database.as_deref().is_some_and(|d| d == database);
        let but = self.revoked.iter().any(revoked);
        self.has(privilege, |g| {
            g.database.as_deref().map_or(!but, |d| d == database)
                && g.table.as_deref().is_none_or(|t| Some(t) == table)
        })
    }

    fn globally(&self, privilege: &str) -> bool {
        self.has(privilege, |g| g.database.is_none())
    }

    /// Refuses when triggers could be there unseen: a trigger may write where no rollback reaches.
    ///
    /// # Errors
    /// [`Error::Forbidden`] with the GRANT that is missing.
    pub(super) fn see_triggers(&self, target: &str, database: &str, table: &str) -> Result<(), Error> {
        if self.on_table("TRIGGER", database, Some(table)) {
            return Ok(());
        }
        Err(Error::Forbidden(format!(
            "{target}: without the privilege TRIGGER this account cannot see which triggers there are: GRANT TRIGGER ON `{database}`.* TO it; `checkrein target grants {target}` prints all that is needed"
        )))
    }

    /// Refuses when records of a table could be changed and not put back.
    ///
    /// # Errors
    /// [`Error::Forbidden`] with the GRANT that is missing.
    pub(super) fn may_change(&self, target: &str, database: &str, table: &str) -> Result<(), Error> {
        let missing = |(privilege, _): &&(&str, &str)| !self.on_table(privilege, database, Some(table));
        let missing: Vec<_> = NEEDED.iter().filter(missing).collect();
        let (Some((first, why)), names) = (missing.first(), missing.iter().map(|(p, _)| *p)) else {
            return Ok(());
        };
        Err(Error::Forbidden(format!(
            "{target}: the account lacks {first} on {table}, so Checkrein could not {why}: GRANT {} ON `{database}`.* TO it; `checkrein target grants {target}` prints all that is needed",
            names.collect::<Vec<_>>().join(", ")
        )))
    }
}

impl Grant {
    fn names(&self, privilege: &str) -> bool {
        self.privileges.iter().any(|p| p == privilege || p == "ALL PRIVILEGES")
    }
}

/// `SELECT, UPDATE (`a`) ON `shop`.`users` TO …`. Privileges on columns are none here.
fn grant(line: &str, literal: bool) -> Option<Grant> {
    let (privileges, scope) = parts(line)?;
    let [database, table] = scope.as_slice() else { return None };
    let table = (table != "*").then(|| table.clone());
    // A pattern, where it is for all tables. One with wildcards fits no name here.
    let plain =
        |name: &String| if literal || table.is_some() { name.clone() } else { name.replace("\\_", "_") };
    let database = (database != "*").then(|| plain(database));
    Some(Grant { privileges, database, table })
}

/// The privileges without those on columns, and the parts of the name after ON. Names may hold anything, but
/// are quoted then.
fn parts(text: &str) -> Option<(Vec<String>, Vec<String>)> {
    let (mut privileges, mut word) = (Vec::new(), String::new());
    let (mut quoted, mut depth, mut columns) = (false, 0_u32, false);
    let mut chars = text.char_indices();
    let scope = loop {
        let (at, c) = chars.next()?;
        match c {
            '`' => quoted = !quoted,
            _ if quoted => {}
            '(' => {
                depth += 1;
                columns = true;
            }
            ')' => depth = depth.checked_sub(1)?,
            _ if depth > 0 => {}
            ',' | ' ' if c == ',' || text.get(at..).is_some_and(|rest| rest.starts_with(" ON ")) => {
                if !std::mem::take(&mut columns) {
                    privileges.push(word.trim().to_uppercase());
                }
                word.clear();
                if c == ' ' {
                    break text.get(at + 4..)?;
                }
            }
            c => word.push(c),
        }
    };
    let (mut names, mut name, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = scope.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '`' if quoted && chars.peek() == Some(&'`') => {
                chars.next();
                name.push('`');
            }
            '`' => quoted = !quoted,
            '.' if !quoted => names.push(std::mem::take(&mut name)),
            ' ' if !quoted => break,
            c => name.push(c),
        }
    }
    names.push(name);
    Some((privileges, names))
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
        let grants = Arc::clone(&session.grants);
        let mut privileges = Vec::new();
        let mut look = |needed_for: &str, ok: bool, found: &str, missing: String| {
            let message = if ok { found.to_owned() } else { missing };
            privileges.push(Privilege { needed_for: needed_for.to_owned(), ok, message });
        };
        let database = &db.database;
        for (privilege, _) in NEEDED {
            look(
                if privilege == "SELECT" { "count" } else { "execute" },
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
        // A variable that InnoDB itself brings along.
        let there = match session.first::<u64>("SELECT @@GLOBAL.innodb_page_size", ()).await {
            Ok(size) => size.is_some(),
            Err(Error::Invalid(_)) => false,
            Err(other) => return Err(other),
        };
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
    let literal = if database.contains("\\_") {
        "-- Where MySQL's partial_revokes is ON, write the name of the database without the backslashes.\n"
    } else {
        ""
    };
    format!(
        "-- The account itself; choose a password.\n\
         CREATE USER IF NOT EXISTS {who} IDENTIFIED BY 'choose-a-password';\n\
         -- Counting, executing, taking snapshots and rolling back. TRIGGER only shows which triggers there are.\n\
         {literal}GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON `{database}`.* TO {who};\n\
         -- InnoDB's list of foreign keys, and the number of rows that a transaction has changed. It also shows\n\
         -- what other connections are running.\n\
         GRANT PROCESS ON *.* TO {who};\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_server_says() {
        let some = Grants::read(
            &[
                "GRANT PROCESS ON *.* TO `a`@`%` IDENTIFIED BY PASSWORD '*F'",
                "GRANT SELECT, INSERT, UPDATE (`x`, `y`), DELETE ON `my\\_shop`.* TO `a`@`%`",
                "GRANT TRIGGER, UPDATE ON `my_shop`.`o``r.d` TO `a`@`%`",
                "GRANT EXECUTE ON PROCEDURE `my_shop`.`p` TO `a`@`%`",
            ],
            false,
        );
        assert!(some.globally("PROCESS") && !some.globally("SELECT"));
        for (privilege, all) in
            [("SELECT", true), ("INSERT", true), ("DELETE", true), ("UPDATE", false), ("TRIGGER", false)]
        {
            assert_eq!(some.on(privilege, "my_shop"), all, "{privilege}");
            assert!(some.on_table(privilege, "my_shop", Some("o`r.d")), "{privilege}");
            assert!(!some.on(privilege, "other"), "{privilege}");
        }
        assert!(
            Grants::read(&["GRANT ALL PRIVILEGES ON *.* TO `r`@`%` WITH GRANT OPTION"], false)
                .on("TRIGGER", "x")
        );
        let literal = Grants::read(&["GRANT SELECT ON `my\\_shop`.* TO `a`@`%`"], true);
        assert!(literal.on("SELECT", "my\\_shop") && !literal.on("SELECT", "my_shop"));
        assert!(some.may_change("shop", "my_shop", "o`r.d").is_ok());
        let error = some.may_change("shop", "my_shop", "t").unwrap_err().to_string();
        assert!(
            error.contains("GRANT UPDATE, TRIGGER ON `my_shop`.*") && error.contains("target grants shop"),
            "{error}"
        );
    }

    #[test]
    fn what_is_left_out_of_a_grant_is_none() {
        let some = Grants::read(
            &[
                "GRANT SELECT, INSERT ON *.* TO `v`@`%`",
                "REVOKE INSERT ON `shop`.* FROM `v`@`%`",
                "GRANT INSERT ON `shop`.`t` TO `v`@`%`",
            ],
            false,
        );
        assert!(some.on("SELECT", "shop") && some.on("INSERT", "other"));
        assert!(!some.on("INSERT", "shop") && some.on_table("INSERT", "shop", Some("t")));
    }

    /// Whoever may name a column does not grant anything by it.
    #[test]
    fn names_are_no_grants() {
        for line in [
            "GRANT SELECT (`a ON *.* TO b`) ON `s`.`t` TO `a`@`%`",
            "GRANT INSERT (`INSERT`), UPDATE (`x), INSERT ON *.* TO y`) ON `s`.`t` TO `a`@`%`",
            "GRANT USAGE ON *.* TO `INSERT ON *.*`@`%`",
            "GRANT `INSERT` TO `a`@`%`",
            "GRANT INSERT",
        ] {
            let some = Grants::read(&[line], false);
            assert!(!some.on_table("INSERT", "s", Some("t")) && !some.globally("INSERT"), "{line}: {some:?}");
        }
    }
}
