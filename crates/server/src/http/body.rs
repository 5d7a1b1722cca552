//! Reading what a request says, strictly: bodies and query strings.

use super::{Shared, problem::BadBody};
use crate::app::Error;
use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{header, request::Parts},
};
use bytes::Bytes;
use checkrein_core::{
    json::{Named, Strict},
    name::Pattern,
    trace::Traceparent,
};
use http_body_util::{BodyExt as _, LengthLimitError};
use serde::de::DeserializeOwned;
use std::{convert::Infallible, error::Error as _, time::Duration};

/// Bytes of a form that a person fills in.
const MAX_FORM: usize = 64 * 1024;

/// A JSON body of the type `T`. The content type is not asked for: `curl -d` sends another one, and no
/// browser's form can carry the key that every request needs.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = BadBody;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, BadBody> {
        let bytes = read(request, app).await?;
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        let read = T::deserialize(Named(&mut reader)).and_then(|body| reader.end().map(|()| Self(body)));
        read.map_err(|e| unreadable(&e))
    }
}

/// Any JSON body, without duplicate keys.
pub(super) struct AnyJson(pub(super) serde_json::Value);

impl FromRequest<Shared> for AnyJson {
    type Rejection = BadBody;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, BadBody> {
        let bytes = read(request, app).await?;
        serde_json::from_slice::<Strict>(&bytes).map(|s| Self(s.0)).map_err(|e| unreadable(&e))
    }
}

/// The body as it came.
pub(super) struct Raw(pub(super) Bytes);

impl FromRequest<Shared> for Raw {
    type Rejection = BadBody;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, BadBody> {
        read(request, app).await.map(Self)
    }
}

/// The fields of a form, in order.
pub(super) struct Form(pub(super) Vec<(String, String)>);

impl FromRequest<Shared> for Form {
    type Rejection = BadBody;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, BadBody> {
        let bytes = read(request, app).await?;
        if bytes.len() > MAX_FORM {
            return Err(BadBody::TooLarge);
        }
        Ok(Self(url::form_urlencoded::parse(&bytes).into_owned().collect()))
    }
}

/// What is read of a body only to be thrown away, in bytes, and for how long: whoever is still sending when the connection is
/// closed hears of that, and not why.
const THROWN_AWAY: (u64, Duration) = (16 * 1024 * 1024, Duration::from_secs(2));

/// The whole body, within what one may be.
pub(crate) async fn read(request: Request, app: &Shared) -> Result<Bytes, BadBody> {
    // Said beforehand: none of it is kept.
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if let Some(announced) = announced.filter(|n| *n > app.body_limit() as u64) {
        if announced <= THROWN_AWAY.0 {
            let mut body = request.into_body();
            let rest = async { while let Some(Ok(_)) = body.frame().await {} };
            // Whether it came or not, the answer is the same.
            drop(tokio::time::timeout(THROWN_AWAY.1, rest).await);
        }
        return Err(BadBody::TooLarge);
    }
    let read = axum::body::to_bytes(request.into_body(), app.body_limit());
    let read = tokio::time::timeout(app.body_timeout(), read).await;
    read.map_err(|_| BadBody::Broken)?.map_err(|error| {
        if error.source().is_some_and(<dyn std::error::Error>::is::<LengthLimitError>) {
            BadBody::TooLarge
        } else {
            BadBody::Broken
        }
    })
}

fn unreadable(error: &serde_json::Error) -> BadBody {
    BadBody::Unreadable(if error.is_eof() {
        "the body ends too early: it is empty or cut off".to_owned()
    } else {
        format!("the body is not what this address takes: {error}")
    })
}

/// The query string as `T`, unknown parameters refused.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Error> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri)
            .map(|q| Self(q.0))
            .map_err(|e| Error::Invalid(format!("query: {}", e.body_text())))
    }
}

/// The text that the path holds, such as an id.
pub(super) struct Path(pub(super) String);

impl FromRequestParts<Shared> for Path {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Error> {
        axum::extract::Path::from_request_parts(parts, app)
            .await
            .map(|axum::extract::Path(text)| Self(text))
            .map_err(|e| Error::Invalid(format!("path: {}", e.body_text())))
    }
}

/// The caller's place in its own trace, where the request says one that can be read.
pub(super) struct Trace(pub(super) Option<Traceparent>);

impl FromRequestParts<Shared> for Trace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Infallible> {
        let mut said = parts.headers.get_all("traceparent").iter();
        // Of two, none can be believed.
        let trace = match (said.next(), said.next()) {
            (Some(only), None) => only.to_str().ok().and_then(Traceparent::parse),
            _ => None,
        };
        Ok(Self(trace))
    }
}

/// A cursor that an earlier page gave.
pub(crate) fn cursor(text: Option<&str>) -> Result<Option<u64>, Error> {
    text.map(|t| {
        t.parse()
            .map_err(|_| Error::Invalid("cursor: take it from `next_cursor` of the page before".to_owned()))
    })
    .transpose()
}

/// A name or pattern to select by.
pub(crate) fn pattern(what: &str, text: Option<&str>) -> Result<Option<Pattern>, Error> {
    text.map(|t| Pattern::new(t).map_err(|e| Error::Invalid(format!("{what}: {e}")))).transpose()
}

/// Seconds from `30s`, `500ms` or `30`.
pub(super) fn wait(text: Option<&str>) -> Result<Duration, Error> {
    let Some(text) = text else { return Ok(Duration::ZERO) };
    let (number, unit): (&str, fn(u64) -> Duration) = match (text.strip_suffix("ms"), text.strip_suffix('s'))
    {
        (Some(n), _) => (n, Duration::from_millis),
        (None, Some(n)) => (n, Duration::from_secs),
        (None, None) => (text, Duration::from_secs),
    };
    number.parse().map(unit).map_err(|_| {
        Error::Invalid("wait: write seconds like 30s, at most 60s are waited in one request".to_owned())
    })
}
