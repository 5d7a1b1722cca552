//! The vocabulary of Checkrein and every decision that it makes, without I/O.
//!
//! Nothing here reads a clock, a socket, a file or a database: time and counts are arguments. That is what
//! lets one piece of code serve the server, the command line and a replay of the recorded past alike.
//!
//! Data flows one way: a [`check::Check`] is classified into an [`action::Action`] ([`classify`]), the
//! action is judged by a compiled [`policy::PolicySet`], and the result is a [`decision::Decision`], which
//! becomes an [`event::Event`] in the hash-chained action log ([`chain`]).

pub mod action;
pub mod approval;
pub mod chain;
pub mod check;
pub mod classify;
pub mod decision;
pub mod drift;
pub mod event;
pub mod fingerprint;
pub mod grant;
pub mod json;
pub mod key;
pub mod name;
pub mod policy;
pub mod recorded;
pub mod redact;
pub mod rollback;
pub mod signal;
pub mod snapshot;
pub mod time;
pub mod touched;
pub mod trace;
