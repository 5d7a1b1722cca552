//! Signals on their way out: one file a [`Sink`], and the dispatcher that feeds them.
//!
//! ```text
//! Ledger ─ signals ─► Groups (core) ─► Queue, one a sink ─► Sink
//!    └──── entries ─► Feed, one a sink ────────────────────► Sink
//! ```

pub mod dispatcher;
pub mod examples;
pub mod feed;
mod feeder;
pub mod http;
pub mod ledger;
pub mod message;
pub mod queue;
pub mod report;
pub mod sink;
pub mod sinks;
pub mod text;

pub use dispatcher::{Dispatcher, Outlet, Setup};
pub use feeder::ToRecord;
pub use ledger::{Ledger, LedgerError};
pub use queue::{Circuit, Pace};
pub use report::{Reports, SinkReport};
pub use sink::{Failure, Retry, Sink};
