//! What the functions that a statement calls may do: what acts outside of the transaction does so at once, even
//! where the statement is only counted, and no rollback takes it back.
//!
//! Functions of the server itself are judged by name ([`super::guard`]). Of the operator's own the source is
//! looked at, and the source of what they call. A word of a text that is the name of a function counts as a call
//! of it, and one that is the name of a table or a view counts as a use of it: with the views below it, its
//! policies, and, where something may be written, its triggers, defaults, checks and rules, its partitions, and
//! the tables that a foreign key takes along. One that is the name of a domain counts as a cast to it, which calls
//! its checks. Operators, casts and aggregates are functions too.

use super::{connect::Session, guard, values::Trouble};
use crate::Error;
use sqlparser::{
    dialect::PostgreSqlDialect,
    tokenizer::{Token, Tokenizer},
};
use std::collections::HashSet;
use tokio_postgres::types::Type;

/// Functions that call functions: how deep they are followed.
const DEPTH: usize = 8;
/// Extensions whose functions are known to keep within the transaction.
const KNOWN: [&str; 22] = [
    "autoinc",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "insert_username",
    "intarray",
    "isn",
    "ltree",
    "moddatetime",
    "pg_trgm",
    "pgcrypto",
    "plpgsql",
    "postgis",
    "refint",
    "seg",
    "unaccent",
    "uuid-ossp",
    "vector",
];

/// The functions that are reached from the names `$1`, from the text `$2` in which names may stand in quotes, and
/// from the operators in the text `$3`; `$4`: whether something may be written. Those of the extensions `$5` are
/// left out.
///
/// What a thing needs the server itself keeps a record of, but for the texts of functions.
const REACHED: &str = r#"
WITH RECURSIVE class(proc, rel, operator, type, rule, "trigger", attrdef, "constraint", policy) AS (
    SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, 'pg_catalog.pg_class'::pg_catalog.regclass::oid,
        'pg_catalog.pg_operator'::pg_catalog.regclass::oid, 'pg_catalog.pg_type'::pg_catalog.regclass::oid,
        'pg_catalog.pg_rewrite'::pg_catalog.regclass::oid, 'pg_catalog.pg_trigger'::pg_catalog.regclass::oid,
        'pg_catalog.pg_attrdef'::pg_catalog.regclass::oid, 'pg_catalog.pg_constraint'::pg_catalog.regclass::oid,
        'pg_catalog.pg_policy'::pg_catalog.regclass::oid),
named(class, oid) AS (
    SELECT class.rel, c.oid FROM pg_catalog.pg_class c, class WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND (c.relname = ANY ($1) OR $2 <> '' AND c.relname ~ '[^[:alnum:]_$]'
            AND pg_catalog.strpos($2, pg_catalog.replace(c.relname, '"', '""')) > 0)
    UNION ALL
    SELECT class.proc, p.oid FROM pg_catalog.pg_proc p, class WHERE p.oid >= 16384
        AND (p.proname = ANY ($1) OR $2 <> '' AND p.proname ~ '[^[:alnum:]_$]'
            AND pg_catalog.strpos($2, pg_catalog.replace(p.proname, '"', '""')) > 0)
    UNION ALL
    SELECT class.type, t.oid FROM pg_catalog.pg_type t, class WHERE t.oid >= 16384 AND t.typtype IN ('c', 'd')
        AND (t.typname = ANY ($1) OR $2 <> '' AND t.typname ~ '[^[:alnum:]_$]'
            AND pg_catalog.strpos($2, pg_catalog.replace(t.typname, '"', '""')) > 0)
    UNION ALL
    SELECT class.operator, o.oid FROM pg_catalog.pg_operator o, class
        WHERE o.oid >= 16384 AND pg_catalog.strpos($3, o.oprname) > 0
    UNION ALL
    SELECT class.proc, k.castfunc FROM pg_catalog.pg_cast k, class WHERE k.oid >= 16384 AND k.castfunc >= 16384),
