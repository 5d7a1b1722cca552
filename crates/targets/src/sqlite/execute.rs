//! A guarded execution: run in a transaction that stays open, measured, captured, then committed or undone.
//!
//! The agent's connection holds the write lock, so nobody else can commit; an observer, begun right after,
//! therefore sees exactly the state before. What differs between the two is what the agent did, whatever
//! way it took: triggers, cascades, REPLACE.

use super::{
    connect::{Clock, Fault, File, Pair},
    diff::{Finder, Scan, differences},
    evidence::Evidence,
    integrity::{self, Concern},
    load::ORDERED,
    schema::{Catalog, Follow, ForeignKey, Shape, schema_version},
    stream::Sink,
    value,
    watch::{Mode, Touched, Watch},
};
use crate::{
    Affected, Captured, Error, How, Limits, Measured, ResultSet, RowsDigest, Statement, TargetConfig,
    binding::{self, Binding},
};
use rusqlite::Connection;
use serde_json::json;
use sqlparser::dialect::SQLiteDialect;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

/// An open transaction that has done its work.
pub(super) struct Open {
    agent: Connection,
    file: File,
    observer: Option<Connection>,
    tables: Vec<Changed>,
    /// What differs, if it is not too much to remember. Nobody else can write before the transaction ends.
    images: Option<Images>,
    /// Counters of AUTOINCREMENT that moved: table, before, after.
    sequences: Vec<Moved>,
    pub(super) clock: Arc<Clock>,
    pub(super) measured: Measured,
    pub(super) results: Vec<ResultSet>,
    pub(super) token: String,
    /// What the agent sent.
    statements: Vec<Statement>,
    /// Whether an approval will be bound to it.
    pub(super) bound: bool,
}

/// A counter of AUTOINCREMENT: table, value before, value after; null is absence.
pub(super) type Moved = (String, Option<i64>, Option<i64>);

/// What is told of each record that differs: its table and that one's number, before, after.
type EachChange<'a> = dyn FnMut(usize, &Changed, Option<&[u8]>, Option<&[u8]>) -> Result<(), Fault> + 'a;

/// Bytes of images that are remembered.
const MOST_REMEMBERED: usize = 32 << 20;

/// Images in memory.
#[derive(Default)]
struct Images {
    /// One after the other.
    bytes: Vec<u8>,
    /// Of each record its table's number, and how long its images are.
    records: Vec<(usize, Option<usize>, Option<usize>)>,
}

impl Images {
    /// Takes one more. False when there is no room.
    fn add(&mut self, table: usize, before: Option<&[u8]>, after: Option<&[u8]>) -> bool {
        self.records.push((table, before.map(<[u8]>::len), after.map(<[u8]>::len)));
        self.bytes.extend_from_slice(before.unwrap_or_default());
        self.bytes.extend_from_slice(after.unwrap_or_default());
        self.bytes.len() + self.records.len() * 48 <= MOST_REMEMBERED
    }

