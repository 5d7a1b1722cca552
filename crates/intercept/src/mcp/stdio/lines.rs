//! Lines of bounded length.

use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end, in the buffer.
    Whole,
    /// One that is longer than it may be; it was skipped.
    TooLong,
    /// Nothing more will come.
    End,
}

/// Reads the next line into `line`, whose content is replaced.
pub(super) async fn next(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    max: usize,
) -> io::Result<Line> {
    line.clear();
    let mut too_long = false;
    loop {
        let piece = reader.fill_buf().await?;
        if piece.is_empty() {
            return Ok(if too_long {
                Line::TooLong
            } else if line.is_empty() {
                Line::End
            } else {
                Line::Whole
            });
        }
        let end = piece.iter().position(|byte| *byte == b'\n');
        let text = piece.get(..end.unwrap_or(piece.len())).unwrap_or_default();
        too_long |= line.len() + text.len() > max;
        if too_long {
            line.clear();
        } else {
            line.extend_from_slice(text);
        }
        let taken = text.len() + usize::from(end.is_some());
        reader.consume(taken);
        if end.is_some() {
            return Ok(if too_long { Line::TooLong } else { Line::Whole });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn cuts_at_line_feeds_and_skips_what_is_too_long() {
        let text: &[u8] = b"one\r\n\n123456789\n12345678\nlast";
        for capacity in [1, 3, 100] {
            let mut reader = tokio::io::BufReader::with_capacity(capacity, text);
            let (mut line, mut found) = (Vec::new(), Vec::new());
            loop {
                match next(&mut reader, &mut line, 8).await.unwrap() {
                    Line::Whole => found.push(String::from_utf8(line.clone()).unwrap()),
                    Line::TooLong => found.push("too long".to_owned()),
                    Line::End => break,
                }
            }
            assert_eq!(found, ["one\r", "", "too long", "12345678", "last"]);
        }
    }
}
