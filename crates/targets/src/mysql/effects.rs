//! What the body of a trigger may write, read from its words.
//!
//! No more is asked of this reading than a list of tables that is not too short; that it was complete is
//! proved afterwards, by the number of rows that InnoDB itself says the transaction changed. What it must find
//! beforehand is whatever a rollback could not take back.

use super::{builtins, schema::Trigger};
use crate::Error;
use sqlparser::{
    dialect::MySqlDialect,
    tokenizer::{Token, Tokenizer},
};
use std::collections::{BTreeMap, BTreeSet};

/// A table, as a body names it: its database, if said, and its name.
pub(super) type Written = (Option<String>, String);

/// How a table is written: `Some` with the columns where records are only added to it, and it is said which
/// columns they are given.
pub(super) type Added = Option<BTreeSet<String>>;

/// Words that are followed by a bracket and are no functions.
const WORDS: &str = " if in values value and or not exists on as set when then else elseif while until return using \
 select where from into key by over partition all any some between is like rlike regexp xor div mod case having \
 distinct union except intersect limit returning join interval \
 varchar char binary varbinary decimal numeric dec fixed float double int integer bigint smallint mediumint tinyint \
 bit year time timestamp datetime enum signed unsigned ";

/// Words that do what no rollback takes back, or hide what they do.
const FORBIDDEN: &str = " call execute prepare load truncate create drop alter rename grant revoke lock unlock \
 handler do kill flush reset purge install uninstall optimize analyze repair commit rollback savepoint outfile \
 dumpfile import xa ";

/// The tables that `trigger` of the table `resource` may write.
///
/// # Errors
/// [`Error::Unmeasurable`] when its body does something that cannot be taken back or is not understood.
pub(super) fn of(trigger: &Trigger, resource: &str) -> Result<BTreeMap<Written, Added>, Error> {
    let refuse = |why: String| {
        Error::Unmeasurable(format!(
            "the trigger {} of {resource} {why}, so what this would do cannot be measured",
            trigger.name
        ))
    };
    if trigger.body.contains("/*!") || trigger.body.contains("/*M!") {
        return Err(refuse("has an executable comment".to_owned()));
    }
    let dialect = MySqlDialect {};
    let tokens: Vec<Token> = Tokenizer::new(&dialect, &trigger.body)
        .tokenize()
        .map_err(|e| refuse(format!("cannot be read ({e})")))?
        .into_iter()
        .filter(|t| !matches!(t, Token::Whitespace(_)))
        .collect();
    let mut body = Body { tokens: &tokens, at: 0, written: BTreeMap::new() };
    body.read().map_err(refuse)?;
    Ok(body.written)
}

/// The columns that triggers of a table may give other values before an UPDATE writes them: all of `NEW` that
/// they name.
pub(super) fn assigned(triggers: &[Trigger]) -> BTreeSet<String> {
    let dialect = MySqlDialect {};
    let mut columns = BTreeSet::new();
    for trigger in triggers.iter().filter(|t| t.before && t.event == "UPDATE") {
        // What cannot be read is refused elsewhere.
        let tokens = Tokenizer::new(&dialect, &trigger.body).tokenize().unwrap_or_default();
        let tokens: Vec<Token> = tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_))).collect();
        for window in tokens.windows(3) {
            if let [Token::Word(new), Token::Period, Token::Word(column)] = window
                && new.value.eq_ignore_ascii_case("new")
            {
                columns.insert(column.value.to_lowercase());
            }
        }
    }
    columns
}

struct Body<'a> {
    tokens: &'a [Token],
    at: usize,
    written: BTreeMap<Written, Added>,
}

