//! Tools that are known by their name and arguments together: those of Claude Code.
//!
//! `Write` says that something is written, not what. With `file_path` and `content` beside it, it is the tool
//! that writes this one file. An entry is used only where the name is spelt as it is, every argument that it
//! needs is there, and no rule of the operator fits the tool. It is believed only where the tool has every
//! argument that is given: one that it does not have may be what another tool of this name acts on.

use super::{
    Asked, Refused,
    details::{Findings, Stated},
};
use crate::{
    action::Category::{self, Execute, Outbound, Read, Write},
    name::Name,
};
use serde_json::Value;
use smallvec::SmallVec;

/// What is known of a tool.
pub(super) struct Builtin {
    tool: &'static str,
    needs: &'static [&'static str],
    /// The other arguments that it has.
    takes: &'static [&'static str],
    /// Read in place of the name, where that says something wrong.
    pub(super) verb: Option<&'static str>,
    /// Settled, where the tool has every argument that is given: then the arguments do not raise it.
    pub(super) category: Category,
    /// The argument that names the file or folder, which is its resource.
    path: Option<&'static str>,
    /// The argument that says which files below that are meant: another resource of it.
    below: Option<&'static str>,
}

const fn on_file(
    tool: &'static str,
    needs: &'static [&'static str],
    takes: &'static [&'static str],
    category: Category,
    path: &'static str,
) -> Builtin {
    Builtin { tool, needs, takes, verb: None, category, path: Some(path), below: None }
}

/// It works inside Claude Code only.
const fn within(
    tool: &'static str,
    needs: &'static [&'static str],
    takes: &'static [&'static str],
) -> Builtin {
    Builtin { tool, needs, takes, verb: Some("look"), category: Read, path: None, below: None }
}

