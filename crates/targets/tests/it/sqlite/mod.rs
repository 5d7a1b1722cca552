//! SQLite files: real ones, with other connections and other programs at work on them.

mod basics;
mod conflicts;
mod counting;
mod harness;
mod random;
mod recipe;
mod refused;
