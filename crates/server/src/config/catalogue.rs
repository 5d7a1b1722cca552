//! The tool catalogue's part of the configuration: `[targets.NAME]` and `[[tools]]`.

use super::document::Section;
use checkrein_core::{
    action::Environment,
    classify::{Catalogue, CatalogueConfig, TargetInfo},
    name::Pattern,
};

/// Kinds of targets that this version does not connect to.
const LATER: [&str; 4] = ["postgres", "mysql", "sqlite", "files"];

/// Reads and checks it.
pub(super) fn read(root: &mut Section<'_>) -> CatalogueConfig {
    let mut config = CatalogueConfig::default();
    let mut lines = (Vec::new(), Vec::new());
    for (name, section) in root.named("targets") {
        lines.0.push(section.line);
        config.targets.extend(target(name, section));
    }
    for (value, line) in root.values("tools") {
        match serde_json::from_value(value) {
            Ok(rule) => {
                config.tools.push(rule);
                lines.1.push(line);
            }
            Err(e) => root.problem_at(line, "tools", e.to_string()),
        }
    }
    if let Err(errors) = Catalogue::new(&config) {
        for error in errors {
            let line =
                place(&error.path, "tools", &lines.1).or_else(|| place(&error.path, "targets", &lines.0));
            root.problem_at(line.unwrap_or(1), &error.path, error.problem);
        }
    }
    config
}

fn target(name: &str, mut section: Section<'_>) -> Option<TargetInfo> {
    let kind = section.text("kind", |kind| match kind {
        "other" => Ok(()),
        kind if LATER.contains(&kind) => Err(format!(
            "this version does not connect to databases and files yet, so it cannot count there; write \
             kind = \"other\", which gives the resources of `{name}` their environment"
        )),
        kind => Err(format!("`{}` is no kind of target; write kind = \"other\"", kind.escape_debug())),
    });
    if kind.is_none() {
        // Nothing else is said about a target that cannot be one.
        if section.line_of("kind").is_none() {
            section.problem("kind", "is missing; write kind = \"other\"");
        }
        return None;
    }
    let environment = section.text("environment", |text| match text {
        "production" => Ok(Environment::Production),
        "staging" => Ok(Environment::Staging),
        "sandbox" => Ok(Environment::Sandbox),
        _ => Err("must be production, staging or sandbox".to_owned()),
    });
    if environment.is_none() && section.line_of("environment").is_none() {
        section.problem("environment", "is missing; write production, staging or sandbox");
    }
    let mut resources = Vec::new();
    for text in section.texts("resources") {
        match Pattern::new(&text) {
            Ok(pattern) => resources.push(pattern),
            Err(e) => section.problem("resources", e.to_string()),
        }
    }
    section.finish();
    Some(TargetInfo { name: name.to_owned(), environment: environment?, resources })
}

/// The line of the entry that a path such as `tools[2].resource` is in.
fn place(path: &str, list: &str, lines: &[usize]) -> Option<usize> {
    let index = path.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?.0;
    lines.get(index.parse::<usize>().ok()?).copied()
}
