//! What a browser sends: its session, and forms that no other site can send in its name.

use super::{Here, session::Session};
use crate::{
    app::{App, Error},
    http::body,
};
use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, Method, Uri, header, request::Parts},
    response::{IntoResponse as _, Redirect, Response},
};
use checkrein_core::name::Pattern;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// The cookie under TLS. Browsers take one of that name only from its own host, over TLS.
const SECURE_COOKIE: &str = "__Host-checkrein";
/// The cookie without.
const COOKIE: &str = "checkrein";

/// Somebody who is signed in. Everybody else is asked to.
pub(super) struct Visitor(pub(super) Arc<Session>);

impl FromRequestParts<Here> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, here: &Here) -> Result<Self, Response> {
        let strict = strict(&here.app, &parts.headers, &parts.uri);
        if let Some(session) = secret(&parts.headers, strict).and_then(|s| here.sessions.find(&here.app, s)) {
            return Ok(Self(session));
        }
        if parts.headers.get(header::ACCEPT).is_some_and(|accept| accept == "text/event-stream") {
            return Err(Error::Unauthenticated("the session is over").into_response());
        }
        if parts.method == Method::GET {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("next", parts.uri.path_and_query().map_or("/", |p| p.as_str()))
                .finish();
            return Err(Redirect::to(&format!("/sign-in?{query}")).into_response());
        }
        Err(Error::Unauthenticated("the session is over, so nothing was done: sign in and try again")
            .into_response())
    }
}

/// A form, of whoever may not be signed in.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// The field `name`; empty when it is absent.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }
}

impl FromRequest<Here> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, here: &Here) -> Result<Self, Response> {
        if !same_origin(request.headers(), request.uri(), here.app.public_url()) {
            return Err(Error::Forbidden(
                "this form was sent by another site, so nothing was done; behind a proxy, set [server] public_url \
                 to the address that people use"
                    .to_owned(),
            )
            .into_response());
        }
        let bytes =
            body::read(request, &here.app).await.map_err(axum::response::IntoResponse::into_response)?;
        Ok(Self(url::form_urlencoded::parse(&bytes).into_owned().collect()))
    }
}

/// A form that somebody who is signed in has sent from our own page.
pub(super) struct Sent {
    /// Who.
    pub(super) by: Arc<Session>,
    /// What.
    pub(super) form: Form,
}

impl FromRequest<Here> for Sent {
    type Rejection = Response;

    async fn from_request(request: Request, here: &Here) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let Visitor(by) = Visitor::from_request_parts(&mut parts, here).await?;
        let form = Form::from_request(Request::from_parts(parts, body), here).await?;
        // Hashed, so that comparing takes as long whatever is sent.
        if Sha256::digest(form.get("token")) != Sha256::digest(&by.token) {
            return Err(Error::Forbidden(
                "this form is of an earlier session, so nothing was done; reload the page and send it again"
                    .to_owned(),
            )
            .into_response());
        }
        Ok(Self { by, form })
    }
}

/// Whether the browser came by TLS for certain: this server does it, or what is at `public_url` does. Then only the
/// cookie counts that a browser takes from this very host over TLS; the other one could be of a neighbour's.
pub(super) fn strict(app: &App, headers: &HeaderMap, uri: &Uri) -> bool {
    let public =
        app.public_url().and_then(|own| url::Url::parse(own).ok()).filter(|own| own.scheme() == "https");
    let same_host = |own: &url::Url, host: &str| {
        url::Url::parse(&format!("https://{host}/")).is_ok_and(|here| here.origin() == own.origin())
    };
    app.over_tls() || public.zip(host(headers, uri)).is_some_and(|(own, host)| same_host(&own, host))
}

fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    headers.get(header::HOST).and_then(|h| h.to_str().ok()).or_else(|| uri.authority().map(|a| a.as_str()))
}

/// What the session's cookie holds.
pub(super) fn secret(headers: &HeaderMap, strict: bool) -> Option<&str> {
    cookie_of(headers, SECURE_COOKIE).or_else(|| cookie_of(headers, COOKIE).filter(|_| !strict))
}

/// What the cookie `name` holds.
pub(super) fn cookie_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|h| h.to_str().ok());
    let mut pairs = all.flat_map(|h| h.split(';')).filter_map(|c| c.trim().split_once('='));
    pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
}

