//! What follows through foreign keys, in sets of keys that live in temporary tables.

use super::{
    connect::Fault,
    schema::{Catalog, Follow, ForeignKey, Shape, foreign_keys, quoted},
    select::{Deed, Meant, key_names},
    value,
    watch::{Mode, Watch},
};
use crate::{Affected, How, target::SAMPLE_FROM};
use rusqlite::Connection;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Waves of consequences; each reaches one reference further. A chain longer than this is cut off, and said so.
const MOST_WAVES: i64 = 10_000;

/// The order says which counts when a record is affected in two ways.
const DELETE: i64 = 0;
const CASCADE: i64 = 1;
const UPDATE: i64 = 2;
const UNLINK: i64 = 3;

/// The records that an action would affect.
pub(super) struct Sets<'c> {
    connection: &'c Connection,
    watch: &'c Watch,
    catalog: Arc<Catalog>,
    keys: Vec<ForeignKey>,
    sets: BTreeMap<String, Set>,
    /// Columns that change, as numbered in the sets; 0: none that matters.
    columns: Vec<BTreeSet<String>>,
    /// Records that were only counted, by table.
    counted: BTreeMap<String, (How, u64)>,
    pub(super) refusals: Vec<String>,
    pub(super) at_least: Vec<String>,
    /// Whether some of the records will do.
    pub(super) few: bool,
}

/// The affected records of one table.
pub(super) struct Set {
    pub(super) shape: Shape,
    /// The temporary table: `k0`, … the key; `how`; `columns`; `wave`.
    temp: String,
    /// An action names it.
    named: bool,
}

impl Set {
    fn keys(&self) -> Vec<String> {
        (0..self.shape.key.len()).map(|n| format!("k{n}")).collect()
    }

    /// That the record `alias` of the table is the one of the set's row `s`.
    fn is(&self, alias: &str) -> String {
        let pairs = key_names(&self.shape, alias).into_iter().zip(self.keys());
        pairs.map(|(name, k)| format!("{name} = s.{k}")).collect::<Vec<_>>().join(" AND ")
    }

    /// A SELECT of these cells of the first `rows` of the affected records, in the order in which they were found.
    pub(super) fn some(&self, cells: &str, rows: usize) -> String {
        let keys = self.keys().join(", ");
        format!(
            "SELECT {cells} FROM main.{} AS t JOIN (SELECT {keys}, min(wave) AS wave FROM temp.{} GROUP BY {keys}) AS s ON {} \
             ORDER BY s.wave, {keys} LIMIT {rows}",
            self.shape.quoted(),
            self.temp,
            self.is("t")
        )
    }

    /// A SELECT of the affected records as they stand.
    pub(super) fn records(&self) -> String {
        let keys = self.keys().join(", ");
        format!(
            "{} JOIN (SELECT DISTINCT {keys} FROM temp.{}) AS s ON {}",
            self.shape.select(Some("t")),
            self.temp,
            self.is("t")
        )
    }
}

