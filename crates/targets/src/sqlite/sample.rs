//! Some of the records that an action would touch, for a person to look at.

use super::{
    connect::{Clock, Fault},
    count,
    follow::Sets,
    schema::Catalog,
    value,
    watch::Watch,
};
use crate::{
    Sampled, Selection,
    target::{SAMPLE_CHARS, SAMPLE_COLUMNS},
};
use rusqlite::Connection;
use std::sync::Arc;

/// Reads up to `rows` of each table.
pub(super) fn sample(
    connection: &Connection,
    what: &Selection,
    rows: usize,
    clock: &Clock,
) -> Result<Vec<Sampled>, Fault> {
    connection.execute_batch("BEGIN")?;
    let watch = Watch::start(connection)?;
    let catalog = Arc::new(Catalog::load(connection)?);
    watch.names(Arc::clone(&catalog));
    let mut sets = Sets::few(connection, &watch, &catalog)?;
    count::gather(connection, &watch, &catalog, what, &mut sets, None)?;
    let mut samples = Vec::new();
    for set in sets.list() {
        let columns: Vec<String> = set.shape.names().into_iter().take(SAMPLE_COLUMNS).collect();
        let cells = set.shape.sql_names();
        // The whole of a large value is never read.
        let cell = |name: &String| {
            format!(
                "CASE WHEN typeof(t.{name}) IN ('text', 'blob') THEN substr(t.{name}, 1, {}) ELSE t.{name} END",
                SAMPLE_CHARS + 1
            )
        };
        let cells: Vec<String> = cells.iter().take(SAMPLE_COLUMNS).map(cell).collect();
        let mut select = connection.prepare(&set.some(&cells.join(", "), rows))?;
        let mut found = select.query([])?;
        let mut read = Vec::new();
        while let Some(row) = found.next()? {
            clock.check()?;
            let cells = (0..columns.len()).map(|n| Ok(value::json(row.get_ref(n)?)));
            read.push(cells.collect::<rusqlite::Result<_>>()?);
        }
        if !read.is_empty() {
            samples.push(Sampled { resource: set.shape.name.clone(), columns, rows: read });
        }
    }
    Ok(samples)
}
