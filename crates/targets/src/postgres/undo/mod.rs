//! Rollback: the snapshot's rows are loaded into temporary tables, compared with what stands now, and put back
//! by statements over sets, in one transaction.

mod compare;
mod deferred;
mod in_place;
mod keys;
mod restore;
pub(super) mod stage;

use super::{
    Postgres,
    connect::Session,
    execute::{self, Transaction, abandon, begin, pin, token},
    find::Hints,
    images::NUMBER,
    schema::{self, ForeignKey},
    sql::{ask, failed, words},
    values::Trouble,
};
use crate::{
    Error, Plan, ResourcePlan, Undo, UndoOptions,
    snapshot::{Snapshot, SnapshotWriter},
};
use checkrein_core::rollback::{OnConflict, Step};
use compare::Compared;
use in_place::Done;
use stage::Staged;
use std::collections::BTreeMap;
use tokio_postgres::error::SqlState;

/// What it takes to put rows back without setting off what the database attaches to their change.
const REPLICA: &str = "SET LOCAL session_replication_role = replica";

impl Postgres {
    /// See [`crate::Target::plan`].
    pub(super) async fn planned(&self, snapshot: &Snapshot, options: &UndoOptions) -> Result<Plan, Error> {
        let limit = self.limits().snapshot;
        let work = async {
            let mut session = self.connections.work().await?;
            begin(&mut session, "READ COMMITTED READ WRITE", limit, self.limits()).await?;
            pin(&session).await?;
            let staged = stage::describe(&session, snapshot).await?;
            stage::load(&session, None, snapshot, &staged, &options.progress).await?;
            let (plan, _) = compared(&session, &staged, options.on_conflict, &[]).await?;
            abandon(session).await;
            Ok::<_, Trouble>(plan)
        };
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result.map_err(|trouble| told(trouble, limit)),
            Err(_) => Err(Error::TimedOut { what: "planning the rollback", limit }),
        }
    }

    /// See [`crate::Target::rollback`].
    pub(super) async fn undone(
        &self,
        snapshot: &Snapshot,
        options: &UndoOptions,
        out: &mut SnapshotWriter,
    ) -> Result<Undo, Error> {
        let limit = self.limits().snapshot;
        match tokio::time::timeout(limit, self.undo(snapshot, options, out)).await {
            Ok(result) => result.map_err(|trouble| told(trouble, limit)),
            Err(_) => Err(Error::TimedOut { what: "the rollback", limit }),
        }
    }

    async fn undo(
        &self,
        snapshot: &Snapshot,
        options: &UndoOptions,
        out: &mut SnapshotWriter,
    ) -> Result<Undo, Trouble> {
        if let Some(undo) = self.undo_by(snapshot, options, out, true).await? {
            return Ok(undo);
        }
        out.again().await?;
        let undo = self.undo_by(snapshot, options, out, false).await?;
        undo.ok_or_else(|| Error::Internal("the rollback found no way".to_owned()).into())
    }

    /// One way: with `in_place` records are written over where they may be. None where this cannot be done.
    async fn undo_by(
        &self,
        snapshot: &Snapshot,
        options: &UndoOptions,
        out: &mut SnapshotWriter,
        in_place: bool,
    ) -> Result<Option<Undo>, Trouble> {
        let limits = self.limits();
        let mut session = self.connections.work().await?;
        let mut watch = self.connections.watch().await?;
        begin(&mut session, "READ COMMITTED READ WRITE", limits.snapshot, limits).await?;
        pin(&session).await?;
        let token = token(&session).await?;
        execute::remember(&watch).await?;
        let mut staged = stage::describe(&session, snapshot).await?;
        let tables: Vec<u32> = staged.iter().map(|one| one.now.oid).collect();
        let mut keys = schema::foreign_keys(&session, tables.iter().copied()).await?;
        if in_place {
            in_place::survey(snapshot, &mut staged, &keys).await?;
        }
        let progress = &options.progress;
        if staged.iter().any(|one| one.in_place.is_some()) {
            begin(&mut watch, "READ COMMITTED READ WRITE", limits.snapshot, limits).await?;
            stage::load(&session, Some(&watch), snapshot, &staged, progress).await?;
        } else {
            stage::load(&session, None, snapshot, &staged, progress).await?;
        }
        lock(&session, &staged).await?;
        let mut done = Vec::new();
        if in_place {
            // From here on there cannot be others.
            let known =
                std::mem::replace(&mut keys, schema::foreign_keys(&session, tables.iter().copied()).await?);
            let now = schema::relations(&session, tables).await?;
            let same = known == keys && staged.iter().all(|one| now.contains(&one.now));
            let same = same && !in_place::disturbed(&session, &staged).await?;
            let found = if same && self.disarm(&session, &staged, |_| true, &keys).await.is_ok() {
                in_place::write_over((&session, &watch), snapshot, &staged, out).await?
            } else {
                None
            };
            if watch.batch_execute("ROLLBACK").await.is_ok() {
                watch.finished();
            }
            let Some(found) = found else {
                abandon(session).await;
                return Ok(None);
            };
            done = found;
        } else {
            keys = schema::foreign_keys(&session, tables).await?;
        }
        let (plan, compared) = compared(&session, &staged, options.on_conflict, &done).await?;
        if plan.conflict_count > 0 && options.on_conflict == OnConflict::Refuse {
            abandon(session).await;
            return Ok(Some(Undo::Conflicts(plan)));
        }
        if compared.iter().all(Compared::nothing) {
            abandon(session).await;
            return Ok(Some(Undo::Nothing(plan)));
        }
        self.disarm(&session, &staged, |at| compared.get(at).is_some_and(|one| !one.nothing()), &keys)
            .await?;
        let (measured, mut alike) = restore::restore(&session, &staged, &compared, &keys, out).await?;
        alike.extend(execute::number_of(&token).map(|number| (NUMBER.to_owned(), number.into())));
        keys::check(&session, &staged, &compared, &keys).await?;
        deferred::check(&session, &staged, &compared).await?;
        restore::nothing_else(&session, &staged, &compared).await?;
        super::identify(&session, out, &alike);
        out.sealed();
        let transaction = Transaction {
            session,
            watch,
            touched: Vec::new(),
            keys: Vec::new(),
            hints: Hints::default(),
            measured,
            results: Vec::new(),
            token,
            limits: limits.clone(),
            captured: true,
            statements: Vec::new(),
            bound: false,
        };
        Ok(Some(Undo::Ready(plan, Box::new(transaction))))
    }

    /// Keeps triggers and the actions of foreign keys from running: what they did is in the snapshot already.
    async fn disarm(
        &self,
        session: &Session,
        staged: &[Staged],
        changes: impl Fn(usize) -> bool,
        keys: &[ForeignKey],
    ) -> Result<(), Trouble> {
        session.batch_execute("SAVEPOINT checkrein_replica").await?;
        // Released, so that what is written carries the transaction's own number ([`restore`]).
        let release = "RELEASE SAVEPOINT checkrein_replica";
        let Err(error) = session.batch_execute(REPLICA).await else {
            return Ok(session.batch_execute(release).await?);
        };
        if error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            return Err(error.into());
        }
        session.batch_execute(&format!("ROLLBACK TO SAVEPOINT checkrein_replica; {release}")).await?;
        let armed = staged.iter().enumerate().find(|(at, staged)| {
            changes(*at)
                && (staged.now.triggers > 0
                    || keys.iter().any(|key| staged.now.is(key.child) || staged.now.is(key.parent)))
        });
        let Some((_, staged)) = armed else { return Ok(()) };
        let account = super::sql::ask_one(session, "SELECT pg_catalog.quote_ident(current_user)").await?;
        let account = account.unwrap_or_else(|| "the account".to_owned());
        let how = if session.version() >= 150_000 {
            format!("a superuser must run once: GRANT SET ON PARAMETER session_replication_role TO {account}")
        } else {
            format!("before PostgreSQL 15 only a superuser may do that, and {account} is none")
        };
        Err(Error::Forbidden(format!(
            "{} has triggers or foreign keys, which must not run while its records are put back: {how}",
            staged.now.resource
        ))
        .into())
    }
}

