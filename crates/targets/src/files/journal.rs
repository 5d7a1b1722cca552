//! What a rollback is about to do, written down before it begins, in a hidden folder of the root.
//!
//! `.checkrein/<token>/` holds: `n<number>` what is to be put in place (afterwards: what it took the place
//! of), `o<number>` what was moved out of the way, `journal` the steps, `committing` once it has begun, and
//! `committed` once all of it has taken place. Without `committing` it never began; with `committed` only
//! clearing away is left; between the two it is reverted. Nothing is deleted before `committed`, so that
//! every step can be undone.

use super::{
    crash::point,
    look::Witness,
    meta,
    object::Meta,
    path::{OWN, RelPath},
    root::{Root, names, problem, stat},
};
use crate::Error;
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fsync, mkdirat, openat, unlinkat},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{Read as _, Write as _},
};

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Op {
    pub(super) path: RelPath,
    pub(super) number: u64,
    pub(super) act: Act,
    /// What stands there before; none: nothing.
    pub(super) old: Option<Witness>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Act {
    /// Moves what stands there to `o<number>`.
    Remove,
    /// Moves `n<number>` there, where nothing stands.
    Put(Witness),
    /// Swaps `n<number>` with what stands there.
    Swap(Witness),
    /// Sets metadata in place; none where the object is a folder that was just put.
    Meta { old: Option<Meta>, new: Meta },
}

/// A folder in which names change.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Touched {
    pub(super) path: RelPath,
    pub(super) mode: u16,
    pub(super) mtime: (i64, u32),
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Journal {
    pub(super) ops: Vec<Op>,
    pub(super) touched: Vec<Touched>,
}

pub(super) const COMMITTING: &str = "committing";
pub(super) const COMMITTED: &str = "committed";
const JOURNAL: &str = "journal";

/// Checkrein's own folder in the root, locked: one rollback at a time.
pub(super) struct Own {
    pub(super) dir: OwnedFd,
    /// The root's time before the folder was made, and after.
    times: [(i64, u32); 2],
}

fn time(root: &Root) -> Result<(i64, u32), Error> {
    let found = stat(&root.dir, b"").map_err(|e| problem("looked at", &RelPath::default(), e))?;
    Ok((found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec))
}

fn own_problem(e: Errno) -> Error {
    match e {
        Errno::NOSPC | Errno::DQUOT => Error::Internal(format!(
            "the disk is too full to prepare the rollback ({e}); make room for a second copy of what is restored, nothing was changed"
        )),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Error::Forbidden(format!(
            "a rollback is prepared in the folder .checkrein of the target, which cannot be used ({e}); let the user that Checkrein runs as write there"
        )),
        e => Error::Internal(format!(
            "the rollback cannot be prepared in .checkrein: {e}; nothing was changed"
        )),
    }
}

impl Own {
    /// Opens and locks the folder. None: it does not exist, and `make` is false.
    pub(super) fn open(root: &Root, make: bool) -> Result<Option<Self>, Error> {
        for _ in 0..8 {
            let before = time(root)?;
            if make {
                match mkdirat(&root.dir, OWN, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(own_problem(e)),
                }
            }
            let times = [before, time(root)?];
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let dir = match openat(&root.dir, OWN, flags, Mode::empty()) {
                Ok(dir) => dir,
                Err(Errno::NOENT) if make => continue,
                Err(Errno::NOENT) => return Ok(None),
                Err(e) => return Err(own_problem(e)),
            };
            let found = stat(&dir, b"").map_err(own_problem)?;
            let ours = found.stx_uid == rustix::process::geteuid().as_raw() && found.stx_mode & 0o077 == 0;
            if !ours || !root.holds(&found) {
                return Err(Error::Forbidden(
                    "the folder .checkrein of the target is not Checkrein's own (owner, permissions, or another file system is mounted there); move it away"
                        .to_owned(),
                ));
            }
            match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(busy()),
                Err(e) => return Err(own_problem(e)),
            }
            // Whoever held the lock before may have removed the folder.
            if stat(&root.dir, OWN).is_ok_and(|now| now.stx_ino == found.stx_ino) {
                return Ok(Some(Self { dir, times }));
            }
        }
        Err(busy())
    }

    /// The root's time, which making the folder may have changed.
    pub(super) fn root_time(&self, now: (i64, u32)) -> (i64, u32) {
        let [before, made] = self.times;
        if now == made { before } else { now }
    }

    /// The folder of one rollback.
    pub(super) fn folder(&self, token: &str) -> Result<Option<OwnedFd>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.dir, token, flags, Mode::empty()) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(own_problem(e)),
        }
    }

    pub(super) fn make(&self, token: &str) -> Result<OwnedFd, Error> {
        mkdirat(&self.dir, token, Mode::RWXU).map_err(own_problem)?;
        self.folder(token)?.ok_or_else(|| own_problem(Errno::NOENT))
    }

    /// Removes the folder of a rollback with all that is in it, `committed` last.
    pub(super) fn clear(&self, dir: &OwnedFd, token: &str) -> Result<(), Error> {
        let mut all = names(dir, &RelPath::default())?;
        // Without the first it never began, so a half cleared folder is never taken for a half done rollback.
        all.sort_by_key(|name| match name.as_slice() {
            b"committing" => 0,
            b"committed" => 2,
            _ => 1,
        });
        let committed = all.last().is_some_and(|name| name == COMMITTED.as_bytes());
        for name in all {
            let gone = match unlinkat(dir, name.as_slice(), AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => unlinkat(dir, name.as_slice(), AtFlags::REMOVEDIR),
                other => other,
            };
            gone.map_err(own_problem)?;
            point();
            if name == COMMITTING.as_bytes() && !committed {
                fsync(dir).map_err(own_problem)?;
            }
        }
        unlinkat(&self.dir, token, AtFlags::REMOVEDIR).map_err(own_problem)
    }

    /// Removes Checkrein's folder if nothing is left in it, and gives the root its time back.
    pub(super) fn close(self, root: &Root) {
        let now = time(root);
        if unlinkat(&root.dir, OWN, AtFlags::REMOVEDIR).is_ok()
            && let (Ok(now), Ok(spot)) = (now, root.spot(&RelPath::default()))
        {
            // What is left wrong when this fails is the time of the root folder.
            let _time = meta::time(&spot, self.root_time(now));
        }
    }
}

