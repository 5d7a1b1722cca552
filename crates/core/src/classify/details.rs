//! Reads an action's payload or arguments, once: counts, ids, addressees, URLs, SQL, methods.

use super::{
    config::Rule,
    keys::{self, Id, Key, Role},
    recipients::{self, Recipients},
    shell, sql,
    url::Hosts,
};
use serde_json::{Map, Value};
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};

/// Nesting that is followed; a check's JSON has no more.
const MAX_DEPTH: usize = 64;

/// Stages of a MongoDB pipeline that write.
const STORING: [&str; 2] = ["$out", "$merge"];

/// Texts that may be addresses without saying so which are kept.
const MAX_MAYBE_HOSTS: usize = 16;

/// What the details say.
#[derive(Default)]
pub(super) struct Findings<'a> {
    pub(super) hosts: Hosts,
    /// A URL that is an argument of its own; the first.
    pub(super) url: Option<&'a str>,
    /// Under keys that always address somebody.
    pub(super) recipients: Recipients,
    /// Under keys that do so only in what is sent (`email`, `channel`).
    pub(super) maybe_recipients: Recipients,
    /// Addresses of e-mail under keys that say nothing of them. They are more where somebody else is addressed.
    pub(super) stray_recipients: Recipients,
    /// `recipient_count` and its like.
    pub(super) recipient_count: Option<Stated>,
    /// `record_count` and its like.
    pub(super) record_count: Option<Stated>,
    /// The most records that ids or lists name.
    pub(super) listed: Option<u64>,
    /// The longest list of things under a key that says nothing of records: `{"ticket_id": 5, "files": […]}`.
    pub(super) things: u64,
    /// Something says that all records are meant.
    pub(super) all: bool,
    /// Texts that are or may be SQL.
    pub(super) sql: SmallVec<[(&'a str, Sql); 1]>,
    /// Values that name what is to be done: `method: "DELETE"`, `operation: "purge"`.
    pub(super) operations: SmallVec<[&'a str; 1]>,
    /// The strongest HTTP method that was named.
    pub(super) method: Option<Method>,
    /// A request has a body.
    pub(super) body: bool,
    /// A command line: blanks or shell characters in an argument that holds commands.
    pub(super) command: bool,
    /// A stage of a MongoDB pipeline that writes what the others found.
    pub(super) stores: bool,
    /// A message's text calls a whole channel.
    pub(super) calls_everybody: bool,
    /// The value of a key that names a database.
    pub(super) targets: Vec<&'a str>,
}

/// How sure it is that a text is SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sql {
    /// The operator's rule says so.
    Ruled,
    /// Its argument's name says so.
    Named,
    /// Its argument may hold something else.
    Maybe,
    /// In a tool that queries, an argument of any other name: `{"text": "DELETE …"}`.
    Stray,
    /// The same in one whose name says that it is for people.
    StrayProse,
}

/// A number that was stated.
#[derive(Clone, Debug)]
pub(super) enum Stated {
    Number(u64),
    /// What was sent is no count; with how it was written.
    Bad(String),
}

impl Stated {
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Bad(_) => None,
        }
    }

    fn max(self, other: Option<Self>) -> Self {
        match (self, other) {
            (Self::Number(a), Some(Self::Number(b))) => Self::Number(a.max(b)),
            (_, Some(bad @ Self::Bad(_))) => bad,
            (this, _) => this,
        }
    }
}

/// What an HTTP method does to the other side. Ordered by gravity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Method {
    Looks,
    Changes,
    Deletes,
}

impl Method {
    fn of(text: &str) -> Option<Self> {
        let is = |word: &&str| text.trim().eq_ignore_ascii_case(word);
        if ["GET", "HEAD", "OPTIONS"].iter().any(is) {
            Some(Self::Looks)
        } else if ["POST", "PUT", "PATCH", "CONNECT", "MERGE", "COPY", "MOVE", "MKCOL"].iter().any(is) {
            Some(Self::Changes)
        } else if is(&"DELETE") {
            Some(Self::Deletes)
        } else {
            None
        }
    }
}

/// Reads `details`. `http`: the tool speaks HTTP, so that a method anywhere in it is one. `queries`: it sends
/// texts to a database, so that SQL may stand anywhere in it.
pub(super) fn read<'a>(details: &'a Value, rule: Option<&Rule>, http: bool, queries: bool) -> Findings<'a> {
    let mut reader = Reader {
        found: Findings::default(),
        ids: HashMap::new(),
        rule,
        http,
        queries,
        maybe_hosts: SmallVec::new(),
    };
    // Where it is no object, nothing is named in it.
    if let Value::Object(entries) = details {
        reader.object(entries, 0);
    }
    if let Some(rule) = rule {
        reader.by_rule(rule, details);
    }
    reader.finish()
}

