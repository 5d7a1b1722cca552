//! What the open transaction has changed, as the server itself counts it.
//!
//! Locks tell which tables were written (they are held until the end), counters of the session tell how many
//! rows, cascades and triggers included. DDL shows as rows of the catalogue, TRUNCATE as an exclusive lock.

use super::{
    connect::Session,
    rights,
    schema::{self, ForeignKey, Relation},
    sql::{Texts, ask_one},
    values::Trouble,
};
use crate::{Affected, Error, How, Measured};
use std::collections::BTreeMap;

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

/// Asks, within the transaction, what it has touched: how, which table, how many rows. Planned each time, so as
/// plain as can be.
pub(super) fn asked(session: &Session) -> String {
    let counters = |table: &str| {
        ["inserted", "updated", "deleted"]
            .map(|what| format!("pg_catalog.pg_stat_get_xact_tuples_{what}({table})"))
    };
    let (own, rows) = (counters("t"), counters("relation"));
    format!(
        "SELECT 'catalogue', t, {} FROM pg_catalog.unnest('{}'::pg_catalog.oid[]) t WHERE 0 < {}; \
         SELECT CASE WHEN pg_catalog.bool_or(mode = 'AccessExclusiveLock') THEN 'exclusive' ELSE 'rows' END, relation, {} \
         FROM pg_catalog.pg_lock_status() WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation' \
           AND mode NOT IN ('AccessShareLock', 'RowShareLock') GROUP BY relation",
        own.join(", "),
        session.catalogue(),
        own.join(" + "),
        rows.join(", "),
    )
}

/// What that means: the changed tables, and the foreign keys from and to them. `watch` looks up what they are:
/// they are locked, and a transaction that changed their shape itself is refused. So is what the account could not put back.
pub(super) async fn touched(
    watch: &Session,
    rows: Texts,
) -> Result<(Vec<Touched>, Vec<ForeignKey>), Trouble> {
    let strange = || Error::Internal("PostgreSQL does not tell what was changed".to_owned());
    let mut numbers = BTreeMap::new();
    for row in rows {
        let [Some(how), Some(oid), counts @ ..] = row.as_slice() else { return Err(strange().into()) };
        let counts: Option<Vec<u64>> = counts.iter().map(|n| n.as_ref()?.parse().ok()).collect();
        let (Ok(oid), Some(&[inserted, updated, deleted])) = (oid.parse::<u32>(), counts.as_deref()) else {
            return Err(strange().into());
        };
        // Tables show by their rows. Views show by their lock, which whoever writes to one takes, by whatever way:
        // one of them changes the settings of the session.
        if how != "catalogue" && oid < FIRST_OWN {
            let name = format!("SELECT {oid}::pg_catalog.regclass");
            let name = ask_one(watch, &name).await?.unwrap_or_default();
            return Err(Error::Unmeasurable(format!(
                "it writes to {name}, which belongs to the server itself: what follows from that, such as changed settings, cannot be measured; let a person do it"
            ))
            .into());
        }
        if how == "catalogue" {
            let name = format!("SELECT {oid}::pg_catalog.regclass");
            let name = ask_one(watch, &name).await?.unwrap_or_default();
            return Err(Error::Unmeasurable(format!(
                "it changes the structure of the database ({name}), not only its rows, which cannot be measured or undone: let a person do it"
            ))
            .into());
        }
        numbers.insert(oid, (how == "exclusive", inserted, updated, deleted));
    }
    if numbers.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let oids: Vec<u32> = numbers.keys().copied().collect();
    let changed = numbers.iter().filter(|(_, (_, i, u, d))| (*i, *u, *d) != (0, 0, 0)).map(|(oid, _)| *oid);
    let changed: Vec<u32> = changed.collect();
    let (found, keys, allowed) = tokio::join!(
        schema::relations(watch, oids.iter().copied()),
        schema::foreign_keys(watch, oids.iter().copied()),
        rights::check(watch, &changed)
    );
    let mut touched = Vec::new();
    for relation in schema::all(found?, &oids)? {
        let Some((exclusive, inserted, updated, deleted)) = numbers.get(&relation.oid).copied() else {
            continue;
        };
        let name = &relation.resource;
        let why = match relation.kind {
            'r' | 'p' | 'f' | 'm' if exclusive => format!(
                "it truncates, rewrites or exclusively locks {name}, which cannot be measured or undone: use DELETE, or let a person do it"
            ),
            'f' => format!(
                "{name} is a foreign table: what is changed there cannot be measured or undone; connect that system as a target of its own"
            ),
            'm' => format!("{name} is a materialised view, which cannot be undone"),
            'r' | 'p' if (inserted, updated, deleted) != (0, 0, 0) => {
                touched.push(Touched { relation, inserted, updated, deleted });
                continue;
            }
            _ => continue,
        };
        return Err(Error::Unmeasurable(why).into());
    }
    if !touched.is_empty() {
        allowed?;
    }
    Ok((touched, keys?))
}

/// The counters in words. `said` is the one statement, if it was one.
pub(super) fn measured(touched: &[Touched], keys: &[ForeignKey], said: Option<&Said>) -> Measured {
    let mut sums: BTreeMap<(&str, How), u64> = BTreeMap::new();
    let removed = |oid: u32| touched.iter().any(|t| t.relation.is(oid) && t.deleted > 0);
    // What is left of the statement's own rows: the rest of its table followed.
    let mut own = said.map_or(0, |said| said.affected);
    for t in touched {
        let relation = &t.relation;
        let named = said.is_some_and(|said| said.table.as_deref() == resource_name(relation));
        let follows = |action: &[char]| {
            keys.iter()
                .any(|key| relation.is(key.child) && action.contains(&key.on_delete) && removed(key.parent))
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
        let from =
            |key: &&ForeignKey| t.relation.is(key.child) && touched.iter().any(|o| o.relation.is(key.parent));
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
