//! Signals on their way out: one file a [`Sink`], and the dispatcher that feeds them.

pub mod feed;
pub mod http;
pub mod message;
pub mod sink;
pub mod sinks;
pub mod text;

pub use sink::{Failure, Retry, Sink};
