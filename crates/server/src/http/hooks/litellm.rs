//! `/beta/litellm_basic_guardrail_api`: LiteLLM's Generic Guardrail API.

use super::{only_an_agents, refusal, unchecked};
use crate::{
    app::{Caller, Error},
    http::{
        AnyKey, Shared,
        body::{AnyJson, Trace, wait},
        problem::BadBody,
        within_bytes,
    },
};
use axum::{Json, extract::FromRequestParts, extract::State, http::request::Parts};
use checkrein_api::{Check, Decision, Problem, Verdict};
use checkrein_core::{
    json::{Named, Strict},
    trace::Traceparent,
};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::HashSet, sync::Arc, time::Duration};

/// The longest that the answer waits for a person.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// Tool calls in one message that are checked; more are refused together.
const MAX_CALLS: usize = 128;
/// Types of tools whose calls the agent runs itself and LiteLLM 1.106.2 does not ask about.
const UNSEEN: &[&str] = &["custom", "local_shell", "shell", "apply_patch"];

/// The key, in `x-api-key`, where LiteLLM's `api_key` goes, or as everywhere else.
pub(in crate::http) struct ProxyKey(Arc<Caller>);

impl FromRequestParts<Shared> for ProxyKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Error> {
        match parts.headers.get("x-api-key") {
            Some(key) => {
                let caller = app.caller(key.to_str().unwrap_or_default().trim())?;
                within_bytes(parts, app, &caller)?;
                Ok(Self(caller))
            }
            None => AnyKey::from_request_parts(parts, app).await.map(|AnyKey(caller)| Self(caller)),
        }
    }
}

/// What LiteLLM sends; fields that are not listed are not looked at.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = LitellmGuardrail)]
pub(in crate::http) struct Input {
    /// `response`: what the model said; `request`: what it is about to be told.
    #[serde(default)]
    #[schema(required = false)]
    input_type: Option<String>,
    /// The session on record.
    #[serde(default)]
    #[schema(required = false)]
    litellm_trace_id: Option<String>,
    /// The tool calls in it, in OpenAI's form.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>, required = false)]
    tool_calls: Option<Vec<Value>>,
    /// Of a request: the tools that it offers.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>, required = false)]
    tools: Option<Vec<Value>>,
    /// Of a request: the conversation. A call whose result is in it has run, and is not checked again.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>, required = false)]
    structured_messages: Option<Vec<Value>>,
    /// `wait`: how long a hold is waited for, e.g. `30s`; at most 600 s, and less than LiteLLM's time-out.
    #[serde(default)]
    #[schema(value_type = Option<Object>, required = false)]
    additional_provider_specific_params: Option<Map<String, Value>>,
}

/// What LiteLLM is told.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = LitellmAnswer)]
pub(in crate::http) struct Told {
    /// `NONE`: nothing is against it; `BLOCKED`: neither the response nor any call in it gets through.
    action: &'static str,
    /// Why, for the model and whoever runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    blocked_reason: Option<String>,
}

/// LiteLLM asks whether what a model said may be passed on.
///
/// For a guardrail of LiteLLM's kind `generic_guardrail_api` with `mode: post_call`. Every tool call is checked by
/// itself; what has none passes. If one may not run, all of them are refused, and those that were allowed are put
/// on record as not run.
#[utoipa::path(post, path = "/beta/litellm_basic_guardrail_api", tag = "hooks", request_body = Input, responses(
    (status = 200, description = "LiteLLM's form of the decision; a request that makes no sense is `BLOCKED`", body = Told),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn guardrail(
    State(app): State<Shared>,
    ProxyKey(caller): ProxyKey,
    Trace(trace): Trace,
    body: Result<AnyJson, BadBody>,
) -> Json<Told> {
    let body = body.map_err(|bad| bad.to_string()).and_then(|AnyJson(body)| {
        Input::deserialize(Named(body)).map_err(|e| format!("the body is not LiteLLM's: {e}"))
    });
    let refused = match body {
        Ok(input) => judge(&app, &caller, input, trace).await,
        Err(why) => Err(why),
    };
    Json(match refused {
        Ok(None) => Told { action: "NONE", blocked_reason: None },
        Ok(Some(reason)) => Told { action: "BLOCKED", blocked_reason: Some(reason) },
        Err(why) => Told { action: "BLOCKED", blocked_reason: Some(unchecked(why)) },
    })
}

