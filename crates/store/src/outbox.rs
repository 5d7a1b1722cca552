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
        About, Delivery, Outbox, OutboxChanges, Place, Severity, Signal, Silence, Standing, derive,
        speaks_for,
    },
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::oneshot;

/// Signals that one read looks through at most when a filter passes few.
const MAX_SCAN: usize = 5_000;

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

/// A signal and the messages that speak for it, oldest first.
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
            "INSERT INTO deliveries (no, id, sink, standing, first_seq, last_seq, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (no) DO UPDATE SET standing = excluded.standing, body = excluded.body",
        )?
        .execute(params![
            delivery.no.cast_signed(),
            delivery.notification.delivery_id,
            delivery.sink,
            delivery.standing.as_str(),
            delivery.entries.0.cast_signed(),
            delivery.entries.1.cast_signed(),
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
    let sql = "SELECT body FROM deliveries WHERE first_seq <= ?1 AND last_seq >= ?1 ORDER BY no";
    let mut found: Vec<Delivery> = bodies(db, sql, [place.seq.cast_signed()], "deliveries")?;
    found.retain(|delivery| speaks_for(&delivery.condition, signal));
    Ok(found)
}

fn page(
    db: &Connection,
    filter: &SignalFilter,
    before: Option<Place>,
    limit: usize,
) -> Result<SignalPage, StoreError> {
    let limit = limit.clamp(1, MAX_PAGE);
    let tx = db.unchecked_transaction()?;
    let mut statement = tx.prepare_cached(
        "SELECT seq, n, kind, agent, body FROM signals
         WHERE (seq, n) < (?1, ?2) AND severity >= ?3 ORDER BY seq DESC, n DESC",
    )?;
    let (seq, n) = before.map_or((i64::MAX, 0), |place| (place.seq.cast_signed(), place.n));
    let mut rows = statement.query(params![seq, n, filter.severity.map_or(0, |s| s as u8)])?;
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
        let deliveries = deliveries_of(&tx, place, &signal)?;
        let told = |d: &Delivery| {
            filter.sink.as_ref().is_none_or(|sink| d.sink == *sink)
                && filter.standing.is_none_or(|standing| d.standing == standing)
        };
        if (filter.sink.is_none() && filter.standing.is_none()) || deliveries.iter().any(told) {
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
