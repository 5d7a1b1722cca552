//! Values: as bytes in a snapshot, as parameters and as JSON.
//!
//! The tag of a cell is its storage class; whole numbers and reals are their eight bytes, little-endian,
//! so that every bit comes back (−0.0, infinities, text that is not UTF-8).

use super::connect::Fault;
use crate::{Cell, Error, RowReader, RowWriter};
use rusqlite::{
    Row, Statement, ToSql,
    types::{ToSqlOutput, ValueRef},
};
use serde_json::Value;
use std::fmt::Write as _;

const NULL: u8 = 0;
const INTEGER: u8 = 1;
const REAL: u8 = 2;
const TEXT: u8 = 3;
const BLOB: u8 = 4;

/// JSON readers keep whole numbers up to here.
const EXACT: u64 = 1 << 53;

/// `cells` columns of a row, from `first` on, as bytes.
pub(super) fn encode(row: &Row<'_>, first: usize, cells: usize) -> rusqlite::Result<Vec<u8>> {
    let mut out = RowWriter::with_capacity(8 + cells * 16);
    encode_into(row, first, cells, &mut out)?;
    Ok(out.take().1)
}

/// The same, behind what is in `out` already.
pub(super) fn encode_into(
    row: &Row<'_>,
    first: usize,
    cells: usize,
    out: &mut RowWriter,
) -> rusqlite::Result<()> {
    out.row(cells);
    for index in first..first + cells {
        match row.get_ref(index)? {
            ValueRef::Null => out.cell(NULL, &[]),
            ValueRef::Integer(n) => out.cell(INTEGER, &n.to_le_bytes()),
            ValueRef::Real(r) => out.cell(REAL, &r.to_bits().to_le_bytes()),
            ValueRef::Text(t) => out.cell(TEXT, t),
            ValueRef::Blob(b) => out.cell(BLOB, b),
        }
    }
    Ok(())
}

/// Some cells as one row of bytes.
pub(super) fn join<'a>(cells: impl ExactSizeIterator<Item = Cell<'a>>) -> Vec<u8> {
    let mut out = RowWriter::default();
    out.row(cells.len());
    cells.for_each(|cell| out.cell(cell.tag, cell.bytes));
    out.take().1
}

/// The cells of one row.
pub(super) fn cells(row: &[u8]) -> Result<Vec<Cell<'_>>, Error> {
    RowReader::new(row).next().unwrap_or_else(|| Err(Error::Snapshot("a row is missing".to_owned())))
}

/// The value of a cell.
pub(super) fn value<'a>(cell: &Cell<'a>) -> Result<ValueRef<'a>, Error> {
    let eight = || {
        <[u8; 8]>::try_from(cell.bytes)
            .map_err(|_| Error::Snapshot("a number in the snapshot has the wrong length".to_owned()))
    };
    Ok(match cell.tag {
        NULL => ValueRef::Null,
        INTEGER => ValueRef::Integer(i64::from_le_bytes(eight()?)),
        REAL => ValueRef::Real(f64::from_bits(u64::from_le_bytes(eight()?))),
        TEXT => ValueRef::Text(cell.bytes),
        BLOB => ValueRef::Blob(cell.bytes),
        tag => return Err(Error::Snapshot(format!("a value in the snapshot has the unknown class {tag}"))),
    })
}

/// A borrowed value as a parameter.
pub(super) struct Param<'a>(pub(super) ValueRef<'a>);

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

/// Binds a cell to a placeholder.
pub(super) fn bind_cell(statement: &mut Statement<'_>, index: usize, cell: &Cell<'_>) -> Result<(), Fault> {
    Ok(statement.raw_bind_parameter(index, Param(value(cell)?))?)
}

/// For people and programs: blobs, and texts that are not UTF-8, are written `X'00FF'`; whole numbers
/// beyond 2⁵³ and infinities are texts.
pub(super) fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) if n.unsigned_abs() <= EXACT => n.into(),
        ValueRef::Integer(n) => n.to_string().into(),
        ValueRef::Real(r) if r.is_finite() => r.into(),
        ValueRef::Real(r) => if r > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        ValueRef::Text(t) => std::str::from_utf8(t).map_or_else(|_| hex(t).into(), Into::into),
        ValueRef::Blob(b) => hex(b).into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2 + 3);
    text.push_str("X'");
    for byte in bytes {
        // Writing into a text cannot fail.
        let _ok = write!(text, "{byte:02X}");
    }
    text.push('\'');
    text
}

