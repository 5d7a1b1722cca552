//! Server-sent events: found in a stream as it passes, and written.

use bytes::Bytes;

/// Finds the events in the pieces of a stream, wherever the pieces are cut.
#[derive(Debug)]
pub(super) struct Scan {
    line: Vec<u8>,
    data: Vec<u8>,
    /// The last line ended with a carriage return, so a line feed now ends nothing.
    after_return: bool,
    /// Nothing but the first line of a stream may begin with a byte order mark.
    first: bool,
    max: usize,
}

/// An event is longer than is read.
#[derive(Debug)]
pub(super) struct TooLong;

impl Scan {
    pub(super) fn new(max: usize) -> Self {
        Self { line: Vec::new(), data: Vec::new(), after_return: false, first: true, max }
    }

    /// The data of every event that ends in `piece`.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut found = Vec::new();
        for part in piece.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, end) = match part.split_last() {
                Some((end @ (b'\n' | b'\r'), text)) => (text, Some(*end)),
                _ => (part, None),
            };
            if std::mem::take(&mut self.after_return) && part == b"\n" && self.line.is_empty() {
                continue;
            }
            if self.line.len() + self.data.len() + text.len() > self.max {
                return Err(TooLong);
            }
            self.line.extend_from_slice(text);
            self.after_return = end == Some(b'\r');
            if end.is_none() {
                continue;
            }
            found.extend(self.take_line());
        }
        Ok(found)
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.first) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            let mut data = std::mem::take(&mut self.data);
            data.pop();
            return (!data.is_empty()).then_some(data);
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            self.data.push(b'\n');
        }
        None
    }
}

/// A message as an event.
pub(super) fn event(message: &[u8]) -> Bytes {
    let mut out = b"event: message\n".to_vec();
    for line in message.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_events_however_they_are_cut() {
        let stream: &[u8] =
            b"\xef\xbb\xbfid: 1\r\ndata: {\"a\":\r\ndata:1}\r\n\r\n: ping\n\nevent: message\ndata: two\n\n\
            data: three\r\rdata: four\n\r\ndata: cut off";
        for size in 1..stream.len() {
            let mut scan = Scan::new(100);
            let found: Vec<_> = stream.chunks(size).flat_map(|piece| scan.feed(piece).unwrap()).collect();
            let expected: [&[u8]; 4] = [b"{\"a\":\n1}", b"two", b"three", b"four"];
            assert_eq!(found, expected, "in pieces of {size}");
        }
        let mut scan = Scan::new(100);
        let found = scan.feed(b"data: one\n\xef\xbb\xbfdata: two\n\n").unwrap();
        assert_eq!(found, [b"one"], "a mark further on makes a line nothing");
        assert!(Scan::new(10).feed(b"data: 123456").is_err());
        let mut scan = Scan::new(100);
        assert_eq!(scan.feed(&event(b"{\"a\":\n1}")).unwrap(), [b"{\"a\":\n1}"]);
    }
}
