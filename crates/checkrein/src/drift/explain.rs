//! `checkrein drift explain`

use super::{events::each, live, plot};
use crate::{
    failure::{Failure, Result},
    output::{Out, clean, note, number, plural, time},
    remote::Remote,
};
use checkrein_core::{
    drift::{Baseline, Group, Incidents},
    name::Name,
    time::Timestamp,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
};

/// Microseconds in an hour.
const HOUR: i64 = 3_600_000_000;
/// Hours that are shown: two weeks.
const SHOWN: u16 = 336;
/// Kinds of action that are listed.
const LISTED: usize = 12;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The agent
    #[arg(value_name = "AGENT", value_parser = |text: &str| Name::new(text).map_err(|e| e.to_string()))]
    agent: Name,
    /// Recorded events, one JSON object a line, in time order; `-` for stdin. Otherwise the server is asked
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Also draw the last two weeks: what was expected, and what was seen
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

/// One hour of the agent.
#[derive(Clone, Copy, Default)]
pub(super) struct Hour {
    /// Since 1970.
    pub hour: i64,
    pub seen: u32,
    /// What was expected of it before it began: the mean, and the most that raises no doubt.
    pub mean: f32,
    pub high: f32,
    /// Whether an incident began in it.
    pub alert: bool,
}

#[derive(Default)]
struct Kept {
    hours: Vec<Hour>,
    /// Actions by name, with the tool where one was stated.
    kinds: HashMap<String, u64>,
    outcomes: u64,
    failed: u64,
    incidents: Vec<(Timestamp, &'static str, f32, String)>,
}

pub(crate) fn run(args: &Args, out: &mut Out) -> Result {
    let Some(input) = &args.input else {
        return live::explain(&args.agent, args.svg.as_ref(), &args.remote, out);
    };
    let (mut baseline, mut group) = (None::<Baseline>, Group::new());
    let (mut incidents, mut kept) = (Incidents::default(), Kept::default());
    let mut wanted: Option<usize> = None;
    let mut others: HashMap<usize, Baseline> = HashMap::new();
    each(input, |event, agent| {
        let at = event.observed.at;
        if wanted.is_none() && Name::new(event.agent).is_ok_and(|name| name == args.agent) {
            wanted = Some(agent);
        }
        if wanted != Some(agent) {
            // Its colleagues matter too: they are its group.
            let other = others.entry(agent).or_insert_with(|| Baseline::new(0, at));
            event.show(other, &mut group);
            return Ok(());
        }
        let own = baseline.get_or_insert_with(|| Baseline::new(0, at));
        kept.begin_hours(own, at.as_micros().div_euclid(HOUR));
        let reading = event.show(own, &mut group);
        let mut begun = incidents.begin(&reading, at, 5.0).peekable();
        kept.see(&event.observed, event.failed, begun.peek().is_some());
        for (channel, score) in begun {
            let finding = own.explain(channel, score, &event.observed);
            kept.incidents.push((at, channel.as_str(), score, finding.sentence));
        }
        Ok(())
    })?;
    let Some(baseline) = baseline else {
        return Err(Failure::failed(format!(
            "{} has no events of {}; list its agents with: jq -r .agent FILE | sort | uniq -c",
            input.display(),
            args.agent
        )));
    };
    if let Some(path) = &args.svg {
        fs::write(path, plot::svg(&args.agent, kept.last_hours()))
            .map_err(|e| Failure::failed(format!("cannot write {}: {e}", path.display())))?;
    }
    kept.tell(&args.agent, &baseline, out)?;
    if let Some(path) = &args.svg {
        out.flush()?;
        note(&format!("the plot is in {}", path.display()));
    }
    Ok(())
}

impl Kept {
    /// Begins the hour `now`, and every silent one since the last.
    fn begin_hours(&mut self, baseline: &Baseline, now: i64) {
        let last = self.hours.last().map_or(now - 1, |hour| hour.hour);
        for hour in (last + 1).max(now - i64::from(SHOWN))..=now {
            let (mean, high) = baseline.band(Timestamp::from_micros(hour.saturating_mul(HOUR)));
            self.hours.push(Hour { hour, mean, high, ..Hour::default() });
        }
        if self.hours.len() > 4 * usize::from(SHOWN) {
            self.hours.drain(..2 * usize::from(SHOWN));
        }
    }

