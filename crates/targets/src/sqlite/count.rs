//! Counting before, and the before-images of what is meant.

use super::{
    connect::{Clock, Fault},
    follow::Sets,
    schema::{Catalog, Shape, quoted, schema_version},
    select::{Deed, Meant, meant},
    stream::Sink,
    value,
    watch::{Mode, Watch},
};
use crate::{Affected, Captured, Counted, Error, How, Selection, Statement, stay};
use rusqlite::Connection;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Values in one list of a filter; SQLite takes 32,766 parameters.
const MOST_VALUES: usize = 30_000;

/// Counts what is meant and what follows.
pub(super) fn count(connection: &Connection, what: &Selection, clock: &Clock) -> Result<Counted, Fault> {
    connection.execute_batch("BEGIN")?;
    let watch = Watch::start(connection)?;
    let catalog = Arc::new(Catalog::load(connection)?);
    watch.names(Arc::clone(&catalog));
    let mut sets = Sets::new(connection, &watch, &catalog)?;
    let mut reads = Vec::new();
    gather(connection, &watch, &catalog, what, &mut sets, Some((&mut reads, clock)))?;
    let mut affected = sets.affected()?;
    affected.append(&mut reads);
    Ok(Counted { affected, refusals: sets.refusals, at_least: sets.at_least })
}

/// Takes the before-images of what is meant and what follows.
pub(super) fn capture(
    connection: &Connection,
    what: &Selection,
    mut sink: Sink,
    clock: &Clock,
) -> Result<Captured, Fault> {
    connection.execute_batch("BEGIN")?;
    let watch = Watch::start(connection)?;
    let catalog = Arc::new(Catalog::load(connection)?);
    watch.names(Arc::clone(&catalog));
    let mut sets = Sets::new(connection, &watch, &catalog)?;
    gather(connection, &watch, &catalog, what, &mut sets, None)?;
    for set in sets.list() {
        let shape = &set.shape;
        let mut records = connection.prepare(&set.records())?;
        let mut rows = records.query([])?;
        let mut announced = false;
        while let Some(row) = rows.next()? {
            clock.check()?;
            if !announced {
                sink.table(&shape.name, shape.to_json()?)?;
                announced = true;
            }
            sink.record(Some(&shape.encode(row)?), None)?;
        }
    }
    sink.end(Some(json!({ "schema_version": schema_version(connection)? })), false)?;
    Ok(Captured { affected: sets.affected()?, digest: None })
}

/// Puts what is meant into the sets. Statements that only read go into `reads`, or are refused.
pub(super) fn gather(
    connection: &Connection,
    watch: &Watch,
    catalog: &Arc<Catalog>,
    what: &Selection,
    sets: &mut Sets<'_>,
    mut reads: Option<(&mut Vec<Affected>, &Clock)>,
) -> Result<(), Fault> {
    match what {
        Selection::Statements(statements) => {
            let mut writing = 0;
            for statement in statements {
                if let Some(read) = counted_read(connection, watch, statement, reads.as_mut().map(|r| r.1))? {
                    if let Some((list, _)) = &mut reads {
                        list.push(read);
                    }
                    continue;
                }
                let meant = meant(connection, catalog, statement)?;
                if sets.few && meant.deed == Deed::Insert {
                    continue;
                }
                if reads.is_none() && meant.deed == Deed::Insert {
                    return Err(Error::Unmeasurable(
                        "an INSERT has no records before it runs; send it as a guarded execution, which keeps them"
                            .to_owned(),
                    )
                    .into());
                }
                if reads.is_none()
                    && !sets.few
                    && let Some(column) = meant.changes_key()
                {
                    return Err(Error::Unmeasurable(stay::changes_key(&meant.shape.name, column)).into());
                }
                writing += 1;
                if reads.is_some() && statements.len() == 1 {
                    sets.add_only(&meant)?;
                } else {
                    sets.add(&meant)?;
                }
            }
            if writing > 1 {
                sets.at_least
                    .push("each statement is counted on the records as they stand before all of them".into());
            }
        }
        Selection::Records { resource, ids, delete } => {
            let shape = shape(connection, catalog, resource)?;
            for id in ids {
                let (condition, params) = by_id(&shape, id)?;
                sets.add(&Meant::of(shape.clone(), &condition, params, *delete))?;
            }
        }
        Selection::Where { resource, filter, delete } => {
            let shape = shape(connection, catalog, resource)?;
            let (condition, params) = by_filter(connection, &shape, filter)?;
            let meant = Meant::of(shape, &condition, params, *delete);
            if reads.is_some() { sets.add_only(&meant)? } else { sets.add(&meant)? }
        }
    }
    sets.follow()
}

