//! Where changed rows probably are, so that large tables need not be read as a whole: told by the statement
//! itself (`RETURNING`), by keys, and along foreign keys. A guess may be wrong or too short: what is found is
//! looked at like everything else, and compared with the number that the server counted.

use super::{
    connect::Session,
    images::{Looks, MOST_PLACES},
    measure::Touched,
    places::{Place, at, places_of},
    schema::{ForeignKey, Relation},
    sql::{ask_list, ident},
    values::Trouble,
};
use crate::Error;
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// Smaller tables are read as a whole; in blocks. So are those of which more rows than blocks have changed: to
/// look for each of so many takes longer.
const SMALL: u64 = 8;
/// Keys in one query.
const KEYS: usize = 5_000;

/// Where the statement said that it had been, by table.
#[derive(Clone, Debug, Default)]
pub(super) struct Hints {
    /// Of rows that it removed, the old places; of others the new ones.
    pub(super) removed: bool,
    pub(super) places: BTreeMap<u32, Vec<Place>>,
    /// Too many to be of use.
    pub(super) many: bool,
}

impl Hints {
    /// One more place.
    pub(super) fn add(&mut self, table: u32, place: Place) {
        if self.many {
            return;
        }
        let places = self.places.entry(table).or_default();
        places.push(place);
        if places.len() > MOST_PLACES {
            self.places.clear();
            self.many = true;
        }
    }
}

/// Where changed rows of a table probably are.
#[derive(Clone, Debug, Default)]
pub(super) enum Guess {
    /// Nothing is known.
    #[default]
    Anywhere,
    /// At these places.
    At(Vec<Place>),
    /// Where these keys are, each a row of literals.
    Keys(Vec<String>),
}

/// Some rows of a table, called `x`, as SQL.
pub(super) struct Part {
    pub(super) from: String,
    /// Ends in `AND`, or is empty.
    pub(super) condition: String,
}

impl Part {
    /// The rows of `relation` of which `condition` is true.
    pub(super) fn of(relation: &Relation, condition: &str) -> Self {
        let and = if condition.is_empty() { "" } else { " AND " };
        Self { from: format!("ONLY {} x", relation.sql()), condition: format!("{condition}{and}") }
    }
}

impl Guess {
    /// The rows that are guessed at, not too many at once.
    pub(super) fn parts(&self, relation: &Relation) -> Result<Vec<Part>, Error> {
        match self {
            Self::Anywhere => Ok(Vec::new()),
            Self::At(places) => {
                let parts = places
                    .chunks(MOST_PLACES)
                    .map(|some| Ok(Part::of(relation, &format!("x.{}", at(some)?))));
                parts.collect()
            }
            Self::Keys(keys) => Ok(keys
                .chunks(KEYS)
                .map(|keys| Part {
                    from: format!(
                        "{} JOIN ONLY {} x ON {}",
                        listed(relation, keys),
                        relation.sql(),
                        relation.same_key("x", "k")
                    ),
                    condition: String::new(),
                })
                .collect()),
        }
    }

    /// The condition of all other rows; empty where that is all of them.
    pub(super) fn others(&self, relation: &Relation) -> Result<String, Error> {
        Ok(match self {
            Self::At(places) if !places.is_empty() => format!("NOT x.{}", at(places)?),
            Self::Keys(keys) if !keys.is_empty() => format!(
                "NOT EXISTS (SELECT 1 FROM {} WHERE {})",
                listed(relation, keys),
                relation.same_key("x", "k")
            ),
            _ => String::new(),
        })
    }
}

/// Keys as a table `k`.
fn listed(relation: &Relation, keys: &[String]) -> String {
    let names: Vec<_> = relation.key_names().map(ident).collect();
    format!("(VALUES {}) AS k({})", keys.join(", "), names.join(", "))
}

/// The tables that are still to be looked at, and what was found in the others.
pub(super) struct Found<'t> {
    hints: Hints,
    open: Vec<&'t Touched>,
    before: BTreeMap<u32, Vec<Place>>,
}

impl<'t> Found<'t> {
    pub(super) fn new(hints: Hints, touched: &'t [Touched]) -> Self {
        Self { hints, open: touched.iter().collect(), before: BTreeMap::new() }
    }

