//! One file a sink.

pub mod alertmanager;
pub mod pagerduty;
pub mod slack;
pub mod teams;
pub mod webhook;
