//! The sinks against receivers that keep their contracts strictly.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

mod datadog;
mod feed;
mod samples;
mod splunk;
