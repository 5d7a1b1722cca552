//! Keeps the tree tidy: small files, no leftovers, no dead links in the documents.
//!
//! A rule that fails lists every place at once, and says how to mend it.

#![expect(clippy::expect_used, reason = "a test stops at the first thing that it cannot read")]

use std::fs;
use std::path::{Path, PathBuf};

/// A file that grows beyond this has more than one job. Around 400 is what we aim for.
const MAX_LINES: usize = 600;

/// Folders with nothing of ours in them.
const SKIPPED: &[&str] = &[
    "target",
    ".git",
    ".venv",
    ".cache",
    "node_modules",
    "dist",
    "__pycache__",
    "corpus",
    "artifacts",
    "fixtures",
    "snapshots",
    "checkrein-data",
];

/// Written so that this file does not contain them.
const LEFTOVERS: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("#[ign", "ore")];

#[test]
fn files_are_small() {
    mend("split it along its jobs", || {
        in_folders(&["crates", "sdk", "examples", "fuzz", "scripts"]).into_iter().filter_map(|file| {
            let lines = file.text.lines().count();
            (lines > MAX_LINES).then(|| format!("{}: {lines} lines, more than {MAX_LINES}", file.name))
        })
    });
}

#[test]
fn lines_end_cleanly() {
    mend("remove the white space (`make fmt` does it in code)", || {
        all().into_iter().flat_map(|file| {
            let mut bad: Vec<_> = numbered(&file.text)
                .filter(|(_, line)| line.ends_with([' ', '\t', '\r']))
                .map(|(number, _)| format!("{}:{number}: white space at the end of the line", file.name))
                .collect();
            if !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n")) {
                bad.push(format!("{}: must end with exactly one line break", file.name));
            }
            bad
        })
    });
}

#[test]
fn nothing_is_left_for_later() {
    mend("do it now, or open an issue and delete the note", || {
        in_folders(&["crates", "sdk", "examples", "fuzz", "scripts"]).into_iter().flat_map(|file| {
            numbered(&file.text)
                .filter_map(|(number, line)| {
                    let word = LEFTOVERS.iter().find(|word| line.contains(**word))?;
                    Some(format!("{}:{number}: {word}", file.name))
                })
                .collect::<Vec<_>>()
        })
    });
}

#[test]
fn links_in_documents_lead_somewhere() {
    let documents: Vec<_> = all().into_iter().filter(|file| file.is("md")).collect();
    mend("correct the link, or write what it promises", || {
        documents.iter().flat_map(|file| {
            links(&file.text)
                .filter(|(_, link)| !leads_somewhere(file, link))
                .map(|(number, link)| format!("{}:{number}: nothing is at `{link}`", file.name))
        })
    });
}

#[test]
fn commands_in_documents_exist() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("the Makefile can be read");
    mend("name a target of the Makefile, or a script that exists", || {
        all().into_iter().filter(|file| file.is("md")).flat_map(move |file| {
            let makefile = makefile.clone();
            let found: Vec<_> = commands(&file.text)
                .filter(|(_, command)| !match command.split_once(' ') {
                    Some(("make", target)) => makefile.contains(&format!("\n{target}:")),
                    _ => root().join(command).exists(),
                })
                .map(|(number, command)| format!("{}:{number}: there is no `{command}`", file.name))
                .collect();
            found
        })
    });
}

#[test]
fn the_rules_find_what_they_look_for() {
    let text = "See [a](b.md#c) and `[not](this)`.\n```\n[nor](that)\nmake nothing\n```\nRun `make nowhere` or `scripts/none 10`.\n";
    assert_eq!(links(text).collect::<Vec<_>>(), [(1, "b.md#c".to_owned())]);
    let found: Vec<_> = commands(text).collect();
    assert_eq!(
        found,
        [(4, "make nothing".to_owned()), (6, "make nowhere".to_owned()), (6, "scripts/none".to_owned())]
    );
    assert_eq!(anchor("The life of an action, in `core`"), "the-life-of-an-action-in-core");
    assert!(all().len() > 20, "only {} files found: this test looks at too little", all().len());
}

