//! The configured folder, and the only ways into it: every part of a path is opened below it, and no
//! symbolic link is ever followed, so that a folder that is swapped for a link leads nowhere.

use super::path::{RelPath, show};
use crate::Error;
use rustix::{
    fd::{AsFd as _, AsRawFd as _, OwnedFd},
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat, openat2, statx},
    io::Errno,
};
use std::{
    ffi::OsStr,
    fs::File,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// The open root.
pub(super) struct Root {
    pub(super) dir: OwnedFd,
    pub(super) path: PathBuf,
    mount: (u32, u32, u64),
}

/// A name in an open folder: what all system calls are made with.
pub(super) struct Spot {
    pub(super) dir: OwnedFd,
    pub(super) name: Vec<u8>,
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let dir = openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| match e {
                Errno::NOENT | Errno::NOTDIR => Error::Unreachable(format!(
                    "{} is not a folder; create it, or correct `path`",
                    path.display()
                )),
                Errno::ACCESS | Errno::PERM => Error::Forbidden(format!(
                    "{} may not be opened by the user that Checkrein runs as ({e})",
                    path.display()
                )),
                e => Error::Unreachable(format!("{} cannot be opened: {e}", path.display())),
            })?;
        let found = stat(&dir, b"").map_err(|e| problem("looked at", &RelPath::default(), e))?;
        Ok(Self { mount: mount(&found), dir, path: path.to_owned() })
    }

    /// Opens a folder below the root for use with names in it. Errors: `ENOENT`, `ENOTDIR`, `ELOOP` where a
    /// part of the path is missing or not a folder, `EXDEV` where it is on another file system.
    pub(super) fn folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        if path.is_empty() {
            return openat(&self.dir, ".", FOLDER, Mode::empty());
        }
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_XDEV;
        match openat2(&self.dir, path, FOLDER, Mode::empty(), resolve) {
            // An old kernel, or a sandbox that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => self.folder_by_steps(path),
            other => other,
        }
    }

    /// The same, one part after the other.
    fn folder_by_steps(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut at = openat(&self.dir, ".", FOLDER, Mode::empty())?;
        for part in path.split(|b| *b == b'/') {
            if matches!(part, b"" | b"." | b"..") {
                return Err(Errno::XDEV);
            }
            at = openat(&at, part, FOLDER, Mode::empty())?;
            if mount(&stat(&at, b"")?) != self.mount {
                return Err(Errno::XDEV);
            }
        }
        Ok(at)
    }

    /// Where `path` is, or would be.
    pub(super) fn spot(&self, path: &RelPath) -> Result<Spot, Errno> {
        let (folder, name) = path.split();
        Ok(Spot { dir: self.folder(folder)?, name: name.to_vec() })
    }

    /// Whether it is on the root's file system; a mount point is not.
    pub(super) fn holds(&self, found: &Statx) -> bool {
        mount(found) == self.mount
    }
}

impl Spot {
    /// What is there, without following it.
    pub(super) fn stat(&self) -> Result<Statx, Errno> {
        stat(&self.dir, &self.name)
    }

    /// Opens what is there for reading; fails on a link, and does not wait for anybody.
    pub(super) fn read(&self) -> Result<File, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        // Reading is not to change the access time; only the owner may ask for that.
        match openat(&self.dir, self.name.as_slice(), flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => openat(&self.dir, self.name.as_slice(), flags, Mode::empty()),
            other => other,
        }
        .map(File::from)
    }

    /// A path for the system calls that have no form with a folder: it begins at the open folder, and the
    /// calls that are made with it do not follow the last part.
    pub(super) fn proc_path(&self) -> PathBuf {
        let mut path = PathBuf::from("/proc/self/fd");
        path.push(self.dir.as_fd().as_raw_fd().to_string());
        path.push(OsStr::from_bytes(&self.name));
        path
    }
}

/// `name` in `dir`; `dir` itself where it is empty.
pub(super) fn stat(dir: &OwnedFd, name: &[u8]) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
}

const fn mount(found: &Statx) -> (u32, u32, u64) {
    (found.stx_dev_major, found.stx_dev_minor, found.stx_mnt_id)
}

/// An error of the system about a path, with what to do where that is known.
pub(super) fn problem(what: &str, path: &RelPath, error: Errno) -> Error {
    let path = path.show();
    match error {
        Errno::ACCESS | Errno::PERM => Error::Forbidden(format!(
            "{path} may not be {what} ({error}); give the user that Checkrein runs as the right to, or run it as the files' owner"
        )),
        Errno::LOOP | Errno::NOTDIR => Error::Invalid(format!(
            "{path} cannot be {what}: a part of the path is a symbolic link or not a folder; name the real path"
        )),
        Errno::XDEV => Error::Unsupported(format!(
            "{path} is on another file system than the target's folder; make it a target of its own"
        )),
        Errno::NAMETOOLONG => Error::Unsupported(format!("{path} cannot be {what}: the path is too long")),
        Errno::NOSPC | Errno::DQUOT => {
            Error::Internal(format!("{path} cannot be {what}: the disk is full ({error})"))
        }
        error => Error::Internal(format!("{path} cannot be {what}: {error}")),
    }
}

/// The names in an open folder, in no order.
pub(super) fn names(dir: &OwnedFd, path: &RelPath) -> Result<Vec<Vec<u8>>, Error> {
    let fail = |e| problem("listed", path, e);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = match openat(dir, ".", flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(dir, ".", flags, Mode::empty()),
        other => other,
    }
    .map_err(fail)?;
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::new(open).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            found.push(name);
        }
    }
    Ok(found)
}

/// A name that the walk or a caller meets and that Checkrein cannot undo.
pub(super) fn special(path: &RelPath, mode: u16) -> Error {
    let kind = match mode & 0o170_000 {
        0o010_000 => "a named pipe",
        0o140_000 => "a socket",
        0o020_000 | 0o060_000 => "a device",
        _ => "of an unknown kind",
    };
    Error::Unsupported(format!(
        "{} is {kind}: its content cannot be captured; leave it out of the action",
        show(path.bytes())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_is_followed_with_or_without_openat2() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(outside.path().join("b")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        symlink(outside.path(), folder.path().join("link")).unwrap();
        symlink("a", folder.path().join("inner")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let root = Root::open(folder.path()).unwrap();
        for find in [Root::folder, Root::folder_by_steps] {
            assert!(find(&root, b"a/b").is_ok());
            assert_eq!(find(&root, b"gone").unwrap_err(), Errno::NOENT);
            for path in [&b"link"[..], b"link/b", b"inner", b"inner/b", b"file", b"file/x"] {
                let error = find(&root, path).unwrap_err();
                assert!(matches!(error, Errno::LOOP | Errno::NOTDIR), "{} {error}", show(path));
            }
            for path in [&b".."[..], b"a/../..", b"/"] {
                assert!(find(&root, path).is_err(), "{}", show(path));
            }
        }
    }
}
