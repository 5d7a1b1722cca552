//! The tool catalogue's part of the configuration: `[targets.NAME]` and `[[tools]]`.

use super::{Env, document::Section, targets, targets::ConnectedTarget};
use checkrein_core::classify::{Catalogue, CatalogueConfig};

/// Reads and checks it. Secrets are only looked up with `env`.
pub(super) fn read(root: &mut Section<'_>, env: Option<Env<'_>>) -> (CatalogueConfig, Vec<ConnectedTarget>) {
    let mut config = CatalogueConfig::default();
    let mut connected = Vec::new();
    let mut lines = (Vec::new(), Vec::new());
    for (info, line, target) in targets::read(root, env) {
        config.targets.push(info);
        lines.0.push(line);
        connected.extend(target);
    }
    for (value, places) in root.values("tools") {
        let line = places.line("").unwrap_or(1);
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
    (config, connected)
}

/// The line of the entry that a path such as `tools[2].resource` is in.
fn place(path: &str, list: &str, lines: &[usize]) -> Option<usize> {
    let index = path.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?.0;
    lines.get(index.parse::<usize>().ok()?).copied()
}
