//! A folder of files, captured, changed and rolled back.

mod conflicts;
pub(crate) mod disk;
mod hostile;
mod property;
mod rollback;
mod selection;
mod tree;

use checkrein_core::rollback::OnConflict;
use checkrein_targets::{
    Captured, Error, Limits, Place, Plan, Selection, Target, TargetConfig, Undo, UndoOptions,
    snapshot::{Header, Snapshot, SnapshotWriter},
};
use serde_json::{Map, Value, json};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A target on a folder, and a place for its snapshots.
struct Shop {
    target: Arc<dyn Target>,
    root: PathBuf,
    folder: tempfile::TempDir,
    limits: (u64, u64),
    next: AtomicU64,
}

/// All paths below the root.
fn all() -> Selection {
    Selection::Where { resource: String::new(), filter: Map::new(), delete: false }
}

fn paths<const N: usize>(ids: [&str; N]) -> Selection {
    let ids = ids.iter().map(|id| Value::from(*id)).collect();
    Selection::Records { resource: String::new(), ids, delete: false }
}

impl Shop {
    fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    fn within(folder: tempfile::TempDir) -> Self {
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(folder.path().join("snapshots")).unwrap();
        let place = Place::Files(root.clone());
        let target =
            checkrein_targets::open(TargetConfig { name: "docs".into(), place, limits: Limits::default() })
                .unwrap();
        Self { target, root, folder, limits: (1_000_000, 1 << 30), next: AtomicU64::new(0) }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn put(&self, path: &str, content: &str) {
        let at = self.at(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, content).unwrap();
    }

    fn get(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap()
    }

    fn writer(&self) -> (SnapshotWriter, PathBuf) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join("snapshots").join(number.to_string());
        let header =
            Header { id: "snp_1".into(), target: "docs".into(), kind: "files".into(), system: json!({}) };
        (SnapshotWriter::create(&path, &header, None, self.limits).unwrap(), path)
    }

    async fn capture(&self, what: &Selection) -> Result<(Snapshot, Captured, PathBuf), Error> {
        let (mut out, path) = self.writer();
        let captured = self.target.capture(what, &mut out).await?;
        out.finish(&path).await?;
        Ok((Snapshot::open(std::slice::from_ref(&path), None).await?, captured, path))
    }

    async fn take(&self, what: &Selection) -> (Snapshot, PathBuf) {
        let (snapshot, _, path) = self.capture(what).await.unwrap();
        (snapshot, path)
    }

    async fn seal(&self, (snapshot, path): (Snapshot, PathBuf)) -> Snapshot {
        let (mut out, after) = self.writer();
        self.target.seal(&snapshot, &mut out).await.unwrap();
        out.finish(&after).await.unwrap();
        Snapshot::open(&[path, after], None).await.unwrap()
    }

    async fn plan(&self, snapshot: &Snapshot) -> Plan {
        self.target.plan(snapshot, &UndoOptions::default()).await.unwrap()
    }

    /// Rolls back and commits. The snapshot of what was overwritten, when there was anything.
    async fn roll_back(&self, snapshot: &Snapshot, on_conflict: OnConflict) -> Result<Done, Error> {
        let (mut out, path) = self.writer();
        let options = UndoOptions { on_conflict, ..UndoOptions::default() };
        Ok(match self.target.rollback(snapshot, &options, &mut out).await? {
            Undo::Ready(plan, pending) => {
                out.finish(&path).await?;
                pending.commit().await.map_err(|e| Error::Internal(e.to_string()))?;
                assert!(!self.at(".checkrein").exists(), "cleared away");
                Done::Done(plan, Box::new(Snapshot::open(&[path], None).await?))
            }
            Undo::Nothing(_) => Done::Nothing,
            Undo::Conflicts(plan) => Done::Conflicts(plan),
        })
    }

    /// Rolls back what must go without a conflict.
    async fn undo(&self, snapshot: &Snapshot) -> Option<Snapshot> {
        match self.roll_back(snapshot, OnConflict::Refuse).await.unwrap() {
            Done::Done(_, undo) => Some(*undo),
            Done::Nothing => None,
            Done::Conflicts(plan) => panic!("{:#?}", plan.conflicts),
        }
    }
}

#[derive(Debug)]
enum Done {
    Done(Plan, Box<Snapshot>),
    Nothing,
    Conflicts(Plan),
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
