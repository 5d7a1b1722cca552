//! The usual rollback: nobody has worked on the records since. A table's rows then still carry the number of
//! the transaction that changed them, so they are as its after-images say, which need not be loaded to see
//! that; and each old row is written over the new one in place.
//!
//! Where this does not hold for every record of every such table, nothing of it stays, and each record is
//! compared by its content instead ([`super::compare`]).

use super::{
    super::{
        TIME_LINE,
        connect::Session,
        schema::ForeignKey,
        sql::{ask, ident, literal},
        values::Trouble,
    },
    REPLICA,
    stage::Staged,
};
use crate::{
    Error, Progress,
    snapshot::{Side, Snapshot, SnapshotWriter},
};
use std::{collections::BTreeMap, sync::atomic::Ordering};
use tokio_postgres::error::SqlState;

/// Numbers of transactions are used again after this many.
const USED_AGAIN: u64 = 1 << 31;

/// The number of the transaction that left the after-images, as rows carry it. None where rows may carry the
/// same number for another reason.
pub(super) async fn mark(session: &Session, snapshot: &Snapshot) -> Result<Option<u64>, Trouble> {
    let system = &snapshot.footer(0)?.system;
    let text = |key: &str| system.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
    let Ok(number) = text("transaction").parse::<u64>() else { return Ok(None) };
    let here = format!(
        "SELECT {TIME_LINE} = {}, \
         pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())",
        literal(text("time_line"))
    );
    let rows = ask(session, &here).await?;
    let [Some(same), Some(next)] = rows.first().map_or(&[][..], Vec::as_slice) else { return Ok(None) };
    let known = same == "t" && next.parse::<u64>().is_ok_and(|next| next.saturating_sub(number) < USED_AGAIN);
    Ok(known.then_some(number & u64::from(u32::MAX)))
}

/// Whether a table's old rows can be written over the new ones: as many of the one as of the other, told apart
/// by a key, and nothing refers to what is not in the key.
pub(super) fn can(one: &Staged, (before, after): (u64, u64), keys: &[ForeignKey]) -> bool {
    let referred = |key: &&ForeignKey| key.parent == one.now.oid || key.parent == one.now.root;
    let in_key = |name: &String| one.now.key_names().any(|key| key == name);
    before == after
        && before > 0
        && one.keyed
        && one.sealed
        && one.columns.len() == one.now.columns.len()
        && !one.writable.is_empty()
        && keys.iter().filter(referred).all(|key| key.columns.iter().all(|(_, parent, _)| in_key(parent)))
}

/// Writes the old rows over the new ones. False, and nothing was changed, where one of them is not as the
/// transaction left it, or cannot be changed in place.
pub(super) async fn write_over(session: &Session, staged: &[Staged]) -> Result<bool, Trouble> {
    if staged.iter().all(|one| one.swift.is_none()) {
        return Ok(true);
    }
    ask(session, "SAVEPOINT checkrein_swift").await?;
    let work = async {
        ask(session, REPLICA).await?;
        for one in staged {
            let Some((mark, rows)) = one.swift else { continue };
            let (old, new) = (one.list("b"), one.list("x"));
            let same = format!("pg_catalog.record_image_eq(ROW({old}), ROW({new}))");
            let set = one.writable.iter().map(|name| format!("{name} = b.{name}", name = ident(name)));
            let update = format!(
                "WITH u AS (UPDATE ONLY {} x SET {} FROM {} b WHERE {} AND x.xmin = '{mark}'::pg_catalog.xid AND NOT {same} \
                 RETURNING {same} OR {} = {} AS same) SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE same) FROM u",
                one.now.sql(),
                set.collect::<Vec<_>>().join(", "),
                one.before(),
                one.now.same_key("x", "b"),
                one.image("b"),
                one.image("x"),
            );
            let found = ask(session, &update).await?;
            let all = Some(rows.to_string());
            if found.first().is_none_or(|row| row.iter().any(|number| *number != all)) {
                return Ok(false);
            }
        }
        Ok::<_, tokio_postgres::Error>(true)
    };
    let done = match work.await {
        // Values that change places, identities, rules, checks, a missing privilege: the longer way tells.
        Err(error) if error.code().is_some_and(|code| *code != SqlState::QUERY_CANCELED) => false,
        result => result?,
    };
    let end = if done { "RELEASE" } else { "ROLLBACK TO" };
    ask(session, &format!("{end} SAVEPOINT checkrein_swift")).await?;
    Ok(done)
}

/// Writes the images of such tables into the snapshot that undoes the rollback: what stood is what the
/// transaction had left, and what stands now is what it had found.
pub(super) async fn exchange(
    snapshot: &Snapshot,
    staged: &[Staged],
    tables: &BTreeMap<u32, u32>,
    progress: &Progress,
    out: &mut SnapshotWriter,
) -> Result<(), Error> {
    if tables.is_empty() {
        return Ok(());
    }
    let mut blocks = snapshot.blocks();
    while let Some(block) = blocks.next().await? {
        let one = staged.iter().find(|one| one.is(block.part, block.table) && one.swift.is_some());
        let Some(table) = one.and_then(|one| tables.get(&one.now.oid)) else { continue };
        let side = match block.side {
            Side::Before => Side::After,
            Side::After => {
                progress.done.fetch_add(block.rows, Ordering::Relaxed);
                Side::Before
            }
        };
        out.rows(*table, side, block.rows, &block.data).await?;
    }
    Ok(())
}