/// Binds what was sent along. `?` and `?1` count, and so does `$1` (which SQLite itself would take for a
/// name); there are no other names, because parameters are a list.
pub(super) fn bind(statement: &mut Statement<'_>, params: &[Value], all: bool) -> Result<(), Fault> {
    let mut used = 0;
    for index in 1..=statement.parameter_count() {
        let number = match statement.parameter_name(index) {
            None => index,
            Some(name) => {
                name.strip_prefix(['?', '$']).and_then(|n| n.parse().ok()).filter(|n| *n > 0).ok_or_else(
                    || {
                        Error::Invalid(format!(
                            "the placeholder {name} has a name; parameters are a list: write ?1, ?2, …"
                        ))
                    },
                )?
            }
        };
        let value = params.get(number - 1).ok_or_else(|| {
            Error::Invalid(format!("the statement wants parameter {number}, but {} were sent", params.len()))
        })?;
        statement.raw_bind_parameter(index, Json(value, number).to_sql_output()?)?;
        used = used.max(number);
    }
    if all && used < params.len() {
        return Err(Error::Invalid(format!(
            "{} parameters were sent, but the statement uses {used}",
            params.len()
        ))
        .into());
    }
    Ok(())
}

struct Json<'a>(&'a Value, usize);

impl<'a> Json<'a> {
    fn to_sql_output(&self) -> Result<Param<'a>, Error> {
        Ok(Param(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Bool(b) => ValueRef::Integer(i64::from(*b)),
            Value::String(s) => ValueRef::Text(s.as_bytes()),
            Value::Number(n) => match (n.as_i64(), n.as_f64()) {
                (Some(n), _) => ValueRef::Integer(n),
                // Beyond 64 bits SQLite itself would take it for a real, and round it.
                (None, Some(r)) if n.is_f64() => ValueRef::Real(r),
                _ => return Err(self.refused("a whole number beyond 64 bits")),
            },
            Value::Array(_) => return Err(self.refused("a list")),
            Value::Object(_) => return Err(self.refused("an object")),
        }))
    }

    fn refused(&self, what: &str) -> Error {
        Error::Invalid(format!(
            "parameter {} is {what}, which SQLite has no type for; send it as a text",
            self.1
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn every_bit_comes_back() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t (a)").unwrap();
        let nan = f64::from_bits(0x7ff8_0000_0000_0001);
        let values = [
            ValueRef::Null,
            ValueRef::Integer(i64::MIN),
            ValueRef::Integer(i64::MAX),
            ValueRef::Real(-0.0),
            ValueRef::Real(f64::INFINITY),
            ValueRef::Real(5e-324),
            ValueRef::Real(nan),
            ValueRef::Text(b""),
            ValueRef::Text(b"a\0\xff\xc0"),
            ValueRef::Blob(b""),
            ValueRef::Blob(b"\0\xff"),
        ];
        for value in values {
            db.execute("INSERT INTO t VALUES (?1)", [Param(value)]).unwrap();
        }
        let read = |db: &Connection| -> Vec<Vec<u8>> {
            let mut rows = db.prepare("SELECT a FROM t ORDER BY rowid").unwrap();
            rows.query_map([], |row| encode(row, 0, 1)).unwrap().map(Result::unwrap).collect()
        };
        let before = read(&db);
        assert_eq!(before[6], before[0], "SQLite has no NaN: it is NULL");
        assert_eq!(value(&cells(&before[3]).unwrap()[0]).unwrap(), ValueRef::Real(-0.0));
        db.execute_batch("DELETE FROM t").unwrap();
        for row in &before {
            let mut insert = db.prepare("INSERT INTO t VALUES (?1)").unwrap();
            bind_cell(&mut insert, 1, &cells(row).unwrap()[0]).unwrap_or_else(|_| panic!());
            insert.raw_execute().unwrap();
        }
        assert_eq!(read(&db), before);
    }

    #[test]
    fn json_does_not_round() {
        assert_eq!(json(ValueRef::Integer(1 << 53)), Value::from(1_u64 << 53));
        assert_eq!(json(ValueRef::Integer((1 << 53) + 1)), Value::from("9007199254740993"));
        assert_eq!(json(ValueRef::Text(b"\xff")), Value::from("X'FF'"));
        assert_eq!(json(ValueRef::Real(f64::NEG_INFINITY)), Value::from("-Infinity"));
    }
}
