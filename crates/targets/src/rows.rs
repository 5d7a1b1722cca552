//! Rows as bytes, for systems that have no faithful text form of their own.
//!
//! A row is its number of cells and then its cells: a tag byte, a length (both numbers as LEB128) and the bytes.
//! The tag says what the bytes are; each system gives the tags their meaning.

/// One cell: a tag and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// What the bytes are.
    pub tag: u8,
    /// The content.
    pub bytes: &'a [u8],
}

/// Writes rows into a buffer.
#[derive(Debug, Default)]
pub struct RowWriter {
    bytes: Vec<u8>,
    rows: u64,
}

impl RowWriter {
    /// A writer with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), rows: 0 }
    }

    /// Begins a row of `cells` cells; exactly as many calls of [`RowWriter::cell`] must follow.
    pub fn row(&mut self, cells: usize) {
        self.number(cells as u64);
        self.rows += 1;
    }

    /// The next cell of the row.
    pub fn cell(&mut self, tag: u8, bytes: &[u8]) {
        self.bytes.push(tag);
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds a row that was written before.
    pub fn append(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.rows += 1;
    }

    /// How many bytes have gathered.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing has gathered.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What has gathered.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets what has gathered, and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.rows = 0;
    }

    /// What has gathered, as (rows, bytes); the writer is empty afterwards.
    pub fn take(&mut self) -> (u64, Vec<u8>) {
        (std::mem::take(&mut self.rows), std::mem::take(&mut self.bytes))
    }

    fn number(&mut self, mut n: u64) {
        loop {
            let low = u8::try_from(n & 0x7f).unwrap_or_default();
            n >>= 7;
            if n == 0 {
                self.bytes.push(low);
                return;
            }
            self.bytes.push(low | 0x80);
        }
    }
}

/// Reads rows; ends at the first thing that makes no sense, with `Err(())`-like `None` inside.
#[derive(Debug)]
pub struct RowReader<'a> {
    rest: &'a [u8],
}

impl<'a> RowReader<'a> {
    /// Over what a [`RowWriter`] gathered.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn number(&mut self) -> Option<u64> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    /// The next row: its bytes, while its cells go into `row`; `None` at the end.
    ///
    /// # Errors
    /// When it is cut off.
    pub fn next_into(&mut self, row: &mut Vec<Cell<'a>>) -> Option<Result<&'a [u8], crate::Error>> {
        if self.rest.is_empty() {
            return None;
        }
        let all = self.rest;
        if self.row(row).is_none() {
            self.rest = &[];
            return Some(Err(crate::Error::Snapshot("a row in the snapshot is cut off".to_owned())));
        }
        let (bytes, _) = all.split_at_checked(all.len() - self.rest.len())?;
        Some(Ok(bytes))
    }

    fn row(&mut self, row: &mut Vec<Cell<'a>>) -> Option<()> {
        let cells = usize::try_from(self.number()?).ok()?;
        row.clear();
        row.reserve(cells.min(4096));
        for _ in 0..cells {
            let (tag, rest) = self.rest.split_first()?;
            self.rest = rest;
            let len = usize::try_from(self.number()?).ok()?;
            let (bytes, rest) = self.rest.split_at_checked(len)?;
            self.rest = rest;
            row.push(Cell { tag: *tag, bytes });
        }
        Some(())
    }
}

impl<'a> Iterator for RowReader<'a> {
    type Item = Result<Vec<Cell<'a>>, crate::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut row = Vec::new();
        Some(self.next_into(&mut row)?.map(|_| row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote_and_refuses_what_is_cut_off() {
        let long = vec![7_u8; 300];
        let mut writer = RowWriter::default();
        writer.row(3);
        writer.cell(0, b"");
        writer.cell(1, "\0é".as_bytes());
        writer.cell(2, &long);
        writer.row(0);
        let (rows, bytes) = writer.take();
        assert_eq!(rows, 2);
        let read: Vec<_> = RowReader::new(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0][1], Cell { tag: 1, bytes: "\0é".as_bytes() });
        assert_eq!(read[0][2].bytes, long);
        for end in 1..bytes.len() - 1 {
            assert!(RowReader::new(&bytes[..end]).any(|row| row.is_err()), "{end}");
        }
    }
}
