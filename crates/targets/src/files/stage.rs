//! Prepares a rollback: everything that is to be put back is written and synced beside the tree, and the
//! steps are written down, before the first of them is taken.

use super::{
    crash::point,
    images::contents,
    journal::{Act, Journal, Op, Own, Touched},
    look::{CHUNK, witness, zeros},
    meta,
    object::{Body, Content, Look, Object},
    path::RelPath,
    plan::Item,
    root::{Root, Spot, problem},
    work::Stop,
};
use crate::{Error, UndoOptions, snapshot::Snapshot};
use checkrein_core::rollback::{OnConflict, Step};
use rustix::{
    fd::OwnedFd,
    fs::{
        AtFlags, Mode, OFlags, RenameFlags, fsync, linkat, mkdirat, openat, renameat_with, symlinkat, syncfs,
    },
    io::Errno,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{Arc, atomic::Ordering},
};

/// Up to so many files are synced one by one; for more, all of the file system is synced once.
const FEW: usize = 16;

/// A rollback that is prepared. Dropped: cleared away, nothing was changed.
pub(super) struct Staging {
    pub(super) root: Arc<Root>,
    pub(super) dir: OwnedFd,
    pub(super) name: String,
    pub(super) journal: Journal,
    own: Option<Own>,
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            if let Err(error) = own.clear(&self.dir, &self.name) {
                tracing::warn!(%error, "what a rollback had prepared could not be removed");
            }
            own.close(&self.root);
        }
    }
}

pub(super) fn new_name(number: u64) -> String {
    format!("n{number}")
}

pub(super) fn old_name(number: u64) -> String {
    format!("o{number}")
}

impl Staging {
    pub(super) fn begin(root: Arc<Root>, name: &str) -> Result<Self, Error> {
        let own = Own::open(&root, true)?
            .ok_or_else(|| Error::Internal("the folder .checkrein cannot be made".to_owned()))?;
        // The lock says that their processes are gone.
        super::commit::settle_all(&root, &own)?;
        let dir = own.make(name)?;
        let staging = Self { root, dir, name: name.to_owned(), journal: Journal::default(), own: Some(own) };
        staging.probe()?;
        Ok(staging)
    }

    /// Leaves everything as it is, for a person or for the next start.
    pub(super) fn abandon(mut self) {
        self.own = None;
    }

    /// Whether names can be swapped here in one step.
    fn probe(&self) -> Result<(), Error> {
        for name in ["n", "o"] {
            mkdirat(&self.dir, name, Mode::RWXU).map_err(|e| self.problem(e))?;
        }
        renameat_with(&self.dir, "n", &self.dir, "o", RenameFlags::EXCHANGE).map_err(|e| match e {
            Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => Error::Unsupported(
                "the target's file system cannot swap two files in one step (renameat2), so a rollback could not be all or nothing; export the snapshot and restore by hand, or move the target to ext4, XFS, Btrfs or tmpfs"
                    .to_owned(),
            ),
            e => self.problem(e),
        })
    }

    fn problem(&self, e: Errno) -> Error {
        match e {
            Errno::NOSPC | Errno::DQUOT => Error::Internal(format!(
                "the disk is too full to prepare the rollback ({e}); make room for a second copy of what is restored, nothing was changed"
            )),
            e => Error::Internal(format!(
                "the rollback cannot be prepared in {}/.checkrein: {e}; nothing was changed",
                self.root.path.display()
            )),
        }
    }

    fn spot(&self, number: u64) -> Result<Spot, Error> {
        let dir = self.dir.try_clone().map_err(|e| Error::Internal(e.to_string()))?;
        Ok(Spot { dir, name: new_name(number).into_bytes() })
    }

