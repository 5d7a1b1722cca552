//! How records lie in a snapshot: in chunks, each with its before-images and then its after-images, so that a
//! rollback can read both of a record together, a chunk at a time. A chunk's number stands before its rows;
//! after-images that sealing added later carry the numbers of the chunks that they belong to.

use super::{
    compare::Record,
    connect::Session,
    identity,
    schema::Table,
    value::{Image, image, record},
};
use crate::{
    Error, RowReader,
    snapshot::{self, BLOCK_BYTES, Block, Blocks, Side, Snapshot, SnapshotWriter},
};
use serde_json::{Map, Value as Json, json};
use std::{collections::BTreeMap, sync::Arc};

/// Writes chunks of about a megabyte.
pub(super) struct ChunkWriter<'a> {
    out: &'a mut SnapshotWriter,
    tables: BTreeMap<(String, String), u32>,
    /// Whether after-images come with the before-images.
    sealed: bool,
    chunk: u64,
    /// The table of the chunk that is gathered.
    of: Option<u32>,
    before: Gathered,
    after: Gathered,
}

/// Rows of one side of a chunk.
#[derive(Default)]
struct Gathered {
    rows: u64,
    data: Vec<u8>,
}

impl Gathered {
    fn add(&mut self, row: &[u8], times: u64) {
        for _ in 0..times {
            self.data.extend_from_slice(row);
        }
        self.rows += times;
    }
}

impl<'a> ChunkWriter<'a> {
    pub(super) fn new(out: &'a mut SnapshotWriter, sealed: bool) -> Self {
        let (tables, before, after) = Default::default();
        Self { out, tables, sealed, chunk: 0, of: None, before, after }
    }

    /// Says which tables these are.
    pub(super) async fn identify(&mut self, session: &mut Session) -> Result<(), Error> {
        let tables = identity::of(session, self.tables.keys()).await?;
        self.out.system(json!({ "tables": tables }));
        Ok(())
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

    /// Adds records: as they were before and, if this snapshot is sealed from the start, after.
    pub(super) async fn add(&mut self, table: &Table, records: &[Record]) -> Result<(), Error> {
        let index = self.table(table).await?;
        for record in records {
            let before = record.before.as_ref().map(|row| (row, record.counts.0));
            let after = record.after.as_ref().map(|row| (row, record.counts.1));
            self.one(index, before, after.filter(|_| self.sealed)).await?;
        }
        Ok(())
    }

    /// Adds records as they are, each once.
    pub(super) async fn before(&mut self, table: &Table, rows: &[Image]) -> Result<(), Error> {
        let index = self.table(table).await?;
        for row in rows {
            self.one(index, Some((row, 1)), None).await?;
        }
        Ok(())
    }

    async fn one(
        &mut self,
        table: u32,
        before: Option<(&Image, u64)>,
        after: Option<(&Image, u64)>,
    ) -> Result<(), Error> {
        let more = before.map_or(0, |(row, _)| row.len()) + after.map_or(0, |(row, _)| row.len());
        let gathered = self.before.data.len() + self.after.data.len();
        if self.of != Some(table) || gathered + more > BLOCK_BYTES {
            self.finish().await?;
            self.of = Some(table);
        }
        if let Some((row, times)) = before {
            self.before.add(row, times);
        }
        if let Some((row, times)) = after {
            self.after.add(row, times);
        }
        Ok(())
    }

    /// Writes what has gathered.
    pub(super) async fn finish(&mut self) -> Result<(), Error> {
        let (before, after) = (std::mem::take(&mut self.before), std::mem::take(&mut self.after));
        let Some(index) = self.of.take().filter(|_| before.rows + after.rows > 0) else { return Ok(()) };
        self.side(index, Side::Before, self.chunk, before).await?;
        if self.sealed {
            self.side(index, Side::After, self.chunk, after).await?;
        }
        self.chunk += 1;
        Ok(())
    }

    /// After-images for the chunk with this number.
    pub(super) async fn seal<'r>(
        &mut self,
        table: &Table,
        chunk: u64,
        rows: impl Iterator<Item = &'r Image> + Send,
    ) -> Result<(), Error> {
        let index = self.table(table).await?;
        let mut after = Gathered::default();
        rows.for_each(|row| after.add(row, 1));
        self.side(index, Side::After, chunk, after).await
    }

    async fn side(&mut self, table: u32, side: Side, chunk: u64, rows: Gathered) -> Result<(), Error> {
        let mut data = Vec::with_capacity(rows.data.len() + 8);
        data.extend_from_slice(&chunk.to_le_bytes());
        data.extend_from_slice(&rows.data);
        self.out.rows(table, side, rows.rows, &data).await
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
