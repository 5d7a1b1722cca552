//! Signing in with the organisation's provider: there, and back.

use super::{
    Here,
    request::{self, local},
    sign_in,
};
use crate::app::{
    Error,
    oidc::{Brought, Oidc, PATIENCE, Refused, SignedIn},
};
use axum::{
    extract::{Query, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;

/// Where a sign-in begins.
pub(super) const START: &str = "/sign-in/oidc";
/// The cookie of the browser that began one: under TLS, and without.
const COOKIES: (&str, &str) = ("__Host-checkrein-sign-in", "checkrein-sign-in");

#[derive(Deserialize)]
pub(super) struct Params {
    next: Option<String>,
}

/// Leads to the provider. Who is signed in goes on instead: any site can lead a browser here, and must not change who
/// somebody is.
pub(super) async fn begin(
    State(here): State<Here>,
    headers: HeaderMap,
    uri: Uri,
    Query(params): Query<Params>,
) -> Response {
    let Some(oidc) = here.app.oidc() else { return nowhere() };
    let next = local(params.next.as_deref().unwrap_or("/"));
    if sign_in::holds(&here, &headers, &uri) {
        return Redirect::to(next).into_response();
    }
    match oidc.begin(next).await {
        Ok(begun) => {
            let cookie = cookie(&oidc, Some(&begun.cookie));
            ([(header::SET_COOKIE, cookie)], Redirect::to(&begun.url)).into_response()
        }
        Err(refused) => page(&here, next, &refused),
    }
}

/// Takes what the browser brings back from there.
pub(super) async fn finish(
    State(here): State<Here>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(oidc) = here.app.oidc() else { return nowhere() };
    let browser = request::cookie_of(&headers, name(&oidc));
    let done = match brought(query.as_deref().unwrap_or_default()) {
        Some(brought) => here.app.finish_sign_in(&oidc, &brought, browser).await,
        None => Err(Refused::Again("the provider's answer says one thing twice; begin again")),
    };
    let unused = matches!(done, Err(Refused::Busy));
    let entered = match done {
        Ok(SignedIn { caller, life, next, leave }) => {
            let opened = here.sessions.open(&here.app, caller, life, leave);
            opened.map(|secret| sign_in::enter(&here, &headers, oidc.over_tls(), &secret, local(&next)))
        }
        Err(refused) => Ok(page(&here, "/", &refused)),
    };
    let mut response = entered.unwrap_or_else(axum::response::IntoResponse::into_response);
    // Good for one answer, whatever came of it.
    if !unused && let Ok(over) = HeaderValue::try_from(cookie(&oidc, None)) {
        response.headers_mut().append(header::SET_COOKIE, over);
    }
    response
}

/// What is in the address; `None` when something is there twice, and one reader could take the other one.
fn brought(query: &str) -> Option<Brought> {
    let mut brought = Brought::default();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let place = match &*name {
            "code" => &mut brought.code,
            "state" => &mut brought.state,
            "iss" => &mut brought.iss,
            "error" => &mut brought.error,
            "error_description" => &mut brought.error_description,
            _ => continue,
        };
        if place.replace(value.into_owned()).is_some() {
            return None;
        }
    }
    Some(brought)
}

fn page(here: &Here, next: &str, refused: &Refused) -> Response {
    let (status, also) = match refused {
        Refused::Again(_) => (StatusCode::BAD_REQUEST, ""),
        Refused::Busy => (StatusCode::SERVICE_UNAVAILABLE, ""),
        Refused::Provider(_) => {
            (StatusCode::BAD_GATEWAY, " Whoever has a key can sign in with that meanwhile.")
        }
        Refused::Person(_) => (StatusCode::FORBIDDEN, ""),
    };
    let text = refused.to_string();
    let stop = if text.ends_with(['.', '!', '?', '…']) { "" } else { "." };
    sign_in::page(here, status, next, Some([&text, stop, also].concat()))
}

fn nowhere() -> Response {
    Error::NotFound("provider to sign in with", "[console.oidc]".to_owned()).into_response()
}

fn name(oidc: &Oidc) -> &'static str {
    if oidc.over_tls() { COOKIES.0 } else { COOKIES.1 }
}

/// `Lax`: it must come along when the provider sends people back.
fn cookie(oidc: &Oidc, secret: Option<&str>) -> String {
    let secure = if oidc.over_tls() { "; Secure" } else { "" };
    let life = if secret.is_some() { PATIENCE.as_secs() } else { 0 };
    format!(
        "{}={}; Path=/; HttpOnly; SameSite=Lax{secure}; Max-Age={life}",
        name(oidc),
        secret.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::brought;

    #[test]
    fn an_answer_says_each_thing_once() {
        let good = brought("code=a%20b&state=s&session_state=x").unwrap();
        assert_eq!((good.code.as_deref(), good.state.as_deref(), good.error), (Some("a b"), Some("s"), None));
        assert!(brought("state=a&code=c&state=b").is_none());
        assert!(brought("").unwrap().state.is_none());
    }
}
