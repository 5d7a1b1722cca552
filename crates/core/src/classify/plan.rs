//! Puts an action's effects together.

use super::{
    Asked, Catalogue, Notes, Refused,
    config::{Rule, name_parts},
    details::{Findings, Method},
    sql::{self, Rows, SqlEffect},
    verb::{self, Canonical, Verb},
};
use crate::{
    action::{Category, Count, Domains, Effect, Environment},
    name::Name,
};
use smallvec::SmallVec;
use std::collections::HashSet;

/// Effects that one action may have; one that has more is refused, since each has to be judged.
pub(crate) const MAX_EFFECTS: usize = 1_024;
/// Operations named in arguments that are looked at.
const MAX_OPERATIONS: usize = 256;

type Names = SmallVec<[Name; 3]>;

pub(super) struct Plan<'a> {
    catalogue: &'a Catalogue,
    asked: &'a Asked<'a>,
    rule: Option<&'a Rule>,
    /// What the action as named is done to.
    pub(super) resource: Name,
    environment: Environment,
    /// The operator's target that the tool's name speaks of (`mcp__shop__query`).
    named_target: Option<String>,
    pub(super) effects: SmallVec<[Effect; 1]>,
    /// A database of which no name is known, or none that somebody vouches for.
    unvouched_database: bool,
}

/// The database that SQL runs on.
struct Database {
    name: String,
    /// Named by an argument that nobody has vouched for: good enough for a resource, not for an environment.
    guessed: bool,
}

