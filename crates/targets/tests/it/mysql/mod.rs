//! MariaDB. MySQL is not installed where these tests run.

#![expect(clippy::panic, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod account;
mod checked;
mod common;
mod concurrent;
mod crash;
mod execute;
mod meanwhile;
mod property;
mod rollback;
mod types;
