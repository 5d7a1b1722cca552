//! Enforcement points that need no change to an agent's code.
//!
//! What stands here speaks the protocol of somebody else on both sides, asks a Checkrein server about each
//! action in between, and fails closed. It knows the API and nothing of the server behind it.

mod gate;
pub mod mcp;

pub use gate::{Gate, GateOptions, OnUnreachable};
