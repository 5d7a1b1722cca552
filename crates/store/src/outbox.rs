//! Signals and the outbox: what the log makes known, and what of it is still on its way to a sink.
//!
//! Signals and silences derive from the log, in the transaction of their entry. Groups, deliveries and marks do
//! not: the dispatcher keeps them here, each step of it in one transaction, so that after a crash they agree
//! with each other. They are no older than the log: a signal is routed after it can be read.

use crate::{
    error::{AppendError, StoreError},
    project::{Fault, Refusal, unless},
    read::{MAX_PAGE, bodies, count, parse},
    schema,
    store::Store,
    writer::Request,
};
use checkrein_core::{
    event::{Entry, Event},
    name::Pattern,
    signal::{
        About, Delivery, Outbox, OutboxChanges, Place, Severity, Signal, Silence, Standing, derive, speak_for,
    },
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::HashMap;
use tokio::sync::oneshot;

/// Signals that one read looks through at most when a filter passes few.
const MAX_SCAN: usize = 5_000;
/// Messages that are shown of one signal: those that wait or were given up first, of those the oldest.
const MAX_MESSAGES: usize = 50;

/// Which signals.
#[derive(Clone, Debug, Default)]
pub struct SignalFilter {
    /// Of such a kind.
    pub kind: Option<Pattern>,
    /// At least this bad.
    pub severity: Option<Severity>,
    /// About such an agent.
    pub agent: Option<Pattern>,
    /// Of which a message went to this sink.
    pub sink: Option<String>,
    /// Of which a message stands like this.
    pub standing: Option<Standing>,
}

/// A signal and the messages that speak for it, oldest first, at most 50: those that did not arrive are among them.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalRow {
    /// Its place.
    pub place: Place,
    /// The signal.
    pub signal: Signal,
    /// Its messages.
    pub deliveries: Vec<Delivery>,
}

/// Some signals, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SignalPage {
    /// The signals. There can be fewer than asked for, or none, and still be more to come: where few pass the
    /// filter, a page ends after a bounded search.
    pub rows: Vec<SignalRow>,
    /// What to pass as `before` for the next page; none at the end.
    pub next: Option<Place>,
}

/// Writes the signals that an entry causes.
pub(crate) fn note(
    db: &Connection,
    seq: u64,
    at: Timestamp,
    event: &Event,
    about: About<'_>,
) -> Result<(), Fault> {
    for (n, signal) in (0_i64..).zip(derive(seq, at, event, about)) {
        db.prepare_cached(
            "INSERT INTO signals (seq, n, kind, severity, agent, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            seq.cast_signed(),
            n,
            signal.kind,
            signal.severity as u8,
            signal.agent,
            serde_json::to_string(&signal)?,
        ])?;
    }
    Ok(())
}

pub(crate) fn silenced(db: &Connection, seq: u64, silence: &Silence) -> Result<(), Fault> {
    let added = db
        .prepare_cached(
            "INSERT INTO silences (seq, id, until, body) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            seq.cast_signed(),
            silence.id,
            silence.until.as_micros(),
            serde_json::to_string(silence)?
        ])?;
    unless(added == 0, || Refusal::Exists(format!("silence {}", silence.id)))
}

pub(crate) fn unsilenced(db: &Connection, id: &str) -> Result<(), Fault> {
    let gone = db.prepare_cached("DELETE FROM silences WHERE id = ?1")?.execute([id])?;
    unless(gone == 0, || Refusal::NotFound(format!("silence {id}")))
}

/// The first entry that retention must leave: of a silence that was in force at `since` or later.
pub(crate) fn first_needed(db: &Connection, since: Timestamp) -> Result<Option<i64>, rusqlite::Error> {
    db.query_row("SELECT min(seq) FROM silences WHERE until >= ?1", [since.as_micros()], |r| r.get(0))
}

/// Removes what derives from entries up to `through`.
pub(crate) fn forget(db: &Connection, through: i64) -> Result<(), rusqlite::Error> {
    db.prepare_cached("DELETE FROM silences WHERE seq <= ?1")?.execute([through])?;
    // What is not routed yet is none of the log's business any more, but still somebody's.
    let routed = routed(db)?.seq.cast_signed();
    drop_signals(db, through.min(routed))
}