    /// Tells all of them again.
    fn each(
        &self,
        mut work: impl FnMut(usize, Option<&[u8]>, Option<&[u8]>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut rest = self.bytes.as_slice();
        let lost = || Error::Internal("an image was lost".to_owned());
        for (table, before, after) in &self.records {
            let mut take = |length: &Option<usize>| match length {
                None => Ok(None),
                Some(length) => {
                    let (image, more) = rest.split_at_checked(*length).ok_or_else(lost)?;
                    rest = more;
                    Ok::<_, Error>(Some(image))
                }
            };
            let (before, after) = (take(before)?, take(after)?);
            work(*table, before, after)?;
        }
        Ok(())
    }
}

/// A table that the agent may have changed.
struct Changed {
    shape: Shape,
    scan: Scan,
    /// A statement of the agent's names it.
    direct: bool,
    /// The cells that a foreign key with SET NULL or SET DEFAULT may have changed.
    links: BTreeSet<usize>,
}

impl Changed {
    fn how(&self, before: Option<&[u8]>, after: Option<&[u8]>) -> Result<How, Fault> {
        Ok(match (before, after) {
            (None, _) => How::Insert,
            (Some(_), None) if self.direct => How::Delete,
            (Some(_), None) => How::Cascade,
            (Some(before), Some(after)) if !self.direct && !self.links.is_empty() => {
                let (before, after) = (value::cells(before)?, value::cells(after)?);
                let mut differ = (0..before.len()).filter(|c| before.get(*c) != after.get(*c));
                if differ.all(|c| self.links.contains(&c)) { How::Unlink } else { How::Update }
            }
            (Some(_), Some(_)) => How::Update,
        })
    }
}

impl Open {
    /// Runs the statements and measures what they did. On an error everything is rolled back.
    pub(super) fn run(
        config: &TargetConfig,
        path: &Path,
        clock: &Arc<Clock>,
        statements: &[Statement],
    ) -> Result<Self, Fault> {
        let Pair { writer: agent, observer, file } = Pair::open(config, path, clock, true)?;
        let catalog = Arc::new(Catalog::load(&agent)?);
        let watch = Watch::start(&agent)?;
        watch.names(Arc::clone(&catalog));
        let written = agent.total_changes();
        let mut results = Vec::new();
        let mut direct = BTreeSet::new();
        for statement in statements {
            let (result, table) = run_one(&agent, &watch, statement, &config.limits, clock)?;
            results.push(result);
            direct.extend(table);
        }
        let counted = agent.total_changes() - written;
        let vanishing = replaces(&agent, statements)?;
        let mut shapes = Vec::new();
        for (name, touched) in watch.touched() {
            if catalog.sort(&name) != Some(super::schema::Sort::View) {
                shapes.push((catalog.shape(&agent, &name)?, touched, name));
            }
        }
        // Records of tables without a rowid are counted, and not told by the hook. Anything else that is
        // counted and was not told means that the hook cannot be trusted here.
        let all_seen = counted == watch.calls() || shapes.iter().any(|(shape, ..)| shape.rowid().is_none());
        let mut tables = Vec::new();
        for (shape, touched, name) in shapes {
            let links = links(&agent, &shape)?;
            let scan = scan((&observer, &agent), &shape, touched, vanishing, all_seen, clock)?;
            tables.push(Changed { direct: direct.contains(&name), shape, scan, links });
        }
        let mut open = Self {
            sequences: sequences(&observer, &agent, &tables)?,
            agent,
            file,
            observer: Some(observer),
            tables,
            images: None,
            clock: Arc::clone(clock),
            measured: Measured::default(),
            results,
            token: String::new(),
            statements: statements.to_vec(),
            bound: false,
        };
        open.check_deferred()?;
        open.measure()?;
        Ok(open)
    }

    /// Foreign keys that are checked only at COMMIT: looked at now, so that nothing is decided about a
    /// transaction that cannot commit.
    fn check_deferred(&self) -> Result<(), Fault> {
        let deferred: bool = self.agent.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%deferred%'",
            [],
            |row| row.get(0),
        )?;
        let Some(observer) = self.observer.as_ref().filter(|_| deferred) else { return Ok(()) };
        let tables = self.tables.iter().map(|t| t.shape.name.as_str());
        let concerns: Vec<_> = tables.map(|table| Concern { table, put_back: None, lost: true }).collect();
        match integrity::new_violations((observer, &self.agent), &concerns, 1)?.pop() {
            None => Ok(()),
            Some(violation) => Err(Error::Statement {
                code: "SQLITE_CONSTRAINT_FOREIGNKEY".to_owned(),
                message: format!("FOREIGN KEY constraint failed at the end of the transaction: {violation}"),
            }
            .into()),
        }
    }

    /// Counts the difference.
    fn measure(&mut self) -> Result<(), Fault> {
        let mut counts: BTreeMap<(usize, How), u64> = BTreeMap::new();
        let mut evidence = Evidence::default();
        let mut images = Some(Images::default());
        self.differences(&mut |number, table, before, after| {
            let how = table.how(before, after)?;
            *counts.entry((number, how)).or_default() += 1;
            evidence.add(&table.shape, before, after)?;
            if images.as_mut().is_some_and(|images| !images.add(number, before, after)) {
                images = None;
            }
            Ok(())
        })?;
        self.images = images;
        self.measured = Measured { affected: self.affected(&counts), exact: true };
        self.token = evidence.token()?;
        Ok(())
    }

    /// Takes before- and after-images into `sink`.
    pub(super) fn capture(&self, mut sink: Sink) -> Result<Captured, Fault> {
        let mut counts: BTreeMap<(usize, How), u64> = BTreeMap::new();
        let mut digest = self.bound.then(|| (RowsDigest::default(), self.bindings()));
        let mut current = None;
        let mut take = |number: usize, table: &Changed, before: Option<&[u8]>, after: Option<&[u8]>| {
            let name = &table.shape.name;
            if current != Some(number) {
                sink.table(name, table.shape.to_json()?)?;
                current = Some(number);
            }
            sink.record(before, after)?;
            if let Some((digest, bindings)) = &mut digest {
                bind(digest, &table.shape, bindings.get(number).and_then(Option::as_deref), before, after)?;
            }
            *counts.entry((number, table.how(before, after)?)).or_default() += 1;
            Ok(())
        };
        match &self.images {
            Some(images) => images.each(|number, before, after| match self.tables.get(number) {
                Some(table) => take(number, table, before, after),
                None => Ok(()),
            })?,
            None => self.differences(&mut take)?,
        }
        let version = schema_version(&self.agent)?;
        let system = json!({ "sequences": self.sequences, "schema_version": version, ORDERED: true });
        sink.end(Some(system), true)?;
        Ok(Captured { affected: self.affected(&counts), digest: digest.map(|(digest, _)| digest.finish()) })
    }