struct Reader<'a, 'r> {
    found: Findings<'a>,
    /// Distinct ids under each key.
    ids: HashMap<&'a str, HashSet<String>>,
    rule: Option<&'r Rule>,
    http: bool,
    queries: bool,
    /// Texts of a tool that speaks HTTP which look like addresses, where nothing says that they are.
    maybe_hosts: SmallVec<[&'a str; 2]>,
}

impl<'a> Reader<'a, '_> {
    fn object(&mut self, entries: &'a Map<String, Value>, depth: usize) {
        for (name, value) in entries {
            let key = keys::key(name);
            self.entry(key, name, value, depth);
        }
    }

    fn entry(&mut self, key: Key, name: &'a str, value: &'a Value, depth: usize) {
        self.found.stores |= STORING.contains(&name);
        match key.role {
            Role::RecordCount if depth == 0 && !value.is_null() => {
                let stated = count(value);
                self.found.record_count = Some(stated.max(self.found.record_count.take()));
                return;
            }
            Role::RecipientCount if depth == 0 && !value.is_null() => {
                let stated = count(value);
                self.found.recipient_count = Some(stated.max(self.found.recipient_count.take()));
                return;
            }
            Role::Records => match value {
                Value::Array(items) => self.listed(items.len()),
                Value::Number(_) if depth == 0 => {
                    if let Stated::Number(n) = count(value) {
                        self.found.listed = Some(self.found.listed.map_or(n, |so_far| so_far.max(n)));
                    }
                }
                _ => {}
            },
            // The operator has said which arguments address somebody.
            Role::Recipient | Role::MaybeRecipient if self.rule.is_some_and(|r| r.recipients.is_some()) => {}
            Role::Recipient => self.found.recipients.argument(value),
            Role::MaybeRecipient => self.found.maybe_recipients.argument(value),
            Role::Audience if !is_empty(value) => self.found.maybe_recipients.many = true,
            Role::Everybody if says_yes(value) => self.found.maybe_recipients.many = true,
            Role::All if says_yes(value) => self.found.all = true,
            Role::Body if !is_empty(value) => self.found.body = true,
            _ => {}
        }
        if key.id != Id::No {
            self.id(key.id, name, value, 0);
        }
        self.things(key, name, value);
        self.value(key, value, depth);
    }

