//! The console: pages for people, at `/`. It asks the same functions of [`App`] as the API does and decides
//! nothing. Everything works without the script, which only keeps pages fresh and shows local times.

mod action;
mod actions;
mod agents;
mod approvals;
mod assets;
mod deed;
mod grants;
mod live;
mod log;
mod now;
mod oidc;
mod page;
mod plot;
mod policies;
mod request;
mod session;
mod sign_in;
mod silences;
mod sinks;
mod snapshots;
pub(crate) mod text;

use crate::{app::App, config::OIDC_CALLBACK};
use axum::{
    Router,
    http::{HeaderValue, header},
    response::Response,
    routing::{get, post},
};
use std::sync::Arc;
use tower::util::MapResponseLayer;

/// What all pages share.
pub(super) struct Console {
    app: Arc<App>,
    sessions: session::Sessions,
}

type Here = Arc<Console>;

/// Nothing from elsewhere, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The pages.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(now::show))
        .route("/sign-in", get(sign_in::show).post(sign_in::sign_in))
        .route(oidc::START, get(oidc::begin))
        .route(OIDC_CALLBACK, get(oidc::finish))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/approvals", get(approvals::list))
        .route("/approvals/{id}", get(approvals::show).post(approvals::decide))
        .route("/approvals/{id}/comments", post(approvals::comment))
        .route("/approvals/{id}/check.json", get(approvals::download))
        .route("/grants", get(grants::list).post(grants::give))
        .route("/grants/{id}", post(grants::revoke))
        .route("/actions", get(actions::list))
        .route("/actions/{id}", get(action::show))
        .route("/actions/{id}/check.json", get(action::download))
        .route("/agents", get(agents::list))
        .route("/agents/{name}", get(agents::show))
        .route("/breakers", post(agents::set))
        .route("/policies", get(policies::list))
        .route("/policies/{name}", get(policies::show).post(policies::change))
        .route("/new-policy", get(policies::new).post(policies::create))
        .route("/snapshots", get(snapshots::list))
        .route("/snapshots/{id}", get(snapshots::show).post(snapshots::act))
        .route("/sinks", get(sinks::list))
        .route("/sinks/{name}", post(sinks::test))
        .route("/signals/{id}", post(sinks::replay))
        .route("/silences", get(silences::list).post(silences::add))
        .route("/silences/{id}", post(silences::end))
        .route("/log", get(log::list).post(log::verify))
        .route("/log/{seq}", get(log::show))
        .route("/log/{seq}/body.json", get(log::download))
        .route("/live", get(live::stream))
        .route("/assets/{name}", get(assets::asset))
        .layer(MapResponseLayer::new(finish))
        .with_state(Arc::new(Console { app, sessions: session::Sessions::default() }))
}

/// Makes every error a page, and tells the browser how little a page may do.
fn finish(response: Response) -> Response {
    let mut response = page::of_error(response);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: browsers then hide the origin of forms, too.
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers
        .insert("permissions-policy", HeaderValue::from_static("camera=(), geolocation=(), microphone=()"));
    response
}