    /// Writes down and prepares what `items` ask for.
    pub(super) fn prepare(
        &mut self,
        items: &[Item],
        snapshot: &Snapshot,
        options: &UndoOptions,
        stop: &Stop,
    ) -> Result<(), Error> {
        let force = options.on_conflict == OnConflict::Force;
        let todo = steps(items, force);
        self.touch(&todo)?;
        options.progress.total.store(todo.len() as u64, Ordering::Relaxed);
        let mut files = Files::default();
        for (number, (item, what)) in (0_u64..).zip(&todo) {
            stop.check()?;
            point();
            if let (What::Place, Some(object)) = (what, &item.before) {
                self.place(number, item, object, &mut files)?;
            }
        }
        self.fill(files, &todo, snapshot, stop)?;
        self.link(items, &todo)?;
        for (number, (item, what)) in (0_u64..).zip(&todo) {
            let staged = || {
                let found = witness(&self.dir, new_name(number).as_bytes()).map_err(|e| self.problem(e))?;
                found.ok_or_else(|| Error::Internal(format!("{} was not prepared", item.path.show())))
            };
            let act = match (what, &item.before) {
                (What::Remove, _) => Act::Remove,
                (What::Place, _) if item.now.is_none() => Act::Put(staged()?),
                (What::Place, _) => Act::Swap(staged()?),
                (What::Meta(old), Some(before)) => {
                    let mut new = before.meta.clone();
                    let ours = !before.is_folder() || item.time_is_ours(force);
                    if let (false, Some(now)) = (ours, &item.now) {
                        new.mtime = now.meta.mtime;
                    }
                    let old = (*old).then(|| item.now.as_ref().map(|now| now.meta.clone())).flatten();
                    Act::Meta { old, new }
                }
                (What::Meta(_), None) => continue,
            };
            // What was just put in place is compared with what was staged, not with what was seen.
            let old = if matches!(act, Act::Meta { old: None, .. }) { None } else { item.witness };
            self.journal.ops.push(Op { path: item.path.clone(), number, act, old });
            options.progress.done.fetch_add(1, Ordering::Relaxed);
        }
        self.journal.write(&self.dir)?;
        point();
        self.sync()
    }

    /// Remembers the folders in which names will change.
    fn touch(&mut self, todo: &[(&Item, What)]) -> Result<(), Error> {
        let moved = todo.iter().filter(|(_, what)| !matches!(what, What::Meta(_)));
        let mut folders: BTreeSet<RelPath> =
            moved.clone().filter_map(|(item, _)| item.path.parent()).collect();
        // A folder that is itself moved must be writable too, for its entry `..`.
        let is_folder = |item: &Item| item.now.as_ref().is_some_and(Object::is_folder);
        folders.extend(moved.filter(|(item, _)| is_folder(item)).map(|(item, _)| item.path.clone()));
        folders.insert(RelPath::default());
        for path in folders {
            let found = match self.root.spot(&path).and_then(|spot| spot.stat()) {
                Ok(found) if found.stx_mode & 0o170_000 == 0o040_000 => found,
                // It is yet to be made.
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(e) => return Err(problem("used", &path, e)),
            };
            let mut mtime = (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec);
            if let (true, Some(own)) = (path.is_root(), &self.own) {
                mtime = own.root_time(mtime);
            }
            self.journal.touched.push(Touched { path, mode: found.stx_mode & 0o7777, mtime });
        }
        Ok(())
    }

    fn place(&self, number: u64, item: &Item, object: &Object, files: &mut Files) -> Result<(), Error> {
        let name = new_name(number);
        match &object.body {
            Body::Folder => mkdirat(&self.dir, name, Mode::RWXU).map_err(|e| self.problem(e))?,
            Body::Link(to) => symlinkat(to.as_slice(), &self.dir, name).map_err(|e| self.problem(e))?,
            Body::File { content, shared, .. } => {
                // Of several names of one file, the first that is placed has the content.
                match shared.as_ref().map(|first| files.first.contains_key(first)) {
                    Some(true) => return Ok(()),
                    Some(false) => drop(files.first.extend(shared.clone().map(|first| (first, number)))),
                    None => {}
                }
                let stored = content.stored.ok_or_else(|| {
                    Error::Snapshot(format!("the snapshot lacks the content of {}", item.path.show()))
                })?;
                files.wanted.entry(stored).or_default().push(number);
                return Ok(());
            }
            Body::Special(_) => return Err(Error::Irreversible(item.path.show())),
        }
        let spot = self.spot(number)?;
        meta::set(&spot, &item.path, None, &object.meta)?;
        if object.is_folder() && !is_root() {
            meta::mode(&spot, object.meta.mode | 0o700).map_err(|e| self.problem(e))?;
        }
        Ok(())
    }

