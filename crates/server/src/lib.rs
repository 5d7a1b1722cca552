//! Checkrein's application: the life of a check, and the HTTP API around it.
//!
//! [`app`] reads like section "The life of an action" of the architecture: it gathers facts, asks `core` for
//! the decision, puts it on record and answers. [`http`] only translates between requests and `app`. It is
//! the one place that turns errors into HTTP.

pub mod app;
mod clock;
pub mod config;
mod console;
pub mod http;
mod metrics;
mod run;

pub use run::{Ready, RunError, run};

/// The description of the HTTP API, as JSON: what `openapi.json` in the repository holds.
pub fn openapi() -> String {
    let mut text = http::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}