reached(class, oid) AS (
    SELECT class, oid FROM named
    UNION
    SELECT n.class, n.oid FROM reached r, class, LATERAL (
        -- What it needs.
        SELECT d.refclassid AS class, d.refobjid AS oid FROM pg_catalog.pg_depend d
            WHERE d.classid = r.class AND d.objid = r.oid AND d.refobjid >= 16384 AND d.deptype IN ('n', 'a')
            AND (d.refclassid IN (class.proc, class.operator, class.type)
                OR d.refclassid = class.rel AND r.class = class.rule)
        UNION ALL
        -- What belongs to it.
        SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
            WHERE d.refclassid = r.class AND d.refobjid = r.oid AND r.class IN (class.rel, class.type)
            AND (d.deptype IN ('a', 'i') OR d.deptype = 'n' AND d.classid = class.rel AND r.class = class.rel)
            AND (d.classid IN (class.rule, class.policy)
                -- Whatever is cast to a domain is checked, and so is each column of a composite type.
                OR r.class = class.type AND d.deptype IN ('a', 'i') AND d.classid IN (class.rel, class.constraint)
                OR $4 AND d.classid IN (class.rel, class.attrdef, class.constraint)
                OR $4 AND d.classid = class.trigger
                    AND EXISTS (SELECT 1 FROM pg_catalog.pg_trigger g WHERE g.oid = d.objid AND g.tgenabled <> 'D'))
        UNION ALL
        SELECT class.rel, f.conrelid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_constraint f ON f.oid = d.objid
            WHERE $4 AND r.class = class.rel AND d.refclassid = class.rel AND d.refobjid = r.oid
            AND d.classid = class.constraint AND f.confrelid = r.oid AND f.contype = 'f'
            AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd'))
    ) n)
SELECT n.nspname || '.' || p.proname, l.lanname::text,
    CASE WHEN l.lanname IN ('sql', 'plpgsql') AND p.prokind IN ('f', 'p') THEN pg_catalog.pg_get_functiondef(p.oid) END
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE p.oid = ANY (ARRAY(SELECT r.oid FROM reached r, class WHERE r.class = class.proc AND r.oid >= 16384))
    AND p.prokind IN ('f', 'p')
    AND (p.provolatile = 'v' OR l.lanname IN ('sql', 'plpgsql'))
    AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
        AND e.extname = ANY ($5))
UNION ALL
-- That something calls functions of the server itself is kept nowhere but in its text.
SELECT t.name, NULL, t.source FROM reached r, class, LATERAL (
    SELECT 'a view or rule on ' || w.ev_class::pg_catalog.regclass, pg_catalog.pg_get_ruledef(w.oid)
        FROM pg_catalog.pg_rewrite w WHERE r.class = class.rule AND w.oid = r.oid
    UNION ALL
    SELECT 'a default of ' || a.adrelid::pg_catalog.regclass, pg_catalog.pg_get_expr(a.adbin, a.adrelid)
        FROM pg_catalog.pg_attrdef a WHERE r.class = class.attrdef AND a.oid = r.oid
    UNION ALL
    SELECT 'the constraint ' || k.conname, pg_catalog.pg_get_constraintdef(k.oid)
        FROM pg_catalog.pg_constraint k WHERE r.class = class."constraint" AND k.oid = r.oid AND k.contype = 'c'
    UNION ALL
    SELECT 'the policy ' || y.polname, pg_catalog.concat_ws(' ', pg_catalog.pg_get_expr(y.polqual, y.polrelid),
        pg_catalog.pg_get_expr(y.polwithcheck, y.polrelid))
        FROM pg_catalog.pg_policy y WHERE r.class = class.policy AND y.oid = r.oid
    UNION ALL
    SELECT 'the trigger ' || g.tgname, pg_catalog.pg_get_triggerdef(g.oid)
        FROM pg_catalog.pg_trigger g WHERE r.class = class."trigger" AND g.oid = r.oid AND g.tgqual IS NOT NULL
) t(name, source)"#;

/// Refuses a statement that calls what cannot be seen through. One that only reads (`writes` is false: in a
/// transaction in which nothing else is allowed) sets off no trigger.
pub(super) async fn check(session: &Session, sql: &str, writes: bool) -> Result<(), Trouble> {
    let mut seen = HashSet::new();
    let mut open = words(sql, &mut seen);
    let mut text = sql.to_owned();
    let mut looked = HashSet::new();
    for _ in 0..DEPTH {
        if open.is_empty() && text.is_empty() {
            return Ok(());
        }
        let quoted = if text.contains('"') { text.as_str() } else { "" };
        let rows = session
            .look_up(
                REACHED,
                &[
                    (&open, Type::NAME_ARRAY),
                    (&quoted, Type::TEXT),
                    (&text, Type::TEXT),
                    (&writes, Type::BOOL),
                    (&&KNOWN[..], Type::NAME_ARRAY),
                ],
            )
            .await?;
        open.clear();
        text.clear();
        for row in rows {
            let (name, language): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
            let source: Option<String> = row.try_get(2)?;
            let Some(language) = language else {
                // As the server itself writes it. What of the operator's own it calls is a row of its own.
                if let Some((word, why)) = guard::called(source.as_deref().unwrap_or_default()) {
                    return Err(refused(&name, &format!("calls `{word}`, which {why}")));
                }
                continue;
            };
            if !looked.insert(name.clone() + source.as_deref().unwrap_or_default()) {
                continue;
            }
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
            // A notification leaves with the commit, and never without it: where the operator's own functions send one
            // with a change, as triggers do, the change is judged before. A read is judged by nobody.
            let sends: &[&str] = if writes { &["pg_notify"] } else { &[] };
            if (has("notify") && !writes) || (has("copy") && copies(&source, DEPTH)) {
                return Err(refused(&name, "acts outside of the transaction"));
            }
            if ["prepare", "deallocate", "discard"].into_iter().any(has) {
                return Err(refused(&name, "changes what the session has prepared"));
            }
            if guard::sets(&source) {
                return Err(refused(&name, "writes to `pg_settings`, which changes settings of the session"));
            }
            if let Some((word, why)) = guard::forbidden(&source, sends) {
                return Err(refused(&name, &format!("names `{word}`, which {why}")));
            }
            text.push_str(&source);
            open.extend(found.into_iter().filter(|word| seen.insert(word.clone())));
        }
    }
    Err(refused("a function", "calls others too deeply to be followed"))
}