    /// Writes the contents.
    fn fill(
        &self,
        files: Files,
        todo: &[(&Item, What)],
        snapshot: &Snapshot,
        stop: &Stop,
    ) -> Result<(), Error> {
        let mut wanted = files.wanted;
        let get = |number: u64| {
            let item = usize::try_from(number).ok().and_then(|n| todo.get(n)).map(|(item, _)| *item);
            let object = item.and_then(|item| item.before.as_ref());
            let (Some(item), Some((object, content))) = (item, object.and_then(|o| Some((o, o.content()?))))
            else {
                return Err(Error::Internal("a step without a file".to_owned()));
            };
            Ok((item, object, content))
        };
        let few = wanted.values().map(Vec::len).sum::<usize>() <= FEW;
        let finish = |writing: Writing<'_>, others: &[u64]| {
            let first = writing.number;
            let (item, object, _) = get(first)?;
            let file = writing.finish(item, stop).map_err(|e| self.own(e))?;
            meta::set(&self.spot(first)?, &item.path, None, &object.meta)?;
            if few {
                fsync(&file).map_err(|e| self.problem(e))?;
            }
            for number in others {
                let (item, object, content) = get(*number)?;
                let copy = self.create(*number)?;
                let mut writing = Writing::new(*number, copy, content);
                let mut buffer = vec![0_u8; CHUNK];
                for (at, len) in &content.data {
                    let (mut at, end) = (*at, at + len);
                    while at < end {
                        stop.check()?;
                        let want = buffer.len().min(usize::try_from(end - at).unwrap_or(CHUNK));
                        let Some(part) = buffer.get_mut(..want) else { break };
                        file.read_exact_at(part, at).map_err(|e| self.problem(errno(&e)))?;
                        writing.chunk(at, part, stop).map_err(|e| self.own(e))?;
                        at += want as u64;
                    }
                }
                let copy = writing.finish(item, stop).map_err(|e| self.own(e))?;
                meta::set(&self.spot(*number)?, &item.path, None, &object.meta)?;
                if few {
                    fsync(&copy).map_err(|e| self.problem(e))?;
                }
            }
            Ok::<(), Error>(())
        };
        let mut open: Option<(u64, Writing<'_>, Vec<u64>)> = None;
        contents(snapshot, stop, |stored, at, bytes| {
            if open.as_ref().is_none_or(|(now, ..)| *now != stored) {
                if let Some((_, writing, others)) = open.take() {
                    finish(writing, &others)?;
                }
                if let Some(mut numbers) = wanted.remove(&stored) {
                    let first = numbers.swap_remove(0);
                    let (_, _, content) = get(first)?;
                    open = Some((stored, Writing::new(first, self.create(first)?, content), numbers));
                }
            }
            match &mut open {
                Some((now, writing, _)) if *now == stored => {
                    writing.chunk(at, bytes, stop).map_err(|e| self.own(e))
                }
                _ => Ok(()),
            }
        })?;
        if let Some((_, writing, others)) = open.take() {
            finish(writing, &others)?;
        }
        // Empty files, and such as are one hole.
        for number in wanted.into_values().flatten() {
            let (_, _, content) = get(number)?;
            finish(Writing::new(number, self.create(number)?, content), &[])?;
        }
        Ok(())
    }

