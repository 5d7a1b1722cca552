//! What can be asked of the store. Every function reads one consistent state.

use crate::{error::StoreError, listing::Listing, schema};
use checkrein_core::{
    action::Category,
    approval::{Approval, State},
    decision::Verdict,
    drift::breaker::BreakerChange,
    event::{Checked, Entry, Outcome},
    fingerprint::Fingerprint,
    key::KeyRecord,
    name::Pattern,
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter, types::Value as Sql};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The most rows that one read gives, whatever limit is asked for.
pub const MAX_PAGE: usize = 10_000;

/// Checks that one read looks through at most when a filter passes few: about a hundredth of a second.
const MAX_SCAN: u64 = 2_000;

/// Which checks.
#[derive(Clone, Debug, Default)]
pub struct CheckFilter {
    /// Whose.
    pub agent: Option<Pattern>,
    /// With this answer.
    pub verdict: Option<Verdict>,
    /// Of this category.
    pub category: Option<Category>,
    /// Of which an effect has such a name.
    pub action: Option<Pattern>,
    /// Of which an effect is on such a resource.
    pub resource: Option<Pattern>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// A check on record.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckRow {
    /// Its entry in the log.
    pub seq: u64,
    /// When it was put on record.
    pub at: Timestamp,
    /// The check and its decision.
    pub checked: Checked,
    /// What became of it, as reported last.
    pub outcome: Option<Outcome>,
}

/// Some checks, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckPage {
    /// The checks. There can be fewer than asked for, or none, and still be more to come: where few pass
    /// the filter, a page ends after a bounded search.
    pub rows: Vec<CheckRow>,
    /// What to pass as `before` for the next page; none at the end.
    pub next: Option<u64>,
}

/// Which approvals.
#[derive(Clone, Debug, Default)]
pub struct ApprovalFilter {
    /// That stand there.
    pub state: Option<State>,
    /// Of which something can still come, or of which nothing can.
    pub open: Option<bool>,
    /// Whose.
    pub agent: Option<Pattern>,
}

/// Some approvals, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApprovalPage {
    /// The approvals; as with [`CheckPage::rows`], possibly fewer than asked for.
    pub rows: Vec<Approval>,
    /// What to pass as `before` for the next page; none at the end.
    pub next: Option<u64>,
}

/// Where a breaker stands that ever left `closed`.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerRow {
    /// Whose; see `Scope`.
    pub scope: String,
    /// Its last change; or why that cannot be understood.
    pub last: Result<BreakerChange, String>,
}

/// Which entries of the log.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    /// Of one of these kinds; of any, when empty.
    pub kinds: Vec<String>,
    /// About this agent.
    pub agent: Option<Pattern>,
    /// Not before.
    pub since: Option<Timestamp>,
}

impl EntryFilter {
    /// Whether `entry` is one of them.
    pub(crate) fn passes(&self, entry: &Entry) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
            && self.agent.as_ref().is_none_or(|agent| agent.matches(&entry.agent))
            && self.since.is_none_or(|since| entry.at >= since)
    }
}

pub(crate) fn check(db: &Connection, id: &str) -> Result<Option<CheckRow>, StoreError> {
    let row = db
        .prepare_cached("SELECT seq, at, body FROM log WHERE kind = 'check' AND subject = ?1")?
        .query_row([id], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, r.get::<_, String>(2)?)))
        .optional()?;
    let Some((seq, at, body)) = row else { return Ok(None) };
    check_row(db, schema::seq(seq), at, &body).map(Some)
}

fn check_row(db: &Connection, seq: u64, at: i64, body: &str) -> Result<CheckRow, StoreError> {
    let checked: Checked = parse(seq, body)?;
    let outcome = db
        .prepare_cached(
            "SELECT seq, body FROM log WHERE kind <> 'check' AND kind = 'outcome' AND subject = ?1
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([&checked.decision.id], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?)))
        .optional()?
        .map(|(seq, body)| parse(schema::seq(seq), &body))
        .transpose()?;
    Ok(CheckRow { seq, at: Timestamp::from_micros(at), checked, outcome })
}

