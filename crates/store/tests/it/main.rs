//! The store against real files.

mod common;
mod records;
