//! Some of the records that an action would touch, for a person to look at.

use super::{
    connect::{Db, Purpose, Session},
    count::Counting,
    footprint::Touched,
    schema::{Column, Sort, Table, join, quote},
    value::{Image, returned},
};
use crate::{
    Error, Sampled, Selection,
    target::{SAMPLE_CHARS, SAMPLE_COLUMNS},
};
use mysql_async::{Params, Row};
use serde_json::Value;

/// Reads up to `rows` of each table.
pub(super) async fn sample(db: &Db, what: &Selection, rows: usize) -> Result<Vec<Sampled>, Error> {
    db.within(Purpose::Count, async {
        let mut counting = Counting::few(db).await?;
        counting.everything(what).await?;
        let found = std::mem::take(&mut counting.found);
        let named = std::mem::take(&mut counting.named);
        let mut touched: Vec<Touched> = found.tables.into_values().collect();
        touched.sort_by_key(|touched| !named.contains(&touched.table.resource));
        let mut samples = Vec::new();
        for Touched { table, records } in touched {
            let keys: Vec<Image> = records.into_keys().take(rows).collect();
            let columns = table.columns.iter().take(SAMPLE_COLUMNS).map(|column| column.name.clone());
            let columns = columns.collect();
            let rows = read(&mut counting.session, &table, &keys).await?;
            samples.push(Sampled { resource: table.resource.clone(), columns, rows });
        }
        Ok(samples)
    })
    .await
}

async fn read(session: &mut Session, table: &Table, keys: &[Image]) -> Result<Vec<Vec<Value>>, Error> {
    let mut params = Vec::new();
    for key in keys {
        table.key_params(key, &mut params)?;
    }
    let cells = table.columns.iter().take(SAMPLE_COLUMNS);
    let sql = format!(
        "SELECT {} FROM {} AS t WHERE {} LIMIT {}",
        join(cells.map(cell)),
        table.sql(),
        table.with_keys("t", keys.len()),
        keys.len()
    );
    // What is no text is written as the server writes it, so that any of it can be cut.
    let rows = session.rows(&sql, Params::Positional(params)).await?;
    Ok(rows
        .into_iter()
        .map(Row::unwrap)
        .map(|row| row.into_iter().map(|v| returned(v, false)).collect())
        .collect())
}

fn cell(column: &Column) -> String {
    let name = format!("t.{}", quote(&column.name));
    let text = if column.sort == Sort::Geometry { format!("ST_AsText({name})") } else { name };
    format!("LEFT({text}, {})", SAMPLE_CHARS + 1)
}
