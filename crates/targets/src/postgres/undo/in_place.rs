//! The usual rollback: nobody has worked on the records since, and the action changed or removed records rather
//! than made new ones. Then what stands where the before-images were is, taken together, what the after-images
//! say. To see that, these need not be loaded: a digest over the texts of both tells, which cover the keys too.
//! And each old record is written over the new one, in place and only where it differs.
//!
//! Which columns differ at all is a guess, made from sums of hashes while the snapshot is read: what is written is
//! read back in full, and its digest must be that of the before-images. Where anything of this does not hold for
//! every such table, nothing of it stays, and the rollback begins again, with each record loaded and compared by
//! itself ([`super::compare`]).

use super::{
    super::{
        connect::Session,
        copy::{Sink, copy_rows},
        schema::{self, ForeignKey},
        sql::ident,
        values::Trouble,
    },
    compare::Compared,
    restore::recorded,
    stage::Staged,
};
use crate::{
    Error, RowsDigest,
    snapshot::{Side, Snapshot, SnapshotWriter},
};
use foldhash::quality::RandomState;
use std::hash::BuildHasher as _;
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;

/// What is known of a table whose records can be written over.
pub(super) struct InPlace {
    /// The recorded columns that are loaded, by position: those of the key and those that are written.
    pub(super) loaded: Vec<usize>,
    /// The columns that are written over.
    set: Vec<String>,
    before: RowsDigest,
    after: RowsDigest,
    rows: (u64, u64),
}

/// A table that was looked at.
pub(super) struct Looked {
    /// Its number in the snapshot that undoes the rollback.
    table: u32,
    /// The records that are as they were: the action wrote what was there.
    kept: RowsDigest,
    kept_rows: u64,
}

/// What one side of a table adds up to.
struct Sums {
    digest: RowsDigest,
    rows: u64,
    /// By column: hashes of the key and the cell. Alike on both sides when the column is.
    columns: Vec<u64>,
}

struct Survey<'s> {
    key: Vec<usize>,
    hash: &'s RandomState,
    before: Sums,
    after: Sums,
    strange: bool,
}

impl Survey<'_> {
    fn add(&mut self, side: Side, data: &[u8]) {
        let sums = match side {
            Side::Before => &mut self.before,
            Side::After => &mut self.after,
        };
        let mut cells: Vec<&[u8]> = Vec::with_capacity(sums.columns.len());
        for line in data.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            cells.clear();
            cells.extend(line.split(|b| *b == b'\t'));
            self.strange |= cells.len() != sums.columns.len();
            sums.digest.add("", line);
            sums.rows += 1;
            let mut key = 0;
            for cell in self.key.iter().filter_map(|at| cells.get(*at)) {
                key = self.hash.hash_one((key, cell));
            }
            for (sum, cell) in sums.columns.iter_mut().zip(&cells) {
                *sum = sum.wrapping_add(self.hash.hash_one((key, cell)));
            }
        }
    }

    /// What was found, if that can be written over.
    fn found(self, one: &Staged, keys: &[ForeignKey]) -> Option<InPlace> {
        let rows = (self.before.rows, self.after.rows);
        if self.strange || rows.1 > rows.0 {
            return None;
        }
        // Of as many records the sums tell. Of fewer there is nothing to compare them with.
        let sums = self.before.columns.iter().zip(&self.after.columns);
        let differs: Vec<bool> = sums.map(|(b, a)| rows.0 != rows.1 || b != a).collect();
        let is = |at: usize| differs.get(at).copied().unwrap_or(true);
        let named = one.columns.iter().enumerate();
        let in_key = |name: &String| one.now.key_names().any(|key| key == name);
        let set: Vec<String> = named
            .clone()
            .filter(|(at, name)| rows.1 > 0 && is(*at) && one.writable.contains(name) && !in_key(name))
            .map(|(_, name)| name.clone())
            .collect();
        // What others refer to is not to change under them.
        let referred = keys.iter().filter(|key| one.now.is(key.parent)).flat_map(|key| &key.columns);
        if (rows.1 > 0 && set.is_empty()) || referred.clone().any(|(_, parent, _)| set.contains(parent)) {
            return None;
        }
        let refers = |name: &String| {
            let mut mine = keys.iter().filter(|key| one.now.is(key.child)).flat_map(|key| &key.columns);
            mine.any(|(child, _, _)| child == name)
        };
        let loaded = named
            .filter(|(_, name)| rows.0 != rows.1 || in_key(name) || set.contains(name) || refers(name))
            .map(|(at, _)| at)
            .collect();
        Some(InPlace { loaded, set, before: self.before.digest, after: self.after.digest, rows })
    }
}