/// It runs what a file says, shell commands too, and nothing of that is checked by itself.
const fn runs(tool: &'static str, needs: &'static [&'static str], takes: &'static [&'static str]) -> Builtin {
    Builtin { tool, needs, takes, verb: Some("run"), category: Execute, path: None, below: None }
}

/// Of `Grep`.
const GREP: &[&str] = &[
    "path",
    "glob",
    "type",
    "output_mode",
    "head_limit",
    "offset",
    "multiline",
    "context",
    "-A",
    "-B",
    "-C",
    "-n",
    "-i",
    "-o",
];
/// Of `Agent`, which was `Task`.
const AGENT: &[&str] = &[
    "subagent_type",
    "model",
    "resume",
    "run_in_background",
    "max_turns",
    "isolation",
    "name",
    "team_name",
    "mode",
];
/// Of `TaskUpdate`.
const UPDATE: &[&str] =
    &["subject", "description", "activeForm", "status", "owner", "addBlocks", "addBlockedBy"];

/// Claude Code's tools of which names alone tell too little, or something wrong. What works inside Claude Code
/// only counts as reading: it changes nothing outside, and whatever follows from it is checked by itself.
const BUILTIN: &[Builtin] = &[
    on_file("Read", &["file_path"], &["offset", "limit", "pages"], Read, "file_path"),
    on_file("Write", &["file_path", "content"], &[], Write, "file_path"),
    on_file("Edit", &["file_path", "old_string", "new_string"], &["replace_all"], Write, "file_path"),
    on_file("MultiEdit", &["file_path", "edits"], &[], Write, "file_path"),
    on_file("NotebookRead", &["notebook_path"], &["cell_id"], Read, "notebook_path"),
    on_file(
        "NotebookEdit",
        &["notebook_path", "new_source"],
        &["cell_id", "cell_number", "cell_type", "edit_mode"],
        Write,
        "notebook_path",
    ),
    Builtin { below: Some("pattern"), ..on_file("Glob", &["pattern"], &["path"], Read, "path") },
    Builtin { below: Some("glob"), ..on_file("Grep", &["pattern"], GREP, Read, "path") },
    on_file("LS", &["path"], &["ignore"], Read, "path"),
    Builtin {
        tool: "WebFetch",
        needs: &["url", "prompt"],
        takes: &[],
        verb: None,
        category: Outbound,
        path: None,
        below: None,
    },
    // A subagent: each of its calls is checked.
    within("Agent", &["description", "prompt"], AGENT),
    within("Task", &["description", "prompt"], AGENT),
    within("TaskCreate", &["subject", "description"], &["activeForm"]),
    within("TaskUpdate", &["taskId"], UPDATE),
    within("TaskGet", &["taskId"], &[]),
    within("TaskOutput", &["task_id"], &["block", "timeout"]),
    within("BashOutput", &["bash_id"], &["filter"]),
    within("TodoWrite", &["todos"], &[]),
    within("ToolSearch", &["query"], &["max_results"]),
    within("AskUserQuestion", &["questions"], &[]),
    runs("Skill", &["skill"], &["args"]),
    runs("SlashCommand", &["command"], &[]),
];

/// The arguments that are lists.
const LISTS: &[&str] = &["edits", "todos", "questions", "options", "ignore", "addBlocks", "addBlockedBy"];
/// What the items of those lists have.
const ITEMS: &[&str] = &[
    "old_string",
    "new_string",
    "replace_all",
    "content",
    "status",
    "activeForm",
    "id",
    "priority",
    "question",
    "header",
    "options",
    "multiSelect",
    "label",
    "description",
    "preview",
];

/// What is known of the tool of this name with these arguments.
pub(super) fn of(asked: &Asked<'_>) -> Option<&'static Builtin> {
    if !asked.tool {
        return None;
    }
    let given = |name: &&str| {
        asked.details.and_then(|d| d.get(name)).is_some_and(|value| value.is_string() || value.is_array())
    };
    BUILTIN.iter().find(|known| known.tool == asked.text && known.needs.iter().all(given))
}

/// Whether this is what the argument `name` of a tool of Claude Code looks like.
fn usual(name: &str, value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(items) => LISTS.contains(&name) && items.iter().all(usual_item),
        _ => true,
    }
}

fn usual_item(item: &Value) -> bool {
    match item {
        Value::Object(fields) => {
            fields.iter().all(|(name, value)| ITEMS.contains(&name.as_str()) && usual(name, value))
        }
        Value::Array(_) => false,
        _ => true,
    }
}

impl Builtin {
    /// Whether the tool has every argument that is given.
    pub(super) fn explains(&self, asked: &Asked<'_>) -> bool {
        let mut given = asked.details.and_then(Value::as_object).into_iter().flatten();
        given.all(|(name, value)| {
            (self.needs.contains(&name.as_str()) || self.takes.contains(&name.as_str())) && usual(name, value)
        })
    }

    /// What needs no guessing: one file is one record, a page that is fetched has no addressees.
    pub(super) fn settle(&self, findings: &mut Findings<'_>) {
        match self.category {
            Write => findings.listed = Some(1),
            Outbound => findings.recipient_count = Some(Stated::Number(0)),
            _ => findings.listed = None,
        }
    }

    /// The file or folder that it is done to.
    pub(super) fn file(&self, asked: &Asked<'_>) -> Option<Result<Name, Refused>> {
        let path = asked.details?.get(self.path?)?.as_str()?;
        Some(named(path))
    }

    /// Everything that it is done to: the file or folder, and the files below it that are meant.
    pub(super) fn files(&self, asked: &Asked<'_>) -> Result<SmallVec<[Name; 2]>, Refused> {
        let mut files: SmallVec<[Name; 2]> = self.file(asked).transpose()?.into_iter().collect();
        let text = |name| asked.details?.get(name?)?.as_str();
        if let Some(pattern) = text(self.below) {
            let absolute = pattern.starts_with(['/', '~', '\\']) || pattern.get(1..2) == Some(":");
            let folder = text(self.path).filter(|folder| !absolute && !folder.is_empty());
            files.push(named(
                &folder.map_or_else(|| pattern.to_owned(), |folder| format!("{folder}/{pattern}")),
            )?);
        }
        Ok(files)
    }
}

fn named(path: &str) -> Result<Name, Refused> {
    Name::new(&shortest(path)).map_err(Refused::InnerName)
}

/// A path in its shortest form, so that `/home/me/../../etc/passwd` is `/etc/passwd` to every pattern. What
/// links lead to is not known here.
pub(super) fn shortest(path: &str) -> String {
    let windows = path.contains('\\') && (path.starts_with('\\') || path.get(1..2) == Some(":"));
    let absolute = path.starts_with('/') || (windows && path.starts_with('\\'));
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split(|c| c == '/' || (windows && c == '\\')) {
        match part {
            "" | "." => {}
            // Above the root is the root.
            ".." => match parts.last() {
                Some(&last) if last != ".." => _ = parts.pop(),
                _ if absolute => {}
                _ => parts.push(part),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_form() {
        for (path, short) in [
            ("/etc/passwd", "/etc/passwd"),
            ("/home/me/../../etc//./passwd", "/etc/passwd"),
            ("/../../etc", "/etc"),
            ("/", "/"),
            ("//srv/x/", "/srv/x"),
            ("a/./b/../c", "a/c"),
            ("../a/../..", "../.."),
            ("./", "."),
            ("", "."),
            (r"C:\work\..\secrets\key", "C:/secrets/key"),
            (r"a\b/../c", "c"),
            ("~/.ssh/id", "~/.ssh/id"),
        ] {
            assert_eq!(shortest(path), short, "{path}");
        }
    }
}
