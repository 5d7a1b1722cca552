//! What the functions that a statement calls may do: what acts outside of the transaction does so at once, even
//! where the statement is only counted, and no rollback takes it back.
//!
//! Functions of the server itself are judged by name ([`super::guard`]). Of the operator's own the source is
//! looked at, and the source of what they call; a word of the statement that is a function's name counts as a
//! call. Triggers, operators and views that call such functions are not looked through (docs/rollback.md says
//! so): what they do within the transaction is measured, what they do outside of it is not seen.

use super::{
    guard,
    sql::{ask, literal},
    values::Trouble,
};
use crate::Error;
use std::collections::HashSet;
use tokio_postgres::Client;

/// Functions that call functions: how deep they are followed.
const DEPTH: usize = 8;
/// Extensions whose functions are known to keep within the transaction.
const KNOWN: [&str; 18] = [
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "ltree",
    "pg_trgm",
    "pgcrypto",
    "plpgsql",
    "postgis",
    "seg",
    "unaccent",
    "uuid-ossp",
    "vector",
];

/// Refuses a statement that calls what cannot be seen through.
pub(super) async fn check(session: &Client, sql: &str) -> Result<(), Trouble> {
    let mut seen = HashSet::new();
    let mut open = words(sql, &mut seen);
    let mut quoted = sql.contains('"').then(|| sql.to_owned());
    for _ in 0..DEPTH {
        if open.is_empty() && quoted.is_none() {
            return Ok(());
        }
        let names: Vec<_> = open.iter().map(|word| literal(word)).collect();
        // A name that is not made of one word can only stand in quotes.
        let odd = quoted.take().map_or_else(String::new, |text| {
            format!(
                "OR p.proname ~ '[^[:alnum:]_$]' AND pg_catalog.strpos({}, pg_catalog.replace(p.proname, '\"', '\"\"')) > 0",
                literal(&text)
            )
        });
        let query = format!(
            "SELECT n.nspname || '.' || p.proname, l.lanname, e.extname, \
             CASE WHEN l.lanname IN ('sql', 'plpgsql') THEN pg_catalog.pg_get_functiondef(p.oid) END \
             FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
             JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
             LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass \
             AND d.objid = p.oid AND d.deptype = 'e' \
             LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid \
             WHERE (p.proname = ANY (ARRAY[{}]::pg_catalog.name[]) {odd}) AND p.prokind IN ('f', 'p') \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
             AND (p.provolatile = 'v' OR l.lanname IN ('sql', 'plpgsql'))",
            names.join(", ")
        );
        open.clear();
        for row in ask(session, &query).await? {
            let mut row = row.into_iter();
            let (name, language) = (row.next().flatten(), row.next().flatten().unwrap_or_default());
            let (extension, source) = (row.next().flatten(), row.next().flatten());
            if extension.is_some_and(|e| KNOWN.contains(&e.as_str())) {
                continue;
            }
            let name = name.unwrap_or_default();
            let Some(source) = source else {
                return Err(refused(
                    &name,
                    &format!("is written in {language}, so what it does cannot be seen"),
                ));
            };
            let found = words(&source, &mut HashSet::new());
            let has = |word: &str| found.iter().any(|w| w == word);
            if language == "plpgsql" && has("execute") {
                return Err(refused(&name, "runs SQL that is put together from texts"));
            }
            if has("notify") || (has("copy") && has("program")) {
                return Err(refused(&name, "acts outside of the transaction"));
            }
            if let Some((word, why)) = guard::forbidden(&source) {
                return Err(refused(&name, &format!("names `{word}`, which {why}")));
            }
            if source.contains('"') {
                quoted.get_or_insert_default().push_str(&source);
            }
            open.extend(found.into_iter().filter(|word| seen.insert(word.clone())));
        }
    }
    Err(refused("a function", "calls others too deeply to be followed"))
}

fn refused(name: &str, why: &str) -> Trouble {
    Error::Unmeasurable(format!(
        "{name} {why}: what it does can be neither measured nor undone, so nothing that names it runs here; let a person do it"
    ))
    .into()
}

/// The words of a text that are new, as they are and in lower case.
fn words(sql: &str, seen: &mut HashSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for word in sql.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')) {
        for word in [word.to_owned(), word.to_lowercase()] {
            // Longer names are cut off by the server: what is meant by them is anybody's guess.
            let name: String = word.chars().take(63).collect();
            if !name.is_empty() && seen.insert(name.clone()) {
                found.push(name);
            }
        }
    }
    found
}