    /// Of each table the cells of an after-image that an approval is bound to.
    fn bindings(&self) -> Vec<Option<Vec<usize>>> {
        let names: Vec<_> = self.tables.iter().map(|table| table.shape.names()).collect();
        let tables = self.tables.iter().map(|table| table.shape.name.as_str());
        let changed = tables.zip(names.iter().map(|names| names.iter().map(String::as_str)));
        let binding = Binding::of(&SQLiteDialect {}, &self.statements).settle(changed);
        let each = self.tables.iter().zip(&names);
        each.map(|(table, names)| binding.places(names.iter().map(String::as_str), Some(&table.shape.key)))
            .collect()
    }

    fn differences(&self, each: &mut EachChange<'_>) -> Result<(), Fault> {
        let Some(observer) = &self.observer else {
            return Err(Error::Internal("the state before is gone".to_owned()).into());
        };
        for (number, table) in self.tables.iter().enumerate() {
            let (shape, scan) = (&table.shape, &table.scan);
            differences((observer, &self.agent), shape, scan, &self.clock, &mut |before, after| {
                each(number, table, before, after)
            })?;
        }
        Ok(())
    }

    /// In words: what the statements name first.
    fn affected(&self, counts: &BTreeMap<(usize, How), u64>) -> Vec<Affected> {
        let mut sums: BTreeMap<(bool, &str, How), u64> = BTreeMap::new();
        for ((number, how), records) in counts {
            if let Some(table) = self.tables.get(*number) {
                *sums.entry((!table.direct, table.shape.name.as_str(), *how)).or_default() += records;
            }
        }
        let words = |((_, resource, how), records): ((bool, &str, How), u64)| Affected {
            resource: resource.to_owned(),
            how,
            records,
        };
        sums.into_iter().map(words).collect()
    }

    /// The transaction of a rollback: captured already, only to be committed.
    pub(super) fn of_rollback(
        (connection, file): (Connection, File),
        clock: Arc<Clock>,
        measured: Measured,
        token: String,
    ) -> Self {
        Self {
            agent: connection,
            file,
            observer: None,
            tables: Vec::new(),
            images: None,
            sequences: Vec::new(),
            clock,
            measured,
            results: Vec::new(),
            token,
            statements: Vec::new(),
            bound: false,
        }
    }

    /// Makes it durable.
    pub(super) fn commit(mut self) -> Result<(), crate::CommitError> {
        use crate::CommitError;
        // With a rollback journal, the observer's shared lock would keep the commit waiting.
        self.observer = None;
        self.file.same().map_err(|error| CommitError::NotCommitted(error.to_string()))?;
        let Err(error) = self.agent.execute_batch("COMMIT") else { return Ok(()) };
        let certain = matches!(
            error.sqlite_error_code(),
            Some(
                rusqlite::ErrorCode::DatabaseBusy
                    | rusqlite::ErrorCode::DiskFull
                    | rusqlite::ErrorCode::ConstraintViolation
                    | rusqlite::ErrorCode::OperationInterrupted
            )
        );
        let undone = self.agent.is_autocommit() || self.agent.execute_batch("ROLLBACK").is_ok();
        let words = match self.clock.explain(error.into()) {
            Error::TimedOut { limit, .. } => format!(
                "others were reading the file for longer than {limit:?}, so the change could not be committed; nothing was changed, try again"
            ),
            other => other.to_string(),
        };
        Err(if certain && undone { CommitError::NotCommitted(words) } else { CommitError::Unknown(words) })
    }
}

/// A record's part in the digest: its before-image, or the key that it was inserted under, and these cells of what is
/// left.
fn bind(
    digest: &mut RowsDigest,
    shape: &Shape,
    places: Option<&[usize]>,
    before: Option<&[u8]>,
    after: Option<&[u8]>,
) -> Result<(), Error> {
    let left = after.map(value::cells).transpose()?;
    match (before, &left) {
        (Some(before), _) => digest.add(&shape.name, before),
        (None, Some(left)) => digest.add(&shape.name, &value::join(shape.key_of(left)?.into_iter())),
        (None, None) => {}
    }
    if let (Some(places), Some(left)) = (places, &left) {
        binding::bind(digest, &shape.name, places, left);
    }
    Ok(())
}

