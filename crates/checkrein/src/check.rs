//! `checkrein check`

use crate::{
    failure::{Code, Failure, Result},
    input,
    output::{Out, clean, count, note},
    remote::Remote,
};
use checkrein_api::{Check, Client, ClientError, Decision, Verdict};
use checkrein_core::{decision::Basis, policy::Mode};
use serde_json::{Map, Value};
use std::{
    io,
    time::{Duration, Instant},
};

/// The longest that one request waits, in seconds; within the client's time-out.
const WAIT_STEP: u64 = 60;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  checkrein check --action delete --resource production.users --record-count 12
  checkrein check --action delete --resource shop.users --where '{\"country\": \"DE\"}'
  checkrein check --tool send_email --arguments '{\"to\": [\"a@example.com\"]}'
  some-agent --print-arguments | checkrein check --tool run_script --arguments - --wait 300 && run-it
  echo '{\"tool\": \"run_sql\", \"arguments\": {\"sql\": \"DELETE FROM users\"}}' | checkrein check -
Exit codes: 0 allow, 3 block, 4 hold; any other: not checked. Run the action on 0 only.")]
pub(crate) struct Args {
    /// The whole check as JSON; `-` reads it from stdin
    #[arg(value_name = "JSON", conflicts_with_all = ["action", "tool"])]
    check: Option<String>,
    /// What is done, e.g. `delete`
    #[arg(long, requires = "resource", conflicts_with = "tool")]
    action: Option<String>,
    /// What it is done to, e.g. `production.users`
    #[arg(long, requires = "action")]
    resource: Option<String>,
    /// How many records the action affects
    #[arg(long, value_name = "N", requires = "action", conflicts_with = "payload")]
    record_count: Option<u64>,
    /// What describes the action, as JSON
    #[arg(long, value_name = "JSON", value_parser = input::value, requires = "action")]
    payload: Option<Value>,
    /// A tool's name, as the model called it
    #[arg(long)]
    tool: Option<String>,
    /// The tool's arguments, as JSON; `-` reads them from stdin
    #[arg(long, value_name = "JSON", requires = "tool")]
    arguments: Option<String>,
    /// The SQL that is about to run
    #[arg(long, value_name = "SQL")]
    statement: Option<String>,
    /// Its parameters, as a JSON list
    #[arg(long, value_name = "JSON", value_parser = input::value, requires = "statement")]
    params: Option<Value>,
    /// Which records the action affects: a JSON object of columns and values
    #[arg(long = "where", value_name = "JSON", value_parser = input::object, requires = "action")]
    filter: Option<Map<String, Value>>,
    /// Who acts
    #[arg(long, env = "CHECKREIN_AGENT")]
    agent: Option<String>,
    /// The run or conversation
    #[arg(long)]
    session: Option<String>,
    /// The same key again gets the same answer
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait so many seconds for the answer to a hold
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) fn run(args: &Args, out: &mut Out) -> Result {
    let (wait, check) = (Duration::from_secs(args.wait), read(args)?);
    let decision = args.remote.ask(|client| async move { ask(&client, &check, wait).await })?;
    if out.json {
        out.json(&decision)?;
    } else {
        show(&decision, out)?;
    }
    out.flush()?;
    match decision.verdict {
        Verdict::Allow => Ok(()),
        Verdict::Block => Err(Failure::Quiet(Code::Blocked)),
        Verdict::Hold => {
            if let Some(id) = &decision.approval_id {
                note(&format!("a person can answer with: checkrein approvals approve {id}"));
            }
            Err(Failure::Quiet(Code::Held))
        }
    }
}

fn read(args: &Args) -> Result<Check> {
    let mut check = match (&args.check, &args.action, &args.tool) {
        (Some(json), _, _) => input::check(json)?,
        (None, None, None) => {
            return Err(Failure::usage(
                "say what to check: --action and --resource, --tool, or the check as JSON",
            ));
        }
        _ => Check {
            action: args.action.clone(),
            resource: args.resource.clone(),
            payload: args
                .payload
                .clone()
                .or_else(|| args.record_count.map(|n| serde_json::json!({"record_count": n}))),
            tool: args.tool.clone(),
            arguments: args.arguments.as_deref().map(arguments).transpose()?,
            params: args.params.clone(),
            filter: args.filter.clone(),
            ..Check::default()
        },
    };
    for (field, flag) in [
        (&mut check.statement, &args.statement),
        (&mut check.agent, &args.agent),
        (&mut check.session, &args.session),
        (&mut check.idempotency_key, &args.idempotency_key),
    ] {
        if flag.is_some() {
            field.clone_from(flag);
        }
    }
    Ok(check)
}

fn arguments(text: &str) -> Result<Value> {
    let text = if text == "-" { &input::stdin()? } else { text };
    input::value(text).map_err(|e| Failure::usage(format!("--arguments: {e}")))
}

async fn ask(client: &Client, check: &Check, wait: Duration) -> std::result::Result<Decision, ClientError> {
    let end = Instant::now() + wait.min(Duration::from_secs(86_400));
    let mut decision = client.check(check).await?;
    while decision.verdict == Verdict::Hold {
        let left = end.saturating_duration_since(Instant::now()).as_secs();
        if left == 0 {
            break;
        }
        decision = client.get_check(&decision.id, left.min(WAIT_STEP)).await?.decision;
    }
    Ok(decision)
}

pub(crate) fn show(d: &Decision, out: &mut Out) -> io::Result<()> {
    out.line(&format!("{}  {}", out.verdict(d.verdict), clean(&d.reason)))?;
    for policy in &d.policies {
        let shadow = if policy.mode == Mode::Shadow { " (shadow, without effect)" } else { "" };
        let exempted =
            policy.exempted_by.as_deref().map(|by| format!(" (exempted by {by})")).unwrap_or_default();
        out.line(&clean(&format!("  {}{shadow}{exempted}: {}", policy.name, policy.reason)))?;
    }
    let radius = &d.blast_radius;
    out.line(&format!(
        "  {} in {}: {} records{}, {} systems, {} recipients",
        d.category.as_str(),
        d.environment.as_str(),
        count(radius.records),
        if radius.basis == Basis::Declared { "" } else { " as counted" },
        count(radius.systems),
        count(radius.recipients)
    ))?;
    for part in &radius.by_resource {
        if let Some(how) = part.how {
            let (resource, records) = (clean(&part.resource), count(part.records));
            out.line(&format!("    {resource}: {records} {}", how.as_str()))?;
        }
    }
    out.line(&format!("  on record as {}", clean(&d.id)))
}
