//! What an action would touch, counted before it runs: in a read-only transaction, from its own condition and
//! along the foreign keys.

use super::{
    connect::{Db, Purpose, Session},
    footprint::{Before, Footprint, keys_of, number},
    result,
    schema::{Schema, Table, join, quote},
    sql::{Change, Named, NewRows, Parsed, Work},
    value::{Image, param},
    walk::{Fate, Walk, consequence},
};
use crate::{Affected, Counted, Error, How, ResultSet, Selection, Statement, stay, target::SAMPLE_FROM};
use mysql_async::{Params, Value};
use serde_json::{Map, Value as Json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Counts.
pub(super) async fn count(db: &Db, what: &Selection) -> Result<Counted, Error> {
    db.within(Purpose::Count, async {
        let mut counting = Counting::begin(db, Purpose::Count).await?;
        counting.everything(what).await?;
        Ok(counting.counted())
    })
    .await
}

/// Runs a statement that only reads.
pub(super) async fn read(db: &Db, statement: &Statement) -> Result<ResultSet, Error> {
    let parsed = Parsed::read(statement)?;
    if !matches!(parsed.work, Work::Read) {
        return Err(Error::Invalid("this statement changes something; it must be executed".to_owned()));
    }
    db.within(Purpose::Count, async {
        let mut session = db.begin(Purpose::Count).await?;
        let (sql, params) = parsed.bind(&parsed.sql)?;
        Ok(result::run(&mut session, db, &sql, params, 0).await?.set)
    })
    .await
}

/// Records that are named by their keys or by values.
pub(super) struct Meant {
    pub(super) table: Arc<Table>,
    /// Each is a part of a SELECT of them from `t`.
    pub(super) conditions: Vec<Condition>,
    pub(super) how: How,
    /// Whether something could follow through foreign keys.
    pub(super) follows: bool,
}

/// What has been found so far, without locks.
pub(super) struct Counting<'a> {
    db: &'a Db,
    pub(super) session: Session,
    schema: Schema,
    pub(super) found: Footprint,
    /// Counted without keeping the keys.
    more: BTreeMap<(String, How), u64>,
    pub(super) named: Vec<String>,
    forbidding: BTreeMap<String, u64>,
    at_least: BTreeSet<String>,
    /// Whether the records are kept, too.
    keep: bool,
    /// Whether some of them will do.
    few: bool,
}

impl<'a> Counting<'a> {
    pub(super) async fn begin(db: &'a Db, purpose: Purpose) -> Result<Self, Error> {
        let session = db.begin(purpose).await?;
        Ok(Self {
            db,
            session,
            schema: Schema::default(),
            found: Footprint::default(),
            more: BTreeMap::new(),
            named: Vec::new(),
            forbidding: BTreeMap::new(),
            at_least: BTreeSet::new(),
            keep: purpose == Purpose::Snapshot,
            few: false,
        })
    }

    /// One that finds some records, and counts none.
    pub(super) async fn few(db: &'a Db) -> Result<Self, Error> {
        Ok(Self { few: true, ..Self::begin(db, Purpose::Count).await? })
    }

    /// Everything that `what` means.
    pub(super) async fn everything(&mut self, what: &Selection) -> Result<(), Error> {
        let Selection::Statements(list) = what else { return self.selection(what).await };
        for statement in list {
            let parsed = Parsed::read(statement)?;
            if !(self.few && matches!(parsed.work, Work::Read | Work::Insert(_))) {
                self.statement(&parsed, !self.few).await?;
            }
        }
        Ok(())
    }

