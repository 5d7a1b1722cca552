//! Names as they are compared: agents, actions, tools, resources.
//!
//! Two spellings of one name must never be two names to a policy, and a name must never look like another
//! one to a person. So a name is brought to Unicode NFC and lower case, and is refused when it holds what a
//! reader cannot see: control characters, zero-width characters, bidirectional marks.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The longest name that is accepted, in bytes after normalisation.
pub const MAX_NAME_BYTES: usize = 512;

/// A normalised name: NFC, lower case, 1 to 512 bytes, no invisible characters, no white space at its ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was left.
    #[error("a name cannot be empty")]
    Empty,
    /// Over [`MAX_NAME_BYTES`].
    #[error("a name has at most {MAX_NAME_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// A character that a person cannot see or that reorders the text.
    #[error("the name holds the invisible character U+{code:04X} at character {1}; remove it", code = u32::from(*.0))]
    Invisible(char, usize),
}

impl Name {
    /// Normalises `text`.
    ///
    /// # Errors
    /// When it is empty, over [`MAX_NAME_BYTES`], or holds an invisible character.
    pub fn new(text: &str) -> Result<Self, NameError> {
        Ok(Self(normalise(text)?.into()))
    }

    /// The name of whoever named none: `default`.
    pub fn default_agent() -> Self {
        Self("default".into())
    }

    /// The normalised text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn normalise(text: &str) -> Result<String, NameError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    // Far over the limit already: do not spend time on it.
    if text.len() > MAX_NAME_BYTES * 4 {
        return Err(NameError::TooLong(text.len()));
    }
    let normal = if text.is_ascii() {
        text.to_ascii_lowercase()
    } else if is_nfc_quick(text.chars()) == IsNormalized::Yes {
        // Lower-casing can leave NFC (İ → i + dot above), so compose once more.
        text.to_lowercase().nfc().collect()
    } else {
        text.nfc().collect::<String>().to_lowercase().nfc().collect()
    };
    if normal.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong(normal.len()));
    }
    if normal.is_ascii() && !normal.bytes().any(|byte| byte.is_ascii_control()) {
        return Ok(normal);
    }
    match normal.chars().enumerate().find(|(_, c)| is_invisible(*c)) {
        Some((at, c)) => Err(NameError::Invisible(c, at)),
        None => Ok(normal),
    }
}

/// Whether a person cannot see `c`, or it changes the order in which the text around it is shown.
/// Control characters, the Default_Ignorable_Code_Point ranges of Unicode 16, bidirectional controls,
/// line and paragraph separators, and the blank-looking Braille and Hangul fillers.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
            | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E0FFF}')
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        Self::new(&text).map_err(D::Error::custom)
    }
}

/// A pattern over names: literal text in which `*` stands for any run of characters, dots too.
/// Normalised like a name, so that case and composition never matter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(Name);

impl Pattern {
    /// Normalises and keeps `text`.
    ///
    /// # Errors
    /// As [`Name::new`].
    pub fn new(text: &str) -> Result<Self, NameError> {
        Name::new(text).map(Self)
    }

    /// The normalised text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The pattern as a name: that of all together that fit it.
    pub fn name(&self) -> &Name {
        &self.0
    }

    /// The name that this pattern stands for, when it has no `*`.
    pub fn literal(&self) -> Option<&Name> {
        (!self.0.contains('*')).then_some(&self.0)
    }

    /// The text before the first `*`; the whole text when there is none.
    pub fn prefix(&self) -> &str {
        self.0.split('*').next().unwrap_or_default()
    }

    /// Whether the whole of `name` (already normalised) fits. Linear in the text for each `*`; no
    /// backtracking beyond the last `*`, so a hostile pattern costs at most pattern × text.
    pub fn matches(&self, name: &str) -> bool {
        // Most patterns are a prefix and one `*` at the end: compare that in one go.
        let Some((head, tail)) = self.0.split_once('*') else { return self.as_str() == name };
        if !name.starts_with(head) || tail.is_empty() {
            return name.starts_with(head);
        }
        let (pattern, text) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut t) = (head.len(), head.len());
        let mut retry: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    p += 1;
                    retry = Some((p, t));
                }
                Some(b) if Some(b) == text.get(t) => {
                    p += 1;
                    t += 1;
                }
                _ => match retry {
                    Some((star, from)) => {
                        p = star;
                        t = from + 1;
                        retry = Some((star, t));
                    }
                    None => return false,
                },
            }
        }
        pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
    }
}

impl From<Name> for Pattern {
    fn from(name: Name) -> Self {
        Self(name)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Name::deserialize(d).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_name_however_it_is_written() {
        assert_eq!(Name::new(" Production.Users ").unwrap().as_str(), "production.users");
        assert_eq!(Name::new("caf\u{e9}").unwrap(), Name::new("CAFE\u{301}").unwrap());
    }

    #[test]
    fn refuses_what_a_person_cannot_see() {
        for bad in
            ["", "   ", "a\u{202E}b", "a\u{200B}b", "a\0b", "a\nb", "\u{FEFF}a", "a\u{2066}b", "a\u{E0041}"]
        {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        assert!(matches!(Name::new(&"x".repeat(10_240)), Err(NameError::TooLong(_))));
        assert!(Name::new(&"x".repeat(MAX_NAME_BYTES)).is_ok());
    }

    #[test]
    fn star_is_any_run_dots_too() {
        let matches = |p: &str, t: &str| Pattern::new(p).unwrap().matches(Name::new(t).unwrap().as_str());
        assert!(matches("production.*", "Production.users.accounts"));
        assert!(!matches("production.*", "production"));
        assert!(matches("*", "anything"));
        assert!(matches("*.users", "a.b.users"));
        assert!(matches("a*b*c", "a__b__b__c"));
        assert!(!matches("a*b*c", "a__b__b__"));
        assert!(matches("USERS", "users"));
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "\\PC{0,40}") {
            if let Ok(name) = Name::new(&text) {
                prop_assert_eq!(Name::new(&name).unwrap(), name);
            }
        }

        #[test]
        fn a_pattern_agrees_with_a_plain_matcher(p in "[ab*.]{1,8}", t in "[ab.]{1,10}") {
            fn plain(p: &[u8], t: &[u8]) -> bool {
                match (p.first(), t.first()) {
                    (None, None) => true,
                    (Some(b'*'), _) => plain(&p[1..], t) || (!t.is_empty() && plain(p, &t[1..])),
                    (Some(a), Some(b)) if a == b => plain(&p[1..], &t[1..]),
                    _ => false,
                }
            }
            prop_assert_eq!(Pattern::new(&p).unwrap().matches(&t), plain(p.as_bytes(), t.as_bytes()));
        }
    }
}