/// From which entry on signals are kept: those up to it are not.
pub(crate) fn kept(db: &Connection) -> Result<i64, rusqlite::Error> {
    let text: Option<String> = db
        .prepare_cached("SELECT body FROM outbox WHERE name = 'kept'")?
        .query_row([], |r| r.get(0))
        .optional()?;
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

fn routed(db: &Connection) -> Result<Place, rusqlite::Error> {
    let text: Option<String> = db
        .prepare_cached("SELECT body FROM outbox WHERE name = 'routed'")?
        .query_row([], |r| r.get(0))
        .optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

fn drop_signals(db: &Connection, through: i64) -> Result<(), rusqlite::Error> {
    if through > kept(db)? {
        db.prepare_cached("DELETE FROM signals WHERE seq <= ?1")?.execute([through])?;
        mark(db, "kept", &through.to_string())?;
    }
    Ok(())
}

fn mark(db: &Connection, name: &str, body: &str) -> Result<(), rusqlite::Error> {
    db.prepare_cached(
        "INSERT INTO outbox (name, body) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET body = excluded.body",
    )?
    .execute([name, body])
    .map(drop)
}

/// Applies a step of the dispatcher.
pub(crate) fn keep(db: &Connection, changes: &OutboxChanges) -> Result<(), Fault> {
    if let Some(place) = changes.routed {
        mark(db, "routed", &serde_json::to_string(&place)?)?;
    }
    for ((condition, sink), group) in &changes.groups {
        match group {
            Some(group) => db
                .prepare_cached(
                    "INSERT INTO signal_groups (condition, sink, body) VALUES (?1, ?2, ?3)
                     ON CONFLICT (condition, sink) DO UPDATE SET body = excluded.body",
                )?
                .execute(params![condition, sink, serde_json::to_string(group)?])?,
            None => db
                .prepare_cached("DELETE FROM signal_groups WHERE condition = ?1 AND sink = ?2")?
                .execute([condition, sink])?,
        };
    }
    for delivery in &changes.deliveries {
        db.prepare_cached(
            "INSERT INTO deliveries (no, id, sink, standing, first_seq, last_seq, condition, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (no) DO UPDATE SET standing = excluded.standing, body = excluded.body",
        )?
        .execute(params![
            delivery.no.cast_signed(),
            delivery.notification.delivery_id,
            delivery.sink,
            delivery.standing.as_str(),
            delivery.entries.0.cast_signed(),
            delivery.entries.1.cast_signed(),
            delivery.condition,
            serde_json::to_string(delivery)?,
        ])?;
    }
    for (name, body) in &changes.marks {
        mark(db, name, body)?;
    }
    if let Some(limits) = &changes.prune {
        for (standing, rows) in [(Standing::Delivered, limits.delivered), (Standing::Dead, limits.dead)] {
            db.prepare_cached(
                "DELETE FROM deliveries WHERE standing = ?1 AND no <=
                 (SELECT no FROM deliveries WHERE standing = ?1 ORDER BY no DESC LIMIT 1 OFFSET ?2)",
            )?
            .execute(params![standing.as_str(), rows])?;
        }
        let beyond: Option<i64> = db
            .prepare_cached("SELECT seq FROM signals ORDER BY seq DESC LIMIT 1 OFFSET ?1")?
            .query_row([limits.signals], |r| r.get(0))
            .optional()?;
        if let Some(beyond) = beyond {
            drop_signals(db, beyond.min(routed(db)?.seq.cast_signed()))?;
        }
    }
    Ok(())
}

fn load(db: &Connection) -> Result<Outbox, StoreError> {
    let tx = db.unchecked_transaction()?;
    let mut marks = tx.prepare("SELECT name, body FROM outbox")?;
    let marks = marks.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?;
    Ok(Outbox {
        routed: routed(&tx)?,
        groups: bodies(&tx, "SELECT body FROM signal_groups ORDER BY condition, sink", [], "signal_groups")?,
        queued: bodies(
            &tx,
            "SELECT body FROM deliveries WHERE standing = 'queued' ORDER BY no",
            [],
            "deliveries",
        )?,
        last_no: tx
            .query_row("SELECT coalesce(max(no), 0) FROM deliveries", [], |r| r.get(0).map(schema::seq))?,
        marks,
    })
}

fn place(row: &rusqlite::Row<'_>) -> Result<Place, rusqlite::Error> {
    Ok(Place { seq: schema::seq(row.get(0)?), n: row.get(1)? })
}

fn signals_after(db: &Connection, after: Place, limit: usize) -> Result<Vec<(Place, Signal)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT seq, n, body FROM signals WHERE (seq, n) > (?1, ?2) ORDER BY seq, n LIMIT ?3",
    )?;
    let mut rows = statement.query(params![after.seq.cast_signed(), after.n, count(limit)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let place = place(row)?;
        found.push((place, parse(place.seq, row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?));
    }
    Ok(found)
}

/// The messages that speak for a signal, oldest first.
fn deliveries_of(db: &Connection, place: Place, signal: &Signal) -> Result<Vec<Delivery>, StoreError> {
    let sql = "SELECT body FROM deliveries
               WHERE condition = ?1 AND standing = ?2 AND last_seq >= ?3 AND first_seq <= ?3
               ORDER BY last_seq LIMIT ?4";
    let (seq, conditions) = (place.seq.cast_signed(), speak_for(signal));
    let mut found: Vec<Delivery> = Vec::new();
    for standing in [Standing::Dead, Standing::Queued, Standing::Delivered] {
        for condition in &conditions {
            let room = count(MAX_MESSAGES.saturating_sub(found.len()));
            found.extend(bodies(db, sql, params![condition, standing.as_str(), seq, room], "deliveries")?);
        }
    }
    found.sort_by_key(|delivery| delivery.no);
    Ok(found)
}

/// The entries that messages speak for, from the first to the last, by their condition.
type Spans = HashMap<String, Vec<(i64, i64)>>;

/// Those of the messages that a filter asks for; none if it asks for none in particular.
fn spans(db: &Connection, filter: &SignalFilter) -> Result<Option<Spans>, StoreError> {
    if filter.sink.is_none() && filter.standing.is_none() {
        return Ok(None);
    }
    // Few of them are kept, however many signals there are.
    let mut statement = db.prepare_cached(match filter.standing {
        Some(_) => "SELECT sink, condition, first_seq, last_seq FROM deliveries WHERE standing = ?1",
        None => "SELECT sink, condition, first_seq, last_seq FROM deliveries WHERE ?1 = ''",
    })?;
    let mut rows = statement.query([filter.standing.map_or("", Standing::as_str)])?;
    let mut spans = Spans::new();
    while let Some(row) = rows.next()? {
        let sink = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        if filter.sink.as_ref().is_none_or(|wanted| wanted == sink) {
            spans.entry(row.get(1)?).or_default().push((row.get(2)?, row.get(3)?));
        }
    }
    Ok(Some(spans))
}

fn page(
    db: &Connection,
    filter: &SignalFilter,
    before: Option<Place>,
    limit: usize,
) -> Result<SignalPage, StoreError> {
    let limit = limit.clamp(1, MAX_PAGE);
    let tx = db.unchecked_transaction()?;
    let mut before = before.map_or((i64::MAX, 0), |place| (place.seq.cast_signed(), place.n));
    let mut first = 0;
    let spans = spans(&tx, filter)?;
    if let Some(spans) = &spans {
        // What nobody was told in such a message is not looked at.
        let all = || spans.values().flatten();
        let Some(last) = all().map(|(_, last)| *last).max() else { return Ok(SignalPage::default()) };
        first = all().map(|(first, _)| *first).min().unwrap_or_default();
        before = before.min((last.saturating_add(1), 0));
    }
    let mut statement = tx.prepare_cached(
        "SELECT seq, n, kind, agent, body FROM signals
         WHERE (seq, n) < (?1, ?2) AND seq >= ?3 AND severity >= ?4 ORDER BY seq DESC, n DESC",
    )?;
    let least = filter.severity.map_or(0, |s| s as u8);
    let mut rows = statement.query(params![before.0, before.1, first, least])?;
    let (mut page, mut seen, mut last) = (SignalPage::default(), 0, None);
    while let Some(row) = rows.next()? {
        if page.rows.len() == limit || seen == MAX_SCAN {
            page.next = last;
            break;
        }
        seen += 1;
        let place = place(row)?;
        last = Some(place);
        let (kind, agent): (String, Option<String>) = (row.get(2)?, row.get(3)?);
        let wanted = filter.kind.as_ref().is_none_or(|p| p.matches(&kind))
            && filter.agent.as_ref().is_none_or(|p| agent.is_some_and(|agent| p.matches(&agent)));
        if !wanted {
            continue;
        }
        let signal: Signal = parse(place.seq, row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?)?;
        let seq = place.seq.cast_signed();
        let is_told = |spans: &Spans| {
            let of = speak_for(&signal);
            let mut spans = of.iter().filter_map(|condition| spans.get(condition)).flatten();
            spans.any(|(first, last)| (*first..=*last).contains(&seq))
        };
        if spans.as_ref().is_none_or(is_told) {
            let deliveries = deliveries_of(&tx, place, &signal)?;
            page.rows.push(SignalRow { place, signal, deliveries });
        }
    }
    Ok(page)
}

impl Store {
    /// What the dispatcher left.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn outbox(&self) -> Result<Outbox, StoreError> {
        self.read(load).await
    }

    /// Keeps a step of the dispatcher: readers see it when this returns, and no crash of the process takes it
    /// back. A power cut can take back the last steps; the messages of those are then sent again.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub async fn keep_outbox(&self, changes: OutboxChanges) -> Result<(), AppendError> {
        let (reply, kept) = oneshot::channel();
        self.send(Request::Outbox { changes: Box::new(changes), reply }).await?;
        kept.await.map_err(|_| AppendError::Closed)?
    }

    /// At most `limit` signals after `after`, in order. Asks nothing of the writer: what was recorded in the last
    /// moments may be missing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn signals_after(
        &self,
        after: Place,
        limit: usize,
    ) -> Result<Vec<(Place, Signal)>, StoreError> {
        self.read_behind(move |db| signals_after(db, after, limit)).await
    }

    /// At most `limit` entries of the log after `after`, in order, and the last entry that retention removed.
    /// Asks nothing of the writer: what was recorded in the last moments may be missing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn entries_behind(&self, after: u64, limit: usize) -> Result<(u64, Vec<Entry>), StoreError> {
        self.read_behind(move |db| {
            let tx = db.unchecked_transaction()?;
            let base = schema::mark(&tx, schema::Mark::Base)?.seq;
            Ok((base, crate::read::entries(&tx, after, limit, &crate::EntryFilter::default())?))
        })
        .await
    }

    /// Signals, newest first: those before `before`, or the newest.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn signals(
        &self,
        filter: SignalFilter,
        before: Option<Place>,
        limit: usize,
    ) -> Result<SignalPage, StoreError> {
        self.read(move |db| page(db, &filter, before, limit)).await
    }

    /// The signal at `place`, with its messages.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn signal(&self, place: Place) -> Result<Option<SignalRow>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT body FROM signals WHERE seq = ?1 AND n = ?2";
            let found: Vec<Signal> = bodies(db, sql, params![place.seq.cast_signed(), place.n], "signals")?;
            let Some(signal) = found.into_iter().next() else { return Ok(None) };
            Ok(Some(SignalRow { place, deliveries: deliveries_of(db, place, &signal)?, signal }))
        })
        .await
    }

    /// The silences that nobody ended and whose time is not over at `now`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn silences(&self, now: Timestamp) -> Result<Vec<Silence>, StoreError> {
        let sql = "SELECT body FROM silences WHERE until > ?1 ORDER BY until";
        self.read(move |db| bodies(db, sql, [now.as_micros()], "silences")).await
    }
}
