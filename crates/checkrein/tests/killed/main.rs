//! The real process, killed while it executes and rolls back: afterwards the database holds the old or the new
//! state, the log says which, and what was committed has its snapshot.

#[cfg(test)]
mod approvals;
#[cfg(test)]
mod commits;
#[cfg(test)]
mod database;
#[cfg(test)]
mod moments;
#[cfg(test)]
mod shop;
#[cfg(test)]
mod signals;
