//! From a statement to the records that it may touch: its own, those that foreign keys lead to, and the
//! tables that triggers write.

use super::{
    connect::{Db, Session},
    count::some,
    effects,
    footprint::{Before, CHUNK, Footprint, keys_of, number, records_of},
    schema::{Action, Foreign, Schema, Table, quote},
    sql::{Change, Named, Parsed},
    value::Image,
};
use crate::{Error, How};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// What happens to records, as far as foreign keys care.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    Deleted,
    /// These columns change.
    Changed(BTreeSet<String>),
}

/// A table that is compared as a whole, and how its records would be affected.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) table: Arc<Table>,
    pub(super) cascade: bool,
    /// Whether triggers do no more to it than to add records, under numbers that AUTO_INCREMENT gives.
    pub(super) appended: bool,
}

/// What a table is written by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Anything,
    ForeignKey,
    Additions,
}

/// Keys of a table, each with a hash of its record.
pub(super) type Hashed = (Arc<Table>, Vec<(Image, blake3::Hash)>);

/// The search. Inside a transaction; with `lock`, it keeps others from changing what it finds.
pub(super) struct Walk<'a> {
    pub(super) db: &'a Db,
    pub(super) session: &'a mut Session,
    pub(super) schema: &'a mut Schema,
    pub(super) found: &'a mut Footprint,
    pub(super) watch: BTreeMap<(String, String), Watch>,
    /// Tables whose records refer to what would be deleted or changed and forbid it, and how many do.
    pub(super) forbidding: BTreeMap<String, u64>,
    /// Triggers that would fire, as `trigger of table`.
    pub(super) triggers: BTreeSet<String>,
    pub(super) lock: bool,
    /// Whether what is found is kept as before-images: nothing has been changed yet.
    pub(super) keep: bool,
    /// Whether some of what is found will do.
    pub(super) few: bool,
    /// Whether other statements belong to the same action.
    pub(super) several: bool,
    /// What a statement names, with a hash of each record before it, where that may be needed to prove that it
    /// changes no others.
    pub(super) named: Vec<Hashed>,
    /// Tables of which foreign keys delete records.
    pub(super) cascaded: BTreeSet<(String, String)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        db: &'a Db,
        session: &'a mut Session,
        schema: &'a mut Schema,
        found: &'a mut Footprint,
        lock: bool,
    ) -> Self {
        let (watch, forbidding, triggers, named, cascaded) = Default::default();
        let (keep, few, several) = (false, false, false);
        Self {
            db,
            session,
            schema,
            found,
            watch,
            forbidding,
            triggers,
            lock,
            keep,
            few,
            several,
            named,
            cascaded,
        }
    }

    pub(super) async fn table(&mut self, named: &Named) -> Result<Arc<Table>, Error> {
        let schema = named.schema.as_deref().unwrap_or(&self.db.database);
        self.touched(schema, &named.table).await
    }

    /// A table whose records may change. Before they do, it is known that they could be put back.
    async fn touched(&mut self, schema: &str, name: &str) -> Result<Arc<Table>, Error> {
        let table = self.schema.table(self.db, self.session, schema, name).await?;
        if self.lock {
            self.session.grants.may_change(&self.db.target, &table.schema, &table.name)?;
        }
        Ok(table)
    }

    /// The tables that a statement changes itself, with what they are called in it and what happens.
    pub(super) async fn targets(
        &mut self,
        change: &Change,
        deletes: bool,
    ) -> Result<Vec<(Named, Arc<Table>, Fate)>, Error> {
        let mut targets = Vec::new();
        if deletes {
            for alias in &change.doomed {
                let named = change.tables.iter().find(|n| n.alias.eq_ignore_ascii_case(alias));
                let named =
                    named.or_else(|| change.tables.iter().find(|n| n.table.eq_ignore_ascii_case(alias)));
                let named = named
                    .ok_or_else(|| Error::Invalid(format!("{alias} is not in the FROM of this DELETE")))?;
                targets.push((named.clone(), self.table(named).await?, Fate::Deleted));
            }
            return Ok(targets);
        }
        let mut columns: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for (of, column) in &change.assigned {
            let place = self.owner(change, of.as_deref(), column).await?;
            columns.entry(place).or_default().insert(column.to_lowercase());
        }
        for (place, mut columns) in columns {
            let Some(named) = change.tables.get(place) else { continue };
            let table = self.table(named).await?;
            columns.extend(effects::assigned(&table.triggers));
            targets.push((named.clone(), table, Fate::Changed(columns)));
        }
        Ok(targets)
    }

    /// Which of the tables has the column that is assigned.
    async fn owner(&mut self, change: &Change, of: Option<&str>, column: &str) -> Result<usize, Error> {
        if change.tables.len() == 1 {
            return Ok(0);
        }
        for (place, named) in change.tables.iter().enumerate() {
            if let Some(of) = of {
                if named.alias.eq_ignore_ascii_case(of) {
                    return Ok(place);
                }
                continue;
            }
            let schema = named.schema.as_deref().unwrap_or(&self.db.database);
            let sql = "SELECT COUNT(*) FROM information_schema.COLUMNS \
                       WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND COLUMN_NAME = ?";
            if number(&self.session.rows(sql, (schema, &named.table, column)).await?)? > 0 {
                return Ok(place);
            }
        }
        Err(Error::Invalid(format!("no table of this statement has the column {column}")))
    }

    /// Finds the records that an UPDATE or DELETE names, and what follows from it. Answers how many it names.
    pub(super) async fn change(
        &mut self,
        parsed: &Parsed,
        change: &Change,
        deletes: bool,
    ) -> Result<u64, Error> {
        let targets = self.targets(change, deletes).await?;
        let mut named_records = 0;
        for (named, table, fate) in &targets {
            let (from, tail) = (&change.from, &change.tail);
            let query = |list: &str, lock: &str| parsed.bind(&format!("SELECT {list} {from}{tail}{lock}"));
            let alias = quote(&named.alias);
            let how = if deletes { How::Delete } else { How::Update };
            let (mut keys, mut seen) = (Vec::new(), BTreeSet::new());
            let follows = !self.schema.children(table)?.is_empty();
            let (found, several) = (&mut *self.found, change.tables.len() > 1);
            let mut each = |key: Image, before: Before| {
                // A join names a record once for each pair; records without a key may be the same.
                if several && table.keyed && !seen.insert(key.clone()) {
                    return Ok(());
                }
                named_records += 1;
                if follows {
                    keys.push(key.clone());
                }
                found.add(table, key, how, before).map(drop)
            };
            if self.lock || self.keep {
                // All columns, also where they are not kept: for keys alone the server would walk through
                // the smallest index, and lock that as well.
                let lock = if self.lock { " FOR UPDATE" } else { "" };
                let (sql, params) = query(&table.list(&alias), lock)?;
                let keep = self.keep && table.keyed;
                let before = |row| if keep { Before::There(row) } else { Before::Unknown };
                let proves = table.keyed && (self.several || follows || !table.triggers.is_empty());
                let mut hashes = Vec::new();
                records_of(self.session, &sql, params, table, |key, row| {
                    if proves {
                        hashes.push((key.clone(), blake3::hash(&row)));
                    }
                    each(key, before(row))
                })
                .await?;
                self.named.push((Arc::clone(table), hashes));
            } else {
                let (mut sql, params) = query(&table.key_list(&alias), "")?;
                if self.few {
                    // It may have a limit of its own.
                    sql = format!("SELECT * FROM ({sql}) AS some{}", some());
                }
                keys_of(self.session, &sql, params, |key| each(key, Before::Unknown)).await?;
            }
            if let Fate::Changed(columns) = fate
                && (!table.keyed || columns.iter().any(|c| table.in_key(c)))
            {
                self.watch(table, By::Anything);
            }
            // Which of those that are alike go is not known.
            if self.lock && deletes && !table.keyed && (self.several || !table.triggers.is_empty()) {
                self.watch(table, By::Anything);
            }
            self.follow(Arc::clone(table), keys, fate.clone()).await?;
            let event = if deletes { "DELETE" } else { "UPDATE" };
            self.fire(table, &[event]).await?;
        }
        Ok(named_records)
    }

    fn watch(&mut self, table: &Arc<Table>, by: By) {
        let watch = self.watch.entry(table.id()).or_insert_with(|| Watch {
            table: Arc::clone(table),
            cascade: by == By::ForeignKey,
            appended: true,
        });
        watch.appended &= by == By::Additions;
    }

    /// Follows foreign keys from records that are deleted or changed to those that refer to them.
    pub(super) async fn follow(
        &mut self,
        table: Arc<Table>,
        keys: Vec<Image>,
        fate: Fate,
    ) -> Result<(), Error> {
        let mut todo = VecDeque::from([(table, keys, fate)]);
        let mut forbid: Vec<(Arc<Table>, Foreign, Vec<Image>)> = Vec::new();
        let mut done: BTreeMap<((String, String), Fate), BTreeSet<Image>> = BTreeMap::new();
        while let Some((parent, keys, fate)) = todo.pop_front() {
            if keys.is_empty() {
                continue;
            }
            let list = self.schema.children(&parent)?;
            for foreign in list.iter() {
                let Some(action) = consequence(&parent, foreign, &fate) else { continue };
                let own: BTreeSet<String> = foreign.columns.iter().map(|(c, _)| c.to_lowercase()).collect();
                if action == Action::Restrict {
                    if !self.lock && !self.few {
                        forbid.push((Arc::clone(&parent), foreign.clone(), keys.clone()));
                    }
                    continue;
                }
                let (name, next) = match (action, &fate) {
                    (Action::Cascade, Fate::Deleted) => (How::Cascade, Fate::Deleted),
                    (Action::SetNull, _) => (How::Unlink, Fate::Changed(own)),
                    _ => (How::Update, Fate::Changed(own)),
                };
                let (schema, child) = &foreign.child;
                let child = self.touched(schema, child).await?;
                if next == Fate::Deleted {
                    self.cascaded.insert(child.id());
                }
                if let Fate::Changed(columns) = &next
                    && (!child.keyed || columns.iter().any(|c| child.in_key(c)))
                {
                    self.watch(&child, By::Anything);
                }
                let done = done.entry((child.id(), next.clone())).or_default();
                let mut fresh = Vec::new();
                let keep = self.keep && child.keyed;
                for chunk in keys.chunks(CHUNK) {
                    let found = &mut *self.found;
                    let mut each = |key: Image, before: Before| {
                        if done.insert(key.clone()) {
                            fresh.push(key.clone());
                        }
                        found.add(&child, key, name, before).map(drop)
                    };
                    let list = if keep { child.list("c") } else { child.key_list("c") };
                    let (mut sql, params) = children_sql(&parent, &list, foreign, chunk, self.lock)?;
                    if self.few {
                        sql.push_str(&some());
                    }
                    if keep {
                        records_of(self.session, &sql, params, &child, |key, row| {
                            each(key, Before::There(row))
                        })
                        .await?;
                    } else {
                        keys_of(self.session, &sql, params, |key| each(key, Before::Unknown)).await?;
                    }
                }
                todo.push_back((child, fresh, next));
            }
        }
        for (parent, foreign, keys) in forbid {
            let count = self.refer(&parent, &foreign, &keys).await?;
            if count > 0 {
                let name = self.db.resource(&foreign.child.0, &foreign.child.1);
                *self.forbidding.entry(name).or_default() += count;
            }
        }
        Ok(())
    }

    /// How many records refer to these and would not go with them.
    async fn refer(&mut self, parent: &Table, foreign: &Foreign, keys: &[Image]) -> Result<u64, Error> {
        let (schema, child) = &foreign.child;
        let child = self.schema.table(self.db, self.session, schema, child).await?;
        let mut count = 0;
        for chunk in keys.chunks(CHUNK) {
            let (sql, params) = children_sql(parent, &child.key_list("c"), foreign, chunk, false)?;
            let found = &*self.found;
            keys_of(self.session, &sql, params, |key| {
                let goes = found.tables.get(&child.id()).and_then(|t| t.records.get(&key)).map(|t| t.how);
                count += u64::from(!matches!(goes, Some(How::Delete | How::Cascade)));
                Ok(())
            })
            .await?;
        }
        Ok(count)
    }

    /// Whatever the triggers of `table` on these events write is compared as a whole.
    pub(super) async fn fire(&mut self, table: &Arc<Table>, events: &[&str]) -> Result<(), Error> {
        let mut todo: Vec<(Arc<Table>, By)> = Vec::new();
        self.written_by(table, events, &mut todo).await?;
        self.close(todo).await
    }

    /// Compares `table` as a whole, and everything that could follow from any change of it.
    pub(super) async fn anything(&mut self, table: &Arc<Table>) -> Result<(), Error> {
        self.close(vec![(Arc::clone(table), By::Anything)]).await
    }

    async fn close(&mut self, mut todo: Vec<(Arc<Table>, By)>) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        while let Some((table, by)) = todo.pop() {
            if !seen.insert((table.id(), by)) {
                continue;
            }
            self.watch(&table, by);
            if by == By::Additions {
                continue;
            }
            let list = self.schema.children(&table)?;
            for foreign in list.iter() {
                if (foreign.on_delete, foreign.on_update) != (Action::Restrict, Action::Restrict) {
                    let (schema, child) = &foreign.child;
                    todo.push((self.touched(schema, child).await?, By::ForeignKey));
                }
            }
            // Foreign keys fire no triggers; statements do, those in triggers too.
            if by != By::ForeignKey {
                self.written_by(&table, &["INSERT", "UPDATE", "DELETE"], &mut todo).await?;
            }
        }
        Ok(())
    }

    async fn written_by(
        &mut self,
        table: &Arc<Table>,
        events: &[&str],
        into: &mut Vec<(Arc<Table>, By)>,
    ) -> Result<(), Error> {
        self.session.grants.see_triggers(&self.db.target, &table.schema, &table.name)?;
        for trigger in table.triggers.iter().filter(|t| events.contains(&t.event.as_str())) {
            self.triggers.insert(format!("{} of {}", trigger.name, table.resource));
            for ((schema, name), added) in effects::of(trigger, &table.resource)? {
                let schema = schema.unwrap_or_else(|| table.schema.clone());
                let written = self.touched(&schema, &name).await?;
                self.session.grants.see_triggers(&self.db.target, &written.schema, &written.name)?;
                let auto = written.key_columns().find(|c| c.auto).map(|c| c.name.to_lowercase());
                let given = match (&added, &auto) {
                    (Some(columns), Some(auto)) => columns.contains(auto),
                    _ => true,
                };
                let additions = !given && written.keyed && written.triggers.is_empty();
                into.push((written, if additions { By::Additions } else { By::Anything }));
            }
        }
        Ok(())
    }
}