    /// A list under a key that is not known to hold records may hold what is done to, one by one.
    fn things(&mut self, key: Key, name: &str, value: &Value) {
        // A number with a fraction is a measure, and many words are a sentence.
        let is_thing = |item: &&Value| match item {
            Value::String(text) => text.len() <= 512 && text.split_whitespace().nth(4).is_none(),
            Value::Number(number) => !number.is_f64(),
            Value::Object(_) => true,
            _ => false,
        };
        let count = match value {
            Value::Array(items) => items.iter().filter(is_thing).count(),
            Value::String(text) if key.id == Id::No && text.contains(',') => {
                let mut parts = text.split(',').map(str::trim);
                let plain = parts.clone().all(|part| !part.is_empty() && !part.contains(char::is_whitespace));
                if plain { parts.by_ref().count() } else { 0 }
            }
            _ => 0,
        };
        let told = matches!(
            key.role,
            Role::Prose | Role::Code | Role::Command | Role::Sql | Role::MaybeSql | Role::Records
        );
        if count > 1 && !told && !keys::describes(name) {
            self.found.things = self.found.things.max(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }

    fn value(&mut self, key: Key, value: &'a Value, depth: usize) {
        match value {
            Value::String(text) => {
                // One word of a list is no command of its own.
                if key.role == Role::Command {
                    shell::hosts(text, &mut self.found.hosts);
                }
                self.text(key, text);
            }
            Value::Array(items) if depth < MAX_DEPTH => {
                if key.role == Role::Command {
                    let words: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                    shell::hosts(&words.join(" "), &mut self.found.hosts);
                }
                for item in items {
                    match item {
                        // One word of a list is no command of its own.
                        Value::String(text) if !text.contains(char::is_whitespace) => self.text(key, text),
                        _ => self.value(key, item, depth + 1),
                    }
                }
            }
            Value::Object(entries) if depth < MAX_DEPTH => {
                // `{"url": {"href": …}}`: what is within is still a URL, unless its own name says otherwise.
                for (inner, value) in entries {
                    let mut own = keys::key(inner);
                    if own.role == Role::Plain
                        && matches!(key.role, Role::Url | Role::Host | Role::Endpoint | Role::Sql)
                    {
                        own.role = if key.role == Role::Sql { Role::MaybeSql } else { Role::Endpoint };
                    }
                    self.entry(own, inner, value, depth + 1);
                }
            }
            Value::Array(_) | Value::Object(_) => self.found.hosts.found.unknown = true,
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&mut self, key: Key, text: &'a str) {
        // A pipeline that was sent as text.
        self.found.stores |=
            key.role != Role::Prose && text.contains('{') && STORING.iter().any(|stage| text.contains(stage));
        if self.http
            && let Some(method) = Method::of(text)
        {
            self.method(method);
        }
        if self.http && self.maybe_hosts.len() < MAX_MAYBE_HOSTS && super::url::like_an_address(text) {
            self.maybe_hosts.push(text);
        }
        let read_as_sql = matches!(key.role, Role::Sql | Role::MaybeSql | Role::Command);
        if self.queries && !read_as_sql && text.trim().contains(char::is_whitespace) {
            let sort = if key.role == Role::Prose { Sql::StrayProse } else { Sql::Stray };
            self.found.sql.push((text, sort));
        }
        match key.role {
            Role::Prose => {
                self.found.calls_everybody |= text.contains(['@', '<']) && recipients::calls_everybody(text);
            }
            Role::Url => {
                self.found.url.get_or_insert(text);
                self.found.hosts.url_argument(text);
            }
            Role::Endpoint => self.found.hosts.endpoint_argument(text),
            Role::Host => self.found.hosts.host_argument(text),
            Role::Command => {
                self.found.hosts.embedded(text);
                if text.trim().contains(|c: char| c.is_whitespace() || "|&;<>$`(){}*?~!\"'\\/".contains(c)) {
                    let effort = if self.found.sql.len() < sql::MAX_TEXTS {
                        sql::Effort::Strict
                    } else {
                        sql::Effort::Words
                    };
                    // To a shell `drop table x; rm -rf /` is two commands, and the second one runs.
                    self.found.command |=
                        !sql::looks_like(text, effort) || (!self.queries && !sql::parses(text));
                    self.found.sql.push((text, Sql::Maybe));
                } else {
                    self.found.operations.push(text);
                }
            }
            Role::Code => self.found.hosts.embedded(text),
            Role::Sql => self.found.sql.push((text, Sql::Named)),
            Role::MaybeSql => {
                self.found.hosts.any_argument(text);
                self.found.sql.push((text, Sql::Maybe));
            }
            Role::Method => match Method::of(text) {
                Some(method) => self.method(method),
                None => self.found.operations.push(text),
            },
            Role::MaybeMethod => {
                let methods = ["POST", "PUT", "PATCH", "DELETE"];
                let named = methods.iter().any(|m| text.trim().eq_ignore_ascii_case(m));
                if let Some(method) = Method::of(text).filter(|_| named) {
                    self.method(method);
                }
                self.found.hosts.any_argument(text);
            }
            Role::Operation => self.found.operations.push(text),
            Role::Database => {
                self.found.targets.push(text);
                self.found.hosts.any_argument(text);
            }
            Role::Plain if text.contains('@') => {
                self.found.stray_recipients.mailboxes_in(text);
                self.found.hosts.any_argument(text);
            }
            _ => self.found.hosts.any_argument(text),
        }
    }

    fn method(&mut self, method: Method) {
        self.found.method = self.found.method.max(Some(method));
    }

    fn listed(&mut self, length: usize) {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.found.listed = Some(self.found.listed.map_or(length, |so_far| so_far.max(length)));
    }

    fn id(&mut self, id: Id, name: &'a str, value: &'a Value, depth: usize) {
        match value {
            Value::String(text) if is_opaque(text) => self.found.all = true,
            // A list is one under any name; blanks alone separate only where several are expected.
            Value::String(text) if id == Id::Many || text.contains([',', ';', '\n']) => {
                let separates =
                    |c: char| matches!(c, ',' | ';' | '\n') || (id == Id::Many && c.is_whitespace());
                text.split(separates).for_each(|part| self.one_id(id, name, part.trim()));
            }
            Value::String(text) => self.one_id(id, name, text.trim()),
            Value::Number(number) => {
                self.ids.entry(name).or_default().insert(number.to_string());
            }
            Value::Array(items) if depth < 4 => {
                items.iter().for_each(|item| self.id(id, name, item, depth + 1));
            }
            Value::Array(_) => self.found.all = true,
            // Lists of `{"id": …}` count by their own keys.
            _ => {}
        }
    }

    fn one_id(&mut self, id: Id, name: &'a str, text: &str) {
        let all = ["%", "all", "any", "each", "everything", "everyone"]
            .iter()
            .any(|w| text.eq_ignore_ascii_case(w));
        // Patterns and ranges stand for nobody knows how many. `2024-0001` alone may be a number on a bill.
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        let mut splits = ["-", ".."].iter().filter_map(|by| text.split_once(by));
        let range = id == Id::Many && splits.any(|(from, to)| digits(from) && digits(to));
        if all || text.contains('*') || range || holds_several(text) {
            self.found.all = true;
        } else if !text.is_empty() {
            self.ids.entry(name).or_default().insert(text.to_owned());
        }
    }

    /// What the operator's rule says of single arguments.
    fn by_rule(&mut self, rule: &Rule, details: &'a Value) {
        let argument = |path: &str| find(details, path);
        if let Some(value) = rule.records.as_deref().and_then(argument) {
            match value {
                Value::Array(items) => self.listed(distinct(items)),
                Value::String(text) if text.parse::<u64>().is_err() => {
                    let parts: HashSet<&str> =
                        text.split([',', ';']).map(str::trim).filter(|p| !p.is_empty()).collect();
                    self.listed(parts.len());
                }
                Value::Null => {}
                other => {
                    let stated = match other.as_str().and_then(|t| t.parse().ok()) {
                        Some(n) => Stated::Number(n),
                        None => count(other),
                    };
                    self.found.record_count = Some(stated.max(self.found.record_count.take()));
                }
            }
        }
        for value in rule.recipients.iter().flatten().filter_map(|path| argument(path)) {
            self.found.recipients.argument(value);
        }
        if let Some(Value::String(text)) = rule.statement.as_deref().and_then(argument) {
            self.found.sql.retain(|(known, _)| !std::ptr::eq(*known, text.as_str()));
            self.found.sql.push((text, Sql::Ruled));
        }
        if let Some(Value::String(text)) = rule.url.as_deref().and_then(argument) {
            self.found.url = Some(text);
            self.found.hosts.url_argument(text);
        }
    }

    fn finish(mut self) -> Findings<'a> {
        // An HTTP request goes somewhere: `{"target": "evil.example/x"}`.
        if self.found.hosts.found.known.is_empty() && !self.found.hosts.found.unknown {
            self.maybe_hosts.iter().for_each(|text| self.found.hosts.endpoint_argument(text));
        }
        let most = self.ids.values().map(HashSet::len).max();
        if let Some(most) = most.filter(|n| *n > 0) {
            self.listed(most);
        }
        self.found
    }
}

/// The argument at a path of keys: `a.b`, or a key that holds the dot itself.
pub(super) fn find<'a>(details: &'a Value, path: &str) -> Option<&'a Value> {
    details.get(path).or_else(|| path.split('.').try_fold(details, |value, key| value.get(key)))
}