/// Keeps everybody else from writing these tables until the end; reading goes on.
async fn lock(session: &Session, staged: &[Staged]) -> Result<(), Trouble> {
    // Room to join as many rows as there may be without the disk.
    let room = "SELECT pg_catalog.set_config('work_mem', '64MB', true) \
        WHERE pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem')) < 67108864";
    ask(session, room).await?;
    for staged in staged {
        let lock = format!("LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE", staged.now.sql());
        ask(session, &lock).await?;
    }
    Ok(())
}

/// The plan, and what it means for each table, some of which have been looked at.
async fn compared(
    session: &Session,
    staged: &[Staged],
    on_conflict: OnConflict,
    done: &[Option<Done>],
) -> Result<(Plan, Vec<Compared>), Trouble> {
    let mut plan = Plan::default();
    let mut all = Vec::with_capacity(staged.len());
    let mut by_resource: BTreeMap<&str, ResourcePlan> = BTreeMap::new();
    for (number, staged) in staged.iter().enumerate() {
        let compared = match done.get(number).and_then(Option::as_ref) {
            Some(done) => done.compared(staged),
            None => compare::compare(session, staged, on_conflict).await?,
        };
        let sums = by_resource.entry(&staged.now.resource).or_default();
        for (step, taken, records) in compared.steps() {
            let is_conflict = matches!(step, Step::Conflict(_));
            if is_conflict {
                sums.conflicts += records;
            }
            match taken {
                Step::Insert => sums.insert += records,
                Step::Update => sums.update += records,
                Step::Delete => sums.delete += records,
                Step::Keep | Step::Conflict(_) if is_conflict => {}
                Step::Keep | Step::Conflict(_) => sums.keep += records,
            }
        }
        plan.notes.extend(staged.notes.iter().cloned());
        plan.notes.extend(compared.notes(staged));
        compare::conflicts(session, staged, &compared, &mut plan).await?;
        all.push(compared);
    }
    plan.by_resource = by_resource
        .into_iter()
        .map(|(resource, sums)| ResourcePlan { resource: resource.to_owned(), ..sums })
        .collect();
    plan.conflict_count = plan.by_resource.iter().map(|sums| sums.conflicts).sum();
    Ok((plan, all))
}

/// What it means that a rollback failed: what the database does not let happen cannot be put back.
fn told(trouble: Trouble, limit: std::time::Duration) -> Error {
    let error = match trouble {
        Trouble::Ours(error) => return error,
        Trouble::Server(error) => error,
    };
    match failed(&error, "the rollback", limit) {
        Error::Statement { code, .. } if code.starts_with("23") || code == "428C9" || code == "0A000" => {
            Error::Irreversible(format!(
                "PostgreSQL does not let the records be put back: {}; nothing was changed",
                words(&error)
            ))
        }
        // It may be over the next time.
        Error::Statement { code, message } if code == "55P03" || code.starts_with("40") => {
            Error::Unreachable(format!("{message}; nothing was changed"))
        }
        Error::Invalid(message) => Error::Irreversible(format!(
            "the records of the snapshot do not fit any more: {message}; nothing was changed"
        )),
        other => other,
    }
}
