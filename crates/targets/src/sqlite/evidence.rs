//! How it is told after a crash whether a transaction took place. SQLite keeps no record of transactions, so
//! the token holds traces of some records: what they were before and after.

use super::{
    connect::Fault,
    execute::look_up,
    schema::{Catalog, Shape},
    value,
};
use crate::{Error, Settled};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

/// Traces in a token.
const MOST: usize = 16;
/// Bytes of all traces; a token may have 4 KiB.
const ROOM: usize = 3_000;

/// Traces of some records.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// Makes each token another.
    nonce: String,
    traces: Vec<Trace>,
    #[serde(skip)]
    bytes: usize,
    /// Every record that changed is here.
    complete: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Trace {
    #[serde(rename = "t")]
    table: String,
    /// The cells of its key, as hexadecimal digits.
    #[serde(rename = "k")]
    key: String,
    #[serde(rename = "b")]
    before: Option<String>,
    #[serde(rename = "a")]
    after: Option<String>,
}

/// Votes of records.
#[derive(Debug, Default)]
pub(super) struct Votes {
    /// Still as they were before.
    pub(super) before: u64,
    /// As the transaction left them.
    pub(super) after: u64,
    /// All that were looked at.
    pub(super) seen: u64,
}

impl Votes {
    /// Counts a record in: what it was, what it would be, what it is.
    pub(super) fn add<T: PartialEq>(&mut self, before: &T, after: &T, now: &T) {
        if before != after {
            self.seen += 1;
            self.before += u64::from(now == before);
            self.after += u64::from(now == after);
        }
    }

    /// What they say together.
    pub(super) fn settle(&self) -> Option<Settled> {
        match (self.before, self.after) {
            (0, 0) => None,
            (0, _) => Some(Settled::Committed),
            (_, 0) => Some(Settled::NotCommitted),
            (before, after) => Some(Settled::Unknown(format!(
                "{after} records are as the action would have left them and {before} as they were before it; somebody has worked on them since"
            ))),
        }
    }
}

impl Default for Evidence {
    fn default() -> Self {
        Self { nonce: String::new(), traces: Vec::new(), complete: true, bytes: 0 }
    }
}

impl Evidence {
    /// Keeps a trace of a record, if there is room.
    pub(super) fn add(
        &mut self,
        shape: &Shape,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<(), Fault> {
        let Some(row) = before.or(after) else { return Ok(()) };
        if self.traces.len() >= MOST {
            self.complete = false;
            return Ok(());
        }
        let key = hex(&value::join(shape.key_of(&value::cells(row)?)?.into_iter()));
        let bytes = shape.name.len() * 2 + key.len() + 80;
        if self.bytes + bytes > ROOM {
            self.complete = false;
            return Ok(());
        }
        self.bytes += bytes;
        let trace = |row: Option<&[u8]>| row.map(trace);
        self.traces.push(Trace {
            table: shape.name.clone(),
            key,
            before: trace(before),
            after: trace(after),
        });
        Ok(())
    }

    /// The token.
    pub(super) fn token(mut self) -> Result<String, Error> {
        let mut nonce = [0_u8; 8];
        getrandom::fill(&mut nonce).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
        self.nonce = hex(&nonce);
        serde_json::to_string(&self).map_err(|e| Error::Internal(e.to_string()))
    }

    /// What the records named in `token` say. Returns whether they are all that changed.
    pub(super) fn look(token: &str, connection: &Connection, votes: &mut Votes) -> Result<bool, Fault> {
        let evidence: Self = serde_json::from_str(token)
            .map_err(|_| Error::Invalid("this is not a token of an SQLite target".to_owned()))?;
        let catalog = Catalog::load(connection)?;
        for record in evidence.traces {
            let Ok(shape) = catalog.shape(connection, &record.table) else { continue };
            let key = unhex(&record.key).ok_or_else(|| Error::Invalid("the token is damaged".to_owned()))?;
            let now = look_up(connection, &shape, &key)?.map(|row| trace(&row));
            votes.add(&record.before, &record.after, &now);
        }
        Ok(evidence.complete)
    }
}

fn trace(row: &[u8]) -> String {
    blake3::hash(row).to_hex().chars().take(24).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|n| char::from_digit(n.into(), 16))
        .collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    digits?.chunks(2).map(|pair| Some(pair.first()? << 4 | pair.get(1)?)).collect()
}
