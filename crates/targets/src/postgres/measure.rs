//! What the open transaction has changed, as the server itself counts it.
//!
//! Locks tell which tables were written (they are held until the end), counters of the session tell how many
//! rows, cascades and triggers included. DDL shows as rows of the catalogue, TRUNCATE as an exclusive lock.

use super::{
    schema::{self, ForeignKey, Relation},
    sql::ask,
};
use crate::{Affected, Error, How, Measured};
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// Objects of the database's own begin here.
const FIRST_OWN: u32 = 16_384;

/// A table that the transaction has changed.
#[derive(Clone, Debug)]
pub(super) struct Touched {
    pub(super) relation: Relation,
    pub(super) inserted: u64,
    pub(super) updated: u64,
    pub(super) deleted: u64,
}

/// The statement as far as it is understood, to tell its own rows from what followed.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) verb: String,
    /// Rows that it says it changed.
    pub(super) affected: u64,
    /// The last part of the name of the table that it changes.
    pub(super) table: Option<String>,
}

/// Asks the server. The session must be pinned to `pg_catalog`.
pub(super) async fn touched(client: &Client) -> Result<Vec<Touched>, super::values::Trouble> {
    let counters = |oid: &str| {
        ["inserted", "updated", "deleted"]
            .map(|what| format!("pg_catalog.pg_stat_get_xact_tuples_{what}({oid})"))
            .join(", ")
    };
    let rows = ask(
        client,
        &format!(
            "SELECT 'catalogue', c.oid, c.relname, c.relkind, {} FROM pg_catalog.pg_class c \
               WHERE c.oid < {FIRST_OWN} AND c.relkind = 'r' AND 0 < pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid) \
                 + pg_catalog.pg_stat_get_xact_tuples_updated(c.oid) + pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid) \
             UNION ALL \
             SELECT l.mode, c.oid, n.nspname || '.' || c.relname, c.relkind, {} FROM \
               (SELECT relation, CASE WHEN bool_or(mode = 'AccessExclusiveLock') THEN 'exclusive' ELSE 'rows' END AS mode \
                FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation' \
                  AND mode NOT IN ('AccessShareLock', 'RowShareLock') AND relation >= {FIRST_OWN} GROUP BY relation) l \
               JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 'p', 'f', 'm')",
            counters("c.oid"),
            counters("c.oid"),
        ),
    )
    .await?;
    let mut numbers = BTreeMap::new();
    for row in rows {
        let cell = |i: usize| row.get(i).and_then(|cell| cell.as_deref()).unwrap_or("");
        let number = |i: usize| cell(i).parse::<u64>().unwrap_or(0);
        let (name, kind) = (cell(2), cell(3));
        match cell(0) {
            "catalogue" => {
                return Err(Error::Unmeasurable(format!(
                    "it changes the structure of the database ({name}), not only its rows, which cannot be measured or undone: let a person do it"
                ))
                .into());
            }
            "exclusive" => {
                return Err(Error::Unmeasurable(format!(
                    "it truncates, rewrites or exclusively locks {name}, which cannot be measured or undone: use DELETE, or let a person do it"
                ))
                .into());
            }
            _ if kind == "f" => {
                return Err(Error::Unmeasurable(format!(
                    "{name} is a foreign table: what is changed there cannot be measured or undone; connect that system as a target of its own"
                ))
                .into());
            }
            _ if kind == "m" => {
                return Err(Error::Unmeasurable(format!(
                    "{name} is a materialised view, which cannot be undone"
                ))
                .into());
            }
            _ => {}
        }
        let counts = (number(4), number(5), number(6));
        if let (Ok(oid), true) = (cell(1).parse::<u32>(), counts != (0, 0, 0)) {
            numbers.insert(oid, counts);
        }
    }
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let oids: Vec<u32> = numbers.keys().copied().collect();
    let found = schema::all(schema::relations(client, oids.iter().copied()).await?, &oids)?;
    let touched = found.into_iter().filter_map(|relation| {
        let (inserted, updated, deleted) = *numbers.get(&relation.oid)?;
        Some(Touched { relation, inserted, updated, deleted })
    });
    Ok(touched.collect())
}

/// The counters in words. `said` is the one statement, if it was one.
pub(super) fn measured(touched: &[Touched], keys: &[ForeignKey], said: Option<&Said>) -> Measured {
    let mut sums: BTreeMap<(&str, How), u64> = BTreeMap::new();
    let removed = |oid: u32| touched.iter().any(|t| t.relation.root == oid && t.deleted > 0);
    // What is left of the statement's own rows: the rest of its table followed.
    let mut own = said.map_or(0, |said| said.affected);
    for t in touched {
        let relation = &t.relation;
        let named = said.is_some_and(|said| said.table.as_deref() == resource_name(relation));
        let follows = |action: &[char]| {
            keys.iter().any(|key| {
                (key.child == relation.root || key.child == relation.oid)
                    && action.contains(&key.on_delete)
                    && removed(key.parent)
            })
        };
        let mut add = |how: How, records: u64| {
            if records > 0 {
                *sums.entry((relation.resource.as_str(), how)).or_default() += records;
            }
        };
        add(How::Insert, t.inserted);
        let deletes = if named && said.is_some_and(|said| said.verb == "delete") {
            let mine = own.min(t.deleted);
            own -= mine;
            mine
        } else if follows(&['c']) {
            0
        } else {
            t.deleted
        };
        add(How::Delete, deletes);
        add(How::Cascade, t.deleted - deletes);
        let unlinked = !(named && said.is_some_and(|said| said.verb == "update")) && follows(&['n', 'd']);
        add(if unlinked { How::Unlink } else { How::Update }, t.updated);
    }
    let affected = sums
        .into_iter()
        .map(|((resource, how), records)| Affected { resource: resource.to_owned(), how, records })
        .collect();
    // A record may be counted twice where a trigger or a second foreign key may touch it again, where it moved
    // to another partition, and where more than one statement ran or a procedure did.
    let plain = said.is_some_and(|said| matches!(said.verb.as_str(), "insert" | "update" | "delete"));
    let moved = |t: &Touched| {
        t.relation.partition
            && t.inserted > 0
            && touched.iter().any(|o| o.relation.root == t.relation.root && o.deleted > 0)
    };
    let twice = |t: &Touched| {
        let from = |key: &&ForeignKey| {
            (key.child == t.relation.root || key.child == t.relation.oid)
                && touched.iter().any(|o| o.relation.root == key.parent || o.relation.oid == key.parent)
        };
        // One foreign key may follow; where the statement itself was at work, none.
        let named = said.is_some_and(|said| said.table.as_deref() == resource_name(&t.relation));
        let most = usize::from(!named);
        keys.iter().filter(from).count() > most
    };
    let exact = touched.is_empty()
        || plain
            && !touched.iter().any(|t| t.relation.triggers > 0 || moved(t) || (t.updated > 0 && twice(t)));
    Measured { affected, exact }
}

/// The last part of a resource's path.
fn resource_name(relation: &Relation) -> Option<&str> {
    relation
        .resource
        .strip_prefix(&relation.schema)
        .and_then(|rest| rest.strip_prefix('.'))
        .or_else(|| relation.resource.rsplit('.').next())
}
