//! Reads an action's payload or arguments, once: counts, ids, addressees, URLs, SQL, methods.

use super::{
    config::Rule,
    recipients::{self, Recipients},
    sql,
    url::Hosts,
};
use serde_json::{Map, Value};
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};

/// Nesting that is followed; a check's JSON has no more.
const MAX_DEPTH: usize = 64;

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
    /// `recipient_count` and its like.
    pub(super) recipient_count: Option<Stated>,
    /// `record_count` and its like.
    pub(super) record_count: Option<Stated>,
    /// The most records that ids or lists name.
    pub(super) listed: Option<u64>,
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
    /// A message's text calls a whole channel.
    pub(super) calls_everybody: bool,
    /// The value of a key that names a database.
    pub(super) target: Option<&'a str>,
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
        if ["GET", "HEAD", "OPTIONS"].iter().any(|m| is(m)) {
            Some(Self::Looks)
        } else if ["POST", "PUT", "PATCH", "CONNECT", "MERGE", "COPY", "MOVE", "MKCOL"].iter().any(|m| is(m))
        {
            Some(Self::Changes)
        } else if is(&"DELETE") {
            Some(Self::Deletes)
        } else {
            None
        }
    }
}

/// Reads `details`. `http`: the tool speaks HTTP, so that a method anywhere in it is one.
pub(super) fn read<'a>(details: &'a Value, rule: Option<&Rule>, http: bool) -> Findings<'a> {
    let mut reader = Reader { found: Findings::default(), ids: HashMap::new(), rule, http };
    match details {
        Value::Object(entries) => reader.object(entries, 0),
        // Nothing is named in it.
        _ => {}
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
}

