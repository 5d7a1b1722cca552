//! Signing in with a key, and out.

use super::{
    Here, oidc,
    page::{self, Frame},
    request::{self, Form, Sent, local},
};
use crate::app::Error;
use askama::Template;
use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    frame: Frame,
    next: String,
    /// Who signs people in without a key, and where that begins.
    provider: Option<(String, String)>,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "signed_out.html")]
struct SignedOutPage {
    frame: Frame,
    name: String,
    url: String,
}

#[derive(Deserialize)]
pub(super) struct Params {
    next: Option<String>,
}

/// The page, with what went wrong.
pub(super) fn page(here: &Here, status: StatusCode, next: &str, problem: Option<String>) -> Response {
    let next = local(next).to_owned();
    let provider = here.app.oidc().map(|oidc| {
        let start = [oidc::START, &request::query(&[("next", &next)])].concat();
        (oidc.name().to_owned(), start)
    });
    page::send_with(status, &SignInPage { frame: Frame::open("", "Sign in"), next, provider, problem })
}

pub(super) async fn show(
    State(here): State<Here>,
    headers: HeaderMap,
    uri: Uri,
    Query(params): Query<Params>,
) -> Response {
    let next = params.next.as_deref().unwrap_or("/");
    if holds(&here, &headers, &uri) {
        return Redirect::to(local(next)).into_response();
    }
    page(&here, StatusCode::OK, next, None)
}

/// Whether somebody is signed in already.
pub(super) fn holds(here: &Here, headers: &HeaderMap, uri: &Uri) -> bool {
    let secret = request::secret(headers, request::strict(&here.app, headers, uri));
    secret.is_some_and(|secret| here.sessions.find(&here.app, secret).is_some())
}

pub(super) async fn sign_in(State(here): State<Here>, headers: HeaderMap, uri: Uri, form: Form) -> Response {
    let next = form.get("next");
    match here.sessions.sign_in(&here.app, form.get("key")) {
        Ok(secret) => {
            let strict = request::strict(&here.app, &headers, &uri);
            enter(&here, &headers, strict, &secret, local(next))
        }
        Err(error @ Error::Unauthenticated(_)) => {
            page(&here, StatusCode::UNAUTHORIZED, next, Some(error.to_string()))
        }
        Err(error @ Error::Forbidden(_)) => page(&here, StatusCode::FORBIDDEN, next, Some(error.to_string())),
        Err(error) => error.into_response(),
    }
}

/// Leads whoever has just signed in to their page.
pub(super) fn enter(here: &Here, headers: &HeaderMap, strict: bool, secret: &str, next: &str) -> Response {
    // Whoever sat here before is signed out.
    if let Some(before) = request::secret(headers, strict) {
        here.sessions.sign_out(before);
    }
    let cookie = request::cookie(headers, strict, Some(secret));
    ([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response()
}

/// Ends the session, and leads whoever signed in at a provider there to sign out. By the page and not by a redirect,
/// which browsers take for a form that is sent elsewhere.
pub(super) async fn sign_out(
    State(here): State<Here>,
    headers: HeaderMap,
    uri: Uri,
    Sent { by, .. }: Sent,
) -> Response {
    let strict = request::strict(&here.app, &headers, &uri);
    if let Some(secret) = request::secret(&headers, strict) {
        here.sessions.sign_out(secret);
    }
    let cookie = request::cookie(&headers, strict, None);
    let Some(leave) = &by.leave else {
        return ([(header::SET_COOKIE, cookie)], Redirect::to("/sign-in")).into_response();
    };
    let there = format!("0; url={}", leave.url);
    let page = SignedOutPage {
        frame: Frame::open("", "Signed out"),
        name: leave.name.clone(),
        url: leave.url.clone(),
    };
    ([(header::SET_COOKIE, cookie), (header::REFRESH, there)], page::send(&page)).into_response()
}
