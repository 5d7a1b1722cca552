//! Gives an object its metadata.

use super::{
    look::{spot_xattrs, witness},
    object::Meta,
    path::RelPath,
    root::{Spot, problem, stat},
};
use crate::Error;
use rustix::{
    fd::{AsFd as _, AsRawFd as _, OwnedFd},
    fs::{
        AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat,
        openat, removexattr, setxattr, utimensat,
    },
    io::Errno,
};

/// Opens what stands at `spot` to change its metadata, and nothing that it leads to.
fn handle(spot: &Spot) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&spot.dir, spot.name.as_slice(), flags, Mode::empty())
}

fn proc(handle: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd())
}

/// Sets everything, the time last. `ino`: fails if another object stands there.
pub(super) fn set(spot: &Spot, path: &RelPath, ino: Option<u64>, meta: &Meta) -> Result<(), Error> {
    let fail = |e| problem("given back its metadata", path, e);
    let open = handle(spot).map_err(fail)?;
    let found = stat(&open, b"").map_err(fail)?;
    if ino.is_some_and(|ino| ino != found.stx_ino) {
        return Err(changed(path));
    }
    let is_link = found.stx_mode & 0o170_000 == 0o120_000;
    if (found.stx_uid, found.stx_gid) != (meta.uid, meta.gid) {
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        chownat(&open, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH).map_err(|e| match e {
            Errno::PERM => Error::Forbidden(format!(
                "{} belongs to user {} and group {}, which only root can give back; run Checkrein as root, or leave the file out",
                path.show(),
                meta.uid,
                meta.gid
            )),
            e => fail(e),
        })?;
    }
    attributes(spot, path, &open, meta)?;
    if !is_link {
        chmodat(CWD, proc(&open), Mode::from_raw_mode(u32::from(meta.mode)), AtFlags::empty())
            .map_err(fail)?;
    }
    set_time(&open, meta.mtime).map_err(fail)
}

fn attributes(spot: &Spot, path: &RelPath, open: &OwnedFd, meta: &Meta) -> Result<(), Error> {
    let fail =
        |name: &[u8], e| problem(&format!("given back its attribute {}", super::path::show(name)), path, e);
    let now = spot_xattrs(spot).map_err(|e| fail(b"", e))?;
    if now == meta.xattrs {
        return Ok(());
    }
    let at = proc(open);
    for (name, _) in now.iter().filter(|(name, _)| !meta.xattrs.iter().any(|(n, _)| n == name)) {
        removexattr(&at, name.as_slice()).map_err(|e| fail(name, e))?;
    }
    for (name, value) in meta.xattrs.iter().filter(|pair| !now.contains(pair)) {
        setxattr(&at, name.as_slice(), value, XattrFlags::empty()).map_err(|e| fail(name, e))?;
    }
    Ok(())
}

fn set_time(open: &OwnedFd, (tv_sec, nanos): (i64, u32)) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec, tv_nsec: nanos.into() },
    };
    utimensat(open, "", &times, AtFlags::EMPTY_PATH)
}

/// Sets the time alone.
pub(super) fn time(spot: &Spot, mtime: (i64, u32)) -> Result<(), Errno> {
    set_time(&handle(spot)?, mtime)
}

/// Sets the permissions alone, of a folder.
pub(super) fn mode(spot: &Spot, mode: u16) -> Result<(), Errno> {
    chmodat(CWD, proc(&handle(spot)?), Mode::from_raw_mode(u32::from(mode)), AtFlags::empty())
}

/// Whether it has the metadata.
pub(super) fn verify(spot: &Spot, path: &RelPath, ino: u64, meta: &Meta) -> Result<(), Error> {
    let fail = |e| problem("verified", path, e);
    let found = spot.stat().map_err(fail)?;
    let is_link = found.stx_mode & 0o170_000 == 0o120_000;
    let fine = found.stx_ino == ino
        && (found.stx_uid, found.stx_gid) == (meta.uid, meta.gid)
        && (is_link || found.stx_mode & 0o7777 == meta.mode)
        && (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec) == meta.mtime
        && spot_xattrs(spot).map_err(fail)? == meta.xattrs;
    if fine { Ok(()) } else { Err(changed(path)) }
}

pub(super) fn changed(path: &RelPath) -> Error {
    Error::Irreversible(format!(
        "{} was changed by somebody else while it was being restored; nothing was changed, try again",
        path.show()
    ))
}

/// Whether what stands at `spot` is still what was seen.
pub(super) fn unchanged(spot: &Spot, seen: Option<super::look::Witness>) -> Result<bool, Errno> {
    let now = witness(&spot.dir, &spot.name)?;
    Ok(match (now, seen) {
        (None, None) => true,
        (Some(now), Some(seen)) => now.same(&seen),
        _ => false,
    })
}