/// The cookie that holds `secret`; one that ends the session where there is none.
///
/// `Lax` and not `Strict`: a link in a message must lead to the page, not to the sign-in. What changes something
/// is sent by POST, with which a browser sends no `Lax` cookie from another site, and is checked besides.
pub(super) fn cookie(headers: &HeaderMap, strict: bool, secret: Option<&str>) -> String {
    // Where it is not certain, the browser says how it came here; a proxy's word for it is not needed.
    let tls = strict
        || headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let (name, secure) = if tls { (SECURE_COOKIE, "; Secure") } else { (COOKIE, "") };
    let life = if secret.is_some() { "" } else { "; Max-Age=0" };
    format!("{name}={}; Path=/; HttpOnly; SameSite=Lax{secure}{life}", secret.unwrap_or_default())
}

/// Whether our own page sent this. Browsers name the origin of every form; what names none is no browser.
fn same_origin(headers: &HeaderMap, uri: &Uri, public_url: Option<&str>) -> bool {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return false;
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Some(origin) = origin.to_str().ok().and_then(|o| url::Url::parse(o).ok()) else { return false };
    let ours = |scheme: &str, host: &str| {
        url::Url::parse(&format!("{scheme}://{host}/")).is_ok_and(|own| own.origin() == origin.origin())
    };
    host(headers, uri).is_some_and(|host| ours(origin.scheme(), host))
        || public_url
            .and_then(|own| url::Url::parse(own).ok())
            .is_some_and(|own| own.origin() == origin.origin())
}

/// A name or pattern to select by; none when `text` is empty.
pub(super) fn pattern(what: &str, text: &str) -> Result<Option<Pattern>, Error> {
    body::pattern(what, Some(text.trim()).filter(|t| !t.is_empty()))
}

/// Where the page before ended.
pub(super) fn cursor(text: Option<&str>) -> Result<Option<u64>, Error> {
    body::cursor(text.filter(|t| !t.is_empty()))
}

/// `?…` of those pairs that say something.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let said = pairs.iter().filter(|(_, value)| !value.is_empty());
    format!("?{}", url::form_urlencoded::Serializer::new(String::new()).extend_pairs(said).finish())
}

/// `name` as one part of a path.
pub(super) fn segment(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

/// A path of this server to go to after signing in, and nothing else.
pub(super) fn local(path: &str) -> &str {
    let ours = path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains(['\\', '\r', '\n', '\t'])
        && path.chars().all(|c| c.is_ascii_graphic());
    if ours { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn only_our_own_pages_send_forms() {
        let uri = Uri::from_static("/approvals/apr_1");
        let own = |pairs: &[_], public| same_origin(&headers(pairs), &uri, public);
        let host = ("host", "127.0.0.1:7070");
        assert!(own(&[host, ("origin", "http://127.0.0.1:7070")], None));
        assert!(own(&[host, ("origin", "http://127.0.0.1:7070"), ("sec-fetch-site", "same-origin")], None));
        assert!(own(
            &[("host", "in.internal"), ("origin", "https://c.example")],
            Some("https://c.example/x")
        ));
        assert!(own(&[host], None), "curl");
        for origin in
            ["null", "http://evil.example", "http://127.0.0.1:7071", "http://127.0.0.1:7070.evil.example"]
        {
            assert!(!own(&[host, ("origin", origin)], Some("https://c.example")), "{origin}");
        }
        assert!(!own(&[host, ("sec-fetch-site", "cross-site")], None));
        assert!(!own(&[host, ("sec-fetch-site", "same-site")], None));
    }

    #[test]
    fn a_sign_in_leads_nowhere_else() {
        assert_eq!(local("/approvals/apr_1?a=b%20c"), "/approvals/apr_1?a=b%20c");
        for other in
            ["", "//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nSet-Cookie: x", "/ü"]
        {
            assert_eq!(local(other), "/", "{other}");
        }
    }

    #[test]
    fn the_cookie_is_for_this_host_and_no_script() {
        let plain = cookie(&headers(&[("origin", "http://a")]), false, Some("s"));
        assert_eq!(plain, "checkrein=s; Path=/; HttpOnly; SameSite=Lax");
        let secure = "__Host-checkrein=s; Path=/; HttpOnly; SameSite=Lax; Secure";
        assert_eq!(cookie(&headers(&[("origin", "https://a")]), false, Some("s")), secure);
        assert_eq!(cookie(&headers(&[]), true, Some("s")), secure);
        assert_eq!(secret(&headers(&[("cookie", "a=b; checkrein=s")]), false), Some("s"));
        let both = headers(&[("cookie", "checkrein=forged; __Host-checkrein=s")]);
        assert_eq!((secret(&both, false), secret(&both, true)), (Some("s"), Some("s")));
        assert_eq!(secret(&headers(&[("cookie", "checkrein=forged")]), true), None);
        assert_eq!(secret(&headers(&[("cookie", "xcheckrein=s")]), false), None);
    }
}
