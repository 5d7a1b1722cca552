//! What secrets look like.
//!
//! Each shape is a regular expression that is bounded, or goes on once it has begun to match, so that a search never
//! looks far ahead in vain: the whole is linear in the length of the text. A match is then judged in code, where
//! that says more than an expression could.

use super::REDACTED;
use regex::{Match, Regex};
use std::borrow::Cow;

/// What surrounds a match: the text, and the span of it.
type Judge = fn(&str, Match<'_>) -> bool;

#[derive(Debug)]
pub(super) struct Shapes(Vec<Shape>);

#[derive(Debug)]
struct Shape {
    expression: Regex,
    /// Whether it is a secret after all.
    judge: Judge,
    /// Whether one that is none may overlap one that is: `1234 4111 1111 …`, `token:password=…`. Only where what is none is
    /// short, or the whole would not be linear.
    overlaps: bool,
}

/// Keys in PEM form. One that is cut off goes on to the end of the text.
const PEM: &str = r"(?s)(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z))";

/// Signed tokens (JWT, JWS, JWE): base64 of `{"…`, then parts after dots.
const JWT: &str = r"((?-u:\b)eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*)";

/// Keys whose issuers begin them with a mark.
const MARKED: &[&str] = &[
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?-u:\b)", // AWS
    r"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}", // GitHub
    r"gl(?:pat|dt|rt|soat|ptt|oas)-[A-Za-z0-9_-]{20,}", // GitLab
    r"xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}", // Slack
    r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_+-]{8,}",
    r"sk-[A-Za-z0-9_-]{20,}", // OpenAI, Anthropic
    r"[rs]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{20,}", // Stripe, Standard Webhooks
    r"AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}", // Google
    r"npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|cio[A-Za-z0-9]{32}(?-u:\b)|hf_[A-Za-z0-9]{30,}",
    r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,}|key-[0-9a-f]{32}(?-u:\b)", // SendGrid, Mailgun
    r"SK[0-9a-f]{32}(?-u:\b)|do[opr]_v1_[0-9a-f]{64}|dapi[0-9a-f]{32}|hv[sbr]\.[A-Za-z0-9_-]{20,}",
    r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|[0-9]{8,10}:AA[A-Za-z0-9_-]{33}", // Shopify, Telegram
    r"ck_(?:agent|operator|admin)_[0-9a-f]{16,}",                          // Checkrein
];

/// What follows `Bearer` or `Basic`.
const HEADER: &str = r"(?i-u:\b(?:bearer|basic))[ \t]+([A-Za-z0-9._~+/=-]{12,})";

/// The password in `postgres://user:password@host`.
const ADDRESS: &str = r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^ \t\r\n/@:?#]{0,100}:([^ \t\r\n/@]{1,200})@";

/// `password=…`, `"api_key": "…"`, also within a string of JSON or the query of an address.
const NAMED: &str = concat!(
    r"(?i-u:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?|",
    r"\bsig|\bcvv)\\{0,2}[\x22']?[ \t]{0,4}[:=][ \t]{0,4}",
    r"(\\{0,2}\x22[^\x22]+\x22?|\\{0,2}'[^']+'?|[^ \t\r\n\x22',;&)}\]<>\\]+)",
);

/// `--password …`
const OPTION: &str = r"--(?i-u:password|passwd|passphrase|token|secret|api-?key|access-?key)[ \t]{1,4}([^ \t\r\n-][^ \t\r\n]*)";

/// Digits that are as many as a card's number has, in groups as they are printed or in none.
const CARD: &str = r"([0-9]{4}(?:[ -][0-9]{4}){3}|[0-9]{4}[ -][0-9]{6}[ -][0-9]{4,5}|[0-9]{13,19})";

const EMAIL: &str = r#"([^ \t\r\n@<>"'(),;:\[\]\\/=&?]{1,64}@[^ \t\r\n@<>"'(),;:\[\]\\/=&?]{1,63}\.[^ \t\r\n@<>"'(),;:\[\]\\/=&?]{1,190})"#;

/// What a value may stand between, escaped or not.
const QUOTES: [char; 3] = ['\\', '"', '\''];

