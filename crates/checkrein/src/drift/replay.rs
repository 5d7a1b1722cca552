//! `checkrein drift replay`

use super::events::each;
use crate::{
    failure::{Failure, Result},
    output::{Out, note, number, plural},
};
use checkrein_core::drift::{Baseline, Group, Incidents, Severity};
use serde::Serialize;
use serde_json::{json, value::RawValue};
use std::{
    collections::BTreeMap,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Recorded events, one JSON object a line, in time order; `-` for stdin
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Where the alerts go, one JSON object a line
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The least score that is an alert: 5 notice, 6 warning, 7 critical
    #[arg(long, value_name = "SCORE", default_value_t = 5.0, value_parser = score)]
    min_score: f32,
}

fn score(text: &str) -> std::result::Result<f32, String> {
    text.parse().ok().filter(|score| (1.0..=12.0).contains(score)).ok_or("a score is 1 to 12".to_owned())
}

#[derive(Serialize)]
struct Alert<'a> {
    agent: &'a str,
    seq: &'a RawValue,
    ts: f64,
    kind: &'static str,
    score: f64,
    sentence: String,
}

pub(crate) fn run(args: &Args, out: &mut Out) -> Result {
    // Beside its place and moved there at the end: half an answer is none.
    let folder = args.output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = |e: std::io::Error| Failure::failed(format!("cannot write {}: {e}", args.output.display()));
    let mut file = BufWriter::new(tempfile::NamedTempFile::new_in(folder).map_err(cannot)?);
    let mut agents: Vec<(Baseline, Incidents)> = Vec::new();
    let mut group = Group::new();
    let (mut events, mut kinds) = (0_u64, BTreeMap::new());
    each(&args.input, |event, agent| {
        events += 1;
        if agent == agents.len() {
            agents.push((Baseline::new(0, event.observed.at), Incidents::default()));
        }
        let Some((baseline, incidents)) = agents.get_mut(agent) else { return Ok(()) };
        let reading = event.show(baseline, &mut group);
        for (channel, score) in incidents.begin(&reading, event.observed.at, args.min_score) {
            *kinds.entry(channel.as_str()).or_insert(0_u64) += 1;
            let seq: Box<RawValue> =
                serde_json::from_str(event.seq).map_err(|e| Failure::failed(e.to_string()))?;
            let finding = baseline.explain(channel, score, &event.observed);
            let alert = Alert {
                agent: event.agent,
                seq: &seq,
                ts: event.ts,
                kind: channel.as_str(),
                score: (f64::from(score) * 100.0).round() / 100.0,
                sentence: finding.sentence,
            };
            serde_json::to_writer(&mut file, &alert).map_err(|e| cannot(e.into()))?;
            file.write_all(b"\n").map_err(cannot)?;
        }
        Ok(())
    })?;
    let file = file.into_inner().map_err(|e| cannot(e.into_error()))?;
    file.persist(&args.output).map_err(|e| cannot(e.error))?;
    let alerts: u64 = kinds.values().sum();
    if out.json {
        return Ok(out.json(&json!({
            "events": events, "agents": agents.len(), "alerts": alerts, "by_kind": kinds,
        }))?);
    }
    out.line(&format!(
        "{} events of {}: {} with a score of {} or more",
        number(events),
        plural(agents.len(), "agent", "agents"),
        plural(usize::try_from(alerts).unwrap_or(usize::MAX), "incident", "incidents"),
        args.min_score
    ))?;
    for (kind, n) in &kinds {
        out.line(&format!("  {kind:<10} {}", number(*n)))?;
    }
    out.flush()?;
    let severity = Severity::of(args.min_score).map_or("below a notice", Severity::as_str);
    note(&format!("the alerts ({severity} and up) are in {}", args.output.display()));
    Ok(())
}
