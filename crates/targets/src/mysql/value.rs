//! Values: bit for bit between the server and a snapshot, and as JSON for people.
//!
//! A row is read in the binary protocol, each column through an expression that loses nothing whatever the
//! session's character set and time zone are ([`Column::read`]), and kept as a [`crate::RowWriter`] row. Two
//! images are the same when their bytes are.

use super::schema::{Column, INEXACT, Sort};
use crate::{Cell, Error, RowReader, RowWriter};
use mysql_async::Value;
use serde_json::{Map, Value as Json, json};

/// The bytes of one row, or of the values of its key.
pub(super) type Image = Vec<u8>;

const NULL: u8 = 0;
const BYTES: u8 = 1;
const INT: u8 = 2;
const UINT: u8 = 3;
const FLOAT: u8 = 4;
const DOUBLE: u8 = 5;
const DATE: u8 = 6;
const TIME: u8 = 7;
/// The largest whole number that every JSON reader keeps.
const EXACT: u64 = 1 << 53;

/// Values as bytes.
pub(super) fn encode<'a>(values: impl Iterator<Item = &'a Value> + Clone) -> Image {
    let (mut cells, mut bytes) = (0, 2);
    for value in values.clone() {
        cells += 1;
        // The tag, the length, and what numbers and dates take at most.
        bytes += if let Value::Bytes(b) = value { 6 + b.len() } else { 14 };
    }
    let mut row = RowWriter::with_capacity(bytes);
    row.row(cells);
    for value in values {
        match value {
            Value::NULL => row.cell(NULL, &[]),
            Value::Bytes(b) => row.cell(BYTES, b),
            Value::Int(n) => row.cell(INT, &n.to_le_bytes()),
            Value::UInt(n) => row.cell(UINT, &n.to_le_bytes()),
            Value::Float(n) => row.cell(FLOAT, &n.to_le_bytes()),
            Value::Double(n) => row.cell(DOUBLE, &n.to_le_bytes()),
            Value::Date(y, mo, d, h, mi, s, us) => {
                let [y0, y1] = y.to_le_bytes();
                let [u0, u1, u2, u3] = us.to_le_bytes();
                row.cell(DATE, &[y0, y1, *mo, *d, *h, *mi, *s, u0, u1, u2, u3]);
            }
            Value::Time(negative, d, h, mi, s, us) => {
                let [d0, d1, d2, d3] = d.to_le_bytes();
                let [u0, u1, u2, u3] = us.to_le_bytes();
                row.cell(TIME, &[u8::from(*negative), d0, d1, d2, d3, *h, *mi, *s, u0, u1, u2, u3]);
            }
        }
    }
    row.take().1
}

/// Cells as bytes again.
pub(super) fn image(cells: &[Cell<'_>]) -> Image {
    let mut row = RowWriter::default();
    row.row(cells.len());
    for cell in cells {
        row.cell(cell.tag, cell.bytes);
    }
    row.take().1
}

/// The cells of `image` at `places`, as bytes.
pub(super) fn pick(image_: &[u8], places: &[usize]) -> Result<Image, Error> {
    let row = cells(image_)?;
    let picked: Option<Vec<_>> = places.iter().map(|i| row.get(*i).copied()).collect();
    Ok(image(&picked.ok_or_else(cut)?))
}

/// The cells of one row.
pub(super) fn cells(image: &[u8]) -> Result<Vec<Cell<'_>>, Error> {
    RowReader::new(image).next().unwrap_or_else(|| Err(cut()))
}

/// The values of one row.
pub(super) fn decode(image: &[u8]) -> Result<Vec<Value>, Error> {
    cells(image)?.iter().map(|c| value(*c).ok_or_else(cut)).collect()
}

fn cut() -> Error {
    Error::Snapshot("a row in the snapshot makes no sense".to_owned())
}

