//! JSON to PostgreSQL and back: parameters as texts that the server parses by their type, results as what
//! JSON can say without loss.

use crate::{Error, ResultSet, Statement};
use bytes::BytesMut;
use futures_util::TryStreamExt as _;
use serde_json::Value;
use std::fmt::Write as _;
use tokio_postgres::{
    Client, SimpleQueryMessage, SimpleQueryRow,
    types::{Format, IsNull, Kind, ToSql, Type},
};

use super::{find::Hints, places::Place, sql::literal};

/// The largest whole number that every reader of JSON keeps.
const EXACT: i64 = 1 << 53;

/// A parameter in text form; the server parses it by the type that it expects.
#[derive(Debug)]
pub(super) struct Text(pub(super) Option<String>);

impl ToSql for Text {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match &self.0 {
            None => IsNull::Yes,
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                IsNull::No
            }
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

/// The parameters as texts for placeholders of these types.
pub(super) fn params(values: &[Value], types: &[Type]) -> Result<Vec<Text>, Error> {
    if values.len() != types.len() {
        return Err(Error::Invalid(format!(
            "the statement has {} placeholders and {} parameters were given",
            types.len(),
            values.len()
        )));
    }
    let texts = values.iter().zip(types).map(|(value, ty)| text(value, ty).map(Text));
    texts.collect()
}

fn text(value: &Value, ty: &Type) -> Result<Option<String>, Error> {
    let mut base = ty;
    while let Kind::Domain(inner) = base.kind() {
        base = inner;
    }
    let text = match value {
        Value::Null => return Ok(None),
        _ if *base == Type::JSON || *base == Type::JSONB => value.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => s.clone(),
        Value::Array(items) => match base.kind() {
            Kind::Array(inner) => array(items, inner)?,
            _ => return Err(misfit(ty, "list")),
        },
        Value::Object(_) => return Err(misfit(ty, "object")),
    };
    if text.contains('\0') {
        return Err(Error::Invalid("a text of PostgreSQL cannot hold the character 0".to_owned()));
    }
    Ok(Some(text))
}

fn misfit(ty: &Type, what: &str) -> Error {
    Error::Invalid(format!("a parameter of type {ty} cannot take a JSON {what}; give it as a text"))
}

/// `{"a","b",NULL}`.
fn array(items: &[Value], ty: &Type) -> Result<String, Error> {
    let mut out = String::from("{");
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        match item {
            // A list within a list is a further dimension.
            Value::Array(inner) if *ty != Type::JSON && *ty != Type::JSONB => {
                out.push_str(&array(inner, ty)?);
            }
            item => match text(item, ty)? {
                None => out.push_str("NULL"),
                Some(text) => {
                    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
                    let _infallible = write!(out, "\"{escaped}\"");
                }
            },
        }
    }
    out.push('}');
    Ok(out)
}

