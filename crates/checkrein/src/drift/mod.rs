//! `checkrein drift`: what an agent normally does, on recorded events and plain series, without a server.

mod events;
mod explain;
mod plot;
mod replay;
mod score;

use crate::{failure::Result, output::Out};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Find departures from what is normal in recorded events
    Replay(replay::Args),
    /// Score a series of numbers, row by row
    Score(score::Args),
    /// Show what is normal for an agent, as text and as a plot
    Explain(explain::Args),
}

pub(crate) fn run(command: Command, out: &mut Out) -> Result {
    match command {
        Command::Replay(args) => replay::run(&args, out),
        Command::Score(args) => score::run(&args, out),
        Command::Explain(args) => explain::run(&args, out),
    }
}
