//! Health, metrics and the API's description: open to everybody who reaches the server.

use super::Shared;
use crate::{app::Error, metrics::Format};
use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderMap, header},
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

/// Metrics, in the text format of Prometheus, or as OpenMetrics to who accepts that.
#[utoipa::path(get, path = "/metrics", tag = "system", security(()), responses(
    (status = 200, content((String = "text/plain"), (String = "application/openmetrics-text"))),
))]
pub(super) async fn metrics(State(app): State<Shared>, headers: HeaderMap) -> Response {
    let format = Format::accepted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    ([(header::CONTENT_TYPE, format.content_type())], app.metrics_text(format)).into_response()
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "system", security(()), responses((status = 200, body = Object)))]
pub(super) async fn openapi() -> Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(crate::openapi).as_str();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