fn shape(connection: &Connection, catalog: &Catalog, resource: &str) -> Result<Shape, Fault> {
    catalog.shape(connection, resource.strip_prefix("main.").unwrap_or(resource))
}

/// The rows that a statement returns, if it only reads.
fn counted_read(
    connection: &Connection,
    watch: &Watch,
    statement: &Statement,
    clock: Option<&Clock>,
) -> Result<Option<Affected>, Fault> {
    // Prepared as it would be for an execution, so that what is refused there is refused here.
    let (mut prepared, table) = watch.prepare(connection, Mode::Writing, &statement.sql)?;
    if !prepared.readonly() {
        return Ok(None);
    }
    let mut records = 0;
    if let Some(clock) = clock {
        value::bind(&mut prepared, &statement.params, true)?;
        let mut rows = prepared.raw_query();
        while rows.next()?.is_some() {
            clock.check()?;
            records += 1;
        }
    }
    Ok(Some(Affected { resource: table.unwrap_or_default(), how: How::Read, records }))
}

/// The condition for one primary key.
fn by_id(shape: &Shape, id: &Value) -> Result<(String, Vec<Value>), Fault> {
    let mut key: Vec<_> = shape.columns.iter().filter(|c| c.key > 0).collect();
    key.sort_by_key(|c| c.key);
    let names: Vec<String> = match key.as_slice() {
        [] => shape.rowid().map(str::to_owned).into_iter().collect(),
        columns => columns.iter().map(|c| c.name.clone()).collect(),
    };
    let wrong = || {
        Error::Invalid(format!("a key of {} is made of {}; {id} is not one", shape.name, names.join(", ")))
    };
    let values: Vec<Value> = match id {
        Value::Array(values) => values.clone(),
        Value::Object(object) if object.len() == names.len() => {
            let found = names.iter().map(|name| {
                object.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            });
            found.collect::<Option<_>>().ok_or_else(wrong)?
        }
        Value::Object(_) => return Err(wrong().into()),
        value => vec![value.clone()],
    };
    if values.len() != names.len() {
        return Err(wrong().into());
    }
    let condition: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            let name = if key.is_empty() { name.clone() } else { quoted(name) };
            format!("t.{name} = ?{}", n + 1)
        })
        .collect();
    Ok((condition.join(" AND "), values))
}

/// The condition for a filter by columns.
fn by_filter(
    connection: &Connection,
    shape: &Shape,
    filter: &Map<String, Value>,
) -> Result<(String, Vec<Value>), Fault> {
    let mut known = connection.prepare("SELECT name FROM pragma_table_xinfo(?1)")?;
    let known: Vec<String> = known.query_map([&shape.name], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut parts = vec!["1".to_owned()];
    let mut params = Vec::new();
    for (column, value) in filter {
        let Some(name) = known.iter().find(|name| name.eq_ignore_ascii_case(column)) else {
            return Err(Error::Invalid(format!("{} has no column {column}", shape.name)).into());
        };
        let name = format!("t.{}", quoted(name));
        let values = match value {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        let mut marks = Vec::new();
        for value in values.iter().filter(|value| !value.is_null()) {
            params.push(value.clone());
            marks.push(format!("?{}", params.len()));
        }
        let null = if marks.len() < values.len() { format!("{name} IS NULL") } else { "0".to_owned() };
        parts.push(format!("({name} IN ({}) OR {null})", marks.join(", ")));
    }
    if params.len() > MOST_VALUES {
        return Err(Error::TooLarge(format!("a filter may hold {MOST_VALUES} values at most")).into());
    }
    Ok((parts.join(" AND "), params))
}
