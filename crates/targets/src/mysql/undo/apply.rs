//! Doing it.

use super::{
    Look, States, Today, irreversible,
    judge::{Events, Step},
    keys::{Gone, have_parents},
    states,
};
use crate::{
    Error, Progress,
    mysql::{
        blocks::ChunkReader,
        compare::Outside,
        connect::{Db, Session},
        dictionary::parents,
        footprint::{CHUNK, Footprint, Seen, fetch, look, look_again},
        schema::{Column, Schema, Table, join, quote},
        value::{Image, decode},
        walk::{Walk, Watch},
    },
    snapshot::Snapshot,
};
use mysql_async::{Params, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

/// Rows that one statement inserts.
const BATCHES: [usize; 3] = [256, 16, 1];
/// Placeholders that one statement may have.
const MOST_PLACEHOLDERS: usize = 60_000;
/// How often what triggers did is undone before the rollback is given up.
const ROUNDS: usize = 3;

/// A rollback under way.
pub(super) struct Work<'a> {
    pub(super) db: &'a Arc<Db>,
    pub(super) session: Session,
    pub(super) schema: Schema,
    pub(super) snapshot: &'a Snapshot,
    pub(super) today: &'a Today,
    pub(super) steps: Vec<Step>,
    pub(super) events: Events,
    /// What records referred to and what goes.
    pub(super) gone: Gone,
    pub(super) progress: &'a Progress,
}

/// What a pass over the snapshot does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Removes what must go.
    Clear,
    /// Puts back what must come back.
    Restore,
    /// Compares; answers how many records had to be mended, which only triggers can cause.
    Verify,
}

impl Pass {
    /// Whether it has anything to do with a record.
    const fn concerns(self, step: Step) -> bool {
        match self {
            Self::Clear => matches!(step, Step::Delete | Step::Move),
            Self::Restore => matches!(step, Step::Insert | Step::Move | Step::Update),
            Self::Verify => !matches!(step, Step::Keep),
        }
    }
}

