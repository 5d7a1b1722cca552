//! The tool catalogue: what an action is, told from how it was asked for.
//!
//! Both forms of a check go the same way, so that every enforcement point classifies alike: the operator's
//! rule for the tool, then the verb in the name, then what the payload or arguments say. Arguments can make
//! an action graver than its name, never more harmless; the one exception is SQL given to a tool whose name
//! says only that it runs SQL, since there the SQL is the action.

mod builtin;
mod config;
mod details;
mod keys;
mod plan;
mod recipients;
mod refused;
mod selectors;
mod shell;
mod sql;
mod url;
mod verb;

pub use config::{CatalogueConfig, CatalogueError, TargetInfo, ToolRule};
pub use refused::Refused;

pub(crate) use plan::MAX_EFFECTS;

use crate::{
    action::{Action, Category, Count, Domains, Effect},
    check::{Check, limits},
    json,
    name::Name,
};
use config::{Part, Rule, Targets};
use details::{Findings, Stated};
use plan::{OfSql, Plan};
use serde_json::Value;
use smallvec::SmallVec;
use sql::Rows;
use std::{collections::HashSet, fmt};
use verb::{Verb, Verbs};

/// The compiled catalogue. Immutable; share it freely.
pub struct Catalogue {
    rules: Vec<Rule>,
    targets: Targets,
    verbs: Verbs,
}

/// A check as the catalogue understands it.
#[derive(Debug)]
pub struct Understood<'c> {
    /// The action.
    pub action: Action,
    /// The SQL that it runs.
    pub sql: SmallVec<[&'c str; 1]>,
    /// The database that `sql` runs on, where the resource, the operator's rule or the tool's name says it.
    /// One that only an argument names is not told: nobody vouches for it.
    pub database: Option<String>,
    /// Whether the number of records that `sql`, or else the named records, change is that of the whole
    /// action: nothing beside them is graver, and nothing says that it is more.
    pub countable: bool,
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalogue")
            .field("rules", &self.rules)
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}

impl Default for Catalogue {
    /// Without operator rules.
    fn default() -> Self {
        Self { rules: Vec::new(), targets: Targets::default(), verbs: Verbs::new() }
    }
}

impl Catalogue {
    /// Compiles the operator's part.
    ///
    /// # Errors
    /// With every mistake in it, each with its place and the next step.
    pub fn new(config: &CatalogueConfig) -> Result<Self, Vec<CatalogueError>> {
        let (rules, targets) = config::compile(config)?;
        Ok(Self { rules, targets, verbs: Verbs::new() })
    }

    /// What `check`, made by `agent`, is.
    ///
    /// # Errors
    /// When the check is not one: see [`Refused`].
    pub fn classify(&self, check: &Check, agent: Name) -> Result<Action, Refused> {
        self.understand(check, agent).map(|understood| understood.action)
    }

