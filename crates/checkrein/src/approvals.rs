//! `checkrein approvals`

mod grants;
mod sample;

use crate::{
    failure::Result,
    output::{Out, clean, count, note, time},
    remote::{Remote, found},
};
use checkrein_api::{Actor, Answer, ApprovalDecision, ApprovalView, NewLink, State, Via};
use std::io;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List holds that wait for an answer
    List {
        /// Also those that are settled
        #[arg(long)]
        all: bool,
        /// Only those of this agent
        #[arg(long)]
        agent: Option<String>,
        /// At most so many, newest first
        #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show everything about one
    Show {
        /// The approval's id, `apr_…`
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show some of the records that the action would touch now; that you looked goes on record
    Sample {
        /// The approval's id, `apr_…`
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Let the action run, once
    Approve(Decide),
    /// Stop the action
    Deny(Decide),
    /// Say something about one without answering it
    Comment {
        /// The approval's id, `apr_…`
        id: String,
        /// What; goes on record
        text: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Make a link by which one person can answer, without a key
    Link {
        /// The approval's id, `apr_…`
        id: String,
        /// For whom: the name that the answer goes on record under
        #[arg(long = "for", value_name = "PERSON")]
        person: String,
        /// How long it is good, e.g. 1h; without it, as long as the approval waits
        #[arg(long, value_name = "DURATION")]
        lasting: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Give up waiting, with the key that asked: nobody need answer any more
    Withdraw {
        /// The approval's id, `apr_…`, or the check's, `chk_…`
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Say yes beforehand: one agent, one kind of action, so many records, for a while
    Grant(grants::Give),
    /// List grants
    Grants(grants::List),
    /// Take a grant back
    Revoke(grants::Revoke),
}

#[derive(clap::Args)]
pub(crate) struct Decide {
    /// The approval's id, `apr_…`
    id: String,
    /// Why; goes on record
    #[arg(long)]
    comment: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) fn run(command: Command, out: &mut Out) -> Result {
    match command {
        Command::List { all, agent, limit, remote } => list(all, agent, limit, &remote, out),
        Command::Show { id, remote } => {
            let approval = remote.ask(|client| async move { client.approval(&id).await })?;
            if out.json {
                out.json(&approval)?;
            } else {
                show(&approval, out)?;
            }
            Ok(())
        }
        Command::Sample { id, remote } => sample::run(&id, &remote, out),
        Command::Approve(args) => decide(args, Answer::Approve, out),
        Command::Deny(args) => decide(args, Answer::Deny, out),
        Command::Comment { id, text, remote } => {
            let approval = remote.ask(|client| async move { client.comment(&id, &text).await })?;
            if out.json {
                return Ok(out.json(&approval)?);
            }
            Ok(out.line(&format!("noted with {}", clean(&approval.id)))?)
        }
        Command::Link { id, person, lasting, remote } => {
            let new = NewLink { person, lasting };
            let base = remote.url().to_owned();
            let link = remote.ask(|client| async move { client.link(&id, &new).await })?;
            if out.json {
                return Ok(out.json(&link)?);
            }
            let url = link.url.unwrap_or_else(|| format!("{}{}", base.trim_end_matches('/'), link.path));
            out.line(&url)?;
            out.flush()?;
            note(&format!(
                "whoever opens it can answer as {} until {}; send it to them alone",
                clean(&link.person),
                time(link.expires_at)
            ));
            Ok(())
        }
        Command::Withdraw { id, remote } => withdraw(id, &remote, out),
        Command::Grant(args) => grants::give(args, out),
        Command::Grants(args) => grants::list(args, out),
        Command::Revoke(args) => grants::revoke(args, out),
    }
}

fn list(all: bool, agent: Option<String>, limit: u32, remote: &Remote, out: &mut Out) -> Result {
    let mut query = vec![("limit", limit.to_string())];
    if !all {
        query.push(("state", State::Pending.as_str().to_owned()));
    }
    query.extend(agent.map(|agent| ("agent", agent)));
    let page = remote.ask(|client| async move {
        let ask = async |query: &[(&str, String)]| client.approvals(query).await;
        found(query, ask, |page| (page.approvals.is_empty(), page.next_cursor.clone())).await
    })?;
    if out.json {
        return Ok(out.json(&page)?);
    }
    if page.approvals.is_empty() {
        note(if all { "there are no approvals" } else { "nothing waits for an answer" });
        return Ok(());
    }
    let rows: Vec<_> = page
        .approvals
        .iter()
        .map(|a| {
            [
                a.id.clone(),
                standing(a),
                time(a.requested_at),
                a.agent.clone(),
                a.action.clone(),
                a.resource.clone(),
                count(a.blast_radius.records),
            ]
        })
        .collect();
    out.table(["ID", "STATE", "SINCE", "AGENT", "ACTION", "RESOURCE", "RECORDS"], &rows)?;
    out.flush()?;
    if page.next_cursor.is_some() {
        note("there are more; raise --limit");
    }
    if let Some(first) = page.approvals.iter().find(|a| a.state == State::Pending) {
        note(&format!("see one with: checkrein approvals show {}", first.id));
    }
    Ok(())
}

fn show(a: &ApprovalView, out: &mut Out) -> io::Result<()> {
    let mut field = |name: &str, value: &str| out.line(&format!("{name:<10} {}", clean(value)));
    field("approval", &a.id)?;
    field("state", &standing(a))?;
    field("agent", &a.agent)?;
    field("action", &a.action)?;
    field("resource", &a.resource)?;
    field("kind", &format!("{}, {}", a.category.as_str(), a.environment.as_str()))?;
    let radius = &a.blast_radius;
    field(
        "affects",
        &format!(
            "{} records, {} systems, {} recipients",
            count(radius.records),
            count(radius.systems),
            count(radius.recipients)
        ),
    )?;
    field("why", &a.reason)?;
    field("policies", &a.policies.join(", "))?;
    field("asked", &time(a.requested_at))?;
    field("expires", &time(a.expires_at))?;
    for given in &a.given {
        field("approved", &format!("by {} at {}", person(&given.by), time(given.at)))?;
        if let Some(comment) = &given.comment {
            field("comment", comment)?;
        }
    }
    if let (Some(by), Some(at)) = (&a.decided_by, a.decided_at) {
        field("answered", &format!("by {} at {}", person(by), time(at)))?;
    }
    if let Some(comment) = &a.comment {
        field("comment", comment)?;
    }
    for said in &a.comments {
        field("said", &format!("by {} at {}: {}", person(&said.by), time(said.at), said.text))?;
    }
    if let (Some(by), Some(at)) = (&a.used_by, a.used_at) {
        field("used", &format!("by {by} at {}", time(at)))?;
    }
    field("check", &a.check_id)?;
    out.json(&a.check)?;
    out.flush()?;
    if a.state == State::Pending {
        note(&format!(
            "answer with: checkrein approvals approve {0}   or: checkrein approvals deny {0}",
            a.id
        ));
    }
    Ok(())
}

/// Where it stands; `pending, 1 of 2` while others are still to be heard.
fn standing(a: &ApprovalView) -> String {
    let state = a.state.as_str();
    if a.approvals_required > 1 && a.state == State::Pending {
        return format!("{state}, {} of {}", a.approvals_given, a.approvals_required);
    }
    state.to_owned()
}

fn person(by: &Actor) -> String {
    match by.via {
        Via::Key => format!("{} ({})", by.name, by.key_id),
        Via::Slack | Via::Link | Via::Oidc => format!("{} ({}, by {})", by.name, by.key_id, by.via.as_str()),
    }
}

fn withdraw(id: String, remote: &Remote, out: &mut Out) -> Result {
    let check = remote.ask(|client| async move {
        let check = if id.starts_with("apr_") { client.approval(&id).await?.check_id } else { id };
        client.withdraw(&check).await
    })?;
    if out.json {
        return Ok(out.json(&check)?);
    }
    out.line(&format!(
        "withdrawn: {} on {} by {}",
        clean(&check.action),
        clean(&check.resource),
        clean(&check.agent)
    ))?;
    Ok(())
}

fn decide(args: Decide, decision: Answer, out: &mut Out) -> Result {
    let Decide { id, comment, remote } = args;
    let decision = ApprovalDecision { decision, comment };
    let approval = remote.ask(|client| async move { client.decide(&id, &decision).await })?;
    if out.json {
        return Ok(out.json(&approval)?);
    }
    out.line(&format!(
        "{} {}: {} on {} by {}",
        standing(&approval),
        clean(&approval.id),
        clean(&approval.action),
        clean(&approval.resource),
        clean(&approval.agent)
    ))?;
    Ok(())
}
