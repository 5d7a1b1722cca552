//! `checkrein log`: reads the data folder itself, beside a running server or without one.

use crate::{
    failure::{Code, Failure, Result},
    output::{self, Out, clean, note, number, plural, time},
};
use checkrein_core::{
    chain::{Hash, Walk},
    event::{Entry, Event},
    name::Pattern,
};
use checkrein_store::{EntryFilter, Reader, StoreError, VerifyError};
use serde::Serialize;
use serde_json::{json, value::RawValue};
use std::{collections::VecDeque, path::PathBuf, thread, time::Duration};

/// Entries read at a time.
const PAGE: usize = 500;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show the last entries
    Tail {
        /// How many
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=100_000))]
        lines: u32,
        /// Go on with new ones as they come
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        data: Data,
    },
    /// Show all about an entry, or every entry about an id
    Show {
        /// An entry's number, or the id of a check, approval or key, or a policy's name
        #[arg(value_name = "SEQ|ID")]
        what: String,
        #[command(flatten)]
        data: Data,
    },
    /// Write entries out, one JSON object a line
    Export {
        /// The only format so far
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
        /// From this entry on
        #[arg(long, value_name = "SEQ", default_value_t = 1)]
        since_seq: u64,
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        data: Data,
    },
    /// Recompute every hash and compare the tables with the log
    Verify {
        /// An entry that was noted down earlier, as this command prints it
        #[arg(long, value_name = "SEQ:HASH", value_parser = anchor)]
        anchor: Option<Walk>,
        #[command(flatten)]
        data: Data,
    },
}

/// Where the log is.
#[derive(clap::Args)]
pub(crate) struct Data {
    /// The data folder
    #[arg(long, env = "CHECKREIN_DATA", value_name = "FOLDER", default_value = "./checkrein-data")]
    data: PathBuf,
}

/// Which entries.
#[derive(clap::Args)]
pub(crate) struct Select {
    /// Only of this kind, e.g. `check`; may be repeated
    #[arg(long)]
    kind: Vec<String>,
    /// Only about this agent; `*` stands for any text
    #[arg(long, value_parser = |text: &str| Pattern::new(text).map_err(|e| e.to_string()))]
    agent: Option<Pattern>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line
    Jsonl,
}

impl From<Select> for EntryFilter {
    fn from(select: Select) -> Self {
        Self { kinds: select.kind, agent: select.agent, since: None }
    }
}

impl From<StoreError> for Failure {
    fn from(e: StoreError) -> Self {
        Self::failed(e.to_string())
    }
}

pub(crate) fn run(command: Command, out: &mut Out) -> Result {
    match command {
        Command::Tail { lines, follow, select, data } => {
            tail(&Reader::open(&data.data)?, lines as usize, follow, &select.into(), out)
        }
        Command::Show { what, data } => show(&Reader::open(&data.data)?, &what, out),
        Command::Export { format: Format::Jsonl, since_seq, select, data } => {
            let (reader, filter) = (Reader::open(&data.data)?, select.into());
            each(&reader, since_seq.saturating_sub(1), &filter, |entry| Ok(out.json_line(&Line::of(entry)?)?))
        }
        Command::Verify { anchor, data } => verify(&Reader::open(&data.data)?, anchor, out),
    }
}

fn tail(reader: &Reader, lines: usize, follow: bool, filter: &EntryFilter, out: &mut Out) -> Result {
    let mut last = reader.head()?.seq;
    for entry in newest(reader, last, lines, filter)? {
        print(&entry, out)?;
    }
    out.flush()?;
    if !follow {
        return Ok(());
    }
    loop {
        thread::sleep(Duration::from_millis(300));
        // What comes after this head comes next time.
        let head = reader.head()?.seq;
        if head > last {
            each(reader, last, filter, |entry| if entry.seq <= head { print(entry, out) } else { Ok(()) })?;
            last = head;
        }
        out.flush()?;
    }
}

/// The last `lines` entries up to `head`, oldest first.
fn newest(reader: &Reader, head: u64, lines: usize, filter: &EntryFilter) -> Result<VecDeque<Entry>> {
    let mut found = VecDeque::new();
    let mut until = head;
    while until > 0 && found.len() < lines {
        let after = until.saturating_sub(PAGE as u64);
        let page = reader.entries(after, PAGE, filter)?;
        for entry in page.into_iter().rev().skip_while(|entry| entry.seq > until) {
            if found.len() < lines {
                found.push_front(entry);
            }
        }
        until = after;
    }
    Ok(found)
}

/// Every entry after `after`.
fn each(
    reader: &Reader,
    mut after: u64,
    filter: &EntryFilter,
    mut visit: impl FnMut(&Entry) -> Result,
) -> Result {
    loop {
        let page = reader.entries(after, PAGE, filter)?;
        for entry in &page {
            visit(entry)?;
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.seq,
            _ => return Ok(()),
        }
    }
}

fn print(entry: &Entry, out: &mut Out) -> Result {
    if out.json {
        return Ok(out.json_line(&Line::of(entry)?)?);
    }
    let text = format!(
        "{}  {}  {}  {}  {}",
        number(entry.seq),
        time(entry.at),
        clean(&entry.kind),
        clean(if entry.subject.is_empty() { "-" } else { &entry.subject }),
        clean(&summary(entry))
    );
    Ok(out.line(text.trim_end())?)
}

