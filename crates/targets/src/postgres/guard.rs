//! Which statements may run at all: those whose effect on tables the server measures and that can be undone.
//!
//! The text is only looked at far enough to refuse; what a statement does is measured, not read. The list of
//! functions holds what acts outside of the transaction, runs SQL that is put together from texts, or changes
//! what no counter and no lock shows.

use crate::Error;

/// What changes rows, returns rows, or calls a procedure.
const ALLOWED: [&str; 9] =
    ["select", "insert", "update", "delete", "merge", "with", "values", "table", "call"];

const OUTSIDE: &str = "acts outside of the transaction, where it cannot be measured or undone";
const WHOLE: &str = "returns whole tables as one value, which no count of records shows";
const FUNCTIONS: &[(&str, &str)] = &[
    ("dblink", OUTSIDE),
    ("dblink_*", OUTSIDE),
    // Of widespread extensions: they call out at once, even where a statement is only counted.
    ("http_get", OUTSIDE),
    ("http_head", OUTSIDE),
    ("http_post", OUTSIDE),
    ("http_put", OUTSIDE),
    ("http_patch", OUTSIDE),
    ("http_delete", OUTSIDE),
    ("aws_s3", OUTSIDE),
    ("aws_lambda", OUTSIDE),
    ("lo_*", "changes large objects, which are in no table that could be measured"),
    ("loread", "reads large objects"),
    ("lowrite", "changes large objects, which are in no table that could be measured"),
    ("setval", "moves a sequence, which no counter shows"),
    ("set_config", "changes settings of the session"),
    ("pg_notify", "sends a message, which cannot be undone"),
    ("pg_logical_emit_message", OUTSIDE),
    ("pg_terminate_backend", OUTSIDE),
    ("pg_cancel_backend", OUTSIDE),
    ("pg_reload_conf", OUTSIDE),
    ("pg_rotate_logfile*", OUTSIDE),
    ("pg_promote", OUTSIDE),
    ("pg_file_*", OUTSIDE),
    ("pg_read_*", "reads files of the server"),
    ("pg_ls_*", "reads folders of the server"),
    ("pg_stat_reset*", "resets counters"),
    ("pg_stat_force_next_flush", "changes how counters are kept"),
    ("pg_replication_*", OUTSIDE),
    ("pg_create_*", OUTSIDE),
    ("pg_drop_*", OUTSIDE),
    ("pg_copy_*", OUTSIDE),
    ("pg_logical_slot_*", OUTSIDE),
    ("pg_switch_wal", OUTSIDE),
    ("pg_backup_*", OUTSIDE),
    ("pg_wal_replay_*", OUTSIDE),
    ("pg_import_*", OUTSIDE),
    ("pg_surgery*", OUTSIDE),
    ("heap_force_*", OUTSIDE),
    ("brin_*", "changes an index"),
    ("gin_clean_pending_list", "changes an index"),
    ("pg_advisory_*", "takes locks that outlive the transaction"),
    ("pg_try_advisory_*", "takes locks that outlive the transaction"),
    ("query_to_xml*", "runs SQL that is hidden in a text"),
    ("cursor_to_xml*", "runs SQL that is hidden in a text"),
    ("table_to_xml*", WHOLE),
    ("schema_to_xml*", WHOLE),
    ("database_to_xml*", WHOLE),
    ("ts_stat", "runs SQL that is hidden in a text"),
    ("ts_rewrite", "may run SQL that is hidden in a text"),
    ("crosstab*", "runs SQL that is hidden in a text"),
    ("connectby", "runs SQL that is hidden in a text"),
    ("xpath_table", "runs SQL that is hidden in a text"),
    ("session_replication_role", "changes settings of the session"),
];

/// Refuses what cannot be measured, by its words. Everything else is for the server to judge.
pub(super) fn check(sql: &str) -> Result<(), Error> {
    let Some(verb) = verb(sql) else {
        return Err(Error::Invalid("the statement is empty".to_owned()));
    };
    if !ALLOWED.contains(&verb.as_str()) {
        return Err(Error::Unmeasurable(match verb.as_str() {
            "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" | "prepare" => {
                "transactions are Checkrein's to begin and to end: send the statements of one transaction together, without it".to_owned()
            }
            "do" => "what a DO block does cannot be told from outside: send its statements themselves".to_owned(),
            "copy" => "COPY is not run: send INSERT statements, or let a person do it".to_owned(),
            "truncate" => "what TRUNCATE removes cannot be measured or put back: use DELETE, or let a person do it".to_owned(),
            "explain" => "send the statement itself; Checkrein counts what it would do".to_owned(),
            other => format!(
                "what {} does to a database cannot be measured or undone: let a person do it",
                other.to_uppercase()
            ),
        }));
    }
    let lower = sql.to_lowercase();
    if lower.contains("u&\"") {
        return Err(Error::Unmeasurable(
            "names in Unicode escapes (U&\"…\") are not run: write the name itself".to_owned(),
        ));
    }
    if sets(sql) {
        return Err(Error::Unmeasurable(
            "a write to `pg_settings` changes settings of the session: let a person do it".to_owned(),
        ));
    }
    if let Some((word, why)) = forbidden(sql, &[]) {
        return Err(Error::Unmeasurable(format!("`{word}` {why}: let a person do it")));
    }
    Ok(())
}

