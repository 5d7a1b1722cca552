//! `/v1/agents`, `/v1/drift`

use super::{
    OperatorKey, Shared,
    body::{Json, Path, Query, pattern},
};
use crate::app::{Error, to_the_end};
use axum::{Json as Answer, extract::State, http::StatusCode};
use checkrein_api::{AcceptRequest, AgentPage, AgentView, Problem, RebuildReport, RebuildRequest};
use serde::Deserialize;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only agents of this name; `*` stands for any run of characters.
    agent: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many; 50 when absent, at most 500.
    limit: Option<usize>,
}

/// List the agents that are known, by name.
#[utoipa::path(get, path = "/v1/agents", tag = "agents", params(ListParams), responses(
    (status = 200, description = "A page of them", body = AgentPage),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<Shared>,
    _: OperatorKey,
    Query(params): Query<ListParams>,
) -> Result<Answer<AgentPage>, Error> {
    let agents = pattern("agent", params.agent.as_deref())?;
    app.list_agents(agents, params.cursor, params.limit).await.map(Answer)
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ShowParams {
    /// How many hours of its past; 1 when absent, at most 336.
    hours: Option<u16>,
}

/// What an agent normally does, and how it stands now.
#[utoipa::path(get, path = "/v1/agents/{name}", tag = "agents", params(("name" = String, Path, description = "The agent"), ShowParams), responses(
    (status = 200, description = "What is known of it", body = AgentView),
    (status = 404, description = "Nothing is known of it", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(app): State<Shared>,
    _: OperatorKey,
    Path(name): Path,
    Query(params): Query<ShowParams>,
) -> Result<Answer<AgentView>, Error> {
    app.view_agent(&name, params.hours.unwrap_or(1)).await.map(Answer)
}

/// Take what an agent did for normal.
///
/// What it did while its breaker was open is learnt, its growth is accepted, and what is unusual now holds and opens
/// nothing until it is over. Its breaker stays as it is.
#[utoipa::path(post, path = "/v1/agents/{name}/accept", tag = "agents", params(("name" = String, Path, description = "The agent")), request_body = AcceptRequest, responses(
    (status = 204, description = "Learnt"),
    (status = 404, description = "Nothing is known of it", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn accept(
    State(app): State<Shared>,
    OperatorKey(by): OperatorKey,
    Path(name): Path,
    Json(request): Json<AcceptRequest>,
) -> Result<StatusCode, Error> {
    to_the_end(async move { app.accept(&by, &name, request).await.map(|()| StatusCode::NO_CONTENT) }).await
}

/// Learn anew from the action log what agents normally do.
///
/// Reads the whole log; checks go on meanwhile. Breakers stay as they are.
#[utoipa::path(post, path = "/v1/drift/rebuild", tag = "agents", request_body = RebuildRequest, responses(
    (status = 200, description = "Learnt", body = RebuildReport),
    (status = 404, description = "Nothing is known of this agent", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It is being done already", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn rebuild(
    State(app): State<Shared>,
    OperatorKey(by): OperatorKey,
    Json(request): Json<RebuildRequest>,
) -> Result<Answer<RebuildReport>, Error> {
    app.rebuild(&by, request).await.map(Answer)
}
