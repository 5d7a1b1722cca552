//! Puts records back: first everything that is to go, in all tables, then everything that is to come back, so
//! that values which changed places do not stand in each other's way.

use super::{
    super::{
        connect::Session,
        copy::{Sink, copy_out},
        images::Alike,
        schema,
        sql::{ask, ask_one, ident},
        values::Trouble,
    },
    compare::{self, Compared},
    stage::Staged,
};
use crate::{
    Affected, Error, How, Measured,
    snapshot::{Side, SnapshotWriter},
};
use std::collections::BTreeMap;
use tokio::sync::Mutex;

/// Does it, verifies it, and writes what stood and what stands now into `out`.
pub(super) async fn restore(
    session: &Session,
    staged: &[Staged],
    compared: &[Compared],
    out: &mut SnapshotWriter,
) -> Result<(Measured, Alike), Trouble> {
    let mut alike = Alike::new();
    let mut tables = Vec::with_capacity(staged.len());
    for (one, done) in staged.iter().zip(compared) {
        if done.nothing() {
            tables.push(None);
            continue;
        }
        let shape = serde_json::to_value(&one.now).map_err(|e| Error::Internal(e.to_string()))?;
        let table = out.table(&one.now.resource, shape).await?;
        remove(session, one, done, out, table, &mut alike).await?;
        tables.push(Some(table));
    }
    for ((one, done), table) in staged.iter().zip(compared).zip(&tables) {
        if let Some(table) = table {
            put_back(session, one, done, out, *table).await?;
        }
    }
    Ok((measured(staged, compared), alike))
}

async fn remove(
    session: &Session,
    one: &Staged,
    done: &Compared,
    out: &mut SnapshotWriter,
    table: u32,
    alike: &mut Alike,
) -> Result<(), Trouble> {
    let removed = done.removed();
    if removed.is_empty() {
        // The table must be there, since it is asked for.
        let none = format!(
            "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT * FROM ONLY {} WITH NO DATA",
            one.removed(),
            one.now.sql()
        );
        ask(session, &none).await?;
        return Ok(());
    }
    let (now, work) = (one.now.sql(), one.work());
    let which = format!("{work} w WHERE x.ctid = w.n AND w.code = ANY ({})", compare::list(&removed));
    ask(
        session,
        &format!(
            "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT x.* FROM ONLY {now} x, {which}; ANALYZE {}",
            one.removed(),
            one.removed()
        ),
    )
    .await?;
    if one.now.key.is_empty() {
        let image = |alias: &str| format!("ROW({})::text", one.now.list(alias));
        let count = format!(
            "SELECT pg_catalog.count(*) FROM ONLY {now} x WHERE {} IN (SELECT {} FROM {} y)",
            image("x"),
            image("y"),
            one.removed()
        );
        let number = ask_one(session, &count).await?.and_then(|n| n.parse().ok());
        alike.extend(number.map(|number: u64| (one.now.oid.to_string(), number.into())));
    }
    let replaced = done.replaced();
    if !one.added.is_empty() && !replaced.is_empty() {
        let added = schema::list(one.added.iter().map(String::as_str), "x");
        let keep = format!(
            "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT w.b AS checkrein_b, {added} FROM ONLY {now} x, {work} w \
             WHERE x.ctid = w.n AND w.code = ANY ({})",
            one.kept(),
            compare::list(&replaced)
        );
        ask(session, &keep).await?;
    }
    let mut sink = Sink { out: &Mutex::new(out), table, side: Side::Before, digest: None };
    let stood =
        copy_out(session, &format!("SELECT {} FROM {} x", one.now.list("x"), one.removed()), &mut sink)
            .await?;
    let expected = done.number(&removed);
    let deleted = session
        .execute_raw::<_, i32, _>(format!("DELETE FROM ONLY {now} x USING {which}").as_str(), [])
        .await?;
    if deleted != expected || stood != expected {
        return Err(lost(one, expected, deleted).into());
    }
    Ok(())
}

