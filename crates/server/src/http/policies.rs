//! `/v1/policies`

use super::{
    AdminKey, OperatorKey, Shared,
    body::{AnyJson, Json, Path},
};
use crate::app::{Error, Put, to_the_end};
use axum::{Json as Answer, extract::State, http::StatusCode};
use checkrein_api::{PolicyBundle, PolicyChanges, PolicyList, Problem, ReplayRequest};
use checkrein_core::policy::replay::ReplayReport;
use serde_json::Value;

/// List the policies in force.
#[utoipa::path(get, path = "/v1/policies", tag = "policies", responses(
    (status = 200, description = "All of them", body = PolicyList),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(app): State<Shared>, _: OperatorKey) -> Answer<PolicyList> {
    Answer(app.list_policies())
}

/// Create a policy.
///
/// The same content again is no error; other content under a used name is.
#[utoipa::path(post, path = "/v1/policies", tag = "policies", request_body = Object, responses(
    (status = 201, description = "Created and in force", body = Object),
    (status = 200, description = "It was there already", body = Object),
    (status = 403, description = "Not with this key", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "Other content under this name", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "Does not compile", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(app): State<Shared>,
    AdminKey(by): AdminKey,
    AnyJson(value): AnyJson,
) -> Result<(StatusCode, Answer<Value>), Error> {
    to_the_end(async move {
        let put = app.create_policy(&by, &value).await?;
        let name = value.get("name").and_then(Value::as_str).unwrap_or_default();
        Ok((status(put), Answer(app.policy(name)?)))
    })
    .await
}

/// Put a whole set in place of all that came through the API.
///
/// All of it, or nothing. Policies from files stay.
#[utoipa::path(put, path = "/v1/policies", tag = "policies", request_body = PolicyBundle, responses(
    (status = 200, description = "In force; what changed", body = PolicyChanges),
    (status = 403, description = "Not with this key", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "A policy of a file would change", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "Does not compile", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn apply(
    State(app): State<Shared>,
    AdminKey(by): AdminKey,
    AnyJson(value): AnyJson,
) -> Result<Answer<PolicyChanges>, Error> {
    to_the_end(async move { app.apply_policies(&by, &value).await.map(Answer) }).await
}

/// A policy in force.
#[utoipa::path(get, path = "/v1/policies/{name}", tag = "policies", params(("name" = String, Path)), responses(
    (status = 200, description = "The policy", body = Object),
    (status = 404, description = "None of that name", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(app): State<Shared>,
    _: OperatorKey,
    Path(name): Path,
) -> Result<Answer<Value>, Error> {
    app.policy(&name).map(Answer)
}

/// Create or replace a policy.
#[utoipa::path(put, path = "/v1/policies/{name}", tag = "policies", params(("name" = String, Path)), request_body = Object, responses(
    (status = 201, description = "Created and in force", body = Object),
    (status = 200, description = "Replaced, or the same as before", body = Object),
    (status = 409, description = "It comes from a file", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "Does not compile", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn replace(
    State(app): State<Shared>,
    AdminKey(by): AdminKey,
    Path(name): Path,
    AnyJson(value): AnyJson,
) -> Result<(StatusCode, Answer<Value>), Error> {
    to_the_end(async move {
        let put = app.replace_policy(&by, &name, &value).await?;
        Ok((status(put), Answer(app.policy(&name)?)))
    })
    .await
}

/// Delete a policy.
#[utoipa::path(delete, path = "/v1/policies/{name}", tag = "policies", params(("name" = String, Path)), responses(
    (status = 204, description = "Deleted"),
    (status = 404, description = "None of that name", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It comes from a file", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "Another policy names it in `except`", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn delete(
    State(app): State<Shared>,
    AdminKey(by): AdminKey,
    Path(name): Path,
) -> Result<StatusCode, Error> {
    to_the_end(async move { app.delete_policy(&by, &name).await.map(|()| StatusCode::NO_CONTENT) }).await
}

/// Replay a candidate set on the recorded past.
///
/// Nothing changes; the answer says which verdicts would have been others.
#[utoipa::path(post, path = "/v1/policies/replay", tag = "policies", request_body = ReplayRequest, responses(
    (status = 200, description = "What would have changed", body = ReplayReport),
    (status = 422, description = "Does not compile", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn replay(
    State(app): State<Shared>,
    _: OperatorKey,
    Json(request): Json<ReplayRequest>,
) -> Result<Answer<ReplayReport>, Error> {
    app.replay(request).await.map(Answer)
}

const fn status(put: Put) -> StatusCode {
    match put {
        Put::Created => StatusCode::CREATED,
        Put::Replaced | Put::Unchanged => StatusCode::OK,
    }
}
