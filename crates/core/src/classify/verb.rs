//! What the words of a name say: `mcp__crm__purge_contacts` deletes.

use crate::{action::Category, name::Name};
use smallvec::SmallVec;
use std::collections::HashMap;

/// What a verb comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Canonical {
    Read,
    Create,
    Update,
    Delete,
    Send,
    Execute,
    Grant,
    Revoke,
    Configure,
}

impl Canonical {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Send => "send",
            Self::Execute => "execute",
            Self::Grant => "grant",
            Self::Revoke => "revoke",
            Self::Configure => "configure",
        }
    }

    pub(super) const fn category(self) -> Category {
        match self {
            Self::Read => Category::Read,
            Self::Create | Self::Update => Category::Write,
            Self::Delete => Category::Delete,
            Self::Send => Category::Outbound,
            Self::Execute => Category::Execute,
            Self::Grant | Self::Revoke | Self::Configure => Category::Admin,
        }
    }
}

use Canonical::{Configure, Create, Delete, Execute, Grant, Read, Revoke, Send, Update};

/// Words that are verbs wherever they stand.
const STRONG: &[(Canonical, &str)] = &[
    (
        Read,
        "get list ls read search find fetch show describe lookup view count retrieve select scan browse \
         inspect check peek tail head stat download load summarize summarise analyze analyse compare verify \
         validate preview poll glob grep cat enumerate discover locate explain listdir lookup calculate \
         compute convert translate extract parse detect crawl scrape navigate screenshot wait think sleep \
         hover whoami exists is has estimate autocomplete suggest recommend diff aggregate observe look see \
         query_all ask resolve_library export traverse walk visit",
    ),
    (
        Create,
        "create insert add register append upload import clone duplicate schedule reserve enqueue initialize \
         initialise init ingest store generate mkdir touch attach populate seed make compose load_into",
    ),
    (
        Update,
        "update edit modify patch upsert write save put change rename mv replace assign unassign reopen \
         merge move unpin untag pause resume sync transition transfer refund pay reorder restore revert \
         rollback reset archive unarchive approve reject complete cancel subscribe unsubscribe follow \
         unfollow increment decrement adjust apply mutate rewrite overwrite set click fill type drag drop_file \
         checkout buy purchase withdraw deposit submit close toggle rearrange lock unlock \
         acknowledge ack snooze search_replace find_replace diff_apply link unstar mark cp copy reassign reschedule check_in \
         check_out",
    ),
    (
        Delete,
        "delete drop remove purge destroy erase truncate wipe rm rmdir del discard expunge terminate uninstall \
         trash prune deregister unregister nuke obliterate shred evict cleanup unlink dismantle decommission \
         bulkdelete softdelete harddelete rmtree flushall flushdb",
    ),
    (
        Send,
        "send notify publish broadcast reply forward dispatch deliver transmit announce retweet respond resend \
         webhook dm telephone dial sendmail push_notification",
    ),
    (
        Execute,
        "execute exec eval spawn deploy invoke kill restart reboot shutdown install trigger launch powershell \
         redeploy rerun",
    ),
    (Grant, "grant authorize authorise permit"),
    (Revoke, "revoke"),
    (
        Configure,
        "alter configure enable disable invite promote demote impersonate elevate provision deprovision rotate \
         suspend unsuspend activate deactivate ban unban escalate assume migrate reconfigure",
    ),
];

/// Words that are as often nouns: verbs where they come first, or where nothing better is there.
const WEAK: &[(Canonical, &str)] = &[
    (Read, "query watch filter review sample audit analytics"),
    (Create, "new record log comment import fork book draft open note index"),
    (Update, "commit tag label pin star merge report process sort link resolve pay_out charge order press"),
    (Delete, "clear flush empty void clean"),
    (Send, "email mail sms tweet message post call share emit push alert page forward whatsapp fax"),
    (
        Execute,
        "run shell bash sh zsh cmd command terminal script build test compile start stop interpreter repl \
         console job python computer evaluate",
    ),
    (Grant, "allow"),
    (Revoke, "deny block"),
];

/// Whole names of tools that look, without a verb that says so. Nothing may be added to them: `time_entry` is
/// no time.
const EVERYDAY: &str = "weather current_weather weather_forecast forecast openweathermap calculator \
    current_time time current_date date datetime current_datetime now git_status git_log git_diff \
    terraform_plan tofu_plan plan sequential_thinking sequentialthinking thinking ping help version \
    server_version status server_status health healthcheck health_check uptime";

