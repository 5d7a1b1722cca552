//! `checkrein drift`: what an agent normally does, as the server knows it, and on recorded events and plain series without one.

mod events;
mod explain;
mod live;
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
    /// Take what an agent did for normal
    Accept(live::Accept),
    /// Let the server learn anew from its action log
    Rebuild(live::Rebuild),
}

pub(crate) fn run(command: Command, out: &mut Out) -> Result {
    match command {
        Command::Replay(args) => replay::run(&args, out),
        Command::Score(args) => score::run(&args, out),
        Command::Explain(args) => explain::run(&args, out),
        Command::Accept(args) => live::accept(args, out),
        Command::Rebuild(args) => live::rebuild(args, out),
    }
}
