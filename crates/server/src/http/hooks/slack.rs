//! `/v1/hooks/slack`: clicks on the buttons of messages in Slack.

use crate::{
    app::Error,
    http::{Shared, body::Raw},
};
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use checkrein_api::Problem;

/// Answer approvals by Slack's buttons (interactivity request URL).
///
/// Slack signs the request; no key is sent. It is acknowledged at once, decided afterwards, and the message is
/// then changed to say who decided.
#[utoipa::path(post, path = "/v1/hooks/slack", tag = "hooks", security(()), params(
    ("x-slack-request-timestamp" = String, Header, description = "When Slack signed it, in seconds; at most 5 minutes ago"),
    ("x-slack-signature" = String, Header, description = "`v0=` and the HMAC-SHA-256 of `v0:<timestamp>:<body>`"),
), request_body(content = String, content_type = "application/x-www-form-urlencoded", description = "`payload=` with Slack's JSON"), responses(
    (status = 200, description = "Acknowledged"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "Not signed by Slack, too old, or sent before", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "From another workspace", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`[approvals.slack]` is not set", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "Too large", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn click(
    State(app): State<Shared>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<StatusCode, Error> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    app.slack(header("x-slack-request-timestamp"), header("x-slack-signature"), &body)?;
    Ok(StatusCode::OK)
}
