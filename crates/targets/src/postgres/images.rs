//! Before- and after-images of what an open transaction changed, without triggers and without reading its
//! mind: by looking at the tables from inside and from outside.
//!
//! A row version that the outside sees, then the inside does not, then the outside still does, is one that
//! the transaction replaced or removed: nobody else can have, since it holds the row's lock. A version that
//! the inside sees, then the outside does not, then the inside still does, is one that it made. Three looks
//! each, so that what others commit in between deceives nobody. A cursor that the transaction holds open
//! keeps the server from giving the place of a row to another one meanwhile.
//!
//! Most versions need no further look, because the server wrote the transaction's number on them. As the one
//! that made a version (`xmin`) that number means the transaction itself, unless a version from before the
//! counter last began anew has the same; such a one the outside sees as well. As the one that removed it
//! (`xmax`) it may also mean that the transaction only locked the row, which the inside still sees then; or
//! it is the number of a group of lockers, which it cannot be while fewer groups were ever made. What such
//! an exception may be is looked for on the other side *before*, and of versions that were there already it can
//! only become less: nobody but the transaction, which waits, writes its number on them. On versions that are
//! made meanwhile others do: who updates a row that the transaction has a lock on (a foreign key refers to it)
//! takes the lock's number along. So `xmax` says nothing on a version that may be younger than the first look.
//! That one goes through the three looks, as does what carries another number (of a savepoint, of a group that
//! a locker joined meanwhile), in the same pass over the table: a number may change from the one kind to the
//! other, and no version must be taken twice, or not at all.
//!
//! Where the transaction only updated rows of a table, there are as many versions that it replaced as it made. So
//! the looking beforehand can be left out there at first: had it locked any more rows, there would be more of the
//! former, and then all of it is done again, with care.

use super::{
    connect::Session,
    copy::{DigestOf, Sink, copy_out, copy_rows},
    find::{Found, Guess, Hints, Part, worth_it},
    measure::Touched,
    places::{Place, at, places, places_of},
    schema::{ForeignKey, Relation},
    sql::{ask, ask_one, millis, numbers},
    values::Trouble,
};
use crate::{
    Affected, Captured, Error, How, Measured, RowsDigest,
    binding::Binding,
    snapshot::{Side, SnapshotWriter},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use tokio_postgres::Client;

/// Blocks of a table that are looked at together, so that the places of all rows in them fit in memory.
const BLOCKS: u64 = 32_768;
/// Groups of lockers that no server makes in a second.
const MOST_GROUPS: i64 = 10_000_000;
/// Of a larger table, in blocks, records that are like an added one are not counted: their place in time is told by
/// the number that the server wrote on them.
const COUNTED: u64 = 4_096;
/// Places that are handled together.
pub(super) const MOST_PLACES: usize = 100_000;

/// Two looks at the same tables.
pub(super) struct Looks<'c> {
    /// The transaction's own.
    pub(super) inside: &'c Session,
    /// Somebody else's.
    pub(super) outside: &'c Session,
    /// The transaction's number.
    pub(super) number: u64,
    /// How long a query may take.
    pub(super) limit: Duration,
}

