//! Counting before: the rows that are meant, and what would follow them through foreign keys.
//!
//! Rows that would be touched are gathered in a temporary table of the session (writing that is allowed in a
//! read-only transaction), so that sets of any size are joined where they are and cycles end.

use super::{
    Postgres, calls,
    connect::Session,
    derive::{self, Derived, Source},
    guard, meant,
    schema::{self, ForeignKey, Relation},
    sql::{ask, ask_one, failed, literal},
    values::{Trouble, params},
};
use crate::{Affected, Counted, Error, How, Selection, Statement, stay, target::SAMPLE_FROM};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio_postgres::error::SqlState;

/// The temporary table. It empties itself at the end of each transaction.
pub(super) const HITS: &str = "pg_temp.checkrein_hits";
const MAKE_HITS: &str = "RESET ALL; CREATE TEMPORARY TABLE IF NOT EXISTS pg_temp.checkrein_hits \
    (rel oid, place tid, step int, how \"char\") ON COMMIT DELETE ROWS";
/// Steps from one table to the next that are followed.
const MOST_STEPS: i32 = 10_000;

/// What happens to the rows of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// They are removed.
    Delete,
    /// These columns of theirs change.
    Columns(BTreeSet<String>),
}

/// A count under way.
pub(super) struct Count<'s> {
    pub(super) session: &'s Session,
    relations: BTreeMap<u32, Relation>,
    pub(super) counted: Counted,
    sums: BTreeMap<(String, How), u64>,
    named: Vec<String>,
    step: i32,
    /// Whether rows must be gathered even where nothing follows them.
    gather: bool,
    /// Ends a query for rows that are gathered: all of them, or some.
    some: String,
}

impl Postgres {
    /// See [`crate::Target::count`].
    pub(super) async fn counted(&self, what: &Selection) -> Result<Counted, Error> {
        let limit = self.limits().count;
        let work = async {
            let mut session = self.counting(limit).await?;
            let mut count = Count::new(&session, false);
            count.selection(what).await?;
            let counted = count.finish().await?;
            session.batch_execute("COMMIT").await?;
            session.finished();
            Ok(counted)
        };
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result.map_err(|trouble| told(trouble, "counting", limit)),
            Err(_) => Err(Error::TimedOut { what: "counting", limit }),
        }
    }

    /// A session in a read-only transaction that sees one moment.
    pub(super) async fn counting(&self, limit: Duration) -> Result<Session, Trouble> {
        self.looking(limit, MAKE_HITS).await
    }

    /// The same, without the table for what is found.
    pub(super) async fn reading(&self, limit: Duration) -> Result<Session, Trouble> {
        self.looking(limit, "RESET ALL").await
    }

    async fn looking(&self, limit: Duration, first: &str) -> Result<Session, Trouble> {
        let mut session = self.connections.watch().await?;
        ask(&session, first).await?;
        super::execute::begin(&mut session, "REPEATABLE READ READ ONLY", limit, self.limits()).await?;
        Ok(session)
    }
}

/// What it means that a count failed.
pub(super) fn told(trouble: Trouble, what: &'static str, limit: Duration) -> Error {
    match trouble {
        Trouble::Ours(error) => error,
        // A WITH that changes rows cannot be part of a query, and a function that does not run in one.
        Trouble::Server(error)
            if matches!(
                error.code(),
                Some(&SqlState::READ_ONLY_SQL_TRANSACTION | &SqlState::FEATURE_NOT_SUPPORTED)
            ) =>
        {
            Error::Unmeasurable(
                "it changes more than the table that it names, which is known only when it runs".to_owned(),
            )
        }
        Trouble::Server(error) => failed(&error, what, limit),
    }
}

impl<'s> Count<'s> {
    pub(super) fn new(session: &'s Session, gather: bool) -> Self {
        Self {
            session,
            relations: BTreeMap::new(),
            counted: Counted::default(),
            sums: BTreeMap::new(),
            named: Vec::new(),
            step: 0,
            gather,
            some: String::new(),
        }
    }

    /// One that gathers some rows, and counts none.
    pub(super) fn few(session: &'s Session) -> Self {
        Self { some: format!(" LIMIT {SAMPLE_FROM}"), ..Self::new(session, true) }
    }

