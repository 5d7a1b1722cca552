//! Snapshots of records that are only about to be changed, by somebody else: before-images first, after-images
//! when it says that it is done.

use super::{
    Postgres,
    connect::Session,
    copy::{Sink, copy_out},
    count::{Count, HITS, told},
    execute::{abandon, begin, pin},
    images::Alike,
    schema::{self, Relation},
    sql::ask,
    undo,
    values::Trouble,
};
use crate::{
    Affected, Captured, Error, How, Progress, Selection,
    snapshot::{Side, Snapshot, SnapshotWriter},
};
use std::collections::BTreeMap;
use tokio::sync::Mutex;

impl Postgres {
    /// See [`crate::Target::capture`].
    pub(super) async fn taken(&self, what: &Selection, out: &mut SnapshotWriter) -> Result<Captured, Error> {
        let limit = self.limits().snapshot;
        match tokio::time::timeout(limit, Box::pin(self.take(what, out))).await {
            Ok(result) => result.map_err(|trouble| told(trouble, "taking the snapshot", limit)),
            Err(_) => Err(Error::TimedOut { what: "taking the snapshot", limit }),
        }
    }

    async fn take(&self, what: &Selection, out: &mut SnapshotWriter) -> Result<Captured, Trouble> {
        let session = self.reading(self.limits().snapshot).await?;
        if let Some((relation, how, select)) = Count::new(&session, true).plain(what).await? {
            let records = copied(&session, &relation, &select, out).await?;
            super::identify(&session, out, &Alike::new());
            abandon(session).await;
            let affected = Affected { resource: relation.resource, how, records };
            let affected = if records > 0 { vec![affected] } else { Vec::new() };
            return Ok(Captured { affected, digest: None });
        }
        abandon(session).await;
        let session = self.counting(self.limits().snapshot).await?;
        let mut count = Count::new(&session, true);
        count.selection(what).await?;
        pin(&session).await?;
        let rows = ask(
            &session,
            &format!(
                "SELECT rel::bigint, how, pg_catalog.count(*) FROM (SELECT DISTINCT ON (rel, place) rel, place, how FROM {HITS} \
                 ORDER BY rel, place, CASE how WHEN 'd' THEN 0 WHEN 'c' THEN 1 WHEN 'u' THEN 2 ELSE 3 END) b GROUP BY 1, 2"
            ),
        )
        .await?;
        let mut found: BTreeMap<u32, Vec<(How, u64)>> = BTreeMap::new();
        for row in &rows {
            let cell = |i: usize| row.get(i).and_then(|cell| cell.as_deref()).unwrap_or("");
            let how = match cell(1) {
                "d" => How::Delete,
                "c" => How::Cascade,
                "u" => How::Update,
                _ => How::Unlink,
            };
            if let (Ok(oid), Ok(records)) = (cell(0).parse(), cell(2).parse()) {
                found.entry(oid).or_default().push((how, records));
            }
        }
        let oids: Vec<u32> = found.keys().copied().collect();
        let relations = schema::all(schema::relations(&session, oids.iter().copied()).await?, &oids)?;
        let mut sums: BTreeMap<(String, How), u64> = BTreeMap::new();
        for relation in &relations {
            let ways = found.remove(&relation.oid).unwrap_or_default();
            // A place of each row, once, in the order of the table.
            let select = format!(
                "SELECT {} FROM ONLY {} x WHERE x.ctid = ANY (ARRAY(SELECT place FROM {HITS} WHERE rel = {}))",
                relation.list("x"),
                relation.sql(),
                relation.oid
            );
            let records = copied(&session, relation, &select, out).await?;
            let resource = &relation.resource;
            if records != ways.iter().map(|(_, records)| records).sum::<u64>() {
                return Err(Error::Internal(format!(
                    "{resource}: not every record that was found could be read"
                ))
                .into());
            }
            for (how, records) in ways {
                *sums.entry((relation.resource.clone(), how)).or_default() += records;
            }
        }
        super::identify(&session, out, &Alike::new());
        abandon(session).await;
        let affected =
            sums.into_iter().map(|((resource, how), records)| Affected { resource, how, records }).collect();
        Ok(Captured { affected, digest: None })
    }

    /// See [`crate::Target::seal`].
    pub(super) async fn sealed(&self, snapshot: &Snapshot, out: &mut SnapshotWriter) -> Result<(), Error> {
        let limit = self.limits().snapshot;
        let work = async {
            let mut session = self.connections.work().await?;
            begin(&mut session, "READ COMMITTED READ WRITE", limit, self.limits()).await?;
            pin(&session).await?;
            undo::stage::seal(&session, snapshot, &Progress::default(), out).await?;
            super::identify(&session, out, &Alike::new());
            abandon(session).await;
            out.sealed();
            Ok::<_, Trouble>(())
        };
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result.map_err(|trouble| told(trouble, "sealing the snapshot", limit)),
            Err(_) => Err(Error::TimedOut { what: "sealing the snapshot", limit }),
        }
    }
}

/// Copies before-images of one table. Answers how many.
async fn copied(
    session: &Session,
    relation: &Relation,
    select: &str,
    out: &mut SnapshotWriter,
) -> Result<u64, Trouble> {
    let shape = serde_json::to_value(relation).map_err(|e| Error::Internal(e.to_string()))?;
    let table = out.table(&relation.resource, shape).await?;
    let out = &Mutex::new(out);
    copy_out(session, select, &mut Sink { out, table, side: Side::Before, digest: None }).await
}
