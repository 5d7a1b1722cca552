//! What people and programs get to read: results on stdout, messages on stderr.
//!
//! Much of it comes from agents, and a terminal obeys what it is sent. So every text that is not written
//! in this program passes [`clean`], and JSON is written with every invisible character escaped.

use checkrein_core::{action::Count, decision::Verdict, name::is_invisible, time::Timestamp};
use serde::Serialize;
use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, BufWriter, IsTerminal as _, Stdout, Write},
};

/// The widest cell of a table, in characters.
const MAX_CELL: usize = 60;

/// Standard output.
pub(crate) struct Out {
    // Not locked: a command may hand it to somebody else.
    stream: BufWriter<Stdout>,
    /// Whether results are wanted as JSON.
    pub(crate) json: bool,
    colour: bool,
}

impl Out {
    pub(crate) fn stdout(json: bool) -> Self {
        let off = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let colour = io::stdout().is_terminal() && !off("NO_COLOR") && !dumb;
        Self { stream: BufWriter::new(io::stdout()), json, colour }
    }

    /// A line of text, of which every part that is not this program's own is [`clean`].
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.stream, "{text}")
    }

    /// Bytes that are JSON already, one object a line. JSON escapes what a terminal would obey, and data are
    /// not changed for the sake of who looks on.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A value as indented JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
        self.line(&escape_json(&text))
    }

    /// A value as JSON on one line.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        self.line(&escape_json(&text))
    }

    /// Columns under headings, as wide as they need to be. Cells are cleaned and cut here.
    pub(crate) fn table<const N: usize>(
        &mut self,
        headings: [&str; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        let cut = |cell: &String| {
            let cell = clean(cell).into_owned();
            match cell.char_indices().nth(MAX_CELL) {
                Some(_) => cell.chars().take(MAX_CELL - 1).chain(['…']).collect(),
                None => cell,
            }
        };
        let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(cut)).collect();
        let mut widths = headings.map(|h| h.chars().count());
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in std::iter::once(&headings.map(str::to_owned)).chain(&rows) {
            let line = row.iter().zip(widths).fold(String::new(), |mut line, (cell, width)| {
                let _infallible = write!(line, "{cell:width$}  ");
                line
            });
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    /// A verdict, coloured where colours are shown.
    pub(crate) fn verdict(&self, verdict: Verdict) -> String {
        let colour = match verdict {
            Verdict::Allow => 32,
            Verdict::Hold => 33,
            Verdict::Block => 31,
        };
        let word = verdict.as_str();
        if self.colour { format!("\u{1b}[1;{colour}m{word}\u{1b}[0m") } else { word.to_owned() }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Says something on stderr. Cleaned line by line; a closed stderr is nobody's fault.
pub(crate) fn note(message: &str) {
    let mut stderr = io::stderr().lock();
    for line in message.lines() {
        let _nobody_reads = writeln!(stderr, "{}", clean(line));
    }
}

/// `text` with every character that a terminal would obey or a person could not see in visible form:
/// `\n`, `\u{1b}`, `\u{202e}`.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_invisible) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().fold(String::with_capacity(text.len() + 16), |mut out, c| {
        if is_invisible(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    }))
}

/// JSON with every invisible character inside its strings as `\uXXXX`: the same value, safe to look at.
fn escape_json(json: &str) -> Cow<'_, str> {
    let unsafe_to_show = |c: char| c != '\n' && is_invisible(c);
    if !json.contains(unsafe_to_show) {
        return Cow::Borrowed(json);
    }
    Cow::Owned(json.chars().fold(String::with_capacity(json.len() + 16), |mut out, c| {
        if unsafe_to_show(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _infallible = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
        out
    }))
}

/// `10,000`
pub(crate) fn number(n: u64) -> String {
    let digits = n.to_string();
    let first = digits.len() % 3;
    digits.chars().enumerate().fold(String::new(), |mut out, (i, c)| {
        if i > 0 && i % 3 == first {
            out.push(',');
        }
        out.push(c);
        out
    })
}

/// `10,000`, or `unknown`.
pub(crate) fn count(count: Count) -> String {
    count.known().map_or_else(|| "unknown".to_owned(), number)
}

/// `1 policy`, `2 policies`: a number with the word that goes with it.
pub(crate) fn plural(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", number(n as u64), if n == 1 { one } else { many })
}

/// `1 record`, `10,000 records`
pub(crate) fn records(n: u64) -> String {
    plural(usize::try_from(n).unwrap_or(usize::MAX), "record", "records")
}

/// A time to the second, in UTC.
pub(crate) fn time(t: Timestamp) -> String {
    let second = Timestamp::from_micros(t.as_micros().div_euclid(1_000_000).saturating_mul(1_000_000));
    second.to_string().replace(".000000", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        let hostile = "a\u{1b}[31mred\u{9b}2J\r\n\u{202e}evil\u{200b}\u{7}\u{7f}é漢";
        let shown = clean(hostile);
        assert!(!shown.contains(is_invisible), "{shown}");
        assert!(shown.starts_with("a\\u{1b}[31mred\\u{9b}2J\\r\\n\\u{202e}evil\\u{200b}"));
        assert!(shown.ends_with("é漢"));
        assert!(matches!(clean("plain"), Cow::Borrowed("plain")));

        let json = serde_json::to_string_pretty(&serde_json::json!({ "a": [hostile, "\u{e0041}"] })).unwrap();
        let escaped = escape_json(&json);
        assert!(!escaped.replace('\n', "").contains(is_invisible));
        let back: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(back["a"][0], hostile);
        assert_eq!(back["a"][1], "\u{e0041}");
    }

    #[test]
    fn numbers_are_grouped_and_times_cut() {
        let grouped = [0, 7, 999, 1_000, 12_345, 123_456, 1_234_567].map(number);
        assert_eq!(grouped, ["0", "7", "999", "1,000", "12,345", "123,456", "1,234,567"]);
        assert_eq!([0, 1, 1_000].map(records), ["0 records", "1 record", "1,000 records"]);
        assert_eq!(count(Count::Unknown), "unknown");
        assert_eq!(time(Timestamp::from_micros(1_795_338_605_999_999)), "2026-11-22T09:10:05Z");
    }
}
