//! A TOML file read together with its positions, so that every mistake names its line.
//!
//! A [`Section`] is asked for the keys that exist; what nobody asked for is unknown, and is refused with
//! the nearest key that was asked for. So the list of known keys cannot drift from the code that reads them.

use super::{ConfigProblem, Env, human, places::Places, secret};
use secrecy::SecretString;
use serde_json::{Map, Number, Value};
use std::{
    cell::RefCell,
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The largest file that is read, in bytes.
pub(super) const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// The deepest nesting of a value that is handed on.
const MAX_DEPTH: usize = 64;

/// Reads a text file.
pub(super) fn read(path: &Path) -> Result<String, ConfigProblem> {
    let problem = |message: String| ConfigProblem::of_file(path, message);
    let open = || -> io::Result<Result<fs::File, String>> {
        // Looked at before it is opened: opening a pipe would wait for a writer.
        let meta = fs::metadata(path)?;
        if meta.is_dir() {
            return Ok(Err("this is a folder; name a file in it".to_owned()));
        }
        if !meta.is_file() {
            return Ok(Err("this is not a regular file; name one".to_owned()));
        }
        if meta.len() > MAX_FILE_BYTES {
            return Ok(Err(too_large()));
        }
        fs::File::open(path).map(Ok)
    };
    let file = match open() {
        Ok(Ok(file)) => file,
        Ok(Err(message)) => return Err(problem(message)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(problem("there is no such file; check the path".to_owned()));
        }
        Err(e) => {
            return Err(problem(format!(
                "cannot be read: {e}; check its permissions and those of its folder"
            )));
        }
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| problem(format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(problem(too_large()));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes().iter().take(good).filter(|b| **b == b'\n').count();
        ConfigProblem {
            line: Some(line),
            ..problem("is not UTF-8 text here; save the file as UTF-8".to_owned())
        }
    })
}

fn too_large() -> String {
    format!("is larger than {}, the most that is read; split it", human::show_size(MAX_FILE_BYTES))
}

/// A file's text and where its lines begin.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    text: &'a str,
    lines: Vec<usize>,
    problems: RefCell<Vec<ConfigProblem>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        let lines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect();
        Self { path, text, lines, problems: RefCell::default() }
    }

    /// The whole document; `None` when it is no TOML, which is then among the problems.
    pub(super) fn parse(&self) -> Option<DeTable<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let line = error.span().map(|span| self.line(span.start));
            self.problem(line, "", format!("is not TOML: {}", error.message()));
        }
        errors.is_empty().then(|| table.into_inner())
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.lines.partition_point(|newline| *newline < offset)
    }

    fn line_of<T>(&self, value: &Spanned<T>) -> usize {
        self.line(value.span().start)
    }

    pub(super) fn problem(&self, line: Option<usize>, at: &str, message: String) {
        self.problems.borrow_mut().push(ConfigProblem {
            file: Some(self.path.to_owned()),
            line,
            at: at.to_owned(),
            message,
        });
    }

    pub(super) fn into_problems(self) -> Vec<ConfigProblem> {
        self.problems.into_inner()
    }
}

