//! What a text of SQL does: every effect on every table, or the admission that it cannot be told.
//!
//! Which database will run the text is not known here, and databases read one text differently: whether a
//! backslash escapes, whether comments nest, what `#`, `"`, `` ` `` and `$$` begin. So the text is cut into
//! tokens as each family of databases would, every distinct reading is analysed, and the effects of all of
//! them count. What no reading can parse is judged by its words, and is never a read.

mod conditions;
mod effects;
mod plain;
mod settings;
mod words;

use crate::{action::Category, check::limits::STATEMENT_BYTES};
use sqlparser::{
    dialect::{Dialect, GenericDialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect},
    parser::Parser,
    tokenizer::{Token, TokenWithSpan, Tokenizer},
};

/// One thing that SQL does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SqlEffect {
    /// The statement's verb, e.g. `truncate`.
    pub(super) verb: &'static str,
    /// What it comes down to, e.g. `delete`.
    pub(super) canonical: &'static str,
    pub(super) category: Category,
    /// The table's path in lower case without quotes; none where the statement names none.
    pub(super) table: Option<String>,
}

/// How many records a text of SQL changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// This many at most, as the text itself says.
    Known(u64),
    /// As many as its conditions select: what the caller declares is the best guess.
    Selected,
    /// All of a table, or nobody can tell. No declaration makes this smaller.
    Unbounded,
}

impl Rows {
    pub(super) fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unbounded, _) | (_, Self::Unbounded) => Self::Unbounded,
            (Self::Selected, _) | (_, Self::Selected) => Self::Selected,
            (Self::Known(a), Self::Known(b)) => Self::Known(a.saturating_add(b)),
        }
    }

    fn max(self, other: Self) -> Self {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => Self::Known(a.max(b)),
            (a, b) => a.plus(b),
        }
    }
}

/// What a text of SQL does.
#[derive(Clone, Debug)]
pub(super) struct Analysis {
    /// At least one.
    pub(super) effects: Vec<SqlEffect>,
    pub(super) rows: Rows,
    /// Why it could not be parsed, where it could not.
    pub(super) unparsed: Option<&'static str>,
}

/// How deep an expression may nest, as [`depth`] estimates it. Dropping a syntax tree takes stack for every
/// level; sqlparser protects its parser, not the drop.
const MAX_DEPTH: usize = 1_000;
/// How deep brackets may nest.
const MAX_BRACKETS: usize = 32;

/// Analyses a text that is meant to be SQL.
pub(super) fn analyse(sql: &str) -> Analysis {
    if sql.len() > STATEMENT_BYTES {
        return words::judge(sql, "it is longer than what is parsed");
    }
    // MySQL and MariaDB run what stands in these; everybody else takes them for comments.
    if sql.contains("/*!") || sql.contains("/*M!") {
        return words::judge(sql, "it holds an executable comment");
    }
    let generic = GenericDialect {};
    let Some(tokens) = tokenize(&generic, sql) else {
        return others(sql, Vec::new());
    };
    match read(&generic, &tokens) {
        Ok(analysis) if !ambiguous(sql) && !plain::is_modified(&tokens) => analysis,
        Ok(analysis) => others(sql, vec![(shape(&tokens), Some(analysis))]),
        Err(Broken::Deep) => words::judge(sql, "it nests too deeply"),
        Err(Broken::Syntax) => others(sql, vec![(shape(&tokens), None)]),
    }
}

/// Whether the text holds anything that databases read differently.
fn ambiguous(sql: &str) -> bool {
    let risky = |b: u8| matches!(b, b'\\' | b'"' | b'`' | b'#' | b'$' | b'[' | b'{' | b'\r') || b >= 0x80;
    sql.bytes().any(risky) || sql.contains("--") || sql.contains("/*") || sql.contains("//")
}

/// A reading of the text: its tokens without white space and comments, and what became of it.
type Reading = (Vec<Token>, Option<Analysis>);