impl Body<'_> {
    /// The bare word at an offset from here, in lower case.
    fn word(&self, offset: isize) -> Option<String> {
        match self.tokens.get(self.at.checked_add_signed(offset)?)? {
            Token::Word(w) if w.quote_style.is_none() => Some(w.value.to_ascii_lowercase()),
            _ => None,
        }
    }

    fn is(&self, offset: isize, token: &Token) -> bool {
        self.at.checked_add_signed(offset).and_then(|at| self.tokens.get(at)) == Some(token)
    }

    fn read(&mut self) -> Result<(), String> {
        while self.at < self.tokens.len() {
            let Some(word) = self.word(0) else {
                self.at += 1;
                continue;
            };
            let called = self.is(1, &Token::LParen);
            let qualified = self.is(-1, &Token::Period) || self.is(1, &Token::Period);
            match word.as_str() {
                _ if qualified && called => return Err(format!("calls {word}")),
                _ if qualified => {}
                "insert" | "replace" if !called => {
                    self.past(&["low_priority", "delayed", "high_priority", "ignore", "into"]);
                    self.table(word == "insert")?;
                    continue;
                }
                // ON DUPLICATE KEY UPDATE, FOR UPDATE.
                "update" if !matches!(self.word(-1).as_deref(), Some("key" | "for")) => {
                    self.past(&["low_priority", "ignore"]);
                    self.tables(&["set"])?;
                    continue;
                }
                "delete" => {
                    self.past(&["low_priority", "quick", "ignore"]);
                    self.tables(&["where", "order", "limit", "returning"])?;
                    continue;
                }
                _ if FORBIDDEN.contains(&format!(" {word} ")) => {
                    return Err(format!("says {}", word.to_uppercase()));
                }
                _ if called && !WORDS.contains(&format!(" {word} ")) && !builtins::is_harmless(&word) => {
                    return Err(format!("calls {word}"));
                }
                _ => {}
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Past this word and any of `words`.
    fn past(&mut self, words: &[&str]) {
        self.at += 1;
        while self.word(0).is_some_and(|w| words.contains(&w.as_str())) {
            self.at += 1;
        }
    }

    fn name(&mut self) -> Option<String> {
        let Some(Token::Word(word)) = self.tokens.get(self.at) else { return None };
        self.at += 1;
        Some(word.value.clone())
    }

    /// The table whose name begins here; `inserts`: into which an INSERT goes.
    fn table(&mut self, inserts: bool) -> Result<(), String> {
        let unclear = || "writes something that is not understood".to_owned();
        let first = self.name().ok_or_else(unclear)?;
        let written = if self.is(0, &Token::Period) {
            self.at += 1;
            (Some(first), self.name().ok_or_else(unclear)?)
        } else {
            (None, first)
        };
        let mut added: Added = None;
        // A list of columns follows an INSERT's table, and is no call.
        if self.is(0, &Token::LParen) {
            self.at += 1;
            let mut columns = BTreeSet::new();
            while let Some(column) = self.name() {
                columns.insert(column.to_lowercase());
                self.at += usize::from(self.is(0, &Token::Comma));
            }
            added = (inserts && self.is(0, &Token::RParen) && !self.updates_duplicates()).then_some(columns);
        }
        let known = self.written.entry(written).or_insert_with(|| added.clone());
        match (known.as_mut(), added) {
            (Some(known), Some(more)) => known.extend(more),
            _ => *known = None,
        }
        Ok(())
    }

    /// Whether this statement has an ON DUPLICATE KEY UPDATE.
    fn updates_duplicates(&self) -> bool {
        let rest = self.tokens.iter().skip(self.at).take_while(|t| **t != Token::SemiColon);
        rest.into_iter().any(|t| matches!(t, Token::Word(w) if w.value.eq_ignore_ascii_case("duplicate")))
    }

    /// All names up to one of the words `end`: the first, and those after a comma, FROM, JOIN or USING.
    fn tables(&mut self, end: &[&str]) -> Result<(), String> {
        let mut expected = true;
        while self.at < self.tokens.len() && !self.is(0, &Token::SemiColon) {
            let word = self.word(0);
            match word.as_deref() {
                Some(w) if end.contains(&w) => return Ok(()),
                Some("from" | "join" | "using" | "straight_join") => {
                    expected = true;
                    self.at += 1;
                }
                _ if self.is(0, &Token::Comma) => {
                    expected = true;
                    self.at += 1;
                }
                _ if self.is(0, &Token::LParen) => {
                    return Err("writes a join that is not understood".to_owned());
                }
                _ if expected => {
                    expected = false;
                    self.table(false)?;
                }
                _ => self.at += 1,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<String>, Error> {
        let trigger = Trigger { name: "t".into(), event: "INSERT".into(), before: false, body: body.into() };
        let name = |(schema, table): Written| schema.map_or(table.clone(), |s| format!("{s}.{table}"));
        Ok(of(&trigger, "users")?.into_keys().map(name).collect())
    }

    #[test]
    fn finds_every_table_that_is_written() {
        let found = read(
            "BEGIN DECLARE n DECIMAL(10,2) DEFAULT 0; IF (NEW.a > 1) THEN INSERT IGNORE INTO audit (a, b) VALUES \
             (NEW.a, COALESCE(OLD.b, 1)) ON DUPLICATE KEY UPDATE b = 2; END IF; UPDATE x.`y` SET c = c + 1; \
             DELETE FROM z WHERE id = OLD.id; SET NEW.u = NOW(); REPLACE w SELECT REPLACE(a, 'x', 'y') FROM q; END",
        );
        assert_eq!(found.unwrap(), ["audit", "w", "z", "x.y"]);
    }

    #[test]
    fn knows_what_a_trigger_may_put_in_place_of_what_is_written() {
        let trigger = |before, body: &str| Trigger {
            name: "t".into(),
            event: "UPDATE".into(),
            before,
            body: body.into(),
        };
        let list = [
            trigger(true, "SET NEW.Id = 1, NEW . `a b` = OLD.c"),
            trigger(false, "INSERT INTO x VALUES (NEW.d)"),
        ];
        assert_eq!(assigned(&list).into_iter().collect::<Vec<_>>(), ["a b", "id"]);
    }

    #[test]
    fn knows_when_records_are_only_added() {
        let added = |body: &str| {
            let trigger =
                Trigger { name: "t".into(), event: "INSERT".into(), before: false, body: body.into() };
            of(&trigger, "users").unwrap().into_values().next().unwrap()
        };
        let columns = added("INSERT INTO log (`What`, id_of) VALUES (1, 2)").unwrap();
        assert_eq!(columns.into_iter().collect::<Vec<_>>(), ["id_of", "what"]);
        for body in [
            "INSERT INTO log VALUES (1)",
            "REPLACE INTO log (a) VALUES (1)",
            "INSERT INTO log (a) VALUES (1) ON DUPLICATE KEY UPDATE a = 2",
            "BEGIN INSERT INTO log (a) VALUES (1); DELETE FROM log; END",
            "BEGIN UPDATE log SET a = 1; INSERT INTO log (a) VALUES (1); END",
        ] {
            assert!(added(body).is_none(), "{body}");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for body in [
            "CALL p()",
            "SET @x = sys_exec('rm')",
            "SET @x = shop.f(1)",
            "BEGIN SELECT 1 INTO OUTFILE 'x'; END",
            "BEGIN TRUNCATE t; END",
            "SET NEW.a = NEXTVAL(s)",
            "INSERT INTO /*! x */ y VALUES (1)",
        ] {
            assert!(read(body).is_err(), "{body}");
        }
    }
}
