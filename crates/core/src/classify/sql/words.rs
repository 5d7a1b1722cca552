//! Judges SQL by its words, where it cannot be parsed.

use super::{Analysis, Rows, SqlEffect};
use crate::action::Category;
use sqlparser::tokenizer::{Token, Word};

/// Candidate tables that are named in the effects of an unparsed text.
const MAX_TABLES: usize = 64;
/// Longer words name no table.
const MAX_TABLE_BYTES: usize = 128;

/// The effects that a text may have, judged by every word in it, those in strings and comments too: it could
/// not be parsed, so nobody knows which are which. At least a write, of unknown size.
pub(super) fn judge(sql: &str, why: &'static str) -> Analysis {
    let mut found: Vec<(&'static str, &'static str, Category)> = Vec::new();
    let mut tables: Vec<String> = Vec::new();
    for (at, word) in words(sql).enumerate() {
        let word = word.to_lowercase();
        if let Some(meaning) = meaning(&word, at == 0)
            && !found.contains(&meaning)
        {
            found.push(meaning);
        }
        // Any word may be a table: a policy on one of them must see it.
        let path = word.trim_matches('.');
        if !path.is_empty() && path.len() <= MAX_TABLE_BYTES && !is_syntax(path) && tables.len() < MAX_TABLES
        {
            let path = path.to_owned();
            if !tables.contains(&path) {
                tables.push(path);
            }
        }
    }
    if found.is_empty() {
        found.push(("write", "update", Category::Write));
    }
    // Also where it may look at them only: policies on reading a table see it too.
    found.push(("select", "read", Category::Read));
    // And what it is done to may stand in none of them.
    let tables: Vec<Option<String>> = tables.into_iter().map(Some).chain([None]).collect();
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
pub(super) fn gravest(tokens: &[Token]) -> Option<SqlEffect> {
    // A character that no token begins with: the database would refuse the text.
    if tokens.iter().any(|t| matches!(t, Token::Char(_) | Token::Backslash)) {
        return None;
    }
    let words = tokens.iter().enumerate().filter_map(|(at, token)| match token {
        Token::Word(word) => meaning(&word.value.to_lowercase(), at == 0),
        _ => None,
    });
    let (verb, canonical, category) = words.max_by_key(|(_, _, category)| *category)?;
    Some(SqlEffect { verb, canonical, category, table: None })
}

/// The gravest thing that is named in a text which the SQL hands on, if it is graver than to execute one.
pub(super) fn hidden<'t>(tokens: impl Iterator<Item = &'t Token>) -> Option<SqlEffect> {
    let texts = tokens.filter_map(|token| match token {
        Token::SingleQuotedString(text)
        | Token::DoubleQuotedString(text)
        | Token::TripleSingleQuotedString(text)
        | Token::TripleDoubleQuotedString(text)
        | Token::EscapedStringLiteral(text)
        | Token::UnicodeStringLiteral(text)
        | Token::NationalStringLiteral(text) => Some(text.as_str()),
        Token::DollarQuotedString(text) => Some(text.value.as_str()),
        Token::Word(Word { value, quote_style: Some('"'), .. }) => Some(value.as_str()),
        _ => None,
    });
    let acts = texts.flat_map(|text| {
        words(text).enumerate().filter_map(|(at, word)| meaning(&word.to_lowercase(), at == 0))
    });
    let (verb, canonical, category) = acts.max_by_key(|(_, _, category)| *category)?;
    (category > Category::Execute).then_some(SqlEffect { verb, canonical, category, table: None })
}

/// Whether `DELETE FROM` stands behind a query, where most take `delete` for a name: `SELECT 1 DELETE FROM users`
/// is two statements to SQL Server, which wants no semicolon between them.
pub(super) fn deletes_behind<'t>(tokens: impl Iterator<Item = &'t Token> + Clone) -> bool {
    let mut tokens = tokens.filter(|t| !matches!(t, Token::Whitespace(_)));
    let (mut last, mut depth, mut selects) = (None::<&Token>, 0_usize, false);
    while let Some(token) = tokens.next() {
        match token {
            Token::SemiColon => (depth, selects) = (0, false),
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ if depth == 0 && is(token, "select") => selects = true,
            _ if selects
                && is(token, "delete")
                && last.is_some_and(ends_a_value)
                && tokens.clone().next().is_some_and(|next| is(next, "from")) =>
            {
                return true;
            }
            _ => {}
        }
        last = Some(token);
    }
    false
}

fn is(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
}