fn value(cell: Cell<'_>) -> Option<Value> {
    Some(match (cell.tag, cell.bytes) {
        (NULL, []) => Value::NULL,
        (BYTES, b) => Value::Bytes(b.to_vec()),
        (INT, b) => Value::Int(i64::from_le_bytes(b.try_into().ok()?)),
        (UINT, b) => Value::UInt(u64::from_le_bytes(b.try_into().ok()?)),
        (FLOAT, b) => Value::Float(f32::from_le_bytes(b.try_into().ok()?)),
        (DOUBLE, b) => Value::Double(f64::from_le_bytes(b.try_into().ok()?)),
        (DATE, &[y0, y1, mo, d, h, mi, s, u0, u1, u2, u3]) => {
            Value::Date(u16::from_le_bytes([y0, y1]), mo, d, h, mi, s, u32::from_le_bytes([u0, u1, u2, u3]))
        }
        (TIME, &[n, d0, d1, d2, d3, h, mi, s, u0, u1, u2, u3]) => {
            let (days, micros) = (u32::from_le_bytes([d0, d1, d2, d3]), u32::from_le_bytes([u0, u1, u2, u3]));
            Value::Time(n != 0, days, h, mi, s, micros)
        }
        _ => return None,
    })
}

/// A parameter of an agent's statement.
pub(super) fn param(value: &Json) -> Value {
    match value {
        Json::Null => Value::NULL,
        Json::Bool(b) => Value::Int(i64::from(*b)),
        Json::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(n), _, _) => Value::Int(n),
            (_, Some(n), _) => Value::UInt(n),
            (_, _, Some(n)) => Value::Double(n),
            _ => Value::Bytes(n.to_string().into_bytes()),
        },
        Json::String(s) => Value::Bytes(s.clone().into_bytes()),
        Json::Array(_) | Json::Object(_) => Value::Bytes(value.to_string().into_bytes()),
    }
}

/// A value that the server returned to an agent. `binary`: its bytes are no text.
pub(super) fn returned(value: Value, binary: bool) -> Json {
    match value {
        Value::NULL => Json::Null,
        Value::Bytes(b) if binary => hex(&b).into(),
        Value::Bytes(b) => match String::from_utf8(b) {
            Ok(text) => text.into(),
            Err(e) => hex(e.as_bytes()).into(),
        },
        Value::Int(n) if n.unsigned_abs() > EXACT => n.to_string().into(),
        Value::Int(n) => n.into(),
        Value::UInt(n) if n > EXACT => n.to_string().into(),
        Value::UInt(n) => n.into(),
        // The shortest text that reads back as the same number, rather than its 32 bits seen as 64.
        Value::Float(n) => n.to_string().parse::<f64>().map_or(Json::Null, |n| json!(n)),
        Value::Double(n) => json!(n),
        Value::Date(y, mo, d, h, mi, s, us) => {
            let mut text = format!("{y:04}-{mo:02}-{d:02}");
            if (h, mi, s, us) != (0, 0, 0, 0) {
                text.push_str(&format!(" {h:02}:{mi:02}:{s:02}{}", fraction(us)));
            }
            text.into()
        }
        Value::Time(negative, d, h, mi, s, us) => {
            let hours = u64::from(d) * 24 + u64::from(h);
            let sign = if negative { "-" } else { "" };
            format!("{sign}{hours:02}:{mi:02}:{s:02}{}", fraction(us)).into()
        }
    }
}

fn fraction(micros: u32) -> String {
    if micros == 0 { String::new() } else { format!(".{micros:06}") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, b| text + &format!("{b:02x}"))
}

/// A row of a snapshot as JSON, for people.
pub(super) fn record(columns: &[&Column], image: &[u8]) -> Result<Map<String, Json>, Error> {
    let values = decode(image)?;
    if values.len() != columns.len() {
        return Err(cut());
    }
    Ok(columns.iter().zip(values).map(|(c, v)| (c.name.clone(), shown(c, v))).collect())
}

