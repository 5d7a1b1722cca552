//! `/v1/checks`

use super::{
    AnyKey, Shared,
    body::{Json, Path, Query, Trace, cursor, pattern, wait},
};
use crate::app::{CheckQuery, Error};
use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use checkrein_api::{
    Category, Check, CheckPage, CheckView, Decision, OutcomeReport, Problem, Timestamp, Verdict,
};
use checkrein_store::CheckFilter;
use serde::Deserialize;

/// Ask whether an action may run.
///
/// Answers 200 with the decision, whatever the verdict is: run the action only on `allow`. Anything else,
/// an error included, means: do not run it.
#[utoipa::path(post, path = "/v1/checks", tag = "checks", request_body = Check, params(
    ("traceparent" = Option<String>, Header, description = "Where the caller stands in its own trace (W3C Trace Context)"),
), responses(
    (status = 200, description = "The decision, durably on record", body = Decision),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "The key does not speak for this agent", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "Too large", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The idempotency key was used for another action", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "Too many requests with this key", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Nothing could be recorded", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(app): State<Shared>,
    AnyKey(caller): AnyKey,
    Trace(trace): Trace,
    Json(mut check): Json<Check>,
) -> Result<Response, Error> {
    check.traceparent = check.traceparent.or(trace);
    // On the heap at once: what this handler holds is moved through every layer of the router.
    let answer = Box::pin(app.check(&caller, check)).await?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], answer.json).into_response())
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only of this agent; `*` stands for any run of characters.
    agent: Option<String>,
    /// Only with this verdict, as it was first given.
    verdict: Option<Verdict>,
    /// Only of this category.
    category: Option<Category>,
    /// Only with this action, as it was named; `*` as above.
    action: Option<String>,
    /// Only on this resource; `*` as above.
    resource: Option<String>,
    /// Only at or after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Checks a page, 1 to 500; 50 if absent.
    limit: Option<usize>,
}

/// List checks, newest first.
///
/// An agent's key sees its own agent's only.
#[utoipa::path(get, path = "/v1/checks", tag = "checks", params(ListParams), responses(
    (status = 200, description = "A page", body = CheckPage),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "The key does not speak for this agent", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<Shared>,
    AnyKey(caller): AnyKey,
    Query(params): Query<ListParams>,
) -> Result<Answer<CheckPage>, Error> {
    let query = CheckQuery {
        cursor: cursor(params.cursor.as_deref())?,
        limit: params.limit,
        filter: CheckFilter {
            agent: pattern("agent", params.agent.as_deref())?,
            verdict: params.verdict,
            category: params.category,
            action: pattern("action", params.action.as_deref())?,
            resource: pattern("resource", params.resource.as_deref())?,
            since: params.since,
            until: params.until,
        },
    };
    app.list_checks(&caller, query).await.map(Answer)
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ShowParams {
    /// How long to wait for a hold to be settled, e.g. `30s`; at most 60 s.
    wait: Option<String>,
}

/// A check as it stands now.
///
/// For a hold, `verdict` becomes `allow` once approved and `block` once denied or expired, with which of the
/// two in `reason`. The first request with the key that made the check, once approved, uses the approval.
#[utoipa::path(get, path = "/v1/checks/{id}", tag = "checks", params(("id" = String, Path, description = "`chk_…`"), ShowParams), responses(
    (status = 200, description = "The check", body = CheckView),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such check for this key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(app): State<Shared>,
    AnyKey(caller): AnyKey,
    Path(id): Path,
    Query(params): Query<ShowParams>,
) -> Result<Answer<CheckView>, Error> {
    app.view_check(&caller, &id, wait(params.wait.as_deref())?).await.map(Answer)
}

/// Report what became of an action.
#[utoipa::path(post, path = "/v1/checks/{id}/outcome", tag = "checks", params(("id" = String, Path, description = "`chk_…`")), request_body = OutcomeReport, responses(
    (status = 200, description = "On record", body = OutcomeReport),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such check for this key", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "Another outcome is on record", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn outcome(
    State(app): State<Shared>,
    AnyKey(caller): AnyKey,
    Path(id): Path,
    Json(report): Json<OutcomeReport>,
) -> Result<Answer<OutcomeReport>, Error> {
    app.report_outcome(&caller, &id, report).await.map(Answer)
}

/// Withdraw a held check: the agent gave up waiting.
///
/// Nobody need answer it any more, and an answer that was given lets nothing through. Only with the key that
/// made the check; doing it again changes nothing.
#[utoipa::path(post, path = "/v1/checks/{id}/withdraw", tag = "checks", params(("id" = String, Path, description = "`chk_…`")), responses(
    (status = 200, description = "The check as it stands, which lets nothing run", body = CheckView),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Another key made the check", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such check for this key", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It was not held, or it was let through already", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn withdraw(
    State(app): State<Shared>,
    AnyKey(caller): AnyKey,
    Path(id): Path,
) -> Result<Answer<CheckView>, Error> {
    app.withdraw_check(&caller, &id).await.map(Answer)
}
