//! What the names of arguments say of their values.

use smallvec::SmallVec;

/// What a key's name says of its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) role: Role,
    pub(super) id: Id,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
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
    /// A switch that addresses everybody there is.
    Everybody,
    /// Who sends, which is nobody who is sent something.
    Sender,
    RecordCount,
    RecipientCount,
    /// A list of records.
    Records,
    Method,
    /// Says what a thing is, and sometimes how it is asked for.
    MaybeMethod,
    Operation,
    Body,
    All,
    Database,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Id {
    #[default]
    No,
    One,
    Many,
}

/// What a key's name says.
pub(super) fn key(name: &str) -> Key {
    let plain = plain(name);
    let plain = std::str::from_utf8(&plain).unwrap_or_default();
    Key { role: role(plain), id: id(plain) }
}

/// A name in lower case, its words joined by `_`.
fn plain(name: &str) -> SmallVec<[u8; 48]> {
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
    plain
}

/// What a key's name says of which records are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selects {
    Nothing,
    /// Those that fit its value.
    Records,
    /// It holds arguments of its own.
    Wrapped,
}

pub(super) fn selects(name: &str) -> Selects {
    let plain = plain(name);
    let plain = std::str::from_utf8(&plain).unwrap_or_default();
    match plain.trim_matches(['_', '$']) {
        "filter" | "filters" | "where" | "where_clause" | "query" | "queries" | "q" | "selector"
        | "selectors" | "criteria" | "match" | "matches" | "jql" | "soql" | "search" | "condition"
        | "conditions" | "predicate" | "predicates" | "rsql" | "cql" | "kql" => Selects::Records,
        "options" | "opts" | "params" | "parameters" | "args" | "arguments" | "input" | "request" => {
            Selects::Wrapped
        }
        key if ends(key, &["filter", "filters", "criteria", "selector", "query"]) => Selects::Records,
        key if key.starts_with("filter_") || key.starts_with("where_") => Selects::Records,
        _ => Selects::Nothing,
    }
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
        | "destination_addresses"
        | "blind_copy"
        | "carbon_copy"
        | "mail_to"
        | "email_to"
        | "send_to"
        | "forward_to" => Role::Recipient,
        "email" | "emails" | "email_address" | "email_addresses" | "phone" | "phones" | "phone_number"
        | "phone_numbers" | "channel" | "channels" | "channel_id" | "channel_ids" | "user_ids"
        | "chat_id" | "chat_ids" | "user" | "users" | "user_id" | "member_ids" | "members"
        | "subscriber_ids" | "address" | "addresses" | "room" | "room_id" | "conversation_id"
        | "destination" | "numbers" | "contacts" | "targets" | "handle" | "device_token"
        | "device_tokens" | "subreddit" => Role::MaybeRecipient,
        "reply_all" | "reply_to_all" | "send_to_all" | "to_all" | "cc_all" | "notify_all" | "email_all"
        | "message_all" | "broadcast" | "everyone" | "everybody" => Role::Everybody,
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
        "method" | "http_method" | "request_method" | "verb" | "http_verb" | "request_type" => Role::Method,
        "type" | "kind" => Role::MaybeMethod,
        "operation" | "op" | "action" | "subcommand" | "mutation" | "operation_name" | "action_type"
        | "operation_type" => Role::Operation,
        "code" | "script" | "args" | "argv" | "source_code" | "python" | "javascript" | "js" | "program" => {
            Role::Code
        }
        "body" | "data" | "json" | "payload" | "form" | "json_body" | "request_body" | "form_data"
        | "files" | "raw_body" | "post_data" => Role::Body,
        "all"
        | "delete_all"
        | "all_records"
        | "all_rows"
        | "select_all"
        | "everything"
        | "clear_all"
        | "remove_all"
        | "purge_all"
        | "update_all"
        | "all_pages"
        | "entire"
        | "apply_to_all"
        | "for_all"
        | "recursive"
        | "recurse"
        | "cascade"
        | "include_children"
        | "include_descendants"
        | "include_subfolders" => Role::All,
        "database" | "db" | "target" | "datasource" | "data_source" | "database_name" | "db_name"
        | "dataset" | "connection" | "connection_name" => Role::Database,
        "url" | "urls" | "uri" | "uris" | "base_url" | "webhook" | "callback" | "proxy" | "request_url"
        | "target_url" | "origin" | "repo_url" | "repository_url" | "start_url" | "page_url" => Role::Url,
        "endpoint" | "endpoints" | "link" | "links" | "href" | "site" | "website" | "server" | "src"
        | "sites" => Role::Endpoint,
        "host" | "hosts" | "hostname" | "domain" | "domains" | "hostnames" | "fqdn" | "server_name"
        | "ip" | "ip_address" => Role::Host,
        _ if ends(key, &["recipient", "recipients", "bcc"]) => Role::Recipient,
        _ if addresses(key, ADDRESSEES) => Role::Recipient,
        _ if ends(key, &["url", "urls", "uri", "uris"]) => Role::Url,
        _ if ends(key, &["endpoint", "href", "link", "webhook"]) => Role::Endpoint,
        _ if ends(key, &["host", "hostname", "domain"]) => Role::Host,
        _ if ends(key, &["sql"]) => Role::Sql,
        _ if ends(key, &["query", "statement"]) => Role::MaybeSql,
        _ if ends(key, &["command"]) => Role::Command,
        _ if key.split('_').any(|word| SENDERS.contains(&word)) => Role::Sender,
        _ if people(key) => Role::MaybeRecipient,
        _ => Role::Plain,
    }
}

