//! `checkrein signal`

use crate::{
    failure::{Failure, Result},
    output::{Out, clean, note, time},
    remote::Remote,
};
use checkrein_api::{
    DeliveryView, Matcher, NewSilence, Severity, SignalReplay, SignalView, SilenceView, SinkView, Timestamp,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List signals, and what became of them
    List(List),
    /// Send a signal again
    Replay {
        /// The signal's id, `sig_…`
        id: String,
        /// To this sink; otherwise what was given up is tried again, or it goes where the routes lead
        #[arg(long, value_name = "NAME")]
        sink: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// See the sinks, and how they are
    Sinks {
        #[command(flatten)]
        remote: Remote,
    },
    /// Send a harmless example of each kind to a sink
    Test {
        /// The sink's name
        #[arg(long, value_name = "NAME")]
        sink: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// See, make and end silences
    #[command(subcommand)]
    Silence(Silence),
}

#[derive(clap::Args)]
pub(crate) struct List {
    /// Only those of which a message is queued, delivered or dead
    #[arg(long, value_name = "STATUS", value_parser = ["queued", "delivered", "dead"])]
    status: Option<String>,
    /// Only those of which a message went to this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Only those of this kind, e.g. `action.blocked` or `approval.*`
    #[arg(long)]
    kind: Option<String>,
    /// Only those at least this bad
    #[arg(long, value_parser = ["info", "notice", "warning", "critical"])]
    severity: Option<String>,
    /// Only those about this agent
    #[arg(long)]
    agent: Option<String>,
    /// At most so many, newest first
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

#[derive(clap::Subcommand)]
pub(crate) enum Silence {
    /// List those that are not over
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Keep signals back for a time
    Add {
        /// Only those of these kinds, e.g. `action.blocked` or `drift.*`
        #[arg(long)]
        kind: Vec<String>,
        /// Only those about this agent
        #[arg(long)]
        agent: Option<String>,
        /// Only those with this policy behind them
        #[arg(long)]
        policy: Option<String>,
        /// For how long, e.g. `2h`; at most 30 days
        #[arg(long = "for", value_name = "DURATION", value_parser = checkrein_server::config::duration)]
        duration: Duration,
        /// Why; goes on record
        #[arg(long)]
        comment: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// End one before its time
    End {
        /// The silence's id, `sil_…`
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

pub(crate) fn run(command: Command, out: &mut Out) -> Result {
    match command {
        Command::List(args) => list(args, out),
        Command::Replay { id, sink, remote } => replay(&id, sink, &remote, out),
        Command::Sinks { remote } => sinks(&remote, out),
        Command::Test { sink, remote } => test(&sink, &remote, out),
        Command::Silence(Silence::List { remote }) => silences(&remote, out),
        Command::Silence(Silence::Add { kind, agent, policy, duration, comment, remote }) => {
            let matcher = matcher(&kind, agent.as_deref(), policy.as_deref())?;
            let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
            let new = NewSilence { matcher, until: now().plus_seconds(seconds), comment };
            let made = remote.ask(|client| async move { client.create_silence(&new).await })?;
            if out.json {
                return Ok(out.json(&made)?);
            }
            out.line(&format!("silent until {}: {}", time(made.until), clean(&made.id)))?;
            out.flush()?;
            note(&format!("end it with: checkrein signal silence end {}", made.id));
            Ok(())
        }
        Command::Silence(Silence::End { id, remote }) => {
            let asked = id.clone();
            remote.ask(|client| async move { client.end_silence(&asked).await })?;
            if !out.json {
                out.line(&format!("ended {}", clean(&id)))?;
            }
            Ok(())
        }
    }
}

fn now() -> Timestamp {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

fn matcher(kinds: &[String], agent: Option<&str>, policy: Option<&str>) -> Result<Matcher> {
    let mut fields = serde_json::Map::new();
    if !kinds.is_empty() {
        fields.insert("kinds".to_owned(), kinds.into());
    }
    fields.extend(agent.map(|agent| ("agent".to_owned(), agent.into())));
    fields.extend(policy.map(|policy| ("policy".to_owned(), policy.into())));
    serde_json::from_value(fields.into()).map_err(|e| Failure::usage(e.to_string()))
}

fn list(args: List, out: &mut Out) -> Result {
    let List { status, sink, kind, severity, agent, limit, remote } = args;
    let mut query = vec![("limit", limit.to_string())];
    for (name, value) in
        [("status", status), ("sink", sink), ("kind", kind), ("severity", severity), ("agent", agent)]
    {
        query.extend(value.map(|value| (name, value)));
    }
    let page = remote.ask(|client| async move { client.signals(&query).await })?;
    if out.json {
        return Ok(out.json(&page)?);
    }
    if page.signals.is_empty() {
        note("there are no such signals");
        return Ok(());
    }
    let rows: Vec<_> = page.signals.iter().map(row).collect();
    out.table(["ID", "AT", "SEVERITY", "KIND", "AGENT", "SENT TO", "SUMMARY"], &rows)?;
    out.flush()?;
    if page.next_cursor.is_some() {
        note("there are more; raise --limit");
    }
    let dead = |view: &&SignalView| view.deliveries.iter().any(|d| d.status.as_str() == "dead");
    if let Some(dead) = page.signals.iter().find(dead) {
        note(&format!("try one again with: checkrein signal replay {}", dead.signal.id));
    }
    Ok(())
}

fn row(view: &SignalView) -> [String; 7] {
    let SignalView { signal, deliveries } = view;
    // The last word of each sink.
    let mut told: Vec<&DeliveryView> = Vec::new();
    for delivery in deliveries {
        told.retain(|other| other.sink != delivery.sink);
        told.push(delivery);
    }
    let told: Vec<_> = told.iter().map(|d| format!("{} {}", d.sink, d.status.as_str())).collect();
    [
        signal.id.clone(),
        time(signal.at),
        severity(signal.severity),
        signal.kind.clone(),
        signal.agent.clone().unwrap_or_else(|| "-".to_owned()),
        if told.is_empty() { "-".to_owned() } else { told.join(", ") },
        signal.summary.clone(),
    ]
}

fn severity(severity: Severity) -> String {
    severity.as_str().to_owned()
}

fn replay(id: &str, sink: Option<String>, remote: &Remote, out: &mut Out) -> Result {
    let replayed =
        remote.ask(|client| async move { client.replay_signal(id, &SignalReplay { sink }).await })?;
    if out.json {
        return Ok(out.json(&replayed)?);
    }
    if replayed.tried_again > 0 {
        out.line(&format!("messages tried again: {}", replayed.tried_again))?;
    }
    if !replayed.sent_to.is_empty() {
        out.line(&format!("sent to {}", clean(&replayed.sent_to.join(", "))))?;
    }
    out.flush()?;
    note("see what became of it with: checkrein signal list");
    Ok(())
}

fn sinks(remote: &Remote, out: &mut Out) -> Result {
    let list = remote.ask(|client| async move { client.sinks().await })?;
    if out.json {
        return Ok(out.json(&list)?);
    }
    if list.sinks.is_empty() {
        note("there are no sinks; add one as docs/signals.md shows");
        return Ok(());
    }
    let rows: Vec<_> = list.sinks.iter().map(sink_row).collect();
    out.table(["SINK", "KIND", "TAKES", "STATE", "QUEUED", "DEAD", "LAST DELIVERED", "LAST ERROR"], &rows)?;
    out.flush()?;
    if list.sinks.iter().any(|sink| sink.dead > 0) {
        note("see what was given up with: checkrein signal list --status dead");
    }
    Ok(())
}

fn sink_row(sink: &SinkView) -> [String; 8] {
    let takes = match (sink.signals, sink.actions) {
        (true, true) => "both",
        (false, true) => "actions",
        _ => "signals",
    };
    let state = match (sink.failing, sink.circuit.as_str()) {
        (false, "closed") => "ok",
        (true, "closed") => "failing",
        (_, circuit) => circuit,
    };
    let queued = match sink.records_behind {
        Some(behind) if behind > 0 => format!("{} + {behind} entries", sink.queued),
        _ => sink.queued.to_string(),
    };
    [
        sink.name.clone(),
        sink.kind.clone(),
        takes.to_owned(),
        state.to_owned(),
        queued,
        sink.dead.to_string(),
        sink.last_delivered_at.map_or_else(|| "-".to_owned(), time),
        sink.last_error.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

fn test(name: &str, remote: &Remote, out: &mut Out) -> Result {
    let report = remote.ask(|client| async move { client.test_sink(name).await })?;
    if out.json {
        out.json(&report)?;
    } else {
        let rows: Vec<_> = report
            .examples
            .iter()
            .map(|example| {
                let said = if example.ok { "arrived" } else { "failed" };
                [example.kind.clone(), said.to_owned()]
            })
            .collect();
        out.table(["EXAMPLE", "RESULT"], &rows)?;
    }
    out.flush()?;
    if report.ok {
        return Ok(());
    }
    let why = report.examples.into_iter().find_map(|example| example.error).unwrap_or_default();
    Err(Failure::failed(format!("the sink {name} did not take an example: {why}")))
}

fn silences(remote: &Remote, out: &mut Out) -> Result {
    let list = remote.ask(|client| async move { client.silences().await })?;
    if out.json {
        return Ok(out.json(&list)?);
    }
    if list.silences.is_empty() {
        note("nothing is silenced");
        return Ok(());
    }
    let rows: Vec<_> = list.silences.iter().map(silence_row).collect();
    out.table(["ID", "UNTIL", "OWNER", "ABOUT", "COMMENT"], &rows)?;
    Ok(())
}

fn silence_row(silence: &SilenceView) -> [String; 5] {
    let matcher = &silence.matcher;
    let mut about: Vec<String> = matcher.kinds.iter().map(ToString::to_string).collect();
    about.extend(matcher.agent.iter().map(|agent| format!("agent {agent}")));
    about.extend(matcher.policy.iter().map(|policy| format!("policy {policy}")));
    about.extend(matcher.environment.iter().map(|environment| environment.as_str().to_owned()));
    about.extend(matcher.severity_at_least.iter().map(|severity| format!("{} or worse", severity.as_str())));
    about.extend(matcher.severity_at_most.iter().map(|severity| format!("{} at most", severity.as_str())));
    [
        silence.id.clone(),
        time(silence.until),
        silence.owner.clone(),
        if about.is_empty() { "everything".to_owned() } else { about.join(", ") },
        silence.comment.clone(),
    ]
}
