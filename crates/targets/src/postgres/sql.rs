//! Words of SQL that we write ourselves: names and values always quoted, answers always text.

use crate::Error;
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage, error::SqlState};

/// An answer: rows of texts, `None` for null.
pub(super) type Texts = Vec<Vec<Option<String>>>;

/// A name, quoted.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a literal that means the same whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Numbers as the text of an array: `{1,2}`.
pub(super) fn numbers<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    format!("'{{{}}}'", items.join(","))
}

/// A duration for a setting, in milliseconds; never 0, which would mean no limit.
pub(super) fn millis(limit: Duration) -> u128 {
    limit.as_millis().clamp(1, 2_000_000_000)
}

/// Runs statements of ours in one round trip and returns the rows of all of them. The simple protocol: no
/// prepared statement is left behind, or could have been replaced by somebody.
pub(super) async fn ask(client: &Client, sql: &str) -> Result<Texts, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.try_get(i).ok().flatten().map(str::to_owned)).collect())
        }
        _ => None,
    });
    Ok(rows.collect())
}

/// The first column of the first row.
pub(super) async fn ask_one(client: &Client, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
    Ok(ask(client, sql).await?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
}

/// The first column of every row.
pub(super) async fn ask_list(client: &Client, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    Ok(ask(client, sql).await?.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// What the server says, in its own words.
pub(super) fn words(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else { return error_chain(error) };
    let mut text = db.message().to_owned();
    for (label, more) in [("", db.detail()), ("Hint: ", db.hint())] {
        if let Some(more) = more {
            text.push_str(". ");
            text.push_str(label);
            text.push_str(more.trim_end_matches('.'));
        }
    }
    text
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = inner.source();
    }
    text
}

/// How an error of the server is to be understood while it did `what`, which may take `limit`.
pub(super) fn failed(error: &tokio_postgres::Error, what: &'static str, limit: Duration) -> Error {
    let Some(db) = error.as_db_error() else {
        return Error::Unreachable(format!(
            "the connection to PostgreSQL broke while {what}: {}; nothing was changed",
            words(error)
        ));
    };
    let (code, message) = (db.code().code().to_owned(), words(error));
    match *db.code() {
        // Only the words tell it from a time-out of ours.
        SqlState::QUERY_CANCELED if db.message().contains("user request") => Error::Unreachable(format!(
            "{message}: somebody cancelled it (pg_cancel_backend); nothing was changed; try again once it is known why"
        )),
        SqlState::QUERY_CANCELED => Error::TimedOut { what, limit },
        SqlState::LOCK_NOT_AVAILABLE => Error::Statement {
            code,
            message: format!("{message}: somebody else holds a lock on these records; try again later"),
        },
        SqlState::INSUFFICIENT_PRIVILEGE => {
            Error::Forbidden(format!("{message}; `checkrein target grants` prints what the account needs"))
        }
        _ if code.starts_with("42") || code.starts_with("22") || code == "3F000" => Error::Invalid(message),
        _ if code.starts_with("57P") || code.starts_with("08") => {
            Error::Unreachable(format!("{message}; nothing was changed; try again once the server answers"))
        }
        _ => Error::Statement { code, message },
    }
}
