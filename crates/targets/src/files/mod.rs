//! A folder of files.
//!
//! Files have no transactions, so a rollback makes its own: everything that it puts back is written and
//! synced in a hidden folder of the root first; then names are swapped one by one, each in one step of the
//! file system, with what was there kept until all of it has taken place. A crash in between is undone
//! from the journal (`journal.rs`). Whatever turns out to be different from what was compared ends it, and
//! every step is taken back.
//!
//! ```text
//! walk ─► look ─► capture, seal                     what is meant, what stands there, into the snapshot
//! images + look ─► plan ─► stage ─► commit | clear  what is recorded and what stands there, and back
//! ```
//! Records are paths, as bytes; a path that is not UTF-8 is `{"hex": "…"}` in JSON. Resources are folders.

mod capture;
mod commit;
mod crash;
mod images;
mod journal;
mod look;
mod meta;
mod object;
mod path;
mod plan;
mod report;
mod restore;
mod root;
mod stage;
mod undo;
mod walk;
mod work;

use crate::{
    Captured, Counted, Error, Kind, Pending, Place, Plan, Report, ResultSet, RowReader, Sampled, Selection,
    Settled, Statement, Target, TargetConfig, Undo, UndoOptions,
    snapshot::{Snapshot, SnapshotWriter, Table},
};
use async_trait::async_trait;
use images::Images;
use root::Root;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use walk::{Choice, Tally, Ways};
use work::{run, run_into};

/// A folder.
pub(crate) struct Files {
    config: TargetConfig,
    path: PathBuf,
}

impl Files {
    pub(crate) fn new(config: TargetConfig) -> Result<Self, Error> {
        let Place::Files(path) = &config.place else {
            return Err(Error::Config(format!("{} is not a folder", config.name)));
        };
        if !path.is_absolute() && path.as_os_str().is_empty() {
            return Err(Error::Config(format!("the target {} has an empty path", config.name)));
        }
        Ok(Self { path: path.clone(), config })
    }

    fn no_statements<X>(&self) -> Result<X, Error> {
        Err(Error::Unsupported(format!(
            "{} is a folder, which runs no statements: ask with a check (resource and record_ids), take a snapshot of the paths, change the files, then seal the snapshot",
            self.config.name
        )))
    }
}

#[async_trait]
impl Target for Files {
    fn kind(&self) -> Kind {
        Kind::Files
    }

    async fn test(&self) -> Result<Report, Error> {
        let path = self.path.clone();
        run("the test", self.config.limits.connect, move |_| report::test(&path)).await
    }

    async fn grants(&self, account: &str) -> String {
        report::grants(&self.path, account)
    }

    async fn count(&self, what: &Selection) -> Result<Counted, Error> {
        let (choice, delete) = Choice::of(&self.path, what)?;
        let path = self.path.clone();
        run("counting", self.config.limits.count, move |stop| {
            let root = Root::open(&path)?;
            let mut tally = Tally::new();
            walk::walk(&root, &choice, Ways::Strict, stop, |path, found| {
                if let Some(how) = walk::how(delete, found.is_some()) {
                    tally.add(&path, found.is_some_and(|f| f.stx_mode & 0o170_000 == 0o040_000), how);
                }
                Ok(())
            })?;
            let (affected, coarser) = tally.affected();
            let mut counted = Counted { affected, ..Counted::default() };
            if coarser {
                counted.at_least.push(format!(
                    "more than {} folders: the deepest are counted with the folder above them, so a policy on one of them would not see it",
                    walk::MOST_RESOURCES
                ));
            }
            Ok(counted)
        })
        .await
    }

    async fn sample(&self, what: &Selection, rows: usize) -> Result<Vec<Sampled>, Error> {
        let (choice, _) = Choice::of(&self.path, what)?;
        let path = self.path.clone();
        run("reading a sample", self.config.limits.count, move |stop| {
            let mut names = Vec::new();
            let walked = walk::walk(&Root::open(&path)?, &choice, Ways::Strict, stop, |path, found| {
                if found.is_some() {
                    names.push(vec![Value::String(path.show())]);
                }
                // There is no other way to end a walk.
                if names.len() < rows { Ok(()) } else { Err(Error::TooLarge("enough".to_owned())) }
            });
            if names.len() < rows {
                walked?;
            }
            let columns = vec!["path".to_owned()];
            Ok(vec![Sampled { resource: String::new(), columns, rows: names }])
        })
        .await
    }

