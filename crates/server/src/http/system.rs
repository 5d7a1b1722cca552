//! Health, metrics and the API's description: open to everybody who reaches the server.

use super::Shared;
use crate::app::Error;
use axum::{
    Json as Answer,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use checkrein_api::{Health, Problem};
use std::sync::OnceLock;

fn healthy() -> Answer<Health> {
    Answer(Health { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

/// Whether the process is alive.
#[utoipa::path(get, path = "/healthz", tag = "system", security(()), responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Answer<Health> {
    healthy()
}

/// Whether checks can be decided and recorded now.
#[utoipa::path(get, path = "/readyz", tag = "system", security(()), responses(
    (status = 200, body = Health),
    (status = 503, description = "Not now", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn readyz(State(app): State<Shared>) -> Result<Answer<Health>, Error> {
    app.ready().await.map(|()| healthy())
}

/// Metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "system", security(()), responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(app): State<Shared>) -> Response {
    let text = app.metrics_text();
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        .into_response()
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "system", security(()), responses((status = 200, body = Object)))]
pub(super) async fn openapi() -> Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(crate::openapi).as_str();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
