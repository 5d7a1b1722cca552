//! Spellings that databases know and the parser does not, written as it knows them: it would take them for other
//! names, and miss the table.

use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

/// What MySQL and MariaDB have between `SELECT` and what is selected; to others they are names of columns.
const MODIFIERS: [&str; 8] = [
    "high_priority",
    "straight_join",
    "sql_small_result",
    "sql_big_result",
    "sql_buffer_result",
    "sql_no_cache",
    "sql_calc_found_rows",
    SQL_CACHE,
];
/// The one of these that the parser does not know.
const SQL_CACHE: &str = "sql_cache";

/// What they have between `UPDATE` or `DELETE` and the table; to others they are names of tables.
const OF_CHANGES: [&str; 3] = ["low_priority", "quick", "ignore"];

/// Whether a word stands there that some databases alone take for a modifier.
pub(super) fn is_modified(tokens: &[TokenWithSpan]) -> bool {
    tokens.iter().any(|t| is_any(&t.token, &MODIFIERS) || is_any(&t.token, &OF_CHANGES))
}

/// As MySQL and MariaDB read it: `UPDATE IGNORE users` becomes `UPDATE users`.
pub(super) fn without_modifiers(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|t| is_any(&t.token, &OF_CHANGES)) {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len());
    let mut follows_verb = false;
    for (at, token) in tokens.iter().enumerate() {
        if matches!(token.token, Token::Whitespace(_)) {
            out.push(token.clone());
            continue;
        }
        let mut rest = tokens.iter().skip(at + 1).map(|t| &t.token);
        let next = rest.find(|token| !matches!(token, Token::Whitespace(_)));
        // `ON DUPLICATE KEY UPDATE ignore = 1` sets a column.
        let names = matches!(next, Some(Token::Word(_) | Token::LParen));
        if follows_verb && names && is_any(&token.token, &OF_CHANGES) {
            continue;
        }
        follows_verb = is_any(&token.token, &["update", "delete"]);
        out.push(token.clone());
    }
    out
}

/// `TABLE users` becomes `SELECT * FROM users`, `ONLY users` and `ONLY (users)` become `users`; `SQL_CACHE` goes, and so
/// does the `TOP (10)` of SQL Server in front of a table.
pub(super) fn plain(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|t| is_any(&t.token, &["table", "only", "top", SQL_CACHE])) {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len() + 8);
    let mut left_out: Vec<usize> = Vec::new();
    // Of the statement so far: its first word, and what came last.
    let (mut first, mut last): (Option<Token>, Option<Token>) = (None, None);
    for (at, token) in tokens.iter().enumerate() {
        if matches!(token.token, Token::Whitespace(_)) || left_out.contains(&at) {
            out.extend((!left_out.contains(&at)).then(|| token.clone()));
            continue;
        }
        let rest = tokens.get(at + 1..).unwrap_or_default();
        let mut next = rest.iter().zip(at + 1..).filter(|(t, _)| !matches!(t.token, Token::Whitespace(_)));
        let follows = next.clone().next().map(|(t, _)| &t.token);
        let (named, bracket) =
            (matches!(follows, Some(Token::Word(_))), matches!(follows, Some(Token::LParen)));
        if is_any(&token.token, &["only"])
            && (named || bracket)
            && takes_a_table(first.as_ref(), last.as_ref())
        {
            if bracket {
                left_out.extend(brackets_of_a_name(&mut next));
            }
            continue;
        }
        if is_any(&token.token, &["table"]) && named && begins_a_query(first.as_ref(), last.as_ref()) {
            let from = word("FROM");
            let query = [word("SELECT"), Token::Mul, from.clone()];
            out.extend(query.into_iter().map(|token| TokenWithSpan::new(token, Span::empty())));
            first.get_or_insert_with(|| word("SELECT"));
            last = Some(from);
            continue;
        }
        let changes = last.as_ref().is_some_and(|t| is_any(t, &["update", "delete", "insert", "merge"]));
        if is_any(&token.token, &["top"]) && bracket && changes {
            left_out.extend(limit(&mut next));
            continue;
        }
        let selects = last.as_ref().is_some_and(|t| {
            is_any(t, &["select", "all", "distinct", "distinctrow"]) || is_any(t, &MODIFIERS)
        });
        if is_any(&token.token, &[SQL_CACHE]) && selects && (named || follows == Some(&Token::Mul)) {
            continue;
        }
        if token.token == Token::SemiColon {
            (first, last) = (None, None);
        } else {
            if matches!(token.token, Token::Word(_)) {
                first.get_or_insert_with(|| token.token.clone());
            }
            last = Some(token.token.clone());
        }
        out.push(token.clone());
    }
    out
}

/// Whether what follows is the name of a table. `ONLY` is a name nowhere in PostgreSQL.
fn takes_a_table(first: Option<&Token>, last: Option<&Token>) -> bool {
    // `MERGE INTO ONLY a`; elsewhere a table may be called so.
    let inserts = || first.is_some_and(|first| is_any(first, &["insert", "replace"]));
    last.is_some_and(|last| {
        matches!(last, Token::Comma | Token::LParen)
            || is_any(last, &["from", "join", "using", "update", "truncate"])
            || (is_any(last, &["into"]) && !inserts())
    })
}

/// Whether what follows `last` may be a query.
fn begins_a_query(first: Option<&Token>, last: Option<&Token>) -> bool {
    let Some(last) = last else { return true };
    matches!(last, Token::LParen | Token::RParen)
        || is_any(last, &["union", "except", "intersect", "minus", "all", "distinct", "as"])
        || (first.is_some_and(|first| is_any(first, &["declare"])) && is_any(last, &["for"]))
        // `INSERT INTO a TABLE b`, but neither `INSERT INTO TABLE a` nor `INSERT OVERWRITE TABLE a`.
        || (first.is_some_and(|first| is_any(first, &["insert", "replace", "with"]))
            && matches!(last, Token::Word(_))
            && !is_any(last, &["into", "overwrite"]))
}

/// Where the brackets are in `(users)` or `(public.users)`.
fn brackets_of_a_name<'t>(tokens: &mut impl Iterator<Item = (&'t TokenWithSpan, usize)>) -> Vec<usize> {
    let Some((_, open)) = tokens.next() else { return Vec::new() };
    let after = tokens.find(|(t, _)| !matches!(t.token, Token::Word(_) | Token::Period));
    match after {
        Some((TokenWithSpan { token: Token::RParen, .. }, close)) => vec![open, close],
        _ => Vec::new(),
    }
}

/// What belongs to a `TOP`: `(10)`, `(10) PERCENT`.
fn limit<'t>(tokens: &mut impl Iterator<Item = (&'t TokenWithSpan, usize)>) -> Vec<usize> {
    let (mut depth, mut found) = (0_usize, Vec::new());
    for (token, at) in tokens {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            word if depth == 0 && !is_any(word, &["percent"]) => break,
            _ => {}
        }
        found.push(at);
    }
    found
}

fn is_any(token: &Token, words: &[&str]) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. })
        if words.iter().any(|word| value.eq_ignore_ascii_case(word)))
}

fn word(text: &str) -> Token {
    Token::make_keyword(text)
}
