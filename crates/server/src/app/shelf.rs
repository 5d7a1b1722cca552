//! The folder in which snapshots are kept: their files, and which of them belong there.

use super::{Connected, Error};
use checkrein_core::snapshot::Held;
use checkrein_targets::{
    Affected,
    snapshot::{Header, Snapshot, SnapshotKey, SnapshotWriter, Written},
};
use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// What every file of a snapshot ends with.
const SUFFIX: &str = ".snapshot";

/// `<data>/snapshots`. A snapshot's files are `<id>.1.snapshot` and, once it was sealed later,
/// `<id>.2.snapshot`.
pub(super) struct Shelf {
    folder: PathBuf,
    key: Option<SnapshotKey>,
}

impl Shelf {
    /// Makes the folder where there is none.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn open(data: &Path, key: Option<SnapshotKey>) -> Result<Self, Error> {
        let folder = data.join("snapshots");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|e| {
            Error::Invalid(format!(
                "the folder for snapshots {} cannot be made: {e}; check the rights on the data folder",
                folder.display()
            ))
        })?;
        Ok(Self { folder, key })
    }

    fn path(&self, id: &str, part: u32) -> PathBuf {
        self.folder.join(format!("{id}.{part}{SUFFIX}"))
    }

    /// Begins a file of the snapshot `id`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn begin(
        &self,
        id: &str,
        part: u32,
        of: &Connected,
    ) -> Result<SnapshotWriter, checkrein_targets::Error> {
        let header = Header {
            id: id.to_owned(),
            target: of.name.to_string(),
            kind: of.target.kind().as_str().to_owned(),
            system: serde_json::Value::Null,
        };
        let limits = (of.limits().snapshot_rows, of.limits().snapshot_bytes);
        SnapshotWriter::create(&self.path(id, part), &header, self.key.as_ref(), limits)
    }

    /// Makes a file durable.
    ///
    /// # Errors
    /// When the disk does not allow it; nothing is left then.
    pub(super) async fn finish(
        &self,
        id: &str,
        part: u32,
        writer: SnapshotWriter,
    ) -> Result<Written, checkrein_targets::Error> {
        writer.finish(&self.path(id, part)).await
    }

    /// Opens all files of a snapshot, and reads them once to find damage.
    ///
    /// # Errors
    /// When one is missing or damaged, or another snapshot's under this one's name, or the key is another one.
    pub(super) async fn load(&self, id: &str, parts: u32) -> Result<Snapshot, checkrein_targets::Error> {
        let files: Vec<_> = (1..=parts).map(|part| self.path(id, part)).collect();
        let snapshot = Snapshot::open(&files, self.key.clone()).await?;
        // The log knows what is in a snapshot by its id alone: a file with another name proves nothing.
        let found = &snapshot.header()?.id;
        if found != id {
            return Err(checkrein_targets::Error::Snapshot(format!(
                "the file of the snapshot {id} holds the snapshot {found}; restore the right file from a backup of the data folder"
            )));
        }
        Ok(snapshot)
    }

    /// Removes the files of a snapshot from part `from` on. What cannot be removed now goes at the next start.
    pub(super) fn remove(&self, id: &str, from: u32) {
        for part in from..=2 {
            let path = self.path(id, part);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %path.display(), "a snapshot's file could not be removed");
            }
        }
    }

    /// Removes every file that belongs to no snapshot on record: of one that was never recorded, or that is
    /// gone. `live` tells how many files a snapshot has. Answers with those that should be there and are not.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(super) fn tidy(&self, live: &BTreeMap<String, u32>) -> std::io::Result<Vec<String>> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let whole = name.strip_suffix(SUFFIX).and_then(|stem| {
                let (id, part) = stem.rsplit_once('.')?;
                Some((id, part.parse::<u32>().ok()?))
            });
            let ours = whole.is_some() || name.strip_suffix(".part").is_some_and(|n| n.ends_with(SUFFIX));
            let wanted = whole.is_some_and(|(id, part)| live.get(id).is_some_and(|parts| part <= *parts));
            if ours && !wanted {
                tracing::info!(file = name, "removing a snapshot's file that is not on record");
                fs::remove_file(entry.path())?;
            }
        }
        let missing = |(id, parts): &(&String, &u32)| (1..=**parts).any(|part| !self.path(id, part).exists());
        Ok(live.iter().filter(missing).map(|(id, _)| id.clone()).collect())
    }
}

/// What a snapshot holds by resource, largest first.
pub(super) fn held(of: &Connected, affected: &[Affected]) -> Vec<Held> {
    let mut sums = BTreeMap::<&str, u64>::new();
    for part in affected {
        let sum = sums.entry(&part.resource).or_default();
        *sum = sum.saturating_add(part.records);
    }
    let mut held: Vec<Held> =
        sums.into_iter().map(|(path, records)| Held { resource: full_name(of, path), records }).collect();
    held.sort_by_key(|h| std::cmp::Reverse(h.records));
    held
}

/// A resource's name with its target's, as text.
pub(super) fn full_name(of: &Connected, path: &str) -> String {
    if path.is_empty() { of.name.to_string() } else { format!("{}.{path}", of.name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_record_stays() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(dir.path(), None).unwrap();
        let folder = dir.path().join("snapshots");
        for name in
            ["snp_a.1.snapshot", "snp_a.2.snapshot", "snp_b.1.snapshot", "snp_c.1.snapshot.part", "notes.txt"]
        {
            fs::write(folder.join(name), "x").unwrap();
        }
        let live = BTreeMap::from([("snp_a".to_owned(), 1), ("snp_z".to_owned(), 1)]);
        assert_eq!(shelf.tidy(&live).unwrap(), ["snp_z"]);
        let mut left: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["notes.txt", "snp_a.1.snapshot"]);
        shelf.remove("snp_a", 1);
        assert!(!folder.join("snp_a.1.snapshot").exists());
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