/// What a foreign key does about it; `None`: nothing.
pub(super) fn consequence(parent: &Table, foreign: &Foreign, fate: &Fate) -> Option<Action> {
    match fate {
        Fate::Deleted => Some(foreign.on_delete),
        // Computed columns and stamps change with others.
        Fate::Changed(columns) => {
            let changes = |name: &String| {
                columns.contains(&name.to_lowercase())
                    || parent.column(name).is_none_or(|c| c.generated || c.stamped)
            };
            foreign.columns.iter().any(|(_, c)| changes(c)).then_some(foreign.on_update)
        }
    }
}

/// A SELECT of the records of the child (`c`) that refer to the given ones of the parent.
fn children_sql(
    parent: &Table,
    list: &str,
    foreign: &Foreign,
    keys: &[Image],
    lock: bool,
) -> Result<(String, Vec<mysql_async::Value>), Error> {
    let on: Vec<_> =
        foreign.columns.iter().map(|(c, p)| format!("c.{} = p.{}", quote(c), quote(p))).collect();
    let mut params = Vec::with_capacity(keys.len() * parent.key.len());
    for key in keys {
        parent.key_params(key, &mut params)?;
    }
    let child = format!("{}.{}", quote(&foreign.child.0), quote(&foreign.child.1));
    let sql = format!(
        "SELECT {list} FROM {child} AS c JOIN {} AS p ON {} WHERE {}{}",
        parent.sql(),
        on.join(" AND "),
        parent.with_keys("p", keys.len()),
        if lock { " FOR UPDATE" } else { "" }
    );
    Ok((sql, params))
}