/// Whether a text may write to the view through which settings are changed.
pub(super) fn sets(sql: &str) -> bool {
    let lower = sql.to_lowercase();
    let mut words = lower.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'));
    let (mut settings, mut writes) = (false, false);
    words.any(|word| {
        settings |= word == "pg_settings";
        writes |= matches!(word, "update" | "merge");
        settings && writes
    })
}

/// The first word of a text, but for those `permitted`, that names what acts where it cannot be measured, and why.
pub(super) fn forbidden(sql: &str, permitted: &[&str]) -> Option<(String, &'static str)> {
    let lower = sql.to_lowercase();
    let mut words = lower.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'));
    words.find_map(|word| if permitted.contains(&word) { None } else { acts(word) })
}

/// The first function that a text as the server writes it calls, if it acts where it cannot be measured, and why. Such
/// a text has no white space between a name and its bracket, and names that are no calls mean nothing in it.
pub(super) fn called(text: &str) -> Option<(String, &'static str)> {
    let lower = text.to_lowercase();
    let mut parts = lower.split('(').peekable();
    std::iter::from_fn(|| parts.next().filter(|_| parts.peek().is_some())).find_map(|before| {
        acts(before.rsplit(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).next()?)
    })
}

fn acts(word: &str) -> Option<(String, &'static str)> {
    let found = FUNCTIONS.iter().find(|(pattern, _)| match pattern.strip_suffix('*') {
        Some(prefix) => word.starts_with(prefix),
        None => word == *pattern,
    });
    found.map(|(_, why)| (word.to_owned(), *why))
}

/// The first word, in lower case, after white space, comments and opening brackets.
pub(super) fn verb(sql: &str) -> Option<String> {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '(' || c == '\u{b}');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once(['\n', '\r']).map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = after_comment(comment);
        } else {
            break;
        }
    }
    let word: String = rest.chars().take_while(|c| c.is_ascii_alphabetic()).collect();
    (!word.is_empty()).then(|| word.to_ascii_lowercase())
}

/// What follows the end of a comment, which may hold others.
fn after_comment(mut rest: &str) -> &str {
    let mut depth = 1_u32;
    while depth > 0 {
        let (open, close) = (rest.find("/*"), rest.find("*/"));
        let at = match (open, close) {
            (Some(open), Some(close)) if open < close => {
                depth += 1;
                open
            }
            (_, Some(close)) => {
                depth -= 1;
                close
            }
            (_, None) => return "",
        };
        rest = rest.get(at + 2..).unwrap_or("");
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_is_found_behind_comments_and_brackets() {
        for sql in ["update t", " \n\t((/* a /* b */ c */UPDATE t", "-- x\nUpdate t", "/**//**/update\n"] {
            assert_eq!(verb(sql).as_deref(), Some("update"), "{sql}");
        }
        for sql in ["", "  ", "/* never closed", "-- only this", ";", "\"update\" t"] {
            assert_eq!(verb(sql), None, "{sql}");
        }
    }

    #[test]
    fn calls_are_told_from_names() {
        for text in ["SELECT set_config('a'::text, 'b'::text, false) AS x", "(1 + lo_get((2)::oid))"] {
            assert!(called(text).is_some(), "{text}");
        }
        for text in
            ["SELECT t.lo_price AS set_config, count(*) FROM (t)", "lo_price IN (1)", "set_config", ""]
        {
            assert_eq!(called(text), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for sql in [
            "truncate t",
            "do $$ begin end $$",
            "copy t from program 'x'",
            "commit",
            "drop table t",
            "set role x",
            "notify x",
            "lock table t",
            "vacuum",
            "prepare transaction 'x'",
            "select dblink_exec('x', 'y')",
            "select \"pg_catalog\".\"pg_notify\"('a', 'b')",
            "select PG_TERMINATE_BACKEND/**/(1)",
            "select setval('s', 1)",
            "select U&\"pg\\005fnotify\"('a', 'b')",
            "select lo_unlink(1)",
            "select table_to_xml('t', true, false, '')",
            "select schema_to_xml_and_xmlschema('public', true, false, '')",
            "select database_to_xml(true, false, '')",
            "update t set a = 1 where b = (select status from http_post('http://x', c, 'text/plain'))",
            "select aws_lambda.invoke('f', '{}')",
            "Update PG_catalog.\"pg_settings\" set setting = 'x' where name = 'y'",
            "",
        ] {
            assert!(check(sql).is_err(), "{sql}");
        }
        for sql in [
            "update t set a = 'it is notified', url = 'http://x', http_status = 1",
            "select 1",
            "select setting from pg_settings",
            "call p()",
            "with x as (select 1) delete from t",
        ] {
            assert_eq!(check(sql), Ok(()), "{sql}");
        }
    }
}
