//! `checkrein hook`: puts Checkrein into programs that ask before they act.

mod check;
mod settings;

use crate::{
    failure::{Failure, Result},
    file,
    output::{Out, clean, note},
    remote::address,
};
use serde_json::json;
use settings::New;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Have Claude Code ask before every tool call
    ClaudeCode(Box<ClaudeCode>),
}

#[derive(clap::Args)]
#[command(
    group(clap::ArgGroup::new("what").required(true)),
    after_help = "\
Examples:
  checkrein hook claude-code --install --user
  checkrein hook claude-code --install --project ~/shop --wait 0 --dry-run
  checkrein hook claude-code --check"
)]
pub(crate) struct ClaudeCode {
    /// Write the hook into Claude Code's settings; what else is in them stays
    #[arg(long, group = "what")]
    install: bool,
    /// Take it out again
    #[arg(long, group = "what")]
    uninstall: bool,
    /// Say whether it is there, whether Claude Code heeds it, and whether the server answers
    #[arg(long, group = "what")]
    check: bool,
    /// The project's settings, DIR/.claude/settings.json [default: .]
    #[arg(long, value_name = "DIR", conflicts_with = "user")]
    project: Option<PathBuf>,
    /// Your own settings, ~/.claude/settings.json, for every project
    #[arg(long)]
    user: bool,
    /// Print what the file would be, and write nothing
    #[arg(long, conflicts_with = "check")]
    dry_run: bool,
    /// Seconds that a held call waits for a person before Claude is told to go on without it
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=570))]
    wait: u64,
    /// The environment variable in which Claude Code finds the key. The key itself is not written
    #[arg(long, value_name = "NAME", default_value = "CHECKREIN_API_KEY", value_parser = variable)]
    key_env: String,
    /// Where the server is. `--check` asks this one alone
    #[arg(long, env = "CHECKREIN_URL", default_value = "http://127.0.0.1:7070")]
    url: String,
}

/// A name that Claude Code puts the value of in the place of `$NAME`.
fn variable(text: &str) -> std::result::Result<String, String> {
    let named = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if named && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return Ok(text.to_owned());
    }
    Err("write the name of an environment variable: letters, digits and `_`".to_owned())
}

pub(crate) fn run(command: Command, out: &mut Out) -> Result {
    let Command::ClaudeCode(args) = command;
    address(&args.url)?;
    if args.check { check::run(&args, out) } else { change(&args, out) }
}

impl ClaudeCode {
    /// The file to change.
    fn file(&self) -> Result<PathBuf> {
        if self.user {
            return user_settings();
        }
        let folder = self.project.as_deref().unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(Failure::failed(format!("there is no folder {}", folder.display())));
        }
        Ok(folder.join(".claude").join("settings.json"))
    }
}

/// Where Claude Code keeps a person's own settings.
fn user_settings() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("CLAUDE_CONFIG_DIR").or_else(|| set("HOME").map(|home| home.join(".claude")));
    let folder =
        folder.ok_or_else(|| Failure::failed("HOME is not set, so your settings cannot be found"))?;
    Ok(folder.join("settings.json"))
}

fn change(args: &ClaudeCode, out: &mut Out) -> Result {
    let path = args.file()?;
    let at = |e: &dyn std::fmt::Display| Failure::failed(format!("{}: {e}", path.display()));
    if path.is_symlink() && !path.exists() {
        return Err(at(&"it is a link that leads nowhere; take it away, or make what it leads to"));
    }
    let before = match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        read => Some(read.map_err(|e| at(&e))?),
    };
    let url = args.url.trim_end_matches('/');
    let after = match &before {
        None if args.uninstall => None,
        text => {
            let text = text.as_deref().unwrap_or_default();
            let new = New { url, key_env: &args.key_env, wait: args.wait };
            let edited = if args.install { settings::installed(text, &new) } else { settings::removed(text) };
            Some(
                edited
                    .map_err(|e| Failure::failed(format!("{} {e}. Nothing was changed", path.display())))?,
            )
        }
    };
    let changed = after != before;
    if args.dry_run {
        let text = after.unwrap_or_default();
        if out.json {
            out.json(&json!({ "file": path, "changed": changed, "text": text }))?;
        } else {
            out.raw(text.as_bytes())?;
        }
        return Ok(());
    }
    if let (true, Some(text)) = (changed, &after) {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| at(&e))?;
        }
        file::replace(&path, before.as_deref(), text).map_err(|e| at(&e))?;
    }
    if out.json {
        out.json(&json!({ "file": path, "changed": changed, "installed": args.install }))?;
    } else {
        let shown = clean(&path.display().to_string()).into_owned();
        out.line(&match (args.install, changed) {
            (true, true) => format!("Claude Code asks {} before every tool call: {shown}", clean(url)),
            (true, false) => format!("{shown} has the hook already"),
            (false, true) => format!("{shown} no longer has the hook"),
            (false, false) => format!("{shown} does not have the hook"),
        })?;
    }
    out.flush()?;
    if args.install {
        next(args);
    }
    Ok(())
}

fn next(args: &ClaudeCode) {
    if let Some(problem) = check::version().problem() {
        note(&format!("careful: {problem}"));
    }
    note(&format!(
        "Claude Code reads an agent's key from {name}, where you start it:\n  \
         export {name}=…    # from: checkrein keys create --role agent --name claude-code --agent claude-code\n\
         Then see whether all is well, in the same place: checkrein hook claude-code --check{user} --url {url} --key-env \
         {name}",
        name = args.key_env,
        url = clean(args.url.trim_end_matches('/')),
        user = if args.user { " --user" } else { "" },
    ));
}
