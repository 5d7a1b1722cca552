//! What stands at a path, how it is compared and how it is written down.

use super::path::{RelPath, bytes_json, hex};
use crate::{Cell, Error, RowReader, RowWriter};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Names and values of extended attributes.
pub(super) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// What every kind of object has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// Permissions, with set-user-id, set-group-id and sticky.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, u32),
    /// Names and values, sorted: ACLs, capabilities and labels are among them.
    pub(super) xattrs: Attributes,
}

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) size: u64,
    /// BLAKE3, holes read as zeros.
    pub(super) hash: [u8; 32],
    /// Where data is: offset and length, in order. All else is a hole.
    pub(super) data: Vec<(u64, u64)>,
    /// Under which number the same part of the snapshot holds its bytes.
    pub(super) stored: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    File {
        content: Content,
        /// The first of the captured paths that are names of this one file; none when it is the only one.
        shared: Option<RelPath>,
        /// Names that it has besides the captured ones.
        elsewhere: u32,
    },
    Folder,
    Link(Vec<u8>),
    /// A pipe, socket or device: never captured before an action, only seen afterwards.
    Special(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) meta: Meta,
    pub(super) body: Body,
}

/// A path and what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) path: RelPath,
    /// A folder on the way to what was meant: not itself meant.
    pub(super) way: bool,
    pub(super) object: Option<Object>,
}

/// An object as conflicts see it. Equal: nobody would see a difference. Where holes are and how many other
/// names a file has is not part of it, nor is the time of a folder, which changes with every name in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'a>(pub(super) &'a Object);

impl PartialEq for Look<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.0.meta, &other.0.meta);
        let bodies = match (&self.0.body, &other.0.body) {
            (Body::Folder, Body::Folder) => true,
            (
                Body::File { content, shared, .. },
                Body::File { content: other_content, shared: other_shared, .. },
            ) => shared == other_shared && content.same(other_content) && a.mtime == b.mtime,
            (one, other) => one == other && a.mtime == b.mtime,
        };
        bodies && (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid) && a.xattrs == b.xattrs
    }
}

impl Content {
    pub(super) fn same(&self, other: &Self) -> bool {
        (self.size, self.hash) == (other.size, other.hash)
    }
}

impl Object {
    pub(super) const fn is_folder(&self) -> bool {
        matches!(self.body, Body::Folder)
    }

    pub(super) const fn content(&self) -> Option<&Content> {
        match &self.body {
            Body::File { content, .. } => Some(content),
            _ => None,
        }
    }

    const fn kind(&self) -> &'static str {
        match self.body {
            Body::File { .. } => "file",
            Body::Folder => "folder",
            Body::Link(_) => "symlink",
            Body::Special(_) => "special",
        }
    }

    /// For people.
    pub(super) fn json(&self) -> Map<String, Value> {
        let meta = &self.meta;
        let mut map = Map::new();
        let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
        put("kind", self.kind().into());
        put("mode", format!("{:04o}", meta.mode).into());
        put("uid", meta.uid.into());
        put("gid", meta.gid.into());
        put("mtime", format!("{}.{:09}", meta.mtime.0, meta.mtime.1).into());
        if !meta.xattrs.is_empty() {
            let pairs = meta.xattrs.iter().map(|(n, v)| json!([bytes_json(n), bytes_json(v)]));
            put("xattrs", pairs.collect());
        }
        match &self.body {
            Body::File { content, shared, elsewhere } => {
                put("size", content.size.into());
                put("blake3", hex(&content.hash).into());
                if let Some(first) = shared {
                    put("same_file_as", first.json());
                }
                if *elsewhere > 0 {
                    put("names_elsewhere", (*elsewhere).into());
                }
                if let Some(number) = content.stored {
                    put("content", number.into());
                }
            }
            Body::Link(to) => drop(put("target", bytes_json(to))),
            Body::Folder | Body::Special(_) => {}
        }
        map
    }
}

impl Record {
    pub(super) fn json(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("path".to_owned(), self.path.json());
        match &self.object {
            Some(object) => map.extend(object.json()),
            None => drop(map.insert("kind".to_owned(), "absent".into())),
        }
        if self.way {
            map.insert("on_the_way".to_owned(), true.into());
        }
        map
    }

    /// Adds it to a block. Cells: path, metadata, body, then pairs of cells for extended attributes.
    pub(super) fn write(&self, out: &mut RowWriter) {
        let path = self.path.bytes();
        let Some(Object { meta, body }) = &self.object else {
            out.row(1);
            return out.cell(tag(b'-', self.way), path);
        };
        out.row(3 + 2 * meta.xattrs.len());
        let mut fixed = Vec::with_capacity(96);
        fixed.extend(meta.mode.to_le_bytes());
        fixed.extend(meta.uid.to_le_bytes());
        fixed.extend(meta.gid.to_le_bytes());
        fixed.extend(meta.mtime.0.to_le_bytes());
        fixed.extend(meta.mtime.1.to_le_bytes());
        let mut rest = Vec::new();
        let kind = match body {
            Body::File { content, shared, elsewhere } => {
                rest.extend(content.size.to_le_bytes());
                rest.extend(content.hash);
                rest.extend(content.stored.map_or(0, |n| n + 1).to_le_bytes());
                rest.extend(elsewhere.to_le_bytes());
                rest.extend((content.data.len() as u64).to_le_bytes());
                for (at, len) in &content.data {
                    rest.extend(at.to_le_bytes());
                    rest.extend(len.to_le_bytes());
                }
                if let Some(first) = shared {
                    rest.push(b'=');
                    rest.extend(first.bytes());
                }
                b'f'
            }
            Body::Folder => b'd',
            Body::Link(to) => {
                rest.extend(to);
                b'l'
            }
            Body::Special(kind) => {
                rest.extend(kind.to_le_bytes());
                b'o'
            }
        };
        out.cell(tag(kind, self.way), path);
        out.cell(0, &fixed);
        out.cell(0, &rest);
        for (name, value) in &meta.xattrs {
            out.cell(1, name);
            out.cell(2, value);
        }
    }

