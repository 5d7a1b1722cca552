//! The store against real files.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, and processes that tests start"
)]

mod approvals;
mod common;
mod crash;
mod faults;
mod finding;
mod journal;
mod listing;
mod migrate;
mod model;
mod outbox;
mod records;
mod retention;
mod snapshots;
mod tamper;
