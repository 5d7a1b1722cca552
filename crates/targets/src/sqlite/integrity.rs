//! Foreign keys that hold, before and after.

use super::{
    connect::Fault,
    schema::{Catalog, foreign_keys},
};
use crate::Error;
use rusqlite::{Connection, types::Value};
use std::collections::{BTreeSet, HashMap};

/// Broken references that are looked at; a file with more cannot be judged.
const MOST: usize = 100_000;

type Violation = (String, Option<i64>, String, i64);

/// A reference from or to one of `tables` that holds in the old state and is broken in the new one, in words.
pub(super) fn new_violation(
    (old, new): (&Connection, &Connection),
    tables: &[&str],
) -> Result<Option<String>, Fault> {
    let catalog = Catalog::load(new)?;
    let concerned: BTreeSet<String> = foreign_keys(new, &catalog)?
        .into_iter()
        .filter(|key| {
            tables.iter().any(|t| t.eq_ignore_ascii_case(&key.child) || t.eq_ignore_ascii_case(&key.parent))
        })
        .map(|key| key.child)
        .collect();
    for table in concerned {
        let broken = violations(new, &table)?;
        if broken.is_empty() {
            continue;
        }
        let mut before: HashMap<Violation, usize> = HashMap::new();
        for violation in violations(old, &table)? {
            *before.entry(violation).or_default() += 1;
        }
        for violation in broken {
            match before.get_mut(&violation) {
                Some(left) if *left > 0 => *left -= 1,
                _ => {
                    let (table, rowid, parent, _) = violation;
                    let record = rowid.map_or_else(String::new, |id| format!(" (rowid {id})"));
                    return Ok(Some(format!(
                        "a record of {table}{record} refers to one of {parent} that is not there"
                    )));
                }
            }
        }
    }
    Ok(None)
}

fn violations(connection: &Connection, table: &str) -> Result<Vec<Violation>, Fault> {
    let mut check =
        connection.prepare("SELECT \"table\", rowid, parent, fkid FROM pragma_foreign_key_check(?1)")?;
    let mut rows = check.query([table])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let rowid = match row.get(1)? {
            Value::Integer(rowid) => Some(rowid),
            _ => None,
        };
        found.push((row.get(0)?, rowid, row.get(2)?, row.get(3)?));
        if found.len() > MOST {
            return Err(Error::Unmeasurable(format!(
                "{table} has more than {MOST} references to records that are not there; mend them first (PRAGMA foreign_key_check)"
            ))
            .into());
        }
    }
    Ok(found)
}
