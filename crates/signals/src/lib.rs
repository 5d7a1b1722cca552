//! Signals on their way out: one file a [`Sink`], and the dispatcher that feeds them.

pub mod sink;
pub mod sinks;

pub use sink::{Failure, Retry, Sink};
