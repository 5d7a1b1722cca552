//! The sinks against receivers: strict ones, broken ones, and real ones of others.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod common;
mod http;
mod pagerduty;
mod slack;
mod tls;
mod webhook;
