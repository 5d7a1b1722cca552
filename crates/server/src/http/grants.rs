//! `/v1/grants`

use super::{
    OperatorKey, Shared,
    body::{Json, Path, Query, cursor, pattern},
};
use crate::app::{Error, GrantQuery};
use axum::{Json as Answer, extract::State, http::StatusCode};
use checkrein_api::{GrantPage, GrantView, NewGrant, Problem};
use checkrein_store::GrantFilter;
use serde::Deserialize;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only for this agent; `*` stands for any run of characters.
    agent: Option<String>,
    /// Only those that can still be used, or only those that cannot.
    open: Option<bool>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Grants a page, 1 to 500; 50 if absent.
    limit: Option<usize>,
}

/// List grants, newest first.
#[utoipa::path(get, path = "/v1/grants", tag = "approvals", params(ListParams), responses(
    (status = 200, description = "A page", body = GrantPage),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<Shared>,
    _: OperatorKey,
    Query(params): Query<ListParams>,
) -> Result<Answer<GrantPage>, Error> {
    let query = GrantQuery {
        filter: GrantFilter { agent: pattern("agent", params.agent.as_deref())?, open: params.open },
        cursor: cursor(params.cursor.as_deref())?,
        limit: params.limit,
    };
    app.list_grants(query).await.map(Answer)
}

/// Say yes beforehand, for a while.
///
/// What the policies would hold runs, as long as it is this agent, this action and this resource, and all of
/// it together affects no more than `max_records`. A block stays a block.
#[utoipa::path(post, path = "/v1/grants", tag = "approvals", request_body = NewGrant, responses(
    (status = 201, description = "The grant", body = GrantView),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Nothing could be recorded", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(app): State<Shared>,
    OperatorKey(caller): OperatorKey,
    Json(new): Json<NewGrant>,
) -> Result<(StatusCode, Answer<GrantView>), Error> {
    let grant = app.give_grant(&caller, new).await?;
    Ok((StatusCode::CREATED, Answer(grant)))
}

/// A grant.
#[utoipa::path(get, path = "/v1/grants/{id}", tag = "approvals", params(("id" = String, Path, description = "`grt_…`")), responses(
    (status = 200, description = "The grant", body = GrantView),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such grant", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(app): State<Shared>,
    _: OperatorKey,
    Path(id): Path,
) -> Result<Answer<GrantView>, Error> {
    app.view_grant(&id).await.map(Answer)
}

/// Take a grant back.
#[utoipa::path(delete, path = "/v1/grants/{id}", tag = "approvals", params(("id" = String, Path, description = "`grt_…`")), responses(
    (status = 200, description = "The grant as it now stands", body = GrantView),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such grant", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It is over already", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn revoke(
    State(app): State<Shared>,
    OperatorKey(caller): OperatorKey,
    Path(id): Path,
) -> Result<Answer<GrantView>, Error> {
    app.revoke_grant(&caller, &id).await.map(Answer)
}
