//! Logging of commands that run for long.

use crate::{
    config::env,
    failure::{Failure, Result},
};
use std::io;
use tracing_subscriber::EnvFilter;

/// What happens, on stderr: what `CHECKREIN_LOG` asks for, or else `default`.
pub(crate) fn to_stderr(default: &str) -> Result {
    let filter = env("CHECKREIN_LOG").filter(|f| !f.is_empty()).unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::try_new(&filter).map_err(|e| {
        Failure::usage(format!("CHECKREIN_LOG={filter} is no filter: {e}; write e.g. info or debug"))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    match env("CHECKREIN_LOG_FORMAT").as_deref() {
        Some("json") => builder.json().init(),
        None | Some("" | "text") => builder.init(),
        Some(other) => {
            return Err(Failure::usage(format!("CHECKREIN_LOG_FORMAT={other} is neither json nor text")));
        }
    }
    Ok(())
}