impl Looks<'_> {
    /// The number as rows carry it.
    fn mark(&self) -> u64 {
        self.number & u64::from(u32::MAX)
    }

    /// As SQL: how many groups of lockers were made since the one with the transaction's number. Negative:
    /// there has been none with that number.
    fn groups(&self) -> String {
        format!("SELECT pg_catalog.mxid_age('{}'::pg_catalog.xid)", self.mark())
    }

    /// Makes both ready. Answers with the sizes of these tables in blocks, [`Looks::groups`], and the number of
    /// the oldest transaction that is open: older versions, if seen, were there before any look.
    async fn begin(&self, touched: &[Touched]) -> Result<(BTreeMap<u32, u64>, i64, u64), Trouble> {
        let limit = millis(self.limit);
        let inside = format!(
            "SET LOCAL statement_timeout = {limit}; DECLARE checkrein_hold NO SCROLL CURSOR FOR SELECT 1; \
             SELECT t, pg_catalog.pg_relation_size(t) / pg_catalog.current_setting('block_size')::int \
             FROM pg_catalog.unnest({}::oid[]) t",
            numbers(touched.iter().map(|t| t.relation.oid))
        );
        // Outside of a transaction, since each look must be a new one; counts reset it.
        let outside = format!(
            "SET statement_timeout = {limit}; {}, pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())",
            self.groups()
        );
        let (sizes, known) = tokio::join!(ask(self.inside, &inside), ask(self.outside, &outside));
        let sizes = sizes?.into_iter().filter_map(|row| match row.as_slice() {
            [Some(table), Some(pages)] => Some((table.parse().ok()?, pages.parse().ok()?)),
            _ => None,
        });
        let known = known?;
        let [Some(groups), Some(oldest)] = known.first().map_or(&[][..], Vec::as_slice) else {
            return Err(
                Error::Internal("PostgreSQL does not say which transactions are open".to_owned()).into()
            );
        };
        let oldest =
            oldest.parse().map_err(|_| Error::Internal("a transaction without a number".to_owned()))?;
        Ok((sizes.collect(), groups.parse().unwrap_or(i64::MAX), oldest))
    }

    /// Whether a group of lockers can have got the transaction's number since.
    async fn confused(&self, groups: i64, since: Instant) -> Result<bool, Trouble> {
        // More than can be made in that time.
        if groups < -MOST_GROUPS && since.elapsed() < Duration::from_secs(1) {
            return Ok(false);
        }
        let now = ask_one(self.outside, &self.groups()).await?.and_then(|now| now.parse::<i64>().ok());
        Ok(now.is_none_or(|now| now > 0))
    }
}

/// Under which name [`Alike`] holds the number of the transaction, which the server wrote on what it made.
pub(super) const NUMBER: &str = "number";

/// For tables without a key, by number: how many records were like one of those captured before ([`alike_before`]),
/// and how many are like one of those captured after ([`alike_after`]). Only this tells, later, whether they have been
/// put back already.
pub(super) type Alike = serde_json::Map<String, serde_json::Value>;

/// Under which name [`Alike`] holds how many records of a table were like a before-image.
pub(super) fn alike_before(table: u32) -> String {
    table.to_string()
}

/// Under which name [`Alike`] holds how many records of a table were left that are like an after-image.
pub(super) fn alike_after(table: u32) -> String {
    format!("{table}+")
}

/// Under which name [`Alike`] holds whether the server wrote the transaction's number on each record that it left of a
/// table: it does not on those of savepoints.
pub(super) fn all_numbered(table: u32) -> String {
    format!("{table}=")
}

/// Takes the images of everything that `touched` names.
pub(super) async fn capture(
    looks: &Looks<'_>,
    touched: &[Touched],
    keys: &[ForeignKey],
    hints: Hints,
    (measured, bound): (&Measured, Option<Binding>),
    out: &mut SnapshotWriter,
) -> Result<(Captured, Alike), Trouble> {
    let since = Instant::now();
    let begun = looks.begin(touched).await?;
    let changed = touched.iter().map(|t| {
        let name = t.relation.resource.rsplit('.').next().unwrap_or_default();
        (name, t.relation.columns.iter().map(|c| c.name.as_str()))
    });
    let bound = bound.map(|bound| bound.settle(changed));
    let what = (touched, keys, measured, bound.as_ref());
    if let Some(found) = images(looks, &begun, since, what, hints.clone(), out, false).await? {
        return Ok(found);
    }
    out.again().await?;
    let found = images(looks, &begun, since, what, hints, out, true).await?;
    found.ok_or_else(|| Error::Internal("the images of a change do not fit each other".to_owned()).into())
}