/// Whether a value can end with this, so that what follows it is its name or something new.
fn ends_a_value(token: &Token) -> bool {
    const BEFORE: &[&str] = &[
        "select", "distinct", "all", "as", "and", "or", "not", "when", "then", "else", "case", "in", "is",
        "like", "between", "by", "top", "where", "on", "having",
    ];
    match token {
        Token::Word(Word { quote_style: None, .. }) => !BEFORE.iter().any(|word| is(token, word)),
        Token::Word(_)
        | Token::Number(..)
        | Token::RParen
        | Token::RBracket
        | Token::Mul
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::NationalStringLiteral(_) => true,
        _ => false,
    }
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
        "vacuum" | "reindex" | "attach" | "pragma" | "flush" | "shutdown" | "kill" | "notify" | "lock"
        | "optimize" | "refresh" | "cluster" | "comment" => ("maintain", "configure", Category::Admin),
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
    matches!(
        word,
        "select"
            | "insert"
            | "update"
            | "delete"
            | "truncate"
            | "drop"
            | "create"
            | "alter"
            | "merge"
            | "replace"
            | "from"
            | "into"
            | "where"
            | "set"
            | "values"
            | "value"
            | "table"
            | "using"
            | "join"
            | "inner"
            | "left"
            | "right"
            | "full"
            | "outer"
            | "cross"
            | "natural"
            | "on"
            | "as"
            | "and"
            | "or"
            | "not"
            | "null"
            | "is"
            | "in"
            | "like"
            | "between"
            | "order"
            | "by"
            | "group"
            | "having"
            | "limit"
            | "offset"
            | "union"
            | "all"
            | "distinct"
            | "case"
            | "when"
            | "then"
            | "else"
            | "end"
            | "begin"
            | "commit"
            | "declare"
            | "do"
            | "execute"
            | "exec"
            | "call"
            | "copy"
            | "grant"
            | "revoke"
            | "to"
            | "with"
            | "exists"
            | "if"
            | "only"
            | "returning"
            | "ignore"
            | "lateral"
            | "true"
            | "false"
            | "pragma"
            | "explain"
            | "analyze"
    ) || word.bytes().all(|b| b.is_ascii_digit() || b == b'$' || b == b'.')
}

/// Pragmas of SQLite that only tell something, also with an argument.
pub(super) fn pragma_looks(name: &str) -> bool {
    matches!(
        name,
        "table_info"
            | "table_xinfo"
            | "table_list"
            | "index_list"
            | "index_info"
            | "index_xinfo"
            | "foreign_key_list"
            | "foreign_key_check"
            | "integrity_check"
            | "quick_check"
            | "database_list"
            | "collation_list"
            | "function_list"
            | "module_list"
            | "pragma_list"
            | "compile_options"
    )
}

/// `PRAGMA table_info(users)` and its like, whose bare argument sqlparser does not know.
pub(super) fn is_looking_pragma(sql: &str) -> bool {
    let sql = sql.trim().trim_end_matches(';').trim_end();
    let Some((head, tail)) = sql.split_once('(') else { return false };
    let mut head = head.split_whitespace();
    let pragma = head.next().is_some_and(|word| word.eq_ignore_ascii_case("pragma"));
    let name = head.next().unwrap_or_default().to_ascii_lowercase();
    let argument = tail.strip_suffix(')').map(|a| a.trim().trim_matches(['"', '\'', '`', '[', ']']));
    pragma
        && head.next().is_none()
        && pragma_looks(name.rsplit('.').next().unwrap_or_default())
        && argument.is_some_and(|a| a.chars().all(|c| c.is_alphanumeric() || c == '_'))
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
        "go",
        "delimiter",
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

/// Whether the first word is one that only looks.
pub(super) fn begins_like_a_query(text: &str) -> bool {
    let first = words(skip_comments(text)).next().unwrap_or_default();
    ["select", "with", "values", "explain"].iter().any(|word| first.eq_ignore_ascii_case(word))
}

/// Whether the first word is `SELECT`.
pub(super) fn begins_with_select(text: &str) -> bool {
    words(skip_comments(text)).next().is_some_and(|word| word.eq_ignore_ascii_case("select"))
}

/// Statements of one text that are looked at one by one.
const MAX_STATEMENTS: usize = 1_000;

/// Whether the first words of the text, or of what follows a semicolon in it, go together as only SQL has them:
/// `delete from`, `drop table`. A comment that some databases run is no other language's either.
pub(super) fn has_the_form(text: &str) -> bool {
    let is_sql = |text: &str| begins_like_sql(text) && form(text);
    is_sql(text)
        || text.contains("/*!")
        || text.contains("/*M!")
        || (text.contains(';') && text.split(';').take(MAX_STATEMENTS).any(is_sql))
}

/// Whether some two words in the text stand together as they do in SQL that acts, whether or not it can be parsed.
pub(super) fn goes_on_as_sql(text: &str) -> bool {
    const PAIRS: &[(&str, &str)] = &[
        ("delete", "from"),
        ("insert", "into"),
        ("into", "outfile"),
        ("into", "dumpfile"),
        ("load", "data"),
        ("drop", "table"),
        ("truncate", "table"),
        ("alter", "table"),
        ("detach", "table"),
        ("optimize", "table"),
        ("create", "or"),
        ("create", "rule"),
        ("create", "policy"),
        ("create", "extension"),
    ];
    let mut last = "";
    words(text).any(|word| {
        let before = std::mem::replace(&mut last, word);
        PAIRS.iter().any(|(a, b)| word.eq_ignore_ascii_case(b) && before.eq_ignore_ascii_case(a))
    })
}

fn form(text: &str) -> bool {
    let text = skip_comments(text);
    let lower: Vec<String> = words(text).take(400).map(str::to_lowercase).collect();
    let first = lower.first().map(String::as_str).unwrap_or_default();
    let second = lower.get(1).map(String::as_str).unwrap_or_default();
    let later = |word: &str| lower.iter().skip(1).any(|w| w == word);
    match first {
        "delete" => {
            let whole = second == "from" && (lower.len() <= 3 || later("using") || text.contains(';'));
            whole || later("where") || (later("from") && later("join"))
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