    fn last_hours(&self) -> &[Hour] {
        self.hours.get(self.hours.len().saturating_sub(usize::from(SHOWN))..).unwrap_or_default()
    }

    fn see(&mut self, action: &checkrein_core::drift::Observed<'_>, failed: Option<bool>, alert: bool) {
        if let Some(hour) = self.hours.last_mut() {
            hour.seen += 1;
            hour.alert |= alert;
        }
        let kind = match action.tool {
            "" => action.action.to_owned(),
            tool => format!("{} ({tool})", action.action),
        };
        // Enough to list the most frequent; an agent that invents names is not followed for ever.
        if self.kinds.len() < 10_000 || self.kinds.contains_key(&kind) {
            *self.kinds.entry(kind).or_default() += 1;
        }
        self.outcomes += u64::from(failed.is_some());
        self.failed += u64::from(failed == Some(true));
    }

    fn tell(&self, agent: &Name, baseline: &Baseline, out: &mut Out) -> Result {
        let total: u64 = self.kinds.values().sum();
        let mut kinds: Vec<(&String, &u64)> = self.kinds.iter().collect();
        kinds.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let (first, last) = baseline.span();
        if out.json {
            let week: Vec<f32> = week(baseline).collect();
            let kinds: BTreeMap<&String, &u64> = kinds.into_iter().take(LISTED).collect();
            let incidents: Vec<_> = self
                .incidents
                .iter()
                .map(|(at, kind, score, sentence)| {
                    json!({ "at": at, "kind": kind, "score": score, "sentence": sentence })
                })
                .collect();
            return Ok(out.json(&json!({
                "agent": agent, "first": first, "last": last, "actions": total, "learning": baseline.is_new(),
                "expected_by_hour_of_week": week, "kinds": kinds, "outcomes": self.outcomes,
                "failed": self.failed, "incidents": incidents,
            }))?);
        }
        out.line(&format!(
            "{}: {} from {} to {}{}",
            clean(agent),
            plural(usize::try_from(total).unwrap_or(usize::MAX), "action", "actions"),
            time(first),
            time(last),
            if baseline.is_new() { ", still in its first week" } else { "" }
        ))?;
        out.line("")?;
        out.line("expected an hour, by three hours of the day (UTC)")?;
        out.line("      00   03   06   09   12   15   18   21")?;
        let hours: Vec<f32> = week(baseline).collect();
        for (day, hours) in DAYS.iter().zip(hours.chunks(24)) {
            let cells: String =
                hours.chunks(3).map(|c| format!("{:5.0}", c.iter().sum::<f32>() / 3.0)).collect();
            out.line(&format!("{day} {cells}"))?;
        }
        out.line("")?;
        let rows: Vec<[String; 3]> = kinds
            .iter()
            .take(LISTED)
            .map(|(kind, n)| {
                [(*kind).clone(), number(**n), format!("{:.1}%", 100.0 * **n as f64 / total.max(1) as f64)]
            })
            .collect();
        out.table(["ACTION", "COUNT", "SHARE"], &rows)?;
        out.line("")?;
        if self.outcomes > 0 {
            let share = 100.0 * self.failed as f64 / self.outcomes as f64;
            out.line(&format!("{share:.1}% of {} outcomes were errors", number(self.outcomes)))?;
        }
        out.line(&plural(self.incidents.len(), "incident", "incidents"))?;
        for (at, kind, score, sentence) in self.incidents.iter().rev().take(LISTED).rev() {
            out.line(&format!("  {}  {kind:<8} {score:4.1}  {}", time(*at), clean(sentence)))?;
        }
        Ok(())
    }
}

/// What is expected of each hour of the week, from Monday on.
fn week(baseline: &Baseline) -> impl Iterator<Item = f32> {
    let now = baseline.span().1.as_micros().div_euclid(HOUR);
    // Monday 00:00 at or before now; hour 96 of 1970 was one.
    let monday = now - (now - 96).rem_euclid(168);
    (0..168).map(move |hour| baseline.band(Timestamp::from_micros((monday + hour).saturating_mul(HOUR))).0)
}