/// What a result may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// What went wrong with a statement: the server's word, or ours.
pub(super) enum Trouble {
    Server(tokio_postgres::Error),
    Ours(Error),
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// Runs a statement that was prepared to tell where its rows are.
pub(super) async fn run_telling(
    client: &Client,
    statement: &Statement,
    prepared: &tokio_postgres::Statement,
    hints: &mut Hints,
) -> Result<ResultSet, Trouble> {
    let params = params(&statement.params, prepared.params())?;
    let rows = client.query_raw(prepared, params).await?;
    let mut rows = std::pin::pin!(rows);
    let mut affected = 0;
    while let Some(row) = rows.try_next().await? {
        affected += 1;
        if !hints.many {
            let (table, place): (u32, Place) = (row.try_get(0)?, row.try_get(1)?);
            hints.add(table, place);
        }
    }
    Ok(ResultSet { affected, ..ResultSet::default() })
}

/// Runs one statement. That it is one is what the extended protocol makes sure of, in which it is prepared.
pub(super) async fn run(
    client: &Client,
    statement: &Statement,
    room: &mut Room,
) -> Result<ResultSet, Trouble> {
    let prepared = client.prepare(&statement.sql).await?;
    let params = params(&statement.params, prepared.params())?;
    let types: Vec<Type> = prepared.columns().iter().map(|c| c.type_().clone()).collect();
    let columns: Vec<String> = prepared.columns().iter().map(|c| c.name().to_owned()).collect();
    if columns.is_empty() {
        let affected = client.execute_raw(&prepared, params).await?;
        return Ok(ResultSet { affected, ..ResultSet::default() });
    }
    // The driver asks for results in binary, which only it could read; the simple protocol gives texts. It
    // takes no parameters, so those travel as the arguments of a prepared statement, as literals whose type
    // the server decides.
    let (before, sql, after) = if params.is_empty() {
        (None, statement.sql.clone(), None)
    } else {
        let literals = params.iter().map(|Text(text)| text.as_deref().map_or("NULL".to_owned(), literal));
        let literals = literals.collect::<Vec<_>>().join(", ");
        let types = prepared.params().iter().map(|ty| ty.oid().to_string()).collect::<Vec<_>>().join(",");
        let names = super::sql::ask_list(
            client,
            &format!("SELECT pg_catalog.format_type(t, NULL) FROM pg_catalog.unnest('{{{types}}}'::pg_catalog.oid[]) WITH ORDINALITY u(t, i) ORDER BY i"),
        )
        .await?
        .join(", ");
        (
            Some(format!("PREPARE checkrein_statement ({names}) AS {}", statement.sql)),
            format!("EXECUTE checkrein_statement ({literals})"),
            Some("DEALLOCATE checkrein_statement"),
        )
    };
    if let Some(before) = before {
        client.batch_execute(&before).await?;
    }
    let stream = client.simple_query_raw(&sql).await?;
    let mut stream = std::pin::pin!(stream);
    let mut result = ResultSet { columns, ..ResultSet::default() };
    while let Some(message) = stream.try_next().await? {
        match message {
            SimpleQueryMessage::Row(row) => result.rows.push(row_of(&row, &types, room)?),
            SimpleQueryMessage::CommandComplete(affected) => result.affected = affected,
            _ => {}
        }
    }
    if let Some(after) = after {
        client.batch_execute(after).await?;
    }
    Ok(result)
}

fn row_of(row: &SimpleQueryRow, types: &[Type], room: &mut Room) -> Result<Vec<Value>, Trouble> {
    let mut cells = Vec::with_capacity(types.len());
    let mut bytes = 0_u64;
    for (i, ty) in types.iter().enumerate() {
        let text = row.try_get(i)?;
        bytes = bytes.saturating_add(text.map_or(4, str::len) as u64);
        cells.push(text.map_or(Value::Null, |text| value(text, ty)));
    }
    room.rows = room.rows.checked_sub(1).ok_or_else(|| too_large("rows"))?;
    room.bytes = room.bytes.checked_sub(bytes).ok_or_else(|| too_large("bytes"))?;
    Ok(cells)
}

fn too_large(what: &str) -> Error {
    Error::TooLarge(format!(
        "it returns more {what} than this target allows; ask for less, or raise the target's limits.result_{what}"
    ))
}

/// A text of the server as JSON. What a reader of JSON would round, or JSON cannot say, stays a text.
fn value(text: &str, ty: &Type) -> Value {
    let own = || Value::String(text.to_owned());
    match *ty {
        Type::BOOL => Value::Bool(text == "t"),
        Type::INT2 | Type::INT4 | Type::INT8 => match text.parse::<i64>() {
            Ok(n) if (-EXACT..=EXACT).contains(&n) => n.into(),
            _ => own(),
        },
        Type::FLOAT4 | Type::FLOAT8 => {
            text.parse().ok().and_then(serde_json::Number::from_f64).map_or_else(own, Value::Number)
        }
        Type::JSON | Type::JSONB => serde_json::from_str(text).unwrap_or_else(|_| own()),
        _ => own(),
    }
}
