//! `checkrein mcp`

use crate::{
    config::env,
    failure::{Failure, Result},
    logs,
    output::{Out, clean},
    remote::Remote,
};
use checkrein_core::fingerprint::hex;
use checkrein_intercept::{
    Gate, GateOptions, OnUnreachable,
    mcp::{
        DEFAULT_MAX_MESSAGE, Gateway, Options, Watch,
        http::{self, Upstream},
        stdio,
    },
};
use checkrein_server::config::{McpServer, address, config_file, mcp_name, read_mcp};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use std::{ffi::OsString, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  checkrein mcp --name files -- npx -y @modelcontextprotocol/server-filesystem /srv/docs
  checkrein mcp --listen 127.0.0.1:7080 --name shop --upstream https://shop.example.com/mcp
  checkrein mcp --listen 127.0.0.1:7080               # [mcp.NAME] of the configuration, each at /NAME/mcp
  checkrein mcp --name files --accept read_file
A server's tools are checked as mcp__NAME__TOOL. The exit code of one that is started is
this command's.")]
pub(crate) struct Args {
    /// The command that starts an MCP server on its standard input and output, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// Listen here for clients that speak streamable HTTP; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", value_parser = address, conflicts_with = "command")]
    listen: Option<SocketAddr>,
    /// The MCP server to front, at /mcp; otherwise those of the configuration
    #[arg(long, value_name = "URL", requires = "listen")]
    upstream: Option<String>,
    /// The configuration file [default: ./checkrein.toml if it exists]
    #[arg(long, value_name = "FILE", requires = "listen", conflicts_with = "upstream")]
    config: Option<PathBuf>,
    /// A name that clients may reach the gateway by, besides localhost
    #[arg(long, value_name = "HOST", requires = "listen")]
    allow_host: Vec<String>,
    /// Listen beyond this machine, although the gateway knows no TLS and asks nobody for a key
    #[arg(long, requires = "listen")]
    insecure_listen: bool,
    /// What the server is called, in policies and on record
    #[arg(long, value_parser = mcp_name)]
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
    if !args.accept.is_empty() {
        return accept(args, out);
    }
    if args.command.is_empty() && args.listen.is_none() {
        return Err(Failure::usage(
            "say which MCP server to front: a command after two dashes (checkrein mcp --name files -- COMMAND), \
             or --listen with --upstream",
        ));
    }
    logs::to_stderr("warn")?;
    let client = args.remote.client()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("cannot start: {e}")))?;
    let ended = runtime.block_on(async {
        let gate = Arc::new(Gate::new(client, args.gate()));
        match args.listen {
            Some(listen) => args.serve(gate, listen, out).await,
            None => args.wrap(gate).await,
        }
    });
    // A thread that reads our input may never come back from it.
    runtime.shutdown_background();
    ended
}

