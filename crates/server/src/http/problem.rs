//! Errors as RFC 9457 problem documents. The only place that knows which error is which status.

use crate::app::Error;
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use checkrein_api::{PROBLEM_MEDIA_TYPE, Problem, ProblemItem, RollbackPlan};
use std::fmt;

const BASE: &str = "https://checkrein.dev/problems/";

/// An error on its way out; the request id is added at the door.
#[derive(Clone)]
pub(crate) struct Draft {
    status: StatusCode,
    word: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<ProblemItem>,
    more: Box<More>,
    retry_after_seconds: Option<u64>,
}

/// What few problems tell besides.
#[derive(Clone, Default)]
struct More {
    code: Option<String>,
    check_id: Option<String>,
    plan: Option<RollbackPlan>,
}

impl Draft {
    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    /// The kind of problem in a few words.
    pub(crate) const fn title(&self) -> &'static str {
        self.title
    }

    /// What is wrong, and what to do next.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Several mistakes, where there are several.
    pub(crate) fn errors(&self) -> &[ProblemItem] {
        &self.errors
    }

    pub(crate) const fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after_seconds
    }

    pub(super) fn into_response(self, request_id: &str) -> Response {
        let More { code, check_id, plan } = *self.more;
        let problem = Problem {
            code,
            check_id,
            conflicts: plan.as_ref().map(|plan| plan.conflicts.clone()).unwrap_or_default(),
            conflict_count: plan.as_ref().map(|plan| plan.conflict_count),
            plan,
            kind: format!("{BASE}{}", self.word),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            errors: self.errors,
            request_id: request_id.to_owned(),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn draft(status: StatusCode, word: &'static str, title: &'static str, detail: String) -> Draft {
    Draft { status, word, title, detail, errors: Vec::new(), more: Box::default(), retry_after_seconds: None }
}

fn carried(draft: Draft) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = draft.status;
    response.extensions_mut().insert(draft);
    response
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let detail = self.to_string();
        carried(match self {
            Self::Unauthenticated(_) => {
                draft(StatusCode::UNAUTHORIZED, "unauthenticated", "No valid key", detail)
            }
            Self::Forbidden(_) => draft(StatusCode::FORBIDDEN, "forbidden", "Not with this key", detail),
            Self::NotFound(..) => draft(StatusCode::NOT_FOUND, "not-found", "Not found", detail),
            Self::Invalid(_) => {
                draft(StatusCode::BAD_REQUEST, "invalid-request", "The request makes no sense", detail)
            }
            Self::Conflict(_) => {
                draft(StatusCode::CONFLICT, "conflict", "It stands against what is there", detail)
            }
            Self::KeyReused => draft(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The idempotency key was used before",
                detail,
            ),
            Self::Policies(items) => Draft {
                errors: items
                    .into_iter()
                    .map(|i| ProblemItem { subject: i.subject, path: i.path, message: i.message })
                    .collect(),
                ..draft(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "policy-does-not-compile",
                    "The policies do not compile",
                    detail,
                )
            },
            Self::TooMany { retry_after_seconds, .. } => Draft {
                retry_after_seconds: Some(retry_after_seconds),
                ..draft(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests", detail)
            },
            Self::Approval(_) => {
                draft(StatusCode::CONFLICT, "approval-settled", "The approval does not stand there", detail)
            }
            Self::Grant(_) => {
                draft(StatusCode::CONFLICT, "grant-over", "The grant does not stand there", detail)
            }
            Self::NotRecorded(_) | Self::InDoubt(_) => Draft {
                retry_after_seconds: Some(1),
                ..draft(StatusCode::SERVICE_UNAVAILABLE, "not-recorded", "It could not be recorded", detail)
            },
            Self::Statement { code, check_id, .. } => Draft {
                more: Box::new(More { code: Some(code), check_id, plan: None }),
                ..draft(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "statement-failed",
                    "The database refused the statement",
                    detail,
                )
            },
            Self::Unsupported(_) => {
                draft(StatusCode::UNPROCESSABLE_ENTITY, "unsupported", "The system cannot do this", detail)
            }
            Self::Target(_) => Draft {
                retry_after_seconds: Some(5),
                ..draft(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "target-unavailable",
                    "The system cannot be used now",
                    detail,
                )
            },
            Self::Snapshot(_) => draft(
                StatusCode::SERVICE_UNAVAILABLE,
                "snapshot-failed",
                "No snapshot could be taken or used",
                detail,
            ),
            Self::NoRoom(_) => draft(
                StatusCode::INSUFFICIENT_STORAGE,
                "no-room",
                "There is no room for more snapshots of this agent",
                detail,
            ),
            Self::ExecutionUnknown { check_id, .. } => Draft {
                more: Box::new(More { check_id: Some(check_id), ..More::default() }),
                ..draft(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "execution-unknown",
                    "It is not known whether it took place",
                    detail,
                )
            },
            Self::RollbackConflicts(plan) | Self::RollbackChanged(plan) => Draft {
                more: Box::new(More { plan: Some(*plan), ..More::default() }),
                ..draft(StatusCode::CONFLICT, "rollback-conflicts", "Records were changed since", detail)
            },
            Self::RollbackImpossible(_) => {
                draft(StatusCode::CONFLICT, "rollback-impossible", "It cannot be rolled back", detail)
            }
            Self::RollbackUnknown(_) => draft(
                StatusCode::SERVICE_UNAVAILABLE,
                "rollback-unknown",
                "It is not known whether it took place",
                detail,
            ),
            Self::Store(_) => {
                draft(StatusCode::SERVICE_UNAVAILABLE, "store", "The store does not answer", detail)
            }
            Self::Stopping => Draft {
                retry_after_seconds: Some(1),
                ..draft(StatusCode::SERVICE_UNAVAILABLE, "stopping", "The server is stopping", detail)
            },
        })
    }
}

/// The path exists, the method does not.
pub(super) struct MethodNotAllowed;

impl IntoResponse for MethodNotAllowed {
    fn into_response(self) -> Response {
        carried(draft(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Not with this method",
            "this address does not take this method; GET /openapi.json says which it takes".to_owned(),
        ))
    }
}

/// Why a body could not be read.
pub(crate) enum BadBody {
    /// Over the limit.
    TooLarge,
    /// It came too slowly or broke off.
    Broken,
    /// It is not what it should be.
    Unreadable(String),
}

impl fmt::Display for BadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => {
                "the body is over the limit; send a count or ids instead of whole records, or raise [limits] body"
            }
            Self::Broken => "the body broke off or came too slowly; nothing was decided",
            Self::Unreadable(detail) => detail,
        })
    }
}

impl IntoResponse for BadBody {
    fn into_response(self) -> Response {
        let (status, word, title) = match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large"),
            Self::Broken => (StatusCode::REQUEST_TIMEOUT, "body-broken-off", "The body did not arrive"),
            Self::Unreadable(_) => (StatusCode::BAD_REQUEST, "invalid-request", "The request makes no sense"),
        };
        carried(draft(status, word, title, self.to_string()))
    }
}