/// The same; None where this takes `care` and was done without.
async fn images(
    looks: &Looks<'_>,
    (sizes, groups, oldest): &(BTreeMap<u32, u64>, i64, u64),
    since: Instant,
    (touched, keys, measured, bound): (&[Touched], &[ForeignKey], &Measured, Option<&Binding>),
    hints: Hints,
    out: &mut SnapshotWriter,
    care: bool,
) -> Result<Option<(Captured, Alike)>, Trouble> {
    let (groups, oldest) = (*groups, *oldest);
    let mut alike = Alike::from_iter([(NUMBER.to_owned(), looks.number.into())]);
    let mut digest = RowsDigest::default();
    let mut sums: BTreeMap<(&str, How), u64> = BTreeMap::new();
    let mark = format!("'{}'::pg_catalog.xid", looks.mark());
    let removed = format!(
        "(x.xmax = {mark} AND pg_catalog.age(x.xmin) > pg_catalog.age('{}'::pg_catalog.xid))",
        oldest & u64::from(u32::MAX)
    );
    let made = format!("x.xmin = {mark}");
    let mut found = Found::new(hints, touched);
    while let Some(t) = found.next(keys) {
        let relation = &t.relation;
        let (most_before, most_after) = (t.updated + t.deleted, t.inserted + t.updated);
        let shape = serde_json::to_value(relation).map_err(|e| Error::Internal(e.to_string()))?;
        let table = out.table(&relation.resource, shape).await?;
        let pages = *sizes
            .get(&relation.oid)
            .ok_or_else(|| Error::Internal(format!("the size of {} is not known", relation.resource)))?;
        // Where rows were is of use later; of very many it would be too much to remember.
        let guess = found.before(looks, t, keys, pages).await?;
        let follows = !found.knows(relation.oid) && worth_it(most_after, pages);
        let useful = relation.key.is_empty() || follows || found.is_parent(relation.oid, keys);
        let mut left = (useful && most_before <= MOST_PLACES as u64).then(Vec::new);
        let counted = relation.key.is_empty() && (most_before > 0 || pages <= COUNTED);
        let mut right = (counted && most_after <= MOST_PLACES as u64).then(Vec::new);
        let resource = relation.resource.as_str();
        let shared = Mutex::new(&mut *out);
        let (mut old, mut new) = (RowsDigest::default(), RowsDigest::default());
        // One plain statement that locks no more than it changes, as a rule.
        let only_updated = !care && measured.exact && t.inserted == 0 && t.deleted == 0;
        let mut befores = Pass {
            one: looks.outside,
            other: looks.inside,
            relation,
            filter: "x.xmax <> 0",
            own: if groups < 0 { &removed } else { "false" },
            unique: groups >= 0 || only_updated,
            sink: Sink {
                out: &shared,
                table,
                side: Side::Before,
                digest: bound.map(|_| DigestOf { digest: &mut old, resource, columns: None }),
            },
            kept: left.as_mut(),
            others: 0,
        };
        let taken = bound.and_then(|bound| bound_after(bound, t));
        let mut afters = Pass {
            one: looks.inside,
            other: looks.outside,
            relation,
            filter: "pg_catalog.age(x.xmin) <= 0",
            own: &made,
            unique: looks.number == looks.mark(),
            sink: Sink {
                out: &shared,
                table,
                side: Side::After,
                digest: taken.map(|columns| DigestOf { digest: &mut new, resource, columns: Some(columns) }),
            },
            kept: right.as_mut(),
            others: 0,
        };
        let (before, after) = if follows {
            let before = befores.run(pages, most_before, &guess).await?;
            let left = befores.kept.as_deref().map_or(&[][..], Vec::as_slice);
            let guess = found.after(looks, t, pages, left).await?;
            (before, afters.run(pages, most_after, &guess).await?)
        } else {
            // Each on its own connection, both at once.
            let known = found.after(looks, t, pages, &[]).await?;
            tokio::try_join!(befores.run(pages, most_before, &guess), afters.run(pages, most_after, &known))?
        };
        let numbered = afters.others == 0;
        if only_updated && before != after {
            return Ok(None);
        }
        if measured.exact && before < most_before {
            return Err(Error::Internal(format!(
                "of {most_before} records of {resource} that it changes only {before} were found as they were before, so it could not be undone; try again"
            ))
            .into());
        }
        digest.merge(&old);
        digest.merge(&new);
        let left = left.unwrap_or_default();
        if relation.key.is_empty() {
            let right = right.unwrap_or_default();
            let (were, are) =
                tokio::try_join!(like(looks.outside, relation, &left), like(looks.inside, relation, &right))?;
            for (name, number) in [(alike_before(relation.oid), were), (alike_after(relation.oid), are)] {
                alike.extend(number.map(|number| (name, number.into())));
            }
            alike.insert(all_numbered(relation.oid), numbered.into());
        }
        found.are(relation.oid, left);
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
    if groups < 0 && looks.confused(groups, since).await? {
        return Err(Error::Internal(
            "so many groups of lockers were made meanwhile that their numbers cannot be told from the transaction's; try again".to_owned(),
        )
        .into());
    }
    out.sealed();
    let affected: Vec<_> = sums
        .into_iter()
        .map(|((resource, how), records)| Affected { resource: resource.to_owned(), how, records })
        .collect();
    // The same numbers: then the words for how they came about are the better ones.
    let same = affected.iter().map(|a| a.records).sum::<u64>() == measured.records();
    let affected = if same { measured.affected.clone() } else { affected };
    Ok(Some((Captured { affected, digest: bound.map(|_| digest.finish()) }, alike)))
}

/// How many records `client` sees that are like one of those at these places; none where there are no places.
async fn like(client: &Client, relation: &Relation, places: &[Place]) -> Result<Option<u64>, Trouble> {
    if places.is_empty() {
        return Ok(None);
    }
    let image = |alias: &str| format!("ROW({})::text", relation.list(alias));
    let count = format!(
        "SELECT pg_catalog.count(*) FROM ONLY {t} x WHERE {} IN (SELECT {} FROM ONLY {t} y WHERE {})",
        image("x"),
        image("y"),
        at(places)?,
        t = relation.sql()
    );
    Ok(ask_one(client, &count).await?.and_then(|number| number.parse().ok()))
}

/// The columns of after-images that an approval is bound to, by place: those with values from elsewhere, and of what was
/// inserted the key, unless the database made it up: it would be another one the next time.
fn bound_after(bound: &Binding, of: &Touched) -> Option<Vec<usize>> {
    let relation = &of.relation;
    let place = |number| relation.columns.iter().position(|c| c.number == number);
    let key: Vec<usize> = relation.key.iter().filter_map(|key| place(key.number)).collect();
    let filled = |place: &usize| relation.columns.get(*place).is_some_and(|c| c.filled);
    let made_up = of.inserted > 0 && key.iter().any(filled);
    let tells = if made_up { &[] } else { key.as_slice() };
    let names = relation.columns.iter().map(|c| c.name.as_str());
    let places = bound.places(names, (!key.is_empty()).then_some(tells));
    places.or_else(|| (of.updated == 0 && !tells.is_empty()).then(|| tells.to_vec()))
}

/// The versions that `one` sees before and after, and `other` does not see in between.
struct Pass<'c, 's> {
    one: &'c Client,
    other: &'c Client,
    relation: &'c Relation,
    /// What all of them have in common, as SQL; others may have it too.
    filter: &'c str,
    /// What of these only the transaction's own have, as SQL, but for some that `other` sees.
    own: &'c str,
    /// There cannot be such ones.
    unique: bool,
    sink: Sink<'s>,
    /// Takes their places, if they are wanted.
    kept: Option<&'s mut Vec<Place>>,
    /// How many were found that are not `own`.
    others: u64,
}

impl Pass<'_, '_> {
    /// Copies them into the sink; there cannot be more than `most`, and all of them are found: first where
    /// they are guessed to be, then, if some are missing there, in all of the rest of the table. Answers how
    /// many.
    async fn run(&mut self, pages: u64, most: u64, guess: &Guess) -> Result<u64, Trouble> {
        let mut found = 0;
        if most == 0 {
            return Ok(0);
        }
        for part in guess.parts(self.relation)? {
            found += self.look(&part).await?;
        }
        if found >= most {
            return Ok(found);
        }
        let others = guess.others(self.relation)?;
        let mut from = 0;
        // To the end, whatever is found.
        while from < pages {
            let to = from.saturating_add(BLOCKS);
            let mut condition = others.clone();
            if pages > BLOCKS {
                let and = if others.is_empty() { "" } else { " AND " };
                let range = format!(
                    "{and}x.ctid >= '({from},0)'::pg_catalog.tid AND x.ctid < '({to},0)'::pg_catalog.tid"
                );
                condition.push_str(&range);
            }
            found += self.look(&Part::of(self.relation, &condition)).await?;
            from = to;
        }
        Ok(found)
    }

    /// Looks at some of the rows.
    async fn look(&mut self, part: &Part) -> Result<u64, Trouble> {
        let Part { from, condition } = part;
        let place = if self.kept.is_some() { "x.ctid::text" } else { "NULL" };
        let columns = self.relation.list("x");
        let comma = if columns.is_empty() { "" } else { ", " };
        // Before each row its place, with a mark where it must be looked at again.
        let select = |own: &str, but: &str| {
            format!(
                "COPY (SELECT CASE WHEN {own} THEN {place} ELSE '?' || x.ctid::text END{comma}{columns} FROM {from} \
                 WHERE {condition}{but}{}) TO STDOUT (FORMAT text)",
                self.filter
            )
        };
        let copy = select(self.own, "");
        let copy = if self.unique {
            self.one.prepare(&copy).await?
        } else {
            let strange =
                format!("SELECT pg_catalog.array_agg(x.ctid) FROM {from} WHERE {condition}{}", self.own);
            let (strange, copy) = tokio::join!(places(self.other, &strange), self.one.prepare(&copy));
            match strange? {
                strange if strange.is_empty() => copy?,
                strange if strange.len() > MOST_PLACES => self.one.prepare(&select("false", "")).await?,
                strange => {
                    let but = format!("NOT x.{} AND ", at(&strange)?);
                    self.one.prepare(&select(self.own, &but)).await?
                }
            }
        };
        let mut again = Vec::new();
        let kept = &mut self.kept;
        let mut judge = |line: &[u8]| -> Option<usize> {
            let end = line.iter().position(|b| *b == b'\t').unwrap_or(line.len().checked_sub(1)?);
            let flag = line.get(..end)?;
            let rest = if comma.is_empty() { end } else { end + 1 };
            match flag {
                b"\\N" => Some(rest),
                [b'?', place @ ..] => {
                    again.push(Place::read(place)?);
                    Some(line.len())
                }
                place => {
                    let place = Place::read(place)?;
                    kept.as_mut()?.push(place);
                    Some(rest)
                }
            }
        };
        let mut found = copy_rows(self.one, &copy, &mut self.sink, &mut judge).await?;
        for places in again.chunks(MOST_PLACES) {
            found += self.places(places).await?;
        }
        Ok(found)
    }

    /// The second and the third look, at these places.
    async fn places(&mut self, places: &[Place]) -> Result<u64, Trouble> {
        let table = self.relation.sql();
        let seen = format!("SELECT pg_catalog.array_agg(ctid) FROM ONLY {table} WHERE ctid = ANY ($1)");
        let mut seen = places_of(self.other, &seen, places).await?;
        seen.sort_unstable();
        let left: Vec<_> =
            places.iter().filter(|place| seen.binary_search(place).is_err()).copied().collect();
        if left.is_empty() {
            return Ok(0);
        }
        self.others += left.len() as u64;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&left);
        }
        let columns = self.relation.list("x");
        let select = format!("SELECT {columns} FROM ONLY {table} x WHERE {}", at(&left)?);
        copy_out(self.one, &select, &mut self.sink).await
    }
}
