//! Takes the steps of a prepared rollback, or goes back; settles what a crash has interrupted.

use super::{
    capture::Shared,
    crash::point,
    images::Images,
    journal::{Act, COMMITTED, COMMITTING, Journal, Op, Own, is_busy, is_marked, mark},
    look::{Unkept, Witness, look, witness},
    meta,
    object::{Look, Record},
    path::RelPath,
    root::{Root, Spot, names, problem},
    stage::{Staging, is_root, new_name, old_name},
    work::Stop,
};
use crate::{CommitError, Error, Settled, snapshot::Snapshot};
use rustix::{
    fd::OwnedFd,
    fs::{RenameFlags, renameat_with, syncfs},
    io::Errno,
};
use std::collections::BTreeMap;

/// Takes all steps, or none.
pub(super) fn commit(staging: Staging) -> Result<(), CommitError> {
    let work = Work { root: &staging.root, dir: &staging.dir, journal: &staging.journal };
    let done =
        mark(work.dir, COMMITTING).and_then(|()| work.perform()).and_then(|()| mark(work.dir, COMMITTED));
    let Err(error) = done else {
        return Ok(());
    };
    match work.revert() {
        Ok(()) => Err(CommitError::NotCommitted(error.to_string())),
        Err(reverting) => {
            staging.abandon();
            Err(CommitError::Unknown(format!("{error}; going back failed too: {reverting}")))
        }
    }
}

/// One rollback, prepared, under way or interrupted.
struct Work<'a> {
    root: &'a Root,
    dir: &'a OwnedFd,
    journal: &'a Journal,
}