/// What a tool searches when what it is asked for is language, whatever it looks like.
const TEXTS: &[&str] = &[
    "code",
    "web",
    "internet",
    "google",
    "bing",
    "brave",
    "tavily",
    "duckduckgo",
    "exa",
    "perplexity",
    "github",
    "gitlab",
    "docs",
    "doc",
    "documentation",
    "wiki",
    "wikipedia",
    "arxiv",
    "pubmed",
    "knowledge",
    "articles",
    "pages",
    "issues",
    "commits",
    "repositories",
    "repos",
    "files",
    "messages",
    "emails",
    "gmail",
    "slack",
    "notion",
    "confluence",
    "stackoverflow",
    "news",
    "papers",
    "videos",
    "youtube",
    "images",
];

/// Objects that make a change of them a matter of rights, whatever the verb.
fn is_right(word: &str) -> bool {
    matches!(
        word,
        "permission"
            | "permissions"
            | "privilege"
            | "privileges"
            | "role"
            | "roles"
            | "acl"
            | "acls"
            | "iam"
            | "password"
            | "passwords"
            | "credential"
            | "credentials"
            | "mfa"
            | "collaborator"
            | "collaborators"
    )
}

/// Words of the longest name that are looked at; a name has at most 512 bytes.
const MAX_WORDS: usize = 128;

/// A word of a name in lower case, and the part of the name (between `__`, `.`, `/`, `:`) that it stands in.
pub(super) struct Word {
    text: SmallVec<[u8; 24]>,
    segment: usize,
}

impl Word {
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

/// Splits at everything that is no letter and before capitals that start a word (`HTTPGet` → `http`, `get`).
/// `text` has not been lower-cased yet.
pub(super) fn words(text: &str) -> SmallVec<[Word; 6]> {
    let mut out: SmallVec<[Word; 6]> = SmallVec::new();
    let mut segment = 0;
    let mut start: Option<usize> = None;
    let mut previous = ' ';
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, n)| *n);
        if c.is_alphabetic() || !c.is_ascii() {
            // ASCII only: other capitals may become ASCII letters in lower case and are part of a word then.
            let hump = c.is_ascii_uppercase()
                && (previous.is_lowercase()
                    || (previous.is_uppercase() && next.is_some_and(char::is_lowercase)));
            if hump && let Some(from) = start.take() {
                push(&mut out, text, from, at, segment);
            }
            start.get_or_insert(at);
        } else {
            if let Some(from) = start.take() {
                push(&mut out, text, from, at, segment);
            }
            if matches!(c, '.' | '/' | ':') || (c == '_' && previous == '_') {
                segment += 1;
            }
        }
        previous = c;
        if out.len() >= MAX_WORDS {
            return out;
        }
    }
    if let Some(from) = start {
        push(&mut out, text, from, text.len(), segment);
    }
    out
}

fn push(out: &mut SmallVec<[Word; 6]>, text: &str, from: usize, to: usize, segment: usize) {
    if let Some(original) = text.get(from..to) {
        let lower = if original.is_ascii() {
            let mut lower: SmallVec<[u8; 24]> = SmallVec::from_slice(original.as_bytes());
            lower.make_ascii_lowercase();
            lower
        } else {
            // As `Name` does: the Kelvin sign is a `k`.
            SmallVec::from_slice(original.to_lowercase().as_bytes())
        };
        out.push(Word { text: lower, segment });
    }
}

/// What a name was understood to do.
#[derive(Clone, Debug)]
pub(super) struct Verb {
    /// The verb word as it stands in the name, where one was found.
    pub(super) word: Option<Name>,
    /// What it comes down to, where one was found.
    pub(super) canonical: Option<Canonical>,
    pub(super) category: Category,
    /// The verb is one that says little about what is done (`run`, `execute`), or there is none, and the name
    /// speaks of databases: SQL in the arguments says it better.
    pub(super) yields_to_sql: bool,
    /// The name speaks of HTTP (`http_request`, `requests_post`).
    pub(super) http: bool,
    /// The name speaks of databases.
    pub(super) database: bool,
    /// It looks, and what it is given is a query by its name: `read_query`.
    pub(super) takes_queries: bool,
    /// It searches texts, so that what it is asked for is language: `github_search_code`.
    pub(super) searches_texts: bool,
}

impl Verb {
    /// The tool sends texts to a database. One that writes records (`create_db_record`) holds texts in them.
    pub(super) fn queries(&self) -> bool {
        (self.database && self.category == Category::Read)
            || self.yields_to_sql
            || self.takes_queries
            || self.word.as_ref().is_some_and(|w| w.as_str() == "query")
    }
}

struct Entry {
    name: Name,
    canonical: Canonical,
    strong: bool,
}

/// Every verb with its interned name, so that classifying allocates nothing for them.
pub(super) struct Verbs {
    entries: HashMap<&'static str, Entry, foldhash::fast::RandomState>,
    canonical: HashMap<&'static str, Name, foldhash::fast::RandomState>,
}