    fn walk(&mut self) -> Walk<'_> {
        let walk = Walk::new(self.db, &mut self.session, &mut self.schema, &mut self.found, false);
        Walk { keep: self.keep, few: self.few, ..walk }
    }

    /// One statement. `only_numbers`: the keys are not needed where nothing follows from them.
    pub(super) async fn statement(&mut self, parsed: &Parsed, only_numbers: bool) -> Result<(), Error> {
        match &parsed.work {
            Work::Read => {
                let rows = self.returned(parsed, &parsed.sql).await?;
                *self.more.entry((String::new(), How::Read)).or_default() += rows;
                Ok(())
            }
            Work::Update(change) | Work::Delete(change) => {
                let deletes = matches!(parsed.work, Work::Delete(_));
                if only_numbers && self.plain(parsed, change, deletes).await? {
                    return Ok(());
                }
                let mut walk = self.walk();
                walk.change(parsed, change, deletes).await?;
                let targets = walk.targets(change, deletes).await?;
                let (forbidding, triggers) = (walk.forbidding, walk.triggers);
                self.named.extend(targets.into_iter().map(|(_, table, _)| table.resource.clone()));
                self.note(forbidding, triggers);
                Ok(())
            }
            Work::Insert(new) => self.insert(parsed, new).await,
        }
    }

    /// Refuses a statement that changes the keys by which its records are to be found again.
    pub(super) async fn keeps_keys(&mut self, parsed: &Parsed) -> Result<(), Error> {
        let Work::Update(change) = &parsed.work else { return Ok(()) };
        for (_, table, fate) in self.walk().targets(change, false).await? {
            if let Fate::Changed(columns) = fate
                && table.keyed
                && let Some(column) = columns.iter().find(|column| table.in_key(column))
            {
                return Err(Error::Unmeasurable(stay::changes_key(&table.resource, column)));
            }
        }
        Ok(())
    }

    fn note(&mut self, forbidding: BTreeMap<String, u64>, triggers: BTreeSet<String>) {
        for (resource, count) in forbidding {
            *self.forbidding.entry(resource).or_default() += count;
        }
        self.at_least
            .extend(triggers.into_iter().map(|t| format!("the trigger {t} fires and may change more")));
    }

    /// The common case: one table, and nothing follows. Whether it was that.
    async fn plain(&mut self, parsed: &Parsed, change: &Change, deletes: bool) -> Result<bool, Error> {
        if change.tables.len() != 1 {
            return Ok(false);
        }
        let mut walk = self.walk();
        let targets = walk.targets(change, deletes).await?;
        let [(_, table, fate)] = targets.as_slice() else { return Ok(false) };
        let event = if deletes { "DELETE" } else { "UPDATE" };
        walk.fire(table, &[event]).await?;
        let children = walk.schema.children(table)?;
        let follows = children.iter().any(|f| consequence(table, f, fate).is_some());
        let triggers = walk.triggers;
        if follows {
            return Ok(false);
        }
        let text = format!("SELECT COUNT(*) FROM (SELECT 1 {}{}) AS counted", change.from, change.tail);
        let (sql, params) = parsed.bind(&text)?;
        let rows = number(&self.session.rows(&sql, positional(params)).await?)?;
        let how = if deletes { How::Delete } else { How::Update };
        *self.more.entry((table.resource.clone(), how)).or_default() += rows;
        self.named.push(table.resource.clone());
        self.note(BTreeMap::new(), triggers);
        Ok(true)
    }

    /// How many rows a query returns.
    async fn returned(&mut self, parsed: &Parsed, query: &str) -> Result<u64, Error> {
        if !query.to_ascii_uppercase().starts_with("SELECT") && !query.starts_with('(') {
            let (sql, params) = parsed.bind(query)?;
            let mut rows = 0;
            keys_of(&mut self.session, &sql, params, |_| {
                rows += 1;
                Ok(())
            })
            .await?;
            return Ok(rows);
        }
        let (sql, params) = parsed.bind(&format!("SELECT COUNT(*) FROM ({query}) AS counted"))?;
        match self.session.rows(&sql, positional(params)).await {
            Ok(rows) => number(&rows),
            // Two columns of one name make no table.
            Err(Error::Statement { code, .. }) if code == "42S21" => {
                let (sql, params) = parsed.bind(query)?;
                let mut rows = 0;
                keys_of(&mut self.session, &sql, params, |_| {
                    rows += 1;
                    Ok(())
                })
                .await?;
                Ok(rows)
            }
            Err(error) => Err(error),
        }
    }

    async fn insert(&mut self, parsed: &Parsed, new: &NewRows) -> Result<(), Error> {
        let mut walk = self.walk();
        let table = walk.table(&new.table).await?;
        let mut events = vec!["INSERT"];
        events.extend(new.updates.is_some().then_some("UPDATE"));
        events.extend(new.replace.then_some("DELETE"));
        walk.fire(&table, &events).await?;
        let triggers = walk.triggers;
        self.note(BTreeMap::new(), triggers);
        if new.replace {
            self.at_least.insert(format!(
                "REPLACE also removes records of {} whose unique values are taken again",
                table.resource
            ));
        }
        let rows = match (&new.rows, &new.query) {
            (Some(rows), _) => rows.len() as u64,
            (None, Some(query)) => self.returned(parsed, query).await?,
            (None, None) => 1,
        };
        *self.more.entry((table.resource.clone(), How::Insert)).or_default() += rows;
        self.named.push(table.resource.clone());
        Ok(())
    }

    /// Records that are named by their keys or by values, and what would follow.
    async fn selection(&mut self, what: &Selection) -> Result<(), Error> {
        let Some(meant) = self.meant(what).await? else { return Ok(()) };
        let mut keys: Vec<Image> = Vec::new();
        for (condition, params) in &meant.conditions {
            let table = &meant.table;
            let some = if self.few { some() } else { String::new() };
            let sql = format!("SELECT {} FROM {} AS t{condition}{some}", table.key_list("t"), table.sql());
            let found = &mut self.found;
            keys_of(&mut self.session, &sql, params.clone(), |key| {
                if meant.follows {
                    keys.push(key.clone());
                }
                found.add(table, key, meant.how, Before::Unknown).map(drop)
            })
            .await?;
        }
        self.follow(&meant, keys).await
    }

    /// The records that a selection names itself; `None` for statements.
    pub(super) async fn meant(&mut self, what: &Selection) -> Result<Option<Meant>, Error> {
        let (resource, delete) = match what {
            Selection::Records { resource, delete, .. } | Selection::Where { resource, delete, .. } => {
                (resource, *delete)
            }
            Selection::Statements(_) => return Ok(None),
        };
        let mut walk = self.walk();
        let table = walk.table(&name(resource)).await?;
        let conditions = match what {
            Selection::Records { ids, .. } => by_ids(&table, ids)?,
            Selection::Where { filter, .. } => vec![by_values(&table, filter)?],
            Selection::Statements(_) => Vec::new(),
        };
        let children = walk.schema.children(&table)?;
        let follows = delete && children.iter().any(|f| consequence(&table, f, &Fate::Deleted).is_some());
        let how = if delete { How::Delete } else { How::Update };
        Ok(Some(Meant { table, conditions, how, follows }))
    }

    /// What would follow from what was meant.
    pub(super) async fn follow(&mut self, meant: &Meant, keys: Vec<Image>) -> Result<(), Error> {
        let mut walk = self.walk();
        walk.follow(Arc::clone(&meant.table), keys, Fate::Deleted).await?;
        let event = if meant.how == How::Delete { "DELETE" } else { "UPDATE" };
        walk.fire(&meant.table, &[event]).await?;
        let (forbidding, triggers) = (walk.forbidding, walk.triggers);
        self.named.push(meant.table.resource.clone());
        self.note(forbidding, triggers);
        Ok(())
    }

    pub(super) fn counted(self) -> Counted {
        let mut numbers = self.more;
        for touched in self.found.tables.values() {
            for trace in touched.records.values() {
                *numbers.entry((touched.table.resource.clone(), trace.how)).or_default() += 1;
            }
        }
        let mut affected: Vec<Affected> = numbers
            .into_iter()
            .map(|((resource, how), records)| Affected { resource, how, records })
            .filter(|a| a.records > 0)
            .collect();
        affected.sort_by_key(|a| !self.named.contains(&a.resource));
        let refusals = self
            .forbidding
            .into_iter()
            .map(|(resource, count)| {
                let records = if count == 1 { "1 record".to_owned() } else { format!("{count} records") };
                format!("{records} of {resource} refer to them and forbid it")
            })
            .collect();
        Counted { affected, refusals, at_least: self.at_least.into_iter().collect() }
    }
}