/// Why the calls may not run, if they may not.
async fn judge(
    app: &Shared,
    caller: &Caller,
    input: Input,
    trace: Option<Traceparent>,
) -> Result<Option<String>, String> {
    only_an_agents(caller, "a proxy needs no more than to ask").map_err(|e| e.to_string())?;
    let wait = patience(&input)?;
    unseen(&input)?;
    let run = answered(&input);
    let calls = input.tool_calls.iter().flatten();
    let open: Vec<_> = calls.filter(|call| id(call).is_none_or(|id| !run.contains(id))).collect();
    if open.len() > MAX_CALLS {
        return Err(format!("it makes {} tool calls at once, more than {MAX_CALLS}", open.len()));
    }
    let checks = open.into_iter().map(|call| check(call, input.litellm_trace_id.as_deref()));
    let checks = checks.collect::<Result<Vec<_>, _>>()?;
    let checks = checks.into_iter().map(|check| Check { traceparent: trace, ..check });
    let asked = checks.map(|check| app.check_and_wait(caller, check, wait));
    let (mut allowed, mut refusals) = (Vec::new(), Vec::new());
    for decided in join_all(asked).await {
        match decided {
            Ok(decision) if decision.verdict == Verdict::Allow => allowed.push(decision),
            Ok(decision) => refusals.push(refusal(&decision)),
            Err(error) => refusals.push(unchecked(error)),
        }
    }
    if refusals.is_empty() {
        return Ok(None);
    }
    for decision in allowed {
        not_run(app, caller, &decision).await;
    }
    Ok(Some(refusals.join("\n")))
}

/// An allowed call goes down with those beside it.
async fn not_run(app: &Shared, caller: &Caller, decision: &Decision) {
    let why = "another tool call of the same message was refused";
    if let Err(error) = app.report_not_run(caller, &decision.id, why).await {
        tracing::warn!(%error, check = decision.id, "that this call did not run could not be recorded");
    }
}

fn patience(input: &Input) -> Result<Duration, String> {
    let given = input.additional_provider_specific_params.as_ref().and_then(|params| params.get("wait"));
    match given {
        None | Some(Value::Null) => Ok(Duration::ZERO),
        Some(Value::String(text)) => wait(Some(text)).map_err(|e| e.to_string()),
        Some(other) => wait(Some(&other.to_string())).map_err(|e| e.to_string()),
    }
    .map(|wait| wait.min(MAX_WAIT))
}

fn id(call: &Value) -> Option<&str> {
    call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty())
}

/// The calls of a request whose results are in it.
fn answered(input: &Input) -> HashSet<&str> {
    if input.input_type.as_deref() != Some("request") {
        return HashSet::new();
    }
    let messages = input.structured_messages.iter().flatten();
    let results = messages.filter(|m| m.get("role").and_then(Value::as_str) == Some("tool"));
    results.filter_map(|m| m.get("tool_call_id").and_then(Value::as_str)).collect()
}

/// Refuses a request for tools of which LiteLLM would not show the calls.
fn unseen(input: &Input) -> Result<(), String> {
    let of = |tool: &Value| tool.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut sorts = input.tools.iter().flatten().map(of);
    match sorts.find(|sort| UNSEEN.contains(&sort.as_str())) {
        None => Ok(()),
        Some(sort) => Err(format!(
            "it offers a tool of type `{sort}`, and LiteLLM asks about no call of that; offer it as a function"
        )),
    }
}

/// A tool call in OpenAI's form: a function with its arguments as JSON in a text, or a custom tool with its
/// input as it is.
fn check(call: &Value, trace: Option<&str>) -> Result<Check, String> {
    let part = |key| call.get(key).filter(|part| !part.is_null());
    let named = |part: &Value| part.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let (tool, arguments) = match (part("function"), part("custom")) {
        (Some(function), None) => {
            let tool = named(function);
            let arguments = match function.get("arguments") {
                None | Some(Value::Null) => Value::Object(Map::new()),
                Some(Value::String(text)) => read(&tool, text)?,
                Some(Value::Object(arguments)) => Value::Object(arguments.clone()),
                Some(_) => return Err(format!("the arguments of `{}` are no object", shown(&tool))),
            };
            (tool, arguments)
        }
        (None, Some(custom)) => {
            let tool = named(custom);
            let input = match custom.get("input") {
                None | Some(Value::Null) => Value::String(String::new()),
                Some(input @ (Value::String(_) | Value::Object(_))) => input.clone(),
                Some(_) => return Err(format!("the input of `{}` is no text", shown(&tool))),
            };
            (tool, Value::Object(Map::from_iter([("input".to_owned(), input)])))
        }
        _ => return Err("a tool call names no function, or more than one".to_owned()),
    };
    if tool.is_empty() {
        return Err("a tool call names no function".to_owned());
    }
    Ok(Check {
        session: trace.filter(|t| !t.is_empty()).map(str::to_owned),
        tool: Some(tool),
        arguments: Some(arguments),
        ..Check::default()
    })
}

/// Models that call a function without arguments write none.
fn read(tool: &str, arguments: &str) -> Result<Value, String> {
    if arguments.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let read = serde_json::from_str::<Strict>(arguments).map(|Strict(value)| value);
    read.map_err(|e| format!("the arguments of `{}` are not JSON that has one meaning: {e}", shown(tool)))
}

fn shown(tool: &str) -> String {
    tool.chars().take(64).collect::<String>().escape_debug().to_string()
}
