//! `/v1/executions`

use super::{
    AnyKey, Shared,
    body::{Json, Trace},
};
use crate::app::Error;
use axum::{Json as Answer, extract::State};
use checkrein_api::{ExecutionRequest, ExecutionView, Problem};

/// Run statements on a target, guarded.
///
/// They run in a transaction that stays open while their effect is measured and judged; it is committed only
/// if the policies allow what was really changed, once the decision and a snapshot are on record. Answers 200
/// with the decision, whatever the verdict is; `executed` says whether it took place. A held execution holds
/// no lock: once approved, send it again (with another idempotency key).
#[utoipa::path(post, path = "/v1/executions", tag = "executions", request_body = ExecutionRequest, params(
    ("traceparent" = Option<String>, Header, description = "Where the caller stands in its own trace (W3C Trace Context)"),
), responses(
    (status = 200, description = "The decision, durably on record, and what the statements gave", body = ExecutionView),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "The key does not speak for this agent", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such target", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The database refused the statement (`statement-failed`), or the idempotency key was used for something else", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "Too many requests with this key", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Nothing could be recorded, the target does not answer, or (`execution-unknown`) it is not known whether it took place", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(app): State<Shared>,
    AnyKey(caller): AnyKey,
    Trace(trace): Trace,
    Json(mut request): Json<ExecutionRequest>,
) -> Result<Answer<ExecutionView>, Error> {
    request.traceparent = request.traceparent.or(trace);
    app.execute(&caller, request).await.map(Answer)
}
