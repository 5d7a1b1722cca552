//! `checkrein`: the one binary, server and command line.

mod approvals;
mod breaker;
mod check;
mod classify;
mod config;
mod drift;
mod execute;
mod failure;
mod file;
mod hook;
mod input;
mod keys;
mod log;
mod logs;
mod mcp;
mod openapi;
mod output;
mod policy;
mod remote;
mod rollback;
mod serve;
mod signal;
mod snapshot;
mod target;

use clap::{Parser, Subcommand};
use failure::Failure;
use output::Out;
use std::process::ExitCode;

/// A check makes and frees some hundred small objects, on whichever threads it meets.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The checkpoint that every action of an AI agent passes before it runs.
#[derive(Parser)]
#[command(name = "checkrein", version, propagate_version = false, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print results as JSON
    #[arg(long, global = true)]
    json: bool,
}

const AFTER_HELP: &str = "\
Start here:
  checkrein serve
Exit codes: 0 done or allowed, 1 failed or not found, 2 wrong usage, 3 blocked, 4 held,
5 server unreachable, 6 key missing or refused. More in docs/cli.md.";

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Args),
    /// Ask whether an action may run
    Check(Box<check::Args>),
    /// Run SQL on a target, if the policies allow what it really changes
    Execute(Box<execute::Args>),
    /// See, take, seal and export snapshots
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Give the records of a snapshot back their old content
    Rollback(rollback::Args),
    /// Stand between an MCP client and a server, and check every call of a tool
    Mcp(Box<mcp::Args>),
    /// Explain what a check is taken for, without a server
    Classify(classify::Args),
    /// See, change, test and replay policies
    #[command(subcommand)]
    Policy(policy::Command),
    /// See and answer holds
    #[command(subcommand)]
    Approvals(approvals::Command),
    /// Stop an agent, a group or everything, and let it run again
    #[command(subcommand)]
    Breaker(breaker::Command),
    /// See signals and sinks, send signals again, keep them back
    #[command(subcommand)]
    Signal(signal::Command),
    /// See what is normal for an agent, and find departures from it in recorded events and series
    #[command(subcommand)]
    Drift(drift::Command),
    /// Read and verify the action log
    #[command(subcommand)]
    Log(log::Command),
    /// See, create and revoke keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Connect databases and folders
    #[command(subcommand)]
    Target(target::Command),
    /// Put Checkrein into other programs
    #[command(subcommand)]
    Hook(hook::Command),
    /// Check the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Print the description of the HTTP API
    Openapi,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are errors to clap too; those go to stdout and are none.
            let _closed_pipe = e.print();
            return failure::usage_code(e.use_stderr());
        }
    };
    let mut out = Out::stdout(cli.json);
    let result = match cli.command {
        Command::Serve(args) => serve::run(args, &mut out),
        Command::Check(args) => check::run(&args, &mut out),
        Command::Execute(args) => execute::run(*args, &mut out),
        Command::Snapshot(command) => snapshot::run(command, &mut out),
        Command::Rollback(args) => rollback::run(args, &mut out),
        Command::Mcp(args) => mcp::run(&args, &mut out),
        Command::Classify(args) => classify::run(&args, &mut out),
        Command::Policy(command) => policy::run(command, &mut out),
        Command::Approvals(command) => approvals::run(command, &mut out),
        Command::Breaker(command) => breaker::run(command, &mut out),
        Command::Signal(command) => signal::run(command, &mut out),
        Command::Drift(command) => drift::run(command, &mut out),
        Command::Log(command) => log::run(command, &mut out),
        Command::Keys(command) => keys::run(command, &mut out),
        Command::Target(command) => target::run(command, &mut out),
        Command::Hook(command) => hook::run(command, &mut out),
        Command::Config(command) => config::run(command, &mut out),
        Command::Openapi => openapi::run(&mut out),
    };
    match result.and_then(|()| out.flush().map_err(Failure::from)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
