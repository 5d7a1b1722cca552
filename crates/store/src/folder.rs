//! The data folder: its files, their rights, and the lock that keeps a second server out.

use crate::error::StoreError;
use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Paths within a data folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) db: PathBuf,
    pub(crate) wal: PathBuf,
    pub(crate) journals: [PathBuf; 2],
    pub(crate) drift: PathBuf,
    lock: PathBuf,
}

/// Held as long as the store is open.
pub(crate) struct Lock {
    file: File,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            db: path.join("checkrein.db"),
            wal: path.join("checkrein.db-wal"),
            journals: [path.join("checkrein.journal-1"), path.join("checkrein.journal-2")],
            drift: path.join("drift.db"),
            lock: path.join("checkrein.lock"),
        }
    }

    /// Creates the folder and an empty database file where there is none, and locks out other servers.
    pub(crate) fn claim(&self) -> Result<Lock, StoreError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |cause: io::Error| StoreError::Unusable { path, cause: cause.to_string() }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(unusable(&self.path))?;
        let mut file = private()
            .read(true)
            .create(true)
            .truncate(false)
            .open(&self.lock)
            .map_err(unusable(&self.lock))?;
        let mut said = String::new();
        // Unreadable content only costs the name of the process in a message.
        let _read = file.read_to_string(&mut said);
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { folder: self.path.clone(), pid: said.trim().parse().ok() });
            }
            Err(TryLockError::Error(e)) => return Err(unusable(&self.lock)(e)),
        }
        // The lock file has content from the first complete start on (`Lock::sign`). An empty database
        // after that is not a new store but a lost one, and must not silently begin a new log.
        let empty = std::fs::metadata(&self.db).map_or(true, |m| m.len() == 0);
        if empty && !said.is_empty() {
            return Err(StoreError::Lost { file: self.db.clone(), lock: self.lock.clone() });
        }
        private().create(true).truncate(false).open(&self.db).map_err(unusable(&self.db))?;
        self.sync_names()?;
        Ok(Lock { file })
    }

    /// The names of new files must survive a power cut, too.
    pub(crate) fn sync_names(&self) -> Result<(), StoreError> {
        File::open(&self.path)
            .and_then(|f| f.sync_all())
            .map_err(|e| StoreError::Unusable { path: self.path.clone(), cause: e.to_string() })
    }
}

impl Drop for Lock {
    /// Closing the file is not enough: a child process that is just being started still holds a copy of it.
    fn drop(&mut self) {
        let _released_by_closing_then = self.file.unlock();
    }
}

impl Lock {
    /// Writes this process into the lock file: for the message to a second server, and as the mark of a
    /// folder that holds a store.
    pub(crate) fn sign(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{}", std::process::id())?;
        self.file.sync_all()
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}
