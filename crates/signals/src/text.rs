//! Text of others, made fit for a medium: escaped, on one line, and cut to what the receiver's contract allows.
//!
//! What an agent names (an action, a resource, a tool) reaches a message only through here. What a person cannot
//! see is shown as its code (`⟨U+202E⟩`), line breaks as `⏎`, so that nothing can hide, reorder or forge a line.

use checkrein_core::name::is_invisible;
use std::fmt::Write as _;

/// What a text is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Plain text, which nobody interprets: JSON strings, log lines, titles.
    Plain,
    /// Slack's mrkdwn. `&`, `<` and `>` are escaped, so that no mention and no link comes of it. Send it with
    /// `verbatim: true`, or Slack makes links of bare addresses.
    Slack,
    /// Slack's mrkdwn between backticks, where nothing else is interpreted; a backtick becomes `ˋ`.
    SlackCode,
    /// Text for a system that passes it on, nobody knows to what. What marks a mention, a link or code somewhere is
    /// replaced by what looks like it: `‹`, `›`, `ˋ`.
    Relayed,
}

/// How a contract counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// UTF-8 bytes.
    Bytes,
    /// Unicode code points.
    Chars,
    /// UTF-16 units, as JavaScript and C# count.
    Utf16,
}

/// What stands for the end that was cut off.
const ELLIPSIS: char = '…';

/// `text` for `medium`, at most `max` code points after escaping. See [`fit_in`].
pub fn fit(text: &str, medium: Medium, max: usize) -> String {
    fit_in(text, medium, Unit::Chars, max)
}

/// `text` for `medium`, at most `max` of `unit` after escaping, the ellipsis at a cut end included. Never ends within
/// an escape or a character. Reads no more of `text` than it needs.
pub fn fit_in(text: &str, medium: Medium, unit: Unit, max: usize) -> String {
    let mut out = String::new();
    let (mut size, mut keep) = (0, 0);
    let mut piece = String::with_capacity(16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        // One mark for what ends one line.
        if c == '\r' && chars.peek() == Some(&'\n') {
            continue;
        }
        piece.clear();
        escape(c, medium, &mut piece);
        size += measure(&piece, unit);
        if size > max {
            out.truncate(keep);
            if measure_char(ELLIPSIS, unit) <= max {
                out.push(ELLIPSIS);
            }
            return out;
        }
        out.push_str(&piece);
        if size + measure_char(ELLIPSIS, unit) <= max {
            keep = out.len();
        }
    }
    out
}

/// How long `text` is as a contract counts.
pub fn measure(text: &str, unit: Unit) -> usize {
    match unit {
        Unit::Bytes => text.len(),
        Unit::Chars => text.chars().count(),
        Unit::Utf16 => text.encode_utf16().count(),
    }
}

fn measure_char(c: char, unit: Unit) -> usize {
    match unit {
        Unit::Bytes => c.len_utf8(),
        Unit::Chars => 1,
        Unit::Utf16 => c.len_utf16(),
    }
}

fn escape(c: char, medium: Medium, out: &mut String) {
    match c {
        '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{85}' | '\u{2028}' | '\u{2029}' => out.push('⏎'),
        '\t' => out.push(' '),
        // They choose between two looks of the same character.
        '\u{FE0E}' | '\u{FE0F}' => {}
        _ if is_invisible(c) || is_private_use(c) => {
            let _infallible = write!(out, "⟨U+{:04X}⟩", u32::from(c));
        }
        _ => match medium {
            Medium::Plain => out.push(c),
            Medium::Slack => escape_slack(c, out),
            Medium::SlackCode => escape_slack(if c == '`' { 'ˋ' } else { c }, out),
            Medium::Relayed => out.push(match c {
                '<' => '‹',
                '>' => '›',
                '`' => 'ˋ',
                _ => c,
            }),
        },
    }
}

fn escape_slack(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        _ => out.push(c),
    }
}

/// Whoever's font it is decides what is seen.
fn is_private_use(c: char) -> bool {
    matches!(c, '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..='\u{10FFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hides_and_nothing_breaks_the_line() {
        let text =
            "a\r\nb\rc\nd\te\u{1b}[31mf\u{9b}g\u{202e}h\u{200b}i\u{feff}j\u{2028}k❤\u{fe0f}\u{0}\u{e000}";
        assert_eq!(
            fit(text, Medium::Plain, 1000),
            "a⏎b⏎c⏎d e⟨U+001B⟩[31mf⟨U+009B⟩g⟨U+202E⟩h⟨U+200B⟩i⟨U+FEFF⟩j⏎k❤⟨U+0000⟩⟨U+E000⟩"
        );
    }

    #[test]
    fn a_medium_reads_nothing_into_it() {
        let text = "<!channel> <@U123> <https://evil|x> &amp; `code` *b* _i_ [t](http://e)";
        let slack = fit(text, Medium::Slack, 1000);
        assert!(
            slack.starts_with("&lt;!channel&gt; &lt;@U123&gt; &lt;https://evil|x&gt; &amp;amp; `code`"),
            "{slack}"
        );
        assert!(!fit(text, Medium::SlackCode, 1000).contains(['`', '<', '>']));
        assert!(!fit(text, Medium::Relayed, 1000).contains(['`', '<', '>']));
    }

    #[test]
    fn is_cut_as_the_contract_counts_never_within_a_character_or_an_escape() {
        let samples =
            ["", "a", "ééé", "👩‍🚀🚀x", "&&&&<<>>", "\u{202e}\u{202e}", "plain text that goes on", "\r\n\r\n"];
        for text in samples {
            for medium in [Medium::Plain, Medium::Slack, Medium::SlackCode, Medium::Relayed] {
                let whole = fit(text, medium, usize::MAX);
                for unit in [Unit::Bytes, Unit::Chars, Unit::Utf16] {
                    for max in 0..40 {
                        let cut = fit_in(text, medium, unit, max);
                        assert!(measure(&cut, unit) <= max, "{text:?} {medium:?} {unit:?} {max}: {cut:?}");
                        if measure(&whole, unit) <= max {
                            assert_eq!(cut, whole);
                        } else if let Some(kept) = cut.strip_suffix(ELLIPSIS) {
                            let after = whole.strip_prefix(kept).unwrap();
                            assert!(!after.starts_with("amp;") && !after.starts_with("U+"), "{kept}|{after}");
                        } else {
                            assert!(cut.is_empty());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn reads_no_more_than_it_needs() {
        let huge = "x".repeat(5_000_000);
        assert_eq!(fit(&huge, Medium::Slack, 10), "xxxxxxxxx…");
    }
}