fn shown(column: &Column, value: Value) -> Json {
    match (column.sort, value) {
        (Sort::Text, Value::Bytes(b)) => text(column.charset.as_deref(), &b).into(),
        (Sort::Timestamp, value) => match timestamp(&value) {
            Some(text) => (text + "Z").into(),
            None => returned(value, false),
        },
        (Sort::Json, Value::Bytes(mut b)) => {
            b.pop_if(|last| *last == INEXACT);
            returned(Value::Bytes(b), false)
        }
        (Sort::Bytes | Sort::Net | Sort::Uuid, Value::Bytes(b)) => hex(&b).into(),
        (Sort::Enum, value) => match &value {
            Value::Int(n) => member(column, u64::try_from(*n).unwrap_or(0)),
            Value::UInt(n) => member(column, *n),
            _ => returned(value, false),
        },
        (_, value) => returned(value, false),
    }
}

/// A member of an ENUM by its number, which is what is kept.
fn member(column: &Column, number: u64) -> Json {
    let list = column.declared.strip_prefix("enum(").and_then(|l| l.strip_suffix(')'));
    let name = list.filter(|_| number > 0).and_then(|list| {
        let index = usize::try_from(number - 1).ok()?;
        let inner = list.strip_prefix('\'')?.strip_suffix('\'')?;
        inner.split("','").nth(index).map(|n| n.replace("''", "'"))
    });
    name.map_or_else(|| json!(number), Json::from)
}

fn text(charset: Option<&str>, bytes: &[u8]) -> String {
    match charset {
        Some("latin1") => bytes.iter().map(|b| char::from(*b)).collect(),
        Some("ucs2" | "utf16") => {
            let units = bytes.chunks_exact(2).filter_map(|c| Some(u16::from_be_bytes(c.try_into().ok()?)));
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        _ => std::str::from_utf8(bytes).map_or_else(|_| hex(bytes), str::to_owned),
    }
}

/// Seconds since 1970 as a date in UTC.
fn moment(seconds: &str) -> Option<String> {
    let (whole, rest) = seconds.split_once('.').unwrap_or((seconds, ""));
    let whole: i64 = whole.parse().ok()?;
    if whole == 0 {
        return Some("0000-00-00 00:00:00".to_owned());
    }
    let (days, second) = (whole.div_euclid(86_400), whole.rem_euclid(86_400));
    // Days since 0000-03-01, so that leap days come last.
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let rest = if rest.is_empty() { String::new() } else { format!(".{rest}") };
    let (h, m, s) = (second / 3_600, second / 60 % 60, second % 60);
    Some(format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}{rest}"))
}

/// A TIMESTAMP, which is kept in seconds since 1970, as the text that it is written as, in UTC.
pub(super) fn timestamp(seconds: &Value) -> Option<String> {
    match seconds {
        Value::Int(n) => moment(&n.to_string()),
        Value::UInt(n) => moment(&n.to_string()),
        Value::Bytes(b) => moment(std::str::from_utf8(b).ok()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back_bit_for_bit() {
        let values = vec![
            Value::NULL,
            Value::Bytes(vec![]),
            Value::Bytes(vec![0, 255, 7]),
            Value::Int(i64::MIN),
            Value::UInt(u64::MAX),
            Value::Float(-0.0),
            Value::Double(f64::MIN_POSITIVE),
            Value::Date(0, 0, 0, 0, 0, 0, 0),
            Value::Date(9999, 12, 31, 23, 59, 59, 999_999),
            Value::Time(true, 34, 22, 59, 59, 999_999),
        ];
        let bytes = encode(values.iter());
        assert_eq!(format!("{:?}", decode(&bytes).unwrap()), format!("{values:?}"));
        assert_eq!(encode(decode(&bytes).unwrap().iter()), bytes);
        assert_eq!(decode(&pick(&bytes, &[3, 0]).unwrap()).unwrap(), vec![Value::Int(i64::MIN), Value::NULL]);
    }

    #[test]
    fn people_read_dates() {
        assert_eq!(moment("1704070923.123").unwrap(), "2024-01-01 01:02:03.123");
        assert_eq!(moment("951782400").unwrap(), "2000-02-29 00:00:00");
        assert_eq!(moment("0").unwrap(), "0000-00-00 00:00:00");
        assert_eq!(returned(Value::UInt(u64::MAX), false), json!("18446744073709551615"));
        assert_eq!(returned(Value::Time(true, 1, 1, 2, 3, 0), false), json!("-25:02:03"));
    }
}