impl Verbs {
    pub(super) fn new() -> Self {
        let mut entries = HashMap::default();
        let mut canonical = HashMap::default();
        let lists = WEAK.iter().map(|l| (l, false)).chain(STRONG.iter().map(|l| (l, true)));
        for ((meaning, list), strong) in lists {
            for word in list.split_whitespace() {
                if let Ok(name) = Name::new(word) {
                    entries.insert(word, Entry { name, canonical: *meaning, strong });
                }
            }
        }
        for meaning in [Read, Create, Update, Delete, Send, Execute, Grant, Revoke, Configure] {
            if let Ok(name) = Name::new(meaning.as_str()) {
                canonical.insert(meaning.as_str(), name);
            }
        }
        Self { entries, canonical }
    }

    /// The interned name of a verb; a fresh one where it is not in the list.
    pub(super) fn name(&self, word: &str) -> Option<Name> {
        self.canonical
            .get(word)
            .or_else(|| self.entries.get(word).map(|e| &e.name))
            .cloned()
            .or_else(|| Name::new(word).ok())
    }

    /// What a name does. The first word of its last part is its verb, if it is one (`list_deleted_users`
    /// reads, whatever was deleted). Else the gravest of the verbs in it: `user_delete`, `crm_purge_all`.
    /// Nouns that could be verbs (`email`, `run`) count only where nothing better is there.
    ///
    /// A name without any known verb is a write: it may do anything, so it is never a read; and it is not
    /// called an execution, so that policies against running code do not stop every unknown tool.
    pub(super) fn of(&self, text: &str) -> Verb {
        let words = words(text);
        let has = |list: &[&str]| words.iter().any(|w| list.contains(&w.as_str()));
        let http = has(&["http", "https", "requests", "curl", "wget"])
            || (has(&["api"]) && has(&["request", "call"]));
        let database = words.iter().any(|w| is_database(w.as_str()));
        let about_sql = database
            || words.iter().any(|w| matches!(w.as_str(), "query" | "queries" | "statement" | "statements"));
        let last = words.last().map_or(0, |w| w.segment);
        let own: SmallVec<[&str; 6]> = words.iter().filter(|w| w.segment == last).map(Word::as_str).collect();
        // Every word of it is a verb of something else.
        let logs = own.as_slice() == ["git", "log"];
        let everyday = || {
            let name = own.join("_");
            EVERYDAY.split_whitespace().any(|known| known == name).then(|| Name::new(&name).ok()).flatten()
        };
        let chosen = self
            .choose(words.iter().filter(|w| w.segment == last))
            .or_else(|| self.choose(words.iter()))
            .or_else(|| words.iter().filter_map(|w| self.prefix(w.as_str())).max_by_key(|e| gravity(e)));
        let Some(entry) = chosen else {
            // `http_request`: what it does is told by its method, and without one HTTP gets.
            let word = everyday();
            let reads = http || word.is_some();
            return Verb {
                canonical: reads.then_some(Read),
                category: if reads { Category::Read } else { Category::Write },
                yields_to_sql: about_sql && word.is_none(),
                word,
                http,
                database,
                takes_queries: false,
                searches_texts: false,
            };
        };
        if logs && let Some(word) = everyday() {
            return Verb {
                word: Some(word),
                canonical: Some(Read),
                category: Category::Read,
                yields_to_sql: false,
                http,
                database,
                takes_queries: false,
                searches_texts: false,
            };
        }
        let mut category = entry.canonical.category();
        if category == Category::Write && words.iter().any(|w| is_right(w.as_str())) {
            category = Category::Admin;
        }
        Verb {
            word: Some(entry.name.clone()),
            canonical: Some(entry.canonical),
            category,
            yields_to_sql: about_sql && entry.canonical == Execute,
            http,
            database,
            takes_queries: about_sql && !database && category == Category::Read && !has(TEXTS),
            searches_texts: !about_sql
                && matches!(entry.name.as_str(), "search" | "find" | "lookup" | "grep" | "browse")
                && has(TEXTS),
        }
    }

