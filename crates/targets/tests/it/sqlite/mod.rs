//! SQLite files: real ones, with other connections and other programs at work on them.

mod basics;
mod bulk;
mod conflicts;
mod counting;
mod crash;
mod harness;
mod others;
mod random;
mod recipe;
mod refused;
