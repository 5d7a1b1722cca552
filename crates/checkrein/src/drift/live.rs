//! What the server knows of an agent: `checkrein drift explain` without `--input`, `accept`, `rebuild`.

use super::{explain::Hour, plot};
use crate::{
    failure::{Failure, Result},
    output::{Out, clean, note, number, time},
    remote::Remote,
};
use checkrein_api::{AcceptRequest, AgentView, RebuildRequest};
use std::{fs, path::PathBuf};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// Hours that are drawn: two weeks.
const SHOWN: u16 = 336;

#[derive(clap::Args)]
pub(crate) struct Accept {
    /// The agent
    agent: String,
    /// Why; goes on record
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(clap::Args)]
pub(crate) struct Rebuild {
    /// Only this agent; otherwise all
    agent: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) fn accept(args: Accept, out: &mut Out) -> Result {
    let Accept { agent, reason, remote } = args;
    let request = AcceptRequest { reason };
    let name = agent.clone();
    remote.ask(|client| async move { client.accept(&name, &request).await })?;
    if !out.json {
        out.line(&format!("what {} did is normal from now on", clean(&agent)))?;
        out.flush()?;
        note("its breaker stays as it is; see it with: checkrein breaker status");
    }
    Ok(())
}

pub(crate) fn rebuild(args: Rebuild, out: &mut Out) -> Result {
    let Rebuild { agent, remote } = args;
    let request = RebuildRequest { agent };
    let report = remote.ask(|client| async move { client.rebuild(&request).await })?;
    if out.json {
        return Ok(out.json(&report)?);
    }
    Ok(out.line(&format!(
        "learnt {} agents from {} actions",
        number(report.agents),
        number(report.actions)
    ))?)
}

pub(super) fn explain(agent: &str, svg: Option<&PathBuf>, remote: &Remote, out: &mut Out) -> Result {
    let hours = if svg.is_some() { SHOWN } else { 1 };
    let view = remote.ask(|client| async move { client.agent(agent, hours).await })?;
    if let Some(path) = svg {
        let hours: Vec<Hour> = view
            .hours
            .iter()
            .map(|hour| Hour {
                hour: hour.at.as_micros().div_euclid(3_600_000_000),
                seen: u32::try_from(hour.rate.seen).unwrap_or(u32::MAX),
                mean: hour.rate.expected,
                high: hour.rate.high,
                alert: false,
            })
            .collect();
        fs::write(path, plot::svg(&view.agent, &hours))
            .map_err(|e| Failure::failed(format!("cannot write {}: {e}", path.display())))?;
    }
    if out.json {
        out.json(&view)?;
    } else {
        tell(&view, out)?;
    }
    if let Some(path) = svg {
        out.flush()?;
        note(&format!("the plot is in {}", path.display()));
        if view.hours.len() < usize::from(SHOWN) {
            note(&format!(
                "it has the last {} hours: no more of them lie within the newest 100,000 entries of the log",
                view.hours.len()
            ));
        }
    }
    Ok(())
}

fn tell(view: &AgentView, out: &mut Out) -> Result {
    let seen = view.first_seen.zip(view.last_seen);
    out.line(&format!(
        "{}{}: {}{}",
        clean(&view.agent),
        view.group.as_ref().map(|group| format!(" ({})", clean(group))).unwrap_or_default(),
        seen.map_or_else(|| "never seen".to_owned(), |(a, b)| format!("from {} to {}", time(a), time(b))),
        if view.learning { ", still in its first week" } else { "" }
    ))?;
    let breaker = &view.breaker;
    let why = breaker.reason.as_ref().map(|why| format!(": {}", clean(why))).unwrap_or_default();
    out.line(&format!("breaker   {}{why}", breaker.state.as_str()))?;
    let incidents: Vec<_> = view.incidents.iter().map(|channel| channel.as_str()).collect();
    let incidents = if incidents.is_empty() { "nothing".to_owned() } else { incidents.join(", ") };
    out.line(&format!("unusual   {incidents} (drift: {})", clean(&view.mode)))?;
    let rate = view.rate;
    out.line(&format!(
        "this hour {}{} actions; expected {:.1}, up to {:.1}",
        // The log of this hour is longer than what is looked through.
        if view.hours.is_empty() { "at least " } else { "" },
        number(rate.seen),
        rate.expected,
        rate.high
    ))?;
    out.line("")?;
    out.line("expected an hour, by three hours of the day (UTC)")?;
    out.line("      00   03   06   09   12   15   18   21")?;
    for (day, hours) in DAYS.iter().zip(view.expected_by_hour_of_week.chunks(24)) {
        let cells: String = hours.chunks(3).map(|c| format!("{:5.0}", c.iter().sum::<f32>() / 3.0)).collect();
        out.line(&format!("{day} {cells}"))?;
    }
    out.line("")?;
    let rows: Vec<[String; 3]> = view
        .mix
        .iter()
        .map(|m| [m.action.clone(), m.tool.clone().unwrap_or_default(), format!("{:.1}%", m.share * 100.0)])
        .collect();
    out.table(["ACTION", "TOOL", "SHARE"], &rows)?;
    out.line("")?;
    let rows: Vec<[String; 4]> = view
        .recent
        .iter()
        .map(|check| {
            [
                time(check.decision.logged_at),
                check.decision.verdict.as_str().to_owned(),
                check.action.clone(),
                check.resource.clone(),
            ]
        })
        .collect();
    out.table(["LAST", "VERDICT", "ACTION", "RESOURCE"], &rows)?;
    out.flush()?;
    if let Some(next) = &breaker.next {
        note(&format!("close its breaker with: {next}"));
    }
    Ok(())
}