pub(crate) fn checks(
    db: &Connection,
    filter: &CheckFilter,
    before: Option<u64>,
    limit: usize,
) -> Result<CheckPage, StoreError> {
    let limit = limit.clamp(1, MAX_PAGE);
    let tx = db.unchecked_transaction()?;
    let (first, last) = ends(&tx)?;
    let mut before = before.unwrap_or(u64::MAX).min(last.saturating_add(1));
    if let Some(until) = filter.until {
        before = before.min(first_at(&tx, until, first, last)?);
    }
    let from = match filter.since {
        Some(since) => first_at(&tx, since, first, last)?,
        None => first,
    };
    let mut statement = tx.prepare_cached(
        "SELECT seq, at, agent, body FROM log
         WHERE kind = 'check' AND seq < ?1 AND seq >= ?2 ORDER BY seq DESC",
    )?;
    let mut found = statement.query(params![before.cast_signed(), from.cast_signed()])?;
    let mut page = CheckPage::default();
    let mut looked_at = 0;
    while let Some(row) = found.next()? {
        let seq = schema::seq(row.get(0)?);
        looked_at += 1;
        if looked_at > MAX_SCAN {
            page.next = Some(seq + 1);
            return Ok(page);
        }
        if filter
            .agent
            .as_ref()
            .is_some_and(|p| row.get_ref(2).is_ok_and(|a| !a.as_str().is_ok_and(|a| p.matches(a))))
        {
            continue;
        }
        let body = row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?;
        if !filter.passes(body).map_err(|e| StoreError::Entry { seq, cause: e.to_string() })? {
            continue;
        }
        if page.rows.len() == limit {
            page.next = page.rows.last().map(|row| row.seq);
            return Ok(page);
        }
        page.rows.push(check_row(&tx, seq, row.get(1)?, body)?);
    }
    Ok(page)
}

/// How many checks of an agent each hour has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChecksByHour {
    /// The first hour since 1970 whose figure is complete, as all later ones are; may lie in the future.
    pub whole_from: i64,
    /// (Hours since 1970, checks), oldest first, without hours that have none.
    pub hours: Vec<(i64, u64)>,
}

/// In microseconds.
const HOUR: i64 = 3_600_000_000;

pub(crate) fn checks_by_hour(
    db: &Connection,
    agent: &Pattern,
    since: Timestamp,
    most: u64,
) -> Result<ChecksByHour, StoreError> {
    let tx = db.unchecked_transaction()?;
    let (first, last) = ends(&tx)?;
    let wanted = first_at(&tx, since, first, last)?;
    let from = wanted.max(last.saturating_add(1).saturating_sub(most));
    let mut whole_from = since.as_micros().div_euclid(HOUR);
    if from > wanted {
        // The hour of the last entry that is not looked at is incomplete.
        let before = tx
            .prepare_cached("SELECT at FROM log WHERE seq < ?1 ORDER BY seq DESC LIMIT 1")?
            .query_row([from.cast_signed()], |r| r.get::<_, i64>(0))?;
        whole_from = before.div_euclid(HOUR).saturating_add(1);
    }
    // In both `*` is any run of characters; what else means something to SQLite is put into brackets.
    let (fits, whose) = match agent.literal() {
        Some(name) => ("=", name.to_string()),
        None => ("GLOB", agent.as_str().replace('[', "[[]").replace('?', "[?]")),
    };
    let mut rows = tx.prepare_cached(&format!(
        "SELECT at / 3600000000, count(*) FROM log
         WHERE seq >= ?1 AND kind = 'check' AND agent {fits} ?2 GROUP BY 1 ORDER BY 1",
    ))?;
    let rows =
        rows.query_map(params![from.cast_signed(), whose], |r| Ok((r.get(0)?, schema::seq(r.get(1)?))))?;
    Ok(ChecksByHour { whole_from, hours: rows.collect::<Result<_, _>>()? })
}

/// The first and the last entry; `(1, 0)` when there is none.
fn ends(db: &Connection) -> Result<(u64, u64), StoreError> {
    Ok(db.prepare_cached("SELECT (SELECT min(seq) FROM log), (SELECT max(seq) FROM log)")?.query_row(
        [],
        |r| {
            Ok((
                r.get::<_, Option<i64>>(0)?.map_or(1, schema::seq),
                r.get::<_, Option<i64>>(1)?.map_or(0, schema::seq),
            ))
        },
    )?)
}