/// A table of the document, of which the known keys are taken one by one.
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    /// Its name in the document; empty for the whole.
    name: String,
    /// The line of its heading.
    pub(super) line: usize,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn root(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Self {
        Self { source, table, name: String::new(), line: 1, asked: Vec::new() }
    }

    /// The full name of a key in this section.
    pub(super) fn at(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.table.iter().find(|(k, _)| k.get_ref() == key).map(|(_, value)| value)
    }

    fn refuse<T>(&self, key: &str, value: &Spanned<DeValue<'_>>, message: String) -> Option<T> {
        self.source.problem(Some(self.source.line_of(value)), &self.at(key), message);
        None
    }

    /// The line of a key that has been taken.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        self.table.iter().find(|(k, _)| k.get_ref() == key).map(|(_, value)| self.source.line_of(value))
    }

    /// Notes a problem with a key.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.source.problem(self.line_of(key).or(Some(self.line)), &self.at(key), message.into());
    }

    /// Notes a problem in a line of the document.
    pub(super) fn problem_at(&self, line: usize, at: &str, message: String) {
        self.source.problem(Some(line), at, message);
    }

    /// A text, as `read` understands it.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::String(text) => read(text).map_or_else(|e| self.refuse(key, value, e), Some),
            other => self.refuse(key, value, expected("a text in quotes", other)),
        }
    }

    /// A path, relative to the file's folder.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let folder = folder(self.source.path);
        self.text(key, |text| {
            if text.is_empty() { Err("a path cannot be empty".to_owned()) } else { Ok(folder.join(text)) }
        })
    }

    /// A duration within `range`.
    pub(super) fn duration(&mut self, key: &'static str, range: (Duration, Duration)) -> Option<Duration> {
        self.text(key, |text| {
            let value = human::duration(text)?;
            if value < range.0 || value > range.1 {
                let (low, high) = (human::show_duration(range.0), human::show_duration(range.1));
                return Err(format!("`{}` is outside {low} to {high}", text.escape_debug()));
            }
            Ok(value)
        })
    }

    /// A size within `range`, in bytes.
    pub(super) fn size(&mut self, key: &'static str, range: (u64, u64)) -> Option<u64> {
        self.text(key, |text| {
            let value = human::size(text)?;
            if value < range.0 || value > range.1 {
                let (low, high) = (human::show_size(range.0), human::show_size(range.1));
                return Err(format!("`{}` is outside {low} to {high}", text.escape_debug()));
            }
            Ok(value)
        })
    }

    /// A whole number within `range`.
    pub(super) fn number(&mut self, key: &'static str, range: (u32, u32)) -> Option<u32> {
        let value = self.take(key)?;
        let DeValue::Integer(n) = value.get_ref() else {
            return self.refuse(key, value, expected("a whole number", value.get_ref()));
        };
        match u32::from_str_radix(n.as_str(), n.radix()) {
            Ok(n) if (range.0..=range.1).contains(&n) => Some(n),
            _ => self.refuse(key, value, format!("must be a whole number from {} to {}", range.0, range.1)),
        }
    }

    /// A number within `range`, with or without decimals.
    pub(super) fn decimal(&mut self, key: &'static str, range: (f32, f32)) -> Option<f32> {
        let value = self.take(key)?;
        let read = match value.get_ref() {
            DeValue::Integer(n) => i32::from_str_radix(n.as_str(), n.radix()).ok().map(|n| n as f32),
            DeValue::Float(n) => n.as_str().parse().ok(),
            other => return self.refuse(key, value, expected("a number", other)),
        };
        match read {
            Some(n) if (range.0..=range.1).contains(&n) => Some(n),
            _ => self.refuse(key, value, format!("must be a number from {} to {}", range.0, range.1)),
        }
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => self.refuse(key, value, expected("true or false", other)),
        }
    }

    /// A secret: `{ env = "…" }` or `{ file = "…" }`. Only looked at for its form without `env`.
    pub(super) fn secret(&mut self, key: &'static str, env: Option<Env<'_>>) -> Option<SecretString> {
        let value = self.take(key)?;
        self.secret_in(key, value, env)
    }

    /// Secrets by name: `key = { "Name" = { env = "…" } }`.
    pub(super) fn secrets(&mut self, key: &'static str, env: Option<Env<'_>>) -> Vec<(String, SecretString)> {
        let Some(parent) = self.section(key) else { return Vec::new() };
        let found = parent.table.iter().filter_map(|(name, value)| {
            let name = name.get_ref();
            parent.secret_in(name, value, env).map(|secret| (name.to_string(), secret))
        });
        found.collect()
    }

    fn secret_in(
        &self,
        key: &str,
        value: &'a Spanned<DeValue<'a>>,
        env: Option<Env<'_>>,
    ) -> Option<SecretString> {
        if !matches!(value.get_ref(), DeValue::Table(_)) {
            // The value is not repeated: it may well be the secret.
            return self.refuse(key, value, secret::NOT_IN_THE_FILE.to_owned());
        }
        let mut section = self.section_of(key, value)?;
        let name = section.text("env", |text| Ok(text.to_owned()));
        let path = section.path("file");
        section.finish();
        let found = match (name, path, env) {
            (Some(name), None, Some(env)) => secret::from_env(&name, env),
            (None, Some(path), Some(_)) => secret::from_file(&path),
            (Some(_), None, None) | (None, Some(_), None) => return None,
            _ => Err(secret::NOT_IN_THE_FILE.to_owned()),
        };
        found.map_or_else(|e| self.refuse(key, value, e), Some)
    }

    /// Whether a key, if it is there, holds a table.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.table.iter().any(|(k, value)| k.get_ref() == key && matches!(value.get_ref(), DeValue::Table(_)))
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<String> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.refuse::<()>(key, value, expected("a list of texts", value.get_ref()));
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.clone().into_owned()),
                other => self.refuse(key, item, expected("a list of texts", other)),
            })
            .collect()
    }

    /// Texts by names that are not known beforehand: `key = { NAME = "…" }`.
    pub(super) fn entries(&mut self, key: &'static str) -> Vec<(String, String)> {
        let Some(section) = self.section(key) else { return Vec::new() };
        let entries = section.table.iter().filter_map(|(name, value)| match value.get_ref() {
            DeValue::String(text) => Some((name.get_ref().to_string(), text.to_string())),
            other => section.refuse(name.get_ref(), value, expected("a text in quotes", other)),
        });
        entries.collect()
    }

    /// A table, `[key]`.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Self> {
        let value = self.take(key)?;
        self.section_of(key, value)
    }

    /// Tables by name, `[key.NAME]`.
    pub(super) fn named(&mut self, key: &'static str) -> Vec<(&'a str, Self)> {
        let Some(parent) = self.section(key) else { return Vec::new() };
        let mut out = Vec::new();
        for (name, value) in parent.table {
            out.extend(parent.section_of(name.get_ref(), value).map(|section| (&**name.get_ref(), section)));
        }
        out
    }

    /// Texts by name: `key = { name = "…" }`.
    pub(super) fn pairs(&mut self, key: &'static str) -> Vec<(String, String)> {
        let Some(parent) = self.section(key) else { return Vec::new() };
        let found = parent.table.iter().filter_map(|(name, value)| match value.get_ref() {
            DeValue::String(text) => Some((name.get_ref().to_string(), text.to_string())),
            other => parent.refuse(name.get_ref(), value, expected("a text in quotes", other)),
        });
        found.collect()
    }

    /// A list of tables, `[[key]]`.
    pub(super) fn list(&mut self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.refuse::<()>(key, value, format!("write each one as a table under [[{key}]]"));
            return Vec::new();
        };
        items.iter().filter_map(|item| self.section_of(key, item)).collect()
    }

    fn section_of(&self, key: &str, value: &'a Spanned<DeValue<'a>>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Self {
                source: self.source,
                table,
                name: self.at(key),
                line: self.source.line_of(value),
                asked: Vec::new(),
            }),
            other => self.refuse(key, value, expected("a table", other)),
        }
    }

    /// A list of tables, `[[key]]`, as JSON values, each with its lines.
    pub(super) fn values(&mut self, key: &'static str) -> Vec<(Value, Places)> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.refuse::<()>(key, value, format!("write each one as a table under [[{key}]]"));
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| match json(item.get_ref(), 0) {
                Ok(value) => Some((value, Places::of_toml(item, |at| self.source.line(at)))),
                Err(e) => self.refuse(key, item, e),
            })
            .collect()
    }

    /// Refuses every key that was not asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table {
            let name = key.get_ref();
            if self.asked.iter().all(|asked| asked != name) {
                let line = self.source.line(key.span().start);
                self.source.problem(Some(line), &self.at(name), unknown(name, &self.asked));
            }
        }
    }
}