    /// Everything that `what` means.
    pub(super) async fn selection(&mut self, what: &Selection) -> Result<(), Trouble> {
        match what {
            Selection::Statements(statements) => {
                for statement in statements {
                    self.statement(statement).await?;
                }
                if statements.len() > 1 {
                    self.note("several statements: each was counted as if the others did not run".to_owned());
                }
            }
            Selection::Records { resource, delete, .. } | Selection::Where { resource, delete, .. } => {
                let relation = meant::find(self.session, resource).await?;
                let query = meant::query(&relation, what)?.query();
                let change = if *delete { Change::Delete } else { Change::Columns(BTreeSet::new()) };
                self.rows(relation, &query, &[], &[], change).await?;
            }
        }
        Ok(())
    }

    async fn statement(&mut self, statement: &Statement) -> Result<(), Trouble> {
        guard::check(&statement.sql)?;
        calls::check(self.session, &statement.sql, false).await?;
        // The server decides what the placeholders are, from the statement as it will run.
        let prepared = self.session.prepare(&statement.sql).await?;
        let types = prepared.params();
        match derive::derive(&statement.sql)? {
            Derived::Insert { .. } | Derived::Read { .. } if !self.some.is_empty() => Ok(()),
            Derived::Rows { table, query, delete, columns } => {
                let relation = self.relation(&table).await?;
                let change =
                    if delete { Change::Delete } else { Change::Columns(columns.into_iter().collect()) };
                self.rows(relation, &query, types, &statement.params, change).await
            }
            Derived::Insert { table, source } => {
                let relation = self.relation(&table).await?;
                let records = match source {
                    Source::Literal(records) => records,
                    Source::Query(query) => self.number(&query, types, &statement.params).await?,
                };
                self.looked_at(&relation);
                self.named(relation.resource.clone(), How::Insert, records);
                Ok(())
            }
            Derived::Read { query } => {
                let records = self.number(&query, types, &statement.params).await?;
                self.named(String::new(), How::Read, records);
                Ok(())
            }
        }
    }

    /// How many rows a query returns.
    async fn number(
        &self,
        query: &str,
        types: &[tokio_postgres::types::Type],
        values: &[serde_json::Value],
    ) -> Result<u64, Trouble> {
        let count = format!("SELECT pg_catalog.count(*) FROM ({query}) AS checkrein_counted");
        let prepared = self.session.prepare_typed(&count, types).await?;
        let values = params(values, types)?;
        let rows = self.session.query_raw(&prepared, values).await?;
        let mut rows = std::pin::pin!(rows);
        let row = futures_util::TryStreamExt::try_next(&mut rows).await?;
        let number: i64 = row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
        Ok(u64::try_from(number).unwrap_or(0))
    }

    async fn relation(&mut self, name: &str) -> Result<Relation, Trouble> {
        let oid =
            ask_one(self.session, &format!("SELECT {}::pg_catalog.regclass::oid::bigint", literal(name)))
                .await?;
        let oid = oid.and_then(|oid| oid.parse().ok()).unwrap_or(0);
        self.by_oid(oid).await
    }

    async fn by_oid(&mut self, oid: u32) -> Result<Relation, Trouble> {
        if let Some(known) = self.relations.get(&oid) {
            return Ok(known.clone());
        }
        let found = schema::relations(self.session, [oid]).await?.into_iter().next();
        let relation = found.ok_or_else(|| Error::Invalid("the table is gone".to_owned()))?;
        self.relations.insert(oid, relation.clone());
        Ok(relation)
    }

    /// Rows of `relation` that a query finds, and what follows them.
    async fn rows(
        &mut self,
        relation: Relation,
        query: &str,
        types: &[tokio_postgres::types::Type],
        values: &[serde_json::Value],
        change: Change,
    ) -> Result<(), Trouble> {
        if !matches!(relation.kind, 'r' | 'p') {
            return Err(Error::Unmeasurable(format!(
                "{} is no ordinary table, so what lies behind it is known only when it runs",
                relation.resource
            ))
            .into());
        }
        // Where what is found is kept, it must be found again.
        if let (true, Change::Columns(columns)) = (self.gather && self.some.is_empty(), &change)
            && let Some(column) = relation.key_names().find(|name| columns.contains(*name))
        {
            return Err(Error::Unmeasurable(stay::changes_key(&relation.resource, column)).into());
        }
        self.looked_at(&relation);
        let own = if change == Change::Delete { How::Delete } else { How::Update };
        let keys = self.following(&relation, &change).await?;
        for heir in &relation.heirs {
            let heir = self.by_oid(*heir).await?;
            if heir.kind != 'r' {
                return Err(Error::Unmeasurable(format!(
                    "{} inherits from {} and is no ordinary table, so what lies behind it is known only when it runs",
                    heir.resource, relation.resource
                ))
                .into());
            }
            self.looked_at(&heir);
        }
        if keys.is_empty() && relation.heirs.is_empty() && !self.gather {
            let records = self.number(query, types, values).await?;
            self.named(relation.resource, own, records);
            return Ok(());
        }
        self.named.push(relation.resource.clone());
        self.step += 1;
        let how = letter(own);
        let gather = format!(
            "INSERT INTO {HITS} SELECT rel, place, {}, {how} FROM ({query}) AS checkrein_meant{}",
            self.step, self.some
        );
        let prepared = self.session.prepare_typed(&gather, types).await?;
        let values = params(values, types)?;
        let records = self.session.execute_raw(&prepared, values).await?;
        if records > 0 && !keys.is_empty() {
            self.analysed(records).await?;
            self.follow(change, keys).await?;
        }
        Ok(())
    }

