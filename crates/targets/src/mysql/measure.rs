//! What InnoDB says of open transactions: the only number that knows cascades and triggers.
//!
//! Of the own transaction its report on itself says it at once. The table of all transactions is asked where
//! that does not help: for it, the server answers from a cache that it renews only when nobody has read it for 0.1 s. The cache also
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

/// How often it is asked before giving up: somebody else may read the table so often that it is never renewed.
const TRIES: u32 = 100;

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

fn nonce() -> Result<u64, Error> {
    let mut nonce = [0_u8; 8];
    getrandom::fill(&mut nonce).map_err(|e| Error::Internal(format!("no random numbers: {e}")))?;
    Ok(u64::from_le_bytes(nonce))
}

fn process(error: mysql_async::Error) -> Error {
    match meaning(error) {
        Error::Forbidden(why) => Error::Forbidden(format!(
            "{why}. What cascades and triggers do can only be measured with PROCESS: GRANT PROCESS ON *.* TO this account"
        )),
        other => other,
    }
}

async fn fresh(session: &mut Session, other: Option<u32>) -> Result<Vec<Transaction>, Error> {
    let own = session.conn.id();
    let ids = other.map_or(own.to_string(), |other| format!("{own}, {other}"));
    for _ in 0..TRIES {
        let nonce = nonce()?;
        let sql = format!(
            "SELECT {nonce}, trx_mysql_thread_id, trx_rows_modified, UNIX_TIMESTAMP(trx_started), trx_query \
             FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id IN ({ids})"
        );
        let rows: Vec<Row> = session.conn.query(&sql).await.map_err(process)?;
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
        tokio::time::sleep(STALE + Duration::from_micros(nonce % 100_000)).await;
    }
    Err(Error::Unmeasurable(
        "others read information_schema.INNODB_TRX so often that the server never renews it. Let what watches the server \
         ask for it less often than ten times a second"
            .to_owned(),
    ))
}

/// How many rows this session's transaction has changed.
pub(super) async fn rows_modified(session: &mut Session) -> Result<u64, Error> {
    if let Some(rows) = by_status(session).await? {
        return Ok(rows);
    }
    let own = session.conn.id();
    let all = transactions(session, None).await?;
    let rows = all.iter().find(|t| t.connection == own).map(|t| t.rows);
    rows.ok_or_else(|| Error::Internal("InnoDB does not know this transaction".to_owned()))
}

/// The same number from InnoDB's report on itself, which is never an old one. Nothing where the report does
/// not have it: it is cut off when there are very many transactions.
async fn by_status(session: &mut Session) -> Result<Option<u64>, Error> {
    let nonce = nonce()?;
    let sql = format!("SHOW ENGINE INNODB STATUS /* {nonce} */");
    let row: Option<Row> = session.conn.query_first(&sql).await.map_err(process)?;
    let report: Option<Vec<u8>> = row.as_ref().map(|row| get(row, 2)).transpose()?;
    Ok(report.and_then(|report| undo_entries(&String::from_utf8_lossy(&report), &sql)))
}

/// The number in the block that ends with `sql`, of which nobody else knows the nonce:
/// ```text
/// ---TRANSACTION 4711, ACTIVE 0 sec
/// 3 lock struct(s), heap size 1128, 2 row lock(s), undo log entries 2
/// MariaDB thread id 5, OS thread handle 140, query id 99 127.0.0.1 root
/// SHOW ENGINE INNODB STATUS /* … */
/// ```
fn undo_entries(report: &str, sql: &str) -> Option<u64> {
    let lines: Vec<&str> = report.lines().collect();
    let end = lines.iter().position(|line| *line == sql)?;
    let mut block = lines.get(..end)?.iter().rev();
    if !block.next()?.contains(" thread id ") {
        return None;
    }
    for line in block.take(4) {
        if line.starts_with("---TRANSACTION ") {
            // None are said where none are.
            return line.contains(", ACTIVE ").then_some(0);
        }
        if let Some((_, number)) = line.rsplit_once("undo log entries ") {
            return number.trim().parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::undo_entries;

    const SQL: &str = "SHOW ENGINE INNODB STATUS /* 42 */";

    fn report(own: &str) -> String {
        format!(
            "LIST OF TRANSACTIONS FOR EACH SESSION:\n---TRANSACTION 5, ACTIVE 9 sec\n1 lock struct(s), undo log entries 77\n\
             MariaDB thread id 4, OS thread handle 1, query id 2 127.0.0.1 root\nUPDATE t SET s = '\n{SQL} x\n'\n\
             ---TRANSACTION 6, ACTIVE 0 sec\n{own}MariaDB thread id 5, OS thread handle 1, query id 3 127.0.0.1 root starting\n\
             {SQL}\n--------\nFILE I/O\n"
        )
    }

    #[test]
    fn reads_its_own_block_only() {
        let locks = "3 lock struct(s), heap size 1128, 2 row lock(s), undo log entries 2\n";
        assert_eq!(undo_entries(&report(locks), SQL), Some(2));
        assert_eq!(undo_entries(&report(&format!("mysql tables in use 1, locked 1\n{locks}")), SQL), Some(2));
        assert_eq!(undo_entries(&report("3 lock struct(s), heap size 1128\n"), SQL), Some(0));
        assert_eq!(undo_entries(&report(""), SQL), Some(0));
        assert_eq!(undo_entries(&report("undo log entries many\n"), SQL), None);
        assert_eq!(undo_entries(&report(locks), "SHOW ENGINE INNODB STATUS /* 43 */"), None);
        let cut = report(locks).replace("MariaDB thread id 5", "…truncated…");
        assert_eq!(undo_entries(&cut, SQL), None);
    }
}