/// Fails with every violation, and with how to mend them.
#[track_caller]
fn mend<V: IntoIterator<Item = String>>(how: &str, violations: impl FnOnce() -> V) {
    let violations: Vec<_> = violations().into_iter().collect();
    assert!(violations.is_empty(), "\n{}\nTo mend: {how}.", violations.join("\n"));
}

struct TextFile {
    /// Relative to the root of the tree.
    name: String,
    path: PathBuf,
    text: String,
}

impl TextFile {
    fn is(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|own| own == extension)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the root exists")
}

/// Every file of ours that is text, in a stable order.
fn all() -> Vec<TextFile> {
    let mut found = Vec::new();
    walk(&root(), &root(), &mut found);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn in_folders(folders: &[&str]) -> Vec<TextFile> {
    let mut files = all();
    files.retain(|file| folders.iter().any(|folder| Path::new(&file.name).starts_with(folder)));
    files
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<TextFile>) {
    for entry in fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("a folder entry can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let made = name.starts_with(".venv-") || name.ends_with("_cache") || name.ends_with(".egg-info");
        if SKIPPED.contains(&&*name) || made {
            continue;
        }
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, found);
        } else if !generated(&name)
            && let Ok(text) = fs::read_to_string(&path)
        {
            let name = path.strip_prefix(root).expect("it is below the root").display().to_string();
            found.push(TextFile { name, path, text });
        }
    }
}

/// Files whose form is another program's business.
fn generated(name: &str) -> bool {
    ["Cargo.lock", "package-lock.json", "openapi.json", "openapi.ts", "LICENSE"].contains(&name)
        || [".snap", ".csv", ".svg", ".proptest-regressions"].iter().any(|ending| name.ends_with(ending))
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// The targets of Markdown links outside code, with their lines.
fn links(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut fenced = false;
    numbered(text).flat_map(move |(number, line)| {
        fenced ^= line.trim_start().starts_with("```");
        // Every second piece between back-ticks is code.
        let prose: String = if fenced { String::new() } else { line.split('`').step_by(2).collect() };
        let targets: Vec<_> = prose
            .split("](")
            .skip(1)
            .filter_map(|rest| Some((number, rest.split_once(')')?.0.to_owned())))
            .collect();
        targets
    })
}

fn leads_somewhere(from: &TextFile, link: &str) -> bool {
    if link.contains("://") || link.starts_with("mailto:") {
        return true; // a test does not ask the network
    }
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let folder = from.path.parent().expect("a file is in a folder");
    let path = if path.is_empty() { from.path.clone() } else { folder.join(path) };
    match fs::read_to_string(&path) {
        Ok(text) => heading.is_empty() || headings(&text).any(|found| found == heading),
        // A folder, or a picture.
        Err(_) => path.exists() && heading.is_empty(),
    }
}

fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim()))
}

/// The fragment that a forge gives a heading.
fn anchor(heading: &str) -> String {
    let kept =
        heading.to_lowercase().replace(|c: char| !c.is_alphanumeric() && ![' ', '-', '_'].contains(&c), "");
    kept.replace(' ', "-")
}

/// `make TARGET` and `scripts/NAME` at the start of a line of code or of a piece between back-ticks.
fn commands(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut fenced = false;
    numbered(text).flat_map(move |(number, line)| {
        fenced ^= line.trim_start().starts_with("```");
        let pieces: Vec<&str> =
            if fenced { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        let found: Vec<_> = pieces
            .into_iter()
            .filter_map(|piece| {
                let mut words = piece.trim_start_matches("$ ").split_whitespace();
                let first = words.next()?;
                let command = match first {
                    "make" => format!("make {}", words.next()?),
                    script if script.starts_with("scripts/") => script.to_owned(),
                    _ => return None,
                };
                Some((number, command))
            })
            .collect();
        found
    })
}
