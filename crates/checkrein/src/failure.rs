//! How a command ends when it does not end well.

use crate::output;
use checkrein_api::ClientError;
use checkrein_server::config::ConfigError;
use std::{io, process::ExitCode};

/// The result of a command.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// The documented exit codes (`docs/cli.md`); they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// It did not work, was not found, or a test or verification found something.
    Failed = 1,
    /// The command line or its input cannot be understood.
    Usage = 2,
    /// The verdict is `block`.
    Blocked = 3,
    /// The verdict is `hold`.
    Held = 4,
    /// The server cannot be reached, or what answers is not Checkrein.
    Unreachable = 5,
    /// The key is missing, unknown, or may not do this.
    Refused = 6,
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// With what to say about it.
    Message(Code, String),
    /// The output says it already.
    Quiet(Code),
    /// A program that was run in between ended like this.
    Ended(u8),
    /// Whoever read the output has had enough. Nobody is left to tell.
    ClosedPipe,
}

impl Failure {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Message(Code::Failed, message.into())
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Message(Code::Usage, message.into())
    }

    /// Says why, on stderr, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Message(code, message) => {
                output::note(&format!("checkrein: {message}"));
                ExitCode::from(code as u8)
            }
            Self::Quiet(code) => ExitCode::from(code as u8),
            Self::Ended(code) => ExitCode::from(code),
            Self::ClosedPipe => ExitCode::SUCCESS,
        }
    }
}

/// The exit code for a command line that clap turned away, or answered itself.
pub(crate) fn usage_code(is_error: bool) -> ExitCode {
    if is_error { ExitCode::from(Code::Usage as u8) } else { ExitCode::SUCCESS }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::BrokenPipe {
            return Self::ClosedPipe;
        }
        Self::failed(format!("cannot write the output: {e}"))
    }
}

impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Self {
        let (is, problems) = if e.problems.len() == 1 { ("is", "problem") } else { ("are", "problems") };
        Self::failed(format!(
            "nothing was changed; there {is} {} {problems} to solve:\n{e}",
            e.problems.len()
        ))
    }
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Self {
        let code = match &e {
            ClientError::Problem(problem) => match problem.status {
                401 | 403 => Code::Refused,
                503 => Code::Unreachable,
                _ => Code::Failed,
            },
            ClientError::Unreachable { .. } | ClientError::NotCheckrein { .. } => Code::Unreachable,
        };
        Self::Message(code, e.to_string())
    }
}
