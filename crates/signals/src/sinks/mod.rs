//! One file a sink.

mod batch;

pub mod alertmanager;
pub mod datadog;
pub mod otlp;
pub mod pagerduty;
pub mod slack;
pub mod splunk;
pub mod syslog;
pub mod teams;
pub mod webhook;
