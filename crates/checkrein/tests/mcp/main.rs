//! The MCP gateway as a process, in front of servers that are other people's programs.

#[cfg(test)]
mod changes;
#[cfg(test)]
mod common;
#[cfg(test)]
mod http;
#[cfg(test)]
mod stdio;