/// What a key's name says of its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Key {
    role: Role,
    id: Id,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Role {
    #[default]
    Plain,
    /// Text for people, in which links are only spoken of.
    Prose,
    Url,
    Endpoint,
    Host,
    /// A command line, or the name of a sub-command.
    Command,
    /// Code, of which only the addresses in it are read.
    Code,
    Sql,
    MaybeSql,
    Recipient,
    MaybeRecipient,
    /// A list or segment of addressees.
    Audience,
    RecordCount,
    RecipientCount,
    /// A list of records.
    Records,
    Method,
    Operation,
    Body,
    All,
    Database,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Id {
    #[default]
    No,
    One,
    Many,
}

impl<'a> Reader<'a, '_> {
    fn object(&mut self, entries: &'a Map<String, Value>, depth: usize) {
        for (name, value) in entries {
            let key = key(name);
            self.entry(key, name, value, depth);
        }
    }

    fn entry(&mut self, key: Key, name: &'a str, value: &'a Value, depth: usize) {
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
            Role::All if *value == Value::Bool(true) => self.found.all = true,
            Role::Body if !is_empty(value) => self.found.body = true,
            _ => {}
        }
        if key.id != Id::No {
            self.id(key.id, name, value, 0);
        }
        self.value(&key, name, value, depth);
    }

    fn value(&mut self, key: &Key, name: &'a str, value: &'a Value, depth: usize) {
        match value {
            Value::String(text) => self.text(key, text),
            Value::Array(items) if depth < MAX_DEPTH => {
                for item in items {
                    self.value(key, name, item, depth + 1);
                }
            }
            Value::Object(entries) if depth < MAX_DEPTH => {
                // `{"url": {"href": …}}`: what is within is still a URL, unless its own name says otherwise.
                for (inner, value) in entries {
                    let mut own = self::key(inner);
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

    fn text(&mut self, key: &Key, text: &'a str) {
        if self.http
            && let Some(method) = Method::of(text)
        {
            self.method(method);
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
                    self.found.command |= !sql::looks_like(text, effort);
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
            Role::Operation => self.found.operations.push(text),
            Role::Database => {
                self.found.target.get_or_insert(text);
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
            Value::String(text) if id == Id::Many && text.contains([',', ';', ' ', '\n']) => {
                for part in text.split([',', ';', ' ', '\n']).map(str::trim).filter(|p| !p.is_empty()) {
                    self.one_id(name, part);
                }
            }
            Value::String(text) => self.one_id(name, text.trim()),
            Value::Number(number) => {
                self.ids.entry(name).or_default().insert(number.to_string());
            }
            Value::Array(items) if depth < 4 => {
                items.iter().for_each(|item| self.id(id, name, item, depth + 1))
            }
            // Lists of `{"id": …}` count by their own keys.
            _ => {}
        }
    }

    fn one_id(&mut self, name: &'a str, text: &str) {
        if matches!(text.to_ascii_lowercase().as_str(), "*" | "%" | "all" | "any" | "everything" | "everyone")
        {
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

/// What a key's name says: lower case, words joined by `_`, read once.
fn key(name: &str) -> Key {
    let mut plain: SmallVec<[u8; 48]> = SmallVec::new();
    let mut lower_before = false;
    for b in name.bytes().take(64) {
        if b.is_ascii_uppercase() {
            if lower_before {
                plain.push(b'_');
            }
            plain.push(b.to_ascii_lowercase());
        } else {
            plain.push(if matches!(b, b'-' | b' ' | b'.' | b'/') { b'_' } else { b });
        }
        lower_before = b.is_ascii_lowercase() || b.is_ascii_digit();
    }
    let plain = std::str::from_utf8(&plain).unwrap_or_default();
    Key { role: role(plain), id: id(plain) }
}

fn role(key: &str) -> Role {
    match key {
        "record_count" | "records_count" | "row_count" | "rows_count" | "num_records" | "num_rows"
        | "number_of_records" | "affected_records" | "records_affected" | "affected_rows"
        | "rows_affected" => Role::RecordCount,
        "recipient_count" | "recipients_count" | "num_recipients" | "number_of_recipients" => {
            Role::RecipientCount
        }
        "records" | "rows" | "items" | "documents" | "entries" | "updates" | "operations" | "objects"
        | "inserts" | "deletes" | "changes" => Role::Records,
        "to"
        | "cc"
        | "bcc"
        | "recipient"
        | "recipients"
        | "to_recipients"
        | "cc_recipients"
        | "bcc_recipients"
        | "to_email"
        | "to_emails"
        | "to_address"
        | "to_addresses"
        | "to_number"
        | "to_numbers"
        | "recipient_email"
        | "recipient_emails"
        | "recipient_ids"
        | "recipient_id"
        | "attendees"
        | "invitees"
        | "cc_addresses"
        | "bcc_addresses"
        | "cc_email"
        | "bcc_email"
        | "to_list"
        | "cc_list"
        | "bcc_list"
        | "destination_addresses" => Role::Recipient,
        "email" | "emails" | "email_address" | "email_addresses" | "phone" | "phones" | "phone_number"
        | "phone_numbers" | "channel" | "channels" | "channel_id" | "channel_ids" | "user_ids"
        | "chat_id" | "chat_ids" | "user" | "users" | "user_id" | "member_ids" | "members"
        | "subscriber_ids" | "address" | "addresses" | "room" | "room_id" | "conversation_id"
        | "destination" | "numbers" | "contacts" | "targets" | "handle" | "device_token"
        | "device_tokens" | "subreddit" => Role::MaybeRecipient,
        "list_id" | "list_ids" | "audience" | "audience_id" | "segment" | "segments" | "segment_id"
        | "segment_ids" | "topic" | "topic_arn" | "campaign_id" | "group" | "groups" | "group_id"
        | "group_ids" | "mailing_list" | "distribution_list" => Role::Audience,
        "text" | "content" | "html" | "message" | "description" | "comment" | "note" | "notes"
        | "summary" | "subject" | "title" | "prompt" | "caption" | "markdown" | "instructions"
        | "message_body" | "body_text" | "body_html" | "html_body" | "plain_text" | "paragraph"
        | "reason" | "question" | "answer" | "thought" | "snippet" | "bio" | "about" | "status_text"
        | "new_string" | "old_string" | "new_str" | "old_str" | "file_text" | "insert_text" | "system"
        | "completion" | "blocks" | "email_body" => Role::Prose,
        "sql" | "sql_query" | "sql_statement" | "raw_sql" | "sql_text" | "sqls" | "ddl" => Role::Sql,
        "query" | "queries" | "statement" | "statements" | "stmt" | "q" | "query_string" | "query_text"
        | "transaction" | "expression" | "input" | "params" => Role::MaybeSql,
        "command" | "commands" | "cmd" | "shell_command" | "command_line" | "bash" | "shell" => Role::Command,
        "method" | "http_method" | "request_method" | "verb" => Role::Method,
        "operation" | "op" | "action" | "subcommand" | "mutation" | "operation_name" | "action_type"
        | "operation_type" => Role::Operation,
        "code" | "script" | "args" | "argv" | "source_code" | "python" | "javascript" | "js" | "program" => {
            Role::Code
        }
        "body" | "data" | "json" | "payload" | "form" | "json_body" | "request_body" | "form_data"
        | "files" | "raw_body" | "post_data" => Role::Body,
        "all" | "delete_all" | "all_records" | "all_rows" | "select_all" | "everything" | "clear_all"
        | "remove_all" | "purge_all" | "update_all" | "all_pages" | "entire" => Role::All,
        "database" | "db" | "target" | "datasource" | "data_source" | "database_name" | "db_name"
        | "dataset" | "connection" | "connection_name" => Role::Database,
        "url" | "urls" | "uri" | "uris" | "base_url" | "webhook" | "callback" | "proxy" | "request_url"
        | "target_url" | "origin" | "repo_url" | "repository_url" | "start_url" | "page_url" => Role::Url,
        "endpoint" | "endpoints" | "link" | "links" | "href" | "site" | "website" | "server" | "src"
        | "sites" => Role::Endpoint,
        "host" | "hosts" | "hostname" | "domain" | "domains" | "hostnames" | "fqdn" | "server_name"
        | "ip" | "ip_address" => Role::Host,
        _ if ends(key, &["url", "urls", "uri", "uris"]) => Role::Url,
        _ if ends(key, &["endpoint", "href", "link", "webhook"]) => Role::Endpoint,
        _ if ends(key, &["host", "hostname", "domain"]) => Role::Host,
        _ if ends(key, &["sql"]) => Role::Sql,
        _ if ends(key, &["query", "statement"]) => Role::MaybeSql,
        _ if ends(key, &["command"]) => Role::Command,
        _ => Role::Plain,
    }
}

/// Whether the last words of `key` are one of `tails`.
fn ends(key: &str, tails: &[&str]) -> bool {
    tails.iter().any(|tail| key.strip_suffix(tail).is_some_and(|head| head.is_empty() || head.ends_with('_')))
}

/// Whether a key holds ids of records. Ids that only say where or within what something happens count
/// nothing: a `session_id` beside a sweeping delete must not make it a delete of one.
fn id(key: &str) -> Id {
    let context = |head: &str| {
        head.split('_').any(|word| {
            matches!(
                word,
                "session"
                    | "request"
                    | "trace"
                    | "span"
                    | "correlation"
                    | "idempotency"
                    | "client"
                    | "tenant"
                    | "org"
                    | "organization"
                    | "organisation"
                    | "workspace"
                    | "project"
                    | "account"
                    | "agent"
                    | "run"
                    | "conversation"
                    | "tool"
                    | "call"
                    | "app"
                    | "application"
                    | "team"
                    | "cloud"
                    | "region"
                    | "api"
                    | "database"
                    | "dataset"
                    | "table"
                    | "base"
                    | "collection"
                    | "sheet"
                    | "spreadsheet"
                    | "parent"
                    | "folder"
                    | "list"
                    | "group"
                    | "bucket"
                    | "drive"
                    | "board"
                    | "portal"
                    | "subscription"
                    | "site"
            )
        })
    };
    match key {
        "id" | "uuid" | "record_id" => return Id::One,
        "ids" | "uuids" | "record_ids" => return Id::Many,
        _ => {}
    }
    if let Some(head) = key.strip_suffix("_ids").or_else(|| key.strip_suffix("_uuids")) {
        return if context(head) { Id::No } else { Id::Many };
    }
    match key.strip_suffix("_id").or_else(|| key.strip_suffix("_uuid")) {
        Some(head) if !context(head) => Id::One,
        _ => Id::No,
    }
}
