//! `checkrein policy`

mod replay;
mod test;

use crate::{
    failure::{Failure, Result},
    input,
    output::{Out, clean, note, plural},
    remote::Remote,
};
use checkrein_core::policy::Policy;
use checkrein_server::config::{ConfigError, FilePolicy, compile_policies, parse_policies, read_policies};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List the policies in force
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Put a set of policies into force, in place of all that came through the API
    ///
    /// Policies that are not in the set are deleted, but for those that the server has from its own files.
    /// The whole set takes effect at once, or nothing of it.
    Apply {
        #[command(flatten)]
        files: Files,
        #[command(flatten)]
        remote: Remote,
    },
    /// Check policies without a server
    Validate {
        #[command(flatten)]
        files: Files,
    },
    /// Delete a policy
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Run example actions through policies, and compare the verdicts with the expected ones
    Test(test::Args),
    /// Run policies over the recorded past, and show what they would have changed
    Replay(replay::Args),
}

/// Policies from files.
#[derive(clap::Args)]
pub(crate) struct Files {
    /// Files in TOML or JSON, or folders of them; `-` reads JSON from stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Files {
    /// Reads and compiles them as one set.
    fn read(&self) -> Result<(Vec<FilePolicy>, Vec<Policy>)> {
        read(&self.files)
    }
}

/// Reads and compiles the policies of all `files` as one set.
fn read(files: &[PathBuf]) -> Result<(Vec<FilePolicy>, Vec<Policy>)> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for file in files {
        let policies = if file == Path::new("-") {
            parse_policies(Path::new("stdin.json"), &input::stdin()?)
        } else {
            read_policies(file)
        };
        match policies {
            Ok(policies) => found.extend(policies),
            Err(e) => problems.extend(e.problems),
        }
    }
    let compiled = compile_policies(&found);
    match compiled {
        Ok(policies) if problems.is_empty() => Ok((found, policies)),
        Ok(_) => Err(ConfigError { problems }.into()),
        // A set of which a part is missing says nothing about the rest.
        Err(_) if !problems.is_empty() => Err(ConfigError { problems }.into()),
        Err(e) => Err(e.into()),
    }
}

pub(crate) fn run(command: Command, out: &mut Out) -> Result {
    match command {
        Command::List { remote } => list(&remote, out),
        Command::Apply { files, remote } => apply(&files, &remote, out),
        Command::Validate { files } => validate(&files, out),
        Command::Delete { name, remote } => {
            let asked = name.clone();
            remote.ask(|client| async move { client.delete_policy(&asked).await })?;
            if out.json {
                return Ok(out.json(&json!({"deleted": name}))?);
            }
            Ok(out.line(&format!("{} is deleted", clean(&name)))?)
        }
        Command::Test(args) => test::run(args, out),
        Command::Replay(args) => replay::run(&args, out),
    }
}

fn list(remote: &Remote, out: &mut Out) -> Result {
    let list = remote.ask(|client| async move { client.policies().await })?;
    if out.json {
        return Ok(out.json(&list)?);
    }
    if list.policies.is_empty() {
        note(
            "there are no policies, so everything is allowed; put some into force with: checkrein policy apply FILE",
        );
        return Ok(());
    }
    let text =
        |policy: &Value, key: &str| policy.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let rows: Vec<_> = list
        .policies
        .iter()
        .map(|policy| {
            let name = text(policy, "name");
            let source = list.sources.get(&name).cloned().unwrap_or_default();
            let mode = if text(policy, "mode") == "shadow" { "shadow" } else { "enforce" };
            let condition = policy.get("condition").map(Value::to_string).unwrap_or_default();
            [name, text(policy, "rule"), mode.to_owned(), source, condition]
        })
        .collect();
    Ok(out.table(["NAME", "RULE", "MODE", "FROM", "CONDITION"], &rows)?)
}

fn apply(files: &Files, remote: &Remote, out: &mut Out) -> Result {
    let (found, _) = files.read()?;
    let policies = found.into_iter().map(|policy| policy.value).collect();
    let changes = remote.ask(|client| async move { client.apply_policies(policies).await })?;
    if out.json {
        return Ok(out.json(&changes)?);
    }
    for (sign, names) in [('+', &changes.created), ('~', &changes.replaced), ('-', &changes.deleted)] {
        for name in names {
            out.line(&format!("{sign} {}", clean(name)))?;
        }
    }
    out.line(&format!(
        "in force: {} created, {} replaced, {} deleted, {} unchanged",
        changes.created.len(),
        changes.replaced.len(),
        changes.deleted.len(),
        changes.unchanged.len()
    ))?;
    Ok(())
}

fn validate(files: &Files, out: &mut Out) -> Result {
    let (_, policies) = files.read()?;
    if policies.is_empty() {
        return Err(Failure::failed("the files hold no policy; write each one under [[policies]]"));
    }
    if out.json {
        let names: Vec<_> = policies.iter().map(|policy| &policy.name).collect();
        return Ok(out.json(&json!({"ok": true, "policies": names}))?);
    }
    out.line(&format!("{} valid", plural(policies.len(), "policy is", "policies are")))?;
    out.flush()?;
    note("see what they would have changed with: checkrein policy replay FILE");
    Ok(())
}