    /// All records of a block.
    pub(super) fn read_all(data: &[u8]) -> impl Iterator<Item = Result<Self, Error>> {
        RowReader::new(data).map(|row| {
            Self::read(&row?).unwrap_or_else(|| {
                Err(Error::Snapshot("the snapshot holds a file record that makes no sense".to_owned()))
            })
        })
    }

    fn read(cells: &[Cell<'_>]) -> Option<Result<Self, Error>> {
        let (first, cells) = cells.split_first()?;
        let (kind, way) = (first.tag & 0x7f, first.tag & 0x80 != 0);
        let path = match RelPath::recorded(first.bytes) {
            Ok(path) => path,
            Err(error) => return Some(Err(error)),
        };
        let [fixed, rest, pairs @ ..] = cells else {
            return (kind == b'-' && cells.is_empty()).then_some(Ok(Self { path, way, object: None }));
        };
        let mut fixed = Bytes(fixed.bytes);
        let mut meta = Meta {
            mode: u16::from_le_bytes(fixed.take()?),
            uid: u32::from_le_bytes(fixed.take()?),
            gid: u32::from_le_bytes(fixed.take()?),
            mtime: (i64::from_le_bytes(fixed.take()?), u32::from_le_bytes(fixed.take()?)),
            xattrs: Vec::new(),
        };
        for pair in pairs.chunks(2) {
            let [name, value] = pair else { return None };
            meta.xattrs.push((name.bytes.to_vec(), value.bytes.to_vec()));
        }
        let body = match kind {
            b'f' => Self::file(Bytes(rest.bytes))?,
            b'd' => Body::Folder,
            b'l' => Body::Link(rest.bytes.to_vec()),
            b'o' => Body::Special(u16::from_le_bytes(Bytes(rest.bytes).take()?)),
            _ => return None,
        };
        Some(Ok(Self { path, way, object: Some(Object { meta, body }) }))
    }

    fn file(mut rest: Bytes<'_>) -> Option<Body> {
        let (size, hash) = (u64::from_le_bytes(rest.take()?), rest.take()?);
        let stored = u64::from_le_bytes(rest.take()?).checked_sub(1);
        let elsewhere = u32::from_le_bytes(rest.take()?);
        let mut data = Vec::new();
        let mut end = 0_u64;
        for _ in 0..u64::from_le_bytes(rest.take()?) {
            let (at, len) = (u64::from_le_bytes(rest.take()?), u64::from_le_bytes(rest.take()?));
            if at < end {
                return None;
            }
            end = at.checked_add(len).filter(|end| *end <= size)?;
            data.push((at, len));
        }
        let shared = match rest.0 {
            [] => None,
            [b'=', first @ ..] => Some(RelPath::recorded(first).ok()?),
            _ => return None,
        };
        Some(Body::File { content: Content { size, hash, data, stored }, shared, elsewhere })
    }
}

const fn tag(kind: u8, way: bool) -> u8 {
    kind | if way { 0x80 } else { 0 }
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_nonsense_is_refused() {
        let path = |p: &[u8]| RelPath::recorded(p).unwrap();
        let meta = Meta {
            mode: 0o6755,
            uid: 1,
            gid: u32::MAX,
            mtime: (-5, 999_999_999),
            xattrs: vec![(b"user.a".to_vec(), vec![0, 255]), (b"user.b".to_vec(), vec![])],
        };
        let content = Content { size: 10, hash: [7; 32], data: vec![(0, 4), (8, 2)], stored: Some(0) };
        let bodies = [
            Body::Folder,
            Body::Link(b"\xff../x".to_vec()),
            Body::Special(0o010_000),
            Body::File { content: content.clone(), shared: Some(path(b"a\n")), elsewhere: 3 },
            Body::File { content: Content { stored: None, ..content }, shared: None, elsewhere: 0 },
        ];
        let mut records = vec![Record { path: path(b"gone"), way: true, object: None }];
        records.extend(bodies.map(|body| Record {
            path: path(b"d/\xfe"),
            way: false,
            object: Some(Object { meta: meta.clone(), body }),
        }));
        let mut out = RowWriter::default();
        records.iter().for_each(|r| r.write(&mut out));
        let (_, block) = out.take();
        assert_eq!(Record::read_all(&block).collect::<Result<Vec<_>, _>>().unwrap(), records);
        for at in 0..block.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = block.clone();
                damaged[at] ^= flip;
                Record::read_all(&damaged).for_each(drop); // whatever it says, it says it
            }
        }
    }

    #[test]
    fn an_empty_shared_path_is_the_root_and_never_a_file() {
        let mut out = RowWriter::default();
        out.row(1);
        out.cell(b'f', b"a");
        let (_, block) = out.take();
        assert!(Record::read_all(&block).all(|r| r.is_err()));
    }
}
