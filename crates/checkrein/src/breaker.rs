//! `checkrein breaker`

use crate::{
    failure::Result,
    output::{Out, clean, note, time},
    remote::Remote,
};
use checkrein_api::{BreakerRequest, BreakerState, BreakerView, BreakerWanted, Client};
use std::io;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Stop an agent, a group or everything, until somebody closes it
    Open(Set),
    /// Let it run again; earlier trips are forgiven
    Close(Set),
    /// Show a breaker, or all that are not closed
    Status {
        #[command(flatten)]
        whose: MaybeWhose,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Whose breaker.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// Of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Of this group, as the configuration names it
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Of everything
    #[arg(long)]
    all: bool,
}

#[derive(clap::Args)]
#[group(required = false, multiple = false)]
pub(crate) struct MaybeWhose {
    /// Of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Of this group, as the configuration names it
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Of everything
    #[arg(long)]
    all: bool,
}

#[derive(clap::Args)]
pub(crate) struct Set {
    #[command(flatten)]
    whose: Whose,
    /// Why; goes on record
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    remote: Remote,
}

fn scope(agent: Option<String>, group: Option<String>, all: bool) -> Option<String> {
    agent
        .map(|agent| format!("agent:{agent}"))
        .or_else(|| group.map(|group| format!("group:{group}")))
        .or_else(|| all.then(|| "all".to_owned()))
}

pub(crate) fn run(command: Command, out: &mut Out) -> Result {
    match command {
        Command::Open(args) => set(args, BreakerWanted::Open, out),
        Command::Close(args) => set(args, BreakerWanted::Closed, out),
        Command::Status { whose: MaybeWhose { agent, group, all }, remote } => {
            let Some(scope) = scope(agent, group, all) else { return list(&remote, out) };
            let breaker = remote.ask(|client| async move { client.breaker(&scope).await })?;
            if out.json {
                return Ok(out.json(&breaker)?);
            }
            Ok(show(&breaker, out)?)
        }
    }
}

fn set(args: Set, state: BreakerWanted, out: &mut Out) -> Result {
    let Set { whose: Whose { agent, group, all }, reason, remote } = args;
    let request = BreakerRequest { state, reason };
    let (breaker, doubt) = remote.ask(|client| async move {
        let named = agent.clone();
        let scope = scope(agent, group, all).unwrap_or_default();
        // At once, and looked at afterwards: an agent that nobody knows may come later.
        let breaker = client.set_breaker(&scope, &request).await?;
        let doubt = match named {
            Some(agent) => doubt(&client, &agent).await,
            None => None,
        };
        Ok((breaker, doubt))
    })?;
    if out.json {
        out.json(&breaker)?;
    } else {
        show(&breaker, out)?;
    }
    out.flush()?;
    if let Some(doubt) = doubt {
        note(&doubt);
    }
    Ok(())
}

/// What is to be said about an agent that has never acted: its name may be misspelt, and another one runs on.
async fn doubt(client: &Client, agent: &str) -> Option<String> {
    let known = client.agent(agent, 1).await.ok()?;
    if known.last_seen.is_some() || !known.recent.is_empty() {
        return None;
    }
    let page = client.agents(&[("limit", "1000".to_owned())]).await.ok()?;
    let meant = page
        .agents
        .iter()
        .filter(|other| other.agent != known.agent)
        .map(|other| (strsim::jaro_winkler(&known.agent, &other.agent), &other.agent))
        .filter(|(alike, _)| *alike >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let meant =
        meant.map(|(_, name)| format!(" Did you mean `{name}`? That one is as it was.")).unwrap_or_default();
    Some(format!("warning: no agent `{}` has acted here yet.{meant}", known.agent))
}

fn list(remote: &Remote, out: &mut Out) -> Result {
    let list = remote.ask(|client| async move { client.breakers().await })?;
    if out.json {
        return Ok(out.json(&list)?);
    }
    if list.breakers.is_empty() {
        note("every breaker is closed");
        return Ok(());
    }
    let text = |b: &BreakerView| {
        [
            b.scope.clone(),
            b.state.as_str().to_owned(),
            b.since.map(time).unwrap_or_default(),
            b.until.map_or_else(|| "a person closes it".to_owned(), time),
            b.reason.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = list.breakers.iter().map(text).collect();
    out.table(["BREAKER", "STATE", "SINCE", "TRIES AGAIN", "WHY"], &rows)?;
    Ok(())
}

fn show(b: &BreakerView, out: &mut Out) -> io::Result<()> {
    out.line(&format!("{:<8} {}", b.state.as_str(), clean(&b.scope)))?;
    if let (Some(since), Some(reason)) = (b.since, &b.reason) {
        out.line(&format!("{:<8} {}, {}", "since", time(since), clean(reason)))?;
    }
    if b.state == BreakerState::Open {
        let next =
            b.until.map_or_else(|| "until a person closes it".to_owned(), |at| format!("until {}", time(at)));
        out.line(&format!("{:<8} {next}", "open"))?;
    }
    out.flush()?;
    if let Some(next) = &b.next {
        note(&format!("close it with: {next}"));
    }
    Ok(())
}