/// Reads the snapshot, and says of each table what is needed to write its records over, if that can be done.
pub(super) async fn survey(
    snapshot: &Snapshot,
    staged: &mut [Staged],
    keys: &[ForeignKey],
) -> Result<(), Error> {
    let hash = RandomState::default();
    let sums = |one: &Staged| Sums { digest: RowsDigest::default(), rows: 0, columns: vec![0; one.columns.len()] };
    let can = |one: &Staged| {
        let key = one.now.key_names().map(|name| one.columns.iter().position(|column| column == name));
        let key: Option<Vec<usize>> = key.collect();
        let (before, after) = one.totals(snapshot);
        (one.sealed && one.keyed && before > 0 && after <= before).then_some(key?)
    };
    let mut surveys: Vec<Option<Survey<'_>>> = staged
        .iter()
        .map(|one| {
            let key = can(one)?;
            Some(Survey { key, hash: &hash, before: sums(one), after: sums(one), strange: false })
        })
        .collect();
    if surveys.iter().all(Option::is_none) {
        return Ok(());
    }
    let mut blocks = snapshot.blocks();
    while let Some(block) = blocks.next().await? {
        let mut both = staged.iter().zip(&mut surveys);
        if let Some((_, Some(survey))) = both.find(|(one, _)| one.is(block.part, block.table)) {
            survey.add(block.side, &block.data);
        }
    }
    for (one, survey) in staged.iter_mut().zip(surveys) {
        one.in_place = survey.and_then(|survey| survey.found(one, keys));
    }
    Ok(())
}

/// Whether the columns that would be written are alike already, as SQL.
fn alike(place: &InPlace, there: &str) -> String {
    if place.set.is_empty() {
        return "false".to_owned();
    }
    let list = |alias: &str| schema::list(place.set.iter().map(String::as_str), alias);
    format!("pg_catalog.record_image_eq(ROW({}), ROW({}))", list("b"), list(there))
}

/// Looks at the present records of all such tables and writes them into `out`. None where they are not what the
/// action left.
pub(super) async fn look(
    session: &Session,
    staged: &[Staged],
    out: &mut SnapshotWriter,
) -> Result<Option<Vec<Option<Looked>>>, Trouble> {
    let mut all = Vec::with_capacity(staged.len());
    for one in staged {
        let Some(place) = &one.in_place else {
            all.push(None);
            continue;
        };
        let shape = serde_json::to_value(&one.now).map_err(|e| Error::Internal(e.to_string()))?;
        let table = out.table(&one.now.resource, shape).await?;
        let mut looked = Looked { table, kept: RowsDigest::default(), kept_rows: 0 };
        let mut found = RowsDigest::default();
        let select = format!(
            "COPY (SELECT {}, {} FROM ONLY {} n JOIN {} b ON {}) TO STDOUT (FORMAT text)",
            alike(place, "n"),
            one.now.list("n"),
            one.now.sql(),
            one.before(),
            one.now.same_key("n", "b"),
        );
        let mut judge = |line: &[u8]| {
            let (flag, row) = line.split_at_checked(2)?;
            let row = recorded(row, one.columns.len())?;
            found.add("", row);
            if flag == b"t\t" {
                looked.kept.add("", row);
                looked.kept_rows += 1;
                return Some(line.len());
            }
            Some(2)
        };
        let mut sink = Sink { out: &Mutex::new(out), table, side: Side::Before, digest: None };
        let select = session.prepare(&select).await?;
        copy_rows(session, &select, &mut sink, &mut judge).await?;
        if found.finish() != place.after.finish() {
            return Ok(None);
        }
        all.push(Some(looked));
    }
    Ok(Some(all))
}

