//! Signing in with a key, and out.

use super::{
    Here,
    page::{self, Frame},
    request::{self, Form, Sent, local},
};
use crate::app::Error;
use askama::Template;
use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    frame: Frame,
    next: String,
    problem: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Params {
    next: Option<String>,
}

fn page(status: StatusCode, next: &str, problem: Option<String>) -> Response {
    let page = SignInPage { frame: Frame::open("", "Sign in"), next: local(next).to_owned(), problem };
    page::send_with(status, &page)
}

pub(super) async fn show(
    State(here): State<Here>,
    headers: HeaderMap,
    Query(params): Query<Params>,
) -> Response {
    let next = params.next.as_deref().unwrap_or("/");
    if request::secret(&headers).is_some_and(|s| here.sessions.find(&here.app, s).is_some()) {
        return Redirect::to(local(next)).into_response();
    }
    page(StatusCode::OK, next, None)
}

pub(super) async fn sign_in(State(here): State<Here>, headers: HeaderMap, form: Form) -> Response {
    let next = form.get("next");
    match here.sessions.sign_in(&here.app, form.get("key")) {
        Ok(secret) => {
            // Whoever sat here before is signed out.
            if let Some(before) = request::secret(&headers) {
                here.sessions.sign_out(before);
            }
            let cookie = request::cookie(&headers, Some(&secret));
            ([(header::SET_COOKIE, cookie)], Redirect::to(local(next))).into_response()
        }
        Err(error @ Error::Unauthenticated(_)) => {
            page(StatusCode::UNAUTHORIZED, next, Some(error.to_string()))
        }
        Err(error @ Error::Forbidden(_)) => page(StatusCode::FORBIDDEN, next, Some(error.to_string())),
        Err(error) => error.into_response(),
    }
}

pub(super) async fn sign_out(State(here): State<Here>, headers: HeaderMap, _: Sent) -> Response {
    if let Some(secret) = request::secret(&headers) {
        here.sessions.sign_out(secret);
    }
    ([(header::SET_COOKIE, request::cookie(&headers, None))], Redirect::to("/sign-in")).into_response()
}
