//! What a transaction that is still open has changed: each record that it may have touched, as everybody else
//! sees it and as it sees it itself.
//!
//! The transaction holds an exclusive lock on whatever it changed. So what an observer sees of such a record
//! is what was there before, exactly, and nobody can change it in between.

use super::{
    connect::{Db, Session},
    footprint::{Before, Footprint, Rows, Trace, fetch},
    schema::Table,
    value::{Image, pick},
};
use crate::{Affected, Error, How};
use std::collections::BTreeMap;

/// One record, before and after. Without a key the content is the key, and only how often it is there differs.
pub(super) struct Record {
    pub(super) key: Image,
    pub(super) before: Option<Image>,
    pub(super) after: Option<Image>,
    /// How often each is there: 0 or 1 where there is a key.
    pub(super) counts: (u64, u64),
    pub(super) how: How,
}

/// Looks from outside at what a transaction has done; connected once somebody looks.
///
/// Without locks: those are the transaction's, and taking them again costs the server more than the look.
pub(super) struct Outside<'a> {
    db: &'a Db,
    /// The server that the transaction is on.
    server: String,
    observer: Option<(Session, Sight)>,
}

/// What an observer sees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// What is committed: records as they were before.
    Committed,
    /// What the transaction has made of the records that it holds.
    Latest,
}

impl<'a> Outside<'a> {
    /// Of the transaction of `own`.
    pub(super) fn of(db: &'a Db, own: &Session) -> Self {
        Self { db, server: own.server.clone(), observer: None }
    }

    /// Records as everybody else sees them. More may be answered than was asked for.
    pub(super) async fn committed<K: AsRef<[u8]>>(
        &mut self,
        table: &Table,
        keys: &[K],
    ) -> Result<Rows, Error> {
        self.fetch(table, keys, Sight::Committed).await
    }

    /// Records as they are now: those that a transaction holds, as it sees them. More may be answered than was
    /// asked for.
    pub(super) async fn latest<K: AsRef<[u8]>>(&mut self, table: &Table, keys: &[K]) -> Result<Rows, Error> {
        self.fetch(table, keys, Sight::Latest).await
    }

    async fn fetch<K: AsRef<[u8]>>(
        &mut self,
        table: &Table,
        keys: &[K],
        sight: Sight,
    ) -> Result<Rows, Error> {
        if keys.is_empty() {
            return Ok(Rows::default());
        }
        let observer = self.observer(sight).await?;
        fetch(observer, table, keys, false).await
    }

    /// A session that sees this, without locks.
    pub(super) async fn observer(&mut self, sight: Sight) -> Result<&mut Session, Error> {
        let (observer, level) = match &mut self.observer {
            Some(observer) => observer,
            none => none.insert((self.db.observer(&self.server).await?, Sight::Committed)),
        };
        if *level != sight {
            let name = if sight == Sight::Committed { "READ COMMITTED" } else { "READ UNCOMMITTED" };
            observer.run(&format!("SET SESSION TRANSACTION ISOLATION LEVEL {name}")).await?;
            *level = sight;
        }
        Ok(observer)
    }
}

/// Compares records that a transaction holds; answers those that differ.
pub(super) async fn compare(
    outside: &mut Outside<'_>,
    table: &Table,
    records: &[(&Image, &Trace)],
) -> Result<Vec<Record>, Error> {
    let names: Vec<&Image> = records.iter().map(|(key, _)| *key).collect();
    let unknown: Vec<&Image> = records
        .iter()
        .filter(|(_, trace)| matches!(trace.before, Before::Unknown))
        .map(|(key, _)| *key)
        .collect();
    let before = outside.committed(table, &unknown).await?;
    let mut after = outside.latest(table, &names).await?;
    let mut different = Vec::new();
    for (key, trace) in records {
        let was = match &trace.before {
            Before::Unknown => before.get(*key).map(|(row, count)| (row, *count)),
            Before::Absent => None,
            Before::There(row) => Some((row, 1)),
        };
        let is = after.swap_remove(*key);
        if was == is.as_ref().map(|(row, count)| (row, *count)) {
            continue;
        }
        let how = match (was, &is, trace.how) {
            (None, _, _) => How::Insert,
            (Some(_), None, How::Cascade) => How::Cascade,
            (Some(_), None, _) => How::Delete,
            (Some(_), Some(_), How::Unlink) => How::Unlink,
            (Some(_), Some(_), _) => How::Update,
        };
        different.push(Record {
            key: (*key).clone(),
            counts: (was.map_or(0, |w| w.1), is.as_ref().map_or(0, |i| i.1)),
            before: was.map(|(row, _)| row.clone()),
            after: is.map(|(row, _)| row),
            how,
        });
    }
    Ok(different)
}

/// Rows by their keys, in their order, and how often each is there.
pub(super) fn by_key(table: &Table, rows: Vec<Image>) -> Result<Rows, Error> {
    let mut map = Rows::with_capacity_and_hasher(rows.len(), foldhash::fast::RandomState::default());
    for row in rows {
        let key = pick(&row, &table.key)?;
        map.entry(key).or_insert((row, 0)).1 += 1;
    }
    Ok(map)
}

/// Adds up what was compared.
#[derive(Default)]
pub(super) struct Tally {
    affected: BTreeMap<(String, How), u64>,
    /// Records of tables without a key: gone, come.
    loose: BTreeMap<String, (u64, u64)>,
}

impl Tally {
    pub(super) fn add(&mut self, table: &Table, record: &Record) {
        if table.keyed {
            *self.affected.entry((table.resource.clone(), record.how)).or_default() += 1;
        } else {
            let loose = self.loose.entry(table.resource.clone()).or_default();
            loose.0 += record.counts.0.saturating_sub(record.counts.1);
            loose.1 += record.counts.1.saturating_sub(record.counts.0);
        }
    }

    /// The least and the most rows that the server can have changed for this.
    pub(super) fn rows(&self) -> (u64, u64) {
        let keyed: u64 = self.affected.values().sum();
        let least: u64 = self.loose.values().map(|(gone, come)| *gone.max(come)).sum();
        let most: u64 = self.loose.values().map(|(gone, come)| gone + come).sum();
        (keyed + least, keyed + most)
    }

    pub(super) fn affected(&self) -> Vec<Affected> {
        let mut list: Vec<_> = self
            .affected
            .iter()
            .map(|((resource, how), records)| Affected {
                resource: resource.clone(),
                how: *how,
                records: *records,
            })
            .collect();
        for (resource, (gone, come)) in &self.loose {
            let both = *gone.min(come);
            for (how, records) in
                [(How::Update, both), (How::Insert, come - both), (How::Delete, gone - both)]
            {
                if records > 0 {
                    list.push(Affected { resource: resource.clone(), how, records });
                }
            }
        }
        list
    }
}

/// Compares everything and adds it up.
pub(super) async fn tally(own: &Session, db: &Db, found: &Footprint) -> Result<Tally, Error> {
    let mut outside = Outside::of(db, own);
    let mut tally = Tally::default();
    for touched in found.tables.values() {
        for part in touched.parts() {
            for record in compare(&mut outside, &touched.table, &part).await? {
                tally.add(&touched.table, &record);
            }
        }
    }
    Ok(tally)
}
