//! Pages of the tables of which each row is somebody's: approvals, grants, snapshots.
//!
//! Rows of one agent that stand alike lie together in the index `<table>_of`, in the order of their entries. So what
//! a filter lets through is found group by group, however few rows that are among however many others.

use crate::{
    error::StoreError,
    read::{MAX_PAGE, count, parse},
    schema,
};
use checkrein_core::name::Pattern;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter, types::Value as Sql};
use serde::de::DeserializeOwned;
use std::{cmp::Reverse, collections::BinaryHeap};

/// Groups that are looked at at most; a step from one to the next is a look-up.
pub(crate) const MAX_GROUPS: usize = 1_000;

/// Rows that are looked through at most where there are more groups than that. Their bodies lie between them, so
/// that it is some hundredths of a second.
pub(crate) const MAX_ROWS: usize = 2_000;

/// What is wanted of a table.
pub(crate) struct Listing<'a> {
    pub(crate) table: &'static str,
    /// Whose.
    pub(crate) agent: Option<&'a Pattern>,
    /// How it stands: what the index `<table>_of` has after the agent, each with what it must be.
    pub(crate) standing: &'a [(&'static str, Option<Sql>)],
    /// Where rows lie that are looked through one by one.
    pub(crate) along: &'static str,
    /// Whether that is the shorter way: most that lies there is wanted, or little lies there.
    pub(crate) direct: bool,
}