/// Ends a query for records of which some will do.
pub(super) fn some() -> String {
    format!(" LIMIT {SAMPLE_FROM}")
}

fn positional(params: Vec<Value>) -> Params {
    if params.is_empty() { Params::Empty } else { Params::Positional(params) }
}

/// `users` or `database.users`.
fn name(resource: &str) -> Named {
    match resource.split_once('.') {
        Some((schema, table)) => {
            Named { schema: Some(schema.to_owned()), table: table.to_owned(), alias: table.to_owned() }
        }
        None => Named { schema: None, table: resource.to_owned(), alias: resource.to_owned() },
    }
}

/// A condition and its parameters.
type Condition = (String, Vec<Value>);

fn by_ids(table: &Table, ids: &[Json]) -> Result<Vec<Condition>, Error> {
    if !table.keyed {
        return Err(Error::Invalid(format!("{} has no primary key to name records by", table.resource)));
    }
    let columns: Vec<_> = table.key_columns().collect();
    let wrong = || {
        let names: Vec<_> = columns.iter().map(|c| c.name.as_str()).collect();
        Error::Invalid(format!("the key of {} is ({})", table.resource, names.join(", ")))
    };
    let mut conditions = Vec::new();
    for chunk in ids.chunks(super::footprint::CHUNK) {
        let mut params = Vec::new();
        for id in chunk {
            let values: Vec<&Json> = match id {
                Json::Array(list) => list.iter().collect(),
                Json::Object(map) => {
                    if map.len() != columns.len() {
                        return Err(wrong());
                    }
                    columns.iter().filter_map(|c| map.get(&c.name)).collect()
                }
                one => vec![one],
            };
            if values.len() != columns.len() {
                return Err(wrong());
            }
            for (column, value) in columns.iter().zip(values) {
                params.push(fitting(column, value)?);
            }
        }
        let left = join(columns.iter().map(|c| format!("t.{}", quote(&c.name))));
        let one = format!("({})", vec!["?"; columns.len()].join(", "));
        conditions.push((format!(" WHERE ({left}) IN ({})", vec![one; chunk.len()].join(", ")), params));
    }
    Ok(conditions)
}

