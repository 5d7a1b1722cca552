//! Into a snapshot: before-images with content, each content once; after-images by hash.

use super::{
    look::{Bytes, CHUNK, Unkept, Witness, look},
    object::{Body, Object, Record},
    path::RelPath,
    root::{Root, special},
    walk::{Choice, Tally, Ways, how, paths},
    work::{Sink, Stop},
};
use crate::{Captured, Error, RowWriter, RowsDigest, snapshot::Side};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Takes the before-images of what is meant, and of the folders on the way to it.
pub(super) fn capture(
    root: &Root,
    choice: &Choice,
    delete: bool,
    stop: &Stop,
    sink: &mut Sink,
) -> Result<Captured, Error> {
    sink.begin(choice.json())?;
    let meant = paths(root, choice, Ways::Strict, stop)?;
    let (mut tally, mut digest) = (Tally::new(), RowsDigest::default());
    let mut store = Store::new(sink);
    let mut shared = Shared::default();
    for (path, way) in with_ways(&meant) {
        let found = store.keep(root, &path, stop)?;
        if let Some((Object { body: Body::Special(kind), .. }, _)) = &found {
            return Err(special(&path, *kind));
        }
        if !way {
            let there = found.as_ref().map(|(object, _)| object);
            if let Some(how) = how(delete, there.is_some()) {
                tally.add(&path, there.is_some_and(Object::is_folder), how);
            }
        }
        if let Some(record) = shared.hold(path, way, found) {
            store.write(&record, &mut digest)?;
        }
    }
    for record in shared.release() {
        store.write(&record, &mut digest)?;
    }
    Ok(Captured { affected: tally.affected().0, digest: Some(digest.finish()) })
}

/// Looks again at what the snapshot names, and at what has appeared where it looked.
pub(super) fn seal(
    root: &Root,
    choice: &Choice,
    named: impl Iterator<Item = (RelPath, bool)>,
    stop: &Stop,
    sink: &mut Sink,
) -> Result<(), Error> {
    sink.begin(serde_json::json!({}))?;
    let mut all: std::collections::BTreeMap<RelPath, bool> = named.collect();
    for path in paths(root, choice, Ways::Lenient, stop)? {
        all.entry(path).or_insert(false);
    }
    let mut shared = Shared::default();
    for (path, way) in all {
        let found = look(root, &path, stop, &mut Unkept)?;
        if let Some(record) = shared.hold(path, way, found) {
            sink.record(Side::After, &record)?;
        }
    }
    for record in shared.release() {
        sink.record(Side::After, &record)?;
    }
    Ok(())
}

/// The paths and the folders on the way to them, sorted.
pub(super) fn with_ways(meant: &BTreeSet<RelPath>) -> impl Iterator<Item = (RelPath, bool)> {
    let mut all: std::collections::BTreeMap<RelPath, bool> =
        meant.iter().map(|p| (p.clone(), false)).collect();
    for path in meant {
        for above in path.ancestors() {
            if all.contains_key(&above) {
                break;
            }
            all.insert(above, true);
        }
    }
    all.into_iter()
}

/// Files of several names are held until all names are known.
#[derive(Default)]
pub(super) struct Shared(Vec<(Record, Witness)>);

impl Shared {
    /// The record, unless more names of its file may come.
    pub(super) fn hold(
        &mut self,
        path: RelPath,
        way: bool,
        found: Option<(Object, Witness)>,
    ) -> Option<Record> {
        let Some((object, witness)) = found else { return Some(Record { path, way, object: None }) };
        let several = witness.links > 1 && object.content().is_some();
        let record = Record { path, way, object: Some(object) };
        if several {
            self.0.push((record, witness));
            return None;
        }
        Some(record)
    }

