//! Judges SQL by its words, where it cannot be parsed.

use super::{Analysis, Rows, SqlEffect};
use crate::action::Category;
use sqlparser::tokenizer::Token;

/// Candidate tables that are named in the effects of an unparsed text.
const MAX_TABLES: usize = 64;

/// The effects that a text may have, judged by every word in it, those in strings and comments too: it could
/// not be parsed, so nobody knows which are which. At least a write, of unknown size.
pub(super) fn judge(sql: &str, why: &'static str) -> Analysis {
    let mut found: Vec<(&'static str, &'static str, Category)> = Vec::new();
    let mut tables: Vec<String> = Vec::new();
    let mut more_tables = false;
    let mut previous = String::new();
    for (at, word) in words(sql).enumerate() {
        let word = word.to_lowercase();
        if let Some(meaning) = meaning(&word, at == 0)
            && !found.contains(&meaning)
        {
            found.push(meaning);
        }
        if matches!(previous.as_str(), "from" | "into" | "update" | "table" | "join" | "only" | "exists") {
            if tables.len() < MAX_TABLES {
                let path = word.trim_matches('.').to_owned();
                if !path.is_empty() && !is_syntax(&path) && !tables.contains(&path) {
                    tables.push(path);
                }
            } else {
                more_tables = true;
            }
        }
        previous = word;
    }
    if found.is_empty() {
        found.push(("write", "update", Category::Write));
    }
    // A table that a word could not be tied to may be any.
    let mut tables: Vec<Option<String>> = tables.into_iter().map(Some).collect();
    if tables.is_empty() || more_tables {
        tables.push(None);
    }
    let effects = found.iter().flat_map(|(verb, canonical, category)| {
        tables.iter().map(move |table| SqlEffect {
            verb,
            canonical,
            category: *category,
            table: table.clone(),
        })
    });
    Analysis { effects: effects.collect(), rows: Rows::Unbounded, unparsed: Some(why) }
}

/// The gravest thing that the bare words of these tokens could mean; none for a mere look.
pub(super) fn gravest(tokens: &[Token]) -> Option<Category> {
    // A character that no token begins with: the database would refuse the text.
    if tokens.iter().any(|t| matches!(t, Token::Char(_) | Token::Backslash)) {
        return None;
    }
    let mut words = tokens.iter().enumerate().filter_map(|(at, token)| match token {
        Token::Word(word) => meaning(&word.value.to_lowercase(), at == 0),
        _ => None,
    });
    let first = words.next()?;
    Some(words.fold(first.2, |gravest, (_, _, category)| gravest.max(category)))
}

/// Whether any word of the text could act.
pub(super) fn names_an_act(text: &str) -> bool {
    words(text).enumerate().any(|(at, word)| meaning(&word.to_lowercase(), at == 0).is_some())
}

fn words(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '$')))
        .filter(|word| !word.is_empty())
}

fn meaning(word: &str, first: bool) -> Option<(&'static str, &'static str, Category)> {
    Some(match word {
        "delete" => ("delete", "delete", Category::Delete),
        "truncate" => ("truncate", "delete", Category::Delete),
        "drop" => ("drop", "delete", Category::Delete),
        "purge" => ("purge", "delete", Category::Delete),
        "detach" | "remove" if first || word == "detach" => ("remove", "delete", Category::Delete),
        "grant" => ("grant", "grant", Category::Admin),
        "revoke" => ("revoke", "revoke", Category::Admin),
        "alter" => ("alter", "configure", Category::Admin),
        "create" => ("create", "create", Category::Admin),
        "rename" => ("rename", "configure", Category::Admin),
        "vacuum" | "reindex" | "attach" | "pragma" | "flush" | "shutdown" | "kill" => {
            ("maintain", "configure", Category::Admin)
        }
        "set" | "reset" if first => ("set", "configure", Category::Admin),
        "insert" => ("insert", "create", Category::Write),
        "update" => ("update", "update", Category::Write),
        "merge" => ("merge", "update", Category::Write),
        "replace" | "upsert" => ("replace", "update", Category::Write),
        "load" if first => ("load", "create", Category::Write),
        "copy" => ("copy", "execute", Category::Execute),
        "call" | "exec" | "execute" | "outfile" | "dumpfile" | "program" | "xp_cmdshell" | "load_file"
        | "load_extension" | "sp_executesql" | "dblink" | "dblink_exec" => {
            ("execute", "execute", Category::Execute)
        }
        "do" | "declare" | "begin" | "prepare" | "install" | "handler" if first => {
            ("execute", "execute", Category::Execute)
        }
        _ => return None,
    })
}