async fn put_back(
    session: &Session,
    one: &Staged,
    done: &Compared,
    out: &mut SnapshotWriter,
    table: u32,
) -> Result<(), Trouble> {
    let restored = done.restored();
    if restored.is_empty() {
        return Ok(());
    }
    let chosen = one.chosen(&compare::list(&restored));
    let expected = done.number(&restored);
    let into = |columns: &[&String]| columns.iter().map(|c| ident(c)).collect::<Vec<_>>().join(", ");
    let image = one.image("x");
    // One hash over all of them, added up, is the same before and after exactly when the records are.
    let sum = |image: &str| {
        format!(
            "coalesce(pg_catalog.sum(pg_catalog.hashtextextended({image}, 0)), 0)::text || ' ' || coalesce(pg_catalog.sum(pg_catalog.hashtextextended({image}, 1)), 0)::text"
        )
    };
    let insert = |columns: &[&String], select: &str| {
        let list = into(columns);
        let list = if list.is_empty() { list } else { format!("({list})") };
        let source = if columns.is_empty() {
            "DEFAULT VALUES".to_owned()
        } else {
            format!("OVERRIDING SYSTEM VALUE {select}")
        };
        // `RETURNING` sees the record as it went in, with whatever was computed on the way.
        format!("INSERT INTO {} AS x {list} {source} RETURNING {image} AS image", one.now.sql())
    };
    let writable: Vec<&String> = one.writable.iter().collect();
    let plain = insert(
        &writable,
        &format!("SELECT {} FROM {chosen}", schema::list(one.writable.iter().map(String::as_str), "b")),
    );
    let with_added = !one.added.is_empty() && !done.replaced().is_empty();
    let (mut count, mut sums) = (0_u64, String::new());
    if with_added {
        // Records that were replaced keep what columns hold that were added since; the others get defaults.
        let replaced = compare::list(&done.replaced());
        let all: Vec<&String> = one.writable.iter().chain(&one.added).collect();
        let writable_list = schema::list(one.writable.iter().map(String::as_str), "b");
        let added = schema::list(one.added.iter().map(String::as_str), "k");
        let kept = insert(
            &all,
            &format!("SELECT {writable_list}, {added} FROM {chosen} AND w.code = ANY ({replaced})").replacen(
                &format!("JOIN {} w ON w.b = b.ctid", one.work()),
                &format!(
                    "JOIN {} w ON w.b = b.ctid JOIN {} k ON k.checkrein_b = b.ctid",
                    one.work(),
                    one.kept()
                ),
                1,
            ),
        );
        let fresh = insert(
            &writable,
            &format!("SELECT {writable_list} FROM {chosen} AND NOT w.code = ANY ({replaced})"),
        );
        let both = format!(
            "WITH kept AS ({kept}), fresh AS ({fresh}), i AS (SELECT image FROM kept UNION ALL SELECT image FROM fresh) \
             SELECT pg_catalog.count(*), {} FROM i",
            sum("image")
        );
        read(&ask(session, &both).await?, &mut count, &mut sums);
    } else if writable.is_empty() {
        for _ in 0..expected {
            ask(session, &format!("INSERT INTO {} DEFAULT VALUES", one.now.sql())).await?;
            count += 1;
        }
    } else {
        let counted = format!("WITH i AS ({plain}) SELECT pg_catalog.count(*), {} FROM i", sum("image"));
        read(&ask(session, &counted).await?, &mut count, &mut sums);
    }
    let wanted = format!("SELECT {} FROM {chosen}", sum(&one.image("b")));
    let wanted = ask_one(session, &wanted).await?.unwrap_or_default();
    if count != expected || (!writable.is_empty() && wanted != sums) {
        return Err(lost(one, expected, count).into());
    }
    let mut sink = Sink { out: &Mutex::new(out), table, side: Side::After, digest: None };
    let after = if one.columns.len() == one.now.columns.len() {
        format!("SELECT {} FROM {chosen}", one.list("b"))
    } else {
        standing(one, &chosen)
    };
    let stands = copy_out(session, &after, &mut sink).await?;
    if stands != expected {
        return Err(lost(one, expected, stands).into());
    }
    Ok(())
}

