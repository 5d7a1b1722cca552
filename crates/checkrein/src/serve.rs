//! `checkrein serve`

use crate::{
    config::env,
    failure::{Failure, Result},
    logs,
    output::{Out, clean},
};
use checkrein_server::{
    Ready,
    config::{Config, Overrides, address},
};
use serde_json::json;
use std::{io, net::SocketAddr, path::PathBuf};

#[derive(clap::Args)]
#[command(after_help = "\
Environment:
  CHECKREIN_LISTEN, CHECKREIN_DATA, CHECKREIN_CONFIG  as the flags
  CHECKREIN_ADMIN_KEY    the first admin's key, at least 20 characters
  CHECKREIN_LOG          error, warn, info, debug or a filter
  CHECKREIN_LOG_FORMAT   text or json
  TOKIO_WORKER_THREADS   threads that answer [default: one a core, but one core for the log]
Signals:
  SIGHUP                 reads the configuration again; a wrong one changes nothing
  SIGTERM, SIGINT        finish what has been accepted, then stop")]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,
    /// The folder of the action log and everything else that lasts [default: ./checkrein-data]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The configuration file [default: ./checkrein.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen beyond this machine without TLS, although everybody on the way can read the keys
    #[arg(long)]
    insecure_listen: bool,
}

pub(crate) fn run(args: Args, out: &mut Out) -> Result {
    let overrides = Overrides {
        config: args.config,
        listen: args.listen,
        data: args.data,
        insecure_listen: args.insecure_listen,
    };
    let config = Config::load(&overrides, &env)?;
    logs::to_stderr("info")?;
    let runtime = runtime().map_err(|e| Failure::failed(format!("cannot start: {e}")))?;
    let reload = move || Config::load(&overrides, &env);
    let on_ready = |ready: &Ready| {
        // The server serves, whether somebody reads this or not.
        let _nobody_reads = announce(ready, out);
    };
    runtime
        .block_on(checkrein_server::run(config, reload, on_ready))
        .map_err(|e| Failure::failed(e.to_string()))
}

/// A thread for each core but one: the log's writer, which every check waits for, has a thread of its own, and a check
/// costs less CPU when nobody fights with it for a core (docs/performance.md). `TOKIO_WORKER_THREADS` says otherwise.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if env("TOKIO_WORKER_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        builder.worker_threads((cores - 1).max(1));
    }
    builder.enable_all().build()
}

fn announce(ready: &Ready, out: &mut Out) -> io::Result<()> {
    let url = format!("{}://{}", if ready.tls { "https" } else { "http" }, ready.addr);
    if out.json {
        out.json_line(&json!({"listening": url, "data": ready.data, "admin_key": ready.new_admin_key}))?;
        return out.flush();
    }
    let version = env!("CARGO_PKG_VERSION");
    out.line(&format!(
        "Checkrein {version} is listening on {url}, with its data in {}",
        clean(&ready.data.display().to_string())
    ))?;
    out.line(&format!(
        "People decide, look and undo at {url}/ (sign in with a key of role operator or admin)"
    ))?;
    if let Some(key) = &ready.new_admin_key {
        out.line("\nThis is the first start. The admin key, shown this once; keep it, and in another terminal type")?;
        if url != "http://127.0.0.1:7070" {
            out.line(&format!("  export CHECKREIN_URL={url}"))?;
        }
        out.line(&format!("  export CHECKREIN_API_KEY={}", clean(key)))?;
        out.line("  checkrein check --action delete --resource production.users --record-count 10000")?;
    }
    out.flush()
}
