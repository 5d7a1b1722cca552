//! `checkrein mcp`

use crate::{
    failure::{Failure, Result},
    logs,
    output::{Out, clean},
    remote::Remote,
};
use checkrein_core::fingerprint::hex;
use checkrein_intercept::{
    Gate, GateOptions, OnUnreachable,
    mcp::{DEFAULT_MAX_MESSAGE, Gateway, Options, Watch, stdio},
};
use serde_json::json;
use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  checkrein mcp --name files -- npx -y @modelcontextprotocol/server-filesystem /srv/docs
  checkrein mcp --name files --accept read_file
The server's tools are checked as mcp__NAME__TOOL. Its exit code is this command's.")]
pub(crate) struct Args {
    /// The command that starts an MCP server on its standard input and output, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// What the server is called, in policies and on record
    #[arg(long, value_parser = name)]
    name: Option<String>,
    /// Who acts
    #[arg(long, env = "CHECKREIN_AGENT")]
    agent: Option<String>,
    /// The run or conversation
    #[arg(long)]
    session: Option<String>,
    /// Wait so many seconds for the answer to a hold
    #[arg(long, value_name = "SECONDS", default_value_t = 45)]
    wait: u64,
    /// The most that a check may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
    /// What to do while the server of Checkrein cannot be reached
    #[arg(long, value_name = "WHAT", default_value = "block")]
    on_unreachable: Unreachable,
    /// The largest message, in MiB
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_MAX_MESSAGE / MIB, value_parser = max_message)]
    max_message: usize,
    /// Where it is kept what the tools were when first seen [default: ~/.local/state/checkrein/mcp]
    #[arg(long, value_name = "FOLDER", env = "CHECKREIN_MCP_STATE")]
    state: Option<PathBuf>,
    /// Accept that these tools changed (`*` for all), instead of running
    #[arg(long, value_name = "TOOL", num_args = 1..)]
    accept: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

const MIB: usize = 1024 * 1024;

#[derive(Clone, Copy, clap::ValueEnum)]
enum Unreachable {
    /// The call does not run
    Block,
    /// A call runs if the built-in catalogue takes it for a read
    AllowReads,
}

pub(crate) fn run(args: &Args, out: &mut Out) -> Result {
    if args.command.is_empty() && (args.accept.is_empty() || args.name.is_none()) {
        return Err(Failure::usage(
            "say which MCP server to front, after two dashes: checkrein mcp --name files -- COMMAND",
        ));
    }
    let watch = Watch::open(args.state_file()?).map_err(|e| Failure::failed(e.to_string()))?;
    if !args.accept.is_empty() {
        return accept(args, &watch, out);
    }
    logs::to_stderr("warn")?;
    let client = args.remote.client()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("cannot start: {e}")))?;
    let ended = runtime.block_on(async {
        let gate = Arc::new(Gate::new(client, args.gate()));
        let gateway = Arc::new(Gateway::new(gate, watch, args.options()));
        let (program, arguments) = args.command.split_first().unzip();
        stdio::run(gateway, program.unwrap_or(&OsString::new()), arguments.unwrap_or_default()).await
    });
    // A thread that reads our input may never come back from it.
    runtime.shutdown_background();
    match ended.map_err(|e| Failure::failed(e.to_string()))? {
        0 => Ok(()),
        code => Err(Failure::Ended(u8::try_from(code).unwrap_or(1))),
    }
}

fn accept(args: &Args, watch: &Watch, out: &mut Out) -> Result {
    let all = args.accept.iter().any(|name| name == "*");
    let names = if all { &[][..] } else { &args.accept };
    let accepted = watch.accept_named(names).map_err(|e| Failure::failed(e.to_string()))?;
    if out.json {
        out.json(&json!({"accepted": accepted}))?;
    } else {
        for name in &accepted {
            out.line(&format!("accepted {}", clean(name)))?;
        }
    }
    match names.iter().find(|name| !accepted.contains(name)) {
        Some(missing) => {
            Err(Failure::failed(format!("the tool {missing} has not changed, or was never seen")))
        }
        None => Ok(()),
    }
}

impl Args {
    fn gate(&self) -> GateOptions {
        GateOptions {
            agent: self.agent.clone(),
            timeout: Duration::from_secs(self.timeout),
            on_unreachable: match self.on_unreachable {
                Unreachable::Block => OnUnreachable::Block,
                Unreachable::AllowReads => OnUnreachable::AllowReads,
            },
        }
    }

    fn options(&self) -> Options {
        Options {
            name: self.name.clone(),
            session: self.session.clone(),
            wait: Duration::from_secs(self.wait.min(86_400)),
            max_message: self.max_message * MIB,
        }
    }

    /// One file a server, which its name or else its command line tells from others.
    fn state_file(&self) -> Result<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let folder = self
            .state
            .clone()
            .or_else(|| Some(set("XDG_STATE_HOME")?.join("checkrein/mcp")))
            .or_else(|| Some(set("HOME")?.join(".local/state/checkrein/mcp")))
            .ok_or_else(|| {
                Failure::usage(
                    "nowhere to keep what the tools were when first seen: name a folder with --state",
                )
            })?;
        let file = match &self.name {
            Some(name) => name.clone(),
            None => {
                let line: Vec<_> = self.command.iter().map(|part| part.to_string_lossy()).collect();
                format!("command-{}", digest(&json!(line).to_string()))
            }
        };
        Ok(folder.join(format!("{file}.json")))
    }
}

/// The start of a SHA-256, enough to tell command lines apart.
fn digest(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    hex(&Sha256::digest(text)).chars().take(16).collect()
}

/// A name that can be part of a tool's name and of a file's.
fn name(text: &str) -> std::result::Result<String, String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) && !text.contains("__") {
        return Ok(text.to_owned());
    }
    Err("a name is 1 to 64 of a-z, 0-9, - and _, without __".to_owned())
}

fn max_message(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(mib @ 1..=1024) => Ok(mib),
        _ => Err("write a whole number of MiB, 1 to 1024".to_owned()),
    }
}
