//! The command line, as a person or a script uses it.

#[cfg(test)]
mod approvals;
#[cfg(test)]
mod breaker;
#[cfg(test)]
mod common;
#[cfg(test)]
mod drift;
#[cfg(test)]
mod hook;
#[cfg(test)]
mod local;
#[cfg(test)]
mod server;
#[cfg(test)]
mod target;
#[cfg(test)]
mod undo;
