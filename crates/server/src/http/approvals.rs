//! `/v1/approvals`

use super::{
    AnyKey, OperatorKey, Shared,
    body::{Json, Path, Query, cursor, pattern},
};
use crate::app::{ApprovalQuery, Error};
use axum::{Json as Answer, extract::State, http::StatusCode};
use checkrein_api::{
    ApprovalDecision, ApprovalPage, ApprovalView, LinkView, NewComment, NewLink, Problem, SampleView,
    State as Standing,
};
use checkrein_store::ApprovalFilter;
use serde::Deserialize;
use std::time::Duration;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only those that stand there, e.g. `pending`.
    state: Option<Standing>,
    /// Only this agent's.
    agent: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Approvals a page, 1 to 500; 50 if absent.
    limit: Option<usize>,
}

/// List approvals, newest first.
#[utoipa::path(get, path = "/v1/approvals", tag = "approvals", params(ListParams), responses(
    (status = 200, description = "A page", body = ApprovalPage),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<Shared>,
    _: OperatorKey,
    Query(params): Query<ListParams>,
) -> Result<Answer<ApprovalPage>, Error> {
    let query = ApprovalQuery {
        filter: ApprovalFilter {
            state: params.state,
            agent: pattern("agent", params.agent.as_deref())?,
            ..ApprovalFilter::default()
        },
        cursor: cursor(params.cursor.as_deref())?,
        limit: params.limit,
    };
    app.list_approvals(query).await.map(Answer)
}

/// An approval.
#[utoipa::path(get, path = "/v1/approvals/{id}", tag = "approvals", params(("id" = String, Path, description = "`apr_…`")), responses(
    (status = 200, description = "The approval", body = ApprovalView),
    (status = 404, description = "No such approval for this key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(app): State<Shared>,
    AnyKey(caller): AnyKey,
    Path(id): Path,
) -> Result<Answer<ApprovalView>, Error> {
    app.view_approval(&caller, &id).await.map(Answer)
}

/// Some of the records that a held action would touch. For operators.
///
/// Read from the target now, with the time that a count may take, and kept nowhere: at most 10 of each resource,
/// without secrets. What follows through foreign keys is that of the first 100. Who looked, and at how many, goes on
/// record.
#[utoipa::path(get, path = "/v1/approvals/{id}/sample", tag = "approvals", params(("id" = String, Path, description = "`apr_…`")), responses(
    (status = 200, description = "The records", body = SampleView),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such approval", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "Already answered, expired or withdrawn", body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "It names no records of a connected target, or these are not to be shown", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "The target does not answer in time", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn sample(
    State(app): State<Shared>,
    OperatorKey(caller): OperatorKey,
    Path(id): Path,
) -> Result<Answer<SampleView>, Error> {
    app.sample_approval(&caller, &id, Duration::MAX).await.map(Answer)
}

/// Approve or deny.
///
/// Who answers is told by the key; an agent's key cannot. Where several people must approve, the approval
/// stays pending until the last of them has (`approvals_given` of `approvals_required`); one "no" settles it.
#[utoipa::path(post, path = "/v1/approvals/{id}/decision", tag = "approvals", params(("id" = String, Path, description = "`apr_…`")), request_body = ApprovalDecision, responses(
    (status = 200, description = "The approval as it now stands", body = ApprovalView),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such approval", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "Already answered, expired or withdrawn; or this person approved it before", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn decide(
    State(app): State<Shared>,
    OperatorKey(caller): OperatorKey,
    Path(id): Path,
    Json(decision): Json<ApprovalDecision>,
) -> Result<Answer<ApprovalView>, Error> {
    app.decide_approval(&caller, &id, decision).await.map(Answer)
}

/// Say something about an approval, without answering it.
#[utoipa::path(post, path = "/v1/approvals/{id}/comments", tag = "approvals", params(("id" = String, Path, description = "`apr_…`")), request_body = NewComment, responses(
    (status = 200, description = "The approval as it now stands", body = ApprovalView),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such approval", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It has as many comments as it keeps", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn comment(
    State(app): State<Shared>,
    OperatorKey(caller): OperatorKey,
    Path(id): Path,
    Json(new): Json<NewComment>,
) -> Result<Answer<ApprovalView>, Error> {
    app.comment_approval(&caller, &id, new.text).await.map(Answer)
}

/// Make a link by which one person can answer, without a key.
///
/// Whoever has the link answers in that person's name: send it to them alone. It is good for one answer, and
/// no longer than the approval waits and your key is in force.
#[utoipa::path(post, path = "/v1/approvals/{id}/links", tag = "approvals", params(("id" = String, Path, description = "`apr_…`")), request_body = NewLink, responses(
    (status = 201, description = "The link", body = LinkView),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such approval", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "Already answered, expired or withdrawn", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn link(
    State(app): State<Shared>,
    OperatorKey(caller): OperatorKey,
    Path(id): Path,
    Json(new): Json<NewLink>,
) -> Result<(StatusCode, Answer<LinkView>), Error> {
    let link = app.make_link(&caller, &id, new).await?;
    Ok((StatusCode::CREATED, Answer(link)))
}
