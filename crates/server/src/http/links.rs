//! `/approve/{token}`: the page behind a signed link. Looking at it decides nothing.

use super::{
    Shared,
    body::{Form, Path},
};
use crate::app::{Error, in_words};
use askama::Template;
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use checkrein_api::{Answer, ApprovalDecision, ApprovalView, State as Standing};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

/// Characters of what was asked that are shown.
const SHOWN: usize = 20_000;

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;margin:2rem auto;max-width:42rem;padding:0 1rem}\
dt{font-weight:600}dd{margin:0 0 .5rem;overflow-wrap:anywhere}pre{white-space:pre-wrap;overflow-wrap:anywhere}\
textarea{box-sizing:border-box;width:100%}button{font:inherit;padding:.5rem 1.5rem}\
@media (prefers-color-scheme:dark){body{background:#111;color:#eee}}";

/// No script, no style but the one in the page, nothing from elsewhere, in nobody's frame.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

#[derive(Template)]
#[template(path = "approve.html")]
struct Page<'a> {
    style: &'static str,
    title: &'a str,
    note: Option<String>,
    asked: Option<Asked>,
}

/// What an approval asks, as text that a person can read.
struct Asked {
    person: String,
    agent: String,
    action: String,
    resource: String,
    affects: String,
    why: String,
    expires: String,
    check: String,
    waits: bool,
}

impl Asked {
    fn of(approval: &ApprovalView, person: &str) -> Self {
        let check = serde_json::to_string_pretty(&approval.check).unwrap_or_default();
        let radius = &approval.blast_radius;
        Self {
            person: person.to_owned(),
            agent: approval.agent.clone(),
            action: approval.action.clone(),
            resource: approval.resource.clone(),
            affects: format!("{} records, {} recipients", radius.records, radius.recipients),
            why: cut(&approval.reason),
            expires: approval.expires_at.to_string(),
            check: cut(&check),
            waits: approval.state == Standing::Pending,
        }
    }
}

/// As much of a text as a page shows. The templates make visible what a person could not see.
fn cut(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push_str("… (the rest is not shown here)");
    }
    out
}

fn page(status: StatusCode, title: &str, note: Option<String>, asked: Option<Asked>) -> Response {
    let Ok(html) = (Page { style: STYLE, title, note, asked }).render() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    ];
    (status, headers, html).into_response()
}

fn failure(error: &Error) -> Response {
    let (status, title, note) = match error {
        Error::NotFound(..) => (
            StatusCode::NOT_FOUND,
            "This link leads nowhere",
            "It was not made here, or not copied whole. Ask whoever sent it for another one.".to_owned(),
        ),
        Error::Forbidden(why) => (StatusCode::GONE, "This link is over", why.clone()),
        Error::Approval(refused) => {
            (StatusCode::CONFLICT, "Nothing has changed", format!("Your answer came too late: {refused}."))
        }
        Error::Invalid(why) => (StatusCode::BAD_REQUEST, "Nothing has changed", why.clone()),
        other => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Nothing is decided",
            format!("Checkrein could not put it on record: {other}. Try again in a moment."),
        ),
    };
    page(status, title, Some(note), None)
}

/// What a signed link asks, as a page for a person. It decides nothing.
#[utoipa::path(get, path = "/approve/{token}", tag = "approvals", security(()), params(("token" = String, Path, description = "From `POST /v1/approvals/{id}/links`")), responses(
    (status = 200, description = "The page", body = String, content_type = "text/html"),
    (status = 404, description = "Not a link of this server", body = String, content_type = "text/html"),
    (status = 410, description = "The link is over", body = String, content_type = "text/html"),
))]
pub(super) async fn show(State(app): State<Shared>, Path(token): Path) -> Response {
    match app.open_link(&token).await {
        Ok((link, approval)) => {
            let asked = Asked::of(&approval, &link.person);
            let heard = !asked.waits || approval.approvals_given > 0;
            let note = heard.then(|| in_words(&approval));
            page(StatusCode::OK, "An agent asks for approval", note, Some(asked))
        }
        Err(error) => failure(&error),
    }
}

/// Answer by a signed link, in the name of the person whom it was made for.
#[utoipa::path(post, path = "/approve/{token}", tag = "approvals", security(()), params(("token" = String, Path, description = "From `POST /v1/approvals/{id}/links`")), request_body(content = LinkAnswer, content_type = "application/x-www-form-urlencoded"), responses(
    (status = 303, description = "On record; the page tells how it stands"),
    (status = 400, description = "The request makes no sense", body = String, content_type = "text/html"),
    (status = 404, description = "Not a link of this server", body = String, content_type = "text/html"),
    (status = 409, description = "Already answered, expired or withdrawn", body = String, content_type = "text/html"),
    (status = 410, description = "The link is over", body = String, content_type = "text/html"),
))]
pub(super) async fn answer(State(app): State<Shared>, Path(token): Path, Form(fields): Form) -> Response {
    let answered = match read(fields) {
        Ok(answer) => app.answer_by_link(&token, answer).await,
        Err(error) => Err(error),
    };
    match answered {
        // A page that is loaded again must not send the answer again. The last part of the same address: what
        // comes before it a proxy may have changed.
        Ok(_) => (StatusCode::SEE_OTHER, [(header::LOCATION, token)]).into_response(),
        Err(error) => failure(&error),
    }
}

/// The form of the page behind a signed link.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes the form; it is read field by field, strictly")]
pub(super) struct LinkAnswer {
    /// Yes or no.
    decision: Answer,
    /// Why; at most 4 KiB.
    #[schema(required = false)]
    comment: Option<String>,
}

fn read(fields: Vec<(String, String)>) -> Result<ApprovalDecision, Error> {
    let invalid = |what: &str| Error::Invalid(what.to_owned());
    let (mut decision, mut comment) = (None, None);
    for (name, value) in fields {
        let before = match name.as_str() {
            "decision" => {
                let answer = match value.as_str() {
                    "approve" => Answer::Approve,
                    "deny" => Answer::Deny,
                    _ => return Err(invalid("The answer is `approve` or `deny`.")),
                };
                decision.replace(answer).is_some()
            }
            // Browsers send line breaks as two characters.
            "comment" => comment.replace(value.replace("\r\n", "\n")).is_some(),
            _ => return Err(invalid("The form has a field that is not in the page.")),
        };
        if before {
            return Err(invalid("The form has a field twice."));
        }
    }
    let decision =
        decision.ok_or_else(|| invalid("The form has no answer: press one of the two buttons."))?;
    Ok(ApprovalDecision { decision, comment: comment.filter(|c| !c.trim().is_empty()) })
}
