//! `checkrein approvals grant`, `grants`, `revoke`

use crate::{
    failure::Result,
    output::{Out, clean, note, number, time},
    remote::{Remote, found},
};
use checkrein_api::{GrantView, NewGrant};

#[derive(clap::Args)]
pub(crate) struct Give {
    /// The one agent that it is for
    #[arg(long)]
    agent: String,
    /// What it may do; `*` stands for any run of characters
    #[arg(long)]
    action: String,
    /// To what; `*` as above
    #[arg(long)]
    resource: String,
    /// Records that all uses together affect at most (recipients, where they are more)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    max_records: u64,
    /// How long it lasts, e.g. 30m or 1h; 7d at most
    #[arg(long = "for", value_name = "DURATION")]
    lasting: String,
    /// How often it can be used; without it, until its records are spent
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    max_uses: Option<u64>,
    /// Take the agent's own word for the number of records where nobody can count them
    #[arg(long)]
    accept_declared: bool,
    /// Why; goes on record and is shown with every use
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(clap::Args)]
pub(crate) struct List {
    /// Also those that are over
    #[arg(long)]
    all: bool,
    /// Only those for this agent
    #[arg(long)]
    agent: Option<String>,
    /// At most so many, newest first
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

#[derive(clap::Args)]
pub(crate) struct Revoke {
    /// The grant's id, `grt_…`
    id: String,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) fn give(args: Give, out: &mut Out) -> Result {
    let Give { agent, action, resource, max_records, lasting, max_uses, accept_declared, reason, remote } =
        args;
    let new = NewGrant { agent, action, resource, max_records, lasting, max_uses, accept_declared, reason };
    let grant = remote.ask(|client| async move { client.give_grant(&new).await })?;
    if out.json {
        return Ok(out.json(&grant)?);
    }
    out.line(&format!(
        "granted {}: {} may {} on {}, {} records in all, until {}",
        clean(&grant.id),
        clean(&grant.agent),
        clean(&grant.action),
        clean(&grant.resource),
        number(grant.max_records),
        time(grant.expires_at)
    ))?;
    out.flush()?;
    note(&format!("take it back with: checkrein approvals revoke {}", grant.id));
    Ok(())
}

pub(crate) fn list(args: List, out: &mut Out) -> Result {
    let List { all, agent, limit, remote } = args;
    let mut query = vec![("limit", limit.to_string())];
    if !all {
        query.push(("open", "true".to_owned()));
    }
    query.extend(agent.map(|agent| ("agent", agent)));
    let page = remote.ask(|client| async move {
        let ask = async |query: &[(&str, String)]| client.grants(query).await;
        found(query, ask, |page| (page.grants.is_empty(), page.next_cursor.clone())).await
    })?;
    if out.json {
        return Ok(out.json(&page)?);
    }
    if page.grants.is_empty() {
        note(if all { "there are no grants" } else { "no grant is open" });
        return Ok(());
    }
    let rows: Vec<_> = page.grants.iter().map(row).collect();
    out.table(["ID", "STATE", "UNTIL", "AGENT", "ACTION", "RESOURCE", "RECORDS", "USES", "BY"], &rows)?;
    out.flush()?;
    if page.next_cursor.is_some() {
        note("there are more; raise --limit");
    }
    Ok(())
}

fn row(grant: &GrantView) -> [String; 9] {
    let uses = match grant.max_uses {
        Some(most) => format!("{} of {}", number(grant.uses), number(most)),
        None => number(grant.uses),
    };
    [
        grant.id.clone(),
        grant.state.as_str().replace('_', " "),
        time(grant.expires_at),
        grant.agent.clone(),
        grant.action.clone(),
        grant.resource.clone(),
        format!("{} of {}", number(grant.records_used), number(grant.max_records)),
        uses,
        grant.given_by.name.clone(),
    ]
}

pub(crate) fn revoke(args: Revoke, out: &mut Out) -> Result {
    let Revoke { id, remote } = args;
    let grant = remote.ask(|client| async move { client.revoke_grant(&id).await })?;
    if out.json {
        return Ok(out.json(&grant)?);
    }
    Ok(out.line(&format!("revoked {}", clean(&grant.id)))?)
}