    /// The same, with what of it a target could be asked about.
    ///
    /// # Errors
    /// As [`Catalogue::classify`].
    pub fn understand<'c>(&self, check: &'c Check, agent: Name) -> Result<Understood<'c>, Refused> {
        self.run(check, agent, &mut Notes(None))
    }

    /// The same, with one sentence a step on why.
    ///
    /// # Errors
    /// As [`Catalogue::classify`].
    pub fn explain(&self, check: &Check, agent: Name) -> Result<(Action, Vec<String>), Refused> {
        let mut notes = Notes(Some(Vec::new()));
        let action = self.run(check, agent, &mut notes)?.action;
        Ok((action, notes.0.unwrap_or_default()))
    }

    fn run<'c>(&self, check: &'c Check, agent: Name, notes: &mut Notes) -> Result<Understood<'c>, Refused> {
        let asked = Asked::of(check)?;
        let rule =
            self.rules.iter().find(|rule| rule.tool.iter().any(|pattern| pattern.matches(&asked.name)));
        if let Some(rule) = rule {
            let patterns: Vec<_> = rule.tool.iter().map(ToString::to_string).collect();
            notes.say(|| format!("the catalogue's rule for `{}` applies", patterns.join("`, `")));
        }
        let known = if rule.is_none() { builtin::of(&asked) } else { None };
        let builtin = known.filter(|known| known.explains(&asked));
        let named = rule.and_then(|r| r.action.as_ref()).map(|(text, _)| text.as_str());
        let named = named.or_else(|| builtin.and_then(|b| b.verb)).unwrap_or(asked.text);
        let mut verb = self.verbs.of(named);
        notes.verb(named, &verb);
        if let Some(category) = rule.and_then(|r| r.category) {
            verb.category = category;
            verb.yields_to_sql = false;
            notes.say(|| format!("the operator calls it {}", category.as_str()));
        }
        if let Some(known) = builtin {
            verb.category = known.category;
            verb.yields_to_sql = false;
            notes.say(|| {
                format!("with these arguments it is Claude Code's tool, which is {}", known.category.as_str())
            });
        } else if let Some(known) = known {
            verb.category = verb.category.max(known.category);
            notes.say(|| "it has arguments that Claude Code's tool of this name does not have".into());
        }
        // A tool of a database sends texts to it, whatever it calls them.
        verb.database |= asked.tool && self.targets.takes_sql(&asked.name);
        let settled = builtin.is_some() || rule.is_some_and(|r| r.category.is_some());
        let mut findings =
            asked.details.map(|d| details::read(d, rule, verb.http, verb.queries())).unwrap_or_default();
        asked.counts(&findings)?;
        if let Some(known) = builtin {
            known.settle(&mut findings);
        }
        let resource = match builtin.and_then(|known| known.file(&asked)) {
            Some(file) => file?,
            None => self.resource(&asked, rule, &findings, notes)?,
        };
        if let Some(text) = check.resource.as_deref()
            && url::is_address(text)
        {
            findings.hosts.url_argument(text);
        }

        let sql = statements(check, &findings, &verb, settled);
        let mut plan = Plan::new(self, &asked, rule, resource);
        let replaced = verb.yields_to_sql && !sql.is_empty() && asked.tool;
        if replaced {
            notes.say(|| "its name says only that it runs SQL: what the SQL does counts".into());
        } else {
            plan.named(&verb)?;
        }
        if let Some(known) = known {
            plan.done_to(known.files(&asked)?, known.category)?;
        }
        if !settled {
            plan.raise(&findings, &verb, notes)?;
        }
        let OfSql { gravest: sql_gravest, rows, database } =
            plan.run_sql(&sql, &findings, replaced, notes)?;
        let (declared, declared_ids) = asked.declared(&findings);
        // A tool's arguments are what the model wrote: a number among them says nothing about how many rows
        // its own SQL or filter selects, unless the operator has said which argument states it.
        let unvouched = asked.tool
            && rule.is_none_or(|r| r.records.is_none())
            && (rows == Some(Rows::Selected)
                || (plan.sweeps() && asked.details.is_some_and(selectors::in_bulk)));
        let believed = if unvouched { asked.record_ids } else { declared };
        // Nobody has said which of a tool's arguments are records: a long list beside an id may be.
        let unsaid = asked.tool && rule.is_none_or(|r| r.records.is_none()) && plan.sweeps();
        let believed = believed.map(|n| if unsaid { n.max(findings.things) } else { n });
        let records = records(&plan.effects, sql_gravest, rows, believed, &findings);
        let outbound = plan.effects.iter().any(|e| e.category == Category::Outbound);
        let recipients = addressed(outbound, &findings);
        notes.say(|| format!("it affects {records} records and addresses {recipients} recipients"));
        let unclear = unclear(&findings);
        let domains = findings.hosts.found;
        notes.domains(&domains);
        let systems = plan.systems(&domains);
        let Plan { effects, resource, .. } = plan;
        let gravest = effects.iter().rev().max_by_key(|e| e.category);
        let environment = effects.iter().map(|e| e.environment).max().unwrap_or_default();
        let category = gravest.map_or(Category::Write, |e| e.category);
        let covered = match sql_gravest {
            Some(of_sql) => of_sql >= category,
            None => effects.iter().all(|e| match e.category {
                Category::Read | Category::Outbound => true,
                Category::Write | Category::Delete => e.resource == resource,
                Category::Execute | Category::Admin => false,
            }),
        };
        // What runs code or changes structure no count tells; all rows of a table are as countable as some.
        let opaque = effects.iter().any(|e| matches!(e.category, Category::Execute | Category::Admin));
        let stated = believed.is_some();
        let countable =
            !unclear && if opaque { stated && rows != Some(Rows::Unbounded) } else { stated || covered };
        let resource = gravest.map_or(resource, |e| e.resource.clone());
        let action = Action {
            agent,
            session: check.session.clone(),
            action: asked.name.clone(),
            resource,
            category,
            environment,
            effects,
            records,
            declared,
            declared_ids,
            systems,
            recipients,
            domains,
            payload_bytes: asked.details.map_or(0, size),
            tool: asked.tool.then_some(asked.name),
        };
        Ok(Understood { action, sql, database, countable })
    }

    fn resource(
        &self,
        asked: &Asked<'_>,
        rule: Option<&Rule>,
        findings: &Findings<'_>,
        notes: &mut Notes,
    ) -> Result<Name, Refused> {
        if let Some(text) = asked.resource {
            if let Some(url) = url::as_resource(text) {
                return Ok(url);
            }
            return Name::new(text).map_err(|error| Refused::Name { field: "resource", error });
        }
        if let Some(parts) = rule.and_then(|r| r.resource.as_ref()) {
            let mut text = String::new();
            for (at, part) in parts.iter().enumerate() {
                // `crm.*`: one of them, and nobody can say which.
                let may_be_any = at + 1 == parts.len() && text.ends_with('.');
                match part {
                    Part::Text(literal) => text.push_str(literal),
                    Part::Argument(path) => match asked.details.and_then(|d| details::find(d, path)) {
                        // A quoted table is another text than the one that policies name, and the same table.
                        Some(Value::String(value)) if may_be_any && names_several(value) => text.push('*'),
                        Some(Value::String(value))
                            if value.contains(['"', '\'', '`', '[', ']']) || names_several(value) =>
                        {
                            return Err(Refused::QuotedArgument {
                                tool: asked.name.to_string(),
                                argument: path.clone(),
                            });
                        }
                        // `./contacts` and `contacts/` are `contacts` to whatever takes paths.
                        Some(Value::String(value)) if value.contains('/') && !value.contains("://") => {
                            text.push_str(&builtin::shortest(value.trim()));
                        }
                        Some(Value::String(value)) if !value.trim().is_empty() => text.push_str(value.trim()),
                        Some(Value::Number(value)) => text.push_str(&value.to_string()),
                        _ => {
                            return Err(Refused::TemplateArgument {
                                tool: asked.name.to_string(),
                                argument: path.clone(),
                            });
                        }
                    },
                }
            }
            notes.say(|| format!("the rule makes its resource `{}`", text.escape_debug()));
            return url::as_resource(&text).map_or_else(|| Name::new(&text).map_err(Refused::InnerName), Ok);
        }
        if let Some(url) = findings.url.and_then(url::as_resource) {
            notes.say(|| format!("its resource is the URL {url}"));
            return Ok(url);
        }
        Ok(asked.name.clone())
    }
}

