//! Snapshots that are asked for: the records as they stand, and, once the action has run, as it left them.

use super::{
    blocks::{ChunkReader, ChunkWriter},
    compare::{Record, by_key},
    connect::{Db, Purpose},
    count::{Counting, affected},
    footprint::{CHUNK, fetch},
    value::{Image, pick},
};
use crate::{
    Captured, Error, How, RowsDigest, Selection,
    snapshot::{Side, Snapshot, SnapshotWriter},
};

/// Takes the before-images of a selection and of what would follow.
pub(super) async fn capture(db: &Db, what: &Selection, out: &mut SnapshotWriter) -> Result<Captured, Error> {
    db.within(Purpose::Snapshot, async {
        let mut counting = Counting::begin(db, Purpose::Snapshot).await?;
        counting.selection(what).await?;
        let mut digest = RowsDigest::default();
        let mut chunks = ChunkWriter::new(out);
        for touched in counting.found.tables.values() {
            let table = &touched.table;
            if !table.keyed {
                return Err(Error::Unmeasurable(format!(
                    "{} has no primary key, so its records could not be recognised again; execute the statement through Checkrein instead",
                    table.resource
                )));
            }
            let keys: Vec<(&Image, &How)> = touched.keys.iter().collect();
            for chunk in keys.chunks(CHUNK) {
                let names: Vec<&Image> = chunk.iter().map(|(k, _)| *k).collect();
                let rows = fetch(&mut counting.session, table, &names, false).await?;
                let mut records = Vec::with_capacity(rows.len());
                for row in rows {
                    digest.add(&table.resource, &row);
                    let key = pick(&row, &table.key)?;
                    let (before, after) = (Some(row), None);
                    records.push(Record { key, before, after, counts: (1, 0), how: How::Read });
                }
                chunks.add(table, &records, false).await?;
            }
        }
        Ok(Captured { affected: affected(&counting.found), digest: Some(digest.finish()) })
    })
    .await
}

/// Reads the records of a snapshot as they stand now.
pub(super) async fn seal(db: &Db, snapshot: &Snapshot, out: &mut SnapshotWriter) -> Result<(), Error> {
    db.within(Purpose::Snapshot, async {
        let mut session = db.begin(Purpose::Snapshot).await?;
        let mut reader = ChunkReader::new(snapshot)?;
        let mut chunks = ChunkWriter::new(out);
        while let Some(chunk) = reader.next().await? {
            let table = &chunk.table;
            let before = by_key(table, chunk.before)?;
            let keys: Vec<&Image> = before.keys().collect();
            let mut rows = Vec::new();
            for part in keys.chunks(CHUNK) {
                rows.extend(fetch(&mut session, table, part, false).await?);
            }
            chunks.side(table, Side::After, chunk.number, rows.iter().map(|r| (r, 1))).await?;
        }
        out.sealed();
        Ok(())
    })
    .await
}
