//! Rows out of the server and into a snapshot, as `COPY` writes them: text, one row a line, made with settings
//! that are the same everywhere, so that the same server reads back the very same values.

use super::{schema::Relation, values::Trouble};
use crate::{
    Error, RowsDigest,
    snapshot::{BLOCK_BYTES, Side, SnapshotWriter},
};
use futures_util::TryStreamExt as _;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio_postgres::Client;

/// Settings that the texts of a snapshot are made and read with. `{}` is `LOCAL` within a transaction.
pub(super) fn pins(local: &str) -> String {
    [
        "search_path = pg_catalog, pg_temp",
        "datestyle = 'ISO, MDY'",
        "intervalstyle = 'postgres'",
        "extra_float_digits = 3",
        "timezone = 'UTC'",
        "bytea_output = 'hex'",
        "xmlbinary = 'base64'",
        "xmloption = 'content'",
        "lc_monetary = 'C'",
        "quote_all_identifiers = off",
        "standard_conforming_strings = on",
        "array_nulls = on",
        // Rows that a policy of the table hides are an error, not a gap.
        "row_security = off",
    ]
    .map(|setting| format!("SET {local} {setting}"))
    .join("; ")
}

/// Where rows of one table and one side go.
pub(super) struct Sink<'w> {
    /// Several may write by turns, a block at a time.
    pub(super) out: &'w Mutex<&'w mut SnapshotWriter>,
    pub(super) table: u32,
    pub(super) side: Side,
    /// Takes in each row, if this is wanted.
    pub(super) digest: Option<DigestOf<'w>>,
}

/// What of each row goes into a digest.
pub(super) struct DigestOf<'w> {
    pub(super) digest: &'w mut RowsDigest,
    pub(super) resource: &'w str,
    /// These columns alone, by position; all of them where this is none.
    pub(super) columns: Option<Vec<usize>>,
}

impl DigestOf<'_> {
    fn add(&mut self, line: &[u8]) {
        match &self.columns {
            None => self.digest.add(self.resource, line),
            Some(columns) => {
                let mut key = b"+".to_vec();
                for (_, cell) in line.split(|b| *b == b'\t').enumerate().filter(|(i, _)| columns.contains(i))
                {
                    key.push(b'\t');
                    key.extend_from_slice(cell);
                }
                self.digest.add(self.resource, &key);
            }
        }
    }
}

/// Copies what `select` returns. Answers how many rows that were.
pub(super) async fn copy_out(client: &Client, select: &str, sink: &mut Sink<'_>) -> Result<u64, Trouble> {
    let copy = client.prepare(&format!("COPY ({select}) TO STDOUT (FORMAT text)")).await?;
    copy_rows(client, &copy, sink, &mut |_| Some(0)).await
}

/// Copies what a prepared COPY returns, each line from where `begin` says that the row begins; a line of which
/// that is the end is left out. Answers how many rows that were.
pub(super) async fn copy_rows(
    client: &Client,
    copy: &tokio_postgres::Statement,
    sink: &mut Sink<'_>,
    begin: &mut (impl FnMut(&[u8]) -> Option<usize> + Send),
) -> Result<u64, Trouble> {
    let mut each = |line: &[u8], rows: &mut [Rows; 1]| {
        let row = begin(line).and_then(|begin| line.get(begin..))?;
        if !row.is_empty() {
            let [rows] = rows;
            rows.add(row);
            let columns = row.strip_suffix(b"\n")?;
            if let Some(digest) = &mut sink.digest {
                digest.add(columns);
            }
        }
        Some(())
    };
    let [rows] = copy_lines(client, copy, [(sink.out, sink.table, sink.side)], &mut each).await?;
    Ok(rows)
}

/// Rows that gather until there are enough for a block.
#[derive(Default)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    number: u64,
}

impl Rows {
    /// One more, with its line break.
    pub(super) fn add(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.number += 1;
    }
}

/// Where rows go: the file, the table in it, and the side.
pub(super) type To<'o> = (&'o Mutex<&'o mut SnapshotWriter>, u32, Side);

/// Hands each line of a prepared COPY to `each`, which adds rows for each of `to`; none from it: the line makes no
/// sense. Answers how many rows went where.
pub(super) async fn copy_lines<const N: usize>(
    client: &Client,
    copy: &tokio_postgres::Statement,
    to: [To<'_>; N],
    each: &mut (impl FnMut(&[u8], &mut [Rows; N]) -> Option<()> + Send),
) -> Result<[u64; N], Trouble> {
    let stream = client.copy_out(copy).await?;
    let mut stream = std::pin::pin!(stream);
    let mut gathered: [Rows; N] = std::array::from_fn(|_| Rows::default());
    let mut totals = [0_u64; N];
    let mut open = true;
    while open {
        // The server sends a row a message; a line break within a value is written as two characters.
        let least = match stream.try_next().await? {
            Some(line) => {
                let strange = || Error::Internal("PostgreSQL sent a row that makes no sense".to_owned());
                each(&line, &mut gathered).ok_or_else(strange)?;
                BLOCK_BYTES
            }
            None => {
                open = false;
                0
            }
        };
        for ((rows, total), (out, table, side)) in gathered.iter_mut().zip(&mut totals).zip(&to) {
            if rows.bytes.len() >= least {
                out.lock().await.rows(*table, *side, rows.number, &rows.bytes).await?;
                *total += std::mem::take(&mut rows.number);
                rows.bytes.clear();
            }
        }
    }
    Ok(totals)
}

/// The rows of a block, each without its line break.
pub(super) fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut begin = 0;
    memchr::memchr_iter(b'\n', block)
        .filter_map(move |end| block.get(std::mem::replace(&mut begin, end + 1)..end))
}

/// Puts the cells of a row into `cells`.
pub(super) fn cells<'l>(line: &'l [u8], cells: &mut Vec<&'l [u8]>) {
    cells.clear();
    let mut begin = 0;
    for end in memchr::memchr_iter(b'\t', line).chain([line.len()]) {
        cells.extend(line.get(std::mem::replace(&mut begin, end + 1)..end));
    }
}

/// A block of such rows as JSON, for people. `None` where it is not one.
pub(super) fn decode(relation: &Relation, data: &[u8]) -> Option<Vec<Map<String, Value>>> {
    let mut rows = Vec::new();
    for line in data.split_inclusive(|b| *b == b'\n') {
        let cells: Vec<&[u8]> = line.strip_suffix(b"\n")?.split(|b| *b == b'\t').collect();
        // Of a table without columns a row is an empty line.
        if cells.len() != relation.columns.len().max(1) {
            return None;
        }
        let named = relation.columns.iter().zip(cells).map(|(c, cell)| (c.name.clone(), value(cell)));
        rows.push(named.collect());
    }
    Some(rows)
}

/// A cell: `\N` is null, the rest is a text in which backslashes escape.
fn value(cell: &[u8]) -> Value {
    if cell == b"\\N" {
        return Value::Null;
    }
    let mut out = Vec::with_capacity(cell.len());
    let mut bytes = cell.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => *other,
                None => b'\\',
            },
            other => *other,
        });
    }
    Value::String(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_read_as_copy_writes_them() {
        assert_eq!(value(b"\\N"), Value::Null);
        assert_eq!(value(b"\\\\N"), Value::String("\\N".into()));
        assert_eq!(value(b"a\\tb\\nc\\\\d\\be"), Value::String("a\tb\nc\\d\u{8}e".into()));
        assert_eq!(value("é".as_bytes()), Value::String("é".into()));
    }
}
