//! MariaDB; and MySQL in its place, if there is one: see docs/targets.md.

#![expect(clippy::panic, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod account;
mod bound;
mod checked;
mod common;
mod concurrent;
mod crash;
mod eight;
mod execute;
mod meanwhile;
mod property;
mod rollback;
mod types;