fn busy() -> Error {
    Error::Statement {
        code: "busy".to_owned(),
        message: "another rollback of this target is under way; try again when it is done".to_owned(),
    }
}

pub(super) const fn is_busy(error: &Error) -> bool {
    matches!(error, Error::Statement { .. })
}

fn write(dir: &OwnedFd, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(own_problem)?;
    let mut file = File::from(file);
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|e| own_problem(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
    fsync(dir).map_err(own_problem)
}

impl Journal {
    /// Writes it down, durably.
    pub(super) fn write(&self, dir: &OwnedFd) -> Result<(), Error> {
        let bytes = serde_json::to_vec(self).map_err(|e| Error::Internal(e.to_string()))?;
        write(dir, JOURNAL, &bytes)
    }

    pub(super) fn read(dir: &OwnedFd) -> Result<Self, Error> {
        let wrong = |e: String| Error::Internal(format!("the journal of a rollback cannot be read: {e}"));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(dir, JOURNAL, flags, Mode::empty()).map_err(|e| wrong(e.to_string()))?;
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).map_err(|e| wrong(e.to_string()))?;
        let journal: Self = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        let paths = journal.ops.iter().map(|op| &op.path).chain(journal.touched.iter().map(|t| &t.path));
        paths.map(|path| RelPath::recorded(path.bytes())).collect::<Result<Vec<_>, _>>()?;
        Ok(journal)
    }
}

/// Marks how far it is, durably.
pub(super) fn mark(dir: &OwnedFd, what: &str) -> Result<(), Error> {
    write(dir, what, b"")
}

pub(super) fn is_marked(dir: &OwnedFd, what: &str) -> Result<bool, Error> {
    match stat(dir, what.as_bytes()) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(own_problem(e)),
    }
}
