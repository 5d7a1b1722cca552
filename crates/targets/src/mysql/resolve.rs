//! Whether a transaction was committed, for a server that keeps no record of that.
//!
//! First: is it still open? The token names the connection and when the transaction began. Otherwise the
//! records say it: those that now are what the transaction left, and were something else before, or the other
//! way round. Where both are found, or neither, somebody has worked on them since, and nothing is claimed.

use super::{
    blocks::ChunkReader,
    compare::by_key,
    connect::{Db, Purpose, Session},
    footprint::fetch,
    measure::transactions,
    schema::Schema,
    value::Image,
};
use crate::{Error, Settled, snapshot::Snapshot};
use std::{collections::BTreeSet, fmt};

/// Names a transaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) connection: u32,
    /// The server's clock after it began, in seconds since 1970.
    pub(super) begun: f64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mysql:1:{}:{:.6}", self.connection, self.begun)
    }
}

impl Token {
    pub(super) fn read(text: &str) -> Option<Self> {
        let (connection, begun) = text.strip_prefix("mysql:1:")?.split_once(':')?;
        Some(Self { connection: connection.parse().ok()?, begun: begun.parse().ok()? })
    }
}

/// Records that are looked at before it is decided.
const ENOUGH: usize = 20_000;

/// What became of the transaction that `token` names.
pub(super) async fn resolve(db: &Db, token: &str, snapshot: &Snapshot) -> Result<Settled, Error> {
    let token = Token::read(token).ok_or_else(|| Error::Invalid("not a token of this target".to_owned()))?;
    db.within(Purpose::Snapshot, async {
        let mut session = db.begin(Purpose::Snapshot).await?;
        if is_open(&mut session, token).await? {
            return Ok(Settled::Running);
        }
        // What is committed now, not when this transaction began.
        drop(session);
        let mut session = db.begin(Purpose::Snapshot).await?;
        by_records(db, &mut session, snapshot).await
    })
    .await
}

async fn is_open(session: &mut Session, token: Token) -> Result<bool, Error> {
    if session.conn.id() == token.connection {
        return Ok(false);
    }
    let all = transactions(session, Some(token.connection)).await?;
    // The connection may serve another transaction by now, or belong to a server started since.
    Ok(all.iter().any(|t| t.connection == token.connection && t.started <= token.begun + 1.0))
}

async fn by_records(db: &Db, session: &mut Session, snapshot: &Snapshot) -> Result<Settled, Error> {
    let unknown = |why: &str| Ok(Settled::Unknown(why.to_owned()));
    if !snapshot.is_sealed() {
        return unknown("the snapshot does not say what the transaction left");
    }
    let (mut done, mut undone, mut seen) = (0_u64, 0_u64, 0_usize);
    let mut schema = Schema::default();
    let mut chunks = ChunkReader::new(snapshot)?;
    while let Some(chunk) = chunks.next().await? {
        // Its indexes as they are now, which a snapshot does not know.
        let today = schema.table(db, session, &chunk.table.schema, &chunk.table.name).await?;
        let table = if today.columns == chunk.table.columns { &today } else { &chunk.table };
        let before = by_key(table, chunk.before)?;
        let after = by_key(table, chunk.after.unwrap_or_default())?;
        let keys: Vec<&Image> =
            before.keys().chain(after.keys()).collect::<BTreeSet<_>>().into_iter().collect();
        let now = fetch(session, table, &keys, false).await?;
        for key in &keys {
            let (was, is, now) = (before.get(*key), after.get(*key), now.get(*key));
            match (now == was, now == is) {
                (false, true) => done += 1,
                (true, false) => undone += 1,
                _ => {}
            }
        }
        seen += keys.len();
        if seen > ENOUGH && (done == 0) != (undone == 0) {
            break;
        }
    }
    match (done, undone) {
        (0, 0) => unknown("every record of it has been changed by somebody since; look at the records"),
        (_, 0) => Ok(Settled::Committed),
        (0, _) => Ok(Settled::NotCommitted),
        _ => unknown("some records are as before it and some as after it: somebody has worked on them since"),
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn a_token_reads_back() {
        let token = Token { connection: 7, begun: 1_704_070_923.25 };
        assert_eq!(Token::read(&token.to_string()), Some(token));
        assert_eq!(Token::read("mysql:1:7"), None);
        assert_eq!(Token::read("pg:1:7:1"), None);
    }
}
