//! Before- and after-images of what an open transaction changed, without triggers and without reading its
//! mind: by looking at the tables from inside and from outside.
//!
//! A row version that the outside sees, then the inside does not, then the outside still does, is one that
//! the transaction replaced or removed: nobody else can have, since it holds the row's lock. A version that
//! the inside sees, then the outside does not, then the inside still does, is one that it made. Three looks
//! each, so that what others commit in between deceives nobody. A cursor that the transaction holds open
//! keeps the server from giving the place of a row to another one meanwhile.

use super::{
    copy::{DigestOf, Sink, copy_out},
    find::{Found, Hints},
    measure::Touched,
    places::{Place, at, places, places_of},
    schema::{ForeignKey, Relation},
    sql::{ask, ask_one},
    values::Trouble,
};
use crate::{
    Affected, Captured, Error, How, Measured, RowsDigest,
    snapshot::{Side, SnapshotWriter},
};
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// Blocks of a table that are looked at together at first, and at most. Few enough that the places of all
/// rows in them fit in memory.
const BLOCKS: u64 = 1_024;
const MOST_BLOCKS: u64 = 65_536;
/// Places that are handled together.
pub(super) const MOST_PLACES: usize = 100_000;

/// Two looks at the same tables.
pub(super) struct Looks<'c> {
    /// The transaction's own.
    pub(super) inside: &'c Client,
    /// Somebody else's.
    pub(super) outside: &'c Client,
}

/// For tables without a key, by number: how many records were like one of those captured before. Only this
/// tells, later, whether they have been put back already.
pub(super) type Alike = serde_json::Map<String, serde_json::Value>;

/// Takes the images of everything that `touched` names.
pub(super) async fn capture(
    looks: &Looks<'_>,
    touched: &[Touched],
    keys: &[ForeignKey],
    hints: Hints,
    measured: &Measured,
    out: &mut SnapshotWriter,
) -> Result<(Captured, Alike), Trouble> {
    let mut alike = Alike::new();
    let mut digest = RowsDigest::default();
    let mut sums: BTreeMap<(&str, How), u64> = BTreeMap::new();
    ask(looks.inside, "DECLARE checkrein_hold NO SCROLL CURSOR FOR SELECT 1").await?;
    let mut found = Found::new(hints, touched);
    while let Some(t) = found.next(keys) {
        let relation = &t.relation;
        let (most_before, most_after) = (t.updated + t.deleted, t.inserted + t.updated);
        let shape = serde_json::to_value(relation).map_err(|e| Error::Internal(e.to_string()))?;
        let table = out.table(&relation.resource, shape).await?;
        let pages = pages(looks.inside, relation).await?;
        let before = {
            let resource = relation.resource.as_str();
            let digest = Some(DigestOf { digest: &mut digest, resource, columns: None });
            let mut sink = Sink { out, table, side: Side::Before, digest };
            let pass = Pass { one: looks.outside, other: looks.inside, relation, filter: "xmax <> 0" };
            let guess = found.before(looks, t, keys, pages).await?;
            let mut left = Vec::new();
            let before = pass.run(pages, most_before, &mut sink, &guess, &mut left).await?;
            if relation.key.is_empty() && (1..=MOST_PLACES as u64).contains(&before) {
                let image = |alias: &str| format!("ROW({})::text", relation.list(alias));
                let count = format!(
                    "SELECT pg_catalog.count(*) FROM ONLY {t} x WHERE {} IN (SELECT {} FROM ONLY {t} y WHERE {})",
                    image("x"),
                    image("y"),
                    at(&left)?,
                    t = relation.sql()
                );
                let number = ask_one(looks.outside, &count).await?.and_then(|n| n.parse().ok());
                alike.extend(number.map(|number: u64| (relation.oid.to_string(), number.into())));
            }
            found.are(relation.oid, left);
            before
        };
        let after = {
            let resource = relation.resource.as_str();
            // Of what was inserted the key counts, unless the database made it up: it would be another one
            // the next time.
            let key = (t.updated == 0).then(|| key_positions(relation)).flatten();
            let digest = key.map(|key| DigestOf { digest: &mut digest, resource, columns: Some(key) });
            let mut sink = Sink { out, table, side: Side::After, digest };
            let filter = "pg_catalog.age(xmin) <= 0";
            let pass = Pass { one: looks.inside, other: looks.outside, relation, filter };
            let guess = found.after(looks, t, pages).await?;
            pass.run(pages, most_after, &mut sink, &guess, &mut Vec::new()).await?
        };
        digest.add(&relation.resource, format!("+{}", t.inserted).as_bytes());
        // What the counters cannot tell apart the images can, unless rows came and went in one table.
        let (inserted, updated, deleted) = match (t.inserted, t.deleted) {
            (0, _) => (0, after, before.saturating_sub(after)),
            (_, 0) => (after.saturating_sub(before), before, 0),
            (inserted, deleted) => (inserted.min(after), t.updated.min(before), deleted.min(before)),
        };
        for (how, records) in [(How::Insert, inserted), (How::Update, updated), (How::Delete, deleted)] {
            if records > 0 {
                *sums.entry((relation.resource.as_str(), how)).or_default() += records;
            }
        }
    }
    ask(looks.inside, "CLOSE checkrein_hold").await?;
    out.sealed();
    let affected: Vec<_> = sums
        .into_iter()
        .map(|((resource, how), records)| Affected { resource: resource.to_owned(), how, records })
        .collect();
    // The same numbers: then the words for how they came about are the better ones.
    let same = affected.iter().map(|a| a.records).sum::<u64>() == measured.records();
    let affected = if same { measured.affected.clone() } else { affected };
    Ok((Captured { affected, digest: Some(digest.finish()) }, alike))
}

