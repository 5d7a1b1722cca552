//! What is wrong with a configuration: everything at once, each mistake with its place.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// As many problems as are shown; the rest is counted.
const SHOWN: usize = 50;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The file it is in; `None` for the command line, the environment and the whole.
    pub file: Option<PathBuf>,
    /// The line in it, from 1, where that is known.
    pub line: Option<usize>,
    /// The key or the policy that is meant, e.g. `limits.body`; empty for the whole file.
    pub at: String,
    /// The cause, and what to do about it.
    pub message: String,
}

impl ConfigProblem {
    /// About something that is in no file.
    pub(super) fn new(at: &str, message: impl Into<String>) -> Self {
        Self { file: None, line: None, at: at.to_owned(), message: message.into() }
    }

    /// About a whole file.
    pub(super) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: Some(file.to_owned()), line: None, at: String::new(), message: message.into() }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
        }
        if !self.at.is_empty() {
            write!(f, "{}: ", self.at.escape_debug())?;
        }
        f.write_str(&self.message)
    }
}

/// Why a configuration cannot be used. Nothing of it takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// All that is wrong, at least one thing; by file and line.
    pub problems: Vec<ConfigProblem>,
}

impl ConfigError {
    pub(super) fn new(mut problems: Vec<ConfigProblem>) -> Self {
        problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        problems.dedup();
        Self { problems }
    }

    /// `Ok` when there is no problem.
    pub(super) fn unless_empty(problems: Vec<ConfigProblem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self::new(problems)) }
    }
}

impl From<ConfigProblem> for ConfigError {
    fn from(problem: ConfigProblem) -> Self {
        Self::new(vec![problem])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().take(SHOWN).enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        match self.problems.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more"),
        }
    }
}

impl std::error::Error for ConfigError {}
