//! Files.

use crate::{
    Captured, Counted, Error, Kind, Pending, Plan, Report, ResultSet, Selection, Settled, Statement, Target,
    TargetConfig, Undo, UndoOptions,
    snapshot::{Snapshot, SnapshotWriter, Table},
};
use async_trait::async_trait;
use serde_json::{Map, Value};

/// Files.
pub(crate) struct Files {
    config: TargetConfig,
}

impl Files {
    pub(crate) fn new(config: TargetConfig) -> Result<Self, Error> {
        Ok(Self { config })
    }

    fn missing<X>(&self) -> Result<X, Error> {
        Err(Error::Unsupported(format!("{}: not built yet", self.config.name)))
    }
}

#[async_trait]
impl Target for Files {
    fn kind(&self) -> Kind {
        Kind::Files
    }

    async fn test(&self) -> Result<Report, Error> {
        self.missing()
    }

    async fn grants(&self, _account: &str) -> String {
        String::new()
    }

    async fn count(&self, _what: &Selection) -> Result<Counted, Error> {
        self.missing()
    }

    async fn read(&self, _statement: &Statement) -> Result<ResultSet, Error> {
        self.missing()
    }

    async fn execute(&self, _statements: &[Statement]) -> Result<Box<dyn Pending>, Error> {
        self.missing()
    }

    async fn capture(&self, _what: &Selection, _out: &mut SnapshotWriter) -> Result<Captured, Error> {
        self.missing()
    }

    async fn seal(&self, _snapshot: &Snapshot, _out: &mut SnapshotWriter) -> Result<(), Error> {
        self.missing()
    }

    fn decode(&self, _table: &Table, _data: &[u8]) -> Result<Vec<Map<String, Value>>, Error> {
        self.missing()
    }

    async fn plan(&self, _snapshot: &Snapshot, _options: &UndoOptions) -> Result<Plan, Error> {
        self.missing()
    }

    async fn rollback(
        &self,
        _snapshot: &Snapshot,
        _options: &UndoOptions,
        _out: &mut SnapshotWriter,
    ) -> Result<Undo, Error> {
        self.missing()
    }

    async fn resolve(&self, _token: &str, _snapshot: &Snapshot) -> Result<Settled, Error> {
        self.missing()
    }
}
