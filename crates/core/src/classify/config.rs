//! The operator's part of the catalogue: what its tools and targets are.

use crate::{
    action::{Category, Environment},
    name::{Name, NameError, Pattern},
};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{HashMap, HashSet};

/// Straight from the configuration file.
///
/// ```toml
/// [[tools]]
/// tool = ["crm_*", "mcp__crm__*"]
/// resource = "crm.{object}"
/// records = "contact_ids"
///
/// [[targets]]
/// name = "shop"
/// environment = "staging"
/// resources = ["https://shop.staging.example/*"]
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueConfig {
    /// Tools that the defaults read wrongly. The first rule whose pattern fits is used.
    #[serde(default)]
    pub tools: Vec<ToolRule>,
    /// What the targets are for. A target that is not described is production.
    #[serde(default)]
    pub targets: Vec<TargetInfo>,
}

/// What one tool, or a family of tools, does. What is left out is found by the defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolRule {
    /// Which tools: a pattern or a list. Compared with the tool's name, or with `action` in the explicit form.
    #[serde(deserialize_with = "one_or_many")]
    pub tool: Vec<Pattern>,
    /// What the tool does, e.g. `update_contact`: read for its verb in place of the tool's name, and matched
    /// by policies beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// What kind of action it is. Settles it: guesses from arguments no longer raise it. SQL in `statement`
    /// still does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// What it is done to; `{argument}` is replaced by that argument, `{a.b}` by a nested one. Without it
    /// the check is refused. Explicit checks name their resource themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The argument that lists the records (its length counts) or states their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// The arguments that hold addressees. Others are not looked at then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients: Option<Vec<String>>,
    /// The argument that holds SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// The argument that holds a URL or host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What a target is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetInfo {
    /// Stands for the resources `<name>` and `<name>.*`.
    pub name: String,
    /// What it is for.
    pub environment: Environment,
    /// More resources that belong to it, e.g. `https://sandbox.stripe.com/*`.
    #[serde(default)]
    pub resources: Vec<Pattern>,
    /// It is a database that takes SQL: so does a tool that carries its name.
    #[serde(default)]
    pub sql: bool,
}

/// What is wrong with the operator's part, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct CatalogueError {
    /// E.g. `tools[2].resource`.
    pub path: String,
    /// Cause and next step.
    pub problem: String,
}

fn one_or_many<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Pattern>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(Pattern),
        Many(Vec<Pattern>),
    }
    match OneOrMany::deserialize(d)? {
        OneOrMany::One(pattern) => Ok(vec![pattern]),
        OneOrMany::Many(patterns) => Ok(patterns),
    }
}

/// A [`ToolRule`], checked and taken apart.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) tool: Vec<Pattern>,
    /// As the operator wrote it (its capitals separate words) and as policies compare it.
    pub(super) action: Option<(String, Name)>,
    pub(super) category: Option<Category>,
    pub(super) resource: Option<Vec<Part>>,
    pub(super) records: Option<String>,
    pub(super) recipients: Option<Vec<String>>,
    pub(super) statement: Option<String>,
    pub(super) url: Option<String>,
}

/// A piece of a resource template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Argument(String),
}

/// Which environment a resource belongs to.
#[derive(Clone, Debug, Default)]
pub(super) struct Targets {
    names: HashMap<Name, Environment, foldhash::fast::RandomState>,
    /// Those of them that take SQL.
    databases: HashSet<Name, foldhash::fast::RandomState>,
    patterns: Vec<(Pattern, Environment)>,
}

impl Targets {
    /// The longest target name that `resource` starts with decides; else the gravest of the fitting
    /// patterns; else production.
    pub(super) fn environment(&self, resource: &str) -> Environment {
        if let Some((_, environment)) = self.described(resource) {
            return environment;
        }
        let fitting = self.patterns.iter().filter(|(pattern, _)| pattern.matches(resource));
        fitting.map(|(_, environment)| *environment).max().unwrap_or_default()
    }