/// A check whose form is known to be one.
struct Asked<'a> {
    /// The action or tool as it was written: capitals separate words.
    text: &'a str,
    name: Name,
    tool: bool,
    resource: Option<&'a str>,
    details: Option<&'a Value>,
    record_ids: Option<u64>,
}

impl<'a> Asked<'a> {
    fn of(check: &'a Check) -> Result<Self, Refused> {
        if check.tool.is_some() {
            for (sent, field) in [
                (check.action.is_some(), "action"),
                (check.resource.is_some(), "resource"),
                (check.payload.is_some(), "payload"),
                (check.filter.is_some(), "where"),
            ] {
                if sent {
                    return Err(Refused::BothForms(field, "tool"));
                }
            }
        } else if check.arguments.is_some() && check.action.is_some() {
            return Err(Refused::BothForms("arguments", "action"));
        }
        let tokens = [("session", &check.session), ("idempotency_key", &check.idempotency_key)];
        let tokens = tokens.map(|(field, text)| (field, text, limits::TOKEN_BYTES));
        for (field, text, limit) in
            tokens.into_iter().chain([("statement", &check.statement, limits::STATEMENT_BYTES)])
        {
            let bytes = text.as_ref().map_or(0, String::len);
            if bytes > limit {
                return Err(Refused::TooLong { field, bytes, limit });
            }
        }
        let (field, text, tool) = match (&check.action, &check.tool) {
            (Some(action), _) => ("action", action, false),
            (None, Some(tool)) => ("tool", tool, true),
            (None, None) => return Err(Refused::NoForm),
        };
        let name = Name::new(text).map_err(|error| Refused::Name { field, error })?;
        if !tool && check.resource.is_none() {
            return Err(Refused::NoResource);
        }
        let details = check.details().filter(|details| !details.is_null());
        if tool
            && let Some(other) = details
            && !other.is_object()
        {
            return Err(Refused::BadArguments(kind(other)));
        }
        let record_ids = check.record_ids.as_deref().map(distinct_ids).transpose()?;
        if let Some(filter) = &check.filter {
            selectors::of_check(check, filter)?;
        }
        Ok(Self { text, name, tool, resource: check.resource.as_deref(), details, record_ids })
    }

