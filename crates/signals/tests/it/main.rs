//! The sinks against receivers: strict ones, broken ones, and real ones of others.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod alertmanager;
mod common;
mod datadog;
mod feed;
mod http;
mod others;
mod otlp;
mod pagerduty;
mod samples;
mod slack;
mod splunk;
mod syslog;
mod teams;
mod tls;
mod webhook;
