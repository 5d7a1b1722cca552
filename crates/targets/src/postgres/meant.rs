//! Records that are named by their keys or by the values of their columns.

use super::{
    connect::Session,
    schema::{self, Column, Relation},
    sql::{ask_list, ident, literal},
    values::Trouble,
};
use crate::{Error, Selection};
use serde_json::Value;

/// The rows `t` that are meant, as SQL from FROM on. A row may be there more than once where `twice` says so.
pub(super) struct Meant {
    from: String,
    twice: bool,
}

impl Meant {
    /// A query for their `rel` and `place`.
    pub(super) fn query(&self) -> String {
        format!("SELECT DISTINCT t.tableoid AS rel, t.ctid AS place FROM {}", self.from)
    }

    /// A query for these columns of each; none where a row may be there twice.
    pub(super) fn select(&self, columns: &str) -> Option<String> {
        (!self.twice).then(|| format!("SELECT {columns} FROM {}", self.from))
    }
}

/// The table at a path: `schema.table`, or a table of the search path.
pub(super) async fn find(client: &Session, resource: &str) -> Result<Relation, Trouble> {
    // Names may hold dots, so every way to cut the path is tried; two that exist are refused.
    let mut ways = vec![ident(resource)];
    ways.extend(resource.match_indices('.').filter_map(|(at, _)| {
        Some(format!("{}.{}", ident(resource.get(..at)?), ident(resource.get(at + 1..)?)))
    }));
    let ways: Vec<_> = ways.iter().map(|way| format!("({})", literal(way))).collect();
    let found = ask_list(
        client,
        &format!(
            "SELECT DISTINCT pg_catalog.to_regclass(way)::oid::bigint FROM (VALUES {}) AS w(way) WHERE pg_catalog.to_regclass(way) IS NOT NULL",
            ways.join(", ")
        ),
    )
    .await?;
    match found.as_slice() {
        [oid] => {
            let relation = schema::relations(client, oid.parse::<u32>().ok()).await?.into_iter().next();
            Ok(relation.ok_or_else(|| Error::Invalid(format!("the table {resource} is gone")))?)
        }
        [] => {
            Err(Error::Invalid(format!("there is no table {resource}, or the account may not see it")).into())
        }
        _ => Err(Error::Invalid(format!("{resource} names more than one table")).into()),
    }
}

/// The query for a selection by keys or values.
pub(super) fn query(relation: &Relation, what: &Selection) -> Result<Meant, Error> {
    let condition = match what {
        Selection::Records { ids, .. } => return by_keys(relation, ids),
        Selection::Where { filter, .. } => {
            let terms = filter.iter().map(|(name, value)| {
                let column = relation.columns.iter().find(|column| column.name == *name);
                let column = column.ok_or_else(|| no_column(relation, name))?;
                term(column, value)
            });
            terms.collect::<Result<Vec<_>, _>>()?
        }
        Selection::Statements(_) => return Err(Error::Internal("a statement is not a filter".to_owned())),
    };
    let condition = if condition.is_empty() { "true".to_owned() } else { condition.join(" AND ") };
    Ok(Meant { from: format!("{} t WHERE {condition}", relation.reached()), twice: false })
}

fn no_column(relation: &Relation, name: &str) -> Error {
    let names: Vec<_> = relation.columns.iter().map(|column| column.name.as_str()).collect();
    Error::Invalid(format!("{} has no column {name}; it has {}", relation.resource, names.join(", ")))
}

/// A value as a literal of the column's type, without its length: a cast to that would cut the value short,
/// and mean another record.
fn typed(column: &Column, value: &Value) -> Result<String, Error> {
    let text = match value {
        Value::Null => return Ok(format!("NULL::{}", column.base)),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => {
            return Err(Error::Invalid(format!(
                "the column {} takes one value, not a list or an object",
                column.name
            )));
        }
        plain => plain.to_string(),
    };
    if text.contains('\0') {
        return Err(Error::Invalid("a text of PostgreSQL cannot hold the character 0".to_owned()));
    }
    Ok(format!("{}::{}", literal(&text), column.base))
}

fn term(column: &Column, value: &Value) -> Result<String, Error> {
    let name = ident(&column.name);
    match value {
        Value::Null => Ok(format!("t.{name} IS NULL")),
        Value::Array(values) if values.is_empty() => Ok("false".to_owned()),
        Value::Array(values) => {
            let terms = values.iter().map(|value| match value {
                Value::Null => Ok(format!("t.{name} IS NULL")),
                value => typed(column, value).map(|value| format!("t.{name} = {value}")),
            });
            Ok(format!("({})", terms.collect::<Result<Vec<_>, _>>()?.join(" OR ")))
        }
        value => Ok(format!("t.{name} = {}", typed(column, value)?)),
    }
}

fn by_keys(relation: &Relation, ids: &[Value]) -> Result<Meant, Error> {
    let columns: Option<Vec<&Column>> = relation.key.iter().map(|key| relation.column(key.number)).collect();
    let columns = columns.filter(|columns| !columns.is_empty()).ok_or_else(|| {
        Error::Invalid(format!(
            "{} has no primary key, so its records have no ids: name them by columns (`where`), or by a statement",
            relation.resource
        ))
    })?;
    if ids.is_empty() {
        return Ok(Meant { from: format!("{} t WHERE false", relation.from()), twice: false });
    }
    let rows = ids.iter().map(|id| {
        let cells: Vec<&Value> = match id {
            Value::Array(cells) => cells.iter().collect(),
            Value::Object(cells) => {
                let named: Option<Vec<_>> = columns.iter().map(|column| cells.get(&column.name)).collect();
                named.filter(|named| named.len() == cells.len()).ok_or_else(|| misfit(relation, &columns))?
            }
            cell => vec![cell],
        };
        if cells.len() != columns.len() || cells.iter().any(|cell| cell.is_null()) {
            return Err(misfit(relation, &columns));
        }
        let cells = columns.iter().zip(cells).map(|(column, cell)| typed(column, cell));
        Ok(format!("({})", cells.collect::<Result<Vec<_>, _>>()?.join(", ")))
    });
    let rows = rows.collect::<Result<Vec<_>, _>>()?.join(", ");
    let names: Vec<_> = columns.iter().map(|column| ident(&column.name)).collect();
    Ok(Meant {
        from: format!(
            "(VALUES {rows}) AS i({}) JOIN {} t ON {}",
            names.join(", "),
            relation.reached(),
            relation.same_key("t", "i")
        ),
        // An id may be given twice.
        twice: ids.len() > 1,
    })
}

fn misfit(relation: &Relation, columns: &[&Column]) -> Error {
    let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
    Error::Invalid(format!(
        "a record of {} is named by {}: give one value, or a list in that order, or an object; none may be null",
        relation.resource,
        names.join(", ")
    ))
}
