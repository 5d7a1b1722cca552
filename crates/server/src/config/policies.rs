//! Policies from files: read from TOML and JSON, compiled as one set.

use super::{
    ConfigError, ConfigProblem,
    document::{self, Section, Source},
    places::Places,
};
use checkrein_core::{
    json,
    policy::{Policy, PolicySet, Problem},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A policy as it stands in a file, not yet checked.
#[derive(Clone, Debug, PartialEq)]
pub struct FilePolicy {
    /// The whole policy.
    pub value: Value,
    /// The file that it stands in.
    pub file: PathBuf,
    /// Its place in the file's list, from 0.
    pub index: usize,
    /// The lines of its keys in it.
    places: Places,
}

/// Reads the policies of a file, or of every `.toml` and `.json` file of a folder, by name.
///
/// TOML: `[[policies]]`. JSON: a list, or `{"policies": […]}` as `checkrein policy list --json` prints it.
///
/// # Errors
/// When one cannot be read, or is neither; a folder without any is an error too. All problems at once.
pub fn read_policies(path: &Path) -> Result<Vec<FilePolicy>, ConfigError> {
    if !path.is_dir() {
        return read_file(path);
    }
    let unreadable = |e: std::io::Error| {
        ConfigProblem::of_file(path, format!("cannot be listed: {e}; check its permissions"))
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && file.extension().is_some_and(|kind| kind == "toml" || kind == "json") {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(
            ConfigProblem::of_file(path, "this folder holds no .toml or .json file; check the path").into()
        );
    }
    files.sort();
    let (mut policies, mut problems) = (Vec::new(), Vec::new());
    for file in files {
        match read_file(&file) {
            Ok(found) => policies.extend(found),
            Err(e) => problems.extend(e.problems),
        }
    }
    ConfigError::unless_empty(problems).map(|()| policies)
}

fn read_file(path: &Path) -> Result<Vec<FilePolicy>, ConfigError> {
    let text = document::read(path)?;
    parse_policies(path, &text)
}

/// Reads policies from `text`. `path` names its origin, and its ending (`.json`) the format; anything else
/// is TOML.
///
/// # Errors
/// When it is not what the ending says, or holds something else than policies.
pub fn parse_policies(path: &Path, text: &str) -> Result<Vec<FilePolicy>, ConfigError> {
    if path.extension().is_some_and(|kind| kind == "json") {
        from_json(path, text)
    } else {
        from_toml(path, text)
    }
}

fn from_toml(path: &Path, text: &str) -> Result<Vec<FilePolicy>, ConfigError> {
    let source = Source::new(path, text);
    let policies = source.parse().map(|table| {
        let mut root = Section::root(&source, &table);
        let policies = in_section(path, &mut root);
        root.finish();
        policies
    });
    ConfigError::unless_empty(source.into_problems()).map(|()| policies.unwrap_or_default())
}

/// The policies under `[[policies]]` of a section.
pub(super) fn in_section(path: &Path, section: &mut Section<'_>) -> Vec<FilePolicy> {
    let of = |(index, (value, places))| FilePolicy { value, file: path.to_owned(), index, places };
    section.values("policies").into_iter().enumerate().map(of).collect()
}

fn from_json(path: &Path, text: &str) -> Result<Vec<FilePolicy>, ConfigError> {
    let json::Strict(value) = serde_json::from_str(text).map_err(|e| ConfigProblem {
        line: Some(e.line()).filter(|line| *line > 0),
        ..ConfigProblem::of_file(path, format!("is not JSON: {e}"))
    })?;
    let list = match value {
        Value::Array(list) => list,
        Value::Object(mut map) => {
            let list = map.remove("policies");
            map.remove("sources");
            match (list, map.keys().next()) {
                (Some(Value::Array(list)), None) => list,
                (_, Some(key)) => {
                    let message = document::unknown(key, &["policies"]);
                    return Err(
                        ConfigProblem { at: key.clone(), ..ConfigProblem::of_file(path, message) }.into()
                    );
                }
                _ => return Err(not_policies(path)),
            }
        }
        _ => return Err(not_policies(path)),
    };
    let places = Places::of_json(text, "policies");
    let of = |(index, value)| FilePolicy {
        value,
        file: path.to_owned(),
        index,
        places: places.get(index).cloned().unwrap_or_default(),
    };
    Ok(list.into_iter().enumerate().map(of).collect())
}

fn not_policies(path: &Path) -> ConfigError {
    ConfigProblem::of_file(path, "holds no policies; write a list of them, or {\"policies\": [ … ]}").into()
}

/// Checks policies one by one and as a set.
///
/// # Errors
/// All that is wrong with them, each with its file and line.
pub fn compile_policies(policies: &[FilePolicy]) -> Result<Vec<Policy>, ConfigError> {
    let mut problems = Vec::new();
    let mut good = Vec::with_capacity(policies.len());
    for from in policies {
        match Policy::parse(&from.value) {
            Ok(policy) => good.push(policy),
            Err(found) => {
                problems.extend(found.into_iter().map(|p| problem(from, &p.policy, &p.path, p.message)));
            }
        }
    }
    ConfigError::unless_empty(problems)?;
    PolicySet::compile(good.clone()).map_err(|found| {
        let of = |p: Problem| {
            // Of two with one name, the later one is the mistake.
            let from =
                policies.iter().rfind(|f| f.value.get("name").and_then(Value::as_str) == Some(&p.policy));
            match from {
                Some(from) => problem(from, &p.policy, &p.path, p.message),
                None => ConfigProblem::new(&p.policy, p.message),
            }
        };
        ConfigError::new(found.into_iter().map(of).collect())
    })?;
    Ok(good)
}

fn problem(from: &FilePolicy, policy: &str, path: &str, message: String) -> ConfigProblem {
    let policy =
        if policy.is_empty() { format!("policies[{}]", from.index) } else { format!("policy {policy}") };
    let at = if path.is_empty() { policy } else { format!("{policy}: {path}") };
    ConfigProblem { file: Some(from.file.clone()), line: from.places.line(path), at, message }
}
