//! Where changed rows probably are, so that large tables need not be read as a whole: told by the statement
//! itself (`RETURNING`), by keys, and along foreign keys. A guess may be wrong or too short: what is found is
//! looked at like everything else, and compared with the number that the server counted.

use super::{
    images::{Looks, MOST_PLACES},
    measure::Touched,
    places::{Place, at, places, places_of},
    schema::{ForeignKey, Relation},
    sql::{ask_list, ident},
    values::Trouble,
};
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// Smaller tables are read as a whole; in blocks.
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

    /// Where rows probably were.
    pub(super) async fn before(
        &self,
        looks: &Looks<'_>,
        t: &Touched,
        keys: &[ForeignKey],
        pages: u64,
    ) -> Result<Vec<Place>, Trouble> {
        if pages < SMALL || t.updated + t.deleted == 0 || t.updated + t.deleted > MOST_PLACES as u64 {
            return Ok(Vec::new());
        }
        if let Some(places) = self.hints.places.get(&t.relation.oid) {
            return if self.hints.removed {
                Ok(places.clone())
            } else {
                twins(looks.inside, looks.outside, &t.relation, places).await
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
            return Ok(children);
        }
        Ok(Vec::new())
    }

    async fn parent(&self, client: &Client, oid: u32) -> Result<Option<String>, Trouble> {
        let found = super::schema::relations(client, [oid]).await?;
        Ok(found.first().map(Relation::from))
    }

    /// Where rows probably are.
    pub(super) async fn after(
        &self,
        looks: &Looks<'_>,
        t: &Touched,
        pages: u64,
    ) -> Result<Vec<Place>, Trouble> {
        let (none, most) = (Vec::new(), t.inserted + t.updated);
        if pages < SMALL || most == 0 || most > MOST_PLACES as u64 {
            return Ok(none);
        }
        match self.hints.places.get(&t.relation.oid) {
            Some(places) if !self.hints.removed => Ok(places.clone()),
            _ => {
                let places = self.before.get(&t.relation.oid).unwrap_or(&none);
                twins(looks.outside, looks.inside, &t.relation, places).await
            }
        }
    }
}

/// Where `there` sees the rows with the keys that `here` sees at these places.
async fn twins(
    here: &Client,
    there: &Client,
    relation: &Relation,
    from: &[Place],
) -> Result<Vec<Place>, Trouble> {
    let columns: Vec<_> = relation.key.iter().filter_map(|key| relation.column(key.number)).collect();
    let mut twins = Vec::new();
    if columns.is_empty() {
        return Ok(twins);
    }
    let names: Vec<_> = columns.iter().map(|column| ident(&column.name)).collect();
    let shape: Vec<_> =
        columns.iter().map(|column| format!("%L::{}", column.base.replace('%', "%%"))).collect();
    for from in from.chunks(KEYS) {
        let keys = format!(
            "SELECT pg_catalog.format({}, {}) FROM ONLY {} x WHERE {}",
            super::sql::literal(&format!("({})", shape.join(", "))),
            names.iter().map(|name| format!("x.{name}")).collect::<Vec<_>>().join(", "),
            relation.sql(),
            at(from)?
        );
        let keys = ask_list(here, &keys).await?;
        if keys.is_empty() {
            continue;
        }
        let select = format!(
            "SELECT pg_catalog.array_agg(x.ctid) FROM (VALUES {}) AS k({}) JOIN ONLY {} x ON {}",
            keys.join(", "),
            names.join(", "),
            relation.sql(),
            relation.same_key("x", "k")
        );
        twins.extend(places(there, &select).await?);
    }
    Ok(twins)
}
