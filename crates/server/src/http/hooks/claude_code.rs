//! `/v1/hooks/claude-code`: the HTTP hooks of Claude Code.

use super::{only_an_agents, refusal, unchecked};
use crate::{
    app::{Caller, Error},
    http::{
        AnyKey, Shared,
        body::{AnyJson, Query, Trace, wait},
        problem::BadBody,
    },
};
use axum::{Json, extract::State};
use checkrein_api::{Check, OutcomeReport, OutcomeStatus, Problem, Verdict};
use checkrein_core::{json::Named, trace::Traceparent};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// The longest that a hook waits for a person, whatever its address says.
const MAX_WAIT: Duration = Duration::from_secs(600);

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Params {
    /// How long a hold is waited for, e.g. `60s`; at most 600 s, and less than the hook's own time-out. Absent:
    /// it is not.
    wait: Option<String>,
}

/// What Claude Code sends; fields that are not listed are not looked at.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = ClaudeCodeHook)]
pub(in crate::http) struct Input {
    /// `PreToolUse`, `PostToolUse` or `PostToolUseFailure`.
    hook_event_name: String,
    /// The session on record.
    session_id: String,
    /// Where Claude Code stands. A command line is asked about together with it, and paths are taken from there.
    #[serde(default)]
    #[schema(required = false)]
    cwd: Option<String>,
    /// The tool.
    tool_name: String,
    /// Its arguments.
    #[schema(value_type = Object)]
    tool_input: Value,
    /// Claude Code's name for the call, by which the outcome finds its check.
    tool_use_id: String,
    /// The subagent that makes the call.
    #[serde(default)]
    #[schema(required = false)]
    agent_id: Option<String>,
    /// Of `PostToolUseFailure`: what went wrong.
    #[serde(default)]
    #[schema(value_type = Option<String>, required = false)]
    error: Value,
    /// Of `PostToolUseFailure`: it was broken off.
    #[serde(default)]
    #[schema(required = false)]
    is_interrupt: Option<bool>,
}

/// What Claude Code is told. Empty: nothing is against it, and its own permissions decide.
#[derive(Default, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ClaudeCodeAnswer)]
pub(in crate::http) struct Told {
    /// The call does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    hook_specific_output: Option<Denial>,
}

/// Why a call does not run.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ClaudeCodeDenial)]
pub(in crate::http) struct Denial {
    /// `PreToolUse`
    hook_event_name: &'static str,
    /// `deny`
    permission_decision: &'static str,
    /// For Claude and the person who watches it.
    permission_decision_reason: String,
}