/// What an entry says, in a few words.
fn summary(entry: &Entry) -> String {
    match Event::from_parts(&entry.kind, &entry.body) {
        Ok(Event::Check(c)) => format!(
            "{}: {} {} on {}",
            c.action.agent,
            c.decision.verdict.as_str(),
            c.action.action,
            c.action.resource
        ),
        Ok(Event::Outcome(o)) => {
            let records = o.records.map(|n| format!(", {}", output::records(n))).unwrap_or_default();
            format!("{}{records}", json!(o.status).as_str().unwrap_or_default())
        }
        Ok(Event::ApprovalRequested(a)) => {
            format!("{}: {} on {} waits for an answer", a.action.agent, a.action.action, a.action.resource)
        }
        Ok(Event::ApprovalChanged { transition, .. }) => match transition {
            checkrein_core::approval::Transition::Decide { decision, by, .. } => {
                format!("{} by {}", json!(decision).as_str().unwrap_or_default(), by.name)
            }
            checkrein_core::approval::Transition::Expire => "expired".to_owned(),
            checkrein_core::approval::Transition::Use { check_id, .. } => format!("used by {check_id}"),
            checkrein_core::approval::Transition::Withdraw { by } => {
                format!("withdrawn by {}", by.name)
            }
            checkrein_core::approval::Transition::Comment { by, text } => format!("{}: {text}", by.name),
            checkrein_core::approval::Transition::Link { person, by, .. } => {
                format!("link for {person} by {}", by.name)
            }
        },
        Ok(Event::ApprovalSampled { target, records, by, .. }) => {
            format!("{} looked at {} of {target}", by.name, output::records(records))
        }
        Ok(Event::GrantGiven(g)) => format!(
            "{}: {} on {}, {} by {}",
            g.agent,
            g.action,
            g.resource,
            output::records(g.max_records),
            g.given_by.name
        ),
        Ok(Event::GrantChanged { transition, .. }) => match transition {
            checkrein_core::grant::Transition::Use { check_id, records } => {
                format!("used by {check_id}, {}", output::records(records))
            }
            checkrein_core::grant::Transition::Revoke { by } => format!("revoked by {}", by.name),
            checkrein_core::grant::Transition::Expire => "expired".to_owned(),
        },
        Ok(Event::BreakerChanged(b)) => {
            let by = b.by.map(|by| format!(" by {}", by.name)).unwrap_or_default();
            format!("{}{by}: {}", b.change.to.as_str(), b.reason)
        }
        Ok(Event::DriftAccepted { by, reason, .. }) => format!("accepted by {}: {reason}", by.name),
        Ok(Event::DriftEnded { channel, .. }) => format!("{} is over", channel.as_str()),
        Ok(Event::SnapshotTaken(s)) => {
            let records = s.by_resource.iter().fold(0_u64, |sum, held| sum.saturating_add(held.records));
            format!("{}: {} of {} ({})", s.agent, output::records(records), s.resource, s.origin.as_str())
        }
        Ok(Event::SnapshotSealed { bytes, key_id, .. }) => {
            let by = if key_id.is_empty() { String::new() } else { format!(" by {key_id}") };
            format!("{} bytes of after-images{by}", number(bytes))
        }
        Ok(Event::SnapshotRemoved { reason, .. }) => reason,
        Ok(Event::RollbackStarted(r)) => {
            format!("of {} by {}: {}", r.snapshot_id, r.by.name, output::records(r.restored))
        }
        Ok(Event::RollbackFinished { status, reason, .. }) => {
            format!("{}{}", status.as_str(), reason.map(|why| format!(": {why}")).unwrap_or_default())
        }
        Ok(Event::PolicyPut { by, .. } | Event::PolicyDeleted { by, .. }) => format!("by {}", by.name),
        Ok(Event::PoliciesLoaded { policies, .. }) => {
            plural(policies.len(), "policy", "policies") + " from files"
        }
        Ok(Event::KeyCreated { key, by }) => {
            format!(
                "{} \"{}\"{}",
                key.role.as_str(),
                key.name,
                by.map(|by| format!(" by {}", by.name)).unwrap_or_default()
            )
        }
        Ok(Event::KeyRevoked { by, .. }) => by.map(|by| format!("by {}", by.name)).unwrap_or_default(),
        Ok(Event::SilenceCreated { silence, by }) => {
            format!("by {} until {}: {}", by.name, time(silence.until), silence.comment)
        }
        Ok(Event::SilenceEnded { by, .. }) => format!("by {}", by.name),
        Ok(Event::SinkChanged { health, reason, .. }) => {
            let health = json!(health);
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            format!("{}{why}", health.as_str().unwrap_or_default())
        }
        Ok(Event::ServerStarted { version }) => version,
        Ok(Event::ServerStopped {}) => String::new(),
        Ok(Event::LogPruned { through, removed, .. }) => {
            format!("{} entries removed, through {}", number(removed), number(through))
        }
        Err(e) => format!("cannot be understood: {e}"),
    }
}

