//! One file a sink.

pub mod pagerduty;
pub mod slack;
pub mod webhook;
