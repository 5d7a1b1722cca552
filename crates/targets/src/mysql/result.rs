//! What a statement of an agent returns, within the operator's limits.

use super::{
    connect::{Db, Session, Stop, meaning},
    value::{Image, encode, returned},
};
use crate::{Error, ResultSet};
use mysql_async::{Column, Params, Value, consts::ColumnType, prelude::Queryable as _};
use serde_json::Value as Json;

/// The character set of what is no text.
const BINARY: u16 = 63;

/// What came of a statement: what it returned, and the values of its last `own` columns, which Checkrein
/// added to it.
pub(super) struct Answer {
    pub(super) set: ResultSet,
    pub(super) own: Vec<Image>,
    /// Rows that an UPDATE found, changed or not.
    pub(super) matched: Option<u64>,
}

/// Runs a statement.
pub(super) async fn run(
    session: &mut Session,
    db: &Db,
    sql: &str,
    params: Vec<Value>,
    own: usize,
) -> Result<Answer, Error> {
    let stop = Stop::of(session);
    let answer = answer(session, db, sql, params, own).await;
    stop.not();
    answer
}

async fn answer(
    session: &mut Session,
    db: &Db,
    sql: &str,
    params: Vec<Value>,
    own: usize,
) -> Result<Answer, Error> {
    let params = if params.is_empty() { Params::Empty } else { Params::Positional(params) };
    let mut result = session.conn.exec_iter(sql, params).await.map_err(meaning)?;
    let columns = result.columns().unwrap_or_default();
    let theirs = columns.len().saturating_sub(own);
    let names = columns.iter().take(theirs).map(|c| c.name_str().into_owned()).collect();
    let mut set = ResultSet { columns: names, ..ResultSet::default() };
    let (mut keys, mut bytes, mut over) = (Vec::new(), 0_u64, false);
    while let Some(row) = result.next().await.map_err(meaning)? {
        let mut values = row.unwrap();
        if own > 0 {
            keys.push(encode(values.split_off(theirs.min(values.len())).iter()));
        }
        if theirs == 0 {
            continue;
        }
        let row: Vec<Json> = values.into_iter().zip(columns.iter()).map(|(v, c)| cell(v, c)).collect();
        bytes += row.iter().map(size).sum::<u64>();
        over |= bytes > db.limits.result_bytes || set.rows.len() as u64 >= db.limits.result_rows;
        if over {
            break;
        }
        set.rows.push(row);
    }
    let affected = result.affected_rows();
    let matched = matched(&result.info());
    result.drop_result().await.map_err(meaning)?;
    if over {
        return Err(Error::TooLarge(format!(
            "it returns more than this target allows ({} rows, {} bytes); add a LIMIT or name fewer columns",
            db.limits.result_rows, db.limits.result_bytes
        )));
    }
    // A statement that returns rows does not say how many it changed.
    set.affected = match (columns.is_empty(), own) {
        (true, _) => affected,
        (false, 0) => set.rows.len() as u64,
        (false, _) => keys.len() as u64,
    };
    Ok(Answer { set, own: keys, matched })
}

/// `Rows matched: 5  Changed: 3  Warnings: 0`.
fn matched(info: &str) -> Option<u64> {
    info.strip_prefix("Rows matched: ")?.split_whitespace().next()?.parse().ok()
}

fn cell(value: Value, column: &Column) -> Json {
    if let (ColumnType::MYSQL_TYPE_BIT, Value::Bytes(bits)) = (column.column_type(), &value) {
        let number = bits.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        return returned(Value::UInt(number), false);
    }
    let texts = [
        ColumnType::MYSQL_TYPE_TINY_BLOB,
        ColumnType::MYSQL_TYPE_BLOB,
        ColumnType::MYSQL_TYPE_MEDIUM_BLOB,
        ColumnType::MYSQL_TYPE_LONG_BLOB,
        ColumnType::MYSQL_TYPE_STRING,
        ColumnType::MYSQL_TYPE_VAR_STRING,
        ColumnType::MYSQL_TYPE_VARCHAR,
        ColumnType::MYSQL_TYPE_GEOMETRY,
    ];
    returned(value, column.character_set() == BINARY && texts.contains(&column.column_type()))
}

fn size(value: &Json) -> u64 {
    match value {
        Json::String(s) => s.len() as u64 + 2,
        _ => 8,
    }
}
