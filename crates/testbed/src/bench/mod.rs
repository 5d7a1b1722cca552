//! The benchmark of a check: real servers in their own processes, a load generator in another, and rounds
//! that interleave them, so that a busy neighbour hits all of them alike.
//!
//! Everything listens on loopback, is bounded in time, and ends with the process that started it.

pub mod http1;
pub mod load;
pub mod noop;
pub mod process;
pub mod report;
pub mod subject;
pub mod sync;

/// What went wrong, for the person who runs the benchmark.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