    /// The target that `resource` belongs to: the longest described name that it starts with, else its first
    /// part.
    pub(super) fn owner<'r>(&self, resource: &'r str) -> &'r str {
        let first = || resource.split('.').next().unwrap_or(resource);
        self.described(resource).map_or_else(first, |(name, _)| name)
    }

    fn described<'r>(&self, resource: &'r str) -> Option<(&'r str, Environment)> {
        if self.names.is_empty() {
            return None;
        }
        let ends = resource.rmatch_indices('.').map(|(at, _)| at);
        let heads = [resource].into_iter().chain(ends.filter_map(|end| resource.get(..end)));
        heads.into_iter().find_map(|head| Some((head, *self.names.get(head)?)))
    }

    /// Whether the path of a table begins like another target than `own`.
    pub(super) fn names_another(&self, table: &str, own: &str) -> bool {
        self.described(table).is_some_and(|(name, _)| name != own && name != table)
    }

    /// Whether an operator has described a target of this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether a tool's name speaks of a target that takes SQL.
    pub(super) fn takes_sql(&self, tool: &str) -> bool {
        !self.databases.is_empty() && name_parts(tool).any(|part| self.databases.contains(part))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// What a tool's name is put together from: `mcp__shop__query` is `mcp`, `shop` and `query`.
pub(super) fn name_parts(tool: &str) -> impl Iterator<Item = &str> {
    tool.split("__").flat_map(|part| part.split(['.', '/', ':']))
}

/// Checks the whole configuration; every mistake is reported, not only the first.
pub(super) fn compile(config: &CatalogueConfig) -> Result<(Vec<Rule>, Targets), Vec<CatalogueError>> {
    let mut errors = Vec::new();
    let mut fail = |path: String, problem: String| errors.push(CatalogueError { path, problem });
    let mut rules = Vec::with_capacity(config.tools.len());
    for (i, tool) in config.tools.iter().enumerate() {
        let at = |field: &str| format!("tools[{i}].{field}");
        if tool.tool.is_empty() {
            fail(at("tool"), "the list is empty; name at least one tool".into());
        }
        let action = tool.action.as_ref().and_then(|text| match Name::new(text) {
            Ok(name) => Some((text.clone(), name)),
            Err(error) => {
                fail(at("action"), error.to_string());
                None
            }
        });
        let resource = tool.resource.as_ref().and_then(|text| match template(text) {
            Ok(parts) => Some(parts),
            Err(problem) => {
                fail(at("resource"), problem);
                None
            }
        });
        let named = [("records", &tool.records), ("statement", &tool.statement), ("url", &tool.url)];
        for (field, argument) in named {
            if argument.as_ref().is_some_and(String::is_empty) {
                fail(at(field), "the argument's name is empty; name it or leave the key out".into());
            }
        }
        if tool.recipients.as_ref().is_some_and(|list| list.iter().any(String::is_empty)) {
            fail(at("recipients"), "an argument's name is empty; name it or remove it".into());
        }
        rules.push(Rule {
            tool: tool.tool.clone(),
            action,
            category: tool.category,
            resource,
            records: tool.records.clone(),
            recipients: tool.recipients.clone(),
            statement: tool.statement.clone(),
            url: tool.url.clone(),
        });
    }
    let mut targets = Targets::default();
    for (i, target) in config.targets.iter().enumerate() {
        match Name::new(&target.name) {
            Ok(name) if name.contains('*') => fail(
                format!("targets[{i}].name"),
                format!("`{name}` holds a `*`; put patterns under `resources`"),
            ),
            Ok(name) => {
                if target.sql {
                    targets.databases.insert(name.clone());
                }
                if targets.names.insert(name.clone(), target.environment).is_some() {
                    fail(format!("targets[{i}].name"), format!("`{name}` is described twice; keep one"));
                }
            }
            Err(error) => fail(format!("targets[{i}].name"), error.to_string()),
        }
        targets.patterns.extend(target.resources.iter().map(|p| (p.clone(), target.environment)));
    }
    if errors.is_empty() { Ok((rules, targets)) } else { Err(errors) }
}

fn template(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((argument, tail)) = after.split_once('}') else {
            return Err(format!("`{text}`: a `{{` is never closed; write `{{argument}}`"));
        };
        if before.contains('}') || argument.trim().is_empty() || argument.contains('{') {
            return Err(format!("`{text}`: write placeholders as `{{argument}}`"));
        }
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        parts.push(Part::Argument(argument.trim().to_owned()));
        rest = tail;
    }
    if rest.contains('}') {
        return Err(format!("`{text}`: a `}}` was never opened; write `{{argument}}`"));
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    // With every placeholder filled in, it must be a name.
    let sample: String = parts.iter().map(|p| if let Part::Text(t) = p { t.as_str() } else { "x" }).collect();
    Name::new(&sample).map_err(|error: NameError| error.to_string())?;
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_taken_apart() {
        assert_eq!(
            template("crm.{object}.{a.b}").unwrap(),
            [
                Part::Text("crm.".into()),
                Part::Argument("object".into()),
                Part::Text(".".into()),
                Part::Argument("a.b".into())
            ]
        );
        for bad in ["", "a.{", "a.}", "a.{}", "a.{{b}}", "a\u{202e}.{b}"] {
            assert!(template(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_mistake_is_reported() {
        let config: CatalogueConfig = serde_json::from_str(
            r#"{"tools":[{"tool":[],"resource":"a.{","records":""}],
                "targets":[{"name":"","environment":"staging"},{"name":"a","environment":"staging"},
                           {"name":"A","environment":"sandbox"},{"name":"b*","environment":"sandbox"}]}"#,
        )
        .unwrap();
        let errors = compile(&config).unwrap_err();
        let paths: Vec<_> = errors.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "tools[0].tool",
                "tools[0].resource",
                "tools[0].records",
                "targets[0].name",
                "targets[2].name",
                "targets[3].name"
            ]
        );
        assert!(serde_json::from_str::<CatalogueConfig>(r#"{"tool":[]}"#).is_err());
    }

    #[test]
    fn the_longest_target_name_decides() {
        let config: CatalogueConfig = serde_json::from_str(
            r#"{"targets":[{"name":"shop","environment":"staging"},{"name":"shop.eu","environment":"sandbox"},
                {"name":"stripe","environment":"sandbox","resources":["https://sandbox.stripe.com/*"]}]}"#,
        )
        .unwrap();
        let (_, targets) = compile(&config).unwrap();
        assert_eq!(targets.environment("shop.users"), Environment::Staging);
        assert_eq!(targets.environment("shop"), Environment::Staging);
        assert_eq!(targets.environment("shop.eu.users"), Environment::Sandbox);
        assert_eq!(targets.environment("shopping.users"), Environment::Production);
        assert_eq!(targets.owner("shop.eu.users"), "shop.eu");
        assert_eq!(targets.owner("shop.us.users"), "shop");
        assert_eq!(targets.owner("other.eu.users"), "other");
        assert_eq!(targets.environment("https://sandbox.stripe.com/v1"), Environment::Sandbox);
        assert_eq!(targets.environment("https://api.stripe.com/v1"), Environment::Production);
    }
}
