//! `checkrein rollback`

use crate::{
    failure::{Code, Failure, Result},
    output::{Out, clean, note, number, records},
    remote::Remote,
};
use checkrein_api::{
    Client, ClientError, OnConflict, RollbackConflict, RollbackOutcome, RollbackPlan, RollbackProgress,
    RollbackRequest, RollbackView,
};
use serde_json::{Map, Value};
use std::time::Duration;

/// How often progress is asked for.
const STEP: Duration = Duration::from_secs(1);
/// Conflicts that are shown to a person; `--json` has more.
const CONFLICTS_SHOWN: usize = 20;

#[derive(Clone, Copy, clap::ValueEnum)]
enum Conflicts {
    /// Change nothing, and show them
    Refuse,
    /// Leave those records as they are
    Skip,
    /// Overwrite them
    Force,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  checkrein rollback snp_… --dry-run
  checkrein rollback snp_… --on-conflict skip
Exit codes: 0 done, nothing to do, or planned; 1 it could not be done; 3 somebody changed the records since.")]
pub(crate) struct Args {
    /// The snapshot's id, `snp_…`
    id: String,
    /// Only say what it would do
    #[arg(long)]
    dry_run: bool,
    /// What to do about records that somebody changed since
    #[arg(long, value_enum, default_value = "refuse")]
    on_conflict: Conflicts,
    /// Only if the conflicts still are those of this plan, which showed its digest
    #[arg(long, value_name = "DIGEST")]
    plan: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) fn run(args: Args, out: &mut Out) -> Result {
    let Args { id, dry_run, on_conflict, plan, remote } = args;
    let on_conflict = match on_conflict {
        Conflicts::Refuse => OnConflict::Refuse,
        Conflicts::Skip => OnConflict::Skip,
        Conflicts::Force => OnConflict::Force,
    };
    let overwrites = on_conflict == OnConflict::Force;
    let request = RollbackRequest { dry_run, on_conflict, plan_digest: plan };
    let snapshot = id.clone();
    let answer = remote.ask(|client| async move { Ok(watched(&client, &snapshot, &request).await) })?;
    match answer {
        Ok(view) => done(&view, overwrites, out),
        Err(ClientError::Problem(problem)) if !problem.conflicts.is_empty() => {
            if out.json {
                out.json(&problem)?;
            } else {
                let plan = problem.plan.clone().unwrap_or_default();
                steps(&plan, out)?;
                conflicts(&problem.conflicts, problem.conflict_count.unwrap_or_default(), out)?;
            }
            out.flush()?;
            let changed = records(problem.conflict_count.unwrap_or_default());
            note(&format!("checkrein: not rolled back: {changed} changed since, by somebody else"));
            let digest = problem.plan.as_ref().map_or("", |plan| plan.digest.as_str());
            note(&format!(
                "leave those records as they are with: checkrein rollback {id} --on-conflict skip --plan {digest}\n\
                 or overwrite them with: --on-conflict force --plan {digest}"
            ));
            Err(Failure::Quiet(Code::Blocked))
        }
        Err(error) => Err(error.into()),
    }
}

/// Asks for the rollback, and says on stderr how far it is.
async fn watched(
    client: &Client,
    id: &str,
    request: &RollbackRequest,
) -> std::result::Result<RollbackView, ClientError> {
    let rollback = client.rollback(id, request);
    tokio::pin!(rollback);
    let mut said = 0;
    loop {
        tokio::select! {
            answer = &mut rollback => return answer,
            () = tokio::time::sleep(STEP) => {
                // Only for whoever looks on; what is wrong the rollback itself will say.
                if let Ok(snapshot) = client.snapshot(id).await
                    && let Some(standing) = snapshot.rollback
                    && standing.state == RollbackProgress::Running
                    && standing.done != said
                {
                    said = standing.done;
                    note(&format!("{} of {} records", number(standing.done), number(standing.total)));
                }
            }
        }
    }
}

fn done(view: &RollbackView, overwrites: bool, out: &mut Out) -> Result {
    if out.json {
        return Ok(out.json(view)?);
    }
    let changed = records(view.restored);
    out.line(&match view.status {
        RollbackOutcome::Done => format!("done: {changed} put back as before"),
        RollbackOutcome::Nothing => "nothing to do: everything is as it was".to_owned(),
        RollbackOutcome::Planned => format!("would change {changed}; nothing was changed"),
    })?;
    steps(&view.plan, out)?;
    if overwrites && view.status == RollbackOutcome::Done && view.plan.conflict_count > 0 {
        // What was there is no more: shown, it would pass for what is.
        out.line(&format!(
            "{} that somebody else had changed since: overwritten",
            records(view.plan.conflict_count)
        ))?;
    } else {
        conflicts(&view.plan.conflicts, view.plan.conflict_count, out)?;
    }
    out.flush()?;
    for text in &view.plan.notes {
        note(text);
    }
    match (&view.undo_snapshot_id, view.status) {
        (Some(undo), _) => note(&format!("undo this with: checkrein rollback {undo}")),
        (None, RollbackOutcome::Planned) => {
            note(&format!("do it with: checkrein rollback {}", view.snapshot_id));
        }
        _ => {}
    }
    Ok(())
}

fn steps(plan: &RollbackPlan, out: &mut Out) -> Result {
    let rows: Vec<_> = plan
        .by_resource
        .iter()
        .map(|s| {
            [
                s.resource.clone(),
                number(s.update),
                number(s.insert),
                number(s.delete),
                number(s.keep),
                number(s.conflicts),
            ]
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    Ok(out.table(["RESOURCE", "CHANGE BACK", "PUT BACK", "REMOVE", "AS IT WAS", "CONFLICTS"], &rows)?)
}

fn conflicts(list: &[RollbackConflict], count: u64, out: &mut Out) -> Result {
    for c in list.iter().take(CONFLICTS_SHOWN) {
        let kind = serde_json::to_value(c.kind).ok();
        let kind = kind.as_ref().and_then(Value::as_str).unwrap_or("conflict");
        out.line(&clean(&format!("{} {}: {kind}", c.resource, Value::Object(c.key.clone()))))?;
        for (name, side) in [("before", &c.before), ("left", &c.after), ("now", &c.now)] {
            out.line(&clean(&format!("  {name:<7} {}", record(side.as_ref(), c))))?;
        }
    }
    let more = count.saturating_sub(list.len().min(CONFLICTS_SHOWN) as u64);
    if more > 0 {
        out.line(&format!("… and {} more", number(more)))?;
    }
    Ok(())
}

/// What differs between the sides of a conflict; the rest would only hide it.
fn record(side: Option<&Map<String, Value>>, c: &RollbackConflict) -> String {
    let Some(side) = side else { return "absent".to_owned() };
    let sides = [c.before.as_ref(), c.after.as_ref(), c.now.as_ref()];
    let differs = |column: &String| {
        let mut values = sides.iter().flatten().map(|s| s.get(column));
        values.next().is_some_and(|first| values.any(|v| v != first))
    };
    let shown: Map<String, Value> =
        side.iter().filter(|(column, _)| differs(column)).map(|(k, v)| (k.clone(), v.clone())).collect();
    Value::Object(if shown.is_empty() { side.clone() } else { shown }).to_string()
}