/// The message for a key that nobody knows.
pub(super) fn unknown(key: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|k| (strsim::jaro_winkler(k, key), k))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, k)) => format!("unknown key; did you mean `{k}`?"),
        None => format!("unknown key; known here: {}", known.join(", ")),
    }
}

/// The folder that paths in `file` are relative to.
pub(super) fn folder(file: &Path) -> &Path {
    file.parent().unwrap_or_else(|| Path::new(""))
}

fn expected(what: &str, found: &DeValue<'_>) -> String {
    format!("must be {what}, not {}", found.type_str())
}

/// A TOML value as JSON.
fn json(value: &DeValue<'_>, depth: usize) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!("is nested deeper than {MAX_DEPTH} levels"));
    }
    Ok(match value {
        DeValue::String(text) => Value::from(&**text),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix())
            .map(Value::from)
            .or_else(|_| u64::from_str_radix(n.as_str(), n.radix()).map(Value::from))
            .map_err(|_| format!("the number {n} does not fit into 64 bits"))?,
        DeValue::Float(n) => n
            .as_str()
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map(Value::Number)
            .ok_or_else(|| format!("the number {n} is not finite"))?,
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| json(item.get_ref(), depth + 1)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let entries = table
                .iter()
                .map(|(key, item)| Ok((key.get_ref().to_string(), json(item.get_ref(), depth + 1)?)));
            Value::Object(entries.collect::<Result<Map<_, _>, String>>()?)
        }
    })
}