impl<'c> Sets<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        watch: &'c Watch,
        catalog: &Arc<Catalog>,
    ) -> Result<Self, Fault> {
        Ok(Self {
            connection,
            watch,
            catalog: Arc::clone(catalog),
            keys: foreign_keys(connection, catalog)?,
            sets: BTreeMap::new(),
            columns: vec![BTreeSet::new()],
            counted: BTreeMap::new(),
            refusals: Vec::new(),
            at_least: Vec::new(),
            few: false,
        })
    }

    /// Sets of some of the records.
    pub(super) fn few(
        connection: &'c Connection,
        watch: &'c Watch,
        catalog: &Arc<Catalog>,
    ) -> Result<Self, Fault> {
        Ok(Self { few: true, ..Self::new(connection, watch, catalog)? })
    }

    /// Ends a query for records.
    fn limit(&self) -> String {
        if self.few { format!(" LIMIT {SAMPLE_FROM}") } else { String::new() }
    }

    /// The sets, those that the action names first.
    pub(super) fn list(&self) -> Vec<&Set> {
        let mut list: Vec<_> = self.sets.values().collect();
        list.sort_by_key(|set| !set.named);
        list
    }

    /// Adds the records that a statement names.
    pub(super) fn add(&mut self, meant: &Meant) -> Result<(), Fault> {
        if let Some(why) = &meant.at_least {
            self.at_least.push(format!("{}: {why}", meant.shape.name));
        }
        let (how, columns) = match &meant.deed {
            Deed::Insert => return self.only_count(meant, How::Insert),
            Deed::Delete => (DELETE, 0),
            Deed::Update(columns) => (UPDATE, self.number(columns.clone())),
        };
        let limit = self.limit();
        let set = self.set(&meant.shape.name)?;
        let sql = format!(
            "INSERT OR IGNORE INTO temp.{} ({}, how, columns, wave) SELECT *, {how}, {columns}, 0 FROM ({}){limit}",
            set.temp,
            set.keys().join(", "),
            meant.keys()
        );
        if let Some(set) = self.sets.get_mut(&meant.shape.name) {
            set.named = true;
        }
        let (mut prepared, _) = self.watch.prepare(self.connection, Mode::Counting, &sql)?;
        value::bind(&mut prepared, &meant.params, false)?;
        prepared.raw_execute()?;
        Ok(())
    }

    /// Adds the records that the only statement names: where nothing can follow from them, their number is all
    /// that is needed.
    pub(super) fn add_only(&mut self, meant: &Meant) -> Result<(), Fault> {
        let table = meant.shape.name.as_str();
        let follows = self.keys.iter().any(|key| self.catalog.name(&key.parent) == Some(table));
        match meant.deed {
            Deed::Delete | Deed::Update(_) if follows || meant.repeated || meant.at_least.is_some() => {
                self.add(meant)
            }
            Deed::Insert => self.add(meant),
            Deed::Delete => self.only_count(meant, How::Delete),
            Deed::Update(_) => self.only_count(meant, How::Update),
        }
    }

    fn only_count(&mut self, meant: &Meant, how: How) -> Result<(), Fault> {
        let (mut prepared, _) = self.watch.prepare(self.connection, Mode::Counting, &meant.number())?;
        value::bind(&mut prepared, &meant.params, false)?;
        let number: i64 = match prepared.raw_query().next()? {
            Some(row) => row.get(0)?,
            None => 0,
        };
        let table = &meant.shape.name;
        let counted = self.counted.entry(table.clone()).or_insert((how, 0));
        counted.1 += u64::try_from(number).unwrap_or_default();
        if how == How::Insert || number > 0 {
            self.triggers(table)?;
        }
        Ok(())
    }

    /// Adds everything that follows.
    pub(super) fn follow(&mut self) -> Result<(), Fault> {
        for wave in 0..MOST_WAVES {
            let mut more = 0;
            for key in self.keys.clone() {
                if let Some(parent) = self.catalog.name(&key.parent).filter(|p| self.sets.contains_key(*p)) {
                    let parent = parent.to_owned();
                    more += self.spread(&key, &parent, wave)?;
                }
            }
            if more == 0 && self.few {
                return Ok(());
            }
            if more == 0 {
                return self.refuse();
            }
        }
        self.at_least.push(format!("references are longer than {MOST_WAVES} records in a row"));
        self.refuse()
    }

    /// What one foreign key brings in one wave.
    fn spread(&mut self, key: &ForeignKey, parent: &str, wave: i64) -> Result<usize, Fault> {
        let next = self.number(key.columns.iter().map(|(child, _)| child.to_ascii_lowercase()).collect());
        self.set(&key.child)?;
        let (Some(from), Some(to)) = (self.sets.get(parent), self.sets.get(&key.child)) else { return Ok(0) };
        let mut more = 0;
        let moving = self.moving(key, parent);
        for (source, follow) in [
            (format!("s.how <= {CASCADE}"), key.on_delete),
            (format!("s.how > {CASCADE} AND {moving}"), key.on_update),
        ] {
            let deleting = source.starts_with("s.how <=");
            let (how, columns) = match follow {
                Follow::Refuse => continue,
                Follow::Cascade if deleting => (CASCADE, 0),
                Follow::Cascade => (UPDATE, next),
                Follow::Unlink => (UNLINK, next),
            };
            let sql = format!(
                "INSERT OR IGNORE INTO temp.{} ({}, how, columns, wave) SELECT {}, {how}, {columns}, {} {} AND {source} AND s.wave = {wave}{}",
                to.temp,
                to.keys().join(", "),
                key_names(&to.shape, "c").join(", "),
                wave + 1,
                join(key, from),
                self.limit(),
            );
            more += self.connection.execute(&sql, [])?;
        }
        Ok(more)
    }

    /// Whether the columns that a row of the parent's set changes are among those that `key` refers to.
    fn moving(&self, key: &ForeignKey, parent: &str) -> String {
        let shape = self.sets.get(parent).map(|set| &set.shape);
        let referred = |column: &String| {
            key.columns.iter().any(|(_, to)| {
                to.eq_ignore_ascii_case(column) || shape.is_some_and(|s| s.is_rowid(to) && s.is_rowid(column))
            })
        };
        let numbers = self.columns.iter().enumerate().filter(|(_, set)| set.iter().any(referred));
        let numbers: Vec<String> = numbers.map(|(number, _)| number.to_string()).collect();
        format!("s.columns IN ({})", numbers.join(", "))
    }

    /// Records that refer to affected ones and forbid it.
    fn refuse(&mut self) -> Result<(), Fault> {
        for key in self.keys.clone() {
            let Some(parent) = self.catalog.name(&key.parent).map(str::to_owned) else { continue };
            let Some(from) = self.sets.get(&parent) else { continue };
            let mut which = Vec::new();
            if key.on_delete == Follow::Refuse {
                which.push(format!("s.how <= {CASCADE}"));
            }
            if key.on_update == Follow::Refuse {
                which.push(format!("(s.how > {CASCADE} AND {})", self.moving(&key, &parent)));
            }
            if which.is_empty() {
                continue;
            }
            let spared = match self.sets.get(&key.child) {
                Some(to) => {
                    let pairs = key_names(&to.shape, "c").into_iter().zip(to.keys());
                    let same: Vec<_> = pairs.map(|(name, k)| format!("{name} = g.{k}")).collect();
                    format!(
                        "AND NOT EXISTS (SELECT 1 FROM temp.{} g WHERE g.how <= {CASCADE} AND {})",
                        to.temp,
                        same.join(" AND ")
                    )
                }
                None => String::new(),
            };
            let sql = format!("SELECT count(*) {} AND ({}) {spared}", join(&key, from), which.join(" OR "));
            let number: i64 = self.connection.query_row(&sql, [], |row| row.get(0))?;
            if number > 0 {
                self.refusals.push(format!("{number} records of {} refer to them and forbid it", key.child));
            }
        }
        for name in self.sets.keys().cloned().collect::<Vec<_>>() {
            self.triggers(&name)?;
        }
        Ok(())
    }

    /// A table with triggers may change more than can be known.
    fn triggers(&mut self, table: &str) -> Result<(), Fault> {
        let mut list = self.connection.prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE ORDER BY name",
        )?;
        let names: Vec<String> = list.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let empty = match self.sets.get(table) {
            Some(set) => {
                let sql = format!("SELECT NOT EXISTS (SELECT 1 FROM temp.{})", set.temp);
                self.connection.query_row(&sql, [], |row| row.get(0))?
            }
            None => false,
        };
        if !names.is_empty() && !empty {
            self.at_least.push(format!("{table} has triggers that may change more: {}", names.join(", ")));
        }
        Ok(())
    }

    /// How many records, by table and way.
    pub(super) fn affected(&self) -> Result<Vec<Affected>, Fault> {
        let mut affected = Vec::new();
        for (resource, (how, records)) in &self.counted {
            // As little is said of none as where sets are kept.
            if *how == How::Insert || *records > 0 {
                affected.push(Affected { resource: resource.clone(), how: *how, records: *records });
            }
        }
        for set in self.list() {
            let sql = format!(
                "SELECT how, count(*) FROM (SELECT min(how) AS how FROM temp.{} GROUP BY {}) GROUP BY how ORDER BY how",
                set.temp,
                set.keys().join(", ")
            );
            let mut counts = self.connection.prepare(&sql)?;
            let mut rows = counts.query([])?;
            while let Some(row) = rows.next()? {
                let how = match row.get(0)? {
                    DELETE => How::Delete,
                    CASCADE => How::Cascade,
                    UNLINK => How::Unlink,
                    _ => How::Update,
                };
                let records = u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default();
                affected.push(Affected { resource: set.shape.name.clone(), how, records });
            }
        }
        Ok(affected)
    }

    fn number(&mut self, columns: BTreeSet<String>) -> usize {
        self.columns.iter().position(|known| *known == columns).unwrap_or_else(|| {
            self.columns.push(columns);
            self.columns.len() - 1
        })
    }

    fn set(&mut self, table: &str) -> Result<&Set, Fault> {
        let next = self.sets.len();
        match self.sets.entry(table.to_owned()) {
            std::collections::btree_map::Entry::Occupied(found) => Ok(found.into_mut()),
            std::collections::btree_map::Entry::Vacant(free) => {
                let shape = self.catalog.shape(self.connection, table)?;
                let set = Set { shape, temp: format!("checkrein_set_{next}"), named: false };
                let keys = set.keys().join(", ");
                self.connection.execute_batch(&format!(
                    "CREATE TEMP TABLE {0} ({keys}, how, columns, wave, PRIMARY KEY ({keys}, how, columns)) WITHOUT ROWID;
                     CREATE INDEX temp.{0}_wave ON {0} (wave)",
                    set.temp
                ))?;
                Ok(free.insert(set))
            }
        }
    }
}

/// From the rows `s` of the parent's set to the records `c` that refer to them.
fn join(key: &ForeignKey, from: &Set) -> String {
    let pairs: Vec<_> = key
        .columns
        .iter()
        // The parent's column first: its collation counts.
        .map(|(child, parent)| format!("p.{} = c.{}", quoted(parent), quoted(child)))
        .collect();
    format!(
        "FROM temp.{} AS s CROSS JOIN main.{} AS p CROSS JOIN main.{} AS c WHERE {} AND {}",
        from.temp,
        from.shape.quoted(),
        quoted(&key.child),
        from.is("p"),
        pairs.join(" AND ")
    )
}
