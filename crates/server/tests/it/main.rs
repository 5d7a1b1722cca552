//! The server over real sockets, in this process.

#[cfg(test)]
mod approvals;
#[cfg(test)]
mod checks;
#[cfg(test)]
mod common;
#[cfg(test)]
mod console;
#[cfg(test)]
mod databases;
#[cfg(test)]
mod databases_undo;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod drift;
#[cfg(test)]
mod executions;
#[cfg(test)]
mod files;
#[cfg(test)]
mod grants;
#[cfg(test)]
mod hooks;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod interrupted;
#[cfg(test)]
mod keeping;
#[cfg(test)]
mod links;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod oidc;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod redaction;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod shop;
#[cfg(test)]
mod signals;
#[cfg(test)]
mod sinks;
#[cfg(test)]
mod slack;
#[cfg(test)]
mod targets;
#[cfg(test)]
mod undo;
#[cfg(test)]
mod unsettled;
