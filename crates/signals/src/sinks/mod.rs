//! One file a sink.

mod batch;

pub mod datadog;
pub mod pagerduty;
pub mod slack;
pub mod splunk;
pub mod webhook;