impl Work<'_> {
    pub(super) async fn run(&mut self) -> Result<(), Error> {
        let watched = self.watch().await?;
        let triggers = self.today.values().any(|t| !t.triggers.is_empty());
        for pass in [Pass::Clear, Pass::Restore] {
            self.pass(pass).await?;
        }
        let mut rounds = 0;
        loop {
            let mended = self.pass(Pass::Verify).await? + self.mend(&watched).await?;
            if mended == 0 {
                break;
            }
            rounds += 1;
            if !triggers || rounds > ROUNDS {
                return Err(Error::Irreversible(format!(
                    "{mended} records are not what they were after they had been put back: {}. Let the triggers do nothing while @checkrein_rollback is 1, or have a person restore the records",
                    if watched.is_empty() {
                        "the server changed them on the way"
                    } else {
                        "triggers change them again"
                    }
                )));
            }
        }
        self.gone.check(&mut self.session, &self.schema, self.today).await?;
        self.parents().await
    }

    /// Looks at the tables that triggers would write, before they do.
    async fn watch(&mut self) -> Result<Vec<(Watch, Seen)>, Error> {
        let mut found = Footprint::default();
        let mut walk = Walk::new(self.db, &mut self.session, &mut self.schema, &mut found, true);
        for (id, events) in &self.events {
            let Some(table) = self.today.get(id) else { continue };
            let events: Vec<&str> = events.iter().copied().collect();
            walk.fire(table, &events).await.map_err(irreversible)?;
        }
        let (watches, mut watched) = (walk.watch, Vec::new());
        let mut outside = Outside::of(self.db, &self.session);
        for watch in watches.into_values() {
            let seen = look(&mut self.session, &mut outside, &watch).await.map_err(irreversible)?;
            watched.push((watch, seen));
        }
        Ok(watched)
    }

    async fn pass(&mut self, pass: Pass) -> Result<u64, Error> {
        if !self.steps.iter().any(|step| pass.concerns(*step)) {
            return Ok(0);
        }
        let (mut at, mut seen, mut mended) = (0_usize, 0, 0_u64);
        let mut outside = Outside::of(self.db, &self.session);
        let mut reader = ChunkReader::new(self.snapshot)?;
        while let Some(chunk) = reader.next().await? {
            let Some(table) = self.today.get(&chunk.table.id()) else { continue };
            let looked = pass == Pass::Verify || !table.keyed || table.one_by_one();
            let look = if looked { Look::Held } else { Look::Not };
            let all = states(&mut self.session, &mut outside, table, chunk.before, chunk.after, look).await?;
            let steps: Vec<Step> = self.steps.iter().skip(at).take(all.len()).copied().collect();
            at += all.len();
            let due: Vec<(States, Step)> =
                all.into_iter().zip(steps).filter(|(_, s)| pass.concerns(*s)).collect();
            match pass {
                Pass::Clear => clear(&mut self.session, table, &due).await.map_err(irreversible)?,
                Pass::Restore => restore(&mut self.session, table, &due).await.map_err(irreversible)?,
                Pass::Verify => {
                    seen += due.len() as u64;
                    self.progress.done.store(seen, Ordering::Relaxed);
                    let wrong: Vec<_> = due.into_iter().filter(|(s, _)| s.now != s.before).collect();
                    mended += wrong.len() as u64;
                    for (state, _) in &wrong {
                        can_be_written(table, state)?;
                        put(&mut self.session, table, state).await.map_err(irreversible)?;
                    }
                }
            }
        }
        Ok(mended)
    }

    /// Undoes what triggers did to records that are not of the snapshot.
    async fn mend(&mut self, watched: &[(Watch, Seen)]) -> Result<u64, Error> {
        let mut mended = 0;
        let mut outside = Outside::of(self.db, &self.session);
        for (watch, was) in watched {
            let table = &watch.table;
            let mut changed =
                look_again(&mut self.session, &mut outside, watch, was).await.map_err(irreversible)?;
            if changed.is_empty() {
                continue;
            }
            let own = self.own_keys(table).await?;
            changed.retain(|key| !own.contains(key));
            let changed: Vec<&Image> = changed.iter().collect();
            for part in changed.chunks(CHUNK) {
                // Nobody else sees this transaction: what they see is what was there.
                let then = outside.committed(table, part).await?;
                let now = fetch(&mut self.session, table, part, true).await?;
                for key in part {
                    let (before, now) = (then.get(*key).cloned(), now.get(*key).cloned());
                    if before != now {
                        mended += 1;
                        let state = States { key: (*key).clone(), before, after: None, now };
                        put(&mut self.session, table, &state).await.map_err(irreversible)?;
                    }
                }
            }
        }
        Ok(mended)
    }

    /// The keys of a table that this rollback itself restores.
    async fn own_keys(&mut self, table: &Table) -> Result<BTreeSet<Image>, Error> {
        let (mut at, mut own) = (0_usize, BTreeSet::new());
        let mut outside = Outside::of(self.db, &self.session);
        let mut reader = ChunkReader::new(self.snapshot)?;
        while let Some(chunk) = reader.next().await? {
            let Some(of) = self.today.get(&chunk.table.id()) else { continue };
            for state in
                states(&mut self.session, &mut outside, of, chunk.before, chunk.after, Look::Not).await?
            {
                if self.steps.get(at) != Some(&Step::Keep) && of.id() == table.id() {
                    own.insert(state.key);
                }
                at += 1;
            }
        }
        Ok(own)
    }

    /// Whether all that was put back refers to something that is there.
    async fn parents(&mut self) -> Result<(), Error> {
        let mut foreign = BTreeMap::new();
        for (id, table) in self.today {
            foreign.insert(id.clone(), parents(&mut self.session, table).await?);
        }
        if foreign.values().all(Vec::is_empty) {
            return Ok(());
        }
        let mut at = 0_usize;
        let mut outside = Outside::of(self.db, &self.session);
        let mut reader = ChunkReader::new(self.snapshot)?;
        while let Some(chunk) = reader.next().await? {
            let Some(table) = self.today.get(&chunk.table.id()) else { continue };
            let all =
                states(&mut self.session, &mut outside, table, chunk.before, chunk.after, Look::Not).await?;
            let mut back = Vec::new();
            for state in &all {
                if self.steps.get(at) != Some(&Step::Keep) && state.before.is_some() {
                    back.push(&state.key);
                }
                at += 1;
            }
            let foreign = foreign.get(&table.id()).map(Vec::as_slice).unwrap_or_default();
            have_parents(&mut self.session, table, foreign, &back).await?;
        }
        Ok(())
    }
}

