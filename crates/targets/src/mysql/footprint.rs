//! Which records an action may touch: found before it runs, and compared afterwards.

use super::{
    compare::{Outside, Sight},
    connect::{Session, Stop},
    schema::{Table, get},
    value::{Image, encode},
    walk::Watch,
};
use crate::{Error, How, snapshot::BLOCK_BYTES};
use indexmap::IndexMap;
use mysql_async::{BinaryProtocol, Params, QueryResult, Row, Value, prelude::Queryable as _};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Records that are asked for at once. Statements are made for these numbers only, so that the server keeps
/// few of them prepared; what is missing is filled up with the last key.
const CHUNKS: [usize; 3] = [1, 16, 256];
/// The most that one statement asks for by their keys.
pub(super) const CHUNK: usize = 256;
/// Bytes of keys that one action may have. About two million records.
const MOST_KEY_BYTES: usize = 128 << 20;
/// Records of a table that is compared as a whole, because what changes in it cannot be foreseen.
const MOST_WATCHED: usize = 50_000;
/// Records that triggers may add to one table for one statement.
const MOST_ADDED: usize = 1_000_000;

/// Bytes of before-images that are kept until the capture; what does not fit is read again, from outside.
const MOST_ROW_BYTES: usize = 32 << 20;

/// What may be touched of one table.
pub(super) struct Touched {
    pub(super) table: Arc<Table>,
    /// By key, in the order in which they were found, which mostly is the one in which they lie.
    pub(super) records: IndexMap<Image, Trace, foldhash::fast::RandomState>,
}

impl Touched {
    /// The records, about a megabyte at a time.
    pub(super) fn parts(&self) -> impl Iterator<Item = Vec<(&Image, &Trace)>> {
        let mut rest = self.records.iter().peekable();
        std::iter::from_fn(move || {
            rest.peek()?;
            let (mut part, mut bytes) = (Vec::new(), 0_usize);
            while bytes < BLOCK_BYTES
                && let Some((key, trace)) = rest.next()
            {
                // Of what is not known it is said that it is rather large.
                bytes += key.len()
                    + if let Before::There(row) = &trace.before { row.len() } else { BLOCK_BYTES / CHUNK };
                part.push((key, trace));
            }
            Some(part)
        })
    }
}

/// What is known of a record that may be touched.
pub(super) struct Trace {
    /// How it would be affected.
    pub(super) how: How,
    pub(super) before: Before,
}

/// A record before the first statement of a transaction.
pub(super) enum Before {
    /// An observer is asked, who does not see what the transaction has done.
    Unknown,
    Absent,
    There(Image),
}

/// Every record that an action may touch.
#[derive(Default)]
pub(super) struct Footprint {
    pub(super) tables: BTreeMap<(String, String), Touched>,
    /// How often a record was found that had been found before, so that it may be changed once more.
    pub(super) again: u64,
    /// How many were found as what stood under the same key, spelled in another way.
    pub(super) spelled: u64,
    key_bytes: usize,
    row_bytes: usize,
}

impl Footprint {
    /// Adds a record. Whether it is new. A deletion outweighs a change.
    pub(super) fn add(
        &mut self,
        table: &Arc<Table>,
        key: Image,
        how: How,
        mut before: Before,
    ) -> Result<bool, Error> {
        let touched = self
            .tables
            .entry(table.id())
            .or_insert_with(|| Touched { table: Arc::clone(table), records: IndexMap::default() });
        if let Some(known) = touched.records.get_mut(&key) {
            let ends = |h: How| matches!(h, How::Delete | How::Cascade);
            if ends(how) && !ends(known.how) {
                known.how = how;
            }
            self.again += 1;
            return Ok(false);
        }
        self.key_bytes += key.len() + 64;
        if self.key_bytes > MOST_KEY_BYTES {
            return Err(Error::TooLarge(
                "the action touches more records than can be followed at once (about two million); narrow it"
                    .to_owned(),
            ));
        }
        if let Before::There(row) = &before {
            self.row_bytes += row.len();
            if self.row_bytes > MOST_ROW_BYTES {
                before = Before::Unknown;
            }
        }
        touched.records.insert(key, Trace { how, before });
        Ok(true)
    }
}

/// Records by their keys, and how often each is there: 1 where there is a key.
pub(super) type Rows = IndexMap<Image, (Image, u64), foldhash::fast::RandomState>;

