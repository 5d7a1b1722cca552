//! `/v1/snapshots`

use super::{
    AnyKey, OperatorKey, Shared,
    body::{Json, Path, Query, cursor, pattern},
};
use crate::app::{Error, Export, SnapshotQuery};
use axum::{
    Json as Answer,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use checkrein_api::{
    EXPORT_MEDIA_TYPE, Problem, RollbackRequest, RollbackView, SnapshotPage, SnapshotRequest,
    SnapshotStanding, SnapshotView,
};
use checkrein_store::SnapshotFilter;
use serde::Deserialize;

/// Take a snapshot of records, so that they can be put back.
#[utoipa::path(post, path = "/v1/snapshots", tag = "snapshots", request_body = SnapshotRequest, responses(
    (status = 201, description = "Taken, and durably on record", body = SnapshotView),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "The key does not speak for this agent", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such check for this key", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "The system cannot do this", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "It could not be taken or recorded", body = Problem, content_type = "application/problem+json"),
    (status = 507, description = "The agent's snapshots take all the room that they may", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(app): State<Shared>,
    AnyKey(caller): AnyKey,
    Json(request): Json<SnapshotRequest>,
) -> Result<(StatusCode, Answer<SnapshotView>), Error> {
    app.take_snapshot(&caller, request).await.map(|view| (StatusCode::CREATED, Answer(view)))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only of this agent; `*` stands for any run of characters.
    agent: Option<String>,
    /// Only of this target.
    target: Option<String>,
    /// Only those that are `live`, or those that are `removed`.
    state: Option<SnapshotStanding>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Snapshots a page, 1 to 500; 50 if absent.
    limit: Option<usize>,
}

/// List snapshots, newest first.
///
/// An agent's key sees its own agent's only.
#[utoipa::path(get, path = "/v1/snapshots", tag = "snapshots", params(ListParams), responses(
    (status = 200, description = "A page", body = SnapshotPage),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "The key does not speak for this agent", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<Shared>,
    AnyKey(caller): AnyKey,
    Query(params): Query<ListParams>,
) -> Result<Answer<SnapshotPage>, Error> {
    let query = SnapshotQuery {
        cursor: cursor(params.cursor.as_deref())?,
        limit: params.limit,
        filter: SnapshotFilter {
            agent: pattern("agent", params.agent.as_deref())?,
            target: params.target,
            live: params.state.map(|state| state == SnapshotStanding::Live),
        },
    };
    app.list_snapshots(&caller, query).await.map(Answer)
}

/// A snapshot, and how far its rollback is.
#[utoipa::path(get, path = "/v1/snapshots/{id}", tag = "snapshots", params(("id" = String, Path, description = "`snp_…`")), responses(
    (status = 200, description = "The snapshot", body = SnapshotView),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such snapshot for this key", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(app): State<Shared>,
    AnyKey(caller): AnyKey,
    Path(id): Path,
) -> Result<Answer<SnapshotView>, Error> {
    app.view_snapshot(&caller, &id).await.map(Answer)
}

/// Add what the action left, so that a rollback can tell it from what others do later.
///
/// Once is enough; again changes nothing.
#[utoipa::path(post, path = "/v1/snapshots/{id}/seal", tag = "snapshots", params(("id" = String, Path, description = "`snp_…`")), responses(
    (status = 200, description = "Sealed", body = SnapshotView),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such snapshot for this key", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It is gone", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The records could not be read", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn seal(
    State(app): State<Shared>,
    AnyKey(caller): AnyKey,
    Path(id): Path,
) -> Result<Answer<SnapshotView>, Error> {
    app.seal_snapshot(&caller, &id).await.map(Answer)
}

/// Give the records of a snapshot back their old content. For operators.
///
/// All or nothing. Records that somebody changed since are conflicts: by default nothing is changed then, and
/// the answer shows them.
#[utoipa::path(post, path = "/v1/snapshots/{id}/rollback", tag = "snapshots", params(("id" = String, Path, description = "`snp_…`")), request_body = RollbackRequest, responses(
    (status = 200, description = "What was done, or would be", body = RollbackView),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "The key may not do this", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such snapshot", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`rollback-conflicts`: somebody changed the records since; `rollback-impossible`: it cannot be made whole; `conflict`: another one is under way", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The target does not answer, or (`rollback-unknown`) it is not known whether it took place", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn rollback(
    State(app): State<Shared>,
    OperatorKey(caller): OperatorKey,
    Path(id): Path,
    Json(request): Json<RollbackRequest>,
) -> Result<Answer<RollbackView>, Error> {
    app.rollback(&caller, &id, request).await.map(Answer)
}

/// Everything that a snapshot holds, one JSON object a line. For operators.
///
/// Each line has `resource`, `side` (`before` or `after`) and `record`.
#[utoipa::path(get, path = "/v1/snapshots/{id}/export", tag = "snapshots", params(("id" = String, Path, description = "`snp_…`")), responses(
    (status = 200, description = "The records", body = String, content_type = "application/x-ndjson"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "The key may not do this", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such snapshot", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It is gone", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "It is damaged, or sealed with another key", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn export(
    State(app): State<Shared>,
    _: OperatorKey,
    Path(id): Path,
) -> Result<Response, Error> {
    let export = app.export_snapshot(&id).await?;
    let next = async |mut export: Export| match export.next().await {
        Ok(lines) => Ok(lines.map(|lines| (lines, export))),
        Err(error) => {
            // The status is sent; an answer that breaks off is all that can still be said.
            tracing::error!(%error, "an export broke off");
            Err(std::io::Error::other(error.to_string()))
        }
    };
    let body = Body::from_stream(futures_util::stream::try_unfold(export, next));
    Ok(([(header::CONTENT_TYPE, EXPORT_MEDIA_TYPE)], body).into_response())
}
