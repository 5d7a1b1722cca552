//! Puts records back: first everything that is to go, in all tables, then everything that is to come back, so
//! that values which changed places do not stand in each other's way.

use super::{
    super::{
        connect::Session,
        copy::{Sink, copy_rows},
        images::{Alike, alike_after, alike_before, all_numbered},
        schema::{self, ForeignKey},
        sql::{ask, ask_one, ident},
        values::Trouble,
    },
    compare::{self, Compared},
    stage::Staged,
};
use crate::{
    Affected, Error, How, Measured, RowsDigest,
    snapshot::{Side, SnapshotWriter},
};
use std::collections::BTreeMap;
use tokio::sync::Mutex;

/// Does it, verifies it, and writes what stood and what stands now into `out`.
pub(super) async fn restore(
    session: &Session,
    staged: &[Staged],
    compared: &[Compared],
    keys: &[ForeignKey],
    out: &mut SnapshotWriter,
) -> Result<(Measured, Alike), Trouble> {
    let mut alike = Alike::new();
    let mut tables = Vec::with_capacity(staged.len());
    for (one, done) in staged.iter().zip(compared) {
        if done.nothing() || one.in_place.is_some() {
            tables.push(None);
            continue;
        }
        let shape = serde_json::to_value(&one.now).map_err(|e| Error::Internal(e.to_string()))?;
        let table = out.table(&one.now.resource, shape).await?;
        let referred = keys.iter().any(|key| one.now.is(key.parent));
        remove(session, one, done, referred, (out, table), &mut alike).await?;
        tables.push(Some(table));
    }
    for ((one, done), table) in staged.iter().zip(compared).zip(&tables) {
        if let Some(table) = table {
            put_back(session, one, done, out, *table).await?;
            if one.now.key.is_empty() && !done.restored().is_empty() {
                let restored = format!(
                    "(SELECT r.* FROM ONLY {} r WHERE pg_catalog.age(r.xmin) <= 0 AND {} IN (SELECT {} FROM {}))",
                    one.now.sql(),
                    one.image("r"),
                    one.image("b"),
                    one.chosen(&compare::list(&done.restored()))
                );
                count_alike(session, one, &restored, alike_after(one.now.oid), &mut alike).await?;
                alike.insert(all_numbered(one.now.oid), true.into());
            }
        }
    }
    Ok((measured(staged, compared), alike))
}

