//! Places of rows (`ctid`), in lists of many: sent and received as binary arrays, which cost next to nothing.

use super::values::Trouble;
use crate::Error;
use bytes::{BufMut as _, BytesMut};
use std::fmt::Write as _;
use tokio_postgres::{
    Client,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};

type Bad = Box<dyn std::error::Error + Sync + Send>;

/// A place in a table: block, and number within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u32, u16);

impl Place {
    /// Reads it as the server writes it: `(7,3)`.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.strip_prefix('(')?.strip_suffix(')')?;
        let (block, number) = text.split_once(',')?;
        Some(Self(block.parse().ok()?, number.parse().ok()?))
    }
}

impl<'a> FromSql<'a> for Place {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Bad> {
        place(raw).ok_or_else(|| "a place has four bytes and two".into())
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TID
    }
}

fn place(raw: &[u8]) -> Option<Place> {
    let (block, number) = raw.split_first_chunk::<4>()?;
    Some(Place(u32::from_be_bytes(*block), u16::from_be_bytes(number.try_into().ok()?)))
}

/// `tid[]`.
#[derive(Debug)]
struct Array(Vec<Place>);

impl<'a> FromSql<'a> for Array {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Bad> {
        // Dimensions, whether there are nulls, type; then for the one dimension its length and beginning.
        let places = raw.get(20..).unwrap_or_default();
        // Each with its length before it.
        let places: Option<Vec<_>> = places.chunks(10).map(|one| place(one.get(4..)?)).collect();
        Ok(Self(places.ok_or("a list of places")?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TID_ARRAY
    }
}

impl ToSql for Array {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Bad> {
        out.reserve(20 + self.0.len() * 10);
        out.put_i32(1);
        out.put_i32(0);
        out.put_u32(Type::TID.oid());
        out.put_i32(i32::try_from(self.0.len())?);
        out.put_i32(1);
        for Place(block, number) in &self.0 {
            out.put_i32(6);
            out.put_u32(*block);
            out.put_u16(*number);
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TID_ARRAY
    }

    to_sql_checked!();
}

/// The places that `select` finds: it must return one `array_agg`.
pub(super) async fn places(client: &Client, select: &str) -> Result<Vec<Place>, Trouble> {
    let rows = client.query_typed(select, &[]).await?;
    let found: Option<Array> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(found.map(|found| found.0).unwrap_or_default())
}

/// The same; `$1` in it is a list of places.
pub(super) async fn places_of(client: &Client, select: &str, given: &[Place]) -> Result<Vec<Place>, Trouble> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let given = Array(given.to_vec());
    let rows = client.query_typed(select, &[(&given, Type::TID_ARRAY)]).await?;
    let found: Option<Array> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(found.map(|found| found.0).unwrap_or_default())
}

/// That a row is at one of these places, as SQL.
pub(super) fn at(places: &[Place]) -> Result<String, Error> {
    let mut list = String::with_capacity(places.len() * 14 + 32);
    list.push_str("ctid = ANY ('{");
    for (i, Place(block, number)) in places.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(list, "{comma}\"({block},{number})\"").map_err(|e| Error::Internal(e.to_string()))?;
    }
    list.push_str("}'::pg_catalog.tid[])");
    Ok(list)
}
