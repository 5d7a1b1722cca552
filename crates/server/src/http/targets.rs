//! `/v1/targets`

use super::{OperatorKey, Shared, body::Path};
use crate::app::Error;
use axum::{Json as Answer, extract::State};
use checkrein_api::{Problem, TargetList, TargetReport};

/// List the systems that the server is connected to.
#[utoipa::path(get, path = "/v1/targets", tag = "targets", responses(
    (status = 200, description = "All of them", body = TargetList),
    (status = 403, description = "Not with this key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(app): State<Shared>, _: OperatorKey) -> Answer<TargetList> {
    Answer(app.list_targets())
}

/// Connect to a target and look whether everything that Checkrein needs is there.
#[utoipa::path(post, path = "/v1/targets/{name}/test", tag = "targets", params(("name" = String, Path, description = "The target's name")), responses(
    (status = 200, description = "What was found; `ok` says whether it is enough", body = TargetReport),
    (status = 404, description = "No such target", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not with this key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn test(
    State(app): State<Shared>,
    OperatorKey(caller): OperatorKey,
    Path(name): Path,
) -> Result<Answer<TargetReport>, Error> {
    app.test_target(&caller, &name).await.map(Answer)
}