/// What an action's SQL does, taken together.
pub(super) struct OfSql {
    pub(super) gravest: Option<Category>,
    pub(super) rows: Option<Rows>,
    /// Where it runs, if somebody vouches for that.
    pub(super) database: Option<String>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        catalogue: &'a Catalogue,
        asked: &'a Asked<'a>,
        rule: Option<&'a Rule>,
        resource: Name,
    ) -> Self {
        let named_target = if asked.tool && !catalogue.targets.is_empty() {
            name_parts(&asked.name).find(|part| catalogue.targets.knows(part)).map(str::to_owned)
        } else {
            None
        };
        let own = catalogue.targets.environment(&resource);
        // A tool is its target's, unless it is about something else.
        let environment = match &named_target {
            Some(target) if resource == asked.name => catalogue.targets.environment(target),
            _ => own,
        };
        Self {
            catalogue,
            asked,
            rule,
            resource,
            environment,
            named_target,
            effects: SmallVec::new(),
            unvouched_database: false,
        }
    }

    /// The names of the action itself: in full, without its namespace, and the operator's.
    fn own_names(&self) -> Names {
        let mut names = Names::new();
        names.push(self.asked.name.clone());
        if let Some(name) = verb::function_name(&self.asked.name).and_then(|name| Name::new(name).ok()) {
            push(&mut names, name);
        }
        if let Some((_, name)) = self.rule.and_then(|r| r.action.as_ref()) {
            push(&mut names, name.clone());
        }
        names
    }

    /// What the name says.
    pub(super) fn named(&mut self, verb: &Verb) -> Result<(), Refused> {
        let mut names = self.own_names();
        names.extend(verb.word.clone().filter(|word| !names.contains(word)));
        if let Some(canonical) = verb.canonical {
            self.push_verb(&mut names, canonical.as_str());
        }
        self.effect(names, verb.category, self.resource.clone(), self.environment)
    }

    /// The files of a tool that is known, beside its resource.
    pub(super) fn done_to(&mut self, files: SmallVec<[Name; 2]>, category: Category) -> Result<(), Refused> {
        for file in files.into_iter().filter(|file| *file != self.resource).collect::<Names>() {
            let environment = self.catalogue.targets.environment(&file);
            self.effect(self.own_names(), category, file, environment)?;
        }
        Ok(())
    }

    /// What the arguments say beside SQL. They make an action graver, never more harmless.
    pub(super) fn raise(
        &mut self,
        findings: &Findings<'_>,
        verb: &Verb,
        notes: &mut Notes,
    ) -> Result<(), Refused> {
        let mut seen = HashSet::new();
        let operations = findings.operations.iter().filter(|text| seen.insert(**text)).take(MAX_OPERATIONS);
        for text in operations {
            if let Some(operation) = self.catalogue.verbs.argument(text)
                && operation.category > verb.category
            {
                notes.say(|| {
                    let text = text.escape_debug();
                    format!("the argument `{text}` makes it {}", operation.category.as_str())
                });
                let mut names = self.own_names();
                names.extend(operation.word.filter(|word| !names.contains(word)));
                if let Some(canonical) = operation.canonical {
                    self.push_verb(&mut names, canonical.as_str());
                }
                self.effect(names, operation.category, self.resource.clone(), self.environment)?;
            }
        }
        let mut mutations =
            findings.sql.iter().map(|(text, _)| *text).filter(|text| is_mutation(text)).peekable();
        if mutations.peek().is_some() && verb.category < Category::Write {
            notes.say(|| "a GraphQL mutation changes something".into());
            self.raised(Canonical::Update)?;
        }
        let deletes = |text: &str| fields(text).any(|field| self.catalogue.verbs.deletes(field));
        if verb.category < Category::Delete && mutations.any(deletes) {
            notes.say(|| "a GraphQL mutation deletes something".into());
            self.raised(Canonical::Delete)?;
        }
        if findings.stores && verb.category < Category::Write {
            notes.say(|| "a stage of its pipeline writes a collection".into());
            self.raised(Canonical::Update)?;
        }
        if findings.command && verb.category < Category::Execute {
            notes.say(|| "a command line in the arguments may do anything".into());
            self.raised(Canonical::Execute)?;
        }
        let reaches = verb.http || findings.url.is_some() || is_url(&self.resource);
        let method = findings.method.filter(|_| reaches);
        let sends = method >= Some(Method::Changes)
            || (verb.http && (findings.body || matches!(verb.category, Category::Write | Category::Delete)));
        if sends && verb.category != Category::Outbound {
            notes.say(|| "the HTTP request changes something on the other side".into());
            self.raised(Canonical::Send)?;
        }
        if method == Some(Method::Deletes) && verb.category < Category::Delete {
            notes.say(|| "its HTTP method is DELETE".into());
            self.raised(Canonical::Delete)?;
        }
        Ok(())
    }

    fn raised(&mut self, canonical: Canonical) -> Result<(), Refused> {
        let mut names = self.own_names();
        self.push_verb(&mut names, canonical.as_str());
        self.effect(names, canonical.category(), self.resource.clone(), self.environment)
    }

    /// What SQL does.
    pub(super) fn run_sql(
        &mut self,
        texts: &[&str],
        findings: &Findings<'_>,
        replaced: bool,
        notes: &mut Notes,
    ) -> Result<OfSql, Refused> {
        let database = self.database(findings);
        let others = self.other_targets(findings);
        for other in &others {
            notes.say(|| {
                format!("an argument names `{}`: it may run there as well", other.name.escape_debug())
            });
        }
        let (mut gravest, mut rows) = (None, None::<Rows>);
        let mut seen: HashSet<SqlEffect> = HashSet::new();
        for analysis in sql::analyse_all(texts) {
            notes.sql(&analysis);
            rows = Some(rows.map_or(analysis.rows, |so_far| so_far.plus(analysis.rows)));
            for effect in analysis.effects {
                gravest = gravest.max(Some(effect.category));
                if seen.insert(effect.clone()) {
                    self.sql(&effect, database.as_ref(), replaced)?;
                    for other in &others {
                        self.sql(&effect, Some(other), replaced)?;
                    }
                }
            }
        }
        // Where it is counted must be where it runs.
        let sure = |database: &Database| !database.guessed && others.is_empty();
        let vouched = database.filter(sure).map(|database| database.name);
        Ok(OfSql { gravest, rows, database: vouched })
    }

    fn sql(
        &mut self,
        effect: &SqlEffect,
        database: Option<&Database>,
        replaced: bool,
    ) -> Result<(), Refused> {
        // An explicit action's name belongs to its own effect: `read` with a DELETE in it is no `read`.
        let mut names = if replaced { self.own_names() } else { Names::new() };
        self.push_verb(&mut names, effect.verb);
        self.push_verb(&mut names, effect.canonical);
        let resource = match (database, &effect.table) {
            (Some(database), Some(table)) => Some(format!("{}.{table}", database.name)),
            // Which of its tables is not said: it may be any.
            (Some(database), None) if effect.category > Category::Read => {
                Some(format!("{}.*", database.name))
            }
            (Some(database), None) => Some(database.name.clone()),
            (None, Some(table)) => Some(table.clone()),
            (None, None) => None,
        };
        let resource = match resource {
            Some(text) => Name::new(&text).map_err(Refused::InnerName)?,
            None => self.resource.clone(),
        };
        let environment = match database {
            Some(database) if !database.guessed => self.catalogue.targets.environment(&resource),
            _ => {
                self.unvouched_database = true;
                Environment::Production
            }
        };
        self.effect(names.clone(), effect.category, resource, environment)?;
        let (Some(database), Some(table)) = (database, effect.table.as_ref().filter(|t| t.contains('.')))
        else {
            return Ok(());
        };
        // `production.users` on a database that only the model called `scratch`, or on one beside that target.
        let elsewhere = !database.guessed && self.catalogue.targets.names_another(table, &database.name);
        if !database.guessed && !elsewhere {
            return Ok(());
        }
        let written = Name::new(table).map_err(Refused::InnerName)?;
        let environment = if elsewhere { self.catalogue.targets.environment(&written) } else { environment };
        self.effect(names, effect.category, written, environment)
    }

    /// Whether it does something that a filter can aim at many records: creating is no such thing.
    pub(super) fn sweeps(&self) -> bool {
        let creates = |effect: &Effect| effect.names.iter().any(|n| n.as_str() == Canonical::Create.as_str());
        self.effects.iter().any(|e| !matches!(e.category, Category::Read | Category::Outbound) && !creates(e))
    }

    /// The explicit resource's target; else the one in the operator's template or the tool's name; else what
    /// an argument calls its database.
    fn database(&self, findings: &Findings<'_>) -> Option<Database> {
        let templated = self.rule.is_some_and(|r| r.resource.is_some());
        if !self.asked.tool || templated {
            if is_url(&self.resource) {
                return None;
            }
            let name = self.catalogue.targets.owner(&self.resource).to_owned();
            return Some(Database { name, guessed: false });
        }
        if let Some(target) = &self.named_target {
            return Some(Database { name: target.clone(), guessed: false });
        }
        let name = Name::new(findings.targets.first()?).ok()?;
        Some(Database { name: name.to_string(), guessed: true })
    }

    /// What else arguments call the database: other targets than the tool's own, or any other names where it has none,
    /// since which argument the tool goes by is not known. Nobody vouches for that, but what holds there must allow
    /// it too.
    fn other_targets(&self, findings: &Findings<'_>) -> Vec<Database> {
        if !self.asked.tool || self.rule.is_some_and(|r| r.resource.is_some()) {
            return Vec::new();
        }
        let distinct: HashSet<&str> = findings.targets.iter().copied().collect();
        let mut others: Vec<Name> = distinct.into_iter().filter_map(|text| Name::new(text).ok()).collect();
        others.sort();
        others.dedup();
        let knows = |name: &Name| self.catalogue.targets.knows(name);
        let first = findings.targets.first().and_then(|text| Name::new(text).ok());
        others.retain(|name| match self.named_target.as_deref() {
            Some(named) => name.as_str() != named && knows(name),
            None => Some(name) != first.as_ref(),
        });
        let guessed = |name: &Name| !knows(name);
        others.iter().map(|name| Database { name: name.to_string(), guessed: guessed(name) }).collect()
    }

    /// Distinct systems: the targets of the effects and the hosts.
    pub(super) fn systems(&self, domains: &Domains) -> Count {
        if domains.unknown {
            return Count::Unknown;
        }
        if let [only] = self.effects.as_slice()
            && domains.known.is_empty()
            && !is_url(&only.resource)
        {
            return Count::Known(1);
        }
        let mut names: HashSet<&str> = domains.known.iter().map(Name::as_str).collect();
        for effect in &self.effects {
            let resource = effect.resource.as_str();
            if resource == self.asked.name.as_str() {
                names.insert(resource);
            } else if self.unvouched_database && effect.resource != self.resource {
                names.insert(&self.asked.name);
            } else if !is_url(resource) {
                names.insert(resource.split('.').next().unwrap_or(resource));
            }
        }
        Count::Known(u64::try_from(names.len().max(1)).unwrap_or(u64::MAX))
    }

    fn push_verb(&self, names: &mut Names, word: &str) {
        if let Some(name) = self.catalogue.verbs.name(word) {
            push(names, name);
        }
    }

    fn effect(
        &mut self,
        names: Names,
        category: Category,
        resource: Name,
        environment: Environment,
    ) -> Result<(), Refused> {
        if self.effects.len() >= MAX_EFFECTS {
            return Err(Refused::TooManyTables(MAX_EFFECTS));
        }
        self.effects.push(Effect { names, category, resource, environment });
        Ok(())
    }
}

fn push(names: &mut Names, name: Name) {
    if !names.contains(&name) {
        names.push(name);
    }
}

/// Whether a text is a GraphQL document that changes something.
fn is_mutation(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_ascii_alphabetic());
    text.contains('{') && words.any(|word| word.eq_ignore_ascii_case("mutation"))
}

/// The names in a GraphQL document.
fn fields(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|name| !name.is_empty()).take(4_096)
}

/// Whether a resource is a URL. Few have a colon at all, which is found faster.
fn is_url(resource: &str) -> bool {
    resource.contains(':') && resource.contains("://")
}
