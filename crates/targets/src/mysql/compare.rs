//! What a transaction that is still open has changed: each record that it may have touched, as everybody else
//! sees it and as it sees it itself.
//!
//! The transaction holds an exclusive lock on whatever it changed. So what an observer sees of such a record
//! is what was there before, exactly, and nobody can change it in between.

use super::{
    connect::{Db, Session},
    footprint::{Before, CHUNK, Footprint, Rows, Trace, fetch},
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

/// What everybody else sees; connected once somebody looks.
pub(super) struct Outside<'a> {
    db: &'a Db,
    observer: Option<Session>,
}

impl<'a> Outside<'a> {
    pub(super) const fn of(db: &'a Db) -> Self {
        Self { db, observer: None }
    }

    /// Records by their keys, at most [`CHUNK`] of them.
    pub(super) async fn fetch<K: AsRef<[u8]>>(&mut self, table: &Table, keys: &[K]) -> Result<Rows, Error> {
        if keys.is_empty() {
            return Ok(Rows::new());
        }
        let observer = match &mut self.observer {
            Some(observer) => observer,
            none => none.insert(self.db.observer().await?),
        };
        fetch(observer, table, keys, false).await
    }
}

/// Compares at most [`CHUNK`] records; answers those that differ.
pub(super) async fn compare(
    own: &mut Session,
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
    let before = outside.fetch(table, &unknown).await?;
    let mut after = fetch(own, table, &names, true).await?;
    let mut different = Vec::new();
    for (key, trace) in records {
        let was = match &trace.before {
            Before::Unknown => before.get(*key).map(|(row, count)| (row, *count)),
            Before::Absent => None,
            Before::There(row) => Some((row, 1)),
        };
        let is = after.remove(*key);
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

/// Rows by their keys, and how often each is there.
pub(super) fn by_key(table: &Table, rows: Vec<Image>) -> Result<Rows, Error> {
    let mut map = Rows::with_capacity(rows.len());
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
pub(super) async fn tally(own: &mut Session, db: &Db, found: &Footprint) -> Result<Tally, Error> {
    let mut outside = Outside::of(db);
    let mut tally = Tally::default();
    for touched in found.tables.values() {
        let records: Vec<_> = touched.records.iter().collect();
        for chunk in records.chunks(CHUNK) {
            for record in compare(own, &mut outside, &touched.table, chunk).await? {
                tally.add(&touched.table, &record);
            }
        }
    }
    Ok(tally)
}