/// The first entry that is not before `at`. Times never fall along the log, so halving finds it.
fn first_at(db: &Connection, at: Timestamp, first: u64, last: u64) -> Result<u64, StoreError> {
    let mut statement = db.prepare_cached("SELECT at FROM log WHERE seq >= ?1 ORDER BY seq LIMIT 1")?;
    let (mut low, mut high) = (first, last.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let found = statement.query_row([middle.cast_signed()], |r| r.get::<_, i64>(0)).optional()?;
        if found.is_some_and(|found| found < at.as_micros()) { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

pub(crate) fn by_idempotency_key(
    db: &Connection,
    key_id: &str,
    key: &str,
) -> Result<Option<Checked>, StoreError> {
    db.prepare_cached(
        "SELECT log.seq, log.body FROM idempotency JOIN log ON log.seq = idempotency.seq
         WHERE idempotency.key_id = ?1 AND idempotency.key = ?2",
    )?
    .query_row([key_id, key], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?)))
    .optional()?
    .map(|(seq, body)| parse(schema::seq(seq), &body))
    .transpose()
}

pub(crate) fn recent_idempotency_keys(
    db: &Connection,
    limit: usize,
) -> Result<Vec<(String, String)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT body ->> '$.key_id', body ->> '$.check.idempotency_key' FROM log
         WHERE kind = 'check' ORDER BY seq DESC LIMIT ?1",
    )?;
    let rows = statement.query_map([count(limit)], |r| Ok((r.get(0)?, r.get::<_, Option<String>>(1)?)))?;
    rows.filter_map(|row| row.map(|(id, key)| key.map(|key| (id, key))).transpose())
        .collect::<Result<_, _>>()
        .map_err(StoreError::from)
}

pub(crate) fn entries(
    db: &Connection,
    after: u64,
    limit: usize,
    filter: &EntryFilter,
) -> Result<Vec<Entry>, StoreError> {
    let limit = limit.clamp(1, MAX_PAGE);
    let after = match filter.since {
        Some(since) => {
            let (first, last) = ends(db)?;
            after.max(first_at(db, since, first, last)?.saturating_sub(1))
        }
        None => after,
    };
    let mut sql = String::from("SELECT seq, at, kind, subject, agent, body, hash FROM log WHERE seq > ?1");
    let mut values = vec![Sql::Integer(after.cast_signed())];
    if !filter.kinds.is_empty() {
        let marks = vec!["?"; filter.kinds.len()].join(", ");
        sql.push_str(&format!(" AND kind IN ({marks})"));
        values.extend(filter.kinds.iter().cloned().map(Sql::Text));
        if !filter.kinds.iter().any(|kind| kind == "check") {
            // Lets the partial index answer.
            sql.push_str(" AND kind <> 'check'");
        }
    }
    if let Some(agent) = filter.agent.as_ref().and_then(Pattern::literal) {
        sql.push_str(" AND agent = ?");
        values.push(Sql::Text(agent.as_str().to_owned()));
    }
    sql.push_str(" ORDER BY seq");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let matches = match &filter.agent {
            Some(pattern) => pattern.matches(row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?),
            None => true,
        };
        if matches {
            found.push(schema::entry(row)?);
        }
    }
    Ok(found)
}

/// The newest entries before `before`, newest first.
pub(crate) fn entries_before(
    db: &Connection,
    before: u64,
    limit: usize,
    filter: &EntryFilter,
) -> Result<Vec<Entry>, StoreError> {
    let limit = count(limit.clamp(1, MAX_PAGE));
    let before = before.min(i64::MAX.unsigned_abs()).cast_signed();
    const FIELDS: &str = "SELECT seq, at, kind, subject, agent, body, hash FROM log";
    let rows = |sql: &str, values: &[Sql]| -> Result<Vec<Entry>, StoreError> {
        let mut statement = db.prepare_cached(&format!("{FIELDS} {sql} ORDER BY seq DESC LIMIT {limit}"))?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(schema::entry(row)?);
        }
        Ok(found)
    };
    if filter.kinds.is_empty() {
        return rows("WHERE seq < ?1", &[Sql::Integer(before)]);
    }
    // Kind by kind, each along its index.
    let mut found = Vec::new();
    for kind in &filter.kinds {
        let index = if kind == "check" { "" } else { "INDEXED BY log_kind" };
        let part = if kind == "check" { "" } else { "AND kind <> 'check'" };
        let sql = format!("{index} WHERE kind = ?2 {part} AND seq < ?1");
        found.extend(rows(&sql, &[Sql::Integer(before), Sql::Text(kind.clone())])?);
    }
    found.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.seq));
    found.truncate(usize::try_from(limit).unwrap_or(MAX_PAGE));
    Ok(found)
}

