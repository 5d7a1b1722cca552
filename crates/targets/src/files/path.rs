//! Paths below the root: bytes, as Linux has them, and never a way out.

use crate::Error;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// The folder in the root in which rollbacks are prepared. Nobody else's: it is never counted or captured.
pub(super) const OWN: &[u8] = b".checkrein";

/// A path below the root, without a leading slash, `.` or `..`; empty for the root itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct RelPath(Vec<u8>);

impl RelPath {
    /// Takes `path` as it comes from outside. An absolute path is good only if it begins with the root.
    pub(super) fn parse(root: &Path, path: &[u8]) -> Result<Self, Error> {
        use std::os::unix::ffi::OsStrExt as _;
        let refuse = |why: &str| Err(Error::Invalid(format!("the path {} {why}", show(path))));
        if path.contains(&0) {
            return refuse("holds a NUL byte");
        }
        let below = match path.strip_prefix(b"/") {
            None => path,
            Some(_) => match strip(path, root.as_os_str().as_bytes()) {
                Some(below) => below,
                None => {
                    return refuse("is absolute and not below this target; give a path within the target");
                }
            },
        };
        let mut parts = Vec::new();
        for part in below.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return refuse("holds `..`; give a path within the target"),
                part if part.len() > 255 => return refuse("has a name of more than 255 bytes"),
                part => parts.push(part),
            }
        }
        if parts.first().is_some_and(|first| *first == OWN) {
            return refuse("is Checkrein's own, for rollbacks that are under way");
        }
        let path = Self(parts.join(&b'/'));
        if path.0.len() > 4000 { refuse("is longer than 4000 bytes") } else { Ok(path) }
    }

    /// From a snapshot or a journal, which only Checkrein writes; checked again all the same.
    pub(super) fn recorded(path: &[u8]) -> Result<Self, Error> {
        let fine = path.is_empty()
            || !path.contains(&0) && path.split(|b| *b == b'/').all(|p| !matches!(p, b"" | b"." | b".."));
        if fine && path.split(|b| *b == b'/').next() != Some(OWN) {
            Ok(Self(path.to_vec()))
        } else {
            Err(Error::Snapshot(format!("the snapshot holds the path {}, which makes no sense", show(path))))
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) const fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn join(&self, below: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() && !below.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(below);
        Self(path)
    }

    /// The folder it is in and its name there; the root is `.` in itself.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(at) => {
                let (folder, name) = self.0.split_at(at);
                (folder, name.get(1..).unwrap_or_default())
            }
            None if self.0.is_empty() => (b"", b"."),
            None => (b"", &self.0),
        }
    }

    /// The folder it is in; none for the root.
    pub(super) fn parent(&self) -> Option<Self> {
        (!self.is_root()).then(|| Self(self.split().0.to_vec()))
    }

    /// Every folder that it is in, the nearest first, the root last.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), Self::parent)
    }

    /// What is left of it below `folder`; none if it is not below (or the same).
    pub(super) fn below(&self, folder: &Self) -> Option<&[u8]> {
        if folder.is_root() {
            return Some(&self.0);
        }
        match self.0.strip_prefix(folder.0.as_slice())? {
            b"" => Some(b""),
            rest => rest.strip_prefix(b"/"),
        }
    }

    /// For people and for names of resources: `.` is the root, odd bytes are escaped.
    pub(super) fn show(&self) -> String {
        if self.is_root() { ".".to_owned() } else { show(&self.0) }
    }

    /// A text, or `{"hex": "…"}` where it is not UTF-8.
    pub(super) fn json(&self) -> Value {
        bytes_json(&self.0)
    }

    /// What [`RelPath::json`] and callers write.
    pub(super) fn bytes_of(value: &Value) -> Result<Vec<u8>, Error> {
        let hex = match value {
            Value::String(text) => return Ok(text.clone().into_bytes()),
            Value::Object(map) if map.len() == 1 => map.get("hex").and_then(Value::as_str),
            _ => None,
        };
        hex.and_then(unhex).ok_or_else(|| {
            Error::Invalid(
                "a path is a text, or {\"hex\": \"…\"} with its bytes where it is not UTF-8".to_owned(),
            )
        })
    }
}

/// `path` without the folders of `root`.
fn strip<'a>(path: &'a [u8], root: &[u8]) -> Option<&'a [u8]> {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    let below = path.strip_prefix(root)?;
    (root.starts_with(b"/") && (below.is_empty() || below.starts_with(b"/"))).then_some(below)
}

/// Bytes for people: control characters and what is not UTF-8 are escaped.
pub(super) fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
            if c.is_control() {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
            out
        }),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

pub(super) fn bytes_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "hex": hex(bytes) }),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |n: u8| DIGITS.get(usize::from(n & 15)).copied().unwrap_or('0');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &[u8]) -> Result<RelPath, Error> {
        RelPath::parse(Path::new("/srv/data"), path)
    }

    #[test]
    fn paths_stay_below_the_root() {
        for (path, is) in [
            (&b"a/b"[..], &b"a/b"[..]),
            (b"./a//b/", b"a/b"),
            (b"/srv/data/a", b"a"),
            (b"/srv/data", b""),
            (b"", b""),
            (b"a\n\xff/...", b"a\n\xff/..."),
            (b"a/.checkrein", b"a/.checkrein"),
        ] {
            assert_eq!(parse(path).unwrap().bytes(), is);
        }
        for path in [
            &b".."[..],
            b"a/../b",
            b"/etc/passwd",
            b"/srv/database/a",
            b"/srv/data/../x",
            b"a\0b",
            b".checkrein/x",
            b"./.checkrein",
            b"/",
            &[b'a'; 256],
        ] {
            assert!(matches!(parse(path), Err(Error::Invalid(_))), "{}", show(path));
        }
        assert!(RelPath::recorded(b"a/../../etc").is_err());
        assert!(RelPath::recorded(b"/etc").is_err());
    }

    #[test]
    fn odd_names_survive_json() {
        for name in [&b"plain"[..], b"new\nline", b"\xff\xfe", "ü".as_bytes(), b""] {
            assert_eq!(RelPath::bytes_of(&bytes_json(name)).unwrap(), name);
        }
        assert_eq!(show(b"a\nb\x1b"), "a\\nb\\u{1b}");
        assert!(RelPath::bytes_of(&json!({"hex": "0g"})).is_err());
        assert!(RelPath::bytes_of(&json!(7)).is_err());
    }
}
