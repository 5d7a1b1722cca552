//! Records as JSON, for people.

use super::{schema::Shape, value};
use crate::{Cell, Error, RowReader, snapshot::Table};
use serde_json::{Map, Value};

/// The records of a block.
pub(super) fn block(table: &Table, data: &[u8]) -> Result<Vec<Map<String, Value>>, Error> {
    let names = Shape::from_json(&table.shape)?.names();
    RowReader::new(data).map(|row| object(&names, &row?)).collect()
}

/// A record by the names of its cells.
pub(super) fn object(names: &[String], cells: &[Cell<'_>]) -> Result<Map<String, Value>, Error> {
    if names.len() != cells.len() {
        return Err(Error::Snapshot("a record has another number of values than its table".to_owned()));
    }
    names.iter().zip(cells).map(|(name, cell)| Ok((name.clone(), value::json(value::value(cell)?)))).collect()
}
