//! What a transaction that is still open has changed: each record that it may have touched, as everybody else
//! sees it and as it sees it itself.
//!
//! The transaction holds an exclusive lock on whatever it changed. So what an observer sees of such a record
//! is what was there before, exactly, and nobody can change it in between.

use super::{
    connect::{Db, Session},
    footprint::{CHUNK, Footprint, fetch},
    schema::Table,
    value::{Image, pick},
};
use crate::{Affected, Error, How};
use std::collections::{BTreeMap, HashMap};

/// One record, before and after. Without a key the content is the key, and only how often it is there differs.
pub(super) struct Record {
    pub(super) key: Image,
    pub(super) before: Option<Image>,
    pub(super) after: Option<Image>,
    /// How often each is there: 0 or 1 where there is a key.
    pub(super) counts: (u64, u64),
    pub(super) how: How,
}

/// Compares at most [`CHUNK`] records; answers those that differ.
pub(super) async fn compare(
    own: &mut Session,
    observer: &mut Session,
    table: &Table,
    keys: &[(&Image, How)],
) -> Result<Vec<Record>, Error> {
    let names: Vec<&Image> = keys.iter().map(|(key, _)| *key).collect();
    let before = by_key(table, fetch(observer, table, &names, false).await?)?;
    let after = by_key(table, fetch(own, table, &names, true).await?)?;
    let mut records = Vec::new();
    for (key, hint) in keys {
        let (was, is) = (before.get(*key), after.get(*key));
        if was == is {
            continue;
        }
        let how = match (was, is, hint) {
            (None, _, _) => How::Insert,
            (Some(_), None, How::Cascade) => How::Cascade,
            (Some(_), None, _) => How::Delete,
            (Some(_), Some(_), How::Unlink) => How::Unlink,
            (Some(_), Some(_), _) => How::Update,
        };
        records.push(Record {
            key: (*key).clone(),
            before: was.map(|w| w.0.clone()),
            after: is.map(|i| i.0.clone()),
            counts: (was.map_or(0, |w| w.1), is.map_or(0, |i| i.1)),
            how,
        });
    }
    Ok(records)
}

/// Rows by their keys, and how often each is there.
pub(super) fn by_key(table: &Table, rows: Vec<Image>) -> Result<HashMap<Image, (Image, u64)>, Error> {
    let mut map: HashMap<Image, (Image, u64)> = HashMap::with_capacity(rows.len());
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
    let mut observer = db.observer().await?;
    let mut tally = Tally::default();
    for touched in found.tables.values() {
        let keys: Vec<(&Image, How)> = touched.keys.iter().map(|(k, h)| (k, *h)).collect();
        for chunk in keys.chunks(CHUNK) {
            for record in compare(own, &mut observer, &touched.table, chunk).await? {
                tally.add(&touched.table, &record);
            }
        }
    }
    Ok(tally)
}
