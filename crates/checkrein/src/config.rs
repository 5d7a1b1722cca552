//! `checkrein config`

use crate::{
    failure::Result,
    output::{Out, clean, note, plural},
};
use checkrein_server::config::{Config, Overrides};
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Read the configuration as `serve` would, and say what is wrong with it
    Check {
        /// The file; otherwise CHECKREIN_CONFIG, or ./checkrein.toml if it exists
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

/// An environment variable, for [`Config::load`]. One that is not UTF-8 is as good as another value: it
/// fails where it is used.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

pub(crate) fn run(command: Command, out: &mut Out) -> Result {
    let Command::Check { config } = command;
    let config = Config::load(&Overrides { config, ..Overrides::default() }, &env)?;
    let (policies, tools) = (config.file_policies.len(), config.catalogue.tools.len());
    let targets = config.catalogue.targets.len();
    if out.json {
        let connected = config.targets.iter().map(|t| {
            json!({
                "name": t.config.name, "kind": t.config.place.kind().as_str(), "environment": t.environment,
            })
        });
        return Ok(out.json(&json!({
            "ok": true, "file": config.path, "listen": config.listen, "data": config.data,
            "tls": config.tls.is_some(), "policies": policies, "tools": tools, "targets": targets,
            "connected": connected.collect::<Vec<_>>(),
            "snapshots_encrypted": config.snapshots.encryption_key.is_some(),
        }))?);
    }
    match &config.path {
        Some(path) => out.line(&format!("{} is good", clean(&path.display().to_string())))?,
        None => out.line("there is no configuration file; the defaults are good")?,
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    out.line(&format!("  listen    {scheme}://{}", config.listen))?;
    out.line(&format!("  data      {}", clean(&config.data.display().to_string())))?;
    out.line(&format!("  policies  {policies}"))?;
    out.line(&format!("  targets   {targets}"))?;
    for target in &config.targets {
        let (name, kind) = (clean(&target.config.name), target.config.place.kind().as_str());
        out.line(&format!("    {name}  {kind}, {}", target.environment.as_str()))?;
    }
    out.line(&format!("  tools     {}", plural(tools, "rule", "rules")))?;
    out.flush()?;
    for target in &config.targets {
        if let Some(path) = target.config.place.missing() {
            note(&format!("warning: target {}: {} is not there", target.config.name, path.display()));
        }
    }
    note("start with: checkrein serve; a running server takes it over on SIGHUP");
    Ok(())
}