    /// The next table: those first of which something is known.
    pub(super) fn next(&mut self, keys: &[ForeignKey]) -> Option<&'t Touched> {
        let known = |t: &&Touched| {
            self.hints.places.contains_key(&t.relation.oid)
                || keys.iter().any(|key| key.child == t.relation.oid && self.before.contains_key(&key.parent))
        };
        let at = self.open.iter().position(known).unwrap_or(0);
        (at < self.open.len()).then(|| self.open.remove(at))
    }

    /// The before-images of a table were found at these places.
    pub(super) fn are(&mut self, table: u32, places: Vec<Place>) {
        if places.len() < MOST_PLACES {
            self.before.insert(table, places);
        }
    }

    /// Whether the statement said where its rows are now.
    pub(super) fn knows(&self, oid: u32) -> bool {
        !self.hints.removed && self.hints.places.contains_key(&oid)
    }

    /// Whether it helps others to know where this table's rows were.
    pub(super) fn is_parent(&self, oid: u32, keys: &[ForeignKey]) -> bool {
        keys.iter().any(|key| key.parent == oid && self.open.iter().any(|t| t.relation.oid == key.child))
    }

    /// Where rows probably were. `pages` is the size of the table.
    pub(super) async fn before(
        &self,
        looks: &Looks<'_>,
        t: &Touched,
        keys: &[ForeignKey],
        pages: u64,
    ) -> Result<Guess, Trouble> {
        if !worth_it(t.updated + t.deleted, pages) {
            return Ok(Guess::Anywhere);
        }
        if let Some(places) = self.hints.places.get(&t.relation.oid) {
            return if self.hints.removed {
                Ok(Guess::At(places.clone()))
            } else {
                keys_at(looks.inside, &t.relation, places).await
            };
        }
        for key in keys.iter().filter(|key| key.child == t.relation.oid) {
            let Some(places) = self.before.get(&key.parent).filter(|places| !places.is_empty()) else {
                continue;
            };
            let Some(parent) = self.parent(looks.outside, key.parent).await? else { continue };
            let mut children = Vec::new();
            for places in places.chunks(KEYS) {
                let select = format!(
                    "SELECT pg_catalog.array_agg(DISTINCT c.ctid) FROM {parent} p JOIN ONLY {} c ON {} WHERE p.ctid = ANY ($1)",
                    t.relation.sql(),
                    key.refers("p", "c"),
                );
                children.extend(places_of(looks.outside, &select, places).await?);
            }
            children.sort_unstable();
            children.dedup();
            return Ok(Guess::At(children));
        }
        Ok(Guess::Anywhere)
    }

    async fn parent(&self, client: &Session, oid: u32) -> Result<Option<String>, Trouble> {
        let found = super::schema::relations(client, [oid]).await?;
        Ok(found.first().map(Relation::from))
    }

    /// Where rows probably are. `before` is where they were, as far as it is known.
    pub(super) async fn after(
        &self,
        looks: &Looks<'_>,
        t: &Touched,
        pages: u64,
        before: &[Place],
    ) -> Result<Guess, Trouble> {
        if !worth_it(t.inserted + t.updated, pages) {
            return Ok(Guess::Anywhere);
        }
        match self.hints.places.get(&t.relation.oid) {
            Some(places) if !self.hints.removed => Ok(Guess::At(places.clone())),
            _ => keys_at(looks.outside, &t.relation, before).await,
        }
    }
}

/// Whether so few rows of a table of so many blocks are worth a guess.
pub(super) fn worth_it(rows: u64, pages: u64) -> bool {
    pages >= SMALL && rows > 0 && rows <= pages.min(MOST_PLACES as u64)
}

/// The keys of the rows that `client` sees at these places.
async fn keys_at(client: &Client, relation: &Relation, from: &[Place]) -> Result<Guess, Trouble> {
    let columns: Vec<_> = relation.key.iter().filter_map(|key| relation.column(key.number)).collect();
    let mut found = Vec::new();
    if columns.is_empty() {
        return Ok(Guess::Anywhere);
    }
    let shape: Vec<_> =
        columns.iter().map(|column| format!("%L::{}", column.base.replace('%', "%%"))).collect();
    let names: Vec<_> = columns.iter().map(|column| format!("x.{}", ident(&column.name))).collect();
    for from in from.chunks(KEYS) {
        let keys = format!(
            "SELECT pg_catalog.format({}, {}) FROM ONLY {} x WHERE {}",
            super::sql::literal(&format!("({})", shape.join(", "))),
            names.join(", "),
            relation.sql(),
            at(from)?
        );
        found.extend(ask_list(client, &keys).await?);
    }
    Ok(if found.is_empty() { Guess::Anywhere } else { Guess::Keys(found) })
}