    async fn read(&self, _statement: &Statement) -> Result<ResultSet, Error> {
        self.no_statements()
    }

    async fn execute(&self, _statements: &[Statement]) -> Result<Box<dyn Pending>, Error> {
        self.no_statements()
    }

    async fn capture(&self, what: &Selection, out: &mut SnapshotWriter) -> Result<Captured, Error> {
        let (choice, delete) = Choice::of(&self.path, what)?;
        let path = self.path.clone();
        run_into("the snapshot", self.config.limits.snapshot, out, move |stop, sink| {
            capture::capture(&Root::open(&path)?, &choice, delete, stop, sink)
        })
        .await
    }

    async fn seal(&self, snapshot: &Snapshot, out: &mut SnapshotWriter) -> Result<(), Error> {
        let (path, snapshot) = (self.path.clone(), snapshot.clone());
        run_into("sealing", self.config.limits.snapshot, out, move |stop, sink| {
            let images = Images::read(&snapshot, stop)?;
            capture::seal(&Root::open(&path)?, &images.choice, images.paths().into_iter(), stop, sink)
        })
        .await?;
        out.sealed();
        Ok(())
    }

    fn decode(&self, table: &Table, data: &[u8]) -> Result<Vec<Map<String, Value>>, Error> {
        match table.shape.get("holds").and_then(Value::as_str) {
            Some(work::RECORDS) => {
                object::Record::read_all(data).map(|record| record.map(|record| record.json())).collect()
            }
            Some(work::BYTES) => RowReader::new(data)
                .map(|row| {
                    let row = row?;
                    let (number, at, bytes) = images::content_row(&row)?;
                    let piece = json!({"content": number, "offset": at, "bytes": path::bytes_json(bytes)});
                    Ok(piece.as_object().cloned().unwrap_or_default())
                })
                .collect(),
            _ => Err(Error::Snapshot("the snapshot is not one of files".to_owned())),
        }
    }

    async fn plan(&self, snapshot: &Snapshot, options: &UndoOptions) -> Result<Plan, Error> {
        let (path, snapshot, options) = (self.path.clone(), snapshot.clone(), options.clone());
        run("planning the rollback", self.config.limits.snapshot, move |stop| {
            let images = Images::read(&snapshot, stop)?;
            Ok(plan::plan(&Root::open(&path)?, images, &options, stop)?.0)
        })
        .await
    }

    async fn rollback(
        &self,
        snapshot: &Snapshot,
        options: &UndoOptions,
        out: &mut SnapshotWriter,
    ) -> Result<Undo, Error> {
        let (path, snapshot, options) = (self.path.clone(), snapshot.clone(), options.clone());
        let prepared = run_into("the rollback", self.config.limits.snapshot, out, move |stop, sink| {
            undo::prepare(Root::open(&path)?, &snapshot, &options, stop, sink)
        })
        .await?;
        Ok(match prepared {
            undo::Prepared::Nothing(plan) => Undo::Nothing(plan),
            undo::Prepared::Conflicts(plan) => Undo::Conflicts(plan),
            undo::Prepared::Ready(plan, pending) => {
                out.sealed();
                Undo::Ready(plan, pending)
            }
        })
    }

    async fn resolve(&self, token: &str, snapshot: &Snapshot) -> Result<Settled, Error> {
        if token.len() != 32 || !token.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::Invalid("this is no rollback of files".to_owned()));
        }
        let (path, snapshot, token) = (self.path.clone(), snapshot.clone(), token.to_owned());
        run("settling the rollback", self.config.limits.snapshot, move |stop| {
            commit::resolve(&Root::open(&path)?, &token, &snapshot, stop)
        })
        .await
    }
}