    /// All that were held, in the order of their paths, with what they share.
    pub(super) fn release(mut self) -> impl Iterator<Item = Record> {
        let mut files = HashMap::<u64, (RelPath, u32)>::new();
        for (record, witness) in &self.0 {
            files.entry(witness.ino).or_insert_with(|| (record.path.clone(), 0)).1 += 1;
        }
        for (record, witness) in &mut self.0 {
            if let (Some(Object { body: Body::File { shared, elsewhere, .. }, .. }), Some((first, names))) =
                (&mut record.object, files.get(&witness.ino))
            {
                *shared = (*names > 1).then(|| first.clone());
                *elsewhere = witness.links.saturating_sub(*names);
            }
        }
        self.0.into_iter().map(|(record, _)| record)
    }
}

/// Keeps contents, each once.
pub(super) struct Store<'a> {
    sink: &'a mut Sink,
    known: HashMap<[u8; 32], u64>,
    sizes: HashSet<u64>,
    next: u64,
    how: Keep,
    small: Vec<(u64, Vec<u8>)>,
}

/// What becomes of the file that is being read.
#[derive(Clone, Copy)]
enum Keep {
    /// It is small: kept in memory until its hash is known.
    Small,
    /// Its size is new, so its content is: straight into the snapshot under this number.
    Straight(u64),
    /// It may be known: only hashed.
    Hash,
}

impl Bytes for Store<'_> {
    fn begin(&mut self, size: u64) {
        self.small.clear();
        self.how = if size <= CHUNK as u64 {
            Keep::Small
        } else if self.sizes.contains(&size) {
            Keep::Hash
        } else {
            self.next += 1;
            Keep::Straight(self.next)
        };
    }

    fn chunk(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        match self.how {
            Keep::Small => self.small.push((at, bytes.to_vec())),
            Keep::Straight(number) => self.sink.bytes(number, at, bytes)?,
            Keep::Hash => {}
        }
        Ok(())
    }
}

impl<'a> Store<'a> {
    pub(super) fn new(sink: &'a mut Sink) -> Self {
        Self {
            sink,
            known: HashMap::new(),
            sizes: HashSet::new(),
            next: 0,
            how: Keep::Hash,
            small: Vec::new(),
        }
    }

    /// What stands at `path`, its content kept.
    pub(super) fn keep(
        &mut self,
        root: &Root,
        path: &RelPath,
        stop: &Stop,
    ) -> Result<Option<(Object, Witness)>, Error> {
        // A second time only for a large file whose size is known and whose content is not.
        loop {
            let Some((mut object, witness)) = look(root, path, stop, self)? else { return Ok(None) };
            let Body::File { content, .. } = &mut object.body else { return Ok(Some((object, witness))) };
            let number = match (self.known.get(&content.hash), self.how) {
                (Some(number), _) => *number,
                (None, Keep::Straight(number)) => number,
                (None, Keep::Small) => {
                    self.next += 1;
                    for (at, bytes) in std::mem::take(&mut self.small) {
                        self.sink.bytes(self.next, at, &bytes)?;
                    }
                    self.next
                }
                (None, Keep::Hash) => {
                    self.sizes.remove(&content.size);
                    continue;
                }
            };
            self.known.insert(content.hash, number);
            if content.size > CHUNK as u64 {
                self.sizes.insert(content.size);
            }
            content.stored = Some(number);
            return Ok(Some((object, witness)));
        }
    }

    fn write(&mut self, record: &Record, digest: &mut RowsDigest) -> Result<(), Error> {
        // Where a content is kept and where its holes are is no part of what an approval is bound to.
        let mut bare = record.clone();
        if let Some(Object { body: Body::File { content, .. }, .. }) = &mut bare.object {
            content.stored = None;
            content.data.clear();
        }
        if !record.way {
            let mut row = RowWriter::default();
            bare.write(&mut row);
            digest.add(".", &row.take().1);
        }
        self.sink.record(Side::Before, record)
    }

    /// A record that was made elsewhere.
    pub(super) fn record(&mut self, side: Side, record: &Record) -> Result<(), Error> {
        self.sink.record(side, record)
    }
}
