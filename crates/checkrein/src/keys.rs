//! `checkrein keys`

use crate::{
    failure::Result,
    output::{Out, clean, note},
    remote::Remote,
};
use checkrein_api::{NewKey, Role};
use serde_json::json;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List the keys that are in force
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Create a key and print it, this once
    Create {
        /// What it may do
        #[arg(long, value_enum)]
        role: RoleArg,
        /// What people call it
        #[arg(long)]
        name: String,
        /// For an agent's key: the agent that it speaks for, or a pattern (`billing-*`)
        #[arg(long, required_if_eq("role", "agent"))]
        agent: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Revoke a key, for good
    Revoke {
        /// The key's id, `key_…`
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

/// [`Role`], as clap reads it.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RoleArg {
    /// Checks and reports outcomes for its agents
    Agent,
    /// Also reads everything and answers holds
    Operator,
    /// Also changes policies and keys
    Admin,
}

pub(crate) fn run(command: Command, out: &mut Out) -> Result {
    match command {
        Command::List { remote } => {
            let list = remote.ask(|client| async move { client.keys().await })?;
            if out.json {
                return Ok(out.json(&list)?);
            }
            let rows: Vec<_> = list
                .keys
                .into_iter()
                .map(|key| [key.id, key.role.as_str().to_owned(), key.name, key.agent.unwrap_or_default()])
                .collect();
            out.table(["ID", "ROLE", "NAME", "AGENT"], &rows)?;
        }
        Command::Create { role, name, agent, remote } => {
            let role = match role {
                RoleArg::Agent => Role::Agent,
                RoleArg::Operator => Role::Operator,
                RoleArg::Admin => Role::Admin,
            };
            let new = NewKey { role, name, agent };
            let key = remote.ask(|client| async move { client.create_key(&new).await })?;
            if out.json {
                return Ok(out.json(&key)?);
            }
            out.line(&clean(&key.key))?;
            out.flush()?;
            note(&format!(
                "{} ({}) is in force. This is the only time that its key is shown. Use it with\n  export CHECKREIN_API_KEY=…",
                key.id,
                role.as_str()
            ));
        }
        Command::Revoke { id, remote } => {
            let asked = id.clone();
            remote.ask(|client| async move { client.revoke_key(&asked).await })?;
            if out.json {
                return Ok(out.json(&json!({"revoked": id}))?);
            }
            out.line(&format!("{} is revoked", clean(&id)))?;
        }
    }
    Ok(())
}