fn count(state: Option<&(Image, u64)>) -> u64 {
    state.map_or(0, |(_, n)| *n)
}

async fn clear(session: &mut Session, table: &Table, due: &[(States, Step)]) -> Result<(), Error> {
    if !table.keyed {
        for (state, _) in due {
            let (now, before) = (count(state.now.as_ref()), count(state.before.as_ref()));
            remove_some(session, table, &state.key, now.saturating_sub(before)).await?;
        }
        return Ok(());
    }
    let keys: Vec<&Image> = due
        .iter()
        .filter(|(_, step)| matches!(step, Step::Delete | Step::Move))
        .map(|(state, _)| &state.key)
        .collect();
    for part in keys.chunks(CHUNK) {
        remove(session, table, part).await?;
    }
    Ok(())
}

async fn remove(session: &mut Session, table: &Table, keys: &[&Image]) -> Result<(), Error> {
    for size in BATCHES {
        if keys.len() >= size {
            let mut rest = keys.chunks_exact(size);
            for part in &mut rest {
                let mut params = Vec::new();
                for key in part {
                    table.key_params(key, &mut params)?;
                }
                let sql =
                    format!("DELETE FROM {} WHERE {}", table.sql(), table.with_keys(&table.sql(), size));
                session.change(&sql, Params::Positional(params)).await?;
            }
            return Box::pin(remove(session, table, rest.remainder())).await;
        }
    }
    Ok(())
}

/// Removes some of several records that are the same.
async fn remove_some(session: &mut Session, table: &Table, key: &[u8], records: u64) -> Result<(), Error> {
    if records == 0 {
        return Ok(());
    }
    let mut params = Vec::new();
    table.key_params(key, &mut params)?;
    let sql =
        format!("DELETE FROM {} WHERE {} LIMIT {records}", table.sql(), table.with_keys(&table.sql(), 1));
    session.change(&sql, Params::Positional(params)).await.map(drop)
}

async fn restore(session: &mut Session, table: &Table, due: &[(States, Step)]) -> Result<(), Error> {
    let (mut rows, mut over): (Vec<&Image>, Vec<&Image>) = (Vec::new(), Vec::new());
    for (state, step) in due {
        let Some((image, before)) = &state.before else { continue };
        if !table.keyed {
            let missing = before.saturating_sub(count(state.now.as_ref()));
            rows.extend((0..missing).map(|_| image));
        } else if matches!(step, Step::Insert | Step::Move) {
            rows.push(image);
        } else if *step == Step::Update && !table.one_by_one() {
            over.push(image);
        } else if *step == Step::Update {
            update(session, table, state, image).await?;
        }
    }
    insert(session, table, &over, true).await?;
    insert(session, table, &rows, false).await
}

/// The columns that are written, with their places.
fn written(table: &Table) -> Vec<(usize, &Column)> {
    table.columns.iter().enumerate().filter(|(_, c)| !c.generated).collect()
}