/// Reads records by their keys, which are all different. `lock` makes it see what is committed or the
/// transaction's own, and keeps others from changing it; without it, more may be answered than was asked for.
pub(super) async fn fetch<K: AsRef<[u8]>>(
    session: &mut Session,
    table: &Table,
    keys: &[K],
    lock: bool,
) -> Result<Rows, Error> {
    let mut rows = Rows::with_capacity_and_hasher(keys.len(), foldhash::fast::RandomState::default());
    let select = format!("SELECT {} FROM {} AS t WHERE ", table.list("t"), table.sql());
    let lock_words = if lock { " FOR UPDATE" } else { "" };
    let mut each = |key, row| {
        rows.entry(key).or_insert((row, 0)).1 += 1;
        Ok(())
    };
    // One look along the table costs the server a fifth of what it costs to look for each key, and less
    // still with locks. Only what was asked for is locked.
    if let Some((column, first, last)) = table.span(keys, if lock { 1 } else { 2 })? {
        let sql = format!("{select}{} BETWEEN ? AND ?{lock_words}", column.compared("t"));
        records_of(session, &sql, vec![first, last], table, each).await?;
        return Ok(rows);
    }
    for part in keys.chunks(CHUNK) {
        let Some(last) = part.last() else { continue };
        let size = CHUNKS.into_iter().find(|c| *c >= part.len()).unwrap_or(part.len());
        let mut params: Vec<Value> = Vec::with_capacity(size * table.key.len());
        for key in part.iter().chain(std::iter::repeat_n(last, size - part.len())) {
            table.key_params(key.as_ref(), &mut params)?;
        }
        let sql = format!("{select}{}{lock_words}", table.with_keys("t", size));
        records_of(session, &sql, params, table, &mut each).await?;
    }
    Ok(rows)
}

/// The keys that a query returns, one by one.
pub(super) async fn keys_of(
    session: &mut Session,
    sql: &str,
    params: Vec<Value>,
    mut each: impl FnMut(Image) -> Result<(), Error>,
) -> Result<(), Error> {
    values_of(session, sql, params, |values| each(encode(values.iter()))).await
}

/// The records that a query returns, one by one, by all columns of their table: the key, and all of it.
pub(super) async fn records_of(
    session: &mut Session,
    sql: &str,
    params: Vec<Value>,
    table: &Table,
    mut each: impl FnMut(Image, Image) -> Result<(), Error>,
) -> Result<(), Error> {
    values_of(session, sql, params, |values| each(table.key_of(&values), encode(values.iter()))).await
}

async fn values_of(
    session: &mut Session,
    sql: &str,
    params: Vec<Value>,
    mut each: impl FnMut(Vec<Value>) -> Result<(), Error>,
) -> Result<(), Error> {
    let stop = Stop::of(session);
    let read = async {
        let mut reading = Reading::begin(session, sql, params).await?;
        let mut failed = None;
        while let Some(values) = reading.next().await? {
            if let Err(error) = each(values) {
                failed = Some(error);
                break;
            }
        }
        reading.end().await?;
        failed.map_or(Ok(()), Err)
    };
    let read = read.await;
    stop.not();
    read
}

/// The rows of a query, as they come.
pub(super) struct Reading<'a>(QueryResult<'a, 'static, BinaryProtocol>);

impl<'a> Reading<'a> {
    pub(super) async fn begin(
        session: &'a mut Session,
        sql: &'a str,
        params: Vec<Value>,
    ) -> Result<Self, Error> {
        let params = if params.is_empty() { Params::Empty } else { Params::Positional(params) };
        Ok(Self(session.conn.exec_iter(sql, params).await.map_err(super::connect::meaning)?))
    }

    pub(super) async fn next(&mut self) -> Result<Option<Vec<Value>>, Error> {
        Ok(self.0.next().await.map_err(super::connect::meaning)?.map(Row::unwrap))
    }

    /// Whatever has not been read is passed over.
    pub(super) async fn end(self) -> Result<(), Error> {
        self.0.drop_result().await.map_err(super::connect::meaning)
    }
}

/// A whole table, as one transaction sees it: the key of each record, with a hash of it; without a key, each
/// content with how often it is there.
type Looked = HashMap<Image, (blake3::Hash, u64)>;