    fn choose<'a>(&self, words: impl Iterator<Item = &'a Word> + Clone) -> Option<&Entry> {
        let entry = |w: &Word| self.entries.get(w.as_str());
        let mut verbs = words.clone().enumerate().filter_map(|(i, w)| entry(w).map(|e| (i, e)));
        let (at, first) = verbs.next()?;
        let gravest_strong =
            || words.clone().filter_map(entry).filter(|e| e.strong).max_by_key(|e| gravity(e));
        // `get_or_create`, `find_and_replace`: both are done.
        let joined = words.clone().any(|w| matches!(w.as_str(), "or" | "and" | "then"));
        if at == 0 && first.strong && !joined {
            // `load_csv_into_table` fills the table.
            if first.name.as_str() == "load"
                && words.clone().any(|w| w.as_str() == "into")
                && let Some(fills) = self.entries.get("load_into")
            {
                return Some(fills);
            }
            // `search_replace` changes what it finds.
            if first.canonical == Read
                && let Some(second) = words.clone().nth(1)
                && let Some(both) = self.entries.get(format!("{}_{}", first.name, second.as_str()).as_str())
            {
                return Some(both);
            }
            return Some(first);
        }
        if let Some(strong) = gravest_strong() {
            return Some(strong);
        }
        if at == 0 && !joined {
            return Some(first);
        }
        words.filter_map(entry).max_by_key(|e| gravity(e))
    }

    /// A grave verb that something is glued to: `deleteuser`. Only grave ones: a wrong guess must not make
    /// anything harmless.
    fn prefix(&self, word: &str) -> Option<&Entry> {
        const GLUED: &[&str] = &[
            "delete", "remove", "purge", "destroy", "truncate", "erase", "send", "execute", "grant", "revoke",
        ];
        let verb = GLUED.iter().find(|verb| word.starts_with(**verb))?;
        self.entries.get(verb)
    }

    /// Whether the first word of a name, e.g. of a field of GraphQL, is a verb that deletes.
    pub(super) fn deletes(&self, name: &str) -> bool {
        let first = words(name).into_iter().next();
        let entry = first.and_then(|word| self.entries.get(word.as_str()));
        entry.is_some_and(|entry| entry.strong && entry.canonical == Delete)
    }

    /// What the word that an argument gives means, e.g. `operation: "delete"`.
    pub(super) fn argument(&self, value: &str) -> Option<Verb> {
        // A few words at most; more are a sentence.
        if value.len() > 64 || value.split_whitespace().nth(3).is_some() {
            return None;
        }
        let verb = self.of(value.trim());
        verb.word.is_some().then_some(verb)
    }
}

fn gravity(entry: &Entry) -> Category {
    entry.canonical.category()
}

fn is_database(word: &str) -> bool {
    matches!(
        word,
        "sql"
            | "db"
            | "database"
            | "databases"
            | "postgres"
            | "postgresql"
            | "pg"
            | "mysql"
            | "mariadb"
            | "sqlite"
            | "bigquery"
            | "snowflake"
            | "redshift"
            | "duckdb"
            | "clickhouse"
            | "mssql"
            | "athena"
            | "trino"
            | "presto"
            | "databricks"
            | "supabase"
            | "neon"
            | "spanner"
            | "cockroachdb"
            | "warehouse"
            | "cypher"
            | "mongo"
            | "mongodb"
            | "cassandra"
            | "cql"
            | "dynamodb"
            | "arangodb"
            | "surrealdb"
            | "planetscale"
            | "oracle"
            | "teradata"
            | "timescale"
            | "hive"
            | "impala"
    )
}

/// The last part of a name: `mcp__crm__delete_contact` → `delete_contact`. None where it is the whole.
pub(super) fn function_name(text: &str) -> Option<&str> {
    // After the last `.`, `/`, `:` or `__`.
    let mut later = None;
    let last = text.bytes().rev().position(|byte| {
        let double = later == Some(b'_') && byte == b'_';
        later = Some(byte);
        double || matches!(byte, b'.' | b'/' | b':')
    })?;
    // Of `__`, the first was found: one more is passed.
    let after = text.len() - last + usize::from(later == Some(b'_'));
    text.get(after..).filter(|tail| !tail.is_empty() && tail.chars().any(char::is_alphabetic))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        words(text).iter().map(|w| w.as_str().to_owned()).collect()
    }

    #[test]
    fn names_fall_into_words() {
        assert_eq!(split("deleteUser"), ["delete", "user"]);
        assert_eq!(split("DeleteUserV2"), ["delete", "user", "v"]);
        assert_eq!(split("HTTPGet"), ["http", "get"]);
        assert_eq!(split("mcp__crm__delete_contact"), ["mcp", "crm", "delete", "contact"]);
        assert_eq!(split("crm.contacts.delete"), ["crm", "contacts", "delete"]);
        assert_eq!(split("s3-delete object/x:y"), ["s", "delete", "object", "x", "y"]);
        assert_eq!(split("__--"), Vec::<String>::new());
        assert_eq!(function_name("mcp__crm__delete_contact"), Some("delete_contact"));
        assert_eq!(function_name("delete_contact"), None);
        assert_eq!(function_name("a/b:c___d_e"), Some("d_e"));
        assert_eq!(function_name("a__b.c_d"), Some("c_d"));
        assert_eq!(function_name("__é"), Some("é"));
        assert_eq!(function_name("a.b__"), None);
        assert_eq!(function_name("a_"), None);
    }
}
