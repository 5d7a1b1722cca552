//! `/v1/breakers`, `/v1/agents/{name}/breaker`

use super::{
    OperatorKey, Shared,
    body::{Json, Path},
};
use crate::app::{Error, to_the_end};
use axum::{Json as Answer, extract::State};
use checkrein_api::{BreakerList, BreakerRequest, BreakerView, Problem};
use checkrein_core::{drift::breaker::Scope, name::Name};

/// List the breakers that are not closed.
#[utoipa::path(get, path = "/v1/breakers", tag = "agents", responses(
    (status = 200, description = "Those that are open or half-open; at most 1,000", body = BreakerList),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(app): State<Shared>, _: OperatorKey) -> Answer<BreakerList> {
    Answer(app.open_breakers())
}

/// How a breaker stands.
#[utoipa::path(get, path = "/v1/breakers/{scope}", tag = "agents", params(("scope" = String, Path, description = "`all`, `group:NAME` or `agent:NAME`")), responses(
    (status = 200, description = "Where it stands, and why", body = BreakerView),
    (status = 404, description = "No such group", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(app): State<Shared>,
    _: OperatorKey,
    Path(scope): Path,
) -> Result<Answer<BreakerView>, Error> {
    let scope = app.breaker_scope(&scope)?;
    app.breaker(&scope).await.map(Answer)
}

/// Open or close a breaker.
///
/// It holds from the next check on, and over restarts. What a person opened stays open until a person closes it.
#[utoipa::path(put, path = "/v1/breakers/{scope}", tag = "agents", params(("scope" = String, Path, description = "`all`, `group:NAME` or `agent:NAME`")), request_body = BreakerRequest, responses(
    (status = 200, description = "As it now stands", body = BreakerView),
    (status = 404, description = "No such group", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn set(
    State(app): State<Shared>,
    OperatorKey(by): OperatorKey,
    Path(scope): Path,
    Json(request): Json<BreakerRequest>,
) -> Result<Answer<BreakerView>, Error> {
    let scope = app.breaker_scope(&scope)?;
    to_the_end(async move { app.set_breaker(&by, &scope, request).await.map(Answer) }).await
}

/// Open or close the breaker of an agent.
#[utoipa::path(put, path = "/v1/agents/{name}/breaker", tag = "agents", params(("name" = String, Path, description = "The agent")), request_body = BreakerRequest, responses(
    (status = 200, description = "As it now stands", body = BreakerView),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn set_of_agent(
    State(app): State<Shared>,
    OperatorKey(by): OperatorKey,
    Path(name): Path,
    Json(request): Json<BreakerRequest>,
) -> Result<Answer<BreakerView>, Error> {
    let name = Name::new(&name).map_err(|e| Error::Invalid(format!("agent: {e}")))?;
    to_the_end(async move { app.set_breaker(&by, &Scope::agent(&name), request).await.map(Answer) }).await
}