/// Claude Code asks whether a tool may run, or says what came of it.
///
/// For an HTTP hook in Claude Code's settings; `checkrein hook claude-code --install` writes them. Whatever is no
/// allow is a denial with its reason, a request that makes no sense too. Needs an agent's key: Claude Code hands
/// its environment to the commands that it runs.
#[utoipa::path(post, path = "/v1/hooks/claude-code", tag = "hooks", params(Params), request_body = Input, responses(
    (status = 200, description = "Claude Code's form of the decision; empty for an allow and for outcomes", body = Told),
    (status = 400, description = "Not an event that is taken here, or a wait that is none", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "The outcome of a call that this key never asked about", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "Another outcome is on record", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn hook(
    State(app): State<Shared>,
    AnyKey(caller): AnyKey,
    Query(params): Query<Params>,
    Trace(trace): Trace,
    body: Result<AnyJson, BadBody>,
) -> Result<Json<Told>, Error> {
    let wait = wait(params.wait.as_deref())?.min(MAX_WAIT);
    let body = match body {
        Ok(AnyJson(body)) => body,
        Err(bad) => return Ok(deny(unchecked(bad))),
    };
    let event = body.get("hook_event_name").and_then(Value::as_str).unwrap_or("PreToolUse").to_owned();
    // A list is no object with its fields in order.
    let input = Input::deserialize(Named(body)).map_err(|e| format!("the body is not Claude Code's: {e}"));
    match (event.as_str(), input) {
        ("PreToolUse", Err(why)) => Ok(deny(unchecked(why))),
        ("PreToolUse", Ok(input)) => Ok(match before(&app, &caller, input, (trace, wait)).await {
            Ok(None) => Json(Told::default()),
            Ok(Some(reason)) => deny(reason),
            Err(error) => deny(unchecked(error)),
        }),
        ("PostToolUse" | "PostToolUseFailure", input) => {
            let input = input.map_err(Error::Invalid)?;
            let (call, report) = (input.call(), outcome(input));
            app.report_outcome_of(&caller, &call, report).await.map(|()| Json(Told::default()))
        }
        (other, _) => Err(Error::Invalid(format!(
            "hook_event_name: `{}` is not taken here; PreToolUse, PostToolUse and PostToolUseFailure are",
            other.chars().take(64).collect::<String>().escape_debug()
        ))),
    }
}

async fn before(
    app: &Shared,
    caller: &Caller,
    input: Input,
    (traceparent, wait): (Option<Traceparent>, Duration),
) -> Result<Option<String>, Error> {
    only_an_agents(caller, "the commands that Claude Code runs can read it")?;
    let call = input.call();
    let mut arguments = input.tool_input;
    if let (Value::Object(arguments), Some(cwd)) = (&mut arguments, &input.cwd) {
        stand(&input.tool_name, arguments, cwd);
    }
    let check = Check {
        session: Some(input.session_id),
        tool: Some(input.tool_name),
        arguments: Some(arguments),
        idempotency_key: Some(call),
        traceparent,
        ..Check::default()
    };
    let decision = app.check_once(caller, check, wait).await?;
    Ok((decision.verdict != Verdict::Allow).then(|| refusal(&decision)))
}

/// Writes down where Claude Code stands, where that is a part of what the call does.
fn stand(tool: &str, arguments: &mut Map<String, Value>, cwd: &str) {
    // `rm -rf build` is another action in another folder.
    if arguments.contains_key("command") {
        arguments.entry("cwd").or_insert_with(|| cwd.into());
    }
    let (path, searches) = match tool {
        "Read" | "Write" | "Edit" | "MultiEdit" => ("file_path", false),
        "NotebookRead" | "NotebookEdit" => ("notebook_path", false),
        "Grep" | "Glob" | "LS" => ("path", true),
        _ => return,
    };
    let whole = match arguments.get(path) {
        None | Some(Value::Null) if searches => cwd.to_owned(),
        Some(Value::String(text)) if text.is_empty() && searches => cwd.to_owned(),
        Some(Value::String(text))
            if !text.starts_with(['/', '~', '\\']) && text.as_bytes().get(1) != Some(&b':') =>
        {
            format!("{cwd}/{text}")
        }
        _ => return,
    };
    arguments.insert(path.to_owned(), Value::String(whole));
}

impl Input {
    /// Names the call for good: also when two of its settings have the hook.
    fn call(&self) -> String {
        let agent = self.agent_id.as_deref().unwrap_or_default();
        ["claude-code", &self.session_id, agent, &self.tool_use_id].join("/")
    }
}

fn outcome(input: Input) -> OutcomeReport {
    if input.hook_event_name == "PostToolUse" {
        return OutcomeReport { status: OutcomeStatus::Ok, records: None, error: None };
    }
    let error = match input.error {
        Value::String(text) => text,
        other => other.to_string(),
    };
    // Claude Code tells of a failure in words only.
    let text = error.to_lowercase();
    let unsure = input.is_interrupt == Some(true) || text.contains("timed out") || text.contains("timeout");
    let status = if unsure { OutcomeStatus::Unknown } else { OutcomeStatus::Error };
    OutcomeReport { status, records: None, error: Some(error) }
}

fn deny(reason: String) -> Json<Told> {
    Json(Told {
        hook_specific_output: Some(Denial {
            hook_event_name: "PreToolUse",
            permission_decision: "deny",
            permission_decision_reason: reason,
        }),
    })
}