impl Work<'_> {
    fn spot(&self, path: &RelPath) -> Result<Spot, Error> {
        self.root.spot(path).map_err(|e| problem("restored", path, e))
    }

    fn staged(&self, name: &str) -> Result<Option<Witness>, Error> {
        witness(self.dir, name.as_bytes()).map_err(|e| Error::Internal(format!(".checkrein: {e}")))
    }

    fn perform(&self) -> Result<(), Error> {
        point();
        for op in self.journal.ops.iter().filter(|op| !matches!(op.act, Act::Meta { old: None, .. })) {
            // A part of the way may be missing until the steps before have been taken.
            let same = match self.root.spot(&op.path) {
                Ok(spot) => meta::unchanged(&spot, op.old),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(op.old.is_none()),
                Err(e) => Err(e),
            };
            if !same.map_err(|e| problem("looked at", &op.path, e))? {
                return Err(meta::changed(&op.path));
            }
        }
        for touched in self.journal.touched.iter().filter(|t| !is_root() && t.mode & 0o300 != 0o300) {
            meta::mode(&self.spot(&touched.path)?, touched.mode | 0o700)
                .map_err(|e| problem("made writable", &touched.path, e))?;
            point();
        }
        for op in &self.journal.ops {
            self.step(op)?;
            point();
        }
        for touched in self.journal.touched.iter().filter(|t| !is_root() && t.mode & 0o300 != 0o300) {
            let set = |op: &&Op| op.path == touched.path;
            if !self.journal.ops.iter().any(|op| set(&op)) {
                meta::mode(&self.spot(&touched.path)?, touched.mode)
                    .map_err(|e| problem("given back its permissions", &touched.path, e))?;
            }
        }
        self.verify()?;
        point();
        syncfs(&self.root.dir).map_err(|e| problem("synced", &RelPath::default(), e))?;
        point();
        Ok(())
    }

    fn step(&self, op: &Op) -> Result<(), Error> {
        let spot = self.spot(&op.path)?;
        let (new, old) = (new_name(op.number), old_name(op.number));
        let fail = |e| match e {
            Errno::NOENT | Errno::EXIST => meta::changed(&op.path),
            e => problem("restored", &op.path, e),
        };
        let taken = match &op.act {
            Act::Remove => {
                renameat_with(&spot.dir, spot.name.as_slice(), self.dir, &old, RenameFlags::NOREPLACE)
                    .map_err(fail)?;
                old
            }
            Act::Put(_) => {
                return renameat_with(
                    self.dir,
                    &new,
                    &spot.dir,
                    spot.name.as_slice(),
                    RenameFlags::NOREPLACE,
                )
                .map_err(fail);
            }
            Act::Swap(_) => {
                renameat_with(self.dir, &new, &spot.dir, spot.name.as_slice(), RenameFlags::EXCHANGE)
                    .map_err(fail)?;
                new
            }
            Act::Meta { new, .. } => return meta::set(&spot, &op.path, op.old.map(|w| w.ino), new),
        };
        // What was really taken away, in the same instant, must be what was seen, and hold nothing new.
        let now = self.staged(&taken)?;
        if !now.zip(op.old).is_some_and(|(now, seen)| now.same_content(&seen)) {
            return Err(meta::changed(&op.path));
        }
        if now.is_some_and(|now| now.is_folder()) && !self.is_empty(&taken)? {
            return Err(meta::changed(&op.path));
        }
        Ok(())
    }

    fn is_empty(&self, name: &str) -> Result<bool, Error> {
        use rustix::fs::{Mode, OFlags, openat};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(self.dir, name, flags, Mode::empty())
            .map_err(|e| Error::Internal(format!("a folder that was taken away cannot be listed: {e}")))?;
        Ok(names(&dir, &RelPath::default())?.is_empty())
    }

    /// Looks at everything once more, as it stands now.
    fn verify(&self) -> Result<(), Error> {
        for op in &self.journal.ops {
            let spot = self.spot(&op.path);
            match &op.act {
                Act::Remove => {
                    // Something else may stand there by now, or its folder may be gone with it.
                }
                Act::Put(staged) | Act::Swap(staged) => {
                    let spot = spot?;
                    let now = witness(&spot.dir, &spot.name).map_err(|e| problem("verified", &op.path, e))?;
                    if !now.is_some_and(|now| now.same_content(staged)) {
                        return Err(meta::changed(&op.path));
                    }
                }
                Act::Meta { new, .. } => {
                    let spot = spot?;
                    let ino = match op.old {
                        Some(seen) => seen.ino,
                        None => spot.stat().map_err(|e| problem("verified", &op.path, e))?.stx_ino,
                    };
                    meta::verify(&spot, &op.path, ino, new)?;
                }
            }
        }
        Ok(())
    }

    /// Undoes every step that was taken, the last first. What somebody else put in place meanwhile is not
    /// overwritten: then both are kept, and this fails.
    fn revert(&self) -> Result<(), Error> {
        for touched in self.journal.touched.iter().filter(|t| !is_root() && t.mode & 0o300 != 0o300) {
            if let Ok(spot) = self.root.spot(&touched.path) {
                let _best_effort = meta::mode(&spot, touched.mode | 0o700);
            }
        }
        for op in self.journal.ops.iter().rev() {
            point();
            self.back(op)?;
        }
        for touched in &self.journal.touched {
            let spot = self.spot(&touched.path)?;
            if !is_root() {
                meta::mode(&spot, touched.mode)
                    .map_err(|e| problem("given back its permissions", &touched.path, e))?;
            }
            meta::time(&spot, touched.mtime).map_err(|e| problem("given back its time", &touched.path, e))?;
        }
        syncfs(&self.root.dir).map_err(|e| problem("synced", &RelPath::default(), e))
    }

    fn back(&self, op: &Op) -> Result<(), Error> {
        let (new, old) = (new_name(op.number), old_name(op.number));
        let kept = |e: Errno| {
            Error::Irreversible(format!(
                "{} was changed by somebody else while a rollback was half done ({e}); what stood there before and what was to be put there are both in the folder .checkrein of the target, see the numbers in its journal",
                op.path.show()
            ))
        };
        let spot = match (&op.act, self.root.spot(&op.path)) {
            (_, Ok(spot)) => spot,
            (Act::Remove | Act::Put(_) | Act::Swap(_), Err(e)) if self.moved(op)? => return Err(kept(e)),
            _ => return Ok(()),
        };
        let there = witness(&spot.dir, &spot.name).map_err(|e| problem("looked at", &op.path, e))?;
        match &op.act {
            Act::Meta { old: Some(meta), .. } => {
                if there.map(|w| w.ino) == op.old.map(|w| w.ino) {
                    meta::set(&spot, &op.path, op.old.map(|w| w.ino), meta)?;
                }
            }
            Act::Meta { old: None, .. } => {}
            Act::Remove if self.moved(op)? => {
                renameat_with(self.dir, &old, &spot.dir, spot.name.as_slice(), RenameFlags::NOREPLACE)
                    .map_err(kept)?;
            }
            Act::Put(staged) if self.moved(op)? => {
                // Gone or replaced: then what stands there is not ours to take away.
                if there.is_some_and(|now| now.ino == staged.ino) {
                    if !there.is_some_and(|now| now.same_content(staged)) {
                        return Err(kept(Errno::BUSY));
                    }
                    renameat_with(&spot.dir, spot.name.as_slice(), self.dir, &new, RenameFlags::NOREPLACE)
                        .map_err(kept)?;
                    if staged.is_folder() && !self.is_empty(&new)? {
                        renameat_with(
                            self.dir,
                            &new,
                            &spot.dir,
                            spot.name.as_slice(),
                            RenameFlags::NOREPLACE,
                        )
                        .map_err(kept)?;
                        return Err(kept(Errno::NOTEMPTY));
                    }
                }
            }
            Act::Swap(staged) if self.moved(op)? => {
                if !there.is_some_and(|now| now.same_content(staged)) {
                    return Err(kept(Errno::BUSY));
                }
                renameat_with(self.dir, &new, &spot.dir, spot.name.as_slice(), RenameFlags::EXCHANGE)
                    .map_err(kept)?;
            }
            Act::Remove | Act::Put(_) | Act::Swap(_) => {}
        }
        Ok(())
    }

    /// Whether a step that moves something was taken.
    fn moved(&self, op: &Op) -> Result<bool, Error> {
        Ok(match &op.act {
            Act::Remove => self.staged(&old_name(op.number))?.is_some(),
            Act::Put(_) => self.staged(&new_name(op.number))?.is_none(),
            Act::Swap(staged) => self.staged(&new_name(op.number))?.is_none_or(|now| now.ino != staged.ino),
            Act::Meta { .. } => false,
        })
    }
}

