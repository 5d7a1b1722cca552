//! `checkrein snapshot`

use crate::{
    failure::{Failure, Result},
    input,
    output::{Out, clean, note, number, records, time},
    remote::{Remote, found},
};
use checkrein_api::{Foreseen, SnapshotRequest, SnapshotStanding, SnapshotView};
use serde_json::Value;
use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::PathBuf,
};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List snapshots, newest first
    List {
        /// Also those that are gone
        #[arg(long)]
        all: bool,
        /// Only those of this agent
        #[arg(long)]
        agent: Option<String>,
        /// Only those of this target
        #[arg(long)]
        target: Option<String>,
        /// At most so many
        #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show everything about one
    Show {
        /// The snapshot's id, `snp_…`
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Write its records to a file, one JSON object a line
    Export {
        /// The snapshot's id, `snp_…`
        id: String,
        /// The file, which must not exist; `-` is stdout
        #[arg(long, short, default_value = "-")]
        output: PathBuf,
        #[command(flatten)]
        remote: Remote,
    },
    /// Add what the action left, so that a rollback can tell it from what others do later
    Seal {
        /// The snapshot's id, `snp_…`
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Take one by hand
    Take(Take),
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  checkrein snapshot take shop.public.users --id 7 --id 8
  checkrein snapshot take shop.public.users --where '{\"plan\": \"trial\"}'
  checkrein snapshot take shop --statement 'DELETE FROM users WHERE id < 100'")]
pub(crate) struct Take {
    /// What it is of: `<target>.<path>`, or the target alone with --statement
    resource: String,
    /// A record's primary key, as JSON or else as text; several times for several
    #[arg(long = "id", value_name = "KEY", value_parser = key, conflicts_with_all = ["filter", "statement"])]
    ids: Vec<Value>,
    /// Columns and their values, as a JSON object; `{}` is all records
    #[arg(long = "where", value_name = "JSON", value_parser = input::value, conflicts_with = "statement")]
    filter: Option<Value>,
    /// The statement that is about to run
    #[arg(long, value_name = "SQL")]
    statement: Option<String>,
    /// The records will be deleted: keep what a cascade would take, too
    #[arg(long)]
    delete: bool,
    /// Whose action it is for
    #[arg(long, env = "CHECKREIN_AGENT")]
    agent: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

fn key(text: &str) -> std::result::Result<Value, String> {
    Ok(input::value(text).unwrap_or_else(|_| Value::from(text)))
}

pub(crate) fn run(command: Command, out: &mut Out) -> Result {
    match command {
        Command::List { all, agent, target, limit, remote } => list(all, agent, target, limit, &remote, out),
        Command::Show { id, remote } => {
            let snapshot = remote.ask(|client| async move { client.snapshot(&id).await })?;
            show(&snapshot, out)
        }
        Command::Export { id, output, remote } => export(&id, &output, &remote, out),
        Command::Seal { id, remote } => {
            let snapshot = remote.ask(|client| async move { client.seal_snapshot(&id).await })?;
            show(&snapshot, out)
        }
        Command::Take(args) => take(args, out),
    }
}

fn list(
    all: bool,
    agent: Option<String>,
    target: Option<String>,
    limit: u32,
    remote: &Remote,
    out: &mut Out,
) -> Result {
    let mut query = vec![("limit", limit.to_string())];
    if !all {
        query.push(("state", "live".to_owned()));
    }
    query.extend(agent.map(|agent| ("agent", agent)));
    query.extend(target.map(|target| ("target", target)));
    let page = remote.ask(|client| async move {
        let ask = async |query: &[(&str, String)]| client.snapshots(query).await;
        found(query, ask, |page| (page.snapshots.is_empty(), page.next_cursor.clone())).await
    })?;
    if out.json {
        return Ok(out.json(&page)?);
    }
    if page.snapshots.is_empty() {
        note("there are no snapshots");
        return Ok(());
    }
    let rows: Vec<_> = page
        .snapshots
        .iter()
        .map(|s| {
            [
                s.id.clone(),
                time(s.created_at),
                s.agent.clone(),
                s.resource.clone(),
                number(s.records),
                number(s.bytes),
                s.origin.as_str().to_owned(),
                standing(s).to_owned(),
            ]
        })
        .collect();
    out.table(["ID", "TAKEN", "AGENT", "RESOURCE", "RECORDS", "BYTES", "ORIGIN", "STATE"], &rows)?;
    out.flush()?;
    if page.next_cursor.is_some() {
        note("there are more; raise --limit");
    }
    if let Some(first) = page.snapshots.iter().find(|s| s.state == SnapshotStanding::Live) {
        note(&format!("see what a rollback would do with: checkrein rollback {} --dry-run", first.id));
    }
    Ok(())
}

const fn standing(s: &SnapshotView) -> &'static str {
    match (s.state, s.sealed) {
        (SnapshotStanding::Removed, _) => "removed",
        (SnapshotStanding::Live, true) => "sealed",
        (SnapshotStanding::Live, false) => "not sealed",
    }
}

pub(crate) fn show(s: &SnapshotView, out: &mut Out) -> Result {
    if out.json {
        return Ok(out.json(s)?);
    }
    let mut field = |name: &str, value: &str| out.line(&format!("{name:<10} {}", clean(value)));
    field("snapshot", &s.id)?;
    field("state", standing(s))?;
    if let Some(why) = &s.removed_because {
        field("because", why)?;
    }
    field("of", &s.resource)?;
    for held in &s.by_resource {
        field("", &format!("{} of {}", records(held.records), held.resource))?;
    }
    field("agent", &s.agent)?;
    field("origin", s.origin.as_str())?;
    field("taken", &time(s.created_at))?;
    if let Some(seal) = &s.seal {
        let seconds = (seal.at.as_micros() - s.created_at.as_micros()) / 1_000_000;
        field("sealed", &format!("{} by {}", time(seal.at), seal.key_id))?;
        field("", &format!("{seconds} s later: what others changed in between counts as the action's"))?;
    }
    if let Some(until) = s.seal_until {
        field("seal", &format!("possible until {}; after that it stays unsealed", time(until)))?;
    }
    field("bytes", &number(s.bytes))?;
    if let Some(check) = &s.check_id {
        field("check", check)?;
    }
    if let Some(r) = &s.rollback {
        field("rollback", &format!("{}: {:?}, {} of {}", r.id, r.state, number(r.done), number(r.total)))?;
    }
    out.flush()?;
    if s.state == SnapshotStanding::Live {
        note(&format!("see what a rollback would do with: checkrein rollback {} --dry-run", s.id));
    }
    Ok(())
}

fn take(args: Take, out: &mut Out) -> Result {
    let Take { resource, ids, filter, statement, delete, agent, remote } = args;
    let filter = match filter {
        None => None,
        Some(Value::Object(map)) => Some(map),
        Some(_) => return Err(Failure::usage("--where is a JSON object of columns and values")),
    };
    if ids.is_empty() && filter.is_none() && statement.is_none() {
        return Err(Failure::usage("say which records: --id, --where or --statement"));
    }
    let request = SnapshotRequest {
        resource,
        record_ids: Some(ids).filter(|ids| !ids.is_empty()),
        filter,
        statement,
        action: if delete { Foreseen::Delete } else { Foreseen::Update },
        agent,
        ..Default::default()
    };
    let snapshot = remote.ask(|client| async move { client.take_snapshot(&request).await })?;
    show(&snapshot, out)
}

fn export(id: &str, output: &PathBuf, remote: &Remote, out: &mut Out) -> Result {
    let mut file = None;
    if output.as_os_str() != "-" {
        let made = OpenOptions::new().write(true).create_new(true).open(output);
        file = Some(made.map_err(|e| Failure::failed(format!("cannot write {}: {e}", output.display())))?);
    }
    let id = id.to_owned();
    let written = remote.ask(|client| async move {
        let mut export = client.export_snapshot(&id).await?;
        while let Some(bytes) = export.next().await? {
            if let Err(e) = write(file.as_mut(), out, &bytes) {
                return Ok(Err(e));
            }
        }
        Ok(Ok(()))
    })?;
    written.map_err(Failure::from)
}

fn write(file: Option<&mut File>, out: &mut Out, bytes: &[u8]) -> std::io::Result<()> {
    match file {
        Some(file) => file.write_all(bytes),
        None => out.raw(bytes),
    }
}
