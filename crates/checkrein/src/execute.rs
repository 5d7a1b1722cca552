//! `checkrein execute`

use crate::{
    check,
    failure::{Code, Failure, Result},
    input,
    output::{Out, clean, note, number, records},
    remote::Remote,
};
use checkrein_api::{ExecutionRequest, ExecutionView, StatementRequest, Verdict};
use serde_json::{Map, Value};

/// Rows that are shown to a person; `--json` has them all.
const ROWS_SHOWN: usize = 50;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  checkrein execute shop \"UPDATE users SET plan = 'trial' WHERE id = $1\" --param 7
  checkrein execute shop 'DELETE FROM carts WHERE age > 90' --record-count 12
  checkrein execute shop 'SELECT count(*) FROM users' --json
Exit codes: 0 it ran, 1 the database refused it, 3 block, 4 hold.")]
pub(crate) struct Args {
    /// The target's name
    target: String,
    /// SQL statements; several run in one transaction; `-` reads one from stdin
    #[arg(required = true, value_name = "SQL")]
    statements: Vec<String>,
    /// A value for a placeholder, as JSON or else as text; in order, for one statement
    #[arg(long = "param", value_name = "VALUE", value_parser = param, allow_hyphen_values = true)]
    params: Vec<Value>,
    /// How many records it is meant to change
    #[arg(long, value_name = "N")]
    record_count: Option<u64>,
    /// Who acts
    #[arg(long, env = "CHECKREIN_AGENT")]
    agent: Option<String>,
    /// The run or conversation
    #[arg(long)]
    session: Option<String>,
    /// The same key again gets the same answer, and runs nothing
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

fn param(text: &str) -> std::result::Result<Value, String> {
    Ok(input::value(text).unwrap_or_else(|_| Value::from(text)))
}

pub(crate) fn run(args: Args, out: &mut Out) -> Result {
    let Args { target, statements, params, record_count, agent, session, idempotency_key, remote } = args;
    let statements = statements
        .into_iter()
        .map(|sql| if sql == "-" { input::stdin() } else { Ok(sql) })
        .collect::<Result<Vec<_>>>()?;
    let mut request =
        ExecutionRequest { target, agent, session, record_count, idempotency_key, ..Default::default() };
    match <[String; 1]>::try_from(statements) {
        Ok([sql]) => {
            request.statement = Some(sql);
            request.params = Some(params).filter(|p| !p.is_empty());
        }
        Err(_) if !params.is_empty() => {
            return Err(Failure::usage("--param belongs to one statement; send several without parameters"));
        }
        Err(several) => {
            let one = |statement| StatementRequest { statement, params: None };
            request.statements = Some(several.into_iter().map(one).collect());
        }
    }
    let view = remote.ask(|client| async move { client.execute(&request).await })?;
    if out.json {
        out.json(&view)?;
    } else {
        show(&view, out)?;
    }
    out.flush()?;
    match view.decision.verdict {
        Verdict::Allow => {
            if let Some(id) = &view.decision.snapshot_id {
                note(&format!("see how to undo it with: checkrein rollback {id} --dry-run"));
            }
            Ok(())
        }
        Verdict::Block => Err(Failure::Quiet(Code::Blocked)),
        Verdict::Hold => {
            if let Some(id) = &view.decision.approval_id {
                note(&format!(
                    "a person can answer with: checkrein approvals approve {id}   then run it again"
                ));
            }
            Err(Failure::Quiet(Code::Held))
        }
    }
}

fn show(view: &ExecutionView, out: &mut Out) -> Result {
    check::show(&view.decision, out)?;
    if let Some(id) = &view.decision.snapshot_id {
        out.line(&format!("  snapshot {}", clean(id)))?;
    }
    if view.executed {
        out.line(&format!("  {} changed", records(view.affected)))?;
    }
    let rows = view.rows.as_deref().unwrap_or_default();
    for row in rows.iter().take(ROWS_SHOWN) {
        out.line(&line(&view.columns, row))?;
    }
    if rows.len() > ROWS_SHOWN {
        note(&format!("{} rows in all; --json prints them", number(rows.len() as u64)));
    }
    Ok(())
}

/// `id=7 name="Ann"`
fn line(columns: &[String], row: &Map<String, Value>) -> String {
    let cells = columns.iter().map(|c| format!("{}={}", clean(c), row.get(c).unwrap_or(&Value::Null)));
    clean(&cells.collect::<Vec<_>>().join(" ")).into_owned()
}
