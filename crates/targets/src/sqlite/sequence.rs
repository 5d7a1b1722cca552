//! The counters of AUTOINCREMENT.

use super::connect::Fault;
use rusqlite::{Connection, OptionalExtension as _};

/// A table's counter; none when it has none yet.
pub(super) fn read(connection: &Connection, table: &str) -> Result<Option<i64>, Fault> {
    let there = connection
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'", [], |_| Ok(()))
        .optional()?;
    if there.is_none() {
        return Ok(None);
    }
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?1";
    Ok(connection.query_row(sql, [table], |row| row.get(0)).optional()?)
}

/// Sets it, or takes it away.
pub(super) fn write(connection: &Connection, table: &str, to: Option<i64>) -> Result<(), Fault> {
    if read(connection, table)? == to {
        return Ok(());
    }
    match to {
        None => connection.execute("DELETE FROM sqlite_sequence WHERE name = ?1", [table])?,
        Some(n) => {
            let updated =
                connection.execute("UPDATE sqlite_sequence SET seq = ?2 WHERE name = ?1", (table, n))?;
            if updated == 0 {
                connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", (table, n))?;
            }
            updated
        }
    };
    Ok(())
}