/// A first look at what is watched.
pub(super) struct Seen {
    rows: Looked,
    /// The condition that only records have which came later, where records are only added.
    later: Option<String>,
}

/// Looks at a table before something happens to it; see [`look_again`].
///
/// With locks: what is seen is the latest, and nobody changes it between the two looks. Where records are only
/// added, others may go on adding theirs.
pub(super) async fn look(
    session: &mut Session,
    outside: &mut Outside<'_>,
    watch: &Watch,
) -> Result<Seen, Error> {
    let table = &watch.table;
    let auto = table.key_columns().find(|c| c.auto).filter(|_| watch.appended);
    let Some(auto) = auto else { return Ok(Seen { rows: sight(session, table).await?, later: None }) };
    // AUTO_INCREMENT gives numbers above all that are there.
    let name = super::schema::quote(&auto.name);
    let sql = format!("SELECT CAST(MAX({name}) AS CHAR) FROM {}", table.sql());
    let most: Option<Option<String>> = outside.observer(Sight::Committed).await?.first(&sql, ()).await?;
    let later = most.flatten().map_or(String::new(), |most| format!(" WHERE t.{name} > {most}"));
    Ok(Seen { rows: Looked::new(), later: Some(later) })
}

/// The keys of the records that have changed since. Where records are only added, those that others have added
/// and committed may be among them.
pub(super) async fn look_again(
    session: &mut Session,
    outside: &mut Outside<'_>,
    watch: &Watch,
    seen: &Seen,
) -> Result<BTreeSet<Image>, Error> {
    let table = &watch.table;
    let Some(later) = &seen.later else {
        let now = sight(session, table).await?;
        return Ok(differences(&seen.rows, &now).cloned().collect());
    };
    let sql =
        format!("SELECT {} FROM {} AS t{later} LIMIT {}", table.key_list("t"), table.sql(), MOST_ADDED + 1);
    let mut added: Vec<Image> = Vec::new();
    keys_of(outside.observer(Sight::Latest).await?, &sql, Vec::new(), |key| {
        added.push(key);
        Ok(())
    })
    .await?;
    if added.len() > MOST_ADDED {
        return Err(Error::TooLarge(format!(
            "triggers add more than {MOST_ADDED} records to {}; narrow the action",
            table.resource
        )));
    }
    // What others have not committed yet they hold. By its whole key, so that only records are locked and
    // everybody may still add to the table.
    let lock = if session.skips { "FOR UPDATE SKIP LOCKED" } else { "FOR UPDATE" };
    let mut own = BTreeSet::new();
    // The server would rather walk through a small table, and lock all of it, than look for several.
    for part in added.chunks(if added.len() > 64 { CHUNK } else { 1 }) {
        let Some(last) = part.last() else { continue };
        let size = CHUNKS.into_iter().find(|c| *c >= part.len()).unwrap_or(part.len());
        let mut params = Vec::with_capacity(size * table.key.len());
        for key in part.iter().chain(std::iter::repeat_n(last, size - part.len())) {
            table.key_params(key, &mut params)?;
        }
        let sql = format!(
            "SELECT {} FROM {} AS t WHERE {} {lock}",
            table.key_list("t"),
            table.sql(),
            table.with_keys("t", size)
        );
        keys_of(session, &sql, params, |key| {
            own.insert(key);
            Ok(())
        })
        .await?;
    }
    Ok(own)
}

/// Looks at a whole table, and keeps others from changing it.
async fn sight(session: &mut Session, table: &Table) -> Result<Looked, Error> {
    let sql =
        format!("SELECT {} FROM {} AS t LIMIT {} FOR UPDATE", table.list("t"), table.sql(), MOST_WATCHED + 1);
    let mut seen = Looked::new();
    let mut rows = 0_usize;
    records_of(session, &sql, Vec::new(), table, |key, image| {
        rows += 1;
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
fn differences<'a>(before: &'a Looked, after: &'a Looked) -> impl Iterator<Item = &'a Image> {
    let gone = before.iter().filter(|(key, was)| after.get(*key) != Some(was)).map(|(key, _)| key);
    gone.chain(after.keys().filter(|key| !before.contains_key(*key)))
}

/// The first column of the first row as a number; 0 when there is none.
pub(super) fn number(rows: &[Row]) -> Result<u64, Error> {
    rows.first().map_or(Ok(0), |row| get(row, 0))
}