/// Inserts records; `over`: over those with the same keys, which are there and locked. That is a statement for
/// many, but not for tables with triggers: those on INSERT would fire.
async fn insert(session: &mut Session, table: &Table, rows: &[&Image], over: bool) -> Result<(), Error> {
    let columns = written(table);
    let end = if over {
        let set = columns.iter().filter(|(place, _)| !table.key.contains(place));
        let set = join(set.map(|(_, c)| format!("{0} = VALUES({0})", quote(&c.name))));
        format!(" ON DUPLICATE KEY UPDATE {set}")
    } else {
        String::new()
    };
    let list = join(columns.iter().map(|(_, c)| quote(&c.name)));
    let one = format!("({})", join(columns.iter().map(|(_, c)| c.written())));
    let mut rest = rows;
    while let [first, ..] = rest {
        // Large rows go one by one, so that no statement outgrows what the server takes.
        let size = BATCHES.into_iter().find(|size| {
            *size == 1
                || (rest.len() >= *size && size * columns.len() <= MOST_PLACEHOLDERS && first.len() < 4096)
        });
        let (part, after) = rest.split_at_checked(size.unwrap_or(1)).unwrap_or((rest, &[]));
        rest = after;
        let mut params = Vec::with_capacity(part.len() * columns.len());
        for row in part {
            let mut values = decode(row)?;
            for (place, column) in &columns {
                let value = values.get_mut(*place).map(|v| std::mem::replace(v, Value::NULL));
                params.push(column.to_write(value.unwrap_or(Value::NULL)));
            }
        }
        let sql = format!(
            "INSERT INTO {} ({list}) VALUES {}{end}",
            table.sql(),
            vec![one.as_str(); part.len()].join(", ")
        );
        session.change(&sql, Params::Positional(params)).await?;
    }
    Ok(())
}

/// Refuses a record that differs only in what the server computes and stores: nobody can write that.
fn can_be_written(table: &Table, state: &States) -> Result<(), Error> {
    let (Some((then, _)), Some((now, _))) = (&state.before, &state.now) else { return Ok(()) };
    let (then, now) = (crate::mysql::value::cells(then)?, crate::mysql::value::cells(now)?);
    let differs = |place: usize| then.get(place) != now.get(place);
    let computed = table.columns.iter().enumerate().find(|(place, c)| c.generated && differs(*place));
    match computed {
        Some((_, column)) if written(table).iter().all(|(place, _)| !differs(*place)) => {
            Err(Error::Irreversible(format!(
                "the column {} of {} held a value that its expression does not give, which the server stores where a \
                 BEFORE trigger changes what an UPDATE of several tables has computed already, and which nobody can write; \
                 export the snapshot and have a person look at the records",
                column.name, table.resource
            )))
        }
        _ => Ok(()),
    }
}

/// Gives a record back its old content, only the columns that differ (and those that
/// the server would otherwise set to the present time).
async fn update(session: &mut Session, table: &Table, state: &States, image: &Image) -> Result<(), Error> {
    let Some((now, _)) = &state.now else { return Ok(()) };
    let (values, now) = (decode(image)?, crate::mysql::value::cells(now)?);
    let then = crate::mysql::value::cells(image)?;
    let (mut set, mut params) = (Vec::new(), Vec::new());
    for (place, column) in written(table) {
        if (column.stamped || then.get(place) != now.get(place))
            && let Some(value) = values.get(place)
        {
            set.push(format!("{} = {}", quote(&column.name), column.written()));
            params.push(column.to_write(value.clone()));
        }
    }
    if set.is_empty() {
        return Ok(());
    }
    table.key_params(&state.key, &mut params)?;
    let sql =
        format!("UPDATE {} SET {} WHERE {}", table.sql(), set.join(", "), table.with_keys(&table.sql(), 1));
    session.change(&sql, Params::Positional(params)).await.map(drop)
}

/// Makes one record what it was, whatever it is now.
async fn put(session: &mut Session, table: &Table, state: &States) -> Result<(), Error> {
    if !table.keyed {
        let (now, before) = (count(state.now.as_ref()), count(state.before.as_ref()));
        remove_some(session, table, &state.key, now.saturating_sub(before)).await?;
        let image = state.before.as_ref().map(|(image, _)| image);
        let rows: Vec<&Image> = (now..before).filter_map(|_| image).collect();
        return insert(session, table, &rows, false).await;
    }
    match (&state.before, &state.now) {
        (Some((image, _)), Some(_)) => update(session, table, state, image).await,
        (Some((image, _)), None) => insert(session, table, &[image], false).await,
        (None, Some(_)) => remove(session, table, &[&state.key]).await,
        (None, None) => Ok(()),
    }
}
