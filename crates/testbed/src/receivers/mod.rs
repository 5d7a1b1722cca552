//! Receivers of signals for tests, one file a protocol: strict where a contract is, and broken where a test
//! says so.

pub mod datadog;
pub mod otlp;
pub mod pagerduty;
pub mod scripted;
pub mod slack;
pub mod splunk;
pub mod teams;

use serde_json::Value;

/// How long a text is as JavaScript counts, which several contracts do.
fn length(text: &Value) -> Option<usize> {
    Some(text.as_str()?.encode_utf16().count())
}