/// Words of keys that say who sends.
const SENDERS: &[&str] = &[
    "from",
    "sender",
    "reply",
    "return",
    "author",
    "organizer",
    "owner",
    "signature",
    "footer",
    "login",
    "auth",
];
/// What addressees are called, whatever else the key says of them: `cc_emails`, `guest_invitees`.
const ADDRESSEES: &[&str] = &[
    "cc",
    "bcc",
    "rcpt",
    "rcpts",
    "recipient",
    "recipients",
    "receiver",
    "receivers",
    "addressee",
    "addressees",
    "invitee",
    "invitees",
    "attendee",
    "attendees",
    "mailto",
];
/// People who are ones where something is sent.
const PEOPLE: &[&str] = &[
    "emails",
    "phones",
    "users",
    "usernames",
    "members",
    "contacts",
    "guests",
    "participants",
    "subscribers",
    "people",
    "followers",
    "watchers",
    "handles",
    "friends",
    "customers",
    "employees",
    "channels",
    "copies",
];
/// One of them.
const PERSON: &[&str] = &[
    "user",
    "member",
    "contact",
    "guest",
    "participant",
    "subscriber",
    "person",
    "follower",
    "watcher",
    "friend",
    "customer",
    "employee",
    "phone",
    "mail",
    "email",
];
/// How addressees are written down.
const FORMS: &[&str] =
    &["id", "ids", "list", "lists", "email", "emails", "address", "addresses", "users", "array"];

fn last_word(key: &str) -> &str {
    key.rsplit('_').next().unwrap_or_default()
}

/// Whether `key` calls its value one of `words`, alone or with the form that they have.
fn addresses(key: &str, words: &[&str]) -> bool {
    let formed = |(head, form)| FORMS.contains(&form) && words.contains(&last_word(head));
    words.contains(&last_word(key)) || key.rsplit_once('_').is_some_and(formed)
}

/// Whether `key` calls its value several people.
fn people(key: &str) -> bool {
    let several = |(head, form): (&str, &str)| {
        FORMS.contains(&form) && form.ends_with(['s', 't', 'y']) && PERSON.contains(&last_word(head))
    };
    addresses(key, PEOPLE) || key.rsplit_once('_').is_some_and(several)
}

/// Whether a list under this key tells something about one thing, and not several things.
pub(super) fn describes(name: &str) -> bool {
    let plain = plain(name);
    let plain = std::str::from_utf8(&plain).unwrap_or_default();
    const PARTS: &[&str] = &[
        "tags",
        "labels",
        "fields",
        "columns",
        "cells",
        "values",
        "value",
        "row",
        "keywords",
        "properties",
        "options",
        "coordinates",
        "points",
        "data",
        "args",
        "argv",
        "arguments",
        "params",
        "parameters",
        "history",
        "messages",
        "headers",
        "schema",
        "permissions",
        "scopes",
        "steps",
        "choices",
        "sections",
        "blocks",
        "chunks",
        "lines",
        "content",
        "embedding",
        "vector",
        "tokens",
        "colors",
        "sort",
        "order_by",
        "group_by",
        "select",
        "include",
        "exclude",
        "json",
        "payload",
        "form",
        "body",
        "csv",
        "cookies",
        "expand",
        "attributes",
        "children",
    ];
    ends(plain, PARTS)
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
    if matches!(key, "id_list" | "ids_list" | "idlist" | "list_of_ids" | "id_array")
        || ["_id_list", "_ids_list", "_id_array"].iter().any(|tail| key.ends_with(tail))
    {
        return Id::Many;
    }
    if let Some(head) = key.strip_suffix("_ids").or_else(|| key.strip_suffix("_uuids")) {
        return if context(head) { Id::No } else { Id::Many };
    }
    match key.strip_suffix("_id").or_else(|| key.strip_suffix("_uuid")) {
        Some(head) if !context(head) => Id::One,
        _ => Id::No,
    }
}