/// The restored rows as they stand now, with the columns that were added since.
fn standing(one: &Staged, chosen: &str) -> String {
    let columns = one.now.list("x");
    if one.keyed {
        let (from, condition) = chosen.split_once(" WHERE ").unwrap_or((chosen, "true"));
        let same = one.now.same_key("x", "b");
        return format!(
            "SELECT {columns} FROM {from} JOIN ONLY {} x ON {same} WHERE {condition}",
            one.now.sql()
        );
    }
    // Without a key: those that this transaction made.
    format!("SELECT {columns} FROM ONLY {} x WHERE pg_catalog.age(x.xmin) <= 0", one.now.sql())
}

fn read(rows: &[Vec<Option<String>>], count: &mut u64, sums: &mut String) {
    if let Some([Some(number), Some(text)]) = rows.first().map(Vec::as_slice) {
        *count = number.parse().unwrap_or(0);
        text.clone_into(sums);
    }
}

fn lost(one: &Staged, expected: u64, found: u64) -> Error {
    Error::Irreversible(format!(
        "the verification of {} failed: {expected} records should have been put back or removed exactly, and {found} were, or not exactly; a trigger that always fires or a rule may be the reason; nothing was changed",
        one.now.resource
    ))
}

fn measured(staged: &[Staged], compared: &[Compared]) -> Measured {
    let mut sums: BTreeMap<(&str, How), u64> = BTreeMap::new();
    for (one, done) in staged.iter().zip(compared) {
        let replaced = done.number(&done.replaced());
        let mut add = |how, records: u64| {
            if records > 0 {
                *sums.entry((one.now.resource.as_str(), how)).or_default() += records;
            }
        };
        add(How::Update, replaced);
        add(How::Insert, done.number(&done.restored()) - replaced);
        add(How::Delete, done.number(&done.removed()) - replaced);
    }
    let affected = sums
        .into_iter()
        .map(|((resource, how), records)| Affected { resource: resource.to_owned(), how, records })
        .collect();
    Measured { affected, exact: true }
}

/// That the transaction changed what it should and nothing else: a trigger that always fires would show here.
pub(super) async fn nothing_else(
    session: &Session,
    staged: &[Staged],
    compared: &[Compared],
) -> Result<(), Trouble> {
    let rows = ask(
        session,
        "SELECT c.oid, n.nspname || '.' || c.relname, pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid), \
           pg_catalog.pg_stat_get_xact_tuples_updated(c.oid), pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid) \
         FROM (SELECT DISTINCT relation FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() \
             AND locktype = 'relation' AND mode NOT IN ('AccessShareLock', 'RowShareLock')) l \
           JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid >= 16384 AND c.relkind IN ('r', 'f', 'm') AND c.relpersistence <> 't'",
    )
    .await?;
    for row in rows {
        let cell = |i: usize| row.get(i).and_then(|cell| cell.as_deref()).unwrap_or("");
        let found = [2, 3, 4].map(|i| cell(i).parse::<u64>().unwrap_or(u64::MAX));
        let one = staged.iter().zip(compared).find(|(one, _)| one.now.oid.to_string() == cell(0));
        let expected = one
            .map_or([0, 0, 0], |(_, done)| [done.number(&done.restored()), 0, done.number(&done.removed())]);
        if found != expected {
            return Err(Error::Irreversible(format!(
                "putting the records back also changed {}, by a trigger that always fires or a rule; nothing was changed",
                cell(1)
            ))
            .into());
        }
    }
    Ok(())
}