fn refused(name: &str, why: &str) -> Trouble {
    Error::Unmeasurable(format!(
        "{name} {why}: what it does can be neither measured nor undone, so nothing runs here that reaches it, by its name or through a trigger, a view or an operator; let a person do it"
    ))
    .into()
}

/// The words of a text that are new, as they are and as the server may fold them.
fn words(sql: &str, seen: &mut HashSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for word in sql.split(|c: char| !(c.is_ascii_alphanumeric() || !c.is_ascii() || c == '_' || c == '$')) {
        for word in [word.to_owned(), word.to_lowercase(), word.to_ascii_lowercase()] {
            let name = cut(&word).to_owned();
            if !name.is_empty() && seen.insert(name.clone()) {
                found.push(name);
            }
        }
    }
    found
}

/// A name as the server cuts it: to the whole characters within 63 bytes (`pg_mbcliplen` to `NAMEDATALEN - 1`).
fn cut(word: &str) -> &str {
    let end = (0..=word.len().min(63)).rev().find(|end| word.is_char_boundary(*end)).unwrap_or(0);
    word.get(..end).unwrap_or_default()
}

/// Whether a function's text holds the word COPY other than in a comment, which speaks of much that it does not do. In
/// `depth` texts within texts at most.
fn copies(source: &str, depth: usize) -> bool {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, source).tokenize();
    let (Ok(tokens), true) = (tokens, depth > 0) else { return true };
    tokens.iter().any(|token| match token {
        Token::Whitespace(_) => false,
        Token::DollarQuotedString(text) => copies(&text.value, depth - 1),
        token => words(&token.to_string(), &mut HashSet::new()).iter().any(|word| word == "copy"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_as_the_server_cuts_them() {
        for (word, name) in [
            ("users".to_owned(), "users".to_owned()),
            ("a".repeat(64), "a".repeat(63)),
            ("\u{3053}".repeat(22), "\u{3053}".repeat(21)),
            (format!("a{}", "\u{3053}".repeat(21)), format!("a{}", "\u{3053}".repeat(20))),
            ("\u{1f600}".repeat(99), "\u{1f600}".repeat(15)),
        ] {
            assert_eq!(cut(&word), name);
        }
        assert_eq!(words("\u{c9}A-b", &mut HashSet::new()), ["\u{c9}A", "\u{e9}a", "\u{c9}a", "b"]);
    }

    #[test]
    fn comments_are_left_out_and_texts_are_not() {
        for (body, does) in [
            ("begin -- copy it\n x := '-- no'; /* copy /* it */ copy */ end", false),
            ("begin x := '-- no'; copy t to '/f'; end", true),
            ("begin x := e'it\\'s -- '; copy t to '/f'; end", true),
            ("begin x := $q$it's$q$; y := ' -- '; copy t to '/f'; end", true),
            ("begin select \"--\" from t; copy t to '/f'; end", true),
            ("begin x := 'copy'; end", true),
            ("begin x := $q$ copy $q$; end", true),
            ("begin x := 'open; copy", true),
        ] {
            let source =
                format!("CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $function$ {body} $function$");
            assert_eq!(copies(&source, DEPTH), does, "{body}");
        }
    }

    /// Whatever is not ASCII is part of a name, to the server.
    #[test]
    fn names_are_of_any_characters() {
        let found = words("select f\u{1f600}x(1), a\u{b7}b, c\u{3000}d-e", &mut HashSet::new());
        for name in ["f\u{1f600}x", "a\u{b7}b", "c\u{3000}d", "e"] {
            assert!(found.iter().any(|word| word == name), "{found:?}");
        }
    }
}
