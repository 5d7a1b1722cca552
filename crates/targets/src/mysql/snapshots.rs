//! Snapshots that are asked for: the records as they stand, and, once the action has run, as it left them.

use super::{
    blocks::{ChunkReader, ChunkWriter},
    compare::by_key,
    connect::{Db, Purpose},
    count::{Counting, Meant},
    footprint::{Before, CHUNK, Reading, Trace, fetch},
    schema::Table,
    sql::{Parsed, Work},
    value::{Image, encode},
};
use crate::{
    Affected, Captured, Error, How, Selection,
    snapshot::{Snapshot, SnapshotWriter},
};
use std::collections::BTreeMap;

/// Takes the before-images of a selection and of what would follow.
pub(super) async fn capture(db: &Db, what: &Selection, out: &mut SnapshotWriter) -> Result<Captured, Error> {
    db.within(Purpose::Snapshot, async {
        let counting = Counting::begin(db, Purpose::Snapshot).await?;
        let chunks = ChunkWriter::new(out, false);
        Taking { counting, chunks, numbers: BTreeMap::new() }.all(what).await
    })
    .await
}

struct Taking<'a> {
    counting: Counting<'a>,
    chunks: ChunkWriter<'a>,
    numbers: BTreeMap<(String, How), u64>,
}

impl Taking<'_> {
    async fn all(mut self, what: &Selection) -> Result<Captured, Error> {
        let mut done = None;
        if let Some(meant) = self.counting.meant(what).await? {
            done = Some((meant.table.id(), self.meant(&meant).await?));
        } else if let Selection::Statements(list) = what {
            for statement in list {
                let parsed = Parsed::read(statement)?;
                if let Work::Insert(_) = parsed.work {
                    return Err(Error::Unmeasurable(
                        "which records an INSERT makes is not known before it runs; execute it instead"
                            .to_owned(),
                    ));
                }
                self.counting.keeps_keys(&parsed).await?;
                self.counting.statement(&parsed, false).await?;
            }
        }
        let found = std::mem::take(&mut self.counting.found);
        for (id, touched) in found.tables {
            recognisable(&touched.table)?;
            // Those that were found first are those that were meant.
            let already = done.as_ref().filter(|(table, _)| *table == id).map_or(0, |(_, count)| *count);
            let mut rest = touched.records.into_iter().skip(already);
            loop {
                let part: Vec<_> = rest.by_ref().take(CHUNK).collect();
                if part.is_empty() {
                    break;
                }
                self.part(&touched.table, part).await?;
            }
        }
        self.chunks.finish().await?;
        self.chunks.identify(&mut self.counting.session).await?;
        let affected = self.numbers.into_iter();
        let affected =
            affected.map(|((resource, how), records)| Affected { resource, how, records }).collect();
        Ok(Captured { affected, digest: None })
    }

    /// The records that are named themselves, as they come; and what would follow is searched. How many of
    /// them are in the footprint, first of their table.
    async fn meant(&mut self, meant: &Meant) -> Result<usize, Error> {
        let table = &meant.table;
        recognisable(table)?;
        // The same record may be named twice, but not in one condition.
        let known = meant.follows || meant.conditions.len() > 1;
        let mut keys: Vec<Image> = Vec::new();
        for (condition, params) in &meant.conditions {
            let sql = format!("SELECT {} FROM {} AS t{condition}", table.list("t"), table.sql());
            let mut reading = Reading::begin(&mut self.counting.session, &sql, params.clone()).await?;
            let mut rows = Vec::with_capacity(CHUNK);
            while let Some(values) = reading.next().await? {
                let row = encode(values.iter());
                if known {
                    let key = table.key_of(&values);
                    let found = &mut self.counting.found;
                    if !found.add(table, key.clone(), meant.how, Before::Unknown)? {
                        continue;
                    }
                    keys.push(key);
                }
                rows.push(row);
                if rows.len() == CHUNK {
                    take(&mut self.chunks, table, &rows).await?;
                    *self.numbers.entry((table.resource.clone(), meant.how)).or_default() += CHUNK as u64;
                    rows.clear();
                }
            }
            reading.end().await?;
            take(&mut self.chunks, table, &rows).await?;
            if !rows.is_empty() {
                *self.numbers.entry((table.resource.clone(), meant.how)).or_default() += rows.len() as u64;
            }
        }
        let already = keys.len();
        self.counting.follow(meant, if meant.follows { keys } else { Vec::new() }).await?;
        Ok(already)
    }

    /// Records of the footprint.
    async fn part(&mut self, table: &Table, part: Vec<(Image, Trace)>) -> Result<(), Error> {
        let missing = part.iter().filter(|(_, trace)| !matches!(trace.before, Before::There(_)));
        let missing: Vec<&Image> = missing.map(|(key, _)| key).collect();
        let mut fetched = fetch(&mut self.counting.session, table, &missing, false).await?;
        let mut rows = Vec::with_capacity(part.len());
        for (key, trace) in part {
            let row = match trace.before {
                Before::There(row) => Some(row),
                Before::Unknown | Before::Absent => fetched.swap_remove(&key).map(|(row, _)| row),
            };
            rows.extend(row);
            *self.numbers.entry((table.resource.clone(), trace.how)).or_default() += 1;
        }
        take(&mut self.chunks, table, &rows).await
    }
}

async fn take(chunks: &mut ChunkWriter<'_>, table: &Table, rows: &[Image]) -> Result<(), Error> {
    for row in rows {
        table.can_come_back(row, None)?;
    }
    if rows.is_empty() { Ok(()) } else { chunks.before(table, rows).await }
}

fn recognisable(table: &Table) -> Result<(), Error> {
    if table.keyed {
        return Ok(());
    }
    Err(Error::Unmeasurable(format!(
        "{} has no primary key, so its records could not be recognised again; execute the statement through Checkrein instead",
        table.resource
    )))
}

/// Reads the records of a snapshot as they stand now.
pub(super) async fn seal(db: &Db, snapshot: &Snapshot, out: &mut SnapshotWriter) -> Result<(), Error> {
    db.within(Purpose::Snapshot, async {
        let mut session = db.begin(Purpose::Snapshot).await?;
        let mut reader = ChunkReader::new(snapshot)?;
        let mut chunks = ChunkWriter::new(out, true);
        while let Some(chunk) = reader.next().await? {
            let table = &chunk.table;
            let before = by_key(table, chunk.before)?;
            let keys: Vec<&Image> = before.keys().collect();
            let mut found = fetch(&mut session, table, &keys, false).await?;
            let rows: Vec<Image> =
                keys.iter().filter_map(|key| found.swap_remove(*key)).map(|(row, _)| row).collect();
            chunks.seal(table, chunk.number, rows.iter()).await?;
        }
        out.sealed();
        Ok(())
    })
    .await
}
