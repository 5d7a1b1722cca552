//! Which records an action may touch: found before it runs, and compared afterwards.

use super::{
    connect::Session,
    schema::{Table, get},
    value::{Image, encode},
    walk::Watch,
};
use crate::{Error, How};
use mysql_async::{Params, Row, Value, prelude::Queryable as _};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Records that are asked for at once. Statements are made for these numbers only, so that the server keeps
/// few of them prepared; what is missing is filled up with the last key.
const CHUNKS: [usize; 3] = [1, 16, 256];
/// The most that one statement asks for.
pub(super) const CHUNK: usize = 256;
/// Bytes of keys that one action may have. About two million records.
const MOST_KEY_BYTES: usize = 128 << 20;
/// Records of a table that is compared as a whole, because what changes in it cannot be foreseen.
const MOST_WATCHED: usize = 50_000;

/// What may be touched of one table.
pub(super) struct Touched {
    pub(super) table: Arc<Table>,
    /// Keys, and how the record would be affected.
    pub(super) keys: BTreeMap<Image, How>,
}

/// Every record that an action may touch.
#[derive(Default)]
pub(super) struct Footprint {
    pub(super) tables: BTreeMap<(String, String), Touched>,
    bytes: usize,
}

impl Footprint {
    /// Adds a record. Whether it is new. A deletion outweighs a change.
    pub(super) fn add(&mut self, table: &Arc<Table>, key: Image, how: How) -> Result<bool, Error> {
        let touched = self
            .tables
            .entry(table.id())
            .or_insert_with(|| Touched { table: Arc::clone(table), keys: BTreeMap::new() });
        if let Some(known) = touched.keys.get_mut(&key) {
            let ends = |h: How| matches!(h, How::Delete | How::Cascade);
            if ends(how) && !ends(*known) {
                *known = how;
            }
            return Ok(false);
        }
        self.bytes += key.len() + 48;
        if self.bytes > MOST_KEY_BYTES {
            return Err(Error::TooLarge(
                "the action touches more records than can be followed at once (about two million); narrow it"
                    .to_owned(),
            ));
        }
        touched.keys.insert(key, how);
        Ok(true)
    }
}

/// Reads records by their keys, at most [`CHUNK`] of them. `lock` makes it see what is committed or the
/// transaction's own, and keeps others from changing it.
pub(super) async fn fetch<K: AsRef<[u8]>>(
    session: &mut Session,
    table: &Table,
    keys: &[K],
    lock: bool,
) -> Result<Vec<Image>, Error> {
    let Some(last) = keys.last() else { return Ok(Vec::new()) };
    let size = CHUNKS.into_iter().find(|c| *c >= keys.len()).unwrap_or(keys.len());
    let mut params: Vec<Value> = Vec::with_capacity(size * table.key.len());
    for key in keys.iter().chain(std::iter::repeat_n(last, size - keys.len())) {
        table.key_params(key.as_ref(), &mut params)?;
    }
    let sql = format!(
        "SELECT {} FROM {} AS t WHERE {}{}",
        table.list("t"),
        table.sql(),
        table.with_keys("t", size),
        if lock { " FOR UPDATE" } else { "" }
    );
    let rows = session.rows(&sql, Params::Positional(params)).await?;
    rows.into_iter().map(row_image).collect()
}

/// A row as bytes.
pub(super) fn row_image(row: Row) -> Result<Image, Error> {
    Ok(encode(row.unwrap().iter()))
}

/// The keys that a query returns, one by one.
pub(super) async fn keys_of(
    session: &mut Session,
    sql: &str,
    params: Vec<Value>,
    mut each: impl FnMut(Image) -> Result<(), Error>,
) -> Result<(), Error> {
    let params = if params.is_empty() { Params::Empty } else { Params::Positional(params) };
    let mut result = session.conn.exec_iter(sql, params).await.map_err(super::connect::meaning)?;
    let mut failed = None;
    while let Some(row) = result.next().await.map_err(super::connect::meaning)? {
        if let Err(error) = row_image(row).and_then(&mut each) {
            failed = Some(error);
            break;
        }
    }
    result.drop_result().await.map_err(super::connect::meaning)?;
    failed.map_or(Ok(()), Err)
}

/// A whole table, as one transaction sees it: the key of each record, with a hash of it; without a key, each
/// content with how often it is there.
type Sight = HashMap<Image, (blake3::Hash, u64)>;

/// A first look at what is watched.
pub(super) struct Seen {
    rows: Sight,
    /// The condition that only records have which came later, where records are only added.
    later: Option<String>,
}

/// Looks at a table before something happens to it; see [`look_again`].
pub(super) async fn look(session: &mut Session, watch: &Watch) -> Result<Seen, Error> {
    let table = &watch.table;
    let auto = table.key_columns().find(|c| c.auto).filter(|_| watch.appended);
    let Some(auto) = auto else { return Ok(Seen { rows: sight(session, table, "").await?, later: None }) };
    // AUTO_INCREMENT gives numbers above all that are there.
    let name = super::schema::quote(&auto.name);
    let sql = format!("SELECT CAST(MAX({name}) AS CHAR) FROM {}", table.sql());
    let most: Option<Option<String>> = session.first(&sql, ()).await?;
    let later = most.flatten().map_or(String::new(), |most| format!(" WHERE t.{name} > {most}"));
    Ok(Seen { rows: Sight::new(), later: Some(later) })
}

/// The keys of the records that have changed since.
pub(super) async fn look_again(
    session: &mut Session,
    watch: &Watch,
    seen: &Seen,
) -> Result<BTreeSet<Image>, Error> {
    let now = sight(session, &watch.table, seen.later.as_deref().unwrap_or_default()).await?;
    Ok(differences(&seen.rows, &now).cloned().collect())
}

/// Looks at a whole table, or at what has this condition.
async fn sight(session: &mut Session, table: &Table, condition: &str) -> Result<Sight, Error> {
    let sql =
        format!("SELECT {} FROM {} AS t{condition} LIMIT {}", table.list("t"), table.sql(), MOST_WATCHED + 1);
    let mut seen = Sight::new();
    let mut rows = 0_usize;
    keys_of(session, &sql, Vec::new(), |image| {
        rows += 1;
        let key = super::value::pick(&image, &table.key)?;
        let entry = seen.entry(key).or_insert_with(|| (blake3::hash(&image), 0));
        entry.1 += 1;
        Ok(())
    })
    .await?;
    if rows > MOST_WATCHED {
        return Err(Error::Unmeasurable(format!(
            "what this changes in {} cannot be foreseen (a trigger writes it, or its key changes, or it has none), and it has more than {MOST_WATCHED} records, too many to compare all of them; change it by its key, or have a person do it",
            table.resource
        )));
    }
    Ok(seen)
}

/// The keys of records in which two sights differ.
fn differences<'a>(before: &'a Sight, after: &'a Sight) -> impl Iterator<Item = &'a Image> {
    let gone = before.iter().filter(|(key, was)| after.get(*key) != Some(was)).map(|(key, _)| key);
    gone.chain(after.keys().filter(|key| !before.contains_key(*key)))
}

/// The first column of the first row as a number; 0 when there is none.
pub(super) fn number(rows: &[Row]) -> Result<u64, Error> {
    rows.first().map_or(Ok(0), |row| get(row, 0))
}