    /// In the explicit form counts are ours to define, so a wrong one is an error of the caller. A tool's
    /// argument of the same name may be anything, and then tells nothing.
    fn counts(&self, findings: &Findings<'_>) -> Result<(), Refused> {
        let stated =
            [("record_count", &findings.record_count), ("recipient_count", &findings.recipient_count)];
        for (field, stated) in stated {
            if let (false, Some(Stated::Bad(found))) = (self.tool, stated) {
                return Err(Refused::BadCount { field, found: found.clone() });
            }
        }
        Ok(())
    }

    /// The largest number of records that the caller states, and whether it only gave so many ids.
    fn declared(&self, findings: &Findings<'_>) -> (Option<u64>, bool) {
        let counted = findings.record_count.as_ref().and_then(Stated::number);
        let declared = [self.record_ids, counted, findings.listed].into_iter().flatten().max();
        (declared, counted.is_none() && self.record_ids.is_some() && self.record_ids == declared)
    }
}

fn distinct_ids(ids: &[Value]) -> Result<u64, Refused> {
    if ids.len() > limits::RECORD_IDS {
        return Err(Refused::TooManyIds(ids.len()));
    }
    let mut distinct: HashSet<(bool, std::borrow::Cow<'_, str>)> = HashSet::with_capacity(ids.len());
    for (at, id) in ids.iter().enumerate() {
        distinct.insert(match id {
            Value::String(text) => (true, text.into()),
            Value::Number(number) => (false, number.to_string().into()),
            other => return Err(Refused::BadId(at, kind(other))),
        });
    }
    Ok(u64::try_from(distinct.len()).unwrap_or(u64::MAX))
}

/// Whether what should be one name may stand for several, or go on as something else: `contacts,leads`, `c*`,
/// `contacts--`. Quotes are looked at elsewhere.
fn names_several(text: &str) -> bool {
    !text.contains(['"', '\'', '`', '[', ']']) && (text.contains([',', ';', '*']) || text.contains("--"))
}

/// What a value is, for a message.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The texts that are SQL. Where the operator has settled what the tool does, only those that are named.
fn statements<'a>(
    check: &'a Check,
    findings: &Findings<'a>,
    verb: &Verb,
    settled: bool,
) -> SmallVec<[&'a str; 1]> {
    let mut texts: SmallVec<[&str; 1]> = check.statement.as_deref().into_iter().collect();
    let runs_queries =
        verb.database && (verb.yields_to_sql || verb.word.as_ref().is_some_and(|w| w.as_str() == "query"));
    let stray = |sort: details::Sql| matches!(sort, details::Sql::Stray | details::Sql::StrayProse);
    let only_stray = texts.is_empty() && findings.sql.iter().all(|(_, sort)| stray(*sort));
    for (at, (text, sort)) in findings.sql.iter().enumerate() {
        let effort = if at >= sql::MAX_TEXTS {
            sql::Effort::Words
        } else if verb.database || verb.yields_to_sql || verb.takes_queries {
            sql::Effort::Lenient
        } else {
            sql::Effort::Strict
        };
        let is_sql = match sort {
            details::Sql::Ruled => true,
            details::Sql::Named => !settled,
            // In a tool that runs queries a text that is no SQL at all may be another language's deletion.
            details::Sql::Maybe => {
                !settled
                    && !verb.searches_texts
                    && (sql::looks_like(text, effort)
                        || (runs_queries && (sql::may_act(text) || details::is_opaque(text))))
            }
            details::Sql::Stray => !settled && sql::looks_like(text, effort),
            // Beside the SQL that the tool takes, a title is a title unless it could run.
            details::Sql::StrayProse => {
                !settled
                    && sql::looks_like(
                        text,
                        if effort == sql::Effort::Words { effort } else { sql::Effort::Strict },
                    )
                    && (only_stray || sql::parses(text))
            }
        };
        // What a client runs and what its tool was given is one statement, not two.
        if is_sql && texts.first() != Some(text) {
            texts.push(text);
        }
    }
    texts
}