fn accept(args: &Args, out: &mut Out) -> Result {
    let watch = args.watch(args.name.as_deref())?;
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
    /// Fronts the server that a command starts.
    async fn wrap(&self, gate: Arc<Gate>) -> Result {
        let gateway = Gateway::new(gate, self.watch(self.name.as_deref())?, self.options(self.name.clone()));
        let (program, arguments) = self.command.split_first().unzip();
        let program = program.cloned().unwrap_or_default();
        let ended = stdio::run(Arc::new(gateway), &program, arguments.unwrap_or_default()).await;
        match ended.map_err(|e| Failure::failed(e.to_string()))? {
            0 => Ok(()),
            code => Err(Failure::Ended(u8::try_from(code).unwrap_or(1))),
        }
    }

    /// Fronts servers on an address.
    async fn serve(&self, gate: Arc<Gate>, listen: SocketAddr, out: &mut Out) -> Result {
        if !self.insecure_listen && !listen.ip().to_canonical().is_loopback() {
            return Err(Failure::usage(format!(
                "{listen} can be reached from other machines, and whoever reaches the gateway acts as its agent; listen \
                 on 127.0.0.1 behind a proxy that knows who comes, or insist with --insecure-listen"
            )));
        }
        let upstreams = self.upstreams(&gate)?;
        let failed = |e: &dyn std::fmt::Display| Failure::failed(format!("cannot listen on {listen}: {e}"));
        let listener = TcpListener::bind(listen).await.map_err(|e| failed(&e))?;
        let mut terminate = signal(SignalKind::terminate()).map_err(|e| failed(&e))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| failed(&e))?;
        let at = listener.local_addr().map_err(|e| failed(&e))?;
        let urls: Vec<_> = upstreams.iter().map(|upstream| format!("http://{at}{}", upstream.path)).collect();
        if out.json {
            out.json_line(&json!({"listening": urls}))?;
        } else {
            for url in &urls {
                out.line(&format!("listening on {url}"))?;
            }
        }
        out.flush()?;
        let stop = async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        http::serve(listener, upstreams, self.allow_host.clone(), stop)
            .await
            .map_err(|e| Failure::failed(e.to_string()))
    }

    fn upstreams(&self, gate: &Arc<Gate>) -> Result<Vec<Upstream>> {
        if let Some(url) = &self.upstream {
            return Ok(vec![self.upstream(gate, self.name.as_deref(), "/mcp".to_owned(), url, None)?]);
        }
        let servers = match config_file(self.config.clone(), &env) {
            Some(file) => read_mcp(&file, &env)?,
            None => Vec::new(),
        };
        if servers.is_empty() {
            return Err(Failure::usage(
                "no MCP server is named: give --upstream URL, or write [mcp.NAME] with its url \
                 into the configuration",
            ));
        }
        let front = |McpServer { name, url, authorization }: McpServer| {
            self.upstream(gate, Some(&name), format!("/{name}/mcp"), &url, authorization.as_ref())
        };
        servers.into_iter().map(front).collect()
    }

    fn upstream(
        &self,
        gate: &Arc<Gate>,
        name: Option<&str>,
        path: String,
        url: &str,
        authorization: Option<&SecretString>,
    ) -> Result<Upstream> {
        let parsed = url.parse().ok().filter(|_| url.starts_with("http://") || url.starts_with("https://"));
        let url = parsed.ok_or_else(|| Failure::usage(format!("`{url}` is no address of an MCP server")))?;
        let gateway =
            Gateway::new(Arc::clone(gate), self.watch(name)?, self.options(name.map(str::to_owned)));
        let authorization = authorization.map(|secret| secret.expose_secret().parse()).transpose();
        let authorization = authorization.map_err(|_| {
            Failure::usage("the authorization of an MCP server holds a character that no header has")
        })?;
        Ok(Upstream { gateway: Arc::new(gateway), path, url, authorization })
    }

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

    fn options(&self, name: Option<String>) -> Options {
        Options {
            name,
            session: self.session.clone(),
            wait: Duration::from_secs(self.wait.min(86_400)),
            max_message: self.max_message * MIB,
        }
    }

    /// One file a server, which its name or else its command line or address tells from others.
    fn watch(&self, name: Option<&str>) -> Result<Watch> {
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
        let file = match name {
            Some(name) => name.to_owned(),
            None => {
                let line: Vec<_> = self.command.iter().map(|part| part.to_string_lossy()).collect();
                format!("server-{}", digest(&json!([line, self.upstream]).to_string()))
            }
        };
        Watch::open(folder.join(format!("{file}.json"))).map_err(|e| Failure::failed(e.to_string()))
    }
}

/// The start of a SHA-256, enough to tell command lines apart.
fn digest(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    hex(&Sha256::digest(text)).chars().take(16).collect()
}

fn max_message(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(mib @ 1..=1024) => Ok(mib),
        _ => Err("write a whole number of MiB, 1 to 1024".to_owned()),
    }
}
