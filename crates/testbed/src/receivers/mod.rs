//! Receivers of signals for tests, one file a protocol: strict where a contract is, and broken where a test
//! says so.

pub mod datadog;
pub mod otlp;
pub mod scripted;
pub mod splunk;