/// Runs one statement to its end. Returns what it returned and the table that it names.
fn run_one(
    connection: &Connection,
    watch: &Watch,
    statement: &Statement,
    limits: &Limits,
    clock: &Clock,
) -> Result<(ResultSet, Option<String>), Fault> {
    let (mut prepared, table) = watch.prepare(connection, Mode::Writing, &statement.sql)?;
    let reads = prepared.readonly();
    let mut result = rows(&mut prepared, &statement.params, limits, clock)?;
    if !reads {
        result.affected = connection.changes();
    }
    Ok((result, table.filter(|_| !reads)))
}

/// Runs a prepared statement and gathers what it returns.
pub(super) fn rows(
    prepared: &mut rusqlite::Statement<'_>,
    params: &[serde_json::Value],
    limits: &Limits,
    clock: &Clock,
) -> Result<ResultSet, Fault> {
    value::bind(prepared, params, true)?;
    let columns: Vec<String> = prepared.column_names().into_iter().map(str::to_owned).collect();
    let mut result = ResultSet { columns, ..ResultSet::default() };
    let mut bytes = 0_u64;
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next()? {
        clock.check()?;
        let mut values = Vec::with_capacity(result.columns.len());
        for index in 0..result.columns.len() {
            let value = value::json(row.get_ref(index)?);
            bytes += 8 + value.as_str().map_or(0, |text| text.len() as u64);
            values.push(value);
        }
        result.rows.push(values);
        result.affected += 1;
        if result.affected > limits.result_rows || bytes > limits.result_bytes {
            return Err(Error::TooLarge(format!(
                "the statement returns more than this target allows ({} rows, {} bytes); ask for less, or raise the target's limits",
                limits.result_rows, limits.result_bytes
            ))
            .into());
        }
    }
    Ok(result)
}

/// Whether records may have been removed by REPLACE, which no hook tells: only if that word is in the
/// statements, a table or a trigger.
fn replaces(connection: &Connection, statements: &[Statement]) -> Result<bool, Fault> {
    let word = |sql: &str| sql.to_ascii_lowercase().contains("replace");
    if statements.iter().any(|s| word(&s.sql)) {
        return Ok(true);
    }
    let sql =
        "SELECT count(*) FROM sqlite_schema WHERE type IN ('table', 'trigger') AND sql LIKE '%replace%'";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// Where to look for the difference of one table.
fn scan(
    (old, new): (&Connection, &Connection),
    shape: &Shape,
    touched: Touched,
    vanishing: bool,
    all_seen: bool,
    clock: &Clock,
) -> Result<Scan, Fault> {
    let Some(rowid) = shape.rowid() else { return Ok(Scan::Whole) };
    let Some(keys) = touched.keys.filter(|_| all_seen) else { return Ok(Scan::Whole) };
    if !vanishing && !touched.columns.iter().any(|c| shape.is_rowid(c)) {
        return Ok(Scan::Keys(keys));
    }
    // Records may have gone without a word. If so, there are fewer than the known ones account for.
    let count = |connection: &Connection| -> Result<i64, Fault> {
        let sql = format!("SELECT count(*) FROM main.{}", shape.quoted());
        Ok(connection.query_row(&sql, [], |row| row.get(0))?)
    };
    let exists = |connection: &Connection| -> Result<i64, Fault> {
        let mut finder =
            connection.prepare(&format!("SELECT 1 FROM main.{} WHERE {rowid} = ?1", shape.quoted()))?;
        let mut found = 0;
        for key in &keys {
            clock.check()?;
            found += i64::from(finder.exists([key])?);
        }
        Ok(found)
    };
    let accounted = count(new)? - count(old)? == exists(new)? - exists(old)?;
    Ok(if accounted { Scan::Keys(keys) } else { Scan::Whole })
}

/// The cells that a foreign key with SET NULL or SET DEFAULT may change.
fn links(connection: &Connection, shape: &Shape) -> Result<BTreeSet<usize>, Fault> {
    let names = shape.names();
    let keys = ForeignKey::of(connection, &shape.name)?;
    let unlinking = keys.iter().filter(|k| k.on_delete == Follow::Unlink || k.on_update == Follow::Unlink);
    let columns = unlinking.flat_map(|k| &k.columns);
    Ok(columns
        .filter_map(|(child, _)| names.iter().position(|name| name.eq_ignore_ascii_case(child)))
        .collect())
}

/// The counters of AUTOINCREMENT that moved, among the changed tables.
fn sequences(old: &Connection, new: &Connection, tables: &[Changed]) -> Result<Vec<Moved>, Fault> {
    let mut moved = Vec::new();
    for table in tables {
        let name = &table.shape.name;
        let (before, after) = (super::sequence::read(old, name)?, super::sequence::read(new, name)?);
        if before != after {
            moved.push((name.clone(), before, after));
        }
    }
    Ok(moved)
}

/// Looks a record up by the cells of its key, for the evidence in a token.
pub(super) fn look_up(connection: &Connection, shape: &Shape, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    Finder::new(connection, shape)?.by_key(&value::cells(key)?)
}
