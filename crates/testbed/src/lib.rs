//! For development only: what tests and benchmarks run against, and what drives it.
//!
//! The architecture test and the tidy test are in `tests/`; the benchmark's entry point in `benches/`.

pub mod bench;
pub mod disk;
pub mod receivers;
pub mod servers;
