//! A transaction that has done its work and is still open.

use super::{
    blocks::ChunkWriter,
    compare::{Outside, Record, Tally, compare},
    connect::{Db, Purpose, Session},
    footprint::Footprint,
    resolve::Token,
    schema::Table,
    value::{cells, decode, encode},
};
use crate::{
    Captured, CommitError, Error, Measured, Pending, ResultSet, RowsDigest, Statement,
    binding::{self, Binding},
    snapshot::SnapshotWriter,
};
use async_trait::async_trait;
use mysql_async::{Value, prelude::Queryable as _};
use sqlparser::dialect::MySqlDialect;
use std::sync::Arc;

/// What everything found must add up to.
pub(super) struct Proof {
    /// Rows that were changed, as the server says.
    pub(super) rows: u64,
    /// How many more rows that may be than records: those are the same records, changed again. 0 where it is not
    /// proved that every record was found.
    pub(super) surplus: u64,
    /// Records that were replaced by others under the same key spelled in another way: two records, and the server
    /// may count one change.
    pub(super) spelled: u64,
}

impl Proof {
    /// Compares it with what was found.
    ///
    /// # Errors
    /// [`Error::Unmeasurable`] when something was changed that was not found.
    pub(super) fn check(&self, tally: &Tally) -> Result<(), Error> {
        let (least, most) = tally.rows();
        if self.rows >= least.saturating_sub(self.spelled) && self.rows <= most.saturating_add(self.surplus) {
            return Ok(());
        }
        Err(Error::Unmeasurable(format!(
            "the server changed {} rows and only {least} changed records were found, so something would change unseen; it was rolled back. Use plain conditions (without RAND(), UUID() or a LIMIT without ORDER BY), or simpler triggers",
            self.rows
        )))
    }
}

/// An execution (or a rollback) before its commit.
pub(super) struct Open {
    db: Arc<Db>,
    session: Session,
    found: Footprint,
    proof: Proof,
    measured: Measured,
    results: Vec<ResultSet>,
    token: String,
    /// Whether something went wrong since: then the server may have rolled back by itself.
    broken: bool,
    /// Whether nothing has run that could have set a variable of the session: a trigger could.
    plain: bool,
    /// What the agent sent.
    statements: Vec<Statement>,
    /// Whether an approval will be bound to it.
    bound: bool,
}

impl Open {
    pub(super) fn new(
        db: Arc<Db>,
        session: Session,
        found: Footprint,
        proof: Proof,
        measured: Measured,
        results: Vec<ResultSet>,
        statements: Vec<Statement>,
    ) -> Self {
        let token = Token { connection: session.conn.id(), begun: session.begun }.to_string();
        let (broken, plain, bound) = (false, false, false);
        Self { db, session, found, proof, measured, results, token, broken, plain, statements, bound }
    }

    /// Says that the session is as it was before.
    pub(super) const fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    async fn images(&mut self, out: &mut SnapshotWriter) -> Result<Captured, Error> {
        let mut outside = Outside::of(&self.db, &self.session);
        let mut tally = Tally::default();
        let tables = self.found.tables.values().map(|touched| &touched.table);
        let changed = tables.map(|t| (t.name.as_str(), t.columns.iter().map(|c| c.name.as_str())));
        let mut digest = self.bound.then(|| {
            (RowsDigest::default(), Binding::of(&MySqlDialect {}, &self.statements).settle(changed))
        });
        let mut chunks = ChunkWriter::new(out, true);
        for touched in self.found.tables.values() {
            for part in touched.parts() {
                let records = compare(&mut outside, &touched.table, &part).await?;
                for record in &records {
                    if let Some(before) = &record.before {
                        touched.table.can_come_back(before, record.after.as_deref())?;
                    }
                    tally.add(&touched.table, record);
                    if let Some((digest, binding)) = &mut digest {
                        add(digest, binding, &touched.table, record)?;
                    }
                }
                chunks.add(&touched.table, &records).await?;
            }
        }
        chunks.finish().await?;
        chunks.identify(&mut self.session).await?;
        self.proof.check(&tally)?;
        out.sealed();
        Ok(Captured { affected: tally.affected(), digest: digest.map(|(digest, _)| digest.finish()) })
    }
}

/// A record's part in the digest: its before-image, or the key that it was inserted under, and of what is left what an
/// approval is bound to. What AUTO_INCREMENT gives grows with each try and says nothing.
fn add(digest: &mut RowsDigest, binding: &Binding, table: &Table, record: &Record) -> Result<(), Error> {
    let resource = &table.resource;
    let made_up =
        |place: &usize| record.before.is_none() && table.columns.get(*place).is_some_and(|c| c.auto);
    let key: Vec<usize> = table.key.iter().copied().filter(|place| !made_up(place)).collect();
    let places =
        binding.places(table.columns.iter().map(|c| c.name.as_str()), table.keyed.then_some(key.as_slice()));
    if let (Some(places), Some(after)) = (places, &record.after) {
        let times = if table.keyed { 1 } else { record.counts.1.saturating_sub(record.counts.0) };
        for _ in 0..times {
            binding::bind(digest, resource, &places, &cells(after)?);
        }
    }
    if !table.keyed {
        for _ in record.counts.1..record.counts.0 {
            digest.add(resource, &record.key);
        }
        for _ in record.counts.0..record.counts.1 {
            digest.add(resource, b"+");
        }
        return Ok(());
    }
    if let Some(before) = &record.before {
        digest.add(resource, before);
        return Ok(());
    }
    let mut key = decode(&record.key)?;
    for (column, value) in table.key_columns().zip(&mut key) {
        if column.auto {
            *value = Value::NULL;
        }
    }
    digest.add(resource, &encode(key.iter()));
    Ok(())
}

#[async_trait]
impl Pending for Open {
    fn measured(&self) -> &Measured {
        &self.measured
    }

    fn results(&self) -> &[ResultSet] {
        &self.results
    }

    fn token(&self) -> &str {
        &self.token
    }

    fn bind(&mut self) {
        self.bound = true;
    }

    async fn capture(&mut self, out: &mut SnapshotWriter) -> Result<Captured, Error> {
        let db = Arc::clone(&self.db);
        self.broken = true;
        let captured = db.within(Purpose::Snapshot, self.images(out)).await?;
        self.broken = false;
        Ok(captured)
    }

    async fn commit(mut self: Box<Self>) -> Result<(), CommitError> {
        if self.broken {
            return Err(CommitError::NotCommitted(
                "an earlier step of this execution failed, so it was rolled back".to_owned(),
            ));
        }
        let limit = self.db.limits.execute.max(self.db.limits.connect);
        match tokio::time::timeout(limit, self.session.conn.query_drop("COMMIT")).await {
            Ok(Ok(())) => {
                if self.plain {
                    self.session.reuse();
                }
                Ok(())
            }
            // A cluster refuses at this moment what another node has changed.
            Ok(Err(mysql_async::Error::Server(e))) if [1205, 1213].contains(&e.code) => {
                Err(CommitError::NotCommitted(e.message))
            }
            Ok(Err(e)) => Err(CommitError::Unknown(format!("no answer to the COMMIT: {e}"))),
            Err(_) => Err(CommitError::Unknown(format!("no answer to the COMMIT within {limit:?}"))),
        }
    }

    async fn rollback(mut self: Box<Self>) {
        // Without an answer, dropping the connection does the same a little later.
        let done =
            tokio::time::timeout(self.db.limits.connect, self.session.conn.query_drop("ROLLBACK")).await;
        if self.plain && matches!(done, Ok(Ok(()))) {
            self.session.reuse();
        }
    }
}