    fn create(&self, number: u64) -> Result<File, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        openat(&self.dir, new_name(number), flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|e| self.problem(e))
    }

    /// Gives the files of several names their other names: from one that stands as it should, or from the
    /// one that was written.
    fn link(&self, items: &[Item], todo: &[(&Item, What)]) -> Result<(), Error> {
        let shared = |item: &Item| match &item.before {
            Some(Object { body: Body::File { shared, .. }, .. }) => shared.clone(),
            _ => None,
        };
        let mut stands = BTreeMap::new();
        for item in items.iter().filter(|item| item.step == Step::Keep) {
            let same = item.before.as_ref().map(Look) == item.now.as_ref().map(Look);
            if let (true, Some(first)) = (same, shared(item)) {
                stands.entry(first).or_insert(item);
            }
        }
        let mut written = HashMap::new();
        for (number, (item, what)) in (0_u64..).zip(todo) {
            let (What::Place, Some(first)) = (what, shared(item)) else { continue };
            let name = new_name(number);
            if let Some(keeper) = stands.get(&first) {
                let from = self.root.spot(&keeper.path).map_err(|e| problem("linked", &keeper.path, e))?;
                if !meta::unchanged(&from, keeper.witness).map_err(|e| problem("linked", &keeper.path, e))? {
                    // The first link changes the time of the last change, which is why only that may differ.
                    let now =
                        witness(&from.dir, &from.name).map_err(|e| problem("linked", &keeper.path, e))?;
                    if !now.zip(keeper.witness).is_some_and(|(now, seen)| now.same_content(&seen)) {
                        return Err(meta::changed(&keeper.path));
                    }
                }
                // The content was written for nothing when the first to be placed is not the first of all.
                let _unneeded = rustix::fs::unlinkat(&self.dir, name.as_str(), AtFlags::empty());
                linkat(&from.dir, from.name.as_slice(), &self.dir, name, AtFlags::empty())
                    .map_err(|e| self.problem(e))?;
            } else if let Some(leader) = written.get(&first) {
                linkat(&self.dir, new_name(*leader), &self.dir, name, AtFlags::empty())
                    .map_err(|e| self.problem(e))?;
            } else {
                written.insert(first, number);
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        let staged =
            self.journal.ops.iter().filter(|op| matches!(op.act, Act::Put(_) | Act::Swap(_))).count();
        let own = self.own.as_ref().map(|own| &own.dir);
        if staged > FEW {
            return syncfs(&self.dir).map_err(|e| self.problem(e));
        }
        for dir in [Some(&self.dir), own, Some(&self.root.dir)].into_iter().flatten() {
            fsync(dir).map_err(|e| self.problem(e))?;
        }
        Ok(())
    }

    fn own(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::System(e) => self.problem(e),
            Trouble::Ours(e) => e,
        }
    }
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a step does.
#[derive(Clone, Copy)]
enum What {
    Remove,
    /// Puts or swaps.
    Place,
    /// Sets metadata; whether there is any to go back to.
    Meta(bool),
}

/// The steps in order: removing from the bottom, placing from the top, metadata last.
fn steps(items: &[Item], force: bool) -> Vec<(&Item, What)> {
    let removed = items.iter().rev().filter(|item| item.step == Step::Delete);
    let mut todo: Vec<_> = removed.map(|item| (item, What::Remove)).collect();
    let in_place = |item: &Item| match (&item.before, &item.now) {
        (Some(before), Some(now)) => match (&before.body, &now.body) {
            (Body::Folder, Body::Folder) => true,
            (Body::File { content, shared, .. }, Body::File { content: other, shared: others, .. }) => {
                content.same(other) && shared == others
            }
            _ => false,
        },
        _ => false,
    };
    let restored = || items.iter().filter(|item| matches!(item.step, Step::Insert | Step::Update));
    todo.extend(restored().filter(|item| !in_place(item)).map(|item| (item, What::Place)));
    todo.extend(restored().filter(|item| in_place(item)).map(|item| (item, What::Meta(true))));
    if todo.is_empty() {
        return todo;
    }
    todo.extend(
        restored()
            .filter(|item| !in_place(item) && item.before.as_ref().is_some_and(Object::is_folder))
            .map(|item| (item, What::Meta(false))),
    );
    // Folders that stay, in which names change now or were changed by the action.
    let touched: BTreeSet<RelPath> = todo.iter().filter_map(|(item, _)| item.path.parent()).collect();
    let times = items.iter().filter(|item| {
        let both = item.before.as_ref().zip(item.now.as_ref());
        item.step == Step::Keep
            && item.time_is_ours(force)
            && both.is_some_and(|(before, now)| {
                before.is_folder()
                    && now.is_folder()
                    && Look(before) == Look(now)
                    && (touched.contains(&item.path) || before.meta.mtime != now.meta.mtime)
            })
    });
    todo.extend(times.map(|item| (item, What::Meta(true))));
    todo
}

/// Whether anything would be done at all.
pub(super) fn is_nothing(items: &[Item]) -> bool {
    steps(items, false).is_empty()
}

/// Files to be written: which steps want which content, and which step writes for several names.
#[derive(Default)]
struct Files {
    wanted: HashMap<u64, Vec<u64>>,
    first: HashMap<RelPath, u64>,
}

enum Trouble {
    System(Errno),
    Ours(Error),
}

impl From<Error> for Trouble {
    fn from(e: Error) -> Self {
        Self::Ours(e)
    }
}

fn errno(e: &std::io::Error) -> Errno {
    Errno::from_io_error(e).unwrap_or(Errno::IO)
}

/// A file that is being written from pieces that come in order: with data and holes where the record has
/// them, whatever the file looked like that the pieces are from.
struct Writing<'a> {
    number: u64,
    file: File,
    content: &'a Content,
    hasher: blake3::Hasher,
    at: u64,
}