/// Reads the text as each family of databases does and puts all readings together.
fn others(sql: &str, mut readings: Vec<Reading>) -> Analysis {
    let dialects: [&dyn Dialect; 3] = [&PostgreSqlDialect {}, &MySqlDialect {}, &SQLiteDialect {}];
    for dialect in dialects {
        // What the database itself could not cut into tokens, it would not run.
        let Some(tokens) = tokenize(dialect, sql) else { continue };
        let own = shape(&tokens);
        let known = readings.iter().position(|(other, _)| *other == own);
        if known.and_then(|at| readings.get(at)).is_some_and(|(_, analysis)| analysis.is_some()) {
            continue;
        }
        let analysis = match read(dialect, &tokens) {
            Ok(analysis) => Some(analysis),
            Err(Broken::Deep) => return words::judge(sql, "it nests too deeply"),
            Err(Broken::Syntax) => None,
        };
        match known.and_then(|at| readings.get_mut(at)) {
            Some(reading) => reading.1 = analysis,
            None => readings.push((own, analysis)),
        }
    }
    let (parsed, unparsed): (Vec<_>, Vec<_>) = readings.into_iter().partition(|(_, a)| a.is_some());
    let mut all = parsed.into_iter().filter_map(|(_, analysis)| analysis);
    let Some(mut result) = all.next() else {
        if words::is_looking_pragma(sql) {
            return Analysis {
                effects: vec![SqlEffect {
                    verb: "pragma",
                    canonical: "read",
                    category: Category::Read,
                    table: None,
                }],
                rows: Rows::Known(0),
                unparsed: None,
            };
        }
        return words::judge(sql, "it is not SQL that can be parsed");
    };
    for analysis in all {
        result.rows = result.rows.max(analysis.rows);
        result.effects.extend(analysis.effects);
    }
    // A reading that nobody could parse may still be one that its database can: its words decide whether it
    // could be graver than what was understood.
    let understood = result.effects.iter().map(|e| e.category).max().unwrap_or(Category::Read);
    let suspicions = unparsed.iter().filter_map(|(tokens, _)| words::gravest(tokens));
    if let Some(gravest) = suspicions.filter(|effect| effect.category > understood).max_by_key(|e| e.category)
    {
        let mut judged = words::judge(sql, "databases read it differently and one reading cannot be parsed");
        judged.effects.extend(result.effects);
        judged.effects.push(gravest);
        result = judged;
    }
    result.dedup();
    result
}

impl Analysis {
    fn dedup(&mut self) {
        let mut seen = std::collections::HashSet::new();
        self.effects.retain(|effect| seen.insert(effect.clone()));
    }
}

enum Broken {
    Syntax,
    Deep,
}

fn tokenize(dialect: &dyn Dialect, sql: &str) -> Option<Vec<TokenWithSpan>> {
    let tokens = plain::plain(Tokenizer::new(dialect, sql).tokenize_with_location().ok()?);
    Some(if dialect.is::<MySqlDialect>() { plain::without_modifiers(tokens) } else { tokens })
}

/// The tokens that carry meaning. What stands in quotes is not compared by its kind: dialects only name it
/// differently.
fn shape(tokens: &[TokenWithSpan]) -> Vec<Token> {
    let quoted = |text: &str| Token::SingleQuotedString(text.to_owned());
    let tokens = tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_)));
    tokens
        .map(|t| match &t.token {
            Token::Word(word) if word.quote_style.is_some() => quoted(&word.value),
            Token::DoubleQuotedString(text) => quoted(text),
            other => other.clone(),
        })
        .collect()
}

fn read(dialect: &dyn Dialect, tokens: &[TokenWithSpan]) -> Result<Analysis, Broken> {
    if depth(tokens.iter().map(|t| &t.token)).is_none() {
        return Err(Broken::Deep);
    }
    let mut parser = Parser::new(dialect).with_tokens_with_locations(tokens.to_vec());
    let statements = parser.parse_statements().map_err(|_| Broken::Syntax)?;
    // The parser stops at a stray END without a word about the rest.
    if parser.peek_token().token != Token::EOF {
        return Err(Broken::Syntax);
    }
    // The parser takes what follows `COPY … FROM STDIN;` for data; a server may take it for a statement.
    let mut rest =
        tokens.iter().map(|t| &t.token).filter(|t| !matches!(t, Token::Whitespace(_) | Token::EOF));
    let more = rest.any(|t| *t == Token::SemiColon) && rest.next().is_some();
    if more && statements.iter().any(effects::copies_in) {
        return Err(Broken::Syntax);
    }
    // Another spelling that is not known here: `SELECT MODIFIER * FROM users` is taken for a product.
    if effects::mistakes_a_keyword(&statements) || words::deletes_behind(tokens.iter().map(|t| &t.token)) {
        return Err(Broken::Syntax);
    }
    let mut analysis = effects::of(&statements);
    if analysis.effects.iter().any(|effect| effect.category == Category::Execute) {
        // What is executed may stand in a text: `EXEC ('DELETE …')`.
        analysis.effects.extend(words::hidden(tokens.iter().map(|t| &t.token)));
        analysis.dedup();
    }
    Ok(analysis)
}

