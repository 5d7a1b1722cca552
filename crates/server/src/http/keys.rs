//! `/v1/keys`

use super::{
    AdminKey, Shared,
    body::{Json, Path},
};
use crate::app::{Error, to_the_end};
use axum::{Json as Answer, extract::State, http::StatusCode};
use checkrein_api::{CreatedKey, KeyList, NewKey, Problem};

/// List the keys in force, without their secrets.
#[utoipa::path(get, path = "/v1/keys", tag = "keys", responses(
    (status = 200, description = "All of them", body = KeyList),
    (status = 403, description = "Not with this key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(app): State<Shared>, _: AdminKey) -> Answer<KeyList> {
    Answer(KeyList { keys: app.list_keys() })
}

/// Make a key. The answer shows it this once.
#[utoipa::path(post, path = "/v1/keys", tag = "keys", request_body = NewKey, responses(
    (status = 201, description = "Made", body = CreatedKey),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not with this key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(app): State<Shared>,
    AdminKey(by): AdminKey,
    Json(new): Json<NewKey>,
) -> Result<(StatusCode, Answer<CreatedKey>), Error> {
    to_the_end(async move { app.create_key(&by, new).await.map(|key| (StatusCode::CREATED, Answer(key))) })
        .await
}

/// Revoke a key. It stops working at once.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "keys", params(("id" = String, Path, description = "`key_…`")), responses(
    (status = 204, description = "Revoked"),
    (status = 404, description = "No such key", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The last admin key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn revoke(
    State(app): State<Shared>,
    AdminKey(by): AdminKey,
    Path(id): Path,
) -> Result<StatusCode, Error> {
    to_the_end(async move { app.revoke_key(&by, &id).await.map(|()| StatusCode::NO_CONTENT) }).await
}
