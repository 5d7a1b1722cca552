//! The usual rollback: nobody has worked on the records since, and the action changed or removed records rather
//! than made new ones. Then what stands where the before-images were is, taken together, what the after-images
//! say. To see that, these need not be loaded: a digest over the texts of both tells, which cover the keys too.
//! And each old record is written over the new one, in place and only where it differs.
//!
//! Both go on at once: another session looks at the records, which nobody can change any more, while they are
//! written over. It is only then, with all of it read, that it is said whether this was right.
//!
//! Which columns differ at all is a guess, made from sums of hashes while the snapshot is read: the records as they
//! stood, with the old values in these columns, must be the before-images, by their digest. What was written in
//! these columns is read back. The others an UPDATE does not touch, where no trigger or rule is at work. Where
//! anything of this does not hold for every such table, nothing of it stays, and the rollback begins again, with
//! each record loaded and compared by itself ([`super::compare`]).

use super::{
    super::{
        connect::Session,
        copy::{Rows, Sink, cells, copy_lines, copy_rows, lines},
        schema::{self, ForeignKey},
        sql::{ask_one, ident, numbers},
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
    /// The recorded columns that are loaded, by position: those of the key, those that become others, and those
    /// that refer to something.
    pub(super) loaded: Vec<usize>,
    /// The columns that become others, by position: those that are written over, and those that are computed.
    others: Vec<usize>,
    /// The columns that are written over.
    set: Vec<String>,
    /// How many before- and after-images there are.
    rows: (u64, u64),
}

/// What was found of a table whose records were written over.
#[derive(Default)]
pub(super) struct Done {
    /// Its number in the snapshot that undoes the rollback.
    table: u32,
    /// What the snapshot says.
    before: RowsDigest,
    after: RowsDigest,
    /// What stood.
    found: RowsDigest,
    /// What is to stand of that: the records that are as they were, because the action wrote what was there, and the
    /// others with the old values.
    wanted: RowsDigest,
    kept_rows: u64,
    /// The keys and the old values of those others: as they are to be written, and as they were.
    old: RowsDigest,
    written: RowsDigest,
    /// What came back.
    back: RowsDigest,
    written_rows: u64,
}

/// What one side of a table adds up to.
struct Sums {
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
        let mut all = Vec::with_capacity(sums.columns.len());
        for line in lines(data) {
            cells(line, &mut all);
            self.strange |= all.len() != sums.columns.len();
            sums.rows += 1;
            let mut key = 0;
            for cell in self.key.iter().filter_map(|at| all.get(*at)) {
                key = self.hash.hash_one((key, cell));
            }
            for (sum, cell) in sums.columns.iter_mut().zip(&all) {
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
        let computed = |name: &String| !one.writable.contains(name);
        let others: Vec<usize> = named
            .clone()
            .filter(|(at, name)| rows.1 > 0 && (is(*at) || computed(name)) && !in_key(name))
            .map(|(at, _)| at)
            .collect();
        let named_others = others.iter().filter_map(|at| one.columns.get(*at));
        let set: Vec<String> = named_others.filter(|name| !computed(name)).cloned().collect();
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
            .filter(|(at, name)| rows.0 != rows.1 || in_key(name) || others.contains(at) || refers(name))
            .map(|(at, _)| at)
            .collect();
        Some(InPlace { loaded, others, set, rows })
    }
}

/// Reads the snapshot, and says of each table what is needed to write its records over, if that can be done.
pub(super) async fn survey(
    snapshot: &Snapshot,
    staged: &mut [Staged],
    keys: &[ForeignKey],
) -> Result<(), Error> {
    let hash = RandomState::default();
    let sums = |one: &Staged| Sums { rows: 0, columns: vec![0; one.columns.len()] };
    let can = |one: &Staged| {
        let key = one.now.key_names().map(|name| one.columns.iter().position(|column| column == name));
        let key: Option<Vec<usize>> = key.collect();
        let (before, after) = one.totals(snapshot);
        // What is computed from others and was not recorded could become anything.
        let known = one.now.columns.iter().all(|now| !now.generated || one.columns.contains(&now.name));
        let all = after == before || !one.stays;
        let may = one.sealed && one.keyed && before > 0 && after <= before && all;
        (may && known && one.now.rules == 0).then_some(key?)
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

/// Whether triggers would run while records of these tables are written over: then an UPDATE may change more than
/// it says. Those that fire for ordinary sessions are kept from it.
pub(super) async fn disturbed(session: &Session, staged: &[Staged]) -> Result<bool, Trouble> {
    let tables = staged.iter().filter(|one| one.in_place.is_some()).map(|one| one.now.oid);
    let armed = format!(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger \
         WHERE tgenabled IN ('A', 'R') AND tgrelid = ANY ({}::pg_catalog.oid[])",
        numbers(tables)
    );
    Ok(ask_one(session, &armed).await?.as_deref() != Some("0"))
}

/// Whether the columns that would be written are alike already, as SQL.
fn alike(place: &InPlace, there: &str) -> String {
    if place.set.is_empty() {
        return "false".to_owned();
    }
    let list = |alias: &str| schema::list(place.set.iter().map(String::as_str), alias);
    format!("pg_catalog.record_image_eq(ROW({}), ROW({}))", list("b"), list(there))
}

/// Writes the old records of all such tables over the new ones, verifies it, and writes what stood and what stands
/// then into `out`. `outside` looks on. None, and the transaction is good for nothing, where what stood is not what
/// the action left, or this is not how it can be put back.
pub(super) async fn write_over(
    (inside, outside): (&Session, &Session),
    snapshot: &Snapshot,
    staged: &[Staged],
    out: &mut SnapshotWriter,
) -> Result<Option<Vec<Option<Done>>>, Trouble> {
    let mut tables = Vec::new();
    for one in staged {
        let shape = serde_json::to_value(&one.now).map_err(|e| Error::Internal(e.to_string()))?;
        tables.push(match one.in_place {
            Some(_) => Some(out.table(&one.now.resource, shape).await?),
            None => None,
        });
    }
    let new = |table: &Option<u32>| table.map(|table| Done { table, ..Done::default() });
    let mut all: Vec<Option<Done>> = tables.iter().map(new).collect();
    if all.iter().all(Option::is_none) {
        return Ok(Some(all));
    }
    let (mut looked, mut written): (Vec<_>, Vec<_>) =
        (tables.iter().map(new).collect(), tables.iter().map(new).collect());
    let out = Mutex::new(out);
    let work = async {
        tokio::try_join!(
            look(outside, staged, &mut looked, &out),
            write(inside, staged, &mut written, &out),
            digests(snapshot, staged, &mut all)
        )
    };
    match work.await {
        Ok(_) => {}
        // Values that change places, identities, rules, checks: the other way does it or tells why not.
        Err(Trouble::Server(error)) if error.code().is_some_and(another_way) => return Ok(None),
        Err(trouble) => return Err(trouble),
    }
    for (((one, done), looked), written) in staged.iter().zip(&mut all).zip(looked).zip(written) {
        let (Some(place), Some(done)) = (&one.in_place, done) else { continue };
        let (Some(looked), Some(written)) = (looked, written) else { continue };
        *done = Done {
            before: std::mem::take(&mut done.before),
            after: std::mem::take(&mut done.after),
            written: written.written,
            back: written.back,
            written_rows: written.written_rows,
            ..looked
        };
        let mut stands = done.wanted.clone();
        stands.merge(&done.back);
        if done.found.finish() != done.after.finish()
            || done.written.finish() != done.old.finish()
            || stands.finish() != done.before.finish()
            || done.written_rows + done.kept_rows != place.rows.0
        {
            return Ok(None);
        }
    }
    Ok(Some(all))
}

/// Whether another way may succeed: not where time ran out, the server is going, or it lacks room.
fn another_way(code: &SqlState) -> bool {
    !["57", "53", "40", "08"].iter().any(|class| code.code().starts_with(class))
        && *code != SqlState::LOCK_NOT_AVAILABLE
}

/// Takes in what the snapshot says.
async fn digests(snapshot: &Snapshot, staged: &[Staged], all: &mut [Option<Done>]) -> Result<(), Trouble> {
    let mut blocks = snapshot.blocks();
    while let Some(block) = blocks.next().await? {
        let mut both = staged.iter().zip(all.iter_mut());
        let Some((_, Some(done))) = both.find(|(one, _)| one.is(block.part, block.table)) else { continue };
        let digest = match block.side {
            Side::Before => &mut done.before,
            Side::After => &mut done.after,
        };
        lines(&block.data).for_each(|line| digest.add("", line));
    }
    Ok(())
}

/// Names of columns.
fn names<'o>(one: &'o Staged, at: &[usize]) -> impl Iterator<Item = &'o str> {
    at.iter().filter_map(|at| one.columns.get(*at)).map(String::as_str)
}

/// Takes in what stands, and writes it down where it will be written over, and what it will be then.
async fn look<'o>(
    session: &Session,
    staged: &[Staged],
    all: &mut [Option<Done>],
    out: &'o Mutex<&'o mut SnapshotWriter>,
) -> Result<(), Trouble> {
    for (one, done) in staged.iter().zip(all) {
        let (Some(place), Some(done)) = (&one.in_place, done) else { continue };
        let old = names(one, &place.others).map(|name| format!("b.{}, ", ident(name))).collect::<String>();
        let select = format!(
            "COPY (SELECT {}, {old}{} FROM ONLY {} n JOIN {} b ON {}) TO STDOUT (FORMAT text)",
            alike(place, "n"),
            one.now.list("n"),
            one.now.sql(),
            one.before(),
            one.now.same_key("n", "b"),
        );
        let key: Vec<usize> =
            one.now.key_names().filter_map(|name| one.columns.iter().position(|c| c == name)).collect();
        let mut row = Vec::new();
        let mut each = |line: &[u8], [before, after]: &mut [Rows; 2]| {
            // A flag, the old values, the record as it stands.
            let old_ends = memchr::memchr_iter(b'\t', line).nth(place.others.len())?;
            let stands = line.get(old_ends + 1..)?;
            let whole = recorded(stands, one.columns.len())?;
            done.found.add("", whole);
            if line.starts_with(b"t\t") {
                done.wanted.add("", whole);
                done.kept_rows += 1;
                return Some(());
            }
            let (mut old, mut now) = (Vec::new(), Vec::with_capacity(one.now.columns.len()));
            // None, where nothing is written over and yet somebody has made a record again.
            cells(line.get(2..old_ends).unwrap_or_default(), &mut old);
            cells(stands.strip_suffix(b"\n")?, &mut now);
            put(&mut row, key.iter().filter_map(|at| now.get(*at)).chain(&old));
            done.old.add("", row.strip_suffix(b"\n")?);
            for (at, old) in place.others.iter().zip(&old) {
                *now.get_mut(*at)? = *old;
            }
            put(&mut row, now.iter());
            done.wanted.add("", recorded(&row, one.columns.len())?);
            before.add(stands);
            after.add(&row);
            Some(())
        };
        let select = session.prepare(&select).await?;
        let to = [(out, done.table, Side::Before), (out, done.table, Side::After)];
        copy_lines(session, &select, to, &mut each).await?;
    }
    Ok(())
}

/// Puts these cells into `row`, as a line.
fn put<'c>(row: &mut Vec<u8>, cells: impl Iterator<Item = &'c &'c [u8]>) {
    row.clear();
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            row.push(b'\t');
        }
        row.extend_from_slice(cell);
    }
    row.push(b'\n');
}