impl Looked {
    /// In the words of a comparison of each record.
    pub(super) fn compared(&self, one: &Staged) -> Compared {
        let (before, after) = one.in_place.as_ref().map_or((0, 0), |place| place.rows);
        Compared::as_left(before, after, self.kept_rows)
    }
}

/// Writes the old records over the new ones, verifies it, and writes what stands then into `out`. False, and the
/// transaction is good for nothing, where this is not how they can be put back.
pub(super) async fn write_over(
    session: &Session,
    staged: &[Staged],
    looked: &[Option<Looked>],
    out: &mut SnapshotWriter,
) -> Result<bool, Trouble> {
    for (one, looked) in staged.iter().zip(looked) {
        let (Some(place), Some(looked)) = (&one.in_place, looked) else { continue };
        match write_table(session, one, place, looked, out).await {
            Ok(true) => {}
            // Values that change places, identities, rules, checks: the other way does it or tells why not.
            Err(Trouble::Server(error)) if error.code().is_some_and(another_way) => return Ok(false),
            result => return result,
        }
    }
    Ok(true)
}

/// Whether another way may succeed: not where time ran out, the server is going, or it lacks room.
fn another_way(code: &SqlState) -> bool {
    !["57", "53", "40", "08"].iter().any(|class| code.code().starts_with(class))
        && *code != SqlState::LOCK_NOT_AVAILABLE
}

async fn write_table(
    session: &Session,
    one: &Staged,
    place: &InPlace,
    looked: &Looked,
    out: &mut SnapshotWriter,
) -> Result<bool, Trouble> {
    let (now, before) = (one.now.sql(), one.before());
    let (old, new) = place.rows;
    let (changed, missing) = (new.saturating_sub(looked.kept_rows), old.saturating_sub(new));
    let list = one.now.list("x");
    let mut written = looked.kept.clone();
    let mut judge = |line: &[u8]| {
        written.add("", recorded(line, one.columns.len())?);
        Some(0)
    };
    let mut sink = Sink { out: &Mutex::new(out), table: looked.table, side: Side::After, digest: None };
    // What is changed first makes room for what comes back.
    if changed > 0 {
        let set = place.set.iter().map(|name| format!("{name} = b.{name}", name = ident(name)));
        let update = format!(
            "COPY (UPDATE ONLY {now} x SET {} FROM {before} b WHERE {} AND NOT {} RETURNING {list}) TO STDOUT (FORMAT text)",
            set.collect::<Vec<_>>().join(", "),
            one.now.same_key("x", "b"),
            alike(place, "x"),
        );
        let update = session.prepare(&update).await?;
        if copy_rows(session, &update, &mut sink, &mut judge).await? != changed {
            return Ok(false);
        }
    }
    if missing > 0 {
        let columns = one.writable.iter().map(|c| ident(c)).collect::<Vec<_>>().join(", ");
        let insert = format!(
            "COPY (INSERT INTO {now} AS x ({columns}) OVERRIDING SYSTEM VALUE SELECT {} FROM {before} b \
             WHERE NOT EXISTS (SELECT 1 FROM ONLY {now} n WHERE {}) RETURNING {list}) TO STDOUT (FORMAT text)",
            schema::list(one.writable.iter().map(String::as_str), "b"),
            one.now.same_key("n", "b"),
        );
        let insert = session.prepare(&insert).await?;
        if copy_rows(session, &insert, &mut sink, &mut judge).await? != missing {
            return Ok(false);
        }
    }
    Ok(written.finish() == place.before.finish())
}
