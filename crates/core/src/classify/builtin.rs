//! Tools that are known by their name and arguments together: those of Claude Code.
//!
//! `Write` says that something is written, not what. With `file_path` and `content` beside it, it is the tool
//! that writes this one file. An entry is used only where the name is spelt as it is, every argument that it
//! needs is there as a text or a list, and no rule of the operator fits the tool.

use super::{
    Asked, Refused,
    details::{Findings, Stated},
};
use crate::{
    action::Category::{self, Outbound, Read, Write},
    name::Name,
};

/// What is known of a tool.
pub(super) struct Builtin {
    tool: &'static str,
    needs: &'static [&'static str],
    /// Read in place of the name, where that says something wrong.
    pub(super) verb: Option<&'static str>,
    /// Settled: the arguments do not raise it.
    pub(super) category: Category,
    /// The argument that names the file or folder, which is its resource.
    path: Option<&'static str>,
}

const fn on_file(
    tool: &'static str,
    needs: &'static [&'static str],
    category: Category,
    path: &'static str,
) -> Builtin {
    Builtin { tool, needs, verb: None, category, path: Some(path) }
}

/// It works inside Claude Code only.
const fn within(tool: &'static str, needs: &'static [&'static str]) -> Builtin {
    Builtin { tool, needs, verb: Some("look"), category: Read, path: None }
}

/// Claude Code's tools of which names alone tell too little, or something wrong. What works inside Claude Code
/// only counts as reading: it changes nothing outside, and whatever follows from it is checked by itself.
const BUILTIN: &[Builtin] = &[
    on_file("Read", &["file_path"], Read, "file_path"),
    on_file("Write", &["file_path", "content"], Write, "file_path"),
    on_file("Edit", &["file_path", "old_string", "new_string"], Write, "file_path"),
    on_file("MultiEdit", &["file_path", "edits"], Write, "file_path"),
    on_file("NotebookRead", &["notebook_path"], Read, "notebook_path"),
    on_file("NotebookEdit", &["notebook_path", "new_source"], Write, "notebook_path"),
    on_file("Glob", &["pattern"], Read, "path"),
    on_file("Grep", &["pattern"], Read, "path"),
    on_file("LS", &["path"], Read, "path"),
    Builtin { tool: "WebFetch", needs: &["url", "prompt"], verb: None, category: Outbound, path: None },
    // A subagent: each of its calls is checked.
    within("Agent", &["description", "prompt"]),
    within("Task", &["description", "prompt"]),
    within("TaskCreate", &["subject", "description"]),
    within("TaskUpdate", &["taskId"]),
    within("TaskGet", &["taskId"]),
    within("TaskOutput", &["task_id"]),
    within("BashOutput", &["bash_id"]),
    within("TodoWrite", &["todos"]),
    within("ToolSearch", &["query"]),
    within("AskUserQuestion", &["questions"]),
    within("Skill", &["skill"]),
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

impl Builtin {
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
        Some(Name::new(&shortest(path)).map_err(Refused::InnerName))
    }
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