async fn remove(
    session: &Session,
    one: &Staged,
    done: &Compared,
    referred: bool,
    (out, table): (&mut SnapshotWriter, u32),
    alike: &mut Alike,
) -> Result<(), Trouble> {
    let removed = done.removed();
    if removed.is_empty() {
        return Ok(());
    }
    let (now, work) = (one.now.sql(), one.work());
    let which = format!("{work} w WHERE x.ctid = w.n AND w.code = ANY ({})", compare::list(&removed));
    if referred || one.now.key.is_empty() {
        let keep = format!(
            "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT x.* FROM ONLY {now} x, {which}",
            one.removed()
        );
        ask(session, &keep).await?;
    }
    if one.now.key.is_empty() {
        count_alike(session, one, &one.removed(), alike_before(one.now.oid), alike).await?;
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
    let delete = format!("DELETE FROM ONLY {now} x USING {which} RETURNING {}", rows_of(one));
    let mut sink = Sink { out: &Mutex::new(out), table, side: Side::Before, digest: None };
    let (expected, deleted) = (done.number(&removed), copied(session, one, &delete, &mut sink, None).await?);
    if deleted != expected {
        return Err(lost(one, expected, deleted).into());
    }
    Ok(())
}

/// Counts the records that are like one of those in `among`, for the snapshot that undoes the rollback.
async fn count_alike(
    session: &Session,
    one: &Staged,
    among: &str,
    name: String,
    alike: &mut Alike,
) -> Result<(), Trouble> {
    let image = |alias: &str| format!("ROW({})::text", one.now.list(alias));
    let count = format!(
        "SELECT pg_catalog.count(*) FROM ONLY {} x WHERE {} IN (SELECT {} FROM {among} y)",
        one.now.sql(),
        image("x"),
        image("y"),
    );
    let number = ask_one(session, &count).await?.and_then(|n| n.parse().ok());
    alike.extend(number.map(|number: u64| (name, number.into())));
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
    let names = |columns: &[&String], alias: &str| schema::list(columns.iter().map(|c| c.as_str()), alias);
    let insert = |columns: &[&String], select: &str| {
        let into = columns.iter().map(|c| ident(c)).collect::<Vec<_>>().join(", ");
        // `RETURNING` sees the record as it went in, with whatever was computed on the way.
        format!(
            "INSERT INTO {} AS x ({into}) OVERRIDING SYSTEM VALUE SELECT {select} RETURNING {}",
            one.now.sql(),
            rows_of(one)
        )
    };
    let writable: Vec<&String> = one.writable.iter().collect();
    let old = names(&writable, "b");
    let inserts = if writable.is_empty() {
        let one_more =
            format!("INSERT INTO {} AS x DEFAULT VALUES RETURNING {}", one.now.sql(), rows_of(one));
        vec![one_more; usize::try_from(expected).unwrap_or(usize::MAX)]
    } else if !one.added.is_empty() && !done.replaced().is_empty() {
        // Records that were replaced keep what columns hold that were added since; the others get defaults.
        let replaced = compare::list(&done.replaced());
        let all: Vec<&String> = one.writable.iter().chain(&one.added).collect();
        let added: Vec<&String> = one.added.iter().collect();
        let with_kept = chosen.replacen(
            " WHERE ",
            &format!(" JOIN {} k ON k.checkrein_b = b.ctid WHERE ", one.kept()),
            1,
        );
        vec![
            insert(
                &all,
                &format!("{old}, {} FROM {with_kept} AND w.code = ANY ({replaced})", names(&added, "k")),
            ),
            insert(&writable, &format!("{old} FROM {chosen} AND NOT w.code = ANY ({replaced})")),
        ]
    } else {
        vec![insert(&writable, &format!("{old} FROM {chosen}"))]
    };
    let mut sink = Sink { out: &Mutex::new(out), table, side: Side::After, digest: None };
    let (mut count, mut stands, mut wanted) = (0, RowsDigest::default(), RowsDigest::default());
    for insert in inserts {
        count += copied(session, one, &insert, &mut sink, Some(&mut stands)).await?;
    }
    if !one.columns.is_empty() {
        let select = format!("COPY (SELECT {} FROM {chosen}) TO STDOUT (FORMAT text)", one.list("b"));
        let select = session.prepare(&select).await?;
        let mut read = |line: &[u8]| {
            wanted.add("", recorded(line, one.columns.len())?);
            Some(line.len())
        };
        copy_rows(session, &select, &mut sink, &mut read).await?;
    }
    if count != expected || wanted.finish() != stands.finish() {
        return Err(lost(one, expected, count).into());
    }
    Ok(())
}

/// All columns of `x`, and something to return where there is none.
fn rows_of(one: &Staged) -> String {
    let list = one.now.list("x");
    if list.is_empty() { "NULL".to_owned() } else { list }
}

/// Copies what `change` returns, which is [`rows_of`] a table. Their recorded columns go into `digest`.
async fn copied(
    session: &Session,
    one: &Staged,
    change: &str,
    sink: &mut Sink<'_>,
    mut digest: Option<&mut RowsDigest>,
) -> Result<u64, Trouble> {
    let change = session.prepare(&format!("COPY ({change}) TO STDOUT (FORMAT text)")).await?;
    let mut read = |line: &[u8]| {
        if let (Some(digest), false) = (&mut digest, one.columns.is_empty()) {
            digest.add("", recorded(line, one.columns.len())?);
        }
        // Of a table without columns a row is an empty line.
        Some(if one.now.columns.is_empty() { line.len().checked_sub(1)? } else { 0 })
    };
    copy_rows(session, &change, sink, &mut read).await
}

/// The recorded cells of a row of all columns, without its line break: columns that were added since come last.
pub(super) fn recorded(row: &[u8], columns: usize) -> Option<&[u8]> {
    let row = row.strip_suffix(b"\n")?;
    let end = row.iter().enumerate().filter(|(_, b)| **b == b'\t').nth(columns.checked_sub(1)?);
    row.get(..end.map_or(row.len(), |(at, _)| at))
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
        let expected = one.map_or([0, 0, 0], |(one, done)| {
            let [restored, removed, replaced] =
                [done.restored(), done.removed(), done.replaced()].map(|codes| done.number(&codes));
            match one.in_place {
                Some(_) => [restored - replaced, replaced, removed - replaced],
                None => [restored, 0, removed],
            }
        });
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
