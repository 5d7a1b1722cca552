//! The sinks against receivers that keep their contracts strictly.

#![expect(clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

mod datadog;
mod feed;
mod otlp;
mod samples;
mod splunk;
mod syslog;