/// An upper bound of how deep the syntax tree of the tokens can be, or none when it is over the limits.
/// Within one pair of brackets every token since the last comma may add a level (`1+1+1…` leans to one side),
/// and a set operation may whatever the commas.
fn depth<'a>(tokens: impl Iterator<Item = &'a Token>) -> Option<usize> {
    // For each open bracket: levels since the last comma, the most of any stretch, set operations.
    let mut open: Vec<(usize, usize, usize)> = vec![(0, 0, 0)];
    let total = |(run, most, sets): (usize, usize, usize)| run.max(most) + sets;
    let mut most = 0;
    for token in tokens {
        let outermost = open.len() == 1;
        let level = open.last_mut()?;
        match token {
            Token::Whitespace(_) => {}
            Token::Comma => *level = (0, level.1.max(level.0), level.2),
            Token::SemiColon if outermost => open = vec![(0, 0, 0)],
            Token::LParen | Token::LBracket | Token::LBrace => open.push((0, 0, 0)),
            Token::RParen | Token::RBracket | Token::RBrace if !outermost => {
                let inner = open.pop().map_or(0, total);
                open.last_mut()?.0 += inner + 1;
            }
            Token::Word(word) if is_set_operation(&word.value) => level.2 += 2,
            _ => level.0 += 1,
        }
        if open.len() > MAX_BRACKETS {
            return None;
        }
        most = most.max(open.last().copied().map_or(0, total));
        if most > MAX_DEPTH {
            return None;
        }
    }
    Some(most)
}

fn is_set_operation(word: &str) -> bool {
    ["union", "intersect", "except", "minus"].iter().any(|set| word.eq_ignore_ascii_case(set))
}

/// Texts of one action that are parsed one by one; more are taken together.
pub(super) const MAX_TEXTS: usize = 64;

/// How a text is told from one that is no SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Its first words say so, or it is a query that parses.
    Strict,
    /// The tool is one that runs SQL: anything that parses. There, `vacuum` is no household chore.
    Lenient,
    /// Its first words alone, where there are too many to parse them all.
    Words,
}

/// Whether a text in an argument that often holds something else (`query`, `command`) is SQL: it goes on as
/// only SQL does (`delete from`), or it parses.
pub(super) fn looks_like(text: &str, effort: Effort) -> bool {
    let parses = || parses(text);
    words::has_the_form(text)
        || (effort == Effort::Lenient && text.trim_start().starts_with('{') && words::goes_on_as_sql(text))
        || (words::begins_like_sql(text)
            && match effort {
                Effort::Strict if words::begins_with_select(text) => parses() || words::goes_on_as_sql(text),
                Effort::Strict => words::begins_like_a_query(text) && parses(),
                Effort::Lenient => parses() || words::goes_on_as_sql(text),
                Effort::Words => words::begins_like_a_query(text),
            })
}

/// Whether the whole of a text can be parsed.
pub(super) fn parses(text: &str) -> bool {
    let dialect = GenericDialect {};
    text.len() <= STATEMENT_BYTES && tokenize(&dialect, text).is_some_and(|t| read(&dialect, &t).is_ok())
}

/// Analyses the texts of one action, each on its own while they are few and small.
pub(super) fn analyse_all(texts: &[&str]) -> Vec<Analysis> {
    let mut bytes = 0;
    let few = texts.iter().take(MAX_TEXTS).take_while(|text| {
        bytes += text.len();
        bytes <= STATEMENT_BYTES
    });
    let alone = few.count().max(1).min(texts.len());
    let (alone, rest) = texts.split_at(alone);
    let mut all: Vec<_> = alone.iter().map(|text| analyse(text)).collect();
    if !rest.is_empty() {
        all.push(analyse(&rest.join("\n;\n")));
    }
    all
}

/// Whether a text that is no SQL names something that acts in whatever language it is: `MATCH (n) DELETE n`.
pub(super) fn may_act(text: &str) -> bool {
    words::names_an_act(text)
}