impl<'a> Writing<'a> {
    fn new(number: u64, file: File, content: &'a Content) -> Self {
        Self { number, file, content, hasher: blake3::Hasher::new(), at: 0 }
    }

    fn chunk(&mut self, at: u64, bytes: &[u8], stop: &Stop) -> Result<(), Trouble> {
        self.zeros(at, stop)?;
        self.hasher.update(bytes);
        let end = at + bytes.len() as u64;
        for (from, to) in within(self.content, at, end) {
            let part = usize::try_from(from - at).ok().zip(usize::try_from(to - at).ok());
            if let Some(part) = part.and_then(|(from, to)| bytes.get(from..to)) {
                self.file.write_all_at(part, from).map_err(|e| Trouble::System(errno(&e)))?;
            }
        }
        self.at = end;
        Ok(())
    }

    /// Up to `to` there are zeros: a hole, or data that is not in the snapshot because it is a hole elsewhere.
    fn zeros(&mut self, to: u64, stop: &Stop) -> Result<(), Trouble> {
        const ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        let Some(len) = to.checked_sub(self.at) else {
            return Err(Error::Snapshot("the pieces of a file are out of order".to_owned()).into());
        };
        zeros(&mut self.hasher, len, stop)?;
        for (from, to) in within(self.content, self.at, to) {
            let mut at = from;
            while at < to {
                let len = usize::try_from(to - at).unwrap_or(ZEROS.len()).min(ZEROS.len());
                let part = ZEROS.get(..len).unwrap_or_default();
                self.file.write_all_at(part, at).map_err(|e| Trouble::System(errno(&e)))?;
                at += len as u64;
            }
        }
        self.at = to;
        Ok(())
    }

    fn finish(mut self, item: &Item, stop: &Stop) -> Result<File, Trouble> {
        self.zeros(self.content.size.max(self.at), stop)?;
        if self.at != self.content.size || *self.hasher.finalize().as_bytes() != self.content.hash {
            return Err(Error::Snapshot(format!(
                "the content of {} in the snapshot is not what its hash says; nothing was changed",
                item.path.show()
            ))
            .into());
        }
        self.file.set_len(self.content.size).map_err(|e| Trouble::System(errno(&e)))?;
        Ok(self.file)
    }
}

/// The parts of `from..to` that are data.
fn within(content: &Content, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
    let parts = content.data.iter().map(move |(at, len)| (from.max(*at), to.min(at + len)));
    parts.filter(|(from, to)| from < to)
}