impl Listing<'_> {
    /// At most `limit` of those rows, newest first, from before the entry `before`. With them, what to pass as
    /// `before` for the next page; none at the end.
    pub(crate) fn page<T: DeserializeOwned>(
        &self,
        db: &Connection,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<T>, Option<u64>), StoreError> {
        let before = before.map_or(i64::MAX, u64::cast_signed);
        let limit = limit.clamp(1, MAX_PAGE);
        let tx = db.unchecked_transaction()?;
        let groups = if self.direct { None } else { self.groups(&tx)? };
        let (seqs, next) = match groups {
            Some(groups) => self.newest(&tx, &groups, before, limit)?,
            None => self.search(&tx, before, limit)?,
        };
        let mut body = tx.prepare_cached(&format!("SELECT body FROM {} WHERE seq = ?1", self.table))?;
        let mut rows = Vec::with_capacity(seqs.len());
        for seq in seqs {
            let body = body.query_row([seq], |row| row.get::<_, String>(0))?;
            rows.push(parse(schema::seq(seq), &body)?);
        }
        Ok((rows, next.map(schema::seq)))
    }

    /// The groups that are wanted; none where there are too many to look at.
    fn groups(&self, db: &Connection) -> Result<Option<Vec<Vec<Sql>>>, StoreError> {
        let table = self.table;
        let names: Vec<&str> =
            std::iter::once("agent").chain(self.standing.iter().map(|(name, _)| *name)).collect();
        let columns = names.join(", ");
        let first = |condition: &str| {
            db.prepare_cached(&format!(
                "SELECT {columns} FROM {table} INDEXED BY {table}_of WHERE {condition} ORDER BY {columns} LIMIT 1"
            ))
        };
        // From one group to the next: another one that differs in the last column alone, in the last two, …
        let mut steps = Vec::with_capacity(names.len());
        for (at, name) in names.iter().enumerate() {
            let same: String = names.iter().take(at).map(|name| format!("{name} = ? AND ")).collect();
            steps.push(first(&format!("{same}{name} > ?"))?);
        }
        let read = |row: &rusqlite::Row<'_>| (0..names.len()).map(|at| row.get(at)).collect();
        let only = self.agent.and_then(Pattern::literal);
        let prefix = self.agent.map_or("", Pattern::prefix);
        let mut wanted = Vec::new();
        let mut at: Option<Vec<Sql>> = first("agent >= ?")?.query_row([prefix], read).optional()?;
        for _ in 0..MAX_GROUPS {
            let Some(group) = at else { return Ok(Some(wanted)) };
            let Some(Sql::Text(agent)) = group.first() else { return Ok(Some(wanted)) };
            if !agent.starts_with(prefix) || only.is_some_and(|only| only.as_str() != agent) {
                return Ok(Some(wanted));
            }
            let fits = self.agent.is_none_or(|pattern| pattern.matches(agent));
            at = None;
            for (same, step) in steps.iter_mut().enumerate().rev() {
                // To the next agent at once, however many groups this one has, where it is none of those.
                if at.is_none() && (fits || same == 0) {
                    at = step.query_row(params_from_iter(group.iter().take(same + 1)), read).optional()?;
                }
            }
            let mut stands = self.standing.iter().zip(group.iter().skip(1));
            if fits && stands.all(|((_, must), is)| must.as_ref().is_none_or(|must| must == is)) {
                wanted.push(group);
            }
        }
        Ok(None)
    }

    /// The newest rows of `groups`.
    fn newest(
        &self,
        db: &Connection,
        groups: &[Vec<Sql>],
        before: i64,
        limit: usize,
    ) -> Result<(Vec<i64>, Option<i64>), StoreError> {
        let table = self.table;
        let mut conditions = vec!["agent = ?4".to_owned()];
        conditions.extend(self.standing.iter().zip(5..).map(|((name, _), at)| format!("{name} = ?{at}")));
        let mut statement = db.prepare_cached(&format!(
            "SELECT seq FROM {table} INDEXED BY {table}_of
             WHERE {} AND seq < ?1 AND seq > ?2 ORDER BY seq DESC LIMIT ?3",
            conditions.join(" AND ")
        ))?;
        // One more than wanted, to know whether there is more.
        let room = limit + 1;
        let mut found = BinaryHeap::with_capacity(room);
        for group in groups {
            // What is older than all of a full page is not looked at.
            let oldest = if found.len() < room {
                i64::MIN
            } else {
                found.peek().map_or(i64::MIN, |Reverse(seq)| *seq)
            };
            let bounds = [before, oldest, count(room)].map(Sql::Integer);
            let mut rows = statement.query(params_from_iter(bounds.iter().chain(group)))?;
            while let Some(row) = rows.next()? {
                found.push(Reverse(row.get(0)?));
                if found.len() > room {
                    found.pop();
                }
            }
        }
        let more = found.len() > limit;
        let mut seqs: Vec<i64> = found.into_sorted_vec().into_iter().map(|Reverse(seq)| seq).collect();
        seqs.truncate(limit);
        let next = seqs.last().copied().filter(|_| more);
        Ok((seqs, next))
    }

    /// Looks through rows one by one: enough for a page, or [`MAX_ROWS`].
    fn search(
        &self,
        db: &Connection,
        before: i64,
        limit: usize,
    ) -> Result<(Vec<i64>, Option<i64>), StoreError> {
        let conditions = self.standing.iter().zip(2..);
        let conditions = conditions.map(|((name, _), at)| format!("(?{at} IS NULL OR {name} = ?{at})"));
        let mut statement = db.prepare_cached(&format!(
            "SELECT seq, agent, {} FROM {} {} AND seq < ?1 ORDER BY seq DESC",
            conditions.collect::<Vec<_>>().join(" AND "),
            self.table,
            self.along
        ))?;
        let values = self.standing.iter().map(|(_, must)| must.clone().unwrap_or(Sql::Null));
        let mut rows =
            statement.query(params_from_iter(std::iter::once(Sql::Integer(before)).chain(values)))?;
        let (mut seqs, mut last, mut looked_at) = (Vec::new(), None, 0);
        while let Some(row) = rows.next()? {
            if seqs.len() == limit || looked_at == MAX_ROWS.max(limit) {
                return Ok((seqs, last));
            }
            looked_at += 1;
            let seq = row.get(0)?;
            last = Some(seq);
            let agent = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            if row.get::<_, bool>(2)? && self.agent.is_none_or(|pattern| pattern.matches(agent)) {
                seqs.push(seq);
            }
        }
        Ok((seqs, None))
    }
}