fn distinct(items: &[Value]) -> usize {
    let texts = items.iter().map(|item| match item {
        Value::String(text) => text.clone(),
        other => {
            let mut bytes = Vec::new();
            crate::json::write_canonical(other, &mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        }
    });
    texts.collect::<HashSet<_>>().len()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether what should be one id reads like a list, a range or a condition: `1|2`, `1 to 9`, `1 OR 1=1`.
fn holds_several(text: &str) -> bool {
    const JOINS: [&str; 9] = ["or", "and", "to", "between", "union", "in", "like", "not", "through"];
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if text.contains(['|', '[', '"', '–', '—']) || (text.contains('&') && text.contains('=')) {
        return true;
    }
    let mut words = text.split([' ', '\t', '+']).filter(|word| !word.is_empty());
    let Some(first) = words.next() else { return false };
    let rest: SmallVec<[&str; 4]> = words.take(16).collect();
    let everything = ["all", "each", "every", "any"].iter().any(|word| first.eq_ignore_ascii_case(word));
    !rest.is_empty()
        && (everything
            || text.contains(['=', '<', '>'])
            || (digits(first)
                && (rest.iter().all(|word| digits(word))
                    || rest.iter().any(|word| JOINS.iter().any(|join| word.eq_ignore_ascii_case(join))))))
}

/// `<sqlalchemy.TextClause>`, `<builtins.generator>`, `<bytes: 17 bytes>`: what an SDK writes for a value that
/// it cannot show. What is in it, and how much, nobody knows.
pub(super) fn is_opaque(text: &str) -> bool {
    let inner = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or_default();
    inner.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && inner.contains(['.', ':'])
        && !inner.contains('@')
}

/// Whether a switch is on: everything but the ways of saying no.
fn says_yes(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => {
            !matches!(text.trim().to_ascii_lowercase().as_str(), "" | "false" | "no" | "off" | "0" | "none")
        }
        other => !is_empty(other),
    }
}

/// A whole number from 0 to `u64::MAX`.
fn count(value: &Value) -> Stated {
    if let Some(n) = value.as_u64() {
        return Stated::Number(n);
    }
    // `12.0` is what some languages make of 12; beyond 2^53 it would be a guess.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and within 0..=2^53")]
    match value.as_f64() {
        Some(n) if n.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&n) => {
            Stated::Number(n as u64)
        }
        Some(n) => Stated::Bad(n.to_string()),
        None => Stated::Bad(super::kind(value).to_owned()),
    }
}
