//! How records lie in a snapshot: in chunks, each with its before-images and then its after-images, so that a
//! rollback can read both of a record together, a chunk at a time. A chunk's number stands before its rows;
//! after-images that sealing added later carry the numbers of the chunks that they belong to.

use super::{
    compare::Record,
    schema::Table,
    value::{Image, image, record},
};
use crate::{
    Error, RowReader,
    snapshot::{self, Block, Blocks, Side, Snapshot, SnapshotWriter},
};
use serde_json::{Map, Value as Json};
use std::{collections::BTreeMap, sync::Arc};

/// Writes chunks.
pub(super) struct ChunkWriter<'a> {
    out: &'a mut SnapshotWriter,
    tables: BTreeMap<(String, String), u32>,
    chunk: u64,
}

impl<'a> ChunkWriter<'a> {
    pub(super) const fn new(out: &'a mut SnapshotWriter) -> Self {
        Self { out, tables: BTreeMap::new(), chunk: 0 }
    }

    async fn table(&mut self, table: &Table) -> Result<u32, Error> {
        if let Some(index) = self.tables.get(&table.id()) {
            return Ok(*index);
        }
        let shape = serde_json::to_value(table).map_err(|e| Error::Internal(e.to_string()))?;
        let index = self.out.table(&table.resource, shape).await?;
        self.tables.insert(table.id(), index);
        Ok(index)
    }

    /// One chunk: the records before and, unless that is not known yet, after.
    pub(super) async fn add(&mut self, table: &Table, records: &[Record], sealed: bool) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let before = records.iter().filter_map(|r| Some((r.before.as_ref()?, r.counts.0)));
        self.side(table, Side::Before, self.chunk, before).await?;
        if sealed {
            let after = records.iter().filter_map(|r| Some((r.after.as_ref()?, r.counts.1)));
            self.side(table, Side::After, self.chunk, after).await?;
        }
        self.chunk += 1;
        Ok(())
    }

    /// One side of the chunk with this number.
    pub(super) async fn side(
        &mut self,
        table: &Table,
        side: Side,
        chunk: u64,
        rows: impl Iterator<Item = (&Image, u64)> + Send,
    ) -> Result<(), Error> {
        let index = self.table(table).await?;
        let mut data = chunk.to_le_bytes().to_vec();
        let mut count = 0;
        for (row, times) in rows {
            for _ in 0..times {
                data.extend_from_slice(row);
                count += 1;
            }
        }
        self.out.rows(index, side, count, &data).await
    }
}

/// A chunk, as it was written.
pub(super) struct Chunk {
    pub(super) table: Arc<Table>,
    /// Its number.
    pub(super) number: u64,
    pub(super) before: Vec<Image>,
    /// `None`: the snapshot is not sealed.
    pub(super) after: Option<Vec<Image>>,
}

/// Reads chunks.
pub(super) struct ChunkReader {
    tables: Vec<Vec<Arc<Table>>>,
    before: Blocks,
    /// The second part, where the after-images are in one.
    after: Option<Blocks>,
    sealed: bool,
}

impl ChunkReader {
    pub(super) fn new(snapshot: &Snapshot) -> Result<Self, Error> {
        if snapshot.header()?.kind != crate::Kind::Mysql.as_str() {
            return Err(Error::Snapshot("the snapshot is of another kind of system".to_owned()));
        }
        let tables = (0..snapshot.parts())
            .map(|part| snapshot.tables(part)?.iter().map(|t| shape(t).map(Arc::new)).collect())
            .collect::<Result<Vec<Vec<_>>, Error>>()?;
        let two = snapshot.parts() > 1;
        Ok(Self {
            tables,
            before: snapshot.blocks(),
            after: two.then(|| snapshot.blocks()),
            sealed: snapshot.is_sealed(),
        })
    }

    /// The next chunk.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>, Error> {
        let Some(block) = self.before.next().await? else { return Ok(None) };
        // The second part is read by the other reader.
        if block.part > 0 {
            return Ok(None);
        }
        if block.side != Side::Before {
            return Err(odd("an after-image stands alone"));
        }
        let (number, before) = rows(&block)?;
        let table = self.table(&block)?;
        let mut chunk = Chunk { table, number, before, after: None };
        if !self.sealed {
            return Ok(Some(chunk));
        }
        let follow = match &mut self.after {
            None => self.before.next().await?,
            Some(blocks) => loop {
                match blocks.next().await? {
                    Some(block) if block.part == 0 => {}
                    other => break other,
                }
            },
        };
        let follow = follow.ok_or_else(|| odd("after-images are missing"))?;
        let (of, after) = rows(&follow)?;
        if follow.side != Side::After || of != number || self.table(&follow)?.id() != chunk.table.id() {
            return Err(odd("after-images do not belong to their before-images"));
        }
        chunk.after = Some(after);
        Ok(Some(chunk))
    }

    fn table(&self, block: &Block) -> Result<Arc<Table>, Error> {
        let index = usize::try_from(block.table).unwrap_or(usize::MAX);
        let table = self.tables.get(block.part).and_then(|t| t.get(index));
        table.cloned().ok_or_else(|| odd("rows of no table"))
    }
}

fn odd(what: &str) -> Error {
    Error::Snapshot(format!("the snapshot makes no sense: {what}"))
}

/// What a snapshot says of a table.
pub(super) fn shape(table: &snapshot::Table) -> Result<Table, Error> {
    let mut shape: Table =
        serde_json::from_value(table.shape.clone()).map_err(|e| odd(&format!("a table's shape ({e})")))?;
    shape.resource.clone_from(&table.resource);
    Ok(shape)
}

fn rows(block: &Block) -> Result<(u64, Vec<Image>), Error> {
    let (number, data) =
        block.data.split_first_chunk::<8>().ok_or_else(|| odd("a chunk without a number"))?;
    let rows = RowReader::new(data).map(|row| Ok(image(&row?))).collect::<Result<Vec<_>, Error>>()?;
    Ok((u64::from_le_bytes(*number), rows))
}

/// The records of a block, for people.
pub(super) fn decode(table: &snapshot::Table, data: &[u8]) -> Result<Vec<Map<String, Json>>, Error> {
    let shape = shape(table)?;
    let (_, data) = data.split_first_chunk::<8>().ok_or_else(|| odd("a chunk without a number"))?;
    let columns: Vec<_> = shape.columns.iter().collect();
    RowReader::new(data).map(|row| record(&columns, &image(&row?))).collect()
}