/// Where the key's columns are in a row; `None` without a key, or with one that the database fills.
fn key_positions(relation: &Relation) -> Option<Vec<usize>> {
    let positions: Option<Vec<_>> = relation
        .key
        .iter()
        .map(|key| relation.columns.iter().position(|c| c.number == key.number && !c.filled))
        .collect();
    positions.filter(|positions| !positions.is_empty())
}

async fn pages(client: &Client, relation: &Relation) -> Result<u64, Trouble> {
    let size = format!(
        "SELECT pg_catalog.pg_relation_size({}) / pg_catalog.current_setting('block_size')::int",
        relation.oid
    );
    Ok(ask_one(client, &size).await?.and_then(|n| n.parse().ok()).unwrap_or(0))
}

/// The versions that `one` sees before and after, and `other` does not see in between.
struct Pass<'c> {
    one: &'c Client,
    other: &'c Client,
    relation: &'c Relation,
    /// What all of them have in common, as SQL; others may have it too.
    filter: &'c str,
}

impl Pass<'_> {
    /// Copies them into `sink`; there cannot be more than `most`, and all of them are found: first where
    /// they are guessed to be, then, if some are missing there, in all of the table. Answers how many. The
    /// places go into `kept` as well, as long as they are few.
    async fn run(
        &self,
        pages: u64,
        most: u64,
        sink: &mut Sink<'_>,
        guess: &[Place],
        kept: &mut Vec<Place>,
    ) -> Result<u64, Trouble> {
        let mut found = 0;
        let table = self.relation.sql();
        for guess in guess.chunks(MOST_PLACES) {
            let there = format!("SELECT pg_catalog.array_agg(ctid) FROM ONLY {table} WHERE ctid = ANY ($1)");
            let there = places_of(self.one, &there, guess).await?;
            found += self.places(&there, sink, kept).await?;
        }
        let mut known = guess.to_vec();
        known.sort_unstable();
        let (mut from, mut blocks) = (0, BLOCKS);
        while found < most && from < pages {
            let to = from + blocks;
            let all = from == 0 && to >= pages;
            let range = if all {
                String::new()
            } else {
                format!("ctid >= '({from},0)'::pg_catalog.tid AND ctid < '({to},0)'::pg_catalog.tid AND ")
            };
            let filter = self.filter;
            let select = format!("SELECT pg_catalog.array_agg(ctid) FROM ONLY {table} WHERE {range}{filter}");
            let mut places = places(self.one, &select).await?;
            places.retain(|place| known.binary_search(place).is_err());
            if places.len() < MOST_PLACES / 4 {
                blocks = (blocks * 2).min(MOST_BLOCKS);
            } else if places.len() > MOST_PLACES * 4 {
                blocks = (blocks / 2).max(1);
            }
            for places in places.chunks(MOST_PLACES) {
                found += self.places(places, sink, kept).await?;
            }
            from = to;
        }
        Ok(found)
    }

    /// The second and the third look, at these places.
    async fn places(
        &self,
        places: &[Place],
        sink: &mut Sink<'_>,
        kept: &mut Vec<Place>,
    ) -> Result<u64, Trouble> {
        let table = self.relation.sql();
        let seen = format!("SELECT pg_catalog.array_agg(ctid) FROM ONLY {table} WHERE ctid = ANY ($1)");
        let mut seen = places_of(self.other, &seen, places).await?;
        seen.sort_unstable();
        let left: Vec<_> =
            places.iter().filter(|place| seen.binary_search(place).is_err()).copied().collect();
        if left.is_empty() {
            return Ok(0);
        }
        if kept.len() < MOST_PLACES {
            kept.extend_from_slice(&left);
        }
        let columns = self.relation.list("x");
        copy_out(self.one, &format!("SELECT {columns} FROM ONLY {table} x WHERE {}", at(&left)?), sink).await
    }
}