fn show(reader: &Reader, what: &str, out: &mut Out) -> Result {
    let mut found = Vec::new();
    if let Ok(seq) = what.replace(',', "").parse() {
        found.extend(reader.entry(seq)?);
    } else {
        // Only where such an id can stand.
        let kinds: &[&str] = match what.split_once('_') {
            Some(("chk", _)) => &["check", "outcome"],
            Some(("apr", _)) => &["approval.requested", "approval.changed", "approval.sampled"],
            Some(("grt", _)) => &["grant.given", "grant.changed"],
            Some(("snp", _)) => &["snapshot.taken", "snapshot.sealed", "snapshot.removed"],
            Some(("rbk", _)) => &["rollback.started", "rollback.finished"],
            Some(("sil", _)) => &["silence.created", "silence.ended"],
            Some(("key", _)) => &["key.created", "key.revoked"],
            _ => &[],
        };
        let filter =
            EntryFilter { kinds: kinds.iter().map(|k| (*k).to_owned()).collect(), ..EntryFilter::default() };
        each(reader, 0, &filter, |entry| {
            if entry.subject == what {
                found.push(entry.clone());
            }
            Ok(())
        })?;
    }
    if found.is_empty() {
        return Err(Failure::failed(format!(
            "the action log has nothing about {what}; list what it has with: checkrein log tail"
        )));
    }
    for entry in &found {
        if out.json {
            out.json_line(&Line::of(entry)?)?;
            continue;
        }
        print(entry, out)?;
        let body: serde_json::Value = serde_json::from_str(&entry.body).unwrap_or_else(|_| json!(entry.body));
        out.json(&body)?;
        out.line(&format!("hash {}", entry.hash))?;
    }
    Ok(())
}

fn verify(reader: &Reader, anchor: Option<Walk>, out: &mut Out) -> Result {
    let quiet = out.json;
    let mut told = 0;
    let progress = |seq: u64| {
        if !quiet && seq / 1_000_000 > told {
            told = seq / 1_000_000;
            note(&format!("{} entries so far", number(seq)));
        }
    };
    match reader.verify(anchor, progress) {
        Ok(verified) => {
            let note_down = format!("{}:{}", verified.head.seq, verified.head.hash);
            if out.json {
                return Ok(out.json(&json!({
                    "ok": true, "entries": verified.entries, "first": verified.base.seq + 1,
                    "last": verified.head.seq, "anchor": note_down,
                }))?);
            }
            out.line(&format!(
                "the action log is whole: {} entries, {} to {}",
                number(verified.entries),
                number(verified.base.seq + 1),
                number(verified.head.seq)
            ))?;
            out.line(&format!("anchor {note_down}"))?;
            out.flush()?;
            note("keep the anchor elsewhere; later, this proves that nothing before it was rewritten:");
            note(&format!("  checkrein log verify --anchor {note_down}"));
            Ok(())
        }
        Err(VerifyError::Store(e)) => Err(e.into()),
        Err(e) => {
            if out.json {
                out.json(&json!({"ok": false, "error": e.to_string()}))?;
                return Err(Failure::Quiet(Code::Failed));
            }
            Err(Failure::failed(format!("the action log is broken: {e}")))
        }
    }
}

/// An entry as it is exported. The body is the very text that the hash is made of.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    at: checkrein_core::time::Timestamp,
    kind: &'a str,
    subject: &'a str,
    agent: &'a str,
    body: &'a RawValue,
    hash: String,
}

impl<'a> Line<'a> {
    fn of(entry: &'a Entry) -> Result<Self> {
        let body = serde_json::from_str(&entry.body).map_err(|e| {
            Failure::failed(format!(
                "entry {} cannot be understood: {e}; run: checkrein log verify",
                entry.seq
            ))
        })?;
        let Entry { seq, at, kind, subject, agent, hash, .. } = entry;
        Ok(Self { seq: *seq, at: *at, kind, subject, agent, body, hash: hash.to_string() })
    }
}

fn anchor(text: &str) -> std::result::Result<Walk, String> {
    let parse = || {
        let (seq, hash) = text.trim().split_once(':')?;
        let digits = hash.chars().map(|c| c.to_digit(16)).collect::<Option<Vec<_>>>()?;
        let mut bytes = [0_u8; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().try_fold(0_u8, |byte, digit| Some(byte << 4 | u8::try_from(*digit).ok()?))?;
        }
        Some(Walk { seq: seq.parse().ok()?, hash: Hash(bytes) })
    };
    parse().ok_or_else(|| {
        "write it as `checkrein log verify` prints it: NUMBER:64 hexadecimal digits".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_anchor_that_it_prints() {
        let hash = Hash(std::array::from_fn(|i| u8::try_from(i * 7 % 256).unwrap()));
        assert_eq!(anchor(&format!("12:{hash}")), Ok(Walk { seq: 12, hash }));
        for bad in ["", "12", "12:", "x:00", &format!("12:{hash}0"), &format!("-1:{hash}"), "12:é"] {
            assert!(anchor(bad).is_err(), "{bad}");
        }
    }
}
