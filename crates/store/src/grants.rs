//! Time-boxed grants: how events change their table, and what can be asked of it.

use crate::{
    error::StoreError,
    listing::Listing,
    project::{Fault, Refusal, unless},
    read::{bodies, count},
    store::Store,
};
use checkrein_core::{
    grant::{Grant, State, Transition},
    name::{Name, Pattern},
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension as _, params, types::Value as Sql};

/// Which grants.
#[derive(Clone, Debug, Default)]
pub struct GrantFilter {
    /// For which agents.
    pub agent: Option<Pattern>,
    /// Of which something can still come, or of which nothing can.
    pub open: Option<bool>,
}

/// Some grants, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GrantPage {
    /// The grants; as with [`crate::CheckPage::rows`], possibly fewer than asked for.
    pub rows: Vec<Grant>,
    /// What to pass as `before` for the next page; none at the end.
    pub next: Option<u64>,
}

/// Notes a grant that was given.
///
/// # Errors
/// When there is one of that id.
pub(crate) fn given(db: &Connection, seq: u64, grant: &Grant) -> Result<(), Fault> {
    let added = db
        .prepare_cached(
            "INSERT INTO grants (seq, id, agent, open, expires_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            seq.cast_signed(),
            grant.id,
            &*grant.agent,
            grant.state == State::Open,
            grant.expires_at.as_micros(),
            serde_json::to_string(grant)?,
        ])?;
    unless(added == 0, || Refusal::Exists(format!("grant {}", grant.id)))
}

/// Notes what happened to a grant.
///
/// # Errors
/// When there is none, or that cannot happen to it.
pub(crate) fn changed(
    db: &Connection,
    id: &str,
    transition: &Transition,
    at: Timestamp,
) -> Result<(), Fault> {
    let body = db
        .prepare_cached("SELECT body FROM grants WHERE id = ?1")?
        .query_row([id], |r| r.get::<_, String>(0))
        .optional()?
        .ok_or_else(|| Refusal::NotFound(format!("grant {id}")))?;
    let grant: Grant = serde_json::from_str(&body)?;
    let next = grant.after(transition, at).map_err(Refusal::Grant)?;
    db.prepare_cached("UPDATE grants SET open = ?2, body = ?3 WHERE id = ?1")?.execute(params![
        id,
        next.state == State::Open,
        serde_json::to_string(&next)?
    ])?;
    Ok(())
}

/// The first entry that an open grant needs.
pub(crate) fn first_needed(db: &Connection) -> Result<Option<i64>, rusqlite::Error> {
    db.query_row("SELECT min(seq) FROM grants WHERE open = 1", [], |r| r.get(0))
}

/// Forgets the grants of the entries through `through`, none of which is open.
pub(crate) fn prune(db: &Connection, through: i64) -> Result<(), rusqlite::Error> {
    db.prepare_cached("DELETE FROM grants WHERE seq <= ?1 AND open = 0")?.execute([through]).map(drop)
}

impl Store {
    /// The grant `id`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn grant(&self, id: &str) -> Result<Option<Grant>, StoreError> {
        let id = id.to_owned();
        self.read(move |db| {
            let mut found = bodies(db, "SELECT body FROM grants WHERE id = ?1", [id], "grants")?;
            Ok(found.pop())
        })
        .await
    }

    /// The open grants for `agent`, oldest first. Some may be over at the current time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_grants(&self, agent: &Name) -> Result<Vec<Grant>, StoreError> {
        let agent = agent.clone();
        let sql = "SELECT body FROM grants WHERE open = 1 AND agent = ?1 ORDER BY seq";
        self.read(move |db| bodies(db, sql, [agent.as_str()], "grants")).await
    }

    /// At most `limit` open grants whose time is over at `now`, the longest overdue first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn due_grants(&self, now: Timestamp, limit: usize) -> Result<Vec<Grant>, StoreError> {
        let sql = "SELECT body FROM grants WHERE open = 1 AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2";
        self.read(move |db| bodies(db, sql, [now.as_micros(), count(limit)], "grants")).await
    }

    /// Grants, newest first: those given before the entry `before`, or the newest.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn grants(
        &self,
        filter: GrantFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<GrantPage, StoreError> {
        self.read(move |db| page(db, &filter, before, limit)).await
    }
}

fn page(
    db: &Connection,
    filter: &GrantFilter,
    before: Option<u64>,
    limit: usize,
) -> Result<GrantPage, StoreError> {
    // Few are open, however many there were.
    let (open, agent) = (filter.open == Some(true), filter.agent.as_ref());
    let listing = Listing {
        table: "grants",
        agent,
        standing: &[("open", filter.open.map(|open| Sql::Integer(i64::from(open))))],
        along: if open { "INDEXED BY grants_open WHERE open = 1" } else { "WHERE 1" },
        direct: open || (agent.is_none() && filter.open.is_none()),
    };
    listing.page(db, before, limit).map(|(rows, next)| GrantPage { rows, next })
}