fn is_syntax(word: &str) -> bool {
    matches!(word, "select" | "if" | "not" | "exists" | "only" | "set" | "table" | "lateral" | "ignore")
        || word.bytes().all(|b| b.is_ascii_digit())
}

/// Whether the first word is one that a statement begins with.
pub(super) fn begins_like_sql(text: &str) -> bool {
    let text = skip_comments(text);
    let first = words(text).next().unwrap_or_default();
    [
        "select",
        "with",
        "insert",
        "update",
        "delete",
        "merge",
        "replace",
        "upsert",
        "truncate",
        "drop",
        "alter",
        "create",
        "grant",
        "revoke",
        "copy",
        "call",
        "exec",
        "execute",
        "do",
        "explain",
        "describe",
        "desc",
        "show",
        "pragma",
        "vacuum",
        "attach",
        "detach",
        "set",
        "reset",
        "begin",
        "start",
        "commit",
        "rollback",
        "load",
        "lock",
        "values",
        "table",
        "analyze",
        "use",
        "prepare",
        "declare",
        "kill",
        "reindex",
        "rename",
        "comment",
        "refresh",
        "optimize",
        "cluster",
        "notify",
        "savepoint",
        "import",
    ]
    .iter()
    .any(|word| first.eq_ignore_ascii_case(word))
}

fn skip_comments(mut text: &str) -> &str {
    loop {
        text = text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '(' | ';' | '\u{feff}'));
        let rest = if let Some(rest) = text.strip_prefix("/*") {
            rest.split_once("*/").map(|(_, tail)| tail)
        } else if text.starts_with("--") || text.starts_with('#') {
            text.split_once(['\n', '\r']).map(|(_, tail)| tail)
        } else {
            return text;
        };
        match rest {
            Some(rest) => text = rest,
            None => return text,
        }
    }
}

/// Whether the first words go together as only SQL has them: `delete from`, `drop table`.
pub(super) fn has_the_form(text: &str) -> bool {
    let text = skip_comments(text);
    let lower: Vec<String> = words(text).take(400).map(str::to_lowercase).collect();
    let first = lower.first().map(String::as_str).unwrap_or_default();
    let second = lower.get(1).map(String::as_str).unwrap_or_default();
    let later = |word: &str| lower.iter().skip(1).any(|w| w == word);
    match first {
        "delete" => {
            second == "from" && (lower.len() <= 3 || later("where") || later("using") || text.contains(';'))
        }
        "insert" | "replace" => later("into") && (later("values") || later("select") || later("value")),
        "update" => later("set") && text.contains('='),
        "merge" => later("using") && later("when"),
        "drop" | "alter" | "create" | "truncate" => matches!(
            second,
            "table"
                | "database"
                | "schema"
                | "view"
                | "index"
                | "user"
                | "role"
                | "function"
                | "trigger"
                | "procedure"
        ),
        "grant" => later("on") && later("to"),
        "revoke" => later("on") && later("from"),
        "with" => later("as") && text.contains('('),
        "copy" => later("from") || later("to"),
        "select" => later("from") && text.contains(['*', ',', '=', '(', ';']),
        "do" => text.contains("$$") || text.contains("begin"),
        _ => false,
    }
}