    /// Tells the planner how many there are, where that matters: it takes a new table for a small one.
    async fn analysed(&self, records: u64) -> Result<(), Trouble> {
        if records > 100 {
            self.session.simple_query(&format!("ANALYZE {HITS}")).await?;
        }
        Ok(())
    }

    /// The query for all columns of the rows that `what` means, if they are rows of one table alone and nothing
    /// follows them; with that table and what would happen to them. The session is pinned then.
    pub(super) async fn plain(&self, what: &Selection) -> Result<Option<(Relation, How, String)>, Trouble> {
        let (Selection::Records { resource, delete, .. } | Selection::Where { resource, delete, .. }) = what
        else {
            return Ok(None);
        };
        let relation = meant::find(self.session, resource).await?;
        let change = if *delete { Change::Delete } else { Change::Columns(BTreeSet::new()) };
        if relation.kind != 'r'
            || !relation.heirs.is_empty()
            || meant::query(&relation, what)?.select("").is_none()
            || !self.following(&relation, &change).await?.is_empty()
        {
            return Ok(None);
        }
        super::execute::pin(self.session).await?;
        // Once more, since its types are to be named as in every snapshot.
        let pinned = schema::relations(self.session, [relation.oid]).await?.pop();
        let pinned = pinned.ok_or_else(|| Error::Invalid("the table is gone".to_owned()))?;
        let how = if *delete { How::Delete } else { How::Update };
        Ok(meant::query(&pinned, what)?.select(&pinned.list("t")).map(|query| (pinned, how, query)))
    }

    /// The foreign keys through which a change of `relation` has consequences.
    async fn following(&self, relation: &Relation, change: &Change) -> Result<Vec<ForeignKey>, Trouble> {
        let reached = [relation.oid].into_iter().chain(relation.heirs.iter().copied());
        let keys = schema::foreign_keys(self.session, reached).await?;
        let hit = |key: &ForeignKey| match change {
            Change::Delete => true,
            Change::Columns(columns) => key.columns.iter().any(|(_, parent, _)| columns.contains(parent)),
        };
        let is = |oid: u32| relation.is(oid) || relation.heirs.contains(&oid);
        Ok(keys.into_iter().filter(|key| is(key.parent) && hit(key)).collect())
    }