fn by_values(table: &Table, filter: &Map<String, Json>) -> Result<Condition, Error> {
    let (mut parts, mut params) = (Vec::new(), Vec::new());
    for (name, value) in filter {
        let column = table
            .column(name)
            .ok_or_else(|| Error::Invalid(format!("{} has no column {name}", table.resource)))?;
        let at = format!("t.{}", quote(&column.name));
        let values: Vec<&Json> = match value {
            Json::Array(list) => list.iter().collect(),
            one => vec![one],
        };
        let mut any = Vec::new();
        for value in values {
            if value.is_null() {
                any.push(format!("{at} IS NULL"));
            } else {
                any.push(format!("{at} = ?"));
                params.push(fitting(column, value)?);
            }
        }
        parts.push(if any.is_empty() { "FALSE".to_owned() } else { format!("({})", any.join(" OR ")) });
    }
    let condition = if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) };
    Ok((condition, params))
}

/// A value that the server compares as it stands. A text beside a number would be read as one: `'abc'` as 0.
fn fitting(column: &super::schema::Column, value: &Json) -> Result<Value, Error> {
    use super::schema::Sort;
    let numeric = column.sort == Sort::Decimal
        || ["int", "float", "double", "year", "bit"].iter().any(|t| column.declared.contains(t));
    let numeric = numeric && !matches!(column.sort, Sort::Text | Sort::Bytes | Sort::Geometry | Sort::Enum);
    let fits = match value {
        Json::String(text) if numeric => text.parse::<f64>().is_ok_and(f64::is_finite),
        Json::Number(_) => numeric || matches!(column.sort, Sort::Text | Sort::Enum),
        Json::Array(_) | Json::Object(_) | Json::Null => false,
        _ => true,
    };
    if !fits {
        return Err(Error::Invalid(format!(
            "{value} is no value for the column {} ({})",
            column.name, column.declared
        )));
    }
    match (column.sort, value) {
        (Sort::Text | Sort::Enum, Json::Number(n)) => Ok(Value::Bytes(n.to_string().into_bytes())),
        _ => Ok(param(value)),
    }
}