impl Shapes {
    pub(super) fn new(emails: bool) -> Result<Self, String> {
        let always: Judge = |_, _| true;
        let marked = format!(r"((?-u:\b)(?:{}))", MARKED.join("|"));
        let mut shapes: Vec<(&str, Judge)> = vec![
            (PEM, always),
            (JWT, |_, found| found.as_str().contains('.')),
            (&marked, |_, found| found.as_str().bytes().any(|b| b.is_ascii_digit())),
            (HEADER, |_, found| found.len() >= 32 || found.as_str().bytes().any(|b| b.is_ascii_digit())),
            (ADDRESS, always),
            (NAMED, is_named),
            (OPTION, always),
            (CARD, is_card),
        ];
        if emails {
            shapes.push((EMAIL, always));
        }
        let shape = |(expression, judge): (&str, Judge)| {
            let expression =
                Regex::new(expression).map_err(|e| format!("an expression of a secret is wrong: {e}"))?;
            Ok(Shape { overlaps: [CARD, NAMED].contains(&expression.as_str()), expression, judge })
        };
        Ok(Self(shapes.into_iter().map(shape).collect::<Result<_, String>>()?))
    }

    pub(super) fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        // What is taken out can leave something behind that now stands by itself: look again until nothing is found.
        for _ in 0..4 {
            let mut found = false;
            for shape in &self.0 {
                if let Some(redacted) = shape.redact(&text) {
                    text = Cow::Owned(redacted);
                    found = true;
                }
            }
            if !found {
                break;
            }
        }
        text
    }
}

impl Shape {
    fn redact(&self, text: &str) -> Option<String> {
        let (mut out, mut done, mut from) = (String::new(), 0, 0);
        while let Some(groups) = self.expression.captures_at(text, from) {
            let (Some(whole), Some(found)) = (groups.get(0), groups.get(1)) else { break };
            let began = whole.start();
            let value = found.as_str();
            // What was taken out before is no secret any more.
            if value.trim_matches(QUOTES) == REDACTED || !(self.judge)(text, found) {
                // Once more from its value on, which may begin with the name of another: but further than this time.
                from = if self.overlaps { found.start().max(began + 1) } else { found.end() };
                continue;
            }
            out.push_str(text.get(done..found.start())?);
            out.push_str(REDACTED);
            (done, from) = (found.end(), found.end());
        }
        if done == 0 {
            return None;
        }
        out.push_str(text.get(done..)?);
        Some(out)
    }
}

/// Not a number, a truth value or a word of prose: `token: expired`.
fn is_named(text: &str, found: Match<'_>) -> bool {
    let value = found.as_str();
    let bare = value.trim_matches(QUOTES);
    let quoted = bare.len() < value.len();
    let assigned =
        text.get(..found.start()).is_some_and(|before| before.trim_end_matches([' ', '\t']).ends_with('='));
    let words = ["true", "false", "null", "none", "undefined"];
    if bare == REDACTED.trim_end_matches(']')
        || words.iter().any(|word| bare.eq_ignore_ascii_case(word))
        || bare.len() < 3
    {
        return false;
    }
    let digits = bare.bytes().filter(u8::is_ascii_digit).count();
    quoted || (assigned && digits < bare.len()) || (digits > 0 && digits < bare.len()) || bare.len() >= 20
}

/// Of a length and with a start that cards have, in groups as they are printed, with the right check digit, and by
/// itself: not a piece of an id.
fn is_card(text: &str, found: Match<'_>) -> bool {
    let joins = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let before = text.get(..found.start()).and_then(|before| before.chars().next_back());
    let mut after = text.get(found.end()..).unwrap_or_default().chars();
    let (next, second) = (after.next(), after.next());
    let goes_on =
        next.is_some_and(joins) || (next == Some('.') && second.is_some_and(|c| c.is_ascii_digit()));
    if before.is_some_and(|c| joins(c) || c == '.') || goes_on {
        return false;
    }
    let digits: Vec<u32> = found.as_str().chars().filter_map(|c| c.to_digit(10)).collect();
    let start = digits.iter().take(4).fold(0, |number, digit| number * 10 + digit);
    let lengths: &[usize] = match start {
        4000..=4999 => &[13, 16, 19],
        5100..=5599 | 2221..=2720 | 3528..=3589 => &[16],
        3400..=3499 | 3700..=3799 => &[15],
        3000..=3059 | 3600..=3699 | 3800..=3999 => &[14, 16],
        6011 | 6440..=6599 | 6200..=6299 => &[16, 17, 18, 19],
        _ => &[],
    };
    lengths.contains(&digits.len()) && luhn(&digits)
}

fn luhn(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match at % 2 {
            0 => *digit,
            _ if *digit > 4 => digit * 2 - 9,
            _ => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}
