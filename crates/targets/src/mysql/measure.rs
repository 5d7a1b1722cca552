//! What InnoDB says of open transactions: the only number that knows cascades and triggers.
//!
//! The server answers from a cache that it renews only when nobody has read it for 0.1 s. The cache also
//! holds what each transaction is running, so an answer that shows this very question is a fresh one.

use super::{
    connect::{Session, meaning},
    schema::get,
};
use crate::Error;
use mysql_async::{Row, prelude::Queryable as _};
use std::time::Duration;

/// How long nobody may ask until the answer is a new one.
const STALE: Duration = Duration::from_millis(102);

/// An open transaction.
pub(super) struct Transaction {
    pub(super) connection: u32,
    /// Rows that it has changed, cascades and triggers included.
    pub(super) rows: u64,
    /// When it began, by the server's clock, in whole seconds since 1970.
    pub(super) started: f64,
}

/// The open transactions of this session and of the connection `other`, as they are now.
pub(super) async fn transactions(
    session: &mut Session,
    other: Option<u32>,
) -> Result<Vec<Transaction>, Error> {
    // One at a time on the whole server: those who ask too often would keep each other from ever hearing
    // anything new. If the turn does not come, asking still does no harm.
    let _turn: Option<Option<u8>> =
        session.conn.query_first("SELECT GET_LOCK('checkrein.measure', 20)").await.map_err(meaning)?;
    let found = fresh(session, other).await;
    session.run("DO RELEASE_LOCK('checkrein.measure')").await?;
    found
}

async fn fresh(session: &mut Session, other: Option<u32>) -> Result<Vec<Transaction>, Error> {
    let own = session.conn.id();
    let ids = other.map_or(own.to_string(), |other| format!("{own}, {other}"));
    loop {
        let mut nonce = [0_u8; 8];
        getrandom::fill(&mut nonce).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
        let [jitter, ..] = nonce;
        let nonce = u64::from_le_bytes(nonce);
        let sql = format!(
            "SELECT {nonce}, trx_mysql_thread_id, trx_rows_modified, UNIX_TIMESTAMP(trx_started), trx_query \
             FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id IN ({ids})"
        );
        let rows: Vec<Row> = session.conn.query(&sql).await.map_err(|e| match meaning(e) {
            Error::Forbidden(why) => Error::Forbidden(format!(
                "{why}. What cascades and triggers do can only be measured with PROCESS: GRANT PROCESS ON *.* TO this account"
            )),
            other => other,
        })?;
        let (mut list, mut is_fresh) = (Vec::with_capacity(rows.len()), false);
        for row in &rows {
            let connection = get(row, 1)?;
            let query: Option<Vec<u8>> = get(row, 4)?;
            is_fresh |= connection == own
                && query.is_some_and(|q| String::from_utf8_lossy(&q).contains(&nonce.to_string()));
            let started: String = get(row, 3)?;
            let started = started.parse().unwrap_or(0.0);
            list.push(Transaction { connection, rows: get(row, 2)?, started });
        }
        if is_fresh {
            return Ok(list);
        }
        // Somebody else may ask in a rhythm of its own.
        tokio::time::sleep(STALE + Duration::from_micros(u64::from(jitter) * 40)).await;
    }
}

/// How many rows this session's transaction has changed.
pub(super) async fn rows_modified(session: &mut Session) -> Result<u64, Error> {
    let own = session.conn.id();
    let all = transactions(session, None).await?;
    let rows = all.iter().find(|t| t.connection == own).map(|t| t.rows);
    rows.ok_or_else(|| Error::Internal("InnoDB does not know this transaction".to_owned()))
}
