//! Recorded events, one JSON object a line, in time order.
//!
//! A line that cannot be understood ends the command with its number. Skipping it would teach a baseline
//! from a past that did not happen.

use crate::failure::{Failure, Result};
use checkrein_core::{
    drift::{Baseline, Group, Observed, Reading},
    name::Name,
    time::Timestamp,
};
use serde::Deserialize;
use serde_json::{Number, value::RawValue};
use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::Path,
};

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 1024 * 1024;
/// Seconds since 1970 at the end of the year 9999.
const MAX_TIME: f64 = 253_402_300_799.0;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    seq: Option<&'a RawValue>,
    #[serde(borrow)]
    agent: Cow<'a, str>,
    ts: f64,
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow, default)]
    resource: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool: Option<Cow<'a, str>>,
    #[serde(default)]
    record_count: Option<Number>,
    #[serde(default)]
    payload_bytes: Option<Number>,
    #[serde(borrow, default)]
    outcome: Option<Cow<'a, str>>,
}

/// One event.
pub(super) struct Event<'a> {
    /// As it stood in the line; `null` when it did not.
    pub seq: &'a str,
    /// The agent, as the line spells it.
    pub agent: &'a str,
    /// Seconds since 1970, as the line has them.
    pub ts: f64,
    pub observed: Observed<'a>,
    /// Whether it failed, where that is known.
    pub failed: Option<bool>,
}

impl Event<'_> {
    /// Shows the event to the agent's baseline, its outcome too.
    pub(super) fn show(&self, baseline: &mut Baseline, group: &mut Group) -> Reading {
        let mut reading = baseline.observe(&self.observed, group);
        if let Some(failed) = self.failed {
            reading.merge(&baseline.outcome(failed));
        }
        reading
    }
}

/// Calls `visit` for each event of the file (`-`: stdin), with the number that stands for its agent: 0, 1, ….
pub(super) fn each(path: &Path, mut visit: impl FnMut(&Event<'_>, usize) -> Result) -> Result {
    let mut input: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file =
            File::open(path).map_err(|e| Failure::failed(format!("cannot read {}: {e}", path.display())))?;
        Box::new(BufReader::with_capacity(1 << 18, file))
    };
    let mut agents = Agents::default();
    let (mut bytes, mut number, mut last) = (Vec::new(), 0_u64, f64::MIN);
    loop {
        bytes.clear();
        number += 1;
        let read = (&mut input)
            .take(MAX_LINE + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(|e| Failure::failed(format!("cannot read {}: {e}", path.display())))?;
        if read == 0 {
            return Ok(());
        }
        let event = (|| {
            if bytes.len() as u64 > MAX_LINE {
                return Err(format!("is longer than {MAX_LINE} bytes"));
            }
            let text = std::str::from_utf8(&bytes).map_err(|_| "is not UTF-8 text".to_owned())?.trim();
            if text.is_empty() {
                return Err("is empty; each line holds one JSON object".to_owned());
            }
            let line: Line<'_> = serde_json::from_str(text).map_err(|e| format!("is no event: {e}"))?;
            check(&line, last)?;
            Ok(line)
        })();
        let line = event.map_err(|why| refused(path, number, &why))?;
        last = line.ts;
        let (agent, event) = understand(&line, &mut agents).map_err(|why| refused(path, number, &why))?;
        visit(&event, agent)?;
    }
}

fn refused(path: &Path, number: u64, why: &str) -> Failure {
    Failure::failed(format!("{}:{number}: the line {why}", path.display()))
}

fn check(line: &Line<'_>, last: f64) -> std::result::Result<(), String> {
    if !(0.0..=MAX_TIME).contains(&line.ts) {
        return Err(format!("has ts {}, which is not a time in seconds since 1970", line.ts));
    }
    if line.ts < last {
        return Err(format!(
            "has ts {}, before the {last} of the line above; sort the events by time",
            line.ts
        ));
    }
    Ok(())
}

/// Agents by the number that stands for them.
#[derive(Default)]
struct Agents {
    /// Spellings seen; the same agent may have several.
    spelled: HashMap<String, usize>,
    named: HashMap<Name, usize>,
}

impl Agents {
    fn number(&mut self, spelled: &str) -> std::result::Result<usize, String> {
        if let Some(number) = self.spelled.get(spelled) {
            return Ok(*number);
        }
        let name = Name::new(spelled).map_err(|e| format!("has a bad agent: {e}"))?;
        let next = self.named.len();
        let number = *self.named.entry(name).or_insert(next);
        self.spelled.insert(spelled.to_owned(), number);
        Ok(number)
    }
}

fn understand<'a>(
    line: &'a Line<'_>,
    agents: &mut Agents,
) -> std::result::Result<(usize, Event<'a>), String> {
    let agent = agents.number(&line.agent)?;
    for (field, value) in [("action", Some(&line.action)), ("tool", line.tool.as_ref())] {
        // Empty means that none was stated, which an action always is.
        if let Some(value) = value
            && (field == "action" || !value.is_empty())
        {
            Name::new(value).map_err(|e| format!("has a bad {field}: {e}"))?;
        }
    }
    let failed = match line.outcome.as_deref() {
        None | Some("" | "unknown") => None,
        Some("ok") => Some(false),
        Some("error") => Some(true),
        Some(other) => {
            let other: String = other.chars().take(40).collect();
            return Err(format!("has the outcome `{other}`; write ok, error or unknown"));
        }
    };
    #[expect(clippy::cast_possible_truncation, reason = "the time was found to be before the year 10000")]
    let at = Timestamp::from_micros((line.ts * 1e6) as i64);
    let observed = Observed {
        at,
        action: &line.action,
        resource: line.resource.as_deref().unwrap_or_default(),
        tool: line.tool.as_deref().unwrap_or_default(),
        exact: "",
        records: count("record_count", line.record_count.as_ref())?,
        payload_bytes: count("payload_bytes", line.payload_bytes.as_ref())?,
    };
    let seq = line.seq.map_or("null", RawValue::get);
    Ok((agent, Event { seq, agent: &line.agent, ts: line.ts, observed, failed }))
}

/// A count of things: an integer of at least 0, however it is written.
fn count(field: &str, number: Option<&Number>) -> std::result::Result<Option<u64>, String> {
    let Some(number) = number else { return Ok(None) };
    let whole = number.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0 && *n < 1.8e19);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in the range of u64")]
    let count = number.as_u64().or(whole.map(|n| n as u64));
    count.map(Some).ok_or_else(|| format!("has the {field} {number}, which is no count"))
}
