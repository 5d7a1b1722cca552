//! SQLite files: real ones, with other connections and other programs at work on them.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

mod basics;
mod bound;
mod bulk;
mod checked;
mod conflicts;
mod counting;
mod crash;
mod harness;
mod others;
mod random;
mod recipe;
mod refused;
