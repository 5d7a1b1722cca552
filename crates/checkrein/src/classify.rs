//! `checkrein classify`

use crate::{
    config::env,
    failure::{Failure, Result},
    input,
    output::{Out, clean, count},
};
use checkrein_core::{
    action::Action,
    classify::{Catalogue, CatalogueConfig},
    name::Name,
};
use checkrein_server::config::{config_file, read_catalogue};
use serde_json::json;
use std::{io, path::PathBuf};

#[derive(clap::Args)]
#[command(after_help = "\
Example:
  checkrein classify '{\"tool\": \"run_sql\", \"arguments\": {\"sql\": \"DELETE FROM users\"}}'")]
pub(crate) struct Args {
    /// The check as JSON; `-` reads it from stdin
    #[arg(value_name = "JSON")]
    check: String,
    /// The configuration with the tool catalogue [default: ./checkrein.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, out: &mut Out) -> Result {
    let check = input::check(&args.check)?;
    let agent = check.agent.as_deref().map_or_else(|| Ok(Name::default_agent()), Name::new);
    let agent = agent.map_err(|e| Failure::usage(format!("agent: {e}")))?;
    let catalogue = catalogue(args.config.clone())?;
    let (action, steps) = catalogue.explain(&check, agent).map_err(|e| Failure::failed(e.to_string()))?;
    if out.json {
        return Ok(out.json(&json!({"action": action, "steps": steps}))?);
    }
    for step in &steps {
        out.line(&format!("- {}", clean(step)))?;
    }
    Ok(show(&action, out)?)
}

/// The catalogue of the configuration, as `serve` finds it; the defaults when there is none.
pub(crate) fn catalogue(config: Option<PathBuf>) -> Result<Catalogue> {
    let catalogue = match config_file(config, &env) {
        Some(path) => read_catalogue(&path)?,
        None => CatalogueConfig::default(),
    };
    Catalogue::new(&catalogue).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure::failed(lines.join("\n"))
    })
}

fn show(action: &Action, out: &mut Out) -> io::Result<()> {
    out.line(&format!(
        "{} on {} in {}, by {}",
        action.category.as_str(),
        clean(&action.resource),
        action.environment.as_str(),
        clean(&action.agent)
    ))?;
    for effect in &action.effects {
        let names: Vec<_> = effect.names.iter().map(Name::as_str).collect();
        out.line(&format!(
            "  effect      {} ({}) on {}",
            effect.category.as_str(),
            clean(&names.join(", ")),
            clean(&effect.resource)
        ))?;
    }
    out.line(&format!("  records     {}", count(action.records)))?;
    out.line(&format!("  systems     {}", count(action.systems)))?;
    out.line(&format!("  recipients  {}", count(action.recipients)))?;
    let domains: Vec<_> = action.domains.known.iter().map(Name::as_str).collect();
    if !domains.is_empty() || action.domains.unknown {
        let unknown = if action.domains.unknown { " and what could not be understood" } else { "" };
        out.line(&format!("  domains     {}{unknown}", clean(&domains.join(", "))))?;
    }
    Ok(())
}
