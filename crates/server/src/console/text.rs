//! How values become text in a page. Whatever an agent has a say in passes [`Visible`].

use askama::filters::{Escaper, Safe};
use checkrein_core::{action::Count, name::is_invisible, time::Timestamp};
use serde_json::Value;
use std::fmt::{self, Write};

/// Bytes of a payload that a page shows; the whole is a download.
const SHOWN_BYTES: usize = 16 * 1024;

/// The escaper of all templates: HTML has no meaning in a value, and what a person cannot see, or what would
/// change the order in which a page is read, is written as `⟨U+202E⟩`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Visible;

impl Escaper for Visible {
    fn write_escaped_str<W: Write>(&self, mut to: W, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.write_escaped_char(&mut to, c))
    }

    fn write_escaped_char<W: Write>(&self, mut to: W, c: char) -> fmt::Result {
        match c {
            '<' => to.write_str("&lt;"),
            '>' => to.write_str("&gt;"),
            '&' => to.write_str("&amp;"),
            '"' => to.write_str("&quot;"),
            '\'' => to.write_str("&#39;"),
            '\n' | '\t' => to.write_char(c),
            c if is_invisible(c) => write!(to, "\u{27E8}U+{:04X}\u{27E9}", u32::from(c)),
            c => to.write_char(c),
        }
    }
}

/// A time: UTC in the page, the viewer's own once the script has run.
pub(crate) struct Moment(Timestamp);

/// `at`, for a page.
pub(crate) const fn moment(at: Timestamp) -> Safe<Moment> {
    Safe(Moment(at))
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = self.0.to_string();
        let (day, time) = full.split_once('T').unwrap_or((&full, ""));
        let time = time.split(['.', 'Z']).next().unwrap_or_default();
        write!(f, "<time datetime=\"{full}\">{day} {time} UTC</time>")
    }
}

/// `10,000`.
pub(crate) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 record`, `10,000 records`, `an unknown number of records`.
pub(crate) fn records(count: Count) -> String {
    match count {
        Count::Known(1) => "1 record".to_owned(),
        Count::Known(n) => format!("{} records", number(n)),
        Count::Unknown => "an unknown number of records".to_owned(),
    }
}

/// The number alone.
pub(crate) fn count(count: Count) -> String {
    count.known().map_or_else(|| "unknown".to_owned(), number)
}

/// `4.2 MB`.
pub(crate) fn bytes(n: u64) -> String {
    let (mut whole, mut tenth, mut unit) = (n, 0, "bytes");
    for larger in ["kB", "MB", "GB", "TB"] {
        if whole < 1000 {
            break;
        }
        (whole, tenth, unit) = (whole / 1000, whole % 1000 / 100, larger);
    }
    if unit == "bytes" || whole >= 100 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{tenth} {unit}")
    }
}

/// From `from` to `to`, roughly, as `2 h 5 min`; `0 s` when it is over.
pub(crate) fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_micros().saturating_sub(from.as_micros()).max(0) / 1_000_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 if seconds % 3600 < 60 => format!("{} h", seconds / 3600),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Text that may be long, cut for a page.
pub(crate) struct Cut {
    /// What is shown.
    pub(crate) text: String,
    /// The size of the whole, where it was cut.
    pub(crate) whole: Option<String>,
}

impl Cut {
    /// `text`, if need be its beginning.
    pub(crate) fn of(mut text: String) -> Self {
        let size = text.len();
        if size <= SHOWN_BYTES {
            return Self { text, whole: None };
        }
        text.truncate(text.floor_char_boundary(SHOWN_BYTES));
        Self { text, whole: Some(bytes(size as u64)) }
    }

    /// `value` as a person reads it.
    pub(crate) fn json(value: &Value) -> Self {
        Self::of(json(value))
    }
}

/// JSON over several lines, ASCII where a character could not be seen, so that it means the same when copied.
pub(crate) fn json(value: &Value) -> String {
    let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut text = String::with_capacity(pretty.len());
    for c in pretty.chars() {
        if c != '\n' && is_invisible(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _infallible = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(text: &str) -> String {
        let mut to = String::new();
        Visible.write_escaped_str(&mut to, text).unwrap();
        to
    }

    #[test]
    fn nothing_in_a_value_is_markup_or_unseen() {
        assert_eq!(shown("<b onclick='x'>&\"</b>"), "&lt;b onclick=&#39;x&#39;&gt;&amp;&quot;&lt;/b&gt;");
        assert_eq!(shown("a\u{202E}b\u{200B}c"), "a⟨U+202E⟩b⟨U+200B⟩c");
        assert_eq!(shown("\u{1b}[31mred"), "⟨U+001B⟩[31mred");
        assert_eq!(shown("two\nlines\tÄ 漢 🎉"), "two\nlines\tÄ 漢 🎉");
    }

    #[test]
    fn json_means_the_same_when_it_is_copied() {
        let value = json!({"a\u{202E}": "\u{1b}[0m \u{E0041} ü"});
        let text = json(&value);
        assert!(!text.contains(['\u{202E}', '\u{1b}', '\u{E0041}']), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn numbers_and_spans_read_easily() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (u64::MAX, "18,446,744,073,709,551,615")] {
            assert_eq!(number(n), text);
        }
        for (n, text) in [
            (999, "999 bytes"),
            (1000, "1.0 kB"),
            (123_456, "123 kB"),
            (4_200_000, "4.2 MB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(bytes(n), text);
        }
        let at = |s: i64| Timestamp::from_micros(s * 1_000_000);
        for (s, text) in [
            (-5, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3600, "1 h"),
            (7500, "2 h 5 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(at(0), at(s)), text);
        }
    }

    #[test]
    fn what_is_long_is_cut_between_characters() {
        let cut = Cut::of("ü".repeat(SHOWN_BYTES));
        assert_eq!((cut.text.len(), cut.whole.as_deref()), (SHOWN_BYTES, Some("32.7 kB")));
        assert!(Cut::of("short".to_owned()).whole.is_none());
    }
}