/// Goes back from, or clears away, whatever processes that are gone have left.
pub(super) fn settle_all(root: &Root, own: &Own) -> Result<(), Error> {
    for name in names(&own.dir, &RelPath::default())? {
        let name = String::from_utf8(name).map_err(|_| {
            Error::Forbidden("the folder .checkrein holds what Checkrein did not make".to_owned())
        })?;
        if let Some(dir) = own.folder(&name)? {
            settle(root, own, &dir, &name)?;
        }
    }
    Ok(())
}

/// None: it had ended, and only the tree can tell how.
fn settle(root: &Root, own: &Own, dir: &OwnedFd, name: &str) -> Result<Option<Settled>, Error> {
    let settled = if is_marked(dir, COMMITTED)? {
        Some(Settled::Committed)
    } else if is_marked(dir, COMMITTING)? {
        Work { root, dir, journal: &Journal::read(dir)? }.revert()?;
        Some(Settled::NotCommitted)
    } else if names(dir, &RelPath::default())?.is_empty() {
        None
    } else {
        Some(Settled::NotCommitted)
    };
    own.clear(dir, name)?;
    Ok(settled)
}

/// What became of the rollback `name`; `snapshot` is what it captured.
pub(super) fn resolve(root: &Root, name: &str, snapshot: &Snapshot, stop: &Stop) -> Result<Settled, Error> {
    let own = match Own::open(root, false) {
        Err(error) if is_busy(&error) => return Ok(Settled::Running),
        other => other?,
    };
    let mut settled = None;
    if let Some(own) = own {
        if let Some(dir) = own.folder(name)? {
            settled = match settle(root, &own, &dir, name) {
                Ok(settled) => settled,
                Err(error) => return Ok(Settled::Unknown(error.to_string())),
            };
        }
        own.close(root);
    }
    settled.map_or_else(|| compare(root, snapshot, stop), Ok)
}

/// Nothing is left of it but the tree: does it look as it did before, or as the rollback leaves it?
fn compare(root: &Root, snapshot: &Snapshot, stop: &Stop) -> Result<Settled, Error> {
    let images = Images::read(snapshot, stop)?;
    let mut shared = Shared::default();
    let mut records = Vec::new();
    for path in images.before.keys() {
        records.extend(shared.hold(path.clone(), false, look(root, path, stop, &mut Unkept)?));
    }
    records.extend(shared.release());
    let (mut as_before, mut as_after) = (0_u64, 0_u64);
    for Record { path, object: now, .. } in &records {
        let at = |images: &BTreeMap<RelPath, Record>| images.get(path).and_then(|r| r.object.clone());
        let [before, after] = [at(&images.before), images.after.as_ref().and_then(at)];
        let [before, after, now] = [&before, &after, now].map(|object| object.as_ref().map(Look));
        if before != after {
            as_before += u64::from(now == before);
            as_after += u64::from(now == after);
        }
    }
    Ok(match (as_before, as_after) {
        (0, 0) => Settled::Unknown(
            "every file was changed again since; whether the rollback took place cannot be told".to_owned(),
        ),
        (_, 0) => Settled::NotCommitted,
        (0, _) => Settled::Committed,
        _ => Settled::Unknown(
            "some files are as they were before the rollback and some as it leaves them".to_owned(),
        ),
    })
}
