//! `checkrein policy replay`

use super::Files;
use crate::{
    failure::Result,
    output::{Out, clean, note, number, time},
    remote::Remote,
};
use checkrein_api::{ReplayRequest, Timestamp};
use checkrein_core::policy::replay::ReplayReport;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    /// Only checks at or after this time, e.g. 2026-11-22T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    since: Option<Timestamp>,
    /// Only checks before this time
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    until: Option<Timestamp>,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) fn run(args: &Args, out: &mut Out) -> Result {
    let (found, _) = args.files.read()?;
    let policies = Some(found.into_iter().map(|policy| policy.value).collect());
    let request = ReplayRequest { policies, since: args.since, until: args.until };
    let report: ReplayReport = args.remote.ask(|client| async move { client.replay(&request).await })?;
    if out.json {
        return Ok(out.json(&report)?);
    }
    show(&report, out)
}

fn show(report: &ReplayReport, out: &mut Out) -> Result {
    if !report.changes.is_empty() {
        let rows: Vec<_> = report
            .changes
            .iter()
            .map(|change| {
                [
                    time(change.at),
                    format!("{} → {}", change.was.as_str(), change.would_be.as_str()),
                    change.agent.clone(),
                    change.action.clone(),
                    change.resource.clone(),
                    change.reason.clone(),
                ]
            })
            .collect();
        out.table(["TIME", "VERDICT", "AGENT", "ACTION", "RESOURCE", "WHY"], &rows)?;
        let more = report.changed.saturating_sub(report.changes.len() as u64);
        if more > 0 {
            out.line(&format!("… and {} more", number(more)))?;
        }
        out.line("")?;
    }
    out.line(&format!(
        "of {} recorded checks, {} would have been answered differently",
        number(report.checked),
        number(report.changed)
    ))?;
    for (change, n) in &report.by_change {
        out.line(&format!("  {:<14} {}", clean(change), number(*n)))?;
    }
    out.line("matches by policy")?;
    for (policy, n) in &report.by_policy {
        out.line(&format!("  {} {}", clean(policy), number(*n)))?;
    }
    out.flush()?;
    for text in &report.notes {
        note(text);
    }
    note("put the policies into force with: checkrein policy apply FILE");
    Ok(())
}
