//! The targets against real systems.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod files;
mod mysql;
mod postgres;
mod snapshot;
mod sqlite;
