//! For development only: what tests and benchmarks run against, and what drives it.
//!
//! The architecture test and the tidy test are in `tests/`; the benchmarks' entry points in `/benches`.

pub mod bench;