    /// Follows foreign keys until nothing new is found.
    async fn follow(&mut self, change: Change, keys: Vec<ForeignKey>) -> Result<(), Trouble> {
        let mut open = vec![(change, keys, self.step)];
        let mut forbidding = Vec::new();
        while let Some((change, keys, step)) = open.pop() {
            for key in keys {
                let child = self.by_oid(key.child).await?;
                // Of the rows of the step, which may be in another part of the partitioned table, those of this one.
                let parent = self.by_oid(key.parent).await?;
                let action = if change == Change::Delete { key.on_delete } else { key.on_update };
                let how = match (action, &change) {
                    ('c', Change::Delete) => How::Cascade,
                    ('c', Change::Columns(_)) => How::Update,
                    ('n' | 'd', _) => How::Unlink,
                    _ => {
                        forbidding.push((key, parent, child, step));
                        continue;
                    }
                };
                if self.step >= MOST_STEPS {
                    return Err(Error::Unmeasurable(
                        "the chain of references is too long to be counted".to_owned(),
                    )
                    .into());
                }
                self.step += 1;
                let this = self.step;
                // A removed row stays removed, whatever else points at it; the rest counts once in its way.
                let done = if how == How::Cascade { "IN ('d', 'c')" } else { "IS NOT NULL" };
                let gather = format!(
                    "INSERT INTO {HITS} SELECT DISTINCT c.tableoid, c.ctid, {this}, {}::\"char\" FROM {HITS} h \
                     JOIN {} p ON p.tableoid = h.rel AND p.ctid = h.place JOIN {} c ON {} WHERE h.step = {step} \
                     AND NOT EXISTS (SELECT 1 FROM {HITS} o WHERE o.rel = c.tableoid AND o.place = c.ctid AND o.how {done}){}",
                    letter(how),
                    parent.from(),
                    child.from(),
                    key.refers("p", "c"),
                    self.some,
                );
                let records = self.session.execute_raw::<_, i32, _>(gather.as_str(), []).await?;
                self.looked_at(&child);
                if records == 0 {
                    continue;
                }
                self.analysed(records).await?;
                let next = match how {
                    How::Cascade => Change::Delete,
                    _ => Change::Columns(key.columns.iter().map(|(child, _, _)| child.clone()).collect()),
                };
                let more = self.following(&child, &next).await?;
                if !more.is_empty() {
                    open.push((next, more, this));
                }
            }
        }
        if !self.some.is_empty() {
            return Ok(());
        }
        for (key, parent, child, step) in forbidding {
            let count = format!(
                "SELECT pg_catalog.count(*) FROM {} c WHERE EXISTS (SELECT 1 FROM {HITS} h \
                   JOIN {} p ON p.tableoid = h.rel AND p.ctid = h.place WHERE h.step = {step} AND {}) \
                 AND NOT EXISTS (SELECT 1 FROM {HITS} o WHERE o.rel = c.tableoid AND o.place = c.ctid AND o.how IN ('d', 'c'))",
                child.from(),
                parent.from(),
                key.refers("p", "c"),
            );
            let records = ask_one(self.session, &count).await?.unwrap_or_default();
            if records != "0" {
                self.counted.refusals.push(format!(
                    "{records} records of {} refer to {} and forbid it ({})",
                    child.resource, parent.resource, key.name
                ));
            }
        }
        Ok(())
    }

    fn named(&mut self, resource: String, how: How, records: u64) {
        self.named.push(resource.clone());
        *self.sums.entry((resource, how)).or_default() += records;
    }

    fn note(&mut self, note: String) {
        if !self.counted.at_least.contains(&note) {
            self.counted.at_least.push(note);
        }
    }

    /// Notes what a table has that may do more than is counted.
    fn looked_at(&mut self, relation: &Relation) {
        for (number, what) in [(relation.triggers, "triggers"), (relation.rules, "rules")] {
            if number > 0 {
                self.note(format!("{} has {what}, which may change more", relation.resource));
            }
        }
    }

    /// The sums.
    async fn finish(mut self) -> Result<Counted, Trouble> {
        if self.step > 0 {
            let sums = format!(
                "SELECT (SELECT n.nspname || '.' || r.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_class r \
                   ON r.oid = CASE WHEN c.relispartition THEN coalesce(pg_catalog.pg_partition_root(c.oid)::oid, c.oid) ELSE c.oid END \
                   JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace WHERE c.oid = s.rel), how, n \
                 FROM (SELECT rel, how, pg_catalog.count(*) AS n FROM (SELECT DISTINCT ON (rel, place) rel, how FROM {HITS} \
                   ORDER BY rel, place, CASE how WHEN 'd' THEN 0 WHEN 'c' THEN 1 WHEN 'u' THEN 2 ELSE 3 END) b GROUP BY 1, 2) s"
            );
            for row in ask(self.session, &sums).await? {
                let [Some(resource), Some(how), Some(records)] = row.as_slice() else { continue };
                let how = match how.as_str() {
                    "d" => How::Delete,
                    "c" => How::Cascade,
                    "u" => How::Update,
                    _ => How::Unlink,
                };
                *self.sums.entry((resource.clone(), how)).or_default() += records.parse().unwrap_or(0);
            }
        }
        let named = self.named;
        let mut affected: Vec<_> = self
            .sums
            .into_iter()
            .filter(|((_, how), records)| *records > 0 || *how == How::Read)
            .map(|((resource, how), records)| Affected { resource, how, records })
            .collect();
        affected.sort_by_key(|a| named.iter().position(|name| *name == a.resource).unwrap_or(usize::MAX));
        self.counted.affected = affected;
        Ok(self.counted)
    }
}

const fn letter(how: How) -> &'static str {
    match how {
        How::Delete => "'d'",
        How::Cascade => "'c'",
        How::Unlink => "'n'",
        How::Update | How::Insert | How::Read => "'u'",
    }
}