/// Writes the old values, and takes in what of it stands then.
async fn write<'o>(
    session: &Session,
    staged: &[Staged],
    all: &mut [Option<Done>],
    out: &'o Mutex<&'o mut SnapshotWriter>,
) -> Result<(), Trouble> {
    for (one, done) in staged.iter().zip(all) {
        let (Some(place), Some(done)) = (&one.in_place, done) else { continue };
        let (now, before) = (one.now.sql(), one.before());
        // What is changed first makes room for what comes back.
        if !place.set.is_empty() {
            let set = place.set.iter().map(|name| format!("{name} = b.{name}", name = ident(name)));
            let update = format!(
                "COPY (UPDATE ONLY {now} x SET {} FROM {before} b WHERE {} AND NOT {} RETURNING {}) TO STDOUT (FORMAT text)",
                set.collect::<Vec<_>>().join(", "),
                one.now.same_key("x", "b"),
                alike(place, "x"),
                schema::list(one.now.key_names().chain(names(one, &place.others)), "x"),
            );
            let update = session.prepare(&update).await?;
            let mut each = |line: &[u8], []: &mut [Rows; 0]| {
                done.written.add("", line.strip_suffix(b"\n")?);
                done.written_rows += 1;
                Some(())
            };
            copy_lines(session, &update, [], &mut each).await?;
        }
        if place.rows.0 > place.rows.1 {
            let insert = format!(
                "COPY (INSERT INTO {now} AS x ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {before} b \
                 WHERE NOT EXISTS (SELECT 1 FROM ONLY {now} n WHERE {}) RETURNING {}) TO STDOUT (FORMAT text)",
                one.writable.iter().map(|c| ident(c)).collect::<Vec<_>>().join(", "),
                schema::list(one.writable.iter().map(String::as_str), "b"),
                one.now.same_key("n", "b"),
                one.now.list("x"),
            );
            let insert = session.prepare(&insert).await?;
            let mut sink = Sink { out, table: done.table, side: Side::After, digest: None };
            let mut judge = |line: &[u8]| {
                done.back.add("", recorded(line, one.columns.len())?);
                Some(0)
            };
            done.written_rows += copy_rows(session, &insert, &mut sink, &mut judge).await?;
        }
    }
    Ok(())
}

impl Done {
    /// In the words of a comparison of each record.
    pub(super) fn compared(&self, one: &Staged) -> Compared {
        let (before, after) = one.in_place.as_ref().map_or((0, 0), |place| place.rows);
        Compared::as_left(before, after, self.kept_rows)
    }
}