/// What is on record about `subject` but a check itself, oldest first.
pub(crate) fn entries_about(db: &Connection, subject: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT seq, at, kind, subject, agent, body, hash FROM log INDEXED BY log_subject
         WHERE subject = ?1 AND kind <> 'check' ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = statement.query(params![subject, count(limit.clamp(1, MAX_PAGE))])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(schema::entry(row)?);
    }
    Ok(found)
}

pub(crate) fn entry(db: &Connection, seq: u64) -> Result<Option<Entry>, StoreError> {
    Ok(db
        .prepare_cached("SELECT seq, at, kind, subject, agent, body, hash FROM log WHERE seq = ?1")?
        .query_row([seq.cast_signed()], schema::entry)
        .optional()?)
}

pub(crate) fn policies(db: &Connection) -> Result<Vec<Value>, StoreError> {
    bodies(db, "SELECT body FROM policies ORDER BY name", [], "policies")
}

pub(crate) fn keys(db: &Connection) -> Result<Vec<KeyRecord>, StoreError> {
    bodies(db, "SELECT body FROM keys ORDER BY id", [], "keys")
}

/// Each breaker with its scope.
pub(crate) fn breakers(db: &Connection) -> Result<Vec<BreakerRow>, StoreError> {
    let mut rows = db.prepare("SELECT scope, body FROM breakers ORDER BY scope")?;
    let rows = rows.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (scope, body) = row?;
        let read = serde_json::from_str::<BreakerChange>(&body).map_err(|e| e.to_string());
        let last = read.and_then(|change| {
            if change.scope.as_str() == scope { Ok(change) } else { Err("it is another's".to_owned()) }
        });
        Ok(BreakerRow { scope, last })
    })
    .collect()
}

pub(crate) fn approval(db: &Connection, id: &str) -> Result<Option<Approval>, StoreError> {
    bodies(db, "SELECT body FROM approvals WHERE id = ?1", [id], "approvals").map(|mut found| found.pop())
}

pub(crate) fn open_approval(db: &Connection, of: &Fingerprint) -> Result<Option<Approval>, StoreError> {
    let sql = "SELECT body FROM approvals WHERE open = 1 AND fingerprint = ?1 ORDER BY seq DESC LIMIT 1";
    bodies(db, sql, [&of.0], "approvals").map(|mut found| found.pop())
}

pub(crate) fn due_approvals(
    db: &Connection,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Approval>, StoreError> {
    let sql = "SELECT body FROM approvals WHERE open = 1 AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2";
    bodies(db, sql, [now.as_micros(), count(limit)], "approvals")
}

pub(crate) fn approvals(
    db: &Connection,
    filter: &ApprovalFilter,
    before: Option<u64>,
    limit: usize,
) -> Result<ApprovalPage, StoreError> {
    // What waits is little, whatever is over.
    let waits = filter.open == Some(true) || filter.state == Some(State::Pending);
    let listing = Listing {
        table: "approvals",
        agent: filter.agent.as_ref(),
        standing: &[
            ("state", filter.state.map(|state| Sql::Text(state.as_str().to_owned()))),
            ("open", filter.open.map(|open| Sql::Integer(i64::from(open)))),
        ],
        along: match filter.state {
            _ if waits => "INDEXED BY approvals_due WHERE open = 1",
            Some(_) => "INDEXED BY approvals_state WHERE state = ?2",
            None => "WHERE 1",
        },
        direct: waits || (filter.agent.is_none() && filter.open.is_none()),
    };
    listing.page(db, before, limit).map(|(rows, next)| ApprovalPage { rows, next })
}

pub(crate) fn bodies<T: DeserializeOwned>(
    db: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    table: &str,
) -> Result<Vec<T>, StoreError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let body = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        found.push(
            serde_json::from_str(body)
                .map_err(|e| StoreError::Row { table: table.to_owned(), cause: e.to_string() })?,
        );
    }
    Ok(found)
}

pub(crate) fn parse<T: DeserializeOwned>(seq: u64, body: &str) -> Result<T, StoreError> {
    serde_json::from_str(body).map_err(|e| StoreError::Entry { seq, cause: e.to_string() })
}

pub(crate) fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
