//! Some of the records that an action would touch, for a person to look at.

use super::{
    Postgres,
    count::{Count, HITS, told},
    execute::{abandon, pin},
    schema,
    sql::{ask, ident},
    values::Trouble,
};
use crate::{
    Error, Sampled, Selection,
    target::{SAMPLE_CHARS, SAMPLE_COLUMNS},
};
use serde_json::Value;

impl Postgres {
    /// See [`crate::Target::sample`].
    pub(super) async fn sampled(&self, what: &Selection, rows: usize) -> Result<Vec<Sampled>, Error> {
        let limit = self.limits().count;
        match tokio::time::timeout(limit, Box::pin(self.some(what, rows))).await {
            Ok(result) => result.map_err(|trouble| told(trouble, "reading a sample", limit)),
            Err(_) => Err(Error::TimedOut { what: "reading a sample", limit }),
        }
    }

    async fn some(&self, what: &Selection, rows: usize) -> Result<Vec<Sampled>, Trouble> {
        let session = self.counting(self.limits().count).await?;
        let mut count = Count::few(&session);
        count.selection(what).await?;
        pin(&session).await?;
        let found = format!("SELECT rel::bigint FROM {HITS} GROUP BY rel ORDER BY pg_catalog.min(step)");
        let found = ask(&session, &found).await?;
        let oids: Vec<u32> = found.iter().flatten().filter_map(|oid| oid.as_ref()?.parse().ok()).collect();
        let relations = schema::relations(&session, oids.iter().copied()).await?;
        let mut samples: Vec<Sampled> = Vec::new();
        for relation in oids.iter().filter_map(|oid| relations.iter().find(|r| r.oid == *oid)) {
            let columns = relation.columns.iter().take(SAMPLE_COLUMNS).map(|column| column.name.as_str());
            // As the type itself writes it: a cast could be somebody's own function.
            let cell = |name: &str| {
                let name = format!("x.{}", ident(name));
                let text = format!("pg_catalog.left(pg_catalog.format('%s', {name}), {})", SAMPLE_CHARS + 1);
                format!("CASE WHEN {name} IS NOT DISTINCT FROM NULL THEN NULL ELSE {text} END")
            };
            let select = format!(
                "SELECT {} FROM ONLY {} x WHERE x.ctid = ANY (ARRAY(SELECT place FROM {HITS} WHERE rel = {} \
                 GROUP BY place ORDER BY pg_catalog.min(step), place LIMIT {rows}))",
                columns.clone().map(cell).collect::<Vec<_>>().join(", "),
                relation.sql(),
                relation.oid
            );
            let read = ask(&session, &select).await?;
            let read = read
                .into_iter()
                .map(|row| row.into_iter().map(|cell| cell.map_or(Value::Null, Value::String)).collect());
            // Partitions are known by the name of their table.
            let index = samples.iter().position(|sample| sample.resource == relation.resource);
            match index.and_then(|index| samples.get_mut(index)) {
                Some(sample) => {
                    let room = rows.saturating_sub(sample.rows.len());
                    sample.rows.extend(read.take(room));
                }
                None => samples.push(Sampled {
                    resource: relation.resource.clone(),
                    columns: columns.map(str::to_owned).collect(),
                    rows: read.collect(),
                }),
            }
        }
        abandon(session).await;
        Ok(samples)
    }
}