fn records(
    effects: &[Effect],
    sql_gravest: Option<Category>,
    rows: Option<Rows>,
    declared: Option<u64>,
    findings: &Findings<'_>,
) -> Count {
    let changes = |category: Category| !matches!(category, Category::Read | Category::Outbound);
    if !effects.iter().any(|e| changes(e.category)) {
        return Count::Known(declared.unwrap_or(0));
    }
    if unclear(findings) || rows == Some(Rows::Unbounded) {
        return Count::Unknown;
    }
    let gravest = effects.iter().map(|e| e.category).max();
    match (rows, declared) {
        // The statement says it all: nothing beside it is graver.
        (Some(Rows::Known(n)), declared) if sql_gravest.is_some_and(changes) && sql_gravest >= gravest => {
            Count::Known(n.max(declared.unwrap_or(0)))
        }
        (Some(Rows::Known(n)), Some(declared)) => Count::Known(n.max(declared)),
        (_, Some(declared)) => Count::Known(declared),
        (_, None) => Count::Unknown,
    }
}

/// Whether something says that it is more than any number could tell.
fn unclear(findings: &Findings<'_>) -> bool {
    findings.all || matches!(findings.record_count, Some(Stated::Bad(_)))
}

fn addressed(outbound: bool, findings: &Findings<'_>) -> Count {
    let stated = findings.recipient_count.as_ref();
    if !outbound {
        return Count::Known(stated.and_then(Stated::number).unwrap_or(0).max(findings.recipients.mailboxes));
    }
    let many = findings.recipients.many || findings.maybe_recipients.many || findings.calls_everybody;
    if many || matches!(stated, Some(Stated::Bad(_))) {
        return Count::Unknown;
    }
    let found = findings.recipients.together(&findings.maybe_recipients);
    match (found, stated.and_then(Stated::number)) {
        (0, None) => Count::Unknown,
        (0, Some(stated)) => Count::Known(stated),
        (_, stated) => {
            let strays = findings.stray_recipients.others(&findings.recipients, &findings.maybe_recipients);
            Count::Known(found.saturating_add(strays).max(stated.unwrap_or(0)))
        }
    }
}

fn size(details: &Value) -> u64 {
    let mut bytes = Vec::with_capacity(128);
    json::write_canonical(details, &mut bytes);
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// What is said about each step, for whoever asks why. Nothing is built where nobody does.
struct Notes(Option<Vec<String>>);

impl Notes {
    fn say(&mut self, sentence: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.0 {
            notes.push(sentence());
        }
    }

    fn verb(&mut self, named: &str, verb: &Verb) {
        self.say(|| {
            let named = named.escape_debug();
            match (&verb.word, verb.canonical) {
                (Some(word), Some(canonical)) => format!(
                    "`{named}`: its verb is `{word}`, a form of {}, so it is {}",
                    canonical.as_str(),
                    verb.category.as_str()
                ),
                (None, Some(_)) => {
                    format!("`{named}` makes an HTTP request: a read until its method says more")
                }
                _ => format!("`{named}` has no verb that is known, so it counts as a write of unknown size"),
            }
        });
    }

    fn sql(&mut self, analysis: &sql::Analysis) {
        self.say(|| {
            let effects: Vec<String> = analysis
                .effects
                .iter()
                .map(|e| {
                    let table = e.table.as_deref().unwrap_or("an unnamed object").escape_debug();
                    format!("{} on {table} ({})", e.verb, e.category.as_str())
                })
                .collect();
            let rows = match analysis.rows {
                Rows::Known(n) => format!("{n} row(s) changed at most"),
                Rows::Selected => "its condition decides how many rows".into(),
                Rows::Unbounded => "an unknown number of rows, whatever is declared".into(),
            };
            let why =
                analysis.unparsed.map_or(String::new(), |why| format!("; judged by its words, since {why}"));
            format!("the SQL does: {}; {rows}{why}", effects.join(", "))
        });
    }

    fn domains(&mut self, domains: &Domains) {
        if !domains.known.is_empty() || domains.unknown {
            self.say(|| {
                let hosts: Vec<_> = domains.known.iter().map(ToString::to_string).collect();
                let rest = if domains.unknown { ", and some that cannot be understood" } else { "" };
                format!("it reaches the hosts: {}{rest}", hosts.join(", "))
            });
        }
    }
}
